//! The line of a packet and its verdict.

use std::net::IpAddr;

use daymark_model::address::{Family, parse_address};
use daymark_model::decide::{Arrival, SourceSeen};
use daymark_model::desired::Reason;
use daymark_model::{Interface, Node, Packet, Protocol, Target};

use super::line::Line;
use crate::error::ParseError;
use crate::value::{Check, Choice, Expect};
use crate::write::node_source;

type Result<T> = std::result::Result<T, ParseError>;

const VERDICTS: &str = "a verdict: refuse, drop, untouched, or endpoints ADDRESS[:PORT]... with source-kept or masqueraded";
const REASONS: [Reason; 6] = [
    Reason::NoEndpoint,
    Reason::NoLocalEndpoint,
    Reason::SourceRange,
    Reason::UnknownPort,
    Reason::Unallocated,
    Reason::Loopback,
];

/// `packet SOURCE -> ADDRESS:PORT/PROTOCOL expect VERDICT because REASON`
pub(super) fn check(line: &mut Line, node: Option<&Node>) -> Result<Check> {
    let packet = packet(line, node)?;
    line.exactly("expect")?;
    let words = line.rest();
    let Some(at) = words.iter().position(|word| *word == "because") else {
        return Err(line.error("`because` and the reason, after the verdict", ""));
    };
    let (verdict, because) = (&words[..at], &words[at + 1..]);
    if because.is_empty() {
        return Err(line.error("the reason, in words", ""));
    }
    Ok(Check {
        line: line.number(),
        expect: expect(line, verdict, because[0], &packet)?,
        packet,
        because: because.join(" "),
    })
}

fn packet(line: &mut Line, node: Option<&Node>) -> Result<Packet> {
    let from = line.word("where the packet comes from: an address, node, or node=ADDRESS")?;
    line.exactly("->")?;
    let to = line.word("where the packet goes: ADDRESS:PORT/PROTOCOL")?;
    let (destination, port, protocol) = destination(line, to)?;
    let family = Family::of(destination);
    let (from, interface) = match from.split_once('@') {
        None => (from, None),
        Some((from, name)) => {
            let interface = Interface::parse(name);
            let expected = "the interface that the packet arrives at, at most 15 bytes";
            let interface = interface.ok_or_else(|| line.error(expected, name))?;
            (from, Some(interface))
        }
    };
    let (arrival, source) = match from.split_once('=') {
        None if from == "node" => {
            let own = node_source(node, family).ok_or_else(|| {
                line.error(
                    format!("node=ADDRESS, since the node line has no {family} address"),
                    from,
                )
            })?;
            (Arrival::Node, own)
        }
        Some(("node", own)) => (Arrival::Node, canonical(line, own)?),
        _ => (Arrival::Link, canonical(line, from)?),
    };
    if arrival == Arrival::Node && interface.is_some() {
        return Err(line.error("no interface: the node's own packets arrive at none", from));
    }
    if Family::of(source) != family {
        return Err(line.error(format!("an {family} source, as the destination is"), from));
    }
    Ok(Packet {
        arrival,
        interface,
        source,
        destination,
        protocol,
        port,
    })
}

/// An address in a packet: those are canonical by nature.
fn canonical(line: &Line, text: &str) -> Result<IpAddr> {
    parse_address(text).ok_or_else(|| line.error("an IP address", text))
}

fn destination(line: &Line, text: &str) -> Result<(IpAddr, u16, Protocol)> {
    let expected = "ADDRESS:PORT/PROTOCOL, an IPv6 address in brackets";
    let (place, protocol) = text
        .rsplit_once('/')
        .ok_or_else(|| line.error(expected, text))?;
    let (address, port) = place_of(line, place)?;
    let port = port.ok_or_else(|| line.error(expected, text))?;
    Ok((address, port, line.protocol(protocol)?))
}

/// `10.0.0.1`, `10.0.0.1:80`, `fd00::1`, `[fd00::1]` or `[fd00::1]:80`
fn place_of(line: &Line, text: &str) -> Result<(IpAddr, Option<u16>)> {
    let (address, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest
                .split_once(']')
                .ok_or_else(|| line.error("`]` after the IPv6 address", text))?;
            (address, rest.strip_prefix(':'))
        }
        None if text.matches(':').count() == 1 => {
            let (address, port) = text.split_once(':').unwrap_or((text, ""));
            (address, Some(port))
        }
        None => (text, None),
    };
    let port = port.map(|port| line.port(port)).transpose()?;
    Ok((canonical(line, address)?, port))
}

fn expect(line: &Line, words: &[&str], because: &str, packet: &Packet) -> Result<Expect> {
    match words {
        ["refuse"] => Ok(Expect::Refuse(reason(line, because)?)),
        ["drop"] => Ok(Expect::Drop(reason(line, because)?)),
        ["untouched"] => Ok(Expect::Untouched),
        ["refuse" | "drop" | "untouched", more, ..] => Err(line.error("`because`", more)),
        _ => forward(line, words, packet),
    }
}

fn reason(line: &Line, word: &str) -> Result<Reason> {
    let word = word.trim_end_matches([':', ',']);
    let known = REASONS.into_iter().find(|r| r.to_string() == word);
    known.ok_or_else(|| {
        let words = REASONS.map(|reason| reason.to_string()).join(", ");
        line.error(format!("the reason's own word first: one of {words}"), word)
    })
}

fn forward(line: &Line, words: &[&str], packet: &Packet) -> Result<Expect> {
    let mut places = Vec::new();
    let (mut all, mut choice) = (None, Choice::Anew);
    for word in words {
        match *word {
            "source-kept" | "masqueraded" if all.is_some() => {
                return Err(line.error("one of source-kept and masqueraded", word));
            }
            "source-kept" => all = Some(SourceSeen::Kept),
            "masqueraded" => all = Some(SourceSeen::Masqueraded),
            "sticky" => choice = Choice::Sticky,
            word => match word.strip_prefix("sticky=") {
                Some(mark) => choice = Choice::StickyWith(mark.to_owned()),
                None => places.push(target(line, word, packet)?),
            },
        }
    }
    if places.is_empty() {
        return Err(line.error(VERDICTS, words.first().copied().unwrap_or_default()));
    }
    let targets = places.into_iter().map(|(address, port, own)| {
        let source = own
            .or(all)
            .ok_or_else(|| line.error("the source seen: source-kept or masqueraded", ""))?;
        Ok(Target {
            address,
            port,
            source,
        })
    });
    let mut targets = targets.collect::<Result<Vec<_>>>()?;
    targets.sort_unstable();
    targets.dedup();
    Ok(Expect::Forward { targets, choice })
}

type Place = (IpAddr, u16, Option<SourceSeen>);

/// `ADDRESS[:PORT][=source-kept|=masqueraded]`; without a port the one that the packet was sent to.
fn target(line: &Line, word: &str, packet: &Packet) -> Result<Place> {
    let (place, source) = match word.split_once('=') {
        None => (word, None),
        Some((place, "source-kept")) => (place, Some(SourceSeen::Kept)),
        Some((place, "masqueraded")) => (place, Some(SourceSeen::Masqueraded)),
        Some((_, other)) => return Err(line.error("source-kept or masqueraded", other)),
    };
    if !place.starts_with(|c: char| c.is_ascii_hexdigit() || c == '[' || c == ':') {
        return Err(line.error(VERDICTS, word));
    }
    let (address, port) = place_of(line, place)?;
    Ok((address, port.unwrap_or(packet.port), source))
}
