//! What the kernel refuses and drops is counted by its reason, and what it serves is not.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use daymark_case::Case;
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::Plane;
use daymark_dataplane::nft::kernel::Netlink;
use daymark_model::World;
use daymark_node::metrics::refused::Refused;
use daymark_sys::ns::isolated_test;
use rtnetlink::{LinkUnspec, RouteMessageBuilder, new_connection};

const WORLD: &str = "\
options unserved-loopback=refuse
node node-1 192.0.2.9 pods=10.244.1.0/24
service np NodePort 53->5353/UDP@30053 cluster=10.96.0.4
service none ClusterIP 80->8080/TCP 53->5353/UDP cluster=10.96.0.1
service local ClusterIP 80->8080/TCP cluster=10.96.0.2 internal-policy=Local
endpoint 10.244.2.5 ready on node-2
service ranges LoadBalancer 80->8080/TCP cluster=10.96.0.3 lb=10.96.1.1 ranges=198.51.100.0/24
endpoint 10.244.2.6 ready on node-2
";

/// Loopback, with a route for what is to be captured.
async fn up() {
    let (connection, handle, _) = new_connection().unwrap();
    tokio::spawn(connection);
    let loopback = 1;
    let link = LinkUnspec::new_with_index(loopback).up().build();
    handle.link().set(link).execute().await.unwrap();
    let own = Ipv4Addr::new(192, 0, 2, 9).into();
    handle
        .address()
        .add(loopback, own, 32)
        .execute()
        .await
        .unwrap();
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(Ipv4Addr::new(10, 96, 0, 0), 15)
        .output_interface(loopback)
        .pref_source(Ipv4Addr::new(192, 0, 2, 9))
        .build();
    handle.route().add(route).execute().await.unwrap();
}

fn knock(address: &str) {
    let address: SocketAddr = address.parse().unwrap();
    // Refused at once, or silent for longer than this.
    let _ = TcpStream::connect_timeout(&address, Duration::from_millis(100));
}

#[test]
fn packets_that_reach_no_endpoint_are_counted_by_reason() {
    let test = "packets_that_reach_no_endpoint_are_counted_by_reason";
    isolated_test(test, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(up());
        let case = Case::parse("inline.case", WORLD).unwrap();
        let mut world = World::new(case.options.clone());
        let changes = case.steps.iter().flat_map(|step| step.changes.clone());
        world.apply(changes.collect::<Vec<_>>());
        let (mut plane, _) = Plane::start(Netlink::open().unwrap(), TableFlags::NONE).unwrap();
        plane.reconcile(world.desired().clone()).unwrap();
        let refused = Refused::open().unwrap();
        let before = refused.lines();
        assert!(!before.contains("\"source-range\"} 1"), "{before}");
        for _ in 0..3 {
            knock("10.96.0.1:80");
        }
        let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
        // The sender is told at once, in the way that a local one is.
        udp.send_to(b"x", "10.96.0.1:53").unwrap_err();
        // Addresses that Services have, and ports that they have not.
        knock("10.96.0.1:81");
        knock("10.96.0.2:8080");
        for at in ["10.96.0.1:54", "10.96.0.4:80", "10.96.0.3:53"] {
            udp.send_to(b"x", at).unwrap_err();
        }
        // Refused although somebody listens; a number that is no node port's is not.
        let heard = ["127.0.0.1:30053", "127.0.0.1:30054"].map(|at| UdpSocket::bind(at).unwrap());
        let soon = Some(Duration::from_millis(100));
        for (socket, refused) in heard.iter().zip([true, false]) {
            socket.set_read_timeout(soon).unwrap();
            let sent = udp.send_to(b"x", socket.local_addr().unwrap());
            assert_eq!(sent.is_err(), refused, "{sent:?}");
            assert_eq!(socket.recv(&mut [0]).is_err(), refused);
        }
        knock("10.96.0.2:80");
        knock("10.96.1.1:80");
        let after = refused.lines();
        for line in [
            r#"daymark_refused_packets_total{ip_family="IPv4",reason="no-endpoint",answer="tcp-reset"} 3"#,
            r#"daymark_refused_packets_total{ip_family="IPv4",reason="no-endpoint",answer="icmp"} 1"#,
            r#"daymark_refused_packets_total{ip_family="IPv4",reason="unknown-port",answer="tcp-reset"} 2"#,
            r#"daymark_refused_packets_total{ip_family="IPv4",reason="unknown-port",answer="icmp"} 3"#,
            r#"kubeproxy_nftables_localhost_nodeport_rejected_packets_total{ip_family="IPv4",protocol="UDP"} 1"#,
            r#"kubeproxy_nftables_localhost_nodeport_rejected_packets_total{ip_family="IPv6",protocol="TCP"} 0"#,
            r#"daymark_refused_packets_total{ip_family="IPv6",reason="no-endpoint",answer="tcp-reset"} 0"#,
            r#"daymark_dropped_packets_total{ip_family="IPv4",reason="no-local-endpoint"} 1"#,
            r#"daymark_dropped_packets_total{ip_family="IPv4",reason="source-range"} 1"#,
            r#"daymark_dropped_packets_total{ip_family="IPv4",reason="not-translated"} 0"#,
        ] {
            assert!(
                after.lines().any(|found| found == line),
                "{line} is not in\n{after}"
            );
        }
    });
}
