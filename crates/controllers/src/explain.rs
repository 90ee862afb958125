//! Why a Pod is no endpoint of a Service, for people: the reasons behind what [`crate::endpoints`] decides.
//!
//! In order, each asked of what decides: the selector matches the Pod's labels; the Pod has not ended and has an
//! address; it knows the name of every target port; it is ready, and is not about to go.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodStatus, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::endpoints::{has_selector, is_included, is_ready, matches, number, publishes_not_ready};

/// Why a Pod that a Service selects gets nothing, or less than it might.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It ran to its end: its phase.
    Ended(String),
    /// It has no address yet: why, as far as its status says.
    NoAddress(String),
    /// A target port is a name that no container of it has with that protocol.
    PortUnknown {
        /// The Service port.
        port: String,
        /// The name of the target.
        target: String,
        /// Its protocol.
        protocol: String,
        /// Names that containers have, each with its protocol.
        known: Vec<String>,
    },
    /// It is being deleted.
    Terminating,
    /// It is not ready: why, as far as its status says.
    NotReady(String),
}

/// What a Service's selector comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Selected<'a> {
    /// There is none: slices are made by hand, or the Service is an alias.
    NoSelector,
    /// These Pods, each with what stands in its way.
    Pods(Vec<(&'a Pod, Vec<Obstacle>)>),
    /// None of the Pods of the namespace.
    Nobody {
        /// How many there are.
        pods: usize,
        /// The Pod that has most of the labels, and what differs; none if no Pod has any.
        nearest: Option<(&'a Pod, Vec<Mismatch>)>,
    },
}

/// A label that a Pod does not have as the selector wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The key.
    pub key: String,
    /// What the selector wants.
    pub wanted: String,
    /// What the Pod has.
    pub found: Option<String>,
}

/// What a Service selects among the Pods of its namespace.
#[must_use]
pub fn selected<'a>(service: &Service, pods: &'a [Pod]) -> Selected<'a> {
    if !has_selector(service) {
        return Selected::NoSelector;
    }
    let all = pods.iter().filter(|pod| matches(service, &pod.metadata));
    let all: Vec<_> = all.map(|pod| (pod, obstacles(service, pod))).collect();
    if !all.is_empty() {
        return Selected::Pods(all);
    }
    let by_distance = pods.iter().map(|pod| (pod, mismatches(service, pod)));
    let wanted = selector(service).len();
    let nearest = by_distance
        .filter(|(_, differs)| differs.len() < wanted || differs.iter().any(|m| m.found.is_some()))
        .min_by_key(|(_, differs)| differs.len());
    Selected::Nobody {
        pods: pods.len(),
        nearest,
    }
}

fn selector(service: &Service) -> BTreeMap<String, String> {
    let spec = service.spec.as_ref();
    spec.and_then(|spec| spec.selector.clone())
        .unwrap_or_default()
}

/// The labels that keep a Pod out of a Service.
#[must_use]
pub fn mismatches(service: &Service, pod: &Pod) -> Vec<Mismatch> {
    let labels = pod.metadata.labels.as_ref();
    let differs = selector(service).into_iter().filter_map(|(key, wanted)| {
        let found = labels.and_then(|labels| labels.get(&key)).cloned();
        (found.as_ref() != Some(&wanted)).then_some(Mismatch { key, wanted, found })
    });
    differs.collect()
}

/// What keeps a selected Pod from being a ready endpoint for every port; nothing if it is one.
#[must_use]
pub fn obstacles(service: &Service, pod: &Pod) -> Vec<Obstacle> {
    if !is_included(pod) {
        return vec![not_included(pod)];
    }
    let mut obstacles = unknown_ports(service, pod);
    if publishes_not_ready(service) {
        return obstacles;
    }
    if pod.metadata.deletion_timestamp.is_some() {
        obstacles.push(Obstacle::Terminating);
    } else if !is_ready(pod) {
        obstacles.push(Obstacle::NotReady(why_not_ready(pod)));
    }
    obstacles
}

fn not_included(pod: &Pod) -> Obstacle {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    match phase {
        Some(phase @ ("Succeeded" | "Failed")) => Obstacle::Ended(phase.to_owned()),
        _ => Obstacle::NoAddress(why_pending(pod)),
    }
}

/// Ports whose name leads nowhere in this Pod.
fn unknown_ports(service: &Service, pod: &Pod) -> Vec<Obstacle> {
    let ports = service
        .spec
        .iter()
        .flat_map(|spec| spec.ports.iter().flatten());
    let unknown = ports.filter_map(|port| {
        let Some(IntOrString::String(target)) = &port.target_port else {
            return None;
        };
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        if number(port, protocol, pod).is_some() {
            return None;
        }
        let shown = port.name.clone().filter(|name| !name.is_empty());
        Some(Obstacle::PortUnknown {
            port: shown.unwrap_or_else(|| port.port.to_string()),
            target: target.clone(),
            protocol: protocol.to_owned(),
            known: known_ports(pod),
        })
    });
    unknown.collect()
}

fn known_ports(pod: &Pod) -> Vec<String> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let ports = containers.flat_map(|container: &Container| container.ports.iter().flatten());
    let named = ports.filter_map(|port| {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        Some(format!("{}/{protocol}", port.name.as_deref()?))
    });
    named.collect()
}

/// The first condition that says why a Pod has no address.
fn why_pending(pod: &Pod) -> String {
    let Some(status) = &pod.status else {
        return "it has no status yet".to_owned();
    };
    let conditions = status.conditions.iter().flatten();
    let mut bad = conditions.filter(|condition| condition.status == "False");
    let scheduled = bad.find(|condition| condition.type_ == "PodScheduled");
    let told = scheduled.and_then(|condition| condition.message.clone());
    let told = told.filter(|message| !message.is_empty());
    told.or_else(|| waiting(status)).unwrap_or_else(|| {
        let phase = status.phase.as_deref().unwrap_or("Pending");
        format!("its phase is {phase}")
    })
}

fn why_not_ready(pod: &Pod) -> String {
    let Some(status) = &pod.status else {
        return "it has no status yet".to_owned();
    };
    let conditions = status.conditions.iter().flatten();
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    let told = ready.next().and_then(|condition| {
        let message = condition.message.clone().filter(|text| !text.is_empty());
        message.or_else(|| condition.reason.clone())
    });
    waiting(status)
        .or(told)
        .unwrap_or_else(|| "its condition Ready is not True".to_owned())
}

/// What the first container waits for, or how it ended.
fn waiting(status: &PodStatus) -> Option<String> {
    let containers = status.container_statuses.iter().flatten();
    containers
        .into_iter()
        .find_map(|container: &ContainerStatus| {
            let state = container.state.as_ref()?;
            let name = &container.name;
            if let Some(waiting) = &state.waiting {
                let reason = waiting.reason.as_deref().unwrap_or("waiting");
                let message = waiting.message.as_deref().map(|text| format!(": {text}"));
                return Some(format!(
                    "container {name}: {reason}{}",
                    message.unwrap_or_default()
                ));
            }
            let ended = state.terminated.as_ref()?;
            Some(format!(
                "container {name} ended with exit code {}",
                ended.exit_code
            ))
        })
}

impl fmt::Display for Obstacle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(phase) => write!(out, "it has ended ({phase})"),
            Self::NoAddress(why) => write!(out, "it has no address yet: {why}"),
            Self::PortUnknown {
                port,
                target,
                protocol,
                known,
            } => {
                write!(
                    out,
                    "port {port}: no container has a port named {target:?} with {protocol}"
                )?;
                if known.is_empty() {
                    return out.write_str(", nor any named port");
                }
                write!(out, "; there are {}", known.join(", "))
            }
            Self::Terminating => out.write_str("it is being deleted"),
            Self::NotReady(why) => write!(out, "it is not ready: {why}"),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, wanted) = (&self.key, &self.wanted);
        match &self.found {
            Some(found) => write!(out, "{key} is {found:?}, not {wanted:?}"),
            None => write!(out, "it has no label {key} (wanted: {wanted:?})"),
        }
    }
}

#[cfg(test)]
mod tests;
