//! What the ports answer, asked of their routes without a socket; and a port that is taken.

use axum::body::{Body, to_bytes};
use axum::http::Request;
use daymark_feed::{PlaneSender, plane_channel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::ServiceExt;

use super::*;
use crate::clock;

const COMMITTED: PlaneStatus = PlaneStatus::Committed { generation: 7 };

struct Fixture {
    /// Dropped when the plane's thread ends.
    plane: Option<PlaneSender>,
    shared: Shared,
}

fn fixture(status: PlaneStatus) -> Fixture {
    let (plane, receiver) = plane_channel(status);
    let metrics = Arc::new(Metrics::default());
    metrics.set_eligibility(Some(Eligibility::Eligible));
    Fixture {
        plane: Some(plane),
        shared: Shared {
            plane: receiver,
            metrics,
            patience: PATIENCE,
        },
    }
}

fn pages() -> Pages {
    Pages {
        lines: Arc::new(|| "# TYPE dns_queries counter\ndns_queries_total 3\n".to_owned()),
        configz: r#"{"kubeproxy.config.k8s.io":{}}"#.into(),
    }
}

async fn ask(routes: Router<Shared>, shared: &Shared, path: &str) -> (u16, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let answer = routes.with_state(shared.clone()).oneshot(request).await;
    let answer = answer.unwrap();
    let code = answer.status().as_u16();
    let bytes = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    (code, String::from_utf8(bytes.to_vec()).unwrap())
}

/// Whether the plane's thread lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thread {
    Lives,
    Ended,
}

#[tokio::test]
async fn health_is_a_state_in_the_kernel_that_follows_and_life_is_a_thread_that_does() {
    let rows = [
        // The plane, its thread, how long it is behind and at work; /healthz and /readyz, /livez.
        (PlaneStatus::Starting, Thread::Lives, (0, 0), 503, 200),
        (PlaneStatus::Starting, Thread::Lives, (0, 5), 503, 200),
        (PlaneStatus::Starting, Thread::Lives, (0, 11), 503, 503),
        (COMMITTED, Thread::Lives, (0, 0), 200, 200),
        (COMMITTED, Thread::Lives, (5, 0), 200, 200),
        (COMMITTED, Thread::Lives, (11, 0), 503, 503),
        (COMMITTED, Thread::Lives, (0, 5), 200, 200),
        (COMMITTED, Thread::Lives, (0, 11), 503, 503),
        (COMMITTED, Thread::Lives, (5, 11), 503, 503),
        (COMMITTED, Thread::Lives, (11, 5), 503, 503),
        (COMMITTED, Thread::Ended, (0, 0), 503, 503),
        (PlaneStatus::Starting, Thread::Ended, (0, 0), 503, 503),
        // Who has no plane does not wait for one.
        (PlaneStatus::NoPlane, Thread::Ended, (0, 0), 200, 200),
    ];
    for (status, thread, (behind, at_work), health, life) in rows {
        let mut it = fixture(status);
        if thread == Thread::Ended {
            it.plane = None;
        }
        let since = |seconds| (seconds > 0).then(|| clock::now() - Duration::from_secs(seconds));
        it.shared.metrics.set_behind(since(behind));
        it.shared.metrics.set_at_work(since(at_work));
        for (path, expected) in [("/healthz", health), ("/readyz", health), ("/livez", life)] {
            let (code, body) = ask(health_routes(), &it.shared, path).await;
            let row = format!(
                "{status:?}, {thread:?}, behind {behind} s, at work {at_work} s: {path} says {body}"
            );
            assert_eq!(code, expected, "{row}");
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["healthy"], expected == 200, "{row}");
        }
    }
}

#[tokio::test]
async fn tables_of_an_earlier_agent_are_healthy_until_the_first_state() {
    // What the API is not there to say: that of the Node.
    for (node, expected) in [(None, 200), (Some(Eligibility::Leaving), 503)] {
        let it = fixture(PlaneStatus::Starting);
        it.shared.metrics.set_adopted();
        it.shared.metrics.set_eligibility(node);
        let (code, _) = ask(health_routes(), &it.shared, "/healthz").await;
        assert_eq!(code, expected, "{node:?}");
    }
}

#[tokio::test]
async fn ready_is_who_brought_a_state_itself_whatever_serves_and_whatever_becomes_of_the_node() {
    for (status, node, expected) in [
        (PlaneStatus::Starting, None, 503),
        (PlaneStatus::Starting, Some(Eligibility::Eligible), 503),
        (COMMITTED, Some(Eligibility::Eligible), 200),
        (COMMITTED, Some(Eligibility::Leaving), 200),
    ] {
        let it = fixture(status);
        it.shared.metrics.set_adopted();
        it.shared.metrics.set_eligibility(node);
        let (code, _) = ask(health_routes(), &it.shared, "/readyz").await;
        assert_eq!(code, expected, "{status:?}, {node:?}");
        let text = it.shared.metrics.families();
        assert!(!text.contains("kubeproxy_proxy_healthz_total{"), "{text}");
    }
}

#[tokio::test]
async fn a_node_that_is_not_there_or_leaves_is_not_healthy_and_lives() {
    for node in [None, Some(Eligibility::Leaving)] {
        let it = fixture(COMMITTED);
        it.shared.metrics.set_eligibility(node);
        let (code, body) = ask(health_routes(), &it.shared, "/healthz").await;
        assert_eq!(code, 503, "{node:?}");
        let said: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(said["nodeEligible"], false, "{body}");
        assert_eq!(said["status"]["IPv4"]["healthy"], true, "{body}");
        let (code, body) = ask(health_routes(), &it.shared, "/livez").await;
        assert_eq!(code, 200, "{node:?}");
        assert!(!body.contains("nodeEligible"), "{body}");
    }
}

/// As kube-proxy 1.37.2 answers, but for the times.
#[test]
fn the_body_is_kube_proxys_to_the_byte() {
    let now = "2026-11-29T06:51:38.735441144Z".parse().unwrap();
    let updated = "2026-11-29T06:51:31.1996Z".parse().ok();
    let both = r#"{"lastUpdated":"2026-11-29T06:51:31.1996Z","healthy":true}"#;
    let status = format!(r#""status":{{"IPv4":{both},"IPv6":{both}}}}}"#);
    let times = r#""currentTime":"2026-11-29T06:51:38.735441144Z""#;
    let good = r#"{"lastUpdated":"2026-11-29T06:51:38.735441144Z","#;
    assert_eq!(
        answer::body(now, updated, (true, Some(true))),
        format!(r#"{good}{times},"nodeEligible":true,"healthy":true,{status}"#)
    );
    assert_eq!(
        answer::body(now, updated, (true, None)),
        format!(r#"{good}{times},"healthy":true,{status}"#)
    );
    let bad = r#"{"lastUpdated":"2026-11-29T06:51:31.1996Z","#;
    assert_eq!(
        answer::body(now, updated, (true, Some(false))),
        format!(r#"{bad}{times},"nodeEligible":false,"healthy":false,{status}"#)
    );
    let never = answer::body(now, None, (false, None));
    assert!(
        never.starts_with(r#"{"lastUpdated":"0001-01-01T00:00:00Z","#),
        "{never}"
    );
}

#[tokio::test]
async fn metrics_hold_those_of_other_parts() {
    let it = fixture(COMMITTED);
    let routes = || metrics_routes(pages());
    let _ = ask(health_routes(), &it.shared, "/livez").await;
    let (code, text) = ask(routes(), &it.shared, "/metrics").await;
    assert_eq!(code, 200);
    assert!(
        text.ends_with("# TYPE dns_queries_total counter\ndns_queries_total 3\n"),
        "{text}"
    );
    assert!(!text.contains("# EOF"), "{text}");
    assert!(
        text.contains("# TYPE process_resident_memory_bytes gauge\n"),
        "{text}"
    );
    assert!(text.contains("daymark_frontends 0\n"), "{text}");
    assert!(
        text.contains("kubeproxy_proxy_livez_total{code=\"200\"} 1\n"),
        "{text}"
    );

    let (_, slis) = ask(routes(), &it.shared, "/metrics/slis").await;
    assert!(slis.contains("process_start_time_seconds "), "{slis}");
    let (_, mode) = ask(routes(), &it.shared, "/proxyMode").await;
    assert_eq!(mode, "nftables");
    let (_, config) = ask(routes(), &it.shared, "/configz").await;
    assert_eq!(config, r#"{"kubeproxy.config.k8s.io":{}}"#);
}

#[tokio::test]
async fn metrics_are_written_in_the_form_that_is_asked_for() {
    let it = fixture(COMMITTED);
    for (accept, kind, end) in [
        (
            None,
            "text/plain; version=0.0.4; charset=utf-8",
            "dns_queries_total 3\n",
        ),
        (
            Some("text/plain;q=0.1, application/openmetrics-text; version=1.0.0"),
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "# TYPE dns_queries counter\ndns_queries_total 3\n# EOF\n",
        ),
    ] {
        let mut request = Request::get("/metrics");
        if let Some(accept) = accept {
            request = request.header(ACCEPT, accept);
        }
        let routes = metrics_routes(pages()).with_state(it.shared.clone());
        let answer = routes.oneshot(request.body(Body::empty()).unwrap()).await;
        let answer = answer.unwrap();
        assert_eq!(answer.headers()[CONTENT_TYPE], kind);
        assert_eq!(answer.headers()[header::SERVER], SERVER);
        let bytes = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.ends_with(end), "{text}");
        assert_eq!(text.matches("# EOF").count(), end.matches("# EOF").count());
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_its_flag() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = taken.local_addr().unwrap();
    let Shared { plane, metrics, .. } = fixture(COMMITTED).shared;
    let busy = Busy::Fail;
    let place = Place { address, busy };
    let ports = [Port::health(place), Port::metrics(place)];
    let [of_health, of_metrics] = ports.clone();
    let health = serve_health(of_health, plane.clone(), Arc::clone(&metrics), PATIENCE).await;
    let counts = serve_metrics(of_metrics, plane, metrics, pages()).await;
    let reasons = ports.map(|port| (port.reason(), port.trouble().is_some()));
    assert_eq!(
        reasons,
        [
            ("FailedToStartProxierHealthcheck", true),
            ("FailedToStartMetricServer", true)
        ]
    );
    let errors = [
        (health.err(), "for health checks", "--healthz-bind-address"),
        (counts.err(), "for metrics", "--metrics-bind-address"),
    ];
    for (error, what, flag) in errors {
        let said = error.expect("the port is taken").to_string();
        for part in [address.to_string().as_str(), what, flag] {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_port_that_is_taken_is_served_once_it_is_free_where_that_was_asked_for() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = taken.local_addr().unwrap();
    let place = Place {
        address,
        busy: Busy::TryAgain,
    };
    let it = fixture(COMMITTED);
    let Shared { plane, metrics, .. } = it.shared.clone();
    let port = Port::health(place);
    let serving = serve_health(Arc::clone(&port), plane, metrics, PATIENCE).await;
    let serving = tokio::spawn(serving.expect("a taken port is no reason to end"));
    tokio::time::sleep(AGAIN * 2).await;
    let said = port.trouble().unwrap_or_default();
    assert!(said.contains("--healthz-bind-address"), "{said}");
    drop(taken);
    tokio::time::sleep(AGAIN * 2).await;
    assert_eq!(port.trouble(), None);
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET /livez HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 200 OK"), "{answer}");
    serving.abort();
}

#[tokio::test]
async fn a_part_whose_counters_panic_costs_one_answer() {
    let it = fixture(COMMITTED);
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let lines = Arc::new(
        move || match asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => panic!("such a counter"),
            _ => String::new(),
        },
    );
    let routes = metrics_routes(Pages { lines, ..pages() });
    for expected in [500, 200] {
        let (code, _) = ask(routes.clone(), &it.shared, "/metrics").await;
        assert_eq!(code, expected);
    }
}
