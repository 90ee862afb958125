//! Services that ask for what another one has a better right to: said once, and again when it is over.

use std::collections::{BTreeMap, BTreeSet};

use daymark_model::desire::{MOST_BACKENDS, MOST_LOOKED_AT, MOST_PLACES};
use daymark_model::desired::Refusal;
use daymark_model::listeners::HealthCheckRefusal;
use daymark_model::{ServiceKey, World};

use crate::events::{Notice, Scope, Severity};

/// What was said.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    places: BTreeSet<Refusal>,
    health_checks: BTreeSet<HealthCheckRefusal>,
    beyond: BTreeMap<ServiceKey, usize>,
}

impl Conflicts {
    /// What is to be said now.
    pub(super) fn follow(&mut self, world: &mut World) -> Vec<Notice> {
        let mut notices = self.refusals(world);
        if *world.beyond() != self.beyond {
            let new = world.beyond().iter();
            let new = new.filter(|(key, ports)| self.beyond.get(*key) != Some(*ports));
            notices.extend(new.map(|(key, ports)| too_many(key, *ports)));
            self.beyond.clone_from(world.beyond());
        }
        notices
    }

    fn refusals(&mut self, world: &mut World) -> Vec<Notice> {
        if !world.take_refusals_stirred() {
            return Vec::new();
        }
        let places: BTreeSet<_> = world.refusals().into_iter().collect();
        let checks: BTreeSet<_> = world.health_check_refusals().into_iter().collect();
        let lost = by_service(places.difference(&self.places));
        let lost = lost
            .into_iter()
            .map(|(about, lost)| places_lost(about, &lost));
        let lost = lost.chain(checks.difference(&self.health_checks).map(check_lost));
        let exists = |service: &ServiceKey| world.inputs().services.contains_key(service);
        let ended = self.places.difference(&places);
        let ended = ended.filter(|old| exists(&old.port.service));
        // Another holder is another conflict, not the end of this one.
        let going_on: BTreeSet<_> = places.iter().map(|new| (&new.port, &new.at)).collect();
        let ended = by_service(ended.filter(|old| !going_on.contains(&(&old.port, &old.at))));
        let ended = ended
            .into_iter()
            .map(|(about, won)| places_won(about, &won));
        let notices = lost.chain(ended).collect();
        self.places = places;
        self.health_checks = checks;
        notices
    }
}

/// A Service may lose a thousand places at once: that is one notice.
fn by_service<'a>(
    all: impl Iterator<Item = &'a Refusal>,
) -> BTreeMap<&'a ServiceKey, Vec<&'a Refusal>> {
    let mut grouped: BTreeMap<&ServiceKey, Vec<&Refusal>> = BTreeMap::new();
    for refusal in all {
        grouped
            .entry(&refusal.port.service)
            .or_default()
            .push(refusal);
    }
    grouped
}

fn places_lost(about: &ServiceKey, lost: &[&Refusal]) -> Notice {
    let shown = few(lost, |refusal| {
        let Refusal {
            port,
            at,
            held_by,
            why,
        } = refusal;
        format!("{port} is not served at {at}: {held_by} has it, because it {why}")
    });
    Notice {
        about: about.clone().into(),
        scope: Scope::Cluster,
        severity: Severity::Warning,
        reason: "Conflict",
        message: format!("{shown}; give one of the Services another address or port"),
    }
}

fn places_won(about: &ServiceKey, won: &[&Refusal]) -> Notice {
    let shown = few(won, |Refusal { port, at, .. }| {
        format!("{at} is not contested by {port} any more")
    });
    Notice {
        about: about.clone().into(),
        scope: Scope::Cluster,
        severity: Severity::Normal,
        reason: "ConflictEnded",
        message: shown,
    }
}

/// The first ones in words, and how many more there are.
fn few(all: &[&Refusal], in_words: impl Fn(&Refusal) -> String) -> String {
    const SHOWN: usize = 3;
    let words: Vec<String> = all.iter().take(SHOWN).map(|one| in_words(one)).collect();
    match all.len().saturating_sub(SHOWN) {
        0 => words.join("; "),
        more => format!(
            "{}; and so at {more} more places, which daymark status lists",
            words.join("; ")
        ),
    }
}

fn too_many(about: &ServiceKey, ports: usize) -> Notice {
    Notice {
        about: about.clone().into(),
        scope: Scope::Cluster,
        severity: Severity::Warning,
        reason: "TooManyPlaces",
        message: format!(
            "{ports} of spec.ports (each counted once a family) are not served: ports times addresses come to more than \
             {MOST_PLACES} places, ports times endpoints to more than {MOST_BACKENDS}, or endpoints times the ports that have slices of \
             their own to more than {MOST_LOOKED_AT}; split the Service, or take addresses out of \
             spec.externalIPs or ports out of spec.ports"
        ),
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
        about: service.clone().into(),
        scope: Scope::Cluster,
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
    fn a_service_that_loses_a_thousand_places_is_told_once() {
        let ports: Vec<String> = (1..=1000)
            .map(|port| format!("p{port:04}:{port}/TCP"))
            .collect();
        let service = |name: &str, ip: &str, created: u32| {
            let ports = ports.join(" ");
            format!(
                "service {name} ClusterIP {ports} cluster={ip} external=172.30.0.200 created={created}\n"
            )
        };
        let (one, two) = (
            service("one", "10.96.0.20", 1),
            service("two", "10.96.0.21", 2),
        );
        let steps = said(&format!("{one}{two}step it ends\nremove service one\n"));
        let [lost, won] =
            [&steps[0], &steps[1]].map(|said| <[String; 1]>::try_from(said.clone()).unwrap());
        assert_eq!(
            lost[0],
            "default/two Conflict: default/two:p0001/TCP is not served at 172.30.0.200:1/TCP: default/one:p0001/TCP has it, \
             because it is older"
        );
        assert!(
            won[0].starts_with("default/two ConflictEnded: 172.30.0.200:1/TCP is not contested")
        );
        let case = Case::parse("here", &format!("{one}{two}")).unwrap();
        let mut world = World::new(case.options.clone());
        world.apply(case.steps[0].changes.iter().cloned());
        let [notice] = <[Notice; 1]>::try_from(Conflicts::default().follow(&mut world)).unwrap();
        assert!(
            notice.message.contains("; and so at 997 more places,"),
            "{}",
            notice.message
        );
        assert!(
            notice
                .message
                .ends_with("give one of the Services another address or port")
        );
        assert!(notice.message.len() < 1024);
    }

    #[test]
    fn a_service_with_too_many_places_is_told_once() {
        let ports: Vec<String> = (1..=300)
            .map(|port| format!("p{port}:{port}/TCP"))
            .collect();
        let ips: Vec<String> = (0..300)
            .map(|n| format!("10.9.{}.{}", n / 200, n % 200))
            .collect();
        let (ports, ips) = (ports.join(" "), ips.join(","));
        let steps = said(&format!(
            "service wide ClusterIP {ports} cluster=10.96.0.20 external={ips}\n\
             step endpoints\nendpoint 10.244.1.5 ready on node-1 of wide\n\
             step fewer addresses\nservice wide ClusterIP {ports} cluster=10.96.0.20\n"
        ));
        let told = "default/wide TooManyPlaces: 82 of spec.ports (each counted once a family) are not served: ports times addresses \
                    come to more than 65536 places, ports times endpoints to more than 524288, or endpoints times the ports that have slices of \
                    their own to more than 1048576";
        assert_eq!(steps, [vec![told.to_owned()], vec![], vec![]]);
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
