//! Services that ask for what another one has a better right to: said once, and again when it is over.

use std::collections::BTreeSet;

use daymark_model::desired::Refusal;
use daymark_model::listeners::HealthCheckRefusal;
use daymark_model::{ServiceKey, World};

use crate::events::{Notice, Severity};

/// What was said.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    places: BTreeSet<Refusal>,
    health_checks: BTreeSet<HealthCheckRefusal>,
}

impl Conflicts {
    /// What is to be said now.
    pub(super) fn follow(&mut self, world: &mut World) -> Vec<Notice> {
        if !world.take_refusals_stirred() {
            return Vec::new();
        }
        let places: BTreeSet<_> = world.refusals().into_iter().collect();
        let checks: BTreeSet<_> = world.health_check_refusals().into_iter().collect();
        let lost = places.difference(&self.places).map(place_lost);
        let lost = lost.chain(checks.difference(&self.health_checks).map(check_lost));
        let exists = |service: &ServiceKey| world.inputs().services.contains_key(service);
        let ended = self.places.difference(&places);
        let ended = ended.filter(|old| exists(&old.port.service));
        // Another holder is another conflict, not the end of this one.
        let ended = ended.filter(|old| !goes_on(&places, old)).map(place_won);
        let notices = lost.chain(ended).collect();
        self.places = places;
        self.health_checks = checks;
        notices
    }
}

fn goes_on(places: &BTreeSet<Refusal>, old: &Refusal) -> bool {
    places
        .iter()
        .any(|new| new.port == old.port && new.at == old.at)
}

fn place_lost(refusal: &Refusal) -> Notice {
    let Refusal {
        port,
        at,
        held_by,
        why,
    } = refusal;
    Notice {
        about: port.service.clone(),
        severity: Severity::Warning,
        reason: "Conflict",
        message: format!(
            "{port} is not served at {at}: {held_by} has it, because it {why}; give one of the Services another address or port"
        ),
    }
}

fn place_won(refusal: &Refusal) -> Notice {
    let Refusal { port, at, .. } = refusal;
    Notice {
        about: port.service.clone(),
        severity: Severity::Normal,
        reason: "ConflictEnded",
        message: format!("{at} is not contested by {port} any more"),
    }
}

fn check_lost(refusal: &HealthCheckRefusal) -> Notice {
    let HealthCheckRefusal {
        service,
        at,
        held_by,
        why,
    } = refusal;
    Notice {
        about: service.clone(),
        severity: Severity::Warning,
        reason: "Conflict",
        message: format!(
            "no health check of Service {service} is answered at port {} ({}): {held_by} has it, because it {why}; give \
             one of the Services another spec.healthCheckNodePort",
            at.port, at.family
        ),
    }
}

#[cfg(test)]
mod tests {
    use daymark_case::Case;

    use super::*;

    /// What is said after each step, as `SERVICE REASON` and a part of the message.
    fn said(text: &str) -> Vec<Vec<String>> {
        let case = Case::parse("here", text).unwrap();
        let mut world = World::new(case.options.clone());
        let mut conflicts = Conflicts::default();
        let steps = case.steps.into_iter().map(|step| {
            world.apply(step.changes);
            let notices = conflicts.follow(&mut world);
            let shown = notices.iter().map(|notice| {
                let message = notice.message.split(';').next().unwrap_or_default();
                format!("{} {}: {message}", notice.about, notice.reason)
            });
            shown.collect()
        });
        steps.collect()
    }

    #[test]
    fn a_loser_is_told_once_and_when_it_is_over() {
        let steps = said(
            "service alpha NodePort 80/TCP@30080 cluster=10.96.0.20 created=2000\n\
             service beta NodePort 80/TCP@30080 cluster=10.96.0.21 created=1000\n\
             step something else\nendpoint 10.244.1.5 ready on node-1 of alpha\n\
             step an even older one\nservice first NodePort 80/TCP@30080 cluster=10.96.0.22\n\
             step both go\nremove service first\nremove service beta\n",
        );
        let lost = |loser: &str, holder: &str| {
            format!(
                "default/{loser} Conflict: default/{loser}/TCP is not served at node-port 30080/TCP (IPv4): \
                 default/{holder}/TCP has it, because it is older"
            )
        };
        assert_eq!(
            steps,
            [
                vec![lost("alpha", "beta")],
                vec![],
                vec![lost("alpha", "first"), lost("beta", "first")],
                vec![
                    "default/alpha ConflictEnded: node-port 30080/TCP (IPv4) is not contested by default/alpha/TCP any more"
                        .to_owned()
                ],
            ]
        );
    }

    #[test]
    fn a_health_check_that_lost_its_port_is_told() {
        let service = |name: &str, created| {
            format!(
                "service {name} LoadBalancer 80/TCP cluster=10.96.0.2{created} external-policy=Local health=32000 \
                 created={created}\n"
            )
        };
        let steps = said(&format!("{}{}", service("alpha", 2), service("beta", 1)));
        assert_eq!(
            steps,
            [[
                "default/alpha Conflict: no health check of Service default/alpha is answered at port 32000 (IPv4): \
                 default/beta has it, because it is older"
            ]]
        );
    }
}
