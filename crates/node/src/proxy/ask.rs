//! What the plane's thread answers between two commits.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daymark_dataplane::nft::apply::{Kernel, StartError};
use daymark_dataplane::nft::compare::{self, Comparison};
use daymark_feed::reference;
use daymark_model::Family;
use daymark_model::flows::Verdicts;
use daymark_model::input::Inputs;
use k8s_openapi::api::core::v1::ObjectReference;

use super::{Proxy, State};
use crate::ask::{Ask, MOST_DIFFERENCES, Ports, Standing, explained, wire};
use crate::clock;
use crate::events::{About, UNUSABLE};

/// On how many nodes endpoints are, or `most`.
fn nodes(inputs: &Inputs, most: usize) -> usize {
    distinct(looks(inputs), most)
}

/// The node of each endpoint, if it has one. To come to a slice is a look too, be there nothing in it.
fn looks(inputs: &Inputs) -> impl Iterator<Item = Option<&str>> {
    inputs.slices.values().flat_map(|slice| {
        let nodes = slice.endpoints.iter().map(|one| one.node.as_deref());
        std::iter::once(None).chain(nodes)
    })
}

/// How many nodes the first [`LOOKED_AT`] looks find, or `most`.
fn distinct<'a>(looks: impl Iterator<Item = Option<&'a str>>, most: usize) -> usize {
    let mut seen = HashSet::new();
    for name in looks.take(LOOKED_AT).flatten() {
        seen.insert(name);
        if seen.len() >= most {
            break;
        }
    }
    seen.len()
}

/// Traffic waits while nodes are counted: of ten times as many endpoints as there are nodes nearly every node has one.
const LOOKED_AT: usize = 100_000;

/// The Service with this cluster IP, or else the ServiceCIDR that Services will have it of.
fn holder(inputs: &Inputs, ip: IpAddr) -> Option<String> {
    let mut services = inputs.services.values();
    let service = services.find(|service| service.cluster_ips.all().contains(&ip));
    let mut ranges = inputs.service_cidrs.values();
    let mut range = || ranges.find(|range| range.cidrs.iter().any(|cidr| cidr.contains(ip)));
    service
        .map(|service| format!("the Service {}", service.key))
        .or_else(|| Some(format!("a Service of ServiceCIDR {}", range()?.name)))
}

impl<K: Kernel> Proxy<K> {
    /// Answers. Who asked may be gone: then nobody hears it.
    pub(super) fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Explain { question, reply } => {
                let mut explained = explained(&self.world, &mut self.plane, &question);
                let plane = self.plane_part();
                explained.stale = (!plane.healthy).then_some(plane.text);
                let _ = reply.send(explained);
            }
            Ask::Standing(reply) => {
                let _ = reply.send(self.standing());
            }
            Ask::Wanted { moment, reply } => {
                let same = moment == self.moment;
                let program = || Box::new(self.plane.compiler().program().clone());
                let _ = reply.send(same.then(program));
            }
            Ask::Ports { moment, reply } => {
                let same = moment == self.moment;
                let _ = reply.send((!same).then(|| self.ports()));
            }
            Ask::Reference {
                about,
                reason,
                reply,
            } => {
                // What was mended while it waited is no news.
                let is_over = reason == UNUSABLE && !self.unusable.concerns(&about);
                let found = self.reference(&about).filter(|_| !is_over);
                let _ = reply.send(found.map(Box::new));
            }
            Ask::Holder(ip, reply) => {
                let _ = reply.send(holder(self.world.inputs(), ip));
            }
            Ask::Nodes { most, reply } => {
                let _ = reply.send(nodes(self.world.inputs(), most));
            }
            Ask::Name(mut found, reply) => {
                self.plane.compiler().name(&mut found);
                let _ = reply.send(*found);
            }
            Ask::Look(reply) => {
                let _ = reply.send(self.look());
            }
        }
    }

    fn reference(&self, about: &About) -> Option<ObjectReference> {
        match about {
            About::Service(key) => {
                let service = self.world.inputs().services.get(key)?;
                Some(reference(service))
            }
            About::Object(kind, key) => self.unusable.reference(*kind, key),
        }
    }

    fn ports(&self) -> Ports {
        let compiler = self.plane.compiler();
        let of = |family| {
            let names = compiler.ports(family);
            let names = names.map(|(number, name)| (number, Arc::clone(name)));
            (compiler.words(family).table(), names.collect())
        };
        Ports {
            moment: self.moment,
            tables: Family::BOTH.map(of).into(),
        }
    }

    fn look(&mut self) -> Result<Comparison, StartError> {
        let held = compare::read(self.plane.kernel())?;
        Ok(self.plane.compiler().compare(&held, MOST_DIFFERENCES))
    }

    fn standing(&mut self) -> Standing {
        let conntrack = self.conntrack_part();
        let refused = self.plane.withheld().iter();
        let refused = refused.map(|(subject, why)| wire::Refused {
            subject: subject.to_string(),
            shown: why.shown.clone(),
            reason: why.reason.clone(),
        });
        let conflicts = self.world.refusals();
        let conflicts = conflicts.iter().map(|refusal| wire::Conflict {
            port: refusal.port.to_string(),
            at: refusal.at.to_string(),
            held_by: refusal.held_by.to_string(),
            why: Some(refusal.why.to_string()),
        });
        let checks = self.world.health_check_refusals();
        let checks = checks.iter().map(|refusal| wire::Conflict {
            port: refusal.service.to_string(),
            at: format!("health check {} ({})", refusal.at.port, refusal.at.family),
            held_by: refusal.held_by.to_string(),
            why: Some(refusal.why.to_string()),
        });
        Standing {
            moment: self.moment,
            node: self.world.here().node.name.to_string(),
            generation: self.batch,
            last_change: self.last_change.map(since),
            behind: match self.state {
                State::Behind { since: begun, .. } => Some(since(begun)),
                State::Waiting | State::InStep => None,
            },
            parts: vec![self.plane_part(), conntrack, self.listeners_part()],
            refused: refused.collect(),
            conflicts: conflicts.chain(checks).collect(),
            unusable: self.unusable.rows(),
            unusable_total: self.unusable.len(),
        }
    }

    fn plane_part(&self) -> wire::Part {
        let (healthy, text) = match self.state {
            State::Waiting => (false, self.waits_for().to_owned()),
            State::InStep => (true, self.in_step_text()),
            State::Behind { since: begun, .. } => {
                let behind = since(begun);
                let error = self.last_error.as_deref().unwrap_or("a commit failed");
                let text = format!(
                    "the kernel has not followed for {:.1} s and holds an older state: {error}",
                    behind.as_secs_f64()
                );
                (false, text)
            }
        };
        wire::Part {
            name: "plane".to_owned(),
            healthy,
            text,
        }
    }

    fn waits_for(&self) -> &'static str {
        if self.batch.is_none() {
            "waits for the first state from the API; the kernel keeps what it has"
        } else if !self.addresses_known {
            "waits for the addresses of this machine; the kernel keeps what it has"
        } else {
            "waits for the Node object of this node: does --node-name name it? The kernel keeps what it has"
        }
    }

    fn in_step_text(&self) -> String {
        let desired = self.world.desired();
        let ago = self.last_change.map(since);
        let ago = ago.map(|ago| format!(" {:.1} s ago", ago.as_secs_f64()));
        let error = self.last_error.as_deref();
        let error = error.map(|error| format!("; the last error, mended: {error}"));
        format!(
            "the kernel holds generation {}: {} Services, {} places, {} lists of endpoints; the last change came{}{}",
            self.batch.unwrap_or_default(),
            self.world.inputs().services.len(),
            desired.frontends.len(),
            desired.pools.len(),
            ago.unwrap_or_else(|| " with the first state".to_owned()),
            error.unwrap_or_default(),
        )
    }

    /// The sockets that the agent answers at itself.
    fn listeners_part(&self) -> wire::Part {
        let desired = self.world.desired();
        let checks = self.health_checks.shared().unopened();
        let unopened = checks + self.loopback.shared().unopened();
        let trouble = match unopened {
            0 => String::new(),
            _ => format!("; {unopened} sockets cannot be opened, the log and Events say why"),
        };
        wire::Part {
            name: "listeners".to_owned(),
            healthy: unopened == 0,
            text: format!(
                "{} health checks, {} node ports on loopback{trouble}",
                desired.health_checks.len(),
                desired.local_listeners.len()
            ),
        }
    }

    /// Its thread takes nothing any more once it has ended; verdicts about nothing cost it nothing.
    fn conntrack_part(&mut self) -> wire::Part {
        self.tell_cleaner(Verdicts::default());
        let stay = |why| format!("flows of endpoints that left stay until a look succeeds: {why}");
        let full = self.metrics.conntrack_full();
        let (healthy, text) = match self.metrics.conntrack_failure().map(stay).or(full) {
            None => (
                true,
                match self.metrics.conntrack_restarts() {
                    0 => "flows of endpoints that left are forgotten".to_owned(),
                    restarts => format!(
                        "flows of endpoints that left are forgotten; the thread panicked and began anew {restarts} times, the log says why"
                    ),
                },
            ),
            Some(failure) => (false, failure),
        };
        wire::Part {
            name: "conntrack".to_owned(),
            healthy,
            text,
        }
    }
}

fn since(at: Instant) -> Duration {
    clock::now().saturating_duration_since(at)
}

#[cfg(test)]
mod tests {
    use daymark_case::Case;
    use daymark_model::World;
    use daymark_model::input::{Conditions, Endpoint, Slice, SliceAudience, SliceKey};

    use super::*;

    #[test]
    fn the_holder_of_an_address_and_the_number_of_nodes_are_what_the_objects_say() {
        let case = Case::parse(
            "here",
            "service-cidr kubernetes 10.96.0.0/16\n\
             service kubernetes ClusterIP 443/TCP cluster=10.96.0.1\n\
             endpoint 10.244.1.5 ready on node-1 of kubernetes\n\
             endpoint 10.244.1.6 ready on node-1 of kubernetes\n\
             endpoint 10.244.2.5 ready on node-2 of kubernetes\n\
             endpoint 10.244.3.5 ready on node-3 of kubernetes\n",
        );
        let case = case.unwrap();
        let mut world = World::new(case.options.clone());
        for step in case.steps {
            world.apply(step.changes);
        }
        let inputs = world.inputs();
        let of = |ip: &str| holder(inputs, ip.parse().unwrap());
        assert_eq!(
            of("10.96.0.1").as_deref(),
            Some("the Service default/kubernetes")
        );
        assert_eq!(
            of("10.96.0.9").as_deref(),
            Some("a Service of ServiceCIDR kubernetes")
        );
        assert_eq!(of("192.0.2.1"), None);
        assert_eq!((nodes(inputs, 10), nodes(inputs, 2)), (3, 2));
    }

    #[test]
    fn nodes_are_counted_among_so_many_endpoints_whether_they_have_one_or_not() {
        let slice = |nodes: Vec<Option<&str>>| {
            let endpoint = |node: Option<&str>| Endpoint {
                address: [10, 244, 1, 5].into(),
                conditions: Conditions::default(),
                node: node.map(Arc::from),
                hints: None,
                hostname: None,
            };
            let key = SliceKey {
                namespace: "default".into(),
                name: format!("web-{}", nodes.len()).into(),
            };
            Slice {
                key,
                service: "web".into(),
                family: Family::V4,
                audience: SliceAudience::default(),
                ports: vec![],
                endpoints: nodes.into_iter().map(endpoint).collect(),
            }
        };
        let inputs = |slices: Vec<Slice>| {
            let slices = slices.into_iter();
            let slices = slices.map(|slice| (slice.key.clone(), Arc::new(slice)));
            Inputs {
                slices: slices.collect(),
                ..Inputs::default()
            }
        };
        for other in [Some("node-2"), None] {
            let others = usize::from(other.is_some());
            // The first look is the slice.
            for (before, expected) in [(LOOKED_AT - 2, others + 1), (LOOKED_AT - 1, others)] {
                let mut endpoints = vec![other; before];
                endpoints.push(Some("node-1"));
                let found = nodes(&inputs(vec![slice(endpoints)]), 10);
                assert_eq!(found, expected, "{before} {other:?}");
            }
        }
        let few = inputs(vec![slice(vec![]), slice(vec![None, Some("node-1")])]);
        assert_eq!(looks(&few).count(), 4);
    }
}
