//! The feed on daymark's own API, whose connections are told to go away all the while (kube-apiserver's `--goaway-chance`).

use std::collections::BTreeMap;

use daymark_apiserver::{self as apiserver, ApiServer};
use daymark_feed::{Event, Feed, Kind};
use daymark_model::Change;
use hyper_util::service::TowerToHyperService;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use super::*;

/// How many Services there are, how often each is changed, and after how many changes all connections are told.
const SERVICES: usize = 20;
const ROUNDS: u16 = 50;
const EACH: usize = 10;
const CHANGES: usize = SERVICES * ROUNDS as usize;

/// Gives each connection the order to go away, and takes requests as the administrator's.
async fn serve_api(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    orders: broadcast::Sender<()>,
    [watches, connections]: [Arc<AtomicUsize>; 2],
) {
    let server = ApiServer::open(apiserver::Config::default()).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        connections.fetch_add(1, Ordering::SeqCst);
        let (mut told, acceptor) = (orders.subscribe(), acceptor.clone());
        let (router, watches) = (server.router(), Arc::clone(&watches));
        tokio::spawn(async move {
            let stream = acceptor.accept(stream).await.unwrap();
            let router = ServiceBuilder::new()
                .map_request(move |request: Request<Incoming>| {
                    let query = request.uri().query().unwrap_or_default();
                    let is_watch = query.contains("watch=true");
                    watches.fetch_add(usize::from(is_watch), Ordering::SeqCst);
                    request.map(axum::body::Body::new)
                })
                .service(router);
            let builder = Builder::new(TokioExecutor::new());
            let router = TowerToHyperService::new(router);
            let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), router));
            loop {
                tokio::select! {
                    _ = connection.as_mut() => return,
                    _ = told.recv() => connection.as_mut().graceful_shutdown(),
                }
            }
        });
    }
}

/// The port of each Service, once each has that of the last round.
async fn follow(feed: &Feed) -> BTreeMap<String, u16> {
    let mut subscription = feed.subscribe();
    let mut ports = BTreeMap::new();
    let last = |ports: &BTreeMap<String, u16>| {
        ports.len() == SERVICES && ports.values().all(|port| *port == ROUNDS)
    };
    while !last(&ports) {
        let batch = subscription.next().await.unwrap();
        for event in &batch.events {
            if let Event::Model(Change::Service(key, Some(service))) = event
                && key.name.starts_with("web-")
            {
                ports.insert(key.name.to_string(), service.ports[0].port);
            }
        }
    }
    ports
}

#[tokio::test]
async fn a_thousand_changes_come_whole_on_watches_that_are_never_opened_anew() {
    let (listener, acceptor, config) = listen(&["h2"]).await;
    let orders = broadcast::Sender::new(4);
    let [watches, connections] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
    let counts = [&watches, &connections].map(Arc::clone);
    let task = tokio::spawn(serve_api(listener, acceptor, orders.clone(), counts));
    let requests = Arc::new(Requests::default());
    let client = Wire::default().client(config, Some(Arc::clone(&requests)));
    let client = client.unwrap();
    let config = daymark_feed::Config::node("node-1");
    let kinds = config.kinds();
    let feed = Feed::start(&client, config);
    let services: Api<Service> = Api::default_namespaced(client);
    let write = async {
        for index in 0..SERVICES {
            let object = json!({"metadata": {"name": format!("web-{index}")}, "spec": {"ports": [{"port": 6000}]}});
            let object = serde_json::from_value(object).unwrap();
            services.create(&PostParams::default(), &object).await?;
        }
        for change in 0..CHANGES {
            let (index, round) = (change % SERVICES, change / SERVICES + 1);
            let patch = Patch::Merge(json!({"spec": {"ports": [{"port": round}]}}));
            let name = format!("web-{index}");
            services
                .patch(&name, &PatchParams::default(), &patch)
                .await?;
            if change % EACH == 0 {
                let _none_is_open = orders.send(());
            }
        }
        Ok::<_, Error>(())
    };
    let both = async { tokio::join!(write, follow(&feed)) };
    let (written, ports) = timeout(Duration::from_secs(60), both).await.unwrap();
    written.unwrap();
    assert_eq!(ports.len(), SERVICES);
    assert_eq!(watches.load(Ordering::SeqCst), kinds.len());
    for kind in kinds {
        let of = feed.metrics().kind(kind);
        let [lists, failures] = [&of.lists, &of.failures].map(|of| of.load(Ordering::Relaxed));
        assert_eq!((lists, failures), (1, 0), "{kind}");
    }
    let received = feed
        .metrics()
        .kind(Kind::Service)
        .received
        .load(Ordering::Relaxed);
    assert!(received >= 1_000, "{received}");
    let counts = requests.families();
    assert!(!counts.contains(r#"code="<error>""#), "{counts}");
    let connections = connections.load(Ordering::SeqCst);
    assert!(connections > CHANGES / EACH / 2, "{connections}");
    task.abort();
}
