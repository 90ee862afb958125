//! Endpoints as DNS names them.

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::IpAddr;

use daymark_model::input::SlicePort;
use daymark_model::{Endpoint, ServiceKey};

use super::store::Store;

/// A ready endpoint of a Service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready<'s> {
    pub(super) endpoint: &'s Endpoint,
    /// The ports of its slice.
    pub(super) ports: &'s [SlicePort],
}

/// The ready endpoints of all slices of a Service, each address once, in the order of slices.
///
/// `ready` is the slice controller's decision, publishNotReadyAddresses included; absent means yes.
pub(super) fn ready<'s>(store: &'s Store, key: &ServiceKey) -> Vec<Ready<'s>> {
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for slice in store.slices(key) {
        for endpoint in slice
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.conditions.is_ready())
        {
            if seen.insert(endpoint.address) {
                all.push(Ready {
                    endpoint,
                    ports: &slice.ports,
                });
            }
        }
    }
    all
}

/// The label of an endpoint below its Service: its hostname, or its address with dashes.
pub(super) fn label(endpoint: &Endpoint) -> Cow<'_, str> {
    match &endpoint.hostname {
        Some(hostname) => Cow::Borrowed(hostname),
        None => Cow::Owned(dashed(endpoint.address)),
    }
}

/// `10-0-0-1`, `2001-db8--1`; one that would end in a dash gets a 0, as a label must not end so.
pub(super) fn dashed(address: IpAddr) -> String {
    let mut text = address.to_string().replace(['.', ':'], "-");
    if text.ends_with('-') {
        text.push('0');
    }
    if text.starts_with('-') {
        text.insert(0, '0');
    }
    text
}

/// The address that a label spells with dashes.
pub(super) fn undashed(label: &str) -> Option<IpAddr> {
    if label.split('-').count() == 4 && !label.contains("--") {
        return label.replace('-', ".").parse().ok().map(IpAddr::V4);
    }
    label.replace('-', ":").parse().ok().map(IpAddr::V6)
}
