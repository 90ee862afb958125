//! Verdicts for tests: a Service whose endpoints come and go.

use daymark_model::flows::{self, Verdicts};
use daymark_model::{Change, World};

/// Verdicts after each step of a Service with these endpoints.
pub(super) fn verdicts(steps: &[&[&str]]) -> Vec<Verdicts> {
    let mut world = World::default();
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
