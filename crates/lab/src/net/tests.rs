use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::Duration;

use daymark_sys::ns::isolated_test;
use daymark_sys::packet::{self, Traffic};

use super::*;

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn addresses(v4: &str, v6: &str) -> PodAddresses {
    PodAddresses {
        v4: Some(v4.parse().unwrap()),
        v6: Some(v6.parse().unwrap()),
    }
}

/// Two nodes with a Pod each, as the lab wires them.
fn two_nodes() -> (Segment, [Host; 2], [PodLink; 2]) {
    let fabric = daymark_sys::ns::NetNs::create().unwrap();
    let mut segment =
        Segment::new(fabric, &[prefix("172.30.0.1/24"), prefix("fd00:30::1/64")]).unwrap();
    let mut a = segment
        .add_node(
            "node-1",
            &[prefix("172.30.0.11/24"), prefix("fd00:30::11/64")],
        )
        .unwrap();
    let mut b = segment
        .add_node(
            "node-2",
            &[prefix("172.30.0.12/24"), prefix("fd00:30::12/64")],
        )
        .unwrap();
    let via = |address: &str| Via::Gateway(address.parse().unwrap());
    a.add_routes(&[
        (prefix("10.244.1.0/24"), Via::Nowhere),
        (prefix("fd00:10:244:1::/64"), Via::Nowhere),
        (prefix("10.244.2.0/24"), via("172.30.0.12")),
        (prefix("fd00:10:244:2::/64"), via("fd00:30::12")),
        (prefix("0.0.0.0/0"), via("172.30.0.1")),
        (prefix("::/0"), via("fd00:30::1")),
    ])
    .unwrap();
    b.add_routes(&[
        (prefix("10.244.1.0/24"), via("172.30.0.11")),
        (prefix("fd00:10:244:1::/64"), via("fd00:30::11")),
    ])
    .unwrap();
    let pods = [
        a.add_pod(1, addresses("10.244.1.2", "fd00:10:244:1::2"))
            .unwrap(),
        b.add_pod(1, addresses("10.244.2.2", "fd00:10:244:2::2"))
            .unwrap(),
    ];
    (segment, [a, b], pods)
}

/// Connects from one namespace to a listener in another; the source address that the listener saw.
fn connect(
    from: &daymark_sys::ns::NetNs,
    to: &daymark_sys::ns::NetNs,
    address: &str,
) -> std::io::Result<IpAddr> {
    let address: IpAddr = address.parse().unwrap();
    let listener = to
        .within(|| TcpListener::bind((address, 8080)).unwrap())
        .unwrap();
    let target = (address, 8080).into();
    let _client = from
        .run(|| TcpStream::connect_timeout(&target, Duration::from_millis(300)))
        .unwrap()?;
    Ok(listener.accept().unwrap().1.ip())
}

#[test]
fn pods_and_nodes_reach_each_other_in_both_families() {
    isolated_test(
        "net::tests::pods_and_nodes_reach_each_other_in_both_families",
        || {
            let (_segment, [a, b], [pod_a, pod_b]) = two_nodes();
            for (from, to, address, source) in [
                (&pod_a.ns, &pod_b.ns, "10.244.2.2", "10.244.1.2"),
                (&pod_a.ns, &pod_b.ns, "fd00:10:244:2::2", "fd00:10:244:1::2"),
                (b.ns(), &pod_b.ns, "10.244.2.2", "172.30.0.12"),
                (b.ns(), &pod_b.ns, "fd00:10:244:2::2", "fd00:30::12"),
                (a.ns(), &pod_b.ns, "10.244.2.2", "172.30.0.11"),
                (&pod_b.ns, a.ns(), "fd00:30::11", "fd00:10:244:2::2"),
                (&pod_a.ns, &pod_a.ns, "10.244.1.2", "10.244.1.2"),
            ] {
                assert_eq!(
                    connect(from, to, address).unwrap(),
                    source.parse::<IpAddr>().unwrap(),
                    "{address}"
                );
            }
        },
    );
}

#[test]
fn a_cut_cable_stops_everything_and_a_restored_one_nothing() {
    isolated_test(
        "net::tests::a_cut_cable_stops_everything_and_a_restored_one_nothing",
        || {
            let (mut segment, _nodes, [pod_a, pod_b]) = two_nodes();
            connect(&pod_a.ns, &pod_b.ns, "10.244.2.2").unwrap();
            segment.set_cable("node-2", Cable::Cut).unwrap();
            assert!(connect(&pod_a.ns, &pod_b.ns, "10.244.2.2").is_err());
            segment.set_cable("node-2", Cable::Connected).unwrap();
            connect(&pod_a.ns, &pod_b.ns, "10.244.2.2").unwrap();
            connect(&pod_a.ns, &pod_b.ns, "fd00:10:244:2::2").unwrap();
        },
    );
}

#[test]
fn a_removed_pod_is_unreachable_and_its_number_is_free() {
    isolated_test(
        "net::tests::a_removed_pod_is_unreachable_and_its_number_is_free",
        || {
            let (_segment, [mut a, _b], [pod_a, pod_b]) = two_nodes();
            a.remove_pod(&pod_a).unwrap();
            for address in ["10.244.1.2", "fd00:10:244:1::2"] {
                let target = (address.parse::<IpAddr>().unwrap(), 8080).into();
                let asked = || TcpStream::connect_timeout(&target, Duration::from_secs(3));
                let refused = pod_b.ns.run(asked).unwrap().unwrap_err();
                // The node says so at once, although it has a default route.
                use std::io::ErrorKind::{HostUnreachable, NetworkUnreachable};
                let kind = refused.kind();
                assert!(
                    [HostUnreachable, NetworkUnreachable].contains(&kind),
                    "{refused}"
                );
            }
            assert!(connect(&pod_b.ns, a.ns(), "172.30.0.11").is_ok());
            let again = a
                .add_pod(1, addresses("10.244.1.3", "fd00:10:244:1::3"))
                .unwrap();
            connect(&pod_b.ns, &again.ns, "10.244.1.3").unwrap();
        },
    );
}

#[test]
fn a_refused_request_is_shown_as_the_command_it_stands_for() {
    isolated_test(
        "net::tests::a_refused_request_is_shown_as_the_command_it_stands_for",
        || {
            let (mut segment, [mut a, _b], _pods) = two_nodes();
            let error = a
                .add_pod(1, addresses("10.244.1.9", "fd00:10:244:1::9"))
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with("ip link add pod1 type veth peer eth0: "),
                "{error}"
            );
            let error = segment
                .set_cable("node-9", Cable::Cut)
                .unwrap_err()
                .to_string();
            assert_eq!(
                error,
                "no host node-9 on the segment; there are node-1, node-2"
            );
        },
    );
}

/// Connects to an address that nobody has, so that the link is asked for it.
fn ask_the_link(from: &Host, address: &str) {
    let target = (address.parse::<IpAddr>().unwrap(), 80).into();
    let asked = from
        .ns()
        .run(|| TcpStream::connect_timeout(&target, Duration::from_millis(50)));
    assert!(asked.unwrap().is_err());
}

#[test]
fn a_packet_socket_sees_the_questions_for_addresses_of_others_and_nothing_else() {
    isolated_test(
        "net::tests::a_packet_socket_sees_the_questions_for_addresses_of_others_and_nothing_else",
        || {
            let (_segment, [a, b], [_, pod_b]) = two_nodes();
            let open = |traffic| {
                b.ns()
                    .run(|| packet::open(segment::ETH0, traffic).unwrap())
                    .unwrap()
            };
            let (arp, solicitations) = (open(Traffic::Arp), open(Traffic::Neighbours));
            // The solicited-node group of fd00:30::77 (RFC 4291, section 2.7.1; RFC 2464, section 7).
            solicitations
                .join_multicast([0x33, 0x33, 0xff, 0, 0, 0x77])
                .unwrap();
            connect(a.ns(), &pod_b.ns, "fd00:10:244:2::2").unwrap();
            ask_the_link(&a, "172.30.0.77");
            ask_the_link(&a, "fd00:30::77");
            let mut frame = [0; 1500];
            let asked =
                |socket: &packet::PacketSocket, offset: usize, length: usize, frame: &mut [u8]| {
                    let mut targets = Vec::new();
                    while let Ok(received) = socket.receive(frame) {
                        assert!(received >= offset + length);
                        targets.push(frame[offset..offset + length].to_vec());
                    }
                    targets
                };
            // Target protocol address of ARP; target address of a neighbour solicitation.
            assert!(asked(&arp, 38, 4, &mut frame).contains(&vec![172, 30, 0, 77]));
            let wanted: std::net::Ipv6Addr = "fd00:30::77".parse().unwrap();
            assert!(asked(&solicitations, 62, 16, &mut frame).contains(&wanted.octets().to_vec()));
        },
    );
}
