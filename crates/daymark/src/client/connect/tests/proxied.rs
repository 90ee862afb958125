//! Through a proxy on loopback.

use std::fmt::Write as _;

use super::*;
use crate::client::stand_in::{Kind, Proxy, USER};

/// The client that goes to this server by this proxy.
fn client(config: &Config, proxy: &str, wire: Wire) -> Client {
    let mut config = config.clone();
    config.proxy_url = Some(proxy.parse().unwrap());
    wire.client(config, None).unwrap()
}

#[tokio::test]
async fn all_watches_are_on_one_connection_through_a_proxy_too() {
    let server = Server::start(&["h2", "http/1.1"]).await;
    let address = server.config.cluster_url.authority().unwrap().to_string();
    for kind in [Kind::Http, Kind::Https, Kind::Socks] {
        let before = server.connections();
        let tls = (kind == Kind::Https).then(|| server.acceptor.clone());
        let proxy = Proxy::of(kind, "200 OK", tls).await;
        let client = client(&server.config, &proxy.url, Wire::default());
        let (versions, _watches) = four(&client).await;
        assert_eq!(versions, [Version::HTTP_2; 4], "{kind:?}");
        assert_eq!(server.connections() - before, 1, "{kind:?}");
        let seen = proxy.seen();
        assert!(seen.starts_with(&format!("CONNECT {address} ")), "{seen}");
    }
}

#[tokio::test]
async fn silence_behind_a_proxy_is_noticed() {
    let server = Server::start(&["h2"]).await;
    let proxy = Proxy::start().await;
    let client = client(&server.config, &proxy.url, IMPATIENT);
    let (_, mut running) = watch(&client).await;
    server.orders.send(Order::FallSilent).unwrap();
    let broken = timeout(Duration::from_secs(5), running.frame()).await;
    assert!(matches!(broken, Ok(Some(Err(_)))), "{broken:?}");
    let (_, _running) = watch(&client).await;
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_without_its_password() {
    let server = Server::start(&["h2"]).await;
    let forbids = Proxy::of(Kind::Http, "403 Forbidden", None).await;
    let open = Proxy::start().await;
    let stranger = open.url.replace(USER, "");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let nobody = format!("http://{USER}{}", listener.local_addr().unwrap());
    drop(listener);
    for (url, expected) in [
        (&forbids.url, "tunnel error: unsuccessful"),
        (&stranger, "tunnel error: proxy authorization required"),
        (&nobody, "failed to create underlying connection"),
    ] {
        let client = client(&server.config, url, Wire::default());
        let request = Request::get("/watch").body(Body::empty()).unwrap();
        let error = client.send(request).await.unwrap_err();
        let mut said = String::new();
        let mut next: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = next {
            write!(said, "{error}: ").unwrap();
            next = error.source();
        }
        let name = url.replace(USER, "");
        assert!(said.contains(&format!("the proxy {name}")), "{said}");
        assert!(said.contains(expected), "{said}");
        assert!(!said.contains("p%40ss") && !said.contains("dTpw"), "{said}");
    }
    assert_eq!(server.connections(), 0);
}
