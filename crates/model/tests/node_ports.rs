//! Lists of node-port addresses: how they are read, and what they name.

use std::net::IpAddr;

use daymark_model::address::{Family, parse_address};
use daymark_model::node_ports::{EntryFault, NodePortAddress, NodePortAddresses, UnnamedFamily};

fn list(text: &str) -> NodePortAddresses {
    let words: Vec<&str> = text.split_whitespace().collect();
    NodePortAddresses::parse(&words).unwrap_or_else(|errors| panic!("{text}: {errors:?}"))
}

fn addresses(text: &str) -> Vec<IpAddr> {
    let words = text.split_whitespace();
    words
        .map(|word| parse_address(word).expect("an address"))
        .collect()
}

#[test]
fn a_list_is_read_in_order_and_printed_as_it_is_written() {
    let rows = [
        ("", 0),
        ("primary", 1),
        ("all localhost primary", 3),
        ("10.0.0.0/8 primary fd00::/8", 3),
        // The same prefix twice is no mistake.
        ("10.0.0.0/8 10.0.0.0/8", 2),
    ];
    for (text, entries) in rows {
        let read = list(text);
        assert_eq!(read.0.len(), entries, "{text}");
        let printed: Vec<String> = read.0.iter().map(ToString::to_string).collect();
        assert_eq!(printed.join(" "), text);
    }
    assert_eq!(NodePortAddresses::default(), list("primary"));
    assert_eq!(
        NodePortAddress::parse("10.1.2.3/8").unwrap().to_string(),
        "10.0.0.0/8"
    );
}

#[test]
fn every_entry_that_is_none_is_named_with_its_index() {
    let errors = |words: &[&str]| -> Vec<(usize, EntryFault)> {
        let errors = NodePortAddresses::parse(words).unwrap_err();
        errors
            .iter()
            .map(|error| (error.index, error.why))
            .collect()
    };
    use EntryFault::{Duplicate, Invalid};
    assert_eq!(
        errors(&["primary", "10.0.0.0/8", "primary"]),
        [(2, Duplicate)]
    );
    assert_eq!(
        errors(&["all", "all", "all"]),
        [(1, Duplicate), (2, Duplicate)]
    );
    // Keywords are written in small letters, and an address is no prefix.
    assert_eq!(
        errors(&[
            "Primary",
            "localhost",
            "10.0.0.1",
            "LOCALHOST",
            "",
            "10.0.0.0/33"
        ]),
        [
            (0, Invalid),
            (2, Invalid),
            (3, Invalid),
            (4, Invalid),
            (5, Invalid)
        ]
    );
    let said = NodePortAddresses::parse(&["here"]).unwrap_err()[0].to_string();
    for word in [
        "[0]: Invalid value: \"here\": ",
        "primary",
        "localhost",
        "all",
    ] {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
}

#[test]
fn loopback_is_never_served_by_the_kernel() {
    let machine = addresses("127.0.0.1 127.9.9.9 ::1 172.30.0.11 fd00:30::11");
    let rest = addresses("172.30.0.11 fd00:30::11");
    let node = addresses("127.0.0.1 172.30.0.11 ::1 fd00:30::11");
    for (text, expected) in [
        ("all", rest.clone()),
        ("localhost", vec![]),
        ("127.0.0.0/8 ::1/128", vec![]),
        ("0.0.0.0/0 ::/0", rest.clone()),
        // The first address counts, and it is loopback: not the next one instead.
        ("primary", vec![]),
    ] {
        let serving = list(text).serving(&node, &machine, UnnamedFamily::Closed);
        assert_eq!(serving, expected, "{text}");
    }
    // Nobody's first address names no family: both are open.
    let open = list("primary").serving(&node, &machine, UnnamedFamily::Open);
    assert_eq!(open, rest);
}

/// kubernetes `pkg/proxy/util`, TestContainsExplicitLoopback, says the same of an order and of wide prefixes.
#[test]
fn a_listener_on_loopback_has_to_be_asked_for_by_name() {
    let rows = [
        ("", false, false),
        ("primary", false, false),
        ("all", false, false),
        ("localhost", true, true),
        ("all localhost", true, true),
        ("localhost primary", true, true),
        ("127.0.0.0/8", true, false),
        ("127.0.0.5/32 10.0.0.0/8", true, false),
        ("0.0.0.0/0", false, false),
        ("0.0.0.0/0 127.0.0.0/8", true, false),
        // Begins before loopback: it covers it, but does not name it.
        ("126.0.0.0/7", false, false),
        ("::1/128", false, true),
        ("::/0", false, false),
        ("::/127", false, false),
        ("10.0.0.0/8 ::1/128", false, true),
    ];
    for (text, four, six) in rows {
        let read = list(text);
        assert_eq!(read.name_loopback(Family::V4), four, "{text}, IPv4");
        assert_eq!(read.name_loopback(Family::V6), six, "{text}, IPv6");
    }
}

#[test]
fn an_address_that_several_entries_name_is_there_once() {
    let machine = addresses("172.30.0.11 172.30.0.12");
    let serving =
        list("primary all 172.30.0.0/24").serving(&machine, &machine, UnnamedFamily::Closed);
    assert_eq!(serving, machine);
}
