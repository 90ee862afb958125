//! The cluster's records, kept change by change, and the answer to one question.
//!
//! In order:
//! 1. a name under a reverse zone: the Service or the endpoints that have the address ([`reverse`]);
//! 2. a name under the cluster's zone: by its shape ([`lookup`]);
//! 3. any other: somebody else's.
//!
//! A and AAAA of one name always have the same RCODE: whether a name exists is decided before its
//! type is looked at.

mod answer;
mod endpoints;
mod lookup;
mod reverse;
mod store;

use hickory_proto::rr::{Name, RecordType};

pub use self::answer::{Answer, Outcome};
pub use self::store::Hold;
use self::store::Store;
use crate::config::{Config, PodNames};
use daymark_feed::Batch;
use daymark_model::ServiceKey;

/// The cluster's zone.
#[derive(Debug)]
pub struct Zone {
    origin: Name,
    /// The labels of the origin, lower case.
    suffix: Vec<String>,
    reverse_zones: Vec<Name>,
    service: ServiceKey,
    pods: PodNames,
    ttl: u32,
    serial: u32,
    synced: Synced,
    store: Store,
}

/// Whether the first whole state has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Synced {
    NotYet,
    Once,
}

/// A setting that is no domain name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {text:?} is not a domain name: {reason}")]
pub struct BadName {
    field: &'static str,
    text: String,
    reason: String,
}

impl Zone {
    /// A zone without records, which answers nothing until the first batch.
    ///
    /// # Errors
    /// If the zone or a reverse zone is not a domain name.
    pub fn new(config: &Config) -> Result<Self, BadName> {
        let origin = parse("zone", &config.zone)?;
        let reverse_zones = config
            .reverse_zones
            .iter()
            .map(|zone| parse("reverse zone", zone));
        Ok(Self {
            suffix: lookup::labels(&origin).unwrap_or_default(),
            origin,
            reverse_zones: reverse_zones.collect::<Result<_, _>>()?,
            service: config.service.clone(),
            pods: config.pods,
            ttl: config.ttl,
            serial: 0,
            synced: Synced::NotYet,
            store: Store::default(),
        })
    }

    /// Takes in a batch at a time (seconds since 1970, the serial of what changed). With
    /// [`Hold::ForPlane`] a Service with a cluster IP that was not there before keeps what it had,
    /// or stays unknown, until [`Self::release`]; the whole state is never held. Returns how many
    /// Services are newly held.
    pub fn apply(&mut self, batch: &Batch, hold: Hold, serial: u32) -> usize {
        self.serial = serial;
        let hold = if self.synced == Synced::NotYet {
            Hold::Nothing
        } else {
            hold
        };
        self.synced = Synced::Once;
        batch
            .events
            .iter()
            .map(|event| self.store.apply(event, hold, batch.number))
            .sum()
    }

    /// Publishes what came up to this batch; returns how many Services that were.
    pub fn release(&mut self, number: u64) -> usize {
        self.store.release(number)
    }

    /// The answer to a question of class IN.
    #[must_use]
    pub fn answer(&self, name: &Name, kind: RecordType) -> Outcome {
        if let Some(outcome) = self.answer_reverse(name, kind) {
            return outcome;
        }
        if !self.origin.zone_of(name) {
            return Outcome::Elsewhere;
        }
        if self.synced == Synced::NotYet {
            return Outcome::NotReady;
        }
        self.answer_forward(name, kind)
    }
}

fn parse(field: &'static str, text: &str) -> Result<Name, BadName> {
    let mut name = Name::from_ascii(text).map_err(|error| BadName {
        field,
        text: text.to_owned(),
        reason: error.to_string(),
    })?;
    name.set_fqdn(true);
    Ok(name)
}

#[cfg(test)]
mod tests;
