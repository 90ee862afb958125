//! Sees to it that what kube-proxy left does not come to stay, after it was removed once.
//!
//! Nothing certain tells from here whether kube-proxy runs: the agent holds its ports itself, cannot see the host's processes, and where
//! no Service changes a kube-proxy that runs writes nothing for an hour. So rules that do not change for some looks are removed,
//! which costs nothing: this node's Services are served by daymark's. Are they back, kube-proxy runs, and the next removal waits twice as long.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daymark_dataplane::leftovers::nft::Look;

use super::{Outcome, Scope, look, remove_kube_proxys};
use crate::clock;
use crate::metrics::Metrics;

/// Looks for kube-proxy's rules for as long as it is asked.
#[derive(Debug)]
pub struct Vigil {
    pace: Duration,
    scope: Scope,
    metrics: Arc<Metrics>,
    /// What stays because others use it, which is no sign of life.
    stays: BTreeSet<String>,
    /// What the last look saw, if there were rules.
    mark: Option<u64>,
    /// How many looks in a row saw the same as the one before.
    same: u32,
    /// How many have to, until the rules are removed.
    patience: u32,
    removed: Option<Instant>,
    told: Option<Instant>,
}

/// What the operator should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// This of kube-proxy is there again. Told at most once an hour.
    Back(String),
    /// It did not change any more, and was removed again.
    Removed {
        /// What was there.
        what: String,
        /// What became of it.
        outcomes: Vec<Outcome>,
    },
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Wait,
    Tell(String),
    Remove(String),
}

impl Vigil {
    /// After the first removal with these outcomes; looks each `pace`. Only what is in `scope` is removed.
    #[must_use]
    pub fn new(pace: Duration, scope: Scope, outcomes: &[Outcome], metrics: Arc<Metrics>) -> Self {
        let mut vigil = Self {
            pace,
            scope,
            metrics,
            stays: BTreeSet::new(),
            mark: None,
            same: 0,
            patience: FEW,
            removed: None,
            told: None,
        };
        vigil.learn(outcomes);
        vigil
    }

    /// Looks until there is something to tell.
    pub async fn next(&mut self) -> News {
        loop {
            tokio::time::sleep(self.pace).await;
            let Some(look) = look().await else { continue };
            let step = self.step(&look, clock::now());
            self.metrics.set_kube_proxy_rules(self.back(&look));
            match step {
                Step::Wait => {}
                Step::Tell(what) => return News::Back(what),
                Step::Remove(what) => {
                    let outcomes = remove_kube_proxys(self.scope.clone()).await;
                    self.learn(&outcomes);
                    return News::Removed { what, outcomes };
                }
            }
        }
    }

    /// What of it is there that does not stay for others.
    fn back(&self, look: &Look) -> Option<String> {
        look.found.difference(&self.stays).next().cloned()
    }

    fn step(&mut self, look: &Look, now: Instant) -> Step {
        let within_hour = |at: Option<Instant>| at.is_some_and(|at| now - at < HOUR);
        let Some(back) = self.back(look) else {
            self.mark = None;
            return Step::Wait;
        };
        if self.mark.is_none() && !within_hour(self.removed) {
            self.patience = FEW;
        }
        let before = self.mark.replace(look.mark);
        self.same = if before == self.mark {
            self.same + 1
        } else {
            0
        };
        if self.same >= self.patience {
            self.patience = (self.patience * 2).min(MANY);
            self.same = 0;
            self.removed = Some(now);
            return Step::Remove(back);
        }
        if within_hour(self.told) {
            return Step::Wait;
        }
        self.told = Some(now);
        Step::Tell(back)
    }

    /// What others use stays.
    fn learn(&mut self, outcomes: &[Outcome]) {
        let kept = outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Kept(what) => what.split(": ").next(),
            Outcome::Removed(_) | Outcome::Failed(_) => None,
        });
        self.stays.extend(kept.map(str::to_owned));
    }
}

/// How many looks in a row have to see the same until rules are removed: at first, and at most, where they come back.
const FEW: u32 = 2;
const MANY: u32 = 16;

const HOUR: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Duration = Duration::from_secs(45);

    fn there(mark: u64) -> Look {
        let found = [
            "chain KUBE-MARK-MASQ of table ip nat",
            "table ip kube-proxy",
        ];
        let found = found.map(str::to_owned).into();
        Look { found, mark }
    }

    fn vigil() -> Vigil {
        let kept = "chain KUBE-MARK-MASQ of table ip nat: rules of others jump to it";
        let outcomes = [Outcome::Kept(kept.to_owned())];
        Vigil::new(PACE, Scope::default(), &outcomes, Arc::default())
    }

    /// The looks, of those given, at which something is to be done, with what.
    fn steps(vigil: &mut Vigil, looks: impl Iterator<Item = Look>) -> Vec<(u32, Step)> {
        let start = clock::now();
        let steps = (0..).zip(looks).map(|(number, look)| {
            let step = vigil.step(&look, start + PACE * number);
            (number, step)
        });
        steps.filter(|(_, step)| *step != Step::Wait).collect()
    }

    fn table() -> String {
        "table ip kube-proxy".to_owned()
    }

    #[test]
    fn what_writes_is_told_once_an_hour_and_left() {
        let looks = (0..161).map(there);
        let told = [0, 80, 160].map(|number| (number, Step::Tell(table())));
        assert_eq!(steps(&mut vigil(), looks), told);
    }

    #[test]
    fn what_comes_back_after_each_removal_is_removed_more_and_more_seldom() {
        let looks = std::iter::repeat_n(there(7), 60);
        let removed = [2, 6, 14, 30, 46].map(|number| (number, Step::Remove(table())));
        let all = steps(&mut vigil(), looks);
        assert_eq!(all[0], (0, Step::Tell(table())));
        assert_eq!(all[1..], removed);
    }

    #[test]
    fn what_others_use_is_nothing() {
        let mut look = there(7);
        look.found.remove(&table());
        assert_eq!(steps(&mut vigil(), std::iter::repeat_n(look, 9)), []);
    }
}
