//! Bytes as `nft` prints them.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::nft::data::{Field, Type};
use crate::nft::object::Hook;

/// Bytes of a type.
pub(super) fn typed(kind: &Type, bytes: &[u8]) -> String {
    let parts = fields(kind, bytes).map(|(kind, bytes)| field(kind, bytes));
    parts.collect::<Vec<_>>().join(" . ")
}

/// A range of keys, both ends included, field by field.
pub(super) fn range(kind: &Type, first: &[u8], last: &[u8]) -> String {
    let parts = fields(kind, first).zip(fields(kind, last));
    let parts = parts.map(|((kind, first), (_, last))| field_range(kind, first, last));
    parts.collect::<Vec<_>>().join(" . ")
}

/// The fields of a concatenation, without their padding.
fn fields<'a>(kind: &'a Type, bytes: &'a [u8]) -> impl Iterator<Item = (Field, &'a [u8])> {
    let mut at = 0;
    kind.fields().iter().map(move |field| {
        let bytes = bytes.get(at..at + field.len()).unwrap_or_default();
        at += field.len().next_multiple_of(4);
        (*field, bytes)
    })
}

/// Bytes of a field.
pub(super) fn field(kind: Field, bytes: &[u8]) -> String {
    let word = <[u8; 4]>::try_from(bytes).map(u32::from_ne_bytes);
    match (kind, word) {
        (Field::Ipv4Addr | Field::Ipv6Addr, _) => {
            addr(bytes).map_or_else(|| hex(bytes), |addr| addr.to_string())
        }
        (Field::InetProto, _) => protocol(bytes),
        (Field::NfProto, _) => family(bytes),
        (Field::IfName, _) => format!("\"{}\"", crate::attr::text(bytes)),
        (Field::EtherAddr, _) => bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .join(":"),
        (Field::Mark, Ok(word)) => format!("0x{word:08x}"),
        (Field::IfIndex, Ok(word)) => word.to_string(),
        (Field::CtState, Ok(word)) => flags(word, CT_STATE),
        (Field::AddrType, Ok(word)) => address_type(word),
        (Field::InetService | Field::Integer(_), _) if bytes.len() <= 8 => {
            number(bytes).to_string()
        }
        _ => hex(bytes),
    }
}

/// A prefix if it is one, else both ends; one value if they are the same.
pub(super) fn field_range(kind: Field, first: &[u8], last: &[u8]) -> String {
    if first == last {
        return field(kind, first);
    }
    match (kind, prefix_len(first, last)) {
        (Field::Ipv4Addr | Field::Ipv6Addr, Some(len)) => format!("{}/{len}", field(kind, first)),
        _ => format!("{}-{}", field(kind, first), field(kind, last)),
    }
}

/// The length of the prefix that covers exactly `first` to `last`.
fn prefix_len(first: &[u8], last: &[u8]) -> Option<u32> {
    let len = leading(first.iter().zip(last).map(|(first, last)| !(first ^ last)));
    let covers = (0u32..)
        .zip(first.iter().zip(last))
        .all(|(index, (first, last))| {
            let host = u8::MAX
                .checked_shr(len.saturating_sub(index * 8))
                .unwrap_or(0);
            first & host == 0 && last & host == host && (first ^ last) & !host == 0
        });
    covers.then_some(len)
}

/// How many bits are set before the first that is not.
fn leading(bytes: impl Iterator<Item = u8>) -> u32 {
    let mut count = 0;
    for byte in bytes {
        count += byte.leading_ones();
        if byte != u8::MAX {
            break;
        }
    }
    count
}

/// The key before a key, as of a number in network order.
pub(super) fn before(key: &[u8]) -> Vec<u8> {
    let mut out = key.to_vec();
    for byte in out.iter_mut().rev() {
        *byte = byte.wrapping_sub(1);
        if *byte != u8::MAX {
            break;
        }
    }
    out
}

/// A mask as a prefix length, if it is one.
pub(super) fn mask_len(mask: &[u8]) -> Option<u32> {
    let ones = leading(mask.iter().copied());
    let total: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    (ones == total).then_some(ones)
}

/// A number in network order.
pub(super) fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn addr(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(bytes)
        .ok()
        .map(|v6| Ipv6Addr::from(v6).into())
}

pub(super) fn protocol(bytes: &[u8]) -> String {
    match bytes {
        [1] => "icmp".to_owned(),
        [6] => "tcp".to_owned(),
        [17] => "udp".to_owned(),
        [58] => "ipv6-icmp".to_owned(),
        [132] => "sctp".to_owned(),
        other => number(other).to_string(),
    }
}

fn family(bytes: &[u8]) -> String {
    match bytes {
        [2] => "ipv4".to_owned(),
        [10] => "ipv6".to_owned(),
        other => number(other).to_string(),
    }
}

/// `RTN_*` of `linux/rtnetlink.h`.
fn address_type(word: u32) -> String {
    let words = [
        "unspec",
        "unicast",
        "local",
        "broadcast",
        "anycast",
        "multicast",
        "blackhole",
        "unreachable",
        "prohibit",
    ];
    let word_of = usize::try_from(word)
        .ok()
        .and_then(|index| words.get(index));
    word_of.map_or_else(|| word.to_string(), |known| (*known).to_owned())
}

/// The words of bits, or the number if one has none.
pub(super) fn flags(word: u32, names: &[(u32, &str)]) -> String {
    let known: u32 = names.iter().map(|(bit, _)| bit).sum();
    if word == 0 || word & !known != 0 {
        return format!("0x{word:x}");
    }
    let set = names
        .iter()
        .filter(|(bit, _)| word & bit != 0)
        .map(|(_, name)| *name);
    set.collect::<Vec<_>>().join(",")
}

/// `NF_CT_STATE_*` of `linux/netfilter/nf_conntrack_common.h`.
pub(super) const CT_STATE: &[(u32, &str)] = &[
    (1, "invalid"),
    (2, "established"),
    (4, "related"),
    (8, "new"),
    (64, "untracked"),
];

/// `IPS_*` of the same header, as far as `nft` has words.
pub(super) const CT_STATUS: &[(u32, &str)] = &[
    (0x01, "expected"),
    (0x02, "seen-reply"),
    (0x04, "assured"),
    (0x08, "confirmed"),
    (0x10, "snat"),
    (0x20, "dnat"),
    (0x200, "dying"),
];

/// Milliseconds: `1d2h3m4s5ms`.
pub(super) fn duration(millis: u64) -> String {
    let mut out = String::new();
    let mut rest = millis;
    for (unit, word) in [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
        (1, "ms"),
    ] {
        if rest / unit != 0 {
            let _ = write!(out, "{}{word}", rest / unit);
        }
        rest %= unit;
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

/// A priority by the name that `nft` has for it at this hook, up to ten away, or its number.
pub(super) fn priority(hook: Hook, priority: i32) -> String {
    let names = [
        (-300, "raw", None),
        (-150, "mangle", None),
        (-100, "dstnat", Some(Hook::Prerouting)),
        (0, "filter", None),
        (50, "security", None),
        (100, "srcnat", Some(Hook::Postrouting)),
    ];
    let here = names
        .iter()
        .filter(|(_, _, only)| only.is_none_or(|only| only == hook));
    for (base, name, _) in here {
        match i64::from(priority) - i64::from(*base) {
            0 => return (*name).to_owned(),
            above @ 1..=10 => return format!("{name} + {above}"),
            below @ -10..=-1 => return format!("{name} - {}", -below),
            _ => {}
        }
    }
    priority.to_string()
}
