//! Node ports, one pool of numbers for all protocols.
//!
//! Source: `pkg/registry/core/service/portallocator` of Kubernetes.

use std::ops::RangeInclusive;

use rand::rand_core::RngCore;
use serde_json::{Value, json};
use thiserror::Error;

use super::Owner;
use super::band::{self, pick};
use crate::registry::validate::read::{deep, text};
use crate::registry::{Effects, View};

/// Where taken node ports are stored: one object a number, never served.
pub const NODE_PORTS: &str = "_nodeports";

/// The default range.
pub const DEFAULT_RANGE: RangeInclusive<u16> = 30000..=32767;

/// Why a node port was not allocated.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PortError {
    /// The server hands out others.
    #[error("provided port is not in the valid range. The range of valid ports is {first}-{last}")]
    OutOfRange {
        /// First port of the range.
        first: u16,
        /// Last port of the range.
        last: u16,
    },
    /// Somebody has it.
    #[error("provided port is already allocated")]
    Taken,
    /// Every port is taken.
    #[error("range is full")]
    Full,
}

/// The node ports of a cluster, as one request sees and changes them.
pub struct Ports<'a> {
    view: &'a dyn View,
    range: RangeInclusive<u16>,
    claimed: Vec<u16>,
    released: Vec<u16>,
}

impl<'a> Ports<'a> {
    /// The ports as the store has them.
    pub fn new(view: &'a dyn View, range: RangeInclusive<u16>) -> Self {
        Self {
            view,
            range,
            claimed: Vec::new(),
            released: Vec::new(),
        }
    }

    /// Takes the port that the client asked for.
    ///
    /// # Errors
    /// [`PortError::OutOfRange`] or [`PortError::Taken`].
    pub fn claim(&mut self, port: i64) -> Result<(), PortError> {
        let (first, last) = (*self.range.start(), *self.range.end());
        let inside = u16::try_from(port)
            .ok()
            .filter(|port| self.range.contains(port));
        let port = inside.ok_or(PortError::OutOfRange { first, last })?;
        if !self.is_free(port) {
            return Err(PortError::Taken);
        }
        self.claimed.push(port);
        Ok(())
    }

    /// Takes a free port.
    ///
    /// # Errors
    /// [`PortError::Full`].
    pub fn next(&mut self, rng: &mut dyn RngCore) -> Result<u16, PortError> {
        let (first, last) = (
            u128::from(*self.range.start()),
            u128::from(*self.range.end()),
        );
        let lower = band::PORTS.width((last + 1).saturating_sub(first));
        let narrow = |n: u128| u16::try_from(n).expect("between the ends of a range of u16");
        let port = pick(first..=last, lower, rng, |n| self.is_free(narrow(n)))
            .map(narrow)
            .ok_or(PortError::Full)?;
        self.claimed.push(port);
        Ok(port)
    }

    /// Gives a port back once the request is stored; until then it stays taken.
    pub fn release(&mut self, port: i64) {
        self.released.extend(u16::try_from(port));
    }

    fn is_free(&self, port: u16) -> bool {
        !self.claimed.contains(&port) && self.view.get(NODE_PORTS, "", &port.to_string()).is_none()
    }

    /// Writes what was taken and what was given back, as far as that is this Service's.
    pub fn commit(&self, owner: Owner<'_>, effects: &mut Effects) {
        for port in &self.released {
            let name = port.to_string();
            if self
                .view
                .get(NODE_PORTS, "", &name)
                .is_some_and(|object| belongs_to(object, owner))
            {
                effects.delete(NODE_PORTS, "", &name);
            }
        }
        for port in &self.claimed {
            effects.put(NODE_PORTS, node_port(*port, owner));
        }
    }
}

/// The object that says who has a port.
pub fn node_port(port: u16, owner: Owner<'_>) -> Value {
    json!({
        "metadata": { "name": port.to_string() },
        "spec": { "service": { "namespace": owner.namespace, "name": owner.name } },
    })
}

pub(super) fn belongs_to(node_port: &Value, owner: Owner<'_>) -> bool {
    deep(node_port, &["spec", "service"]).is_some_and(|service| {
        text(service, "namespace") == owner.namespace && text(service, "name") == owner.name
    })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::registry::alloc::testing::Memory;

    const OWNER: Owner<'_> = Owner {
        namespace: "ns",
        name: "web",
    };

    #[test]
    fn asked_for_ports() {
        let mut memory = Memory::default();
        memory.put(NODE_PORTS, node_port(30080, OWNER));
        let out = PortError::OutOfRange {
            first: 30000,
            last: 32767,
        };
        let rows = [
            (30000, Ok(())),
            (32767, Ok(())),
            (30080, Err(PortError::Taken)),
            (29999, Err(out)),
            (32768, Err(out)),
            (80, Err(out)),
            (-1, Err(out)),
            (95_616, Err(out)),
        ];
        for (port, expected) in rows {
            assert_eq!(
                Ports::new(&memory, DEFAULT_RANGE).claim(port),
                expected,
                "{port}"
            );
        }
        assert_eq!(
            out.to_string(),
            "provided port is not in the valid range. The range of valid ports is 30000-32767"
        );
    }

    #[test]
    fn dynamic_ports_come_from_the_upper_band_first_and_the_range_can_be_used_up() {
        let memory = Memory::default();
        let mut ports = Ports::new(&memory, 30000..=30039);
        let mut rng = StdRng::seed_from_u64(3);
        let given: Vec<u16> = std::iter::from_fn(|| ports.next(&mut rng).ok()).collect();
        assert_eq!(given.len(), 40);
        assert!(given[..24].iter().all(|port| *port >= 30016), "{given:?}");
        assert_eq!(ports.next(&mut rng), Err(PortError::Full));
    }

    #[test]
    fn a_port_given_back_is_free_only_after_the_transaction() {
        let mut memory = Memory::default();
        memory.put(NODE_PORTS, node_port(30080, OWNER));
        let mut ports = Ports::new(&memory, DEFAULT_RANGE);
        ports.release(30080);
        assert_eq!(ports.claim(30080), Err(PortError::Taken));
        let mut effects = Effects::default();
        ports.commit(OWNER, &mut effects);
        memory.apply(effects);
        assert_eq!(Ports::new(&memory, DEFAULT_RANGE).claim(30080), Ok(()));
    }
}
