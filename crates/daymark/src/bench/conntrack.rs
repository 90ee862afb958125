//! The conntrack reconciler: a large table, and many places that changed at once.
//!
//! The flows are put into the kernel's table by hand, in a network namespace of its own. How large a table may be is the
//! machine's (`net.netfilter.nf_conntrack_max`): where it is less than was asked for, there are as many as it takes.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, ensure};
use daymark_case::Case;
use daymark_dataplane::conntrack::{Which, forget};
use daymark_model::flows::{self, Verdicts};
use daymark_model::{Options, Protocol, World};
use daymark_netlink::ct::{Flow, Ports, Status, Tuple};
use daymark_sys::netlink::NfSocket;
use daymark_sys::ns::NetNs;

use super::{Figure, Measurement, Sizes, clock};

/// One flow of so many is to an endpoint that left.
const STALE: usize = 20;

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
    let limit = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max");
    let limit: usize = limit.context("nf_conntrack_max")?.trim().parse()?;
    let entries = sizes.flows.min(limit / 10 * 9);
    let places = sizes.ports;
    let mut socket = NfSocket::open()?;
    for number in 0..entries {
        socket.add_flow(&flow(number, places))?;
    }
    let before = resident_and_reset_peak()?;
    let (verdicts, started) = changed(places)?;
    let forgotten = forget(&mut socket, &verdicts, Which::Datagrams)?;
    let took = (clock::now() - started).as_secs_f64() * 1000.0;
    let stale = entries.div_ceil(STALE);
    ensure!(
        forgotten.flows == [stale, 0],
        "{:?} flows were forgotten, {stale} are stale",
        forgotten.flows
    );
    Ok(Run {
        took,
        walks: forgotten.walks as f64,
        memory: (status("VmHWM:")? - before).max(0.0) / 1e6,
        entries,
        places,
    })
}

/// The verdicts of a batch in which every port lost an endpoint, and when judging began.
fn changed(places: usize) -> anyhow::Result<(Verdicts, std::time::Instant)> {
    let mut text = String::new();
    let mut gone = String::from("step then\n");
    for place in 0..places {
        let [living, left] = [0, 1].map(|which| endpoint(place, which));
        text += &format!("service s{place} ClusterIP 53/UDP cluster={}\n", vip(place));
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

fn vip(place: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 96, 0, 0).to_bits() + 1 + place as u32)
}

fn endpoint(place: usize, which: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 200, 0, 0).to_bits() + 2 * place as u32 + which + 1)
}

/// An answered flow of a client of its own.
fn flow(number: usize, places: usize) -> Flow {
    let place = number % places;
    let which = u32::from(number.is_multiple_of(STALE));
    let client = Ipv4Addr::from_bits(Ipv4Addr::new(10, 128, 0, 0).to_bits() + number as u32 + 1);
    let udp = |src: Ipv4Addr, dst: Ipv4Addr, ports| Tuple {
        src: IpAddr::V4(src),
        dst: IpAddr::V4(dst),
        protocol: Protocol::Udp.number(),
        ports,
    };
    let ports = |src, dst| Ports::Pair { src, dst };
    Flow {
        original: udp(client, vip(place), ports(4000, 53)),
        reply: udp(endpoint(place, which), client, ports(53, 4000)),
        zone: 0,
        status: Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED | Status::DST_NAT,
        mark: 0,
        timeout: Some(3600),
        id: None,
        tcp: None,
    }
}

/// Makes what the process holds now its peak, and says how many bytes that are.
fn resident_and_reset_peak() -> anyhow::Result<f64> {
    // `5` of proc(5), "/proc/pid/clear_refs".
    fs::write("/proc/self/clear_refs", "5").context("/proc/self/clear_refs")?;
    status("VmRSS:")
}

/// A figure of `/proc/self/status`, in bytes.
fn status(field: &str) -> anyhow::Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next());
    let kilobytes: f64 = kilobytes
        .context("no such line in /proc/self/status")?
        .parse()?;
    Ok(kilobytes * 1024.0)
}
