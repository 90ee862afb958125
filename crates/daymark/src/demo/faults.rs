//! Nodes and agents that die.

use std::net::IpAddr;

use daymark_lab::cluster::{Part, Where};
use daymark_lab::net::Cable;

use super::ask::{Answers, Ask, Family, Job, at};
use super::rows::Row;
use super::{Tour, apply, microseconds, pod, seconds, sleep_ms};

/// How long another node may take to serve a load balancer's address.
const TAKE_OVER: u64 = 5_000_000;
/// A silent node counts as dead after 3 s, its Lease being at most 1 s old; the rest is the way to the kernel.
const NODE_DEAD: u64 = 5_000_000;

pub(super) async fn run(tour: &mut Tour) -> anyhow::Result<()> {
    tour.table.heading("A node dies; an agent is killed");
    let (_, balancer) = apply::addresses(&tour.client, "loadbalancer-service").await?;
    cut_a_node(tour, &balancer).await?;
    kill_an_agent(tour, &balancer).await
}

/// Clients outside, at every address of the load balancer.
fn outside_load(
    tour: &Tour,
    balancer: &[String],
    requests: usize,
) -> anyhow::Result<Vec<(Family, Job)>> {
    let start = |ip: &String| {
        let family = Family::of(ip);
        let ask = Ask::new(at(ip, 80), family, requests)
            .at_rate(100)
            .within(0.8);
        Ok((family, ask.start(&tour.cluster, &Where::Outside)?))
    };
    balancer.iter().map(start).collect()
}

async fn cut_a_node(tour: &mut Tour, balancer: &[String]) -> anyhow::Result<()> {
    let owner = owner(tour, balancer).await?;
    // Somebody who stays asks for backends, some of which are on the node that goes.
    let stays = ["node-1", "node-2", "node-3"]
        .into_iter()
        .find(|node| *node != owner)
        .unwrap_or_default();
    let client = pod(&format!("client-{}", stays.trim_start_matches("node-")));
    let (cluster_ips, _) = apply::addresses(&tour.client, "backend-service").await?;
    let mut inside = Vec::new();
    for ip in &cluster_ips {
        let ask = Ask::new(at(ip, 80), Family::of(ip), 900)
            .at_rate(100)
            .within(0.8);
        inside.push((Family::of(ip), ask.start(&tour.cluster, &client)?));
    }
    let outside = outside_load(tour, balancer, 900)?;
    sleep_ms(500).await;
    tour.cluster.set_cable(&owner, Cable::Cut)?;
    let cut = microseconds();
    sleep_ms(4000).await;
    apply::copy_of_pod(&tour.client, "backend-1", "backend-new", stays).await?;
    let created = microseconds();
    for (family, job) in inside {
        let answers = job.finish().await?;
        let outage = answers.outage(cut);
        let measured = outage.to_string();
        let name =
            format!("{owner} dies: none of its Pods is chosen once its Lease lapsed ({family})");
        tour.table
            .add(Row::new(name, outage.last <= NODE_DEAD, measured, "5 s"));
        let served = answers
            .first_of_since("backend-new", created)
            .map(|first| first - created);
        let measured = served.map_or("it never served".to_owned(), |served| {
            format!("served {} after it was created", seconds(served))
        });
        let name = format!("a replacement on another node serves ({family})");
        tour.table.add(Row::new(
            name,
            served.is_some_and(|served| served < 2_000_000),
            measured,
            "2 s",
        ));
    }
    take_over(
        tour,
        outside,
        cut,
        &owner,
        &format!("the link of {owner}, which answered for the load balancer, is cut"),
        balancer,
    )
    .await?;
    tour.cluster.set_cable(&owner, Cable::Connected)?;
    sleep_ms(2500).await;
    Ok(())
}

async fn kill_an_agent(tour: &mut Tour, balancer: &[String]) -> anyhow::Result<()> {
    let owner = owner(tour, balancer).await?;
    let outside = outside_load(tour, balancer, 650)?;
    sleep_ms(500).await;
    tour.cluster.kill(&Part::Agent(owner.clone()))?;
    let killed = microseconds();
    take_over(
        tour,
        outside,
        killed,
        &owner,
        &format!("the agent of {owner}, which answered for it, is killed"),
        balancer,
    )
    .await?;
    tour.cluster.start(&Part::Agent(owner))?;
    Ok(())
}

/// From when on every request is answered; and then 200 more.
async fn take_over(
    tour: &mut Tour,
    jobs: Vec<(Family, Job)>,
    since: u64,
    gone: &str,
    what: &str,
    balancer: &[String],
) -> anyhow::Result<()> {
    let mut gaps = Vec::new();
    for (family, job) in jobs {
        let answers: Answers = job.finish().await?;
        gaps.push((family, answers.outage(since)));
    }
    let now = owner(tour, balancer).await?;
    let taken = now != gone;
    for ((family, gap), ip) in gaps.into_iter().zip(balancer) {
        let next = Ask::new(at(ip, 80), family, 200)
            .start(&tour.cluster, &Where::Outside)?
            .finish()
            .await?;
        let good = gap.last <= TAKE_OVER && next.failed() == 0 && taken;
        let measured = format!("{gap}, {now} answers now, then {}", next.share());
        tour.table.add(Row::new(
            format!("{what}: another serves ({family})"),
            good,
            measured,
            "5 s, then 200/200",
        ));
    }
    Ok(())
}

/// The node that answers ARP for the address, as the outside host's neighbour table tells.
async fn owner(tour: &Tour, balancer: &[String]) -> anyhow::Result<String> {
    let four = balancer
        .iter()
        .find(|ip| Family::of(ip) == Family::V4)
        .cloned()
        .unwrap_or_default();
    let mut asked = vec![at(&four, 80)];
    let mut nodes = Vec::new();
    for node in tour.cluster.nodes() {
        let ip = node
            .addresses
            .iter()
            .map(|prefix| prefix.address)
            .find(IpAddr::is_ipv4);
        let ip = ip.map(|ip| ip.to_string()).unwrap_or_default();
        asked.push(at(&ip, 30007));
        nodes.push((node.name.clone(), ip));
    }
    for to in asked {
        Ask::new(to, Family::V4, 1)
            .within(1.0)
            .start(&tour.cluster, &Where::Outside)?
            .finish()
            .await?;
    }
    let table = tour.cluster.in_ns(&Where::Outside, || {
        std::fs::read_to_string("/proc/thread-self/net/arp")
    })??;
    let link = |ip: &str| {
        let row = table
            .lines()
            .find(|line| line.split_whitespace().next() == Some(ip))?;
        row.split_whitespace().nth(3).map(str::to_owned)
    };
    let wanted = link(&four);
    let found = nodes
        .into_iter()
        .find(|(_, ip)| wanted.is_some() && link(ip) == wanted);
    found
        .map(|(name, _)| name)
        .ok_or_else(|| anyhow::anyhow!("no node answers for {four}:\n{table}"))
}
