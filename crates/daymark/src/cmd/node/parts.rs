//! How the parts of the agent are that surround the plane: feed, DNS, announcer, configuration.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use daymark_feed::{Kind, KindMetrics};
use daymark_node::ask::wire::Part;
use daymark_node::foreign::Hearing;
use daymark_node::health::Port;
use daymark_node::metrics::Metrics;

use super::config_file::Refusal;
use super::replacement;
use crate::client::Server;

/// What is looked at.
pub(super) struct Parts {
    /// The kinds that are watched.
    pub(super) kinds: Vec<Kind>,
    pub(super) feed: Arc<daymark_feed::Metrics>,
    /// Where the API is.
    pub(super) server: Server,
    /// What is known of that, and of kube-proxy.
    pub(super) metrics: Arc<Metrics>,
    /// Whether anybody looks at what kube-proxy left.
    pub(super) kube_proxy: KubeProxys,
    /// If DNS is served here.
    pub(super) dns: Option<Arc<daymark_dns::Metrics>>,
    /// If the tables have no owner.
    pub(super) hearing: Option<Arc<Hearing>>,
    /// If addresses are announced here.
    pub(super) announcer: Option<Arc<daymark_lb::Metrics>>,
    /// If there is a configuration file.
    pub(super) configuration: Option<Refusal>,
    /// For health and metrics, those that there are to be.
    pub(super) ports: Vec<Arc<Port>>,
}

/// What becomes of what kube-proxy left (`--leave-kube-proxy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KubeProxys {
    Goes,
    Stays,
}

impl Parts {
    /// How each is.
    pub(super) fn tell(&self) -> Vec<Part> {
        let mut parts = vec![self.feed(), self.api()];
        parts.extend(self.hearing.as_deref().map(Hearing::part));
        parts.extend(self.dns.as_deref().map(dns));
        parts.extend(self.announcer.as_deref().map(announcer));
        parts.extend(self.configuration.as_ref().map(Refusal::tell));
        if self.kube_proxy == KubeProxys::Goes {
            parts.push(replacement::part(&self.metrics));
        }
        parts.extend(self.ports.iter().map(|port| of_port(port)));
        parts
    }

    /// Well is a feed that has read every kind once and hears of changes of each. A kind that the API does not have is
    /// read as empty.
    fn feed(&self) -> Part {
        let of = |fits: fn(&KindMetrics) -> bool| -> Vec<String> {
            let kinds = self.kinds.iter();
            let fits = kinds.filter(|kind| fits(self.feed.kind(**kind)));
            fits.map(ToString::to_string).collect()
        };
        let unread = of(|kind| count(&kind.lists) == 0);
        let deaf = of(|kind| count(&kind.lists) > 0 && !kind.connected.load(Ordering::Relaxed));
        let counts = self.kinds.iter().map(|kind| self.feed.kind(*kind));
        let failures: u64 = counts.clone().map(|kind| count(&kind.failures)).sum();
        let unreadable: u64 = counts.map(|kind| count(&kind.unreadable)).sum();
        let text = if !unread.is_empty() {
            format!("not synced: {} not read yet", unread.join(", "))
        } else if !deaf.is_empty() {
            format!(
                "synced once, but no watch is open of {}: the API is away, or refuses; the log has the reason",
                deaf.join(", ")
            )
        } else {
            format!(
                "synced, every watch is open: {} batches, {failures} broken watches, {unreadable} values unreadable",
                count(&self.feed.batches)
            )
        };
        Part {
            name: "feed".to_owned(),
            healthy: unread.is_empty() && deaf.is_empty(),
            text,
        }
    }

    /// An address that is a Service's serves this agent until the node is started anew.
    fn api(&self) -> Part {
        let wrong = self.metrics.api_server_is_service();
        let Server { host, named_by, .. } = &self.server;
        Part {
            name: "api".to_owned(),
            healthy: wrong.is_none(),
            text: wrong.unwrap_or_else(|| format!("at {host}, by {named_by}")),
        }
    }
}

fn of_port(port: &Port) -> Part {
    let trouble = port.trouble();
    Part {
        name: port.name().to_owned(),
        healthy: trouble.is_none(),
        text: trouble.unwrap_or_else(|| format!("open at {}", port.address())),
    }
}

fn dns(metrics: &daymark_dns::Metrics) -> Part {
    let asked = count(&metrics.queries_udp) + count(&metrics.queries_tcp);
    let text = format!(
        "{asked} questions: {} of the zone, {} forwarded, {} that no upstream answered",
        count(&metrics.zone),
        count(&metrics.forwarded),
        count(&metrics.forward_failures)
    );
    Part {
        name: "dns".to_owned(),
        healthy: true,
        text,
    }
}

fn announcer(metrics: &daymark_lb::Metrics) -> Part {
    let healthy = metrics.lively.load(Ordering::Relaxed);
    let answering = metrics.answering();
    let addresses: Vec<String> = answering.keys().map(ToString::to_string).collect();
    let text = if !healthy {
        "its Lease is not renewed, or nobody is seen to hear it: others answer for load-balancer addresses".to_owned()
    } else if addresses.is_empty() {
        "answers for no load-balancer address".to_owned()
    } else {
        format!("answers for {}", addresses.join(", "))
    };
    Part {
        name: "announcer".to_owned(),
        healthy,
        text,
    }
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
