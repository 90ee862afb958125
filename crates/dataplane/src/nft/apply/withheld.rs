//! What the kernel refused, kept out of the tables so that everything else goes on.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use daymark_model::desired::PortName;
use daymark_model::{Delta, Desired};

use crate::nft::compile::{Of, Subject};

/// Service ports and addresses that are not in the tables though they should be, with the reason for each.
#[derive(Clone, Debug, Default)]
pub struct Withheld {
    why: BTreeMap<Subject, Why>,
    /// What is wanted of them.
    kept: Desired,
}

/// Why something is not in the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// What the kernel refused, as `nft` would print it.
    pub shown: String,
    /// The error text of the system.
    pub reason: String,
}

impl Withheld {
    /// All of it.
    pub fn iter(&self) -> impl Iterator<Item = (&Subject, &Why)> {
        self.why.iter()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.why.is_empty()
    }

    /// Whether this is not in the tables.
    #[must_use]
    pub fn holds(&self, subject: &Subject) -> bool {
        self.why.contains_key(subject)
    }

    /// A change for the tables. What it touches of the things here is tried again, as a whole; what it does not touch stays
    /// here.
    pub(super) fn admit<'a>(&mut self, delta: &'a Delta) -> Cow<'a, Delta> {
        if self.why.is_empty() {
            return Cow::Borrowed(delta);
        }
        let touched = self.touched(delta);
        let released = self.release(&touched);
        let mut admitted = delta.clone();
        for (at, frontend) in released.frontends {
            admitted.frontends.entry(at).or_insert(frontend);
        }
        for (key, pool) in released.pools {
            admitted.pools.entry(key).or_insert(pool);
        }
        // What goes and was never in the tables has not to be removed there.
        for (of, changes) in [
            (Of::Services, &mut admitted.service_addresses),
            (Of::LocalBackend, &mut admitted.local_backends),
            (Of::NodePorts, &mut admitted.node_port_addresses),
            (Of::Outer, &mut admitted.outer_addresses),
            (Of::Spared, &mut admitted.spared_addresses),
        ] {
            changes.retain(|ip, present| *present || !touched.contains(&Subject::Address(of, *ip)));
        }
        Cow::Owned(admitted)
    }

    fn touched(&self, delta: &Delta) -> BTreeSet<Subject> {
        let mut ports: BTreeSet<&Arc<PortName>> = delta.pools.keys().map(|key| &key.port).collect();
        for (at, frontend) in &delta.frontends {
            ports.extend(frontend.as_ref().map(|frontend| &frontend.port));
            ports.extend(self.kept.frontends.get(at).map(|frontend| &frontend.port));
        }
        let addresses = [
            (Of::Services, &delta.service_addresses),
            (Of::LocalBackend, &delta.local_backends),
            (Of::NodePorts, &delta.node_port_addresses),
            (Of::Outer, &delta.outer_addresses),
            (Of::Spared, &delta.spared_addresses),
        ];
        let addresses = addresses
            .into_iter()
            .flat_map(|(of, changed)| changed.keys().map(move |ip| Subject::Address(of, *ip)));
        let ports = ports.into_iter().cloned().map(Subject::Port);
        ports
            .chain(addresses)
            .filter(|subject| self.why.contains_key(subject))
            .collect()
    }

    /// Forgets that these were refused: the change that puts them into the tables.
    pub(super) fn release(&mut self, subjects: &BTreeSet<Subject>) -> Delta {
        self.why.retain(|subject, _| !subjects.contains(subject));
        let released = select(&self.kept, |subject| subjects.contains(subject));
        going(&released).apply_to(&mut self.kept);
        coming(&released)
    }

    /// Keeps these out of tables that hold `present`: the change that removes what is there of them.
    pub(super) fn take(&mut self, present: &Desired, subjects: BTreeMap<Subject, Why>) -> Delta {
        let taken = select(present, |subject| subjects.contains_key(subject));
        coming(&taken).apply_to(&mut self.kept);
        self.why.extend(subjects);
        going(&taken)
    }

    /// A whole state without what is kept out of it. What nobody wants any more is forgotten here.
    pub(super) fn without(&mut self, mut desired: Desired) -> Desired {
        if self.why.is_empty() {
            return desired;
        }
        self.kept = select(&desired, |subject| self.why.contains_key(subject));
        going(&self.kept).apply_to(&mut desired);
        let wanted = subjects(&self.kept);
        self.why.retain(|subject, _| wanted.contains(subject));
        desired
    }
}

fn coming(part: &Desired) -> Delta {
    Delta::between(&Desired::default(), part)
}

fn going(part: &Desired) -> Delta {
    Delta::between(part, &Desired::default())
}

/// The part of a state that is about some subjects.
fn select(from: &Desired, is_wanted: impl Fn(&Subject) -> bool) -> Desired {
    let of_port = |port: &Arc<PortName>| is_wanted(&Subject::Port(port.clone()));
    let addresses = |of: Of, all: &BTreeSet<IpAddr>| {
        let wanted = all.iter().copied();
        wanted
            .filter(|ip| is_wanted(&Subject::Address(of, *ip)))
            .collect()
    };
    let frontends = from.frontends.iter();
    let pools = from.pools.iter();
    Desired {
        frontends: frontends
            .filter(|(_, frontend)| of_port(&frontend.port))
            .map(|(at, frontend)| (*at, frontend.clone()))
            .collect(),
        pools: pools
            .filter(|(key, _)| of_port(&key.port))
            .map(|(key, pool)| (key.clone(), pool.clone()))
            .collect(),
        service_addresses: addresses(Of::Services, &from.service_addresses),
        local_backends: addresses(Of::LocalBackend, &from.local_backends),
        node_port_addresses: addresses(Of::NodePorts, &from.node_port_addresses),
        outer_addresses: addresses(Of::Outer, &from.outer_addresses),
        spared_addresses: addresses(Of::Spared, &from.spared_addresses),
        ..Desired::default()
    }
}

/// Everything that a state is about.
fn subjects(of: &Desired) -> BTreeSet<Subject> {
    let ports = of.frontends.values().map(|frontend| &frontend.port);
    let ports = ports.chain(of.pools.keys().map(|key| &key.port));
    let mut all: BTreeSet<Subject> = ports.cloned().map(Subject::Port).collect();
    for (what, addresses) in [
        (Of::Services, &of.service_addresses),
        (Of::LocalBackend, &of.local_backends),
        (Of::NodePorts, &of.node_port_addresses),
        (Of::Outer, &of.outer_addresses),
        (Of::Spared, &of.spared_addresses),
    ] {
        all.extend(addresses.iter().map(|ip| Subject::Address(what, *ip)));
    }
    all
}
