//! Nodes and agents that die.

use std::collections::BTreeSet;
use std::net::IpAddr;

use daymark_lab::cluster::{Part, Where};
use daymark_lab::net::Cable;

use super::ask::{Ask, Family, Job, at};
use super::rows::Row;
use super::{Tour, apply, microseconds, pod, seconds, sleep_ms};

/// How long another node may take to serve a load balancer's address.
const TAKE_OVER: u64 = 5_000_000;
/// A silent node counts as dead after 3 s, its Lease being at most 1 s old; the rest is the way to the kernel.
const NODE_DEAD: u64 = 5_000_000;

pub(super) async fn run(tour: &mut Tour) -> anyhow::Result<()> {
    tour.table.heading("Nodes die; agents are killed");
    let (_, balancer) = apply::addresses(&tour.client, "loadbalancer-service").await?;
    let balancer: Vec<Balancer> = balancer.into_iter().map(Balancer).collect();
    cut_the_owners(tour, &balancer).await?;
    kill_the_agents(tour, &balancer).await
}

/// An address of the load balancer. Each has an owner of its own: the node that answers ARP or neighbour
/// solicitations for it.
struct Balancer(String);

impl Balancer {
    fn family(&self) -> Family {
        Family::of(&self.0)
    }

    fn ask(&self, requests: usize) -> Ask {
        Ask::new(at(&self.0, 80), self.family(), requests)
    }

    /// The node that answers for it now: the one whose address a client outside has for the Pods that it reaches.
    async fn owner(&self, tour: &Tour) -> anyhow::Result<String> {
        let asked = self.ask(8).within(1.0);
        let answers = asked
            .start(&tour.cluster, &Where::Outside)?
            .finish()
            .await?;
        let node_of = |client: &str| {
            let client: IpAddr = client.parse().ok()?;
            let mut nodes = tour.cluster.nodes();
            let node = nodes.find(|node| node.addresses.iter().any(|own| own.address == client))?;
            Some(node.name.clone())
        };
        let seen = answers.0.iter().filter_map(|one| one.result.as_ref().ok());
        let owner = seen.filter_map(|by| node_of(&by.client)).next();
        owner.ok_or_else(|| anyhow::anyhow!("no node answers for {}: {}", self.0, answers.share()))
    }
}

/// A client outside at an address whose owner is about to go.
struct Watched<'a> {
    balancer: &'a Balancer,
    owner: String,
    load: Job,
}

async fn watch<'a>(
    tour: &Tour,
    balancer: &'a [Balancer],
    requests: usize,
) -> anyhow::Result<Vec<Watched<'a>>> {
    let mut watched = Vec::new();
    for one in balancer {
        let owner = one.owner(tour).await?;
        let load = one.ask(requests).at_rate(100).within(0.8);
        watched.push(Watched {
            balancer: one,
            owner,
            load: load.start(&tour.cluster, &Where::Outside)?,
        });
    }
    Ok(watched)
}

/// The owners, each once.
fn owners(watched: &[Watched<'_>]) -> Vec<String> {
    let all: BTreeSet<&String> = watched.iter().map(|one| &one.owner).collect();
    all.into_iter().cloned().collect()
}

async fn cut_the_owners(tour: &mut Tour, balancer: &[Balancer]) -> anyhow::Result<()> {
    let outside = watch(tour, balancer, 850).await?;
    let gone = owners(&outside);
    // Somebody who stays asks for backends, some of which are on the nodes that go.
    let stays = ["node-1", "node-2", "node-3"]
        .into_iter()
        .find(|node| !gone.iter().any(|gone| gone == node))
        .unwrap_or_default();
    let client = pod(&format!("client-{}", stays.trim_start_matches("node-")));
    let (cluster_ips, _) = apply::addresses(&tour.client, "backend-service").await?;
    let mut inside = Vec::new();
    for ip in &cluster_ips {
        let ask = Ask::new(at(ip, 80), Family::of(ip), 800)
            .at_rate(100)
            .within(0.8);
        inside.push((Family::of(ip), ask.start(&tour.cluster, &client)?));
    }
    sleep_ms(500).await;
    for node in &gone {
        tour.cluster.set_cable(node, Cable::Cut)?;
    }
    let cut = microseconds();
    sleep_ms(4000).await;
    apply::copy_of_pod(&tour.client, "backend-1", "backend-new", stays).await?;
    let created = microseconds();
    for (family, job) in inside {
        let answers = job.finish().await?;
        let outage = answers.outage(cut);
        let name = format!(
            "cut off: {}; no Pod there is chosen once its node's Lease lapsed ({family})",
            gone.join(" and ")
        );
        let good = outage.last <= NODE_DEAD;
        tour.table
            .add(Row::new(name, good, outage.to_string(), "5 s"));
        let served = answers
            .first_of_since("backend-new", created)
            .map(|first| first - created);
        let measured = served.map_or("it never served".to_owned(), |served| {
            format!("served {} after it was created", seconds(served))
        });
        let name = format!("a replacement on another node serves ({family})");
        let good = served.is_some_and(|served| served < 2_000_000);
        tour.table.add(Row::new(name, good, measured, "2 s"));
    }
    take_over(tour, outside, cut, ["link", "cut"]).await?;
    for node in &gone {
        tour.cluster.set_cable(node, Cable::Connected)?;
    }
    sleep_ms(2500).await;
    Ok(())
}

async fn kill_the_agents(tour: &mut Tour, balancer: &[Balancer]) -> anyhow::Result<()> {
    let outside = watch(tour, balancer, 650).await?;
    let gone = owners(&outside);
    sleep_ms(500).await;
    for node in &gone {
        tour.cluster.kill(&Part::Agent(node.clone()))?;
    }
    let killed = microseconds();
    take_over(tour, outside, killed, ["agent", "killed"]).await?;
    for node in gone {
        tour.cluster.start(&Part::Agent(node))?;
    }
    Ok(())
}

/// From when on every request is answered, by another owner; and then 200 more.
async fn take_over(
    tour: &mut Tour,
    watched: Vec<Watched<'_>>,
    since: u64,
    [what, fate]: [&str; 2],
) -> anyhow::Result<()> {
    for one in watched {
        let outage = one.load.finish().await?.outage(since);
        let now = one.balancer.owner(tour).await?;
        let next = one
            .balancer
            .ask(200)
            .start(&tour.cluster, &Where::Outside)?
            .finish()
            .await?;
        let good = outage.last <= TAKE_OVER && next.failed() == 0 && now != one.owner;
        let measured = format!("{outage}, {now} answers now, then {}", next.share());
        let name = format!(
            "the {what} of {}, which answered for the load balancer, is {fate}: another serves ({})",
            one.owner,
            one.balancer.family()
        );
        tour.table
            .add(Row::new(name, good, measured, "5 s, then 200/200"));
    }
    Ok(())
}
