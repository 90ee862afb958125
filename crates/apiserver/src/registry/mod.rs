//! The registry: which kinds are served, and what each of them does to an object on its way to the store.

pub mod resource;
pub mod strategy;

pub(crate) mod decode;
pub(crate) mod events;
pub(crate) mod kinds;
mod simple;
pub(crate) mod transaction;
pub(crate) mod write;

pub mod alloc;
pub mod service;
pub mod validate;

pub use resource::{Resource, Scope};
pub use strategy::{
    Context, DryRun, Effects, FieldValidation, Strategy, Subresource, User, Verb, View,
};

use std::ops::RangeInclusive;

use kinds::Kind;
use service::ServiceStrategy;

/// All served kinds.
pub(crate) struct Registry {
    entries: Vec<Entry>,
}

/// One served kind with its rules.
pub(crate) struct Entry {
    /// The row of the table.
    pub(crate) kind: &'static Kind,
    /// The rules.
    pub(crate) strategy: Box<dyn Strategy>,
}

impl Registry {
    /// The registry of a cluster with this range of node ports.
    pub(crate) fn new(node_ports: RangeInclusive<u16>) -> Self {
        let mut entries: Vec<Entry> = simple::table()
            .into_iter()
            .map(|simple| Entry {
                kind: simple.kind(),
                strategy: Box::new(simple),
            })
            .collect();
        let services = ServiceStrategy::new(&kinds::SERVICE.resource).with_node_ports(node_ports);
        entries.push(Entry {
            kind: &kinds::SERVICE,
            strategy: Box::new(services),
        });
        Self { entries }
    }

    /// All kinds, in discovery order.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The place of the kind behind a URL.
    pub(crate) fn position(&self, group: &str, version: &str, plural: &str) -> Option<usize> {
        self.entries.iter().position(|entry| {
            let resource = &entry.kind.resource;
            resource.group == group && resource.version == version && resource.plural == plural
        })
    }
}
