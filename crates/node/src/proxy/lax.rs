//! Services for which this node lets pass what daymark's own rules would not: one Event each, while they are so.

use std::collections::{BTreeMap, BTreeSet};

use daymark_model::laxity::{Laxity, is_lax, laxities};
use daymark_model::{Change, ServiceKey, World};

use crate::events::{Notice, Scope, Severity};

/// What was said.
#[derive(Debug, Default)]
pub(super) struct Lax {
    said: BTreeMap<ServiceKey, Vec<Laxity>>,
    touched: Touched,
}

/// Which Services are to be looked at.
#[derive(Debug)]
enum Touched {
    All,
    Some(BTreeSet<ServiceKey>),
}

impl Default for Touched {
    fn default() -> Self {
        Self::Some(BTreeSet::new())
    }
}

impl Lax {
    /// Hears of changes. What the endpoints of a Service are does not matter.
    pub(super) fn note(&mut self, world: &World, changes: &[Change]) {
        if !is_lax(world.options()) {
            return;
        }
        for change in changes {
            match (change, &mut self.touched) {
                (Change::Node(_), touched) => *touched = Touched::All,
                (Change::Service(key, _), Touched::Some(touched)) => {
                    touched.insert(key.clone());
                }
                _ => {}
            }
        }
    }

    /// What is to be said now.
    pub(super) fn follow(&mut self, world: &World) -> Vec<Notice> {
        let services = &world.inputs().services;
        let touched = match std::mem::take(&mut self.touched) {
            Touched::Some(touched) => touched,
            Touched::All => services.keys().chain(self.said.keys()).cloned().collect(),
        };
        let mut notices = Vec::new();
        for key in touched {
            let service = services.get(&key);
            let found = service.map_or_else(Vec::new, |service| laxities(service, world.here()));
            if found.is_empty() {
                self.said.remove(&key);
            } else if self.said.get(&key) != Some(&found) {
                notices.push(notice(&key, &found));
                self.said.insert(key, found);
            }
        }
        notices
    }
}

fn notice(about: &ServiceKey, found: &[Laxity]) -> Notice {
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    Notice {
        about: about.clone().into(),
        scope: Scope::Cluster,
        severity: Severity::Warning,
        reason: "LetThrough",
        message: format!("as kube-proxy has it: {}", found.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use daymark_case::Case;

    use super::*;

    /// Which Services are told of after each step, and how many laxities.
    fn told(text: &str) -> Vec<Vec<String>> {
        let case = Case::parse("here", text).unwrap();
        let mut world = World::new(case.options.clone());
        let mut lax = Lax::default();
        let steps = case.steps.into_iter().map(|step| {
            lax.note(&world, &step.changes);
            world.apply(step.changes);
            let notices = lax.follow(&world);
            let shown = notices.iter().map(|notice| {
                assert_eq!(
                    (notice.scope, notice.reason),
                    (Scope::Cluster, "LetThrough")
                );
                format!(
                    "{} {}",
                    notice.about,
                    notice.message.matches("spec.").count()
                )
            });
            shown.collect()
        });
        steps.collect()
    }

    const CHANGES: &str = "node node-1 172.30.0.11 pods=10.244.1.0/24\n\
        service web LoadBalancer 80/TCP cluster=10.96.0.20,fd00:10:96::20 lb=fd00:30::200 ranges=10.0.0.0/8\n\
        service other ClusterIP 80/TCP cluster=10.96.0.21\n\
        step endpoints\nendpoint 10.244.1.5 ready on node-1 of web\n\
        step its node ports come\n\
        service web LoadBalancer 80/TCP@30080 cluster=10.96.0.20,fd00:10:96::20 lb=fd00:30::200 ranges=10.0.0.0/8\n\
        step the node gets an address of the family\nnode node-1 172.30.0.11 fd00:30::11 pods=10.244.1.0/24\n\
        step both families are named\n\
        service web LoadBalancer 80/TCP@30080 cluster=10.96.0.20,fd00:10:96::20 lb=fd00:30::200 ranges=10.0.0.0/8,fd00::/8\n\
        step and not any more\n\
        service web LoadBalancer 80/TCP@30080 cluster=10.96.0.20,fd00:10:96::20 lb=fd00:30::200 ranges=10.0.0.0/8\n\
        step it goes\nremove service web\n";

    #[test]
    fn a_service_is_told_of_once_and_again_when_something_else_passes() {
        let options = "options ranges-of-one-family=open unnamed-family=open\n";
        let steps = told(&format!("{options}{CHANGES}"));
        let web = |count: usize| vec![format!("default/web {count}")];
        let expected = [web(1), vec![], web(2), web(1), vec![], web(1), vec![]];
        assert_eq!(steps, expected);
    }

    #[test]
    fn under_daymarks_own_rules_nothing_is_told() {
        assert_eq!(told(CHANGES), vec![Vec::<String>::new(); 7]);
    }
}
