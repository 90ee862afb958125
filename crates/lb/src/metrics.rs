//! Counters of an announcer, for an agent to expose.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::election::Owner;
use crate::l2::Drop;

/// What an announcer counted since it started, and who answers for what.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Questions answered, ARP and neighbour solicitations together.
    pub answered: AtomicU64,
    /// Unsolicited announcements sent.
    pub announced: AtomicU64,
    /// Frames that could not be sent.
    pub send_failures: AtomicU64,
    /// Interfaces that could not be answered on.
    pub interface_failures: AtomicU64,
    /// Renewals of the own Lease that failed or took too long.
    pub renewal_failures: AtomicU64,
    /// Whether this node may answer now: its Lease is renewed, and seen to be.
    pub lively: AtomicBool,
    drops: [AtomicU64; Drop::ALL.len()],
    owners: Mutex<BTreeMap<IpAddr, Owner>>,
    answering: Mutex<BTreeMap<IpAddr, Vec<String>>>,
}

impl Metrics {
    /// Frames that were not answered for this reason.
    #[must_use]
    pub fn dropped(&self, reason: Drop) -> u64 {
        self.drops[reason as usize].load(Ordering::Relaxed)
    }

    /// Who answers for each load-balancer address, as this node sees it.
    #[must_use]
    pub fn owners(&self) -> BTreeMap<IpAddr, Owner> {
        self.owners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The addresses that this node answers for, with the names of the interfaces.
    #[must_use]
    pub fn answering(&self) -> BTreeMap<IpAddr, Vec<String>> {
        self.answering
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn count_drop(&self, reason: Drop) {
        add(&self.drops[reason as usize]);
    }

    pub(crate) fn set_owners(&self, owners: BTreeMap<IpAddr, Owner>) {
        *self.owners.lock().unwrap_or_else(PoisonError::into_inner) = owners;
    }

    /// Who answers for one address now; `None` when no Service has it any more.
    pub(crate) fn set_owner(&self, address: IpAddr, owner: Option<Owner>) {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        match owner {
            Some(owner) => owners.insert(address, owner),
            None => owners.remove(&address),
        };
    }

    pub(crate) fn set_answering(&self, answering: BTreeMap<IpAddr, Vec<String>>) {
        *self
            .answering
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = answering;
    }
}

pub(crate) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
