//! kube-proxy's place: what it left in the kernel goes once this node's own first state is there, and again if it comes back.

use std::sync::Arc;
use std::time::Duration;

use daymark_feed::PlaneReceiver;
use daymark_node::ask::wire::Part;
use daymark_node::events::{Severity, about_node_at_last};
use daymark_node::leftovers::vigil::{News, Vigil};
use daymark_node::leftovers::{self, Outcome, Scope};
use daymark_node::metrics::Metrics;
use tracing::{info, warn};

use super::start::{FirstState, first_state};

/// What is told of it, and where.
#[derive(Clone)]
pub(super) struct Site {
    pub(super) client: kube::Client,
    pub(super) node: Arc<str>,
    pub(super) metrics: Arc<Metrics>,
    /// What is removed.
    pub(super) scope: Scope,
}

/// Once the kernel holds this node's first state, kube-proxy's goes: from then on nothing of it is needed. If it comes
/// back, kube-proxy runs here still, and the Node is told; what it leaves when it ends goes too.
pub(super) async fn replace_kube_proxy(mut plane: PlaneReceiver, site: Site) {
    if first_state(&mut plane).await == FirstState::Never {
        return;
    }
    let outcomes = leftovers::remove_kube_proxys(site.scope.clone()).await;
    site.tell_removal(&outcomes).await;
    tokio::join!(site.watch(&outcomes), site.try_again());
}

impl Site {
    async fn watch(&self, outcomes: &[Outcome]) {
        let metrics = Arc::clone(&self.metrics);
        let mut vigil = Vigil::new(COMES_BACK, self.scope.clone(), outcomes, metrics);
        loop {
            let (severity, said) = match vigil.next().await {
                News::Back(what) => {
                    let message = is_back(&what);
                    warn!("{message}");
                    (Severity::Warning, ("KubeProxyRuns", message))
                }
                News::Removed { what, outcomes } => {
                    self.tell_removal(&outcomes).await;
                    let removed = |outcome: &Outcome| matches!(outcome, Outcome::Removed(_));
                    if !outcomes.iter().any(removed) {
                        continue;
                    }
                    let message = format!(
                        "kube-proxy's {what} was back and did not change any more: what kube-proxy left was removed again"
                    );
                    info!("{message}");
                    (Severity::Normal, ("KubeProxyRemoved", message))
                }
            };
            self.tell(severity, said);
        }
    }

    /// Tells the Node, whenever the API takes it: what is done here does not wait for that.
    fn tell(&self, severity: Severity, said: (&'static str, String)) {
        let (client, node) = (self.client.clone(), Arc::clone(&self.node));
        tokio::spawn(about_node_at_last(client, node, severity, said));
    }

    /// Tries again what could not be removed, which somebody else may have done meanwhile. While kube-proxy's rules come back the
    /// vigil decides when they are removed.
    async fn try_again(&self) {
        loop {
            tokio::time::sleep(TRY_AGAIN).await;
            let metrics = &self.metrics;
            if metrics.kube_proxy_leftovers().is_empty() || metrics.kube_proxy_rules().is_some() {
                continue;
            }
            let outcomes = leftovers::remove_kube_proxys(self.scope.clone()).await;
            if self.note(&outcomes).is_empty() {
                info!("nothing of kube-proxy is left on this node");
            }
        }
    }

    /// Logs what became of kube-proxy's, and tells the Node what could not be removed.
    async fn tell_removal(&self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            match outcome {
                Outcome::Removed(what) => info!("removed kube-proxy's {what}"),
                Outcome::Kept(what) => info!("kept kube-proxy's {what}"),
                Outcome::Failed(why) => warn!("kube-proxy's leftovers: {why}"),
            }
        }
        if let Some(message) = left_behind(&self.note(outcomes)) {
            let said = ("KubeProxyLeftovers", message);
            self.tell(Severity::Warning, said);
        }
    }

    /// What could not be removed, and why: for the metrics and the status too.
    fn note(&self, outcomes: &[Outcome]) -> Vec<String> {
        let failed = outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Failed(why) => Some(why.clone()),
            Outcome::Removed(_) | Outcome::Kept(_) => None,
        });
        let failed: Vec<String> = failed.collect();
        self.metrics.set_kube_proxy_leftovers(failed.clone());
        failed
    }
}

/// How it stands with what kube-proxy left here and does, as `daymark status` has it: for as long as it is so, which Events are not.
pub(super) fn part(metrics: &Metrics) -> Part {
    let back = metrics.kube_proxy_rules().map(|what| is_back(&what));
    let left = left_behind(&metrics.kube_proxy_leftovers());
    let wrong: Vec<String> = back.into_iter().chain(left).collect();
    Part {
        name: "kube-proxy".to_owned(),
        healthy: wrong.is_empty(),
        text: if wrong.is_empty() {
            "nothing of it is known to be left here: what is found goes once this agent's first state is there".to_owned()
        } else {
            wrong.join("; ")
        },
    }
}

fn is_back(what: &str) -> String {
    format!(
        "kube-proxy's {what} is there after kube-proxy's rules were removed: it runs on this node still, or again, and decides together \
         with daymark where packets go; end it on this node (docs/from-kube-proxy.md). What it leaves is removed some minutes later; \
         what cannot be removed is told by KubeProxyLeftovers"
    )
}

/// What an operator has to remove, if anything: rules of kube-proxy that stay go on deciding where packets go.
fn left_behind(failed: &[String]) -> Option<String> {
    (!failed.is_empty()).then(|| {
        format!(
            "what kube-proxy left on this node could not all be removed, and decides together with daymark where packets go: {}",
            failed.join("; ")
        )
    })
}

/// kube-proxy makes everything anew when something changes, and in mode iptables within its syncPeriod, 30 s. An upgrade of the
/// cluster may bring it back at any time.
const COMES_BACK: Duration = Duration::from_secs(45);

/// How often what could not be removed is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        let away = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("away"))
        });
        Site {
            client: kube::Client::new(away, "default"),
            node: "node-1".into(),
            metrics: Arc::default(),
            scope: Scope::default(),
        }
    }

    #[tokio::test]
    async fn what_stays_of_kube_proxy_is_told_with_the_remedy_until_a_try_finds_nothing() {
        let site = site();
        let counted = |line: &str| site.metrics.families().lines().any(|found| found == line);
        let removed = Outcome::Removed("table kube-proxy".to_owned());
        let kept = Outcome::Kept("chain KUBE-MARK-MASQ".to_owned());
        let failed = ["iptables-legacy: no program; do this", "ipvs: no right"];
        let failed = failed.map(|why| Outcome::Failed(why.to_owned()));

        site.tell_removal(&[removed.clone(), kept.clone()]).await;
        assert!(counted("daymark_kube_proxy_leftovers 0"));
        let well = part(&site.metrics);
        assert_eq!((well.name.as_str(), well.healthy), ("kube-proxy", true));

        site.tell_removal(&[&[removed, kept.clone()][..], &failed].concat())
            .await;
        assert!(counted("daymark_kube_proxy_leftovers 2"));
        let told = part(&site.metrics);
        assert!(!told.healthy, "{told:?}");
        assert!(
            told.text
                .ends_with(": iptables-legacy: no program; do this; ipvs: no right"),
            "{told:?}"
        );

        let table = Some("table ip kube-proxy".to_owned());
        site.metrics.set_kube_proxy_rules(table);
        assert!(counted("daymark_kube_proxy_rules 1"));
        let both = part(&site.metrics);
        assert!(
            both.text
                .starts_with("kube-proxy's table ip kube-proxy is there"),
            "{both:?}"
        );
        assert!(both.text.ends_with(&told.text), "{both:?}");
        site.metrics.set_kube_proxy_rules(None);

        assert!(site.note(&[kept]).is_empty());
        assert!(counted("daymark_kube_proxy_leftovers 0"));
        assert_eq!(part(&site.metrics), well);
    }
}
