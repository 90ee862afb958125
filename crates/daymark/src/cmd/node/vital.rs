//! The tasks beside the plane, none of which is missed by any other when it dies.
//!
//! A task that panics takes what it served with it. Of what serves others, node ports on loopback, health checks, DNS, the ports for health
//! and metrics and the agent's own socket, none holds what another process could not make anew within a second, and the kernel keeps the
//! tables; so the agent ends, with a message and exit code 1, and is started again. That is for what accepts, or keeps what is answered:
//! one connection or question that panics is that one's loss. What only tells, such as Events, is not worth that: what makes it panic is
//! likely to do so on all nodes, and again, and Services would stand still for as long as agents are kept from starting. The log says that
//! it is gone.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;

use anyhow::anyhow;
use daymark_node::panics::words;
use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::task::{Id, JoinSet};
use tracing::error;

/// Tasks by name. Dropping it ends them.
#[derive(Debug, Default)]
pub(super) struct Vital {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Vital {
    /// Starts a task that should never end.
    pub(super) fn endless(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let id = self.tasks.spawn(task).id();
        self.names.insert(id, name);
    }

    /// The same, on another runtime.
    pub(super) fn endless_on(
        &mut self,
        runtime: &Handle,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let id = self.tasks.spawn_on(task, runtime).id();
        self.names.insert(id, name);
    }

    /// Starts a task that may come to its end, and without which Services go on.
    pub(super) fn aside(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.endless(name, async move {
            if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
                let why = words(&*panic);
                error!(task = name, why, "a task beside the Services panicked; what it did is not done until the agent is started anew");
            }
            std::future::pending().await
        });
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.names.values().copied().collect();
        names.sort_unstable();
        names
    }

    /// Waits until one panics, or ends that should not.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        let Some(ended) = self.tasks.join_next_with_id().await else {
            return std::future::pending().await;
        };
        let (id, why) = match ended {
            Ok((id, ())) => (id, "ended by itself".to_owned()),
            Err(error) => (
                error.id(),
                match error.try_into_panic() {
                    Ok(panic) => format!("panicked: {}", words(&*panic)),
                    Err(error) => error.to_string(),
                },
            ),
        };
        let name = self.names.get(&id).copied().unwrap_or("a task");
        anyhow!("{name} {why}; the agent ends, for the next one to serve them")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ended(start: impl FnOnce(&mut Vital)) -> String {
        let mut vital = Vital::default();
        vital.endless("what lives", std::future::pending());
        vital.aside("what is done", async {});
        vital.aside("what only tells", async { panic!("oh") });
        start(&mut vital);
        vital.ended().await.to_string()
    }

    #[tokio::test]
    async fn what_serves_and_panics_or_ends_too_early_is_named_and_what_stands_aside_ends_nobody() {
        let panics = ended(|vital| vital.endless("health checks", async { panic!("at {}", 7) }));
        assert!(
            panics
                .await
                .starts_with("health checks panicked: at 7; the agent ends")
        );
        let ends = ended(|vital| vital.endless_on(&Handle::current(), "Events", async {}));
        assert!(ends.await.starts_with("Events ended by itself;"));
    }
}
