//! Pods that come and go under load.

use super::ask::{Answers, Ask, Family, Job, at};
use super::rows::Row;
use super::{Tour, apply, microseconds, pod, seconds, sleep_ms};

/// Requests a second of each client.
const RATE: u32 = 240;
/// A Pod is killed before its DELETE is answered, and loses what was begun before: microseconds.
const UNDER_WAY: u64 = 200_000;
/// Who asks, in IPv4 and in IPv6.
const CLIENTS: [&str; 2] = ["client-1", "client-2"];

pub(super) async fn run(tour: &mut Tour) -> anyhow::Result<()> {
    tour.table.heading("Pods are replaced under load");
    graceful(tour).await?;
    abrupt(tour).await?;
    readiness(tour).await
}

/// A client of each family, from these Pods, at the Service's address.
async fn load(
    tour: &Tour,
    clients: [&str; 2],
    requests: usize,
) -> anyhow::Result<Vec<(Family, Job)>> {
    let (ips, _) = apply::addresses(&tour.client, "backend-service").await?;
    let mut jobs = Vec::new();
    for (ip, from) in ips.iter().zip(clients) {
        let family = Family::of(ip);
        let ask = Ask::new(at(ip, 80), family, requests)
            .at_rate(RATE)
            .within(2.0);
        jobs.push((family, ask.start(&tour.cluster, &pod(from))?));
    }
    Ok(jobs)
}

async fn finish(jobs: Vec<(Family, Job)>) -> anyhow::Result<Vec<(Family, Answers)>> {
    let mut all = Vec::new();
    for (family, job) in jobs {
        all.push((family, job.finish().await?));
    }
    Ok(all)
}

/// Deletes a Pod and waits until its replacement is ready; returns when the DELETE was answered.
async fn replace(
    tour: &Tour,
    old: &str,
    new: &str,
    node: &str,
    grace: Option<u32>,
) -> anyhow::Result<u64> {
    apply::delete_pod(&tour.client, old, grace).await?;
    let deleted = microseconds();
    apply::copy_of_pod(&tour.client, "backend-1", new, node).await?;
    apply::until("the replacement is ready", || async {
        Ok(apply::is_ready(&apply::pod(&tour.client, new).await?))
    })
    .await?;
    Ok(deleted)
}

async fn graceful(tour: &mut Tour) -> anyhow::Result<()> {
    let jobs = load(tour, CLIENTS, 2400).await?;
    sleep_ms(1000).await;
    let mut deleted = Vec::new();
    for number in 1..=3 {
        let (old, new, node) = (
            format!("backend-{number}"),
            format!("backend-{number}b"),
            format!("node-{number}"),
        );
        deleted.push((old.clone(), replace(tour, &old, &new, &node, None).await?));
        sleep_ms(1500).await;
    }
    for (family, answers) in finish(jobs).await? {
        let good = answers.failed() == 0 && answers.0.len() >= 2000 && answers.rate() >= 200.0;
        let measured = format!(
            "{} at {:.0}/s, 3 Pods replaced",
            answers.share(),
            answers.rate()
        );
        let name = format!(
            "Pods deleted and created again with new addresses: no request fails ({family})"
        );
        tour.table.add(Row::new(
            name,
            good,
            measured,
            "0 failures of >= 2000 at >= 200/s",
        ));
        let late = |(pod, at): &(String, u64)| {
            answers
                .last_of(pod)
                .map_or(0, |last| last.saturating_sub(*at))
        };
        let latest = deleted.iter().map(late).max().unwrap_or_default();
        let name = format!("no new connection reaches a deleted Pod ({family})");
        let measured = format!(
            "the last one {:.0} ms after the DELETE was answered",
            latest as f64 / 1e3
        );
        tour.table
            .add(Row::new(name, latest <= 1_000_000, measured, "1 s"));
    }
    Ok(())
}

/// The same by SIGKILL without grace: requests that are under way are lost, which nothing in front of a Pod can mend.
async fn abrupt(tour: &mut Tour) -> anyhow::Result<()> {
    // A connection that stood when its Pod was killed is remembered by the kernel for two minutes, and a new one from
    // the same port belongs to it: a client of its own, so that no later row meets these.
    let jobs = load(tour, ["client-3"; 2], 1400).await?;
    sleep_ms(500).await;
    let mut killed = Vec::new();
    for number in 1..=3 {
        let (old, new) = (format!("backend-{number}b"), format!("backend-{number}c"));
        killed.push(replace(tour, &old, &new, &format!("node-{number}"), Some(0)).await?);
        sleep_ms(1200).await;
    }
    for (family, answers) in finish(jobs).await? {
        // Each failure is held against the last Pod that was killed before it, or while it was under way.
        let after = |started: u64| {
            let before = killed.iter().filter(|at| **at <= started + UNDER_WAY).max();
            before.map_or(started, |at| started.saturating_sub(*at))
        };
        let failed = answers.0.iter().filter(|one| one.result.is_err());
        let last = failed.map(|one| after(one.started)).max();
        let last = last.unwrap_or_default();
        let measured = format!(
            "{} failed of {}, 3 Pods killed, none later than {:.0} ms after",
            answers.failed(),
            answers.0.len(),
            last as f64 / 1e3
        );
        let name = format!("Pods killed without grace: failures counted ({family})");
        let limit = "none later than 1 s after the DELETE";
        tour.table
            .add(Row::new(name, last <= 1_000_000, measured, limit));
    }
    Ok(())
}

/// A Pod that says it is not ready gets nothing new, and gets it again once it is healed.
async fn readiness(tour: &mut Tour) -> anyhow::Result<()> {
    let victim = "backend-2c";
    let ips = apply::pod(&tour.client, victim)
        .await?
        .status
        .and_then(|status| status.pod_ip)
        .unwrap_or_default();
    let jobs = load(tour, CLIENTS, 1100).await?;
    sleep_ms(700).await;
    tell(tour, &ips, "/fail").await?;
    let failed = microseconds();
    sleep_ms(2000).await;
    tell(tour, &ips, "/heal").await?;
    let healed = microseconds();
    for (family, answers) in finish(jobs).await? {
        let before = Answers(
            answers
                .0
                .iter()
                .filter(|answer| answer.started < healed)
                .cloned()
                .collect(),
        );
        let late = before
            .last_of(victim)
            .map_or(0, |last| last.saturating_sub(failed));
        let again = answers
            .first_of_since(victim, healed)
            .map(|first| first - healed);
        let good = late <= 1_000_000 && again.is_some() && answers.failed() == 0;
        let back = again.map_or("never again".to_owned(), |again| {
            format!("again {} after it was healed", seconds(again))
        });
        let measured = format!(
            "last connection {:.0} ms after the failure, {back}",
            late as f64 / 1e3
        );
        let name = format!("a Pod whose readiness probe fails gets no new connection ({family})");
        tour.table
            .add(Row::new(name, good, measured, "1 s, and again once healed"));
    }
    Ok(())
}

/// Sets a Pod's health, at its own address.
async fn tell(tour: &Tour, ip: &str, path: &str) -> anyhow::Result<()> {
    let binary = std::env::current_exe()?;
    let mut command = tour
        .cluster
        .command(&pod("client-3"), &binary.to_string_lossy())?;
    command.args(["ask", &at(ip, 8080), "--method", "POST", "--path", path]);
    command.stdout(std::process::Stdio::null());
    let status = tokio::task::spawn_blocking(move || command.status()).await??;
    anyhow::ensure!(status.success(), "POST {path} to {ip}");
    Ok(())
}
