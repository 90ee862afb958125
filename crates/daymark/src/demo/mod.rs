//! The guided tour: a lab, the kinds of Service, real traffic, a verdict a row.
//!
//! Each chapter is a file: who reaches what ([`reach`]), Pods that come and go under load ([`churn`]),
//! nodes and agents that die ([`faults`]).

mod apply;
mod ask;
mod churn;
mod faults;
mod reach;
mod rows;

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use daymark_lab::cluster::{Cluster, Spec, Stage, Where};
use kube::Client;

pub(crate) use rows::Output;
use rows::{Row, Table};

/// A tour under way.
struct Tour {
    cluster: Cluster,
    client: Client,
    table: Table,
}

/// Runs the tour in a lab whose files are in `state`. The caller is inside namespaces of its own.
///
/// # Errors
/// If the lab does not come up, or the API refuses; a row that fails is no error.
pub(crate) async fn run(state: &Path, outer_pid: u32, output: Output) -> anyhow::Result<bool> {
    let table = Table::new(output);
    table.heading("A lab: three nodes and an outside network");
    let started = microseconds();
    let spec = Spec::new(
        state.to_owned(),
        std::env::current_exe().context("the path of this program")?,
        outer_pid,
    );
    let cluster = Cluster::up(spec, |stage: Stage| {
        tracing::debug!(?stage, "the lab comes up")
    })
    .await?;
    let client = cluster.client().await?;
    let ready = microseconds();
    cluster.create_basics().await?;
    apply::types(&client).await?;
    let mut tour = Tour {
        cluster,
        client,
        table,
    };
    tour.await_services(started, ready).await?;
    reach::run(&mut tour).await?;
    churn::run(&mut tour).await?;
    faults::run(&mut tour).await?;
    let good = tour.table.finish();
    tour.cluster.down();
    good
}

impl Tour {
    /// Everything that was applied works once: from here on, rows count.
    async fn await_services(&mut self, started: u64, ready: u64) -> anyhow::Result<()> {
        apply::pods_ready(&self.client).await?;
        apply::until(
            "loadbalancer-service has addresses of both families",
            || async {
                Ok(apply::addresses(&self.client, "loadbalancer-service")
                    .await?
                    .1
                    .len()
                    == 2)
            },
        )
        .await?;
        let first = ask::Ask::new("backend-service:80", ask::Family::V4, 1);
        apply::until("backend-service answers by name", || async {
            Ok(first
                .start(&self.cluster, &pod("client-1"))?
                .finish()
                .await?
                .failed()
                == 0)
        })
        .await?;
        let served = microseconds();
        // An address moves when a node joins that is the better owner: nodes come before connections are counted.
        let nodes = self.cluster.nodes().count();
        apply::until("every node announces", || async {
            Ok(apply::announcers(&self.client).await? == nodes)
        })
        .await?;
        let (_, balancer) = apply::addresses(&self.client, "loadbalancer-service").await?;
        for ip in balancer {
            let outside = ask::Ask::new(ask::at(&ip, 80), ask::Family::of(&ip), 1).within(1.0);
            apply::until("loadbalancer-service answers from outside", || async {
                let job = outside.start(&self.cluster, &Where::Outside)?;
                Ok(job.finish().await?.failed() == 0)
            })
            .await?;
        }
        let measured = format!(
            "nodes ready after {}, first request served after {}",
            seconds(ready - started),
            seconds(served - started)
        );
        // The figure of the release build is in `daymark bench`; a debug build on a busy machine gets five times as long.
        self.table.add(Row::new(
            "the lab is up",
            served - started < 10_000_000,
            measured,
            "10 s",
        ));
        Ok(())
    }
}

/// A Pod of the tour.
fn pod(name: &str) -> Where {
    Where::Pod {
        namespace: "default".to_owned(),
        name: name.to_owned(),
    }
}

/// Microseconds as seconds, for people.
fn seconds(microseconds: u64) -> String {
    format!("{:.2} s", microseconds as f64 / 1e6)
}

#[allow(
    clippy::disallowed_methods,
    reason = "events are matched with lines of other processes by the wall clock"
)]
fn microseconds() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

async fn sleep_ms(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}
