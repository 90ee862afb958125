//! Which Service gets which addresses: one pure function of Services, pools and what was given before.
//!
//! In this order, so that a restart or a newcomer takes nothing from anybody:
//! 1. what a Service already has it keeps, if it still may (older Services first);
//! 2. addresses asked for by name;
//! 3. the lowest free address of the pool asked for;
//! 4. the lowest free address of the first pool that gives by itself.
//!
//! A Service gets one address of each of its `ipFamilies`. A family that cannot be served is reported and
//! does not keep the other from being served. Addresses asked for by name are the whole list: nothing is
//! added to them, and one that cannot be given is reported while the others are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use daymark_feed::record::{Assignment, ObjectKey};
use daymark_model::input::LoadBalancerRequest;
use daymark_model::{Family, Service, ServiceKey};

use crate::pool::{Pool, Pools};
pub use crate::refusal::Refusal;
use crate::reserved::Holder;

/// A Service that asks for addresses, and what it was given before.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// The Service, of type LoadBalancer and of our class.
    pub service: &'a Service,
    /// What it holds: from an earlier round, or else from its status.
    pub held: Vec<IpAddr>,
}

/// Who gets what, and what could not be given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignments {
    /// Every Service that asked.
    pub services: BTreeMap<ServiceKey, Outcome>,
    /// How much of each pool is given away.
    pub usage: BTreeMap<ObjectKey, Usage>,
}

/// What one Service gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Its addresses in the order of its families, each with the pool it comes from.
    pub given: Vec<(IpAddr, ObjectKey)>,
    /// What it asked for and does not get, with the reason.
    pub refused: Vec<Refusal>,
    /// What it had and must give up, with the reason.
    pub lost: Vec<(IpAddr, Lost)>,
}

impl Outcome {
    /// The addresses alone.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.given.iter().map(|(address, _)| *address).collect()
    }

    /// The pools they come from, each once.
    #[must_use]
    pub fn pools(&self) -> Vec<&ObjectKey> {
        let mut pools: Vec<_> = self.given.iter().map(|(_, pool)| pool).collect();
        pools.dedup();
        pools
    }
}

/// Why a Service cannot keep an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// No pool holds it any more.
    #[error("no IPAddressPool holds it any more")]
    NoPool,
    /// It is of a family that the Service no longer has, or the second of one.
    #[error("spec.ipFamilies of the Service leaves no place for it")]
    Family,
    /// The Service now asks for other addresses.
    #[error("the Service asks for other addresses")]
    NotAsked,
    /// The Service now asks for another pool.
    #[error("the Service asks for IPAddressPool {0:?}")]
    OtherPool(Arc<str>),
    /// It is a Node's, a Pod's or a cluster IP.
    #[error("it is never given, because {0}")]
    Reserved(Holder),
    /// An older Service has it too.
    #[error("Service {0} has it and is older")]
    Taken(ServiceKey),
}

/// How much of a pool is given away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// IPv4 addresses that Services have.
    pub assigned_v4: u64,
    /// IPv6 addresses that Services have.
    pub assigned_v6: u64,
    /// IPv4 addresses that are free.
    pub available_v4: u128,
    /// IPv6 addresses that are free.
    pub available_v6: u128,
}

/// Gives every claim its addresses. The same input always gives the same output, whatever its order.
#[must_use]
pub fn allocate(pools: &Pools, mut claims: Vec<Claim<'_>>) -> Assignments {
    claims.sort_by_key(|claim| (claim.service.created, claim.service.key.clone()));
    let mut round = Round {
        pools,
        taken: BTreeMap::new(),
        cursors: BTreeMap::new(),
        out: Assignments::default(),
    };
    for claim in &claims {
        round.keep(claim);
    }
    for claim in claims.iter().filter(|claim| names_some(claim)) {
        round.give_asked(claim);
    }
    for claim in claims.iter().filter(|claim| !names_some(claim)) {
        round.give_any(claim);
    }
    round.finish(&claims)
}

fn request<'a>(claim: &Claim<'a>) -> Option<&'a LoadBalancerRequest> {
    claim.service.load_balancer.as_deref()
}

fn asked<'a>(claim: &Claim<'a>) -> &'a [IpAddr] {
    request(claim).map_or(&[], |request| &request.addresses)
}

/// Whether addresses are asked for by name, readable or not: then no other one is given.
fn names_some(claim: &Claim<'_>) -> bool {
    request(claim)
        .is_some_and(|request| !request.addresses.is_empty() || !request.unreadable.is_empty())
}

fn asked_pool<'a>(claim: &Claim<'a>) -> Option<&'a Arc<str>> {
    request(claim).and_then(|request| request.pool.as_ref())
}

struct Round<'p> {
    pools: &'p Pools,
    taken: BTreeMap<IpAddr, ServiceKey>,
    /// The last address given from a pool: within a round nothing is freed, so no search starts earlier.
    cursors: BTreeMap<(&'p ObjectKey, Family), IpAddr>,
    out: Assignments,
}

impl<'p> Round<'p> {
    fn outcome(&mut self, claim: &Claim) -> &mut Outcome {
        self.out
            .services
            .entry(claim.service.key.clone())
            .or_default()
    }

    fn give(&mut self, claim: &Claim, address: IpAddr, pool: &Pool) {
        self.taken.insert(address, claim.service.key.clone());
        self.outcome(claim)
            .given
            .push((address, pool.key().clone()));
    }

    fn keep(&mut self, claim: &Claim) {
        self.outcome(claim);
        for address in claim.held.iter().copied().collect::<BTreeSet<_>>() {
            match self.may_keep(claim, address) {
                Ok(pool) => self.give(claim, address, pool),
                Err(why) => self.outcome(claim).lost.push((address, why)),
            }
        }
    }

    fn may_keep(&mut self, claim: &Claim, address: IpAddr) -> Result<&'p Pool, Lost> {
        if let Some(holder) = self.pools.reserved().holder(address) {
            return Err(Lost::Reserved(holder.clone()));
        }
        let pool = self
            .pools
            .of_given(address, claim.service)
            .ok_or(Lost::NoPool)?;
        let family = Family::of(address);
        if !claim.service.families.contains(&family) || self.has(claim, family) {
            return Err(Lost::Family);
        }
        if names_some(claim) && !asked(claim).contains(&address) {
            return Err(Lost::NotAsked);
        }
        if let Some(name) = asked_pool(claim).filter(|name| **name != pool.key().name) {
            return Err(Lost::OtherPool(Arc::clone(name)));
        }
        match self.taken.get(&address) {
            Some(holder) => Err(Lost::Taken(holder.clone())),
            None => Ok(pool),
        }
    }

    fn has(&mut self, claim: &Claim, family: Family) -> bool {
        self.outcome(claim)
            .given
            .iter()
            .any(|(address, _)| Family::of(*address) == family)
    }

    fn give_asked(&mut self, claim: &Claim) {
        for address in asked(claim).iter().copied() {
            if self.taken.get(&address) == Some(&claim.service.key) {
                continue;
            }
            match self.may_give(claim, address) {
                Ok(pool) => self.give(claim, address, pool),
                Err(refusal) => self.outcome(claim).refused.push(refusal),
            }
        }
        for text in request(claim).map_or(&[][..], |request| &request.unreadable) {
            let text = Arc::clone(text);
            self.outcome(claim)
                .refused
                .push(Refusal::Unreadable { text });
        }
    }

    fn may_give(&mut self, claim: &Claim, address: IpAddr) -> Result<&'p Pool, Refusal> {
        let family = Family::of(address);
        if !claim.service.families.contains(&family) {
            return Err(Refusal::WrongFamily {
                address,
                families: claim.service.families.clone(),
            });
        }
        if self.has(claim, family) {
            return Err(Refusal::SecondOfFamily { address });
        }
        if let Some(holder) = self.pools.reserved().holder(address) {
            let holder = holder.clone();
            return Err(Refusal::Reserved { address, holder });
        }
        let pool = self
            .pools
            .of(address)
            .ok_or(Refusal::OutsidePools { address })?;
        if let Some(wanted) = asked_pool(claim).filter(|name| **name != pool.key().name) {
            return Err(Refusal::OutsidePool {
                address,
                wanted: Arc::clone(wanted),
                holds: pool.key().clone(),
            });
        }
        usable(pool)?;
        match self.taken.get(&address) {
            Some(by) => Err(Refusal::Taken {
                address,
                by: by.clone(),
            }),
            None => Ok(pool),
        }
    }

    fn give_any(&mut self, claim: &Claim) {
        for family in claim.service.families.iter().copied() {
            if self.has(claim, family) {
                continue;
            }
            match self.find(claim, family) {
                Ok((address, pool)) => self.give(claim, address, pool),
                Err(refusal) => self.outcome(claim).refused.push(refusal),
            }
        }
    }

    fn find(&mut self, claim: &Claim, family: Family) -> Result<(IpAddr, &'p Pool), Refusal> {
        let candidates = self.candidates(claim, family)?;
        for pool in &candidates {
            let start = self.cursors.get(&(pool.key(), family)).copied();
            let taken = &self.taken;
            if let Some(address) =
                pool.first_free(family, start, |address| !taken.contains_key(&address))
            {
                self.cursors.insert((pool.key(), family), address);
                return Ok((address, pool));
            }
        }
        Err(Refusal::Exhausted {
            family,
            pools: candidates.iter().map(|pool| pool.key().clone()).collect(),
        })
    }

    /// The pools that may serve a family of this Service, in order, at least one.
    fn candidates(&self, claim: &Claim, family: Family) -> Result<Vec<&'p Pool>, Refusal> {
        if let Some(name) = asked_pool(claim) {
            let pool = self.pools.named(name).ok_or_else(|| Refusal::NoSuchPool {
                name: Arc::clone(name),
            })?;
            usable(pool)?;
            return if pool.has(family) {
                Ok(vec![pool])
            } else {
                Err(Refusal::PoolLacksFamily {
                    pool: pool.key().clone(),
                    family,
                })
            };
        }
        if self.pools.is_empty() {
            return Err(Refusal::NoPools);
        }
        let gives = |pool: &&Pool| {
            pool.assignment() == Assignment::Automatic && usable(pool).is_ok() && pool.has(family)
        };
        let pools: Vec<_> = self.pools.iter().filter(gives).collect();
        if pools.is_empty() {
            Err(Refusal::NoPoolOfFamily { family })
        } else {
            Ok(pools)
        }
    }

    fn finish(mut self, claims: &[Claim]) -> Assignments {
        for claim in claims {
            let families = &claim.service.families;
            let place = |address: &IpAddr| {
                families
                    .iter()
                    .position(|family| *family == Family::of(*address))
            };
            self.outcome(claim)
                .given
                .sort_by_key(|(address, _)| place(address));
        }
        let given = self
            .out
            .services
            .values()
            .flat_map(|outcome| &outcome.given);
        let mut usage: BTreeMap<ObjectKey, Usage> = self
            .pools
            .iter()
            .map(|pool| (pool.key().clone(), Usage::default()))
            .collect();
        for (address, pool) in given {
            let usage = usage.entry(pool.clone()).or_default();
            match Family::of(*address) {
                Family::V4 => usage.assigned_v4 += 1,
                Family::V6 => usage.assigned_v6 += 1,
            }
        }
        for pool in self.pools.iter() {
            let usage = usage.entry(pool.key().clone()).or_default();
            usage.available_v4 = pool
                .size(Family::V4)
                .saturating_sub(usage.assigned_v4.into());
            usage.available_v6 = pool
                .size(Family::V6)
                .saturating_sub(usage.assigned_v6.into());
        }
        self.out.usage = usage;
        self.out
    }
}

/// Nothing new is given from a pool whose `spec` holds a restriction that this version cannot keep.
fn usable(pool: &Pool) -> Result<(), Refusal> {
    if pool.unknown_fields().is_empty() {
        Ok(())
    } else {
        Err(Refusal::Unsupported {
            pool: pool.key().clone(),
            fields: pool.unknown_fields().to_vec(),
        })
    }
}

#[cfg(test)]
mod tests;
