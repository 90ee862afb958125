//! Whom a port keeps to, and what a listener is told, without sockets.

use std::time::{Duration, Instant};

use daymark_model::desired::{Backend, Place, Pool};
use daymark_model::input::{Affinity, ServiceKey};
use daymark_model::{Family, Protocol};

use super::*;

fn name(service: &str) -> Arc<PortName> {
    Arc::new(PortName {
        service: ServiceKey::new("default", service),
        port: "".into(),
        protocol: Protocol::Tcp,
    })
}

/// A listener to endpoints 10.244.1.N:80.
fn listener(service: &str, endpoints: &[u8], affinity: Affinity) -> LocalListener {
    let backend = |last: &u8| Backend {
        address: [10, 244, 1, *last].into(),
        port: 80,
        place: Place::Here,
    };
    LocalListener {
        port: name(service),
        pool: Arc::new(Pool {
            backends: endpoints.iter().map(backend).collect(),
        }),
        affinity,
    }
}

fn keeps(timeout: u32) -> Affinity {
    Affinity::ClientIp { timeout }
}

/// The last number of the endpoint that is chosen; of several the one at `drawn`.
fn choose(pin: &mut Pin, now: Instant, to: &LocalListener, drawn: usize) -> Option<u8> {
    let chosen = pin.choose(now, to, |count| drawn % count)?;
    match chosen.ip() {
        std::net::IpAddr::V4(ip) => Some(ip.octets()[3]),
        std::net::IpAddr::V6(_) => None,
    }
}

#[test]
fn without_affinity_each_connection_draws() {
    let (mut pin, now) = (Pin::default(), clock::now());
    let to = listener("web", &[1, 2, 3], Affinity::None);
    let drawn = [0, 2, 1, 1].map(|drawn| choose(&mut pin, now, &to, drawn));
    assert_eq!(drawn, [Some(1), Some(3), Some(2), Some(2)]);
    assert_eq!(
        choose(&mut pin, now, &listener("web", &[], Affinity::None), 0),
        None
    );
}

#[test]
fn a_port_keeps_to_an_endpoint_until_it_was_idle_for_the_timeout() {
    let (mut pin, start) = (Pin::default(), clock::now());
    let to = listener("web", &[1, 2, 3], keeps(10));
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(choose(&mut pin, at(0), &to, 1), Some(2));
    // Each connection begins the time anew.
    assert_eq!(choose(&mut pin, at(9), &to, 0), Some(2));
    assert_eq!(choose(&mut pin, at(18), &to, 0), Some(2));
    assert_eq!(choose(&mut pin, at(28), &to, 0), Some(1));
}

#[test]
fn a_new_endpoint_is_chosen_when_the_old_one_leaves_or_the_timeout_changes() {
    let (mut pin, now) = (Pin::default(), clock::now());
    assert_eq!(
        choose(&mut pin, now, &listener("web", &[1, 2], keeps(10)), 1),
        Some(2)
    );
    // Others come and go.
    assert_eq!(
        choose(&mut pin, now, &listener("web", &[0, 2], keeps(10)), 0),
        Some(2)
    );
    assert_eq!(
        choose(&mut pin, now, &listener("web", &[0, 1], keeps(10)), 0),
        Some(0)
    );
    assert_eq!(
        choose(&mut pin, now, &listener("web", &[0, 1], keeps(20)), 1),
        Some(1)
    );
    // Switched off and on it is forgotten.
    assert_eq!(
        choose(&mut pin, now, &listener("web", &[0, 1], Affinity::None), 0),
        Some(0)
    );
    assert_eq!(
        choose(&mut pin, now, &listener("web", &[0, 1], keeps(20)), 0),
        Some(0)
    );
}

#[test]
fn what_is_noted_is_told_once_the_state_is_whole() {
    let at = LocalListenerKey {
        family: Family::V6,
        port: 30080,
    };
    let desired = |service: Option<&str>| Desired {
        local_listeners: service
            .map(|name| (at, Arc::new(listener(name, &[1], Affinity::None))))
            .into_iter()
            .collect(),
        ..Desired::default()
    };
    let mut teller = Teller::default();
    let shared = teller.shared();
    let purpose = |service| Purpose {
        at,
        port: name(service),
    };
    let mut changed = shared.changed.subscribe();
    let none = Desired::default();

    teller.note(&Delta::between(&none, &desired(Some("web"))));
    assert!(shared.wanted().is_empty());
    teller.tell(&desired(Some("web")));
    let wanted = BTreeMap::from([("[::1]:30080".parse().unwrap(), purpose("web"))]);
    assert_eq!(shared.wanted(), wanted);
    assert!(changed.has_changed().unwrap());
    assert!(shared.of(&purpose("web")).is_some());
    // A connection that came for one Service does not go to another.
    assert!(shared.of(&purpose("other")).is_none());

    changed.mark_unchanged();
    teller.tell(&desired(Some("web")));
    assert!(!changed.has_changed().unwrap());
    teller.note(&Delta::between(&desired(Some("web")), &none));
    teller.tell(&none);
    assert!(shared.wanted().is_empty());
    assert!(shared.of(&purpose("web")).is_none());
}

#[tokio::test]
async fn a_connection_beyond_the_most_waits_until_another_is_done_or_has_the_place_of_an_idle_one()
{
    let bound = |at| async move { TcpListener::bind(at).await.unwrap() };
    let endpoint = bound("127.0.0.1:0").await;
    let to = endpoint.local_addr().unwrap();
    let loopback = Arc::new(Loopback::default());
    let mut there = listener("web", &[], Affinity::None);
    there.pool = Arc::new(Pool {
        backends: vec![Backend {
            address: to.ip(),
            port: to.port(),
            place: Place::Here,
        }],
    });
    let there = Arc::new(there);
    let (soon, long) = (Duration::from_millis(100), Duration::from_secs(3600));
    for (of_port, of_all, idle) in [(1, 9, long), (9, 1, long), (1, 9, soon), (9, 1, soon)] {
        let front = bound("127.0.0.1:0").await;
        let at = front.local_addr().unwrap();
        let key = LocalListenerKey {
            family: Family::V4,
            port: at.port(),
        };
        let purpose = Purpose {
            at: key,
            port: name("web"),
        };
        loopback.ports().insert(key, Arc::clone(&there));
        let bounds = Bounds {
            of_each: of_port,
            of_all,
            idle,
        };
        let share = Room::new(bounds).share();
        let mut serving = Box::pin(listen(front, purpose, Arc::clone(&loopback), share));
        let first = tokio::net::TcpStream::connect(at).await.unwrap();
        let second = tokio::net::TcpStream::connect(at).await.unwrap();
        let mut arrives = async |patience| {
            tokio::select! {
                _ = &mut serving => unreachable!("it serves for ever"),
                arrived = tokio::time::timeout(patience, endpoint.accept()) => arrived.ok(),
            }
        };
        let passed = arrives(soon).await.expect("the first is passed on");
        if idle == long {
            drop(passed);
            assert!(arrives(soon).await.is_none(), "the second waits");
            drop(first);
            assert!(arrives(soon).await.is_some(), "until the first is done");
        } else {
            // Both stand, and neither says anything.
            let next = arrives(soon * 50).await;
            let _next = next.expect("the second has the place of the first");
            let ended = tokio::time::timeout(soon * 50, first.readable()).await;
            ended.expect("which is closed").unwrap();
            drop(passed);
        }
        drop(second);
    }
}
