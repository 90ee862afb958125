//! The conntrack reconciler: a large table, and many places that changed at once.
//!
//! The flows are put into the kernel's table by hand, in a network namespace of its own. How large a table may be is the
//! machine's (`net.netfilter.nf_conntrack_max`): where it is less than was asked for, there are as many as it takes.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use anyhow::{Context, ensure};
use daymark_case::Case;
use daymark_dataplane::conntrack::{Which, forget};
use daymark_model::flows::{self, Verdicts};
use daymark_model::{Options, Protocol, World};
use daymark_netlink::ct::{Flow, Ports, Status, Tuple};
use daymark_sys::netlink::NfSocket;
use daymark_sys::ns::NetNs;

use super::ground::{memory, reset_peak};
use super::{Figure, Measurement, Sizes, clock};

/// One flow of so many is to an endpoint that left.
pub(super) const STALE: usize = 20;

struct Run {
    /// Milliseconds, with judging the places.
    took: f64,
    walks: f64,
    /// Megabytes above what the process held before.
    memory: f64,
    entries: usize,
    places: usize,
}

/// `conntrack`.
pub(crate) fn run(sizes: &Sizes, runs: usize) -> anyhow::Result<Vec<Figure>> {
    let runs: Vec<Run> = (0..runs)
        .map(|_| NetNs::create()?.run(|| one(sizes))?)
        .collect::<Result<_, _>>()?;
    let (entries, places) = runs.first().map_or((0, 0), |run| (run.entries, run.places));
    let figure = |name: &str, what: String, unit, value: fn(&Run) -> f64, goal| Figure {
        of: Measurement::Conntrack,
        name: name.to_owned(),
        what,
        unit,
        runs: runs.iter().map(value).collect(),
        goal,
    };
    Ok(vec![
        figure(
            "conntrack",
            format!(
                "{entries} tracked UDP flows, {places} changed ports: judged, listed, 1 in {STALE} forgotten"
            ),
            "ms",
            |run| run.took,
            None,
        ),
        figure(
            "conntrack-walks",
            "walks of the kernel's table, both families".to_owned(),
            "",
            |run| run.walks,
            Some(super::figure::Goal::AtMost(2.0)),
        ),
        figure(
            "conntrack-memory",
            "memory that it takes at its peak".to_owned(),
            "MB",
            |run| run.memory,
            None,
        ),
    ])
}

fn one(sizes: &Sizes) -> anyhow::Result<Run> {
    let entries = room_for(sizes.flows)?;
    let places = sizes.ports;
    let mut socket = NfSocket::open()?;
    let flows = (0..entries).map(|number| {
        let (place, which) = (number % places, u32::from(is_stale(number, places)));
        flow(number, vip(place), endpoint(place, which))
    });
    let mut stale = 0;
    for (number, flow) in flows.enumerate() {
        socket.add_flow(&flow)?;
        stale += usize::from(is_stale(number, places));
    }
    reset_peak("self")?;
    let before = memory("self", "VmRSS:")?;
    let (verdicts, started) = changed(places)?;
    let forgotten = forget(&mut socket, &verdicts, Which::Datagrams, &mut |_| {})?;
    let took = (clock::now() - started).as_secs_f64() * 1000.0;
    ensure!(
        forgotten.flows == [stale, 0],
        "{:?} flows were forgotten, {stale} are stale",
        forgotten.flows
    );
    Ok(Run {
        took,
        walks: forgotten.walks as f64,
        memory: (memory("self", "VmHWM:")? - before).max(0.0) / 1e6,
        entries,
        places,
    })
}

/// So many flows, or as many as the kernel's table takes.
pub(super) fn room_for(flows: usize) -> anyhow::Result<usize> {
    let limit = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max");
    let limit: usize = limit.context("nf_conntrack_max")?.trim().parse()?;
    Ok(flows.min(limit / 10 * 9))
}

/// Whether a flow, by its number, is to an endpoint that leaves: one in [`STALE`] of those of each place.
pub(super) fn is_stale(number: usize, places: usize) -> bool {
    (number / places).is_multiple_of(STALE)
}

/// The verdicts of a batch in which every port lost an endpoint, and when judging began.
fn changed(places: usize) -> anyhow::Result<(Verdicts, std::time::Instant)> {
    let mut text = String::new();
    let mut gone = String::from("step then\n");
    for place in 0..places {
        let [living, left] = [0, 1].map(|which| *endpoint(place, which).ip());
        let vip = vip(place);
        text += &format!("service s{place} ClusterIP 53/UDP cluster={}\n", vip.ip());
        text += &format!("endpoint {living} ready on a\nendpoint {left} ready on b\n");
        gone += &format!("remove endpoint {left} of s{place}\n");
    }
    let case = Case::parse("conntrack", &(text + &gone))?;
    let mut world = World::new(Options::default());
    world.apply(case.steps[0].changes.iter().cloned());
    let changes = case.steps[1].changes.clone();
    let started = clock::now();
    let suspects = flows::suspects(&world, &changes);
    world.apply(changes);
    Ok((suspects.judge(&world), started))
}

fn vip(place: usize) -> SocketAddrV4 {
    SocketAddrV4::new(nth(Ipv4Addr::new(10, 96, 0, 1), place), 53)
}

fn endpoint(place: usize, which: u32) -> SocketAddrV4 {
    let first = nth(Ipv4Addr::new(10, 200, 0, 1), 2 * place);
    SocketAddrV4::new(nth(first, which as usize), 53)
}

/// The address so many after another.
pub(super) fn nth(first: Ipv4Addr, number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(first.to_bits() + number as u32)
}

/// An answered flow of a client of its own.
pub(super) fn flow(number: usize, place: SocketAddrV4, endpoint: SocketAddrV4) -> Flow {
    let client = SocketAddrV4::new(nth(Ipv4Addr::new(10, 128, 0, 1), number), 4000);
    let udp = |src: SocketAddrV4, dst: SocketAddrV4| Tuple {
        src: IpAddr::V4(*src.ip()),
        dst: IpAddr::V4(*dst.ip()),
        protocol: Protocol::Udp.number(),
        ports: Ports::Pair {
            src: src.port(),
            dst: dst.port(),
        },
    };
    Flow {
        original: udp(client, place),
        reply: udp(endpoint, client),
        zone: 0,
        status: Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED | Status::DST_NAT,
        mark: 0,
        timeout: Some(3600),
        id: None,
        tcp: None,
    }
}
