//! Verdicts for tests: a Service whose endpoints come and go.

use daymark_model::flows::{self, Verdicts};
use daymark_model::rules::GoneEndpoints;
use daymark_model::{Change, Options, Protocol, Rules, ServiceKey, World};

/// Verdicts after each step of a Service with these endpoints.
pub(super) fn verdicts(steps: &[&[&str]]) -> Vec<Verdicts> {
    verdicts_of(GoneEndpoints::default(), steps)
}

/// The same where this becomes of connections to endpoints that are gone.
pub(super) fn verdicts_of(gone_endpoints: GoneEndpoints, steps: &[&[&str]]) -> Vec<Verdicts> {
    let rules = Rules {
        gone_endpoints,
        ..Rules::default()
    };
    let mut world = World::new(Options {
        rules,
        ..Options::default()
    });
    let mut all = Vec::new();
    for endpoints in steps {
        let lines = endpoints
            .iter()
            .map(|ip| format!("endpoint {ip} ready on n\n"));
        let text = format!(
            "service a ClusterIP 80/TCP cluster=10.96.0.9\n{}",
            lines.collect::<String>()
        );
        let case = daymark_case::Case::parse("inline", &text).expect("a case");
        let changes: Vec<Change> = case.steps[0].changes.clone();
        let suspects = flows::suspects(&world, &changes);
        world.apply(changes);
        all.push(suspects.judge(&world));
    }
    all
}

/// Verdicts about a port of a protocol that some Service lost.
pub(super) fn lost(protocol: Protocol, port: u16) -> Verdicts {
    let text = format!("service a ClusterIP {port}/{protocol} cluster=10.96.0.9\n");
    let case = daymark_case::Case::parse("inline", &text).expect("a case");
    let mut world = World::new(Options::default());
    world.apply(case.steps[0].changes.iter().cloned());
    let gone = [Change::Service(ServiceKey::new("default", "a"), None)];
    let suspects = flows::suspects(&world, &gone);
    world.apply(gone);
    suspects.judge(&world)
}
