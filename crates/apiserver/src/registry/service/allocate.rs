//! Addresses and ports of one Service, on create, update and delete.
//!
//! Source: `pkg/registry/core/service/storage/alloc.go` of Kubernetes.

use std::ops::RangeInclusive;

use rand::rand_core::RngCore;
use serde_json::Value;

use super::view::{NONE, Service, Type, set, set_cluster_ips};
use super::{families, ports};
use crate::registry::alloc::reconcile::owner_of;
use crate::registry::alloc::{Addresses, Ports};
use crate::registry::validate::ip::{Family, parse_sloppy};
use crate::registry::validate::{FieldError, Path};
use crate::registry::{Effects, View};

/// Why nothing was allocated.
#[derive(Debug, PartialEq)]
pub(super) enum Refusal {
    /// 422
    Invalid(Vec<FieldError>),
    /// 500 with upstream's prefix
    Internal(String),
    /// 500 with the text alone
    Plain(String),
}

impl From<Vec<FieldError>> for Refusal {
    fn from(wrong: Vec<FieldError>) -> Self {
        Self::Invalid(wrong)
    }
}

/// The families, addresses and ports of a new Service.
///
/// # Errors
/// The first thing that cannot be had; nothing was taken then.
pub(super) fn create(
    object: &mut Value,
    view: &dyn View,
    range: RangeInclusive<u16>,
    rng: &mut dyn RngCore,
    effects: &mut Effects,
) -> Result<(), Refusal> {
    let mut addresses = Addresses::new(view);
    families::settle(object, None, addresses.families())?;
    take_addresses(object, &mut addresses, 0, rng)?;
    let mut node_ports = Ports::new(view, range);
    ports::create(object, &mut node_ports, rng)?;
    ports::health(object, None, &mut node_ports, rng)?;
    addresses.commit(owner_of(object), effects);
    node_ports.commit(owner_of(object), effects);
    Ok(())
}

/// What an update takes and gives back.
///
/// # Errors
/// The first thing that cannot be had; nothing was taken or given back then.
pub(super) fn update(
    object: &mut Value,
    old: &Value,
    view: &dyn View,
    range: RangeInclusive<u16>,
    rng: &mut dyn RngCore,
    effects: &mut Effects,
) -> Result<(), Refusal> {
    let mut addresses = Addresses::new(view);
    let before = Service::new(old);
    families::settle(object, Some(old), addresses.families())?;
    let released = update_addresses(object, before, &mut addresses, rng)?;
    let mut node_ports = Ports::new(view, range);
    ports::update(object, before, &mut node_ports, rng)?;
    ports::health(object, Some(before), &mut node_ports, rng)?;
    for ip in released {
        Addresses::release(view, owner_of(old), &ip, effects);
    }
    addresses.commit(owner_of(object), effects);
    node_ports.commit(owner_of(object), effects);
    Ok(())
}

/// Takes the addresses from `ipFamilies[from]` on: those that are named, and free ones for the rest.
fn take_addresses(
    object: &mut Value,
    addresses: &mut Addresses<'_>,
    from: usize,
    rng: &mut dyn RngCore,
) -> Result<(), Refusal> {
    let service = Service::new(object);
    if service.is(Type::ExternalName) || service.is_headless() {
        return Ok(());
    }
    let mut ips: Vec<String> = service
        .cluster_ips()
        .into_iter()
        .map(str::to_owned)
        .collect();
    let families: Vec<Family> = service
        .families()
        .into_iter()
        .filter_map(Family::parse)
        .collect();
    for (i, family) in families.into_iter().enumerate().skip(from) {
        match ips.get(i).filter(|ip| !ip.is_empty()) {
            Some(ip) => claim(service, addresses, ip)?,
            None => {
                let full = |error| Refusal::Internal(full_text(service.name(), error));
                ips.push(addresses.next(family, rng).map_err(full)?.to_string());
            }
        }
    }
    let first = ips.first().cloned().unwrap_or_default();
    set_cluster_ips(object, &ips.iter().map(String::as_str).collect::<Vec<_>>());
    if !first.is_empty() {
        set(object, "clusterIP", first);
    }
    Ok(())
}

fn full_text(name: &str, error: impl std::fmt::Display) -> String {
    format!("failed to allocate a serviceIP for Service {name:?}: {error}")
}

fn claim(service: Service<'_>, addresses: &mut Addresses<'_>, ip: &str) -> Result<(), Refusal> {
    let path = Path::new("spec").child("clusterIPs");
    let refused = |why: String| {
        let why = format!("failed to allocate IP {ip}: {why}");
        Refusal::Invalid(vec![FieldError::invalid(
            &path,
            service.spec["clusterIPs"].clone(),
            why,
        )])
    };
    let parsed = parse_sloppy(ip).ok_or_else(|| refused("not an IP address".to_owned()))?;
    addresses
        .claim(parsed)
        .map_err(|error| refused(error.to_string()))
}

/// Addresses after an update; answers with those to give back.
///
/// - from ExternalName: all new;
/// - headless before: nothing to do;
/// - to ExternalName: all given back;
/// - a second family came: its address is taken; it went: its address is given back.
fn update_addresses(
    object: &mut Value,
    before: Service<'_>,
    addresses: &mut Addresses<'_>,
    rng: &mut dyn RngCore,
) -> Result<Vec<String>, Refusal> {
    let after = Service::new(object);
    let held = || {
        before
            .cluster_ips()
            .into_iter()
            .filter(|ip| *ip != NONE)
            .map(str::to_owned)
    };
    match (before.is(Type::ExternalName), after.is(Type::ExternalName)) {
        (true, true) => return Ok(Vec::new()),
        (true, false) => return take_addresses(object, addresses, 0, rng).map(|()| Vec::new()),
        (false, true) => return Ok(held().collect()),
        (false, false) if before.is_headless() => return Ok(Vec::new()),
        (false, false) => {}
    }
    match (before.families().len(), after.families().len()) {
        (1, 2) => take_addresses(object, addresses, 1, rng).map(|()| Vec::new()),
        (2, 1) => Ok(held().skip(1).collect()),
        _ => Ok(Vec::new()),
    }
}
