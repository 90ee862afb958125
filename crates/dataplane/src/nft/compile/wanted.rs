//! The elements that a value of the model becomes.

use std::net::IpAddr;

use daymark_model::desired::{
    Action, Backend, Frontend, List, Masquerade, OnLoopback, Pool, Sources,
};
use daymark_model::input::Affinity;
use daymark_model::{Cidr, Family, FrontendKey, InterfacePattern};
use daymark_netlink::nft::{Data, Role, SetElem};

use super::Contents;
use crate::nft::layout::{FrontendValue, backend, flag, frontend_key, octets, set};
use crate::nft::plan::{At, Checked, Fate, Plan};

/// The element of a frontend.
pub(super) fn frontend(key: &FrontendKey, value: &FrontendValue) -> SetElem {
    SetElem::data(frontend_key(key), value.encode())
}

/// The elements of a port's pools under a number: `slots`, and `members` if clients keep backends.
pub(super) fn pool(number: u32, contents: &Contents) -> Vec<(&'static str, SetElem)> {
    let lists = [(number, &contents.cluster), (number | 1, &contents.local)];
    let pools = lists
        .into_iter()
        .filter_map(|(number, pool)| Some((number, pool.as_ref()?)));
    pools
        .flat_map(|(number, pool)| pool_elements(number, pool, contents.sticky))
        .collect()
}

fn pool_elements(number: u32, pool: &Pool, sticky: bool) -> Vec<(&'static str, SetElem)> {
    let mut elements = Vec::with_capacity(pool.backends.len());
    for (at, to) in pool.backends.iter().enumerate() {
        if sticky {
            let data = backend(to.address, to.port);
            let member = Data::concat(&[&number.to_ne_bytes(), &data]);
            elements.push((set::MEMBERS, SetElem::key(member)));
        }
        elements.push((set::SLOTS, slot(number, at, to)));
    }
    elements
}

/// The element of one slot of a pool.
///
/// # Panics
/// Never: a slot's number is below the number of a pool's backends, which fit memory and 32 bits.
pub(super) fn slot(pool: u32, slot: usize, to: &Backend) -> SetElem {
    let slot = u32::try_from(slot).expect("below 2^32");
    let key = Data::concat(&[&pool.to_ne_bytes(), &slot.to_ne_bytes()]);
    SetElem::data(key, backend(to.address, to.port))
}

/// The plans of a frontend for clients inside and outside.
pub(super) fn plans(key: &FrontendKey, frontend: &Frontend, contents: &Contents) -> [Plan; 2] {
    [frontend.inside, frontend.outside].map(|action| plan(key, frontend, action, contents))
}

fn plan(key: &FrontendKey, frontend: &Frontend, action: Action, contents: &Contents) -> Plan {
    let slots = |list| {
        let pool = match list {
            List::Cluster => &contents.cluster,
            List::Local => &contents.local,
        };
        pool.as_ref().map_or(0, |pool| {
            u32::try_from(pool.backends.len()).unwrap_or(u32::MAX)
        })
    };
    let sticky = match frontend.affinity {
        Affinity::None => None,
        Affinity::ClientIp { timeout } => Some(timeout),
    };
    let fate = match action {
        Action::Forward(list) if slots(list) > 0 => Fate::Spread {
            list,
            slots: slots(list),
            sticky,
        },
        Action::Forward(_) | Action::Reject(_) => Fate::Refuse,
        Action::Drop(_) => Fate::Drop,
    };
    let sources = if frontend.sources == Sources::Any {
        Checked::No
    } else {
        Checked::Yes
    };
    let at = match (key, fate) {
        (FrontendKey::NodePort { .. }, Fate::Spread { .. }) => At::NodePort,
        _ => At::Address,
    };
    Plan { at, sources, fate }
}

/// The flags word of a frontend.
pub(super) fn flags(frontend: &Frontend) -> u32 {
    let [node, own_pod, outside] = flag::MASQUERADE;
    let masquerade = match frontend.masquerade {
        Masquerade::Never => 0,
        Masquerade::NodeOnly => node,
        Masquerade::UnlessOwnPod => node | outside,
        Masquerade::Always => node | own_pod | outside,
    };
    let refuses = [frontend.inside, frontend.outside]
        .iter()
        .any(|action| matches!(action, Action::Reject(_)));
    let loopback = match frontend.loopback {
        OnLoopback::LetThrough => 0,
        OnLoopback::Refuse => flag::REFUSE_LOOPBACK,
    };
    masquerade | loopback | if refuses { flag::REFUSE } else { 0 }
}

/// The elements of a frontend's ranges.
pub(super) fn ranges(key: &FrontendKey, sources: &Sources) -> Vec<SetElem> {
    let (FrontendKey::Address { .. }, Sources::Only(ranges)) = (key, sources) else {
        return Vec::new();
    };
    let at = frontend_key(key);
    let element = |range: &Cidr| {
        let first = Data::concat(&[&at, &octets(range.first())]);
        SetElem::key(first).with_key_end(Data::concat(&[&at, &octets(range.last())]))
    };
    ranges.iter().map(element).collect()
}

/// The element of a plain address.
pub(super) fn address(ip: IpAddr) -> SetElem {
    SetElem::key(Data::addr(ip))
}

/// The element of a port.
pub(super) fn port(port: u16) -> SetElem {
    SetElem::key(Data::port(port))
}

/// The element of an address twice.
pub(super) fn pair(ip: IpAddr) -> SetElem {
    SetElem::key(Data::concat(&[&octets(ip), &octets(ip)]))
}

/// The boundaries of interfaces' names.
pub(super) fn interfaces(pattern: Option<InterfacePattern>) -> Vec<SetElem> {
    let Some([first, last]) = pattern.map(InterfacePattern::range) else {
        return Vec::new();
    };
    // No name is all ones.
    let behind = u128::from_be_bytes(last).saturating_add(1).to_be_bytes();
    let end = SetElem::key(Data::new(&behind)).with_role(Role::IntervalEnd);
    vec![SetElem::key(Data::new(&first)), end]
}

/// The boundaries of prefixes: ranges that touch are one range.
pub(super) fn prefixes(all: &[Cidr], family: Family) -> Vec<SetElem> {
    let mut sorted: Vec<Cidr> = all
        .iter()
        .copied()
        .filter(|cidr| cidr.family() == family)
        .collect();
    sorted.sort_unstable();
    let mut merged: Vec<(IpAddr, IpAddr)> = Vec::new();
    for cidr in sorted {
        match merged.last_mut() {
            Some((_, last)) if next(*last).is_none_or(|next| cidr.first() <= next) => {
                *last = (*last).max(cidr.last());
            }
            _ => merged.push((cidr.first(), cidr.last())),
        }
    }
    let mut elements = Vec::new();
    for (first, last) in merged {
        elements.push(address(first));
        elements.extend(next(last).map(|end| address(end).with_role(Role::IntervalEnd)));
    }
    elements
}

fn next(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) => ip
            .to_bits()
            .checked_add(1)
            .map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(ip) => ip
            .to_bits()
            .checked_add(1)
            .map(|bits| IpAddr::V6(bits.into())),
    }
}
