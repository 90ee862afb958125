//! Node ports of one Service, and the port of its health check.
//!
//! Source: `pkg/registry/core/service/storage/alloc.go` of Kubernetes. Ports with the same number and different
//! protocols share one node port (DNS on TCP and UDP); sharing between different numbers is refused on create and
//! accepted on update, as upstream does.

use std::collections::BTreeMap;

use rand::rand_core::RngCore;
use serde_json::Value;

use super::allocate::Refusal;
use super::view::{Service, ports_mut, set};
use crate::registry::alloc::Ports;
use crate::registry::validate::read::{int, text};
use crate::registry::validate::{FieldError, Path};

/// Node ports of a new Service.
///
/// # Errors
/// A port that cannot be had, or none left.
pub(super) fn create(
    object: &mut Value,
    ports: &mut Ports<'_>,
    rng: &mut dyn RngCore,
) -> Result<(), Refusal> {
    let service = Service::new(object);
    if !service.may_have_node_ports() {
        return Ok(());
    }
    let allocates = service.allocates_node_ports();
    let wanted = requested(service);
    let mut shared: BTreeMap<i64, i64> = BTreeMap::new();
    for (i, port) in ports_mut(object).enumerate() {
        let (number, asked) = (int(port, "port"), int(port, "nodePort"));
        if asked == 0 && !allocates {
            continue;
        }
        let given = match (shared.get(&number), asked) {
            (Some(node_port), 0) => *node_port,
            (Some(node_port), asked) if *node_port == asked => asked,
            (Some(_), asked) => claim(ports, i, asked)?,
            (None, _) => match wanted.get(&number) {
                Some(asked) => claim(ports, i, *asked)?,
                None => next(ports, rng)?,
            },
        };
        shared.entry(number).or_insert(given);
        port["nodePort"] = given.into();
    }
    Ok(())
}

/// The first node port that the client asked for, by port number.
fn requested(service: Service<'_>) -> BTreeMap<i64, i64> {
    let mut wanted = BTreeMap::new();
    for port in service
        .ports()
        .iter()
        .filter(|port| int(port, "nodePort") != 0)
    {
        wanted
            .entry(int(port, "port"))
            .or_insert(int(port, "nodePort"));
    }
    wanted
}

fn claim(ports: &mut Ports<'_>, index: usize, number: i64) -> Result<i64, Refusal> {
    let path = Path::new("spec")
        .child("ports")
        .index(index)
        .child("nodePort");
    match ports.claim(number) {
        Ok(()) => Ok(number),
        Err(error) => Err(Refusal::Invalid(vec![FieldError::invalid(
            &path,
            number,
            error.to_string(),
        )])),
    }
}

fn next(ports: &mut Ports<'_>, rng: &mut dyn RngCore) -> Result<i64, Refusal> {
    let failed = |error| Refusal::Internal(format!("failed to allocate a nodePort: {error}"));
    ports.next(rng).map(i64::from).map_err(failed)
}

/// Node ports after an update: those that stay are kept, new ones taken, those left over given back.
///
/// # Errors
/// A port that cannot be had, none left, or one node port twice for a protocol.
pub(super) fn update(
    object: &mut Value,
    old: Service<'_>,
    ports: &mut Ports<'_>,
    rng: &mut dyn RngCore,
) -> Result<(), Refusal> {
    let service = Service::new(object);
    let before = if old.may_have_node_ports() {
        old.node_ports()
    } else {
        Vec::new()
    };
    if service.may_have_node_ports() {
        let allocates = service.allocates_node_ports();
        keep_or_take(object, &before, allocates, ports, rng)?;
    }
    let after = Service::new(object);
    let kept = if after.may_have_node_ports() {
        after.node_ports()
    } else {
        Vec::new()
    };
    for number in before.into_iter().filter(|number| !kept.contains(number)) {
        ports.release(number);
    }
    Ok(())
}

fn keep_or_take(
    object: &mut Value,
    before: &[i64],
    allocates: bool,
    ports: &mut Ports<'_>,
    rng: &mut dyn RngCore,
) -> Result<(), Refusal> {
    let mut taken: Vec<i64> = Vec::new();
    let mut seen: Vec<(String, i64)> = Vec::new();
    for (i, port) in ports_mut(object).enumerate() {
        let asked = int(port, "nodePort");
        if asked == 0 && !allocates {
            continue;
        }
        let number = match asked {
            0 => next(ports, rng)?,
            asked if before.contains(&asked) || taken.contains(&asked) => asked,
            asked => claim(ports, i, asked)?,
        };
        taken.push(number);
        port["nodePort"] = number.into();
        let key = (text(port, "protocol").to_owned(), number);
        if seen.contains(&key) {
            let path = Path::new("spec").child("ports").index(i).child("nodePort");
            return Err(Refusal::Invalid(vec![FieldError::duplicate(&path, number)]));
        }
        seen.push(key);
    }
    Ok(())
}

/// The port on which nodes tell a load balancer whether they have an endpoint.
///
/// # Errors
/// A port that cannot be had, or none left: both are 500 upstream.
pub(super) fn health(
    object: &mut Value,
    old: Option<Service<'_>>,
    ports: &mut Ports<'_>,
    rng: &mut dyn RngCore,
) -> Result<(), Refusal> {
    let service = Service::new(object);
    let needed = old.is_some_and(Service::needs_health_port);
    match (needed, service.needs_health_port(), service.health_port()) {
        (false, true, 0) => {
            let port = ports.next(rng);
            let failed = |error| {
                Refusal::Plain(format!(
                    "failed to allocate a HealthCheck NodePort 0: {error}"
                ))
            };
            set(object, "healthCheckNodePort", port.map_err(failed)?);
        }
        (false, true, asked) => {
            let failed = |error| {
                Refusal::Plain(format!(
                    "failed to allocate requested HealthCheck NodePort {asked}: {error}"
                ))
            };
            ports.claim(asked).map_err(failed)?;
        }
        (true, false, _) => ports.release(old.map_or(0, Service::health_port)),
        _ => {}
    }
    Ok(())
}
