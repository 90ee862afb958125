//! Addresses, prefixes and protocols.

use std::net::IpAddr;

use daymark_model::address::{is_special, parse_address};
use daymark_model::{Cidr, Family, Protocol};
use proptest::prelude::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("a canonical address")
}

fn cidr(text: &str) -> Cidr {
    Cidr::parse(text).expect("a prefix")
}

#[test]
fn addresses_are_read_leniently_and_come_out_canonical() {
    for (text, canonical) in [
        ("10.96.0.1", "10.96.0.1"),
        (" 10.96.0.1\n", "10.96.0.1"),
        ("010.096.000.001", "10.96.0.1"),
        ("0000010.96.0.00", "10.96.0.0"),
        ("0.0.0.0", "0.0.0.0"),
        ("255.255.255.255", "255.255.255.255"),
        ("FD00::0001", "fd00::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::ffff:0a00:0001", "10.0.0.1"),
        ("::", "::"),
    ] {
        assert_eq!(parse_address(text), Some(ip(canonical)), "{text}");
    }
}

#[test]
fn an_octet_has_32_digits_at_most() {
    let padded = |digits: usize| format!("10.0.0.{:0>digits$}", 7);
    assert_eq!(parse_address(&padded(32)), Some(ip("10.0.0.7")));
    assert_eq!(parse_address(&padded(33)), None);
}

#[test]
fn what_is_no_address_is_refused() {
    for text in [
        "",
        " ",
        ".",
        "...",
        "10.0.0",
        "10.0.0.0.0",
        "10.0.0.",
        ".10.0.0",
        "10.0.0.256",
        "10.0.0.-1",
        "10.0.0.+1",
        "10.0.0.1 0",
        "10.0.0.0x1",
        "10.0.0.1/24",
        "example.com",
        "fd00::1::",
        "fd00::g",
        "[fd00::1]",
        "fd00::1%eth0",
        "1234",
        "10.0.0.\u{0663}",
        "10.0.0.000000000000000000000000000000001",
    ] {
        assert_eq!(parse_address(text), None, "{text}");
    }
}

#[test]
fn a_prefix_clears_the_bits_that_do_not_count() {
    for (text, canonical, first, last) in [
        ("10.1.2.3/8", "10.0.0.0/8", "10.0.0.0", "10.255.255.255"),
        ("10.1.2.3/32", "10.1.2.3/32", "10.1.2.3", "10.1.2.3"),
        ("10.1.2.3/31", "10.1.2.2/31", "10.1.2.2", "10.1.2.3"),
        ("10.1.2.3/0", "0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
        (" 010.1.2.3/24 ", "10.1.2.0/24", "10.1.2.0", "10.1.2.255"),
        (
            "fd00:30::1/64",
            "fd00:30::/64",
            "fd00:30::",
            "fd00:30::ffff:ffff:ffff:ffff",
        ),
        ("fd00::1/128", "fd00::1/128", "fd00::1", "fd00::1"),
        (
            "fd00::1/0",
            "::/0",
            "::",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ),
    ] {
        let prefix = cidr(text);
        assert_eq!(prefix.to_string(), canonical);
        assert_eq!(
            (prefix.first(), prefix.last()),
            (ip(first), ip(last)),
            "{text}"
        );
        assert_eq!(prefix.family(), Family::of(ip(first)));
        assert_eq!(Some(prefix), Cidr::new(ip(first), prefix.length()));
    }
}

#[test]
fn what_is_no_prefix_is_refused() {
    for text in [
        "",
        "10.0.0.0",
        "10.0.0.0/",
        "/8",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/8/8",
        "10.0.0/8",
        "fd00::/129",
        "fd00::/256",
        "10.0.0.0/8 x",
    ] {
        assert_eq!(Cidr::parse(text), None, "{text}");
    }
    assert_eq!(Cidr::new(ip("10.0.0.1"), 33), None);
    assert_eq!(Cidr::new(ip("fd00::1"), 129), None);
}

#[test]
fn a_prefix_holds_its_own_addresses_alone() {
    for (prefix, inside, outside) in [
        (
            "172.30.0.96/29",
            vec!["172.30.0.96", "172.30.0.103"],
            vec!["172.30.0.95", "172.30.0.104"],
        ),
        (
            "0.0.0.0/0",
            vec!["0.0.0.0", "255.255.255.255"],
            vec!["::", "fd00::1"],
        ),
        ("::/0", vec!["::", "fd00::1"], vec!["0.0.0.0", "10.0.0.1"]),
        (
            "10.0.0.1/32",
            vec!["10.0.0.1"],
            vec!["10.0.0.0", "10.0.0.2", "::a00:1"],
        ),
        (
            "fd00:30::/64",
            vec!["fd00:30::", "fd00:30::ffff:ffff:ffff:ffff"],
            vec!["fd00:30:0:1::", "10.0.0.1"],
        ),
    ] {
        for address in inside {
            assert!(
                cidr(prefix).contains(ip(address)),
                "{address} is in {prefix}"
            );
        }
        for address in outside {
            assert!(
                !cidr(prefix).contains(ip(address)),
                "{address} is not in {prefix}"
            );
        }
    }
}

#[test]
fn a_host_prefix_holds_one_address() {
    assert_eq!(Cidr::host(ip("10.0.0.1")), cidr("10.0.0.1/32"));
    assert_eq!(Cidr::host(ip("fd00::1")), cidr("fd00::1/128"));
}

#[test]
fn protocols_have_the_words_of_the_api_and_the_numbers_of_the_wire() {
    let all = Protocol::ALL.map(|protocol| (protocol.to_string(), protocol.number()));
    assert_eq!(
        all,
        [
            ("TCP".to_owned(), 6),
            ("UDP".to_owned(), 17),
            ("SCTP".to_owned(), 132)
        ]
    );
    for protocol in Protocol::ALL {
        assert_eq!(Protocol::parse(&protocol.to_string()), Some(protocol));
    }
    for text in ["", "tcp", "ICMP", "TCP "] {
        assert_eq!(Protocol::parse(text), None, "{text}");
    }
}

#[test]
fn families_have_the_words_of_the_api() {
    assert_eq!(
        Family::BOTH.map(|family| family.to_string()),
        ["IPv4", "IPv6"]
    );
    assert_eq!(Family::BOTH.map(Family::bits), [32, 128]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reading_what_was_written_gives_the_same(address in any::<IpAddr>(), length in 0u8..=128) {
        let address = address.to_canonical();
        prop_assert_eq!(parse_address(&address.to_string()), Some(address));
        if let Some(prefix) = Cidr::new(address, length) {
            prop_assert_eq!(Cidr::parse(&prefix.to_string()), Some(prefix));
            prop_assert!(prefix.contains(address));
            prop_assert!(prefix.first() <= address && address <= prefix.last());
        }
    }

    #[test]
    fn a_prefix_is_the_range_from_first_to_last(one in any::<IpAddr>(), other in any::<IpAddr>(), length in 0u8..=128) {
        let (one, other) = (one.to_canonical(), other.to_canonical());
        if let Some(prefix) = Cidr::new(one, length) {
            let between = prefix.first() <= other && other <= prefix.last();
            prop_assert_eq!(prefix.contains(other), between);
        }
    }

    #[test]
    fn no_text_makes_reading_panic(text in ".{0,60}") {
        let _ = parse_address(&text);
        let _ = Cidr::parse(&text);
    }
}

#[test]
fn special_addresses_are_those_of_one_host_or_link_and_nobodys() {
    let is = |text: &str| is_special(parse_address(text).expect("an address"));
    for special in [
        "0.0.0.0",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.0.0",
        "169.254.255.255",
        "224.0.0.1",
        "239.255.255.255",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::",
        "febf:ffff::1",
        "ff00::",
        "ff02::1",
        "::ffff:127.0.0.1",
    ] {
        assert!(is(special), "{special}");
    }
    for ordinary in [
        "0.0.0.1",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "223.255.255.255",
        "255.255.255.254",
        "::2",
        "fe7f::1",
        "fec0::1",
        "fd00::1",
        "feff::1",
    ] {
        assert!(!is(ordinary), "{ordinary}");
    }
}
