//! Who reaches what: every type of Service, by name and by address, from everywhere it should and from
//! nowhere else.

use daymark_lab::cluster::Where;

use super::ask::{Answers, Ask, Family, Job, at};
use super::rows::Row;
use super::{Tour, apply, pod};

/// Requests of a row; each of two Pods is missed by all of them once in 10^9 runs.
const REQUESTS: usize = 30;

/// A refusal that takes longer was lost once: the first SYN is sent again after a second (RFC 6298).
const RETRANSMIT: u64 = 950_000;

pub(super) async fn run(tour: &mut Tour) -> anyhow::Result<()> {
    tour.table
        .heading("Every type of Service answers, in IPv4 and IPv6");
    for family in Family::BOTH {
        from_pods(tour, family).await?;
        from_outside(tour, family).await?;
        nothing_selected(tour, family).await?;
        even_spread(tour, family).await?;
    }
    Ok(())
}

/// A client, where it asks from, and what its answers must show.
struct Question {
    name: String,
    job: Job,
    expect: Expect,
}

/// What must be seen in answers.
enum Expect {
    /// All answered.
    All,
    /// All answered, some by a Pod of this node and some by one of another.
    SameAndOther(&'static str),
    /// All answered, some by the client itself.
    Itself(&'static str),
    /// All answered by this one.
    Only(&'static str),
    /// All refused at once.
    Refused,
    /// None answered, in whatever way.
    Silent,
}

async fn from_pods(tour: &mut Tour, family: Family) -> anyhow::Result<()> {
    let mut questions = Vec::new();
    for (service, client, node, member) in [
        ("backend-service", "client-1", "node-1", "backend-1"),
        ("nodeport-service", "client-1", "node-1", "my-app-1"),
        ("loadbalancer-service", "client-2", "node-2", "frontend-1"),
    ] {
        let (ips, _) = apply::addresses(&tour.client, service).await?;
        let ip = ips
            .iter()
            .find(|ip| Family::of(ip) == family)
            .map(String::as_str)
            .unwrap_or_default();
        for (how, to) in [
            ("by name", format!("{service}:80")),
            ("by address", at(ip, 80)),
        ] {
            let ask = Ask::new(to, family, REQUESTS);
            for (who, from, expect) in [
                (
                    "a Pod, to the same and another node",
                    client,
                    Expect::SameAndOther(node),
                ),
                (
                    "one of its own Pods, to itself too",
                    member,
                    Expect::Itself(member),
                ),
            ] {
                let name = format!("{service} {how} from {who} ({family})");
                questions.push(Question {
                    name,
                    job: ask.start(&tour.cluster, &pod(from))?,
                    expect,
                });
            }
        }
    }
    let ask = Ask::new("external-service:80", family, 5);
    let job = ask.start(&tour.cluster, &pod("client-3"))?;
    let name = format!("external-service by name leads to example.com outside ({family})");
    questions.push(Question {
        name,
        job,
        expect: Expect::Only("outside"),
    });
    judge(tour, questions).await
}

async fn from_outside(tour: &mut Tour, family: Family) -> anyhow::Result<()> {
    let start = |to: String, count: usize| {
        Ask::new(to, family, count)
            .within(1.0)
            .start(&tour.cluster, &Where::Outside)
    };
    let (cluster_ips, balancer_ips) =
        apply::addresses(&tour.client, "loadbalancer-service").await?;
    let of_family = |ips: &[String]| {
        ips.iter()
            .find(|ip| Family::of(ip) == family)
            .cloned()
            .unwrap_or_default()
    };
    let mut questions = Vec::new();
    let balancer_port = node_port(tour, "loadbalancer-service").await?;
    for (service, port) in [
        ("nodeport-service", 30007),
        ("loadbalancer-service", balancer_port),
    ] {
        for node in tour.cluster.nodes() {
            let prefix = node
                .addresses
                .iter()
                .map(|prefix| prefix.address.to_string())
                .find(|ip| Family::of(ip) == family);
            let job = start(at(&prefix.unwrap_or_default(), port), 10)?;
            let name = format!(
                "{service} at the node port of {} from outside ({family})",
                node.name
            );
            questions.push(Question {
                name,
                job,
                expect: Expect::All,
            });
        }
    }
    let balancer = of_family(&balancer_ips);
    for (name, job, expect) in [
        (
            "loadbalancer-service at its address from outside",
            start(at(&balancer, 80), REQUESTS)?,
            Expect::All,
        ),
        (
            "any other port of that address is refused",
            start(at(&balancer, 81), 3)?,
            Expect::Refused,
        ),
        (
            "a cluster IP does not answer from outside",
            start(at(&of_family(&cluster_ips), 80), 2)?,
            Expect::Silent,
        ),
    ] {
        questions.push(Question {
            name: format!("{name} ({family})"),
            job,
            expect,
        });
    }
    judge(tour, questions).await
}

async fn node_port(tour: &Tour, service: &str) -> anyhow::Result<u16> {
    let services: kube::Api<k8s_openapi::api::core::v1::Service> =
        kube::Api::default_namespaced(tour.client.clone());
    let spec = services.get(service).await?.spec.unwrap_or_default();
    let port = spec
        .ports
        .into_iter()
        .flatten()
        .find_map(|port| port.node_port);
    Ok(port
        .and_then(|port| u16::try_from(port).ok())
        .unwrap_or_default())
}

async fn nothing_selected(tour: &mut Tour, family: Family) -> anyhow::Result<()> {
    let name = format!("nobody-{}", family.to_string().to_lowercase());
    let object = serde_json::json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": "nobody"}, "ipFamilies": [family.to_string()], "ports": [{"port": 80}]},
    });
    apply::create(&tour.client, &object).await?;
    let to = format!("{name}:80");
    let ask = Ask::new(&to, family, 3).within(1.0);
    // Its name is known once the plane has its address; the first look-up may be earlier than the watch.
    apply::until("the name of a new Service is known", || async {
        let answers = ask.start(&tour.cluster, &pod("client-1"))?.finish().await?;
        Ok(answers.0.iter().all(|answer| {
            answer
                .result
                .as_ref()
                .is_err_and(|error| !error.contains("look up"))
        }))
    })
    .await?;
    let job = ask.start(&tour.cluster, &pod("client-1"))?;
    let name = format!("a Service whose selector matches nothing is refused at once ({family})");
    judge(
        tour,
        vec![Question {
            name,
            job,
            expect: Expect::Refused,
        }],
    )
    .await
}

/// Chi-square of three Pods: two degrees of freedom, so that p = exp(-x/2).
async fn even_spread(tour: &mut Tour, family: Family) -> anyhow::Result<()> {
    const CONNECTIONS: usize = 1200;
    let (ips, _) = apply::addresses(&tour.client, "backend-service").await?;
    let ip = ips
        .iter()
        .find(|ip| Family::of(ip) == family)
        .map(String::as_str)
        .unwrap_or_default();
    let answers = Ask::new(at(ip, 80), family, CONNECTIONS)
        .start(&tour.cluster, &pod("client-2"))?
        .finish()
        .await?;
    let counts = answers.by_pod();
    let expected = CONNECTIONS as f64 / 3.0;
    let chi: f64 = counts
        .values()
        .map(|count| (*count as f64 - expected).powi(2) / expected)
        .sum();
    let p = (-chi / 2.0).exp();
    let shares: Vec<String> = counts.values().map(usize::to_string).collect();
    let good = counts.len() == 3 && answers.failed() == 0 && p > 1e-6;
    let measured = format!("{} of {CONNECTIONS}, p = {p:.3}", shares.join(" + "));
    tour.table.add(Row::new(
        format!("connections spread evenly over three Pods ({family})"),
        good,
        measured,
        "p > 1e-6",
    ));
    Ok(())
}

async fn judge(tour: &mut Tour, questions: Vec<Question>) -> anyhow::Result<()> {
    for Question { name, job, expect } in questions {
        let answers = job.finish().await?;
        let (good, limit) = verdict(&answers, &expect);
        tour.table
            .add(Row::new(name, good, shown(&answers, &expect), limit));
    }
    Ok(())
}

fn verdict(answers: &Answers, expect: &Expect) -> (bool, &'static str) {
    let all = answers.failed() == 0 && answers.good() > 0;
    match expect {
        Expect::All => (all, "all"),
        Expect::SameAndOther(node) => (
            all && answers.reached_node(node) && answers.reached_other_than(node),
            "all, both kinds",
        ),
        Expect::Itself(pod) => (
            all && answers.by_pod().contains_key(*pod),
            "all, itself among them",
        ),
        Expect::Only(pod) => (
            all && answers.by_pod().keys().all(|by| by == pod),
            "all, by that server",
        ),
        Expect::Refused => (
            answers.good() == 0
                && answers
                    .0
                    .iter()
                    .all(|a| a.took < RETRANSMIT && is_refusal(&a.result)),
            "refused before a first retransmit, 1 s",
        ),
        Expect::Silent => (answers.good() == 0, "no answer"),
    }
}

fn is_refusal(result: &Result<super::ask::By, String>) -> bool {
    result
        .as_ref()
        .is_err_and(|error| error.contains("refused"))
}

fn shown(answers: &Answers, expect: &Expect) -> String {
    match expect {
        Expect::Refused => {
            let slowest = answers
                .0
                .iter()
                .map(|answer| answer.took)
                .max()
                .unwrap_or_default();
            format!(
                "{} tries, {} answered, at most {:.1} ms",
                answers.0.len(),
                answers.good(),
                slowest as f64 / 1e3
            )
        }
        Expect::Itself(pod) => format!(
            "{}, {} by itself",
            answers.share(),
            answers.by_pod().get(*pod).copied().unwrap_or_default()
        ),
        _ => answers.share(),
    }
}
