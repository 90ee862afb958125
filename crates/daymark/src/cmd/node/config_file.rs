//! The configuration file while the agent runs. When it changes the agent ends, so that it is started anew with the new one; but
//! one file serves a whole cluster, so it ends only for a file it could start with, and not at the moment at which all others do.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::anyhow;
use daymark_node::ask::wire::Part;
use daymark_node::events::{Severity, about_node_at_last};
use daymark_node::metrics::Metrics;
use tracing::{error, info};

use super::start::host_name;
use crate::client::Requests;
use crate::kube_proxy::decide;
use crate::kube_proxy::flags::Flags;

/// How often the file is read.
const LOOK: Duration = Duration::from_secs(2);

/// What is needed to judge a new file, and to tell of one that cannot be used.
pub(super) struct Watch {
    /// They name the file, and win over some of it.
    pub(super) flags: Flags,
    /// The agents of a cluster end within this time.
    pub(super) spread: Duration,
    pub(super) client: kube::Client,
    pub(super) node: Arc<str>,
    /// Where it stands that the file is refused.
    pub(super) metrics: Arc<Metrics>,
    /// And why.
    pub(super) refusal: Refusal,
}

/// Why the file that is there cannot be used; nothing while it can.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusal(Arc<Mutex<Option<String>>>);

impl Refusal {
    fn set(&self, why: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// How the configuration is, as `daymark status` has it.
    pub(super) fn tell(&self) -> Part {
        let why = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = why.as_ref().map_or_else(
            || "the file is the one that this agent runs with, or one that it is about to start anew with".to_owned(),
            |why| format!("the file changed to one that this agent could not start with, and goes on without: {why}"),
        );
        Part {
            name: "configuration".to_owned(),
            healthy: why.is_none(),
            text,
        }
    }
}

impl Watch {
    /// Waits until the file says something else than at the start, that can be used; the error to end with.
    pub(super) async fn changed(self) -> anyhow::Error {
        let Some(path) = self.flags.config.as_deref() else {
            return std::future::pending().await;
        };
        let running = read(path).await;
        let mut judged = running.clone();
        loop {
            tokio::time::sleep(LOOK).await;
            let now = read(path).await;
            if now.is_none() || now == judged {
                continue;
            }
            judged = now;
            if judged == running {
                self.judged(None);
                info!("the configuration is again the one that this agent runs with");
                continue;
            }
            if let Err(error) = self.usable().await {
                self.refused(&error);
                continue;
            }
            self.judged(None);
            let wait = moment(self.spread);
            info!(?wait, "the configuration changed: the agent ends soon");
            tokio::time::sleep(wait).await;
            if read(path).await == judged {
                let shown = path.display();
                return anyhow!("the configuration {shown} changed: start again to run with it");
            }
            // It changed once more, and is judged once more.
            judged.clone_from(&running);
        }
    }

    /// All that an agent reads at its start, short of asking the API.
    async fn usable(&self) -> anyhow::Result<()> {
        let decided = decide(&self.flags, &host_name())?;
        let access = decided.given.access(&self.flags);
        access.client(Arc::new(Requests::default())).await?;
        Ok(())
    }

    /// What the file that is there came to: why it cannot be used, if so.
    fn judged(&self, refused: Option<String>) {
        self.metrics.set_configuration_refused(refused.is_some());
        self.refusal.set(refused);
    }

    fn refused(&self, error: &anyhow::Error) {
        let message = format!(
            "the configuration changed and is not used; this agent goes on with the one before, but would not start again. Mend \
             the file: {error:#}"
        );
        error!("{message}");
        self.judged(Some(format!("{error:#}")));
        let (client, node) = (self.client.clone(), Arc::clone(&self.node));
        let wait = moment(self.spread);
        tokio::spawn(async move {
            // All nodes have the same to tell.
            tokio::time::sleep(wait).await;
            let said = ("ConfigurationRefused", message);
            about_node_at_last(client, node, Severity::Warning, said).await;
        });
    }
}

/// A ConfigMap's file is replaced by way of links, and for a moment may not be there.
async fn read(path: &Path) -> Option<Vec<u8>> {
    tokio::fs::read(path).await.ok()
}

/// Any moment of that time.
fn moment(spread: Duration) -> Duration {
    spread.mul_f64(rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_why_the_file_is_refused_until_it_is_mended() {
        let refusal = Refusal::default();
        let seen = refusal.clone();
        assert!(seen.tell().healthy);
        refusal.set(Some("mode: no such mode".to_owned()));
        let part = seen.tell();
        assert_eq!((part.name.as_str(), part.healthy), ("configuration", false));
        assert!(part.text.ends_with(": mode: no such mode"), "{}", part.text);
        refusal.set(None);
        assert!(seen.tell().healthy);
    }

    #[test]
    fn agents_end_all_over_the_time_and_not_later() {
        let minute = Duration::from_secs(60);
        let mut quarters = [0; 4];
        for _ in 0..1000 {
            let wait = moment(minute);
            assert!(wait < minute, "{wait:?}");
            quarters[usize::try_from(wait.as_secs() / 15).unwrap()] += 1;
        }
        // 250 each, and 13.7 is one deviation.
        assert!(quarters.iter().all(|count| *count > 150), "{quarters:?}");
        assert_eq!(moment(Duration::ZERO), Duration::ZERO);
    }
}
