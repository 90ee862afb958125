//! Everything that may happen to a packet, one by one, so that two states can be compared.

use std::collections::BTreeSet;
use std::sync::Arc;

use daymark_dataplane::nft::trace::{self, Host, Outcome, Single};
use daymark_model::desired::{Frontend, Sources};
use daymark_model::{Desired, Family, FrontendKey, Packet, Verdict, decide};

/// What a machine may do with a packet.
pub(crate) fn of_program(host: Host<'_>, packet: &Packet) -> BTreeSet<Single> {
    let outcome = trace::trace(host, packet).expect("a program that fits together");
    match outcome {
        Outcome::Forward(targets) => targets.into_iter().map(Single::Forward).collect(),
        Outcome::Refused => [Single::Refused].into(),
        Outcome::Dropped => [Single::Dropped].into(),
        Outcome::Untouched => [Single::Untouched].into(),
        Outcome::Mixed(singles) => singles.into_iter().collect(),
    }
}

/// What the model may do with a packet.
pub(crate) fn of_model(desired: &Desired, packet: &Packet) -> BTreeSet<Single> {
    match decide(desired, packet) {
        Verdict::Forward(targets) => targets.into_iter().map(Single::Forward).collect(),
        Verdict::Reject(_) => [Single::Refused].into(),
        Verdict::Drop(_) => [Single::Dropped].into(),
        Verdict::Untouched => [Single::Untouched].into(),
    }
}

/// What may happen to a packet while `old` becomes `new`.
///
/// Where one thing changes this is the old verdict or the new one. What changes together, such as a
/// frontend and the addresses at which node ports answer, may be seen one after the other: the parts that a
/// verdict is made of are each old or new.
pub(crate) fn while_changing(old: &Desired, new: &Desired, packet: &Packet) -> BTreeSet<Single> {
    let sides = [old, new];
    let mut all = BTreeSet::new();
    for choice in 0..1024_usize {
        let side = |bit: usize| sides[choice >> bit & 1];
        let at = |desired: &Desired, key: FrontendKey| {
            desired.frontends.get(&key).map(|f| (key, f.clone()))
        };
        let [address, node_port] = keys(packet);
        let found = at(side(0), address)
            .map(|found| (found, side(0)))
            .or_else(|| at(side(1), node_port).map(|found| (found, side(1))));
        let pools = found.as_ref().map(|(_, side)| side.pools.clone());
        let checked = |(key, frontend)| (key, with_ranges_of(side(9), key, frontend));
        let mixed = Desired {
            frontends: found.into_iter().map(|(found, _)| checked(found)).collect(),
            pools: pools.unwrap_or_default(),
            own_pods: side(2).own_pods.clone(),
            own_addresses: new.own_addresses.clone(),
            node_port_addresses: side(3).node_port_addresses.clone(),
            service_addresses: side(4).service_addresses.clone(),
            outer_addresses: side(6).outer_addresses.clone(),
            service_networks: side(7).service_networks.clone(),
            spared_addresses: side(8).spared_addresses.clone(),
            endpoint_ports: new.endpoint_ports.clone(),
            local_backends: side(5).local_backends.clone(),
            // What no packet asks for.
            ..Desired::default()
        };
        all.extend(of_model(&mixed, packet));
    }
    all
}

/// Ranges come before what else changes of a frontend that has some before and behind, and go after it.
fn with_ranges_of(side: &Desired, key: FrontendKey, frontend: Arc<Frontend>) -> Arc<Frontend> {
    let other = side.frontends.get(&key).map(|other| &other.sources);
    let (Sources::Only(_), Some(sources @ Sources::Only(_))) = (&frontend.sources, other) else {
        return frontend;
    };
    Arc::new(Frontend {
        sources: sources.clone(),
        ..Frontend::clone(&frontend)
    })
}

/// The frontends that may catch a packet.
pub(crate) fn keys(packet: &Packet) -> [FrontendKey; 2] {
    let Packet {
        destination: ip,
        protocol,
        port,
        ..
    } = *packet;
    let family = Family::of(ip);
    [
        FrontendKey::Address { ip, protocol, port },
        FrontendKey::NodePort {
            family,
            protocol,
            port,
        },
    ]
}
