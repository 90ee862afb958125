//! Connections are listed, filtered and removed.

use std::net::{IpAddr, Ipv6Addr};

use daymark_netlink::ct::{Filter, Flow, Masked, Status, Tuple, TupleFilter};
use daymark_sys::netlink::NfSocket;

use crate::Outcome;
use crate::objects::socket;

const SERVICE: [u8; 4] = [10, 96, 0, 10];

/// UDP connections to a Service, translated to one of two endpoints.
fn flow(client: u8, endpoint: u8) -> Flow {
    let from = (IpAddr::from([10, 244, 1, client]), 5_000);
    let endpoint = (IpAddr::from([10, 244, 2, endpoint]), 53);
    Flow {
        original: Tuple::new(17, from, (IpAddr::from(SERVICE), 53)),
        reply: Tuple::new(17, endpoint, from),
        zone: 0,
        status: Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED,
        mark: u32::from(client),
        timeout: Some(120),
        id: None,
        tcp: None,
    }
}

fn v6() -> Flow {
    let client = (
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
        6_000,
    );
    let original = Tuple::new(
        6,
        client,
        (IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2)), 80),
    );
    Flow {
        original,
        reply: original.reversed(),
        ..flow(99, 0)
    }
}

fn count(socket: &mut NfSocket, filter: &Filter) -> usize {
    socket
        .flows(filter)
        .expect("connections can be listed")
        .len()
}

pub(crate) fn list_and_delete() -> Outcome {
    let mut socket = socket();
    let all: Vec<Flow> = (1..=150)
        .map(|client| flow(client, client % 2 + 1))
        .collect();
    for flow in &all {
        if let Err(error) = socket.add_flow(flow) {
            return Outcome::Skipped(format!(
                "the kernel takes no connection from a program: {error}"
            ));
        }
    }
    socket.add_flow(&v6()).expect("the kernel takes IPv6 too");
    let listed = socket
        .flows(&Filter::default())
        .expect("connections can be listed");
    assert_eq!(listed.len(), 151);
    let same = listed
        .iter()
        .find(|listed| listed.original == all[6].original)
        .expect("it was added");
    assert_eq!((same.reply, same.mark), (all[6].reply, 7));
    assert!(
        same.status.contains(all[6].status) && same.id.is_some(),
        "{same:?}"
    );

    filters(&mut socket);

    let endpoint = Filter {
        reply: TupleFilter {
            src: Some(IpAddr::from([10, 244, 2, 1])),
            ..TupleFilter::default()
        },
        ..Filter::default()
    };
    let stale = socket.flows(&endpoint).expect("connections can be listed");
    let removed = socket.remove_flows(&stale).expect("they are there");
    assert_eq!((removed.removed, removed.gone), (75, 0));
    let removed = socket.remove_flows(&stale).expect("that is no error");
    assert_eq!((removed.removed, removed.gone), (0, 75));
    assert_eq!(count(&mut socket, &Filter::default()), 76);
    Outcome::Passed
}

/// Each filter as the kernel applies it, and as `matches` does afterwards.
fn filters(socket: &mut NfSocket) {
    let service = TupleFilter {
        dst: Some(IpAddr::from(SERVICE)),
        protocol: Some(17),
        dst_port: Some(53),
        ..TupleFilter::default()
    };
    let cases = [
        (
            Filter {
                original: service,
                ..Filter::default()
            },
            150,
        ),
        (
            Filter {
                original: TupleFilter {
                    dst_port: Some(54),
                    ..service
                },
                ..Filter::default()
            },
            0,
        ),
        (
            Filter {
                mark: Some(Masked {
                    value: 7,
                    mask: u32::MAX,
                }),
                ..Filter::default()
            },
            1,
        ),
        (
            Filter {
                family: Some(daymark_netlink::nft::Family::Ip6),
                ..Filter::default()
            },
            1,
        ),
        (
            Filter {
                status: Status::ASSURED,
                ..Filter::default()
            },
            151,
        ),
        (
            Filter {
                without: Status::ASSURED,
                ..Filter::default()
            },
            0,
        ),
        (
            Filter {
                status: Status::ASSURED,
                without: Status::DYING,
                ..Filter::default()
            },
            151,
        ),
        (
            Filter {
                status: Status::DST_NAT,
                original: service,
                ..Filter::default()
            },
            0,
        ),
        (
            Filter {
                zone: Some(0),
                original: service,
                ..Filter::default()
            },
            150,
        ),
        (
            Filter {
                zone: Some(5),
                original: service,
                ..Filter::default()
            },
            0,
        ),
    ];
    for (filter, expected) in cases {
        assert_eq!(count(socket, &filter), expected, "{filter:?}");
    }
}
