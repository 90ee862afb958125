//! daymark beside the real kube-proxy.
//!
//! ```text
//!   etcd, kube-apiserver            lab                        lab, the same again
//!   (this process's namespace)  <-- relay -- fabric        <-- relay -- fabric
//!            ^                      node-1: kube-proxy         node-1: daymark node
//!            |                      Pods, an outside host      Pods, an outside host
//!        random clusters            the same packets           the same packets
//! ```
//!
//! For each random cluster and each of its two states: the objects are written, both proxies are waited for
//! ([`sentinel`]), connections are forgotten, the packets are sent in both labs, and what became of each
//! ([`seen`]) is compared ([`difference`]). At the end of each configuration the names of their counters are, too ([`metrics`]).

mod api;
mod difference;
mod metrics;
mod objects;
mod report;
mod rights;
mod seen;
mod sentinel;
mod site;
mod variant;

use std::ops::Range;
use std::path::PathBuf;

use anyhow::Context;
use daymark_case::random::{self, Manner, Size};
use daymark_case::{Case, Spread, Step};
use daymark_lab::cluster::grant;
use daymark_lab::control::{ControlPlane, Spec, User};
use daymark_lab::net::Segment;
use daymark_model::{Change, Packet, Verdict, World, decide};
use daymark_sys::ns::NetNs;
use tokio::runtime::Runtime;

use crate::beside::{Proxy, control_plane};
use crate::judge::lab::layout::Layout;
use api::Writer;
use difference::{Finding, compare};
use report::Report;
use rights::Rights;
use seen::Seen;
use sentinel::Sentinel;
use site::{Question, Site, Tries};
use variant::Variant;

/// What is to be compared.
pub(crate) struct Plan {
    /// The folder of the real programs.
    pub(crate) programs: PathBuf,
    /// A folder for keys, the store and logs.
    pub(crate) state: PathBuf,
    /// A cluster from each of these.
    pub(crate) seeds: Range<u64>,
    /// Packets in each state of a cluster.
    pub(crate) packets: usize,
}

/// Compares, prints what was found, and tells whether nothing but meant differences was.
///
/// # Errors
/// What kept the labs or the programs from working.
pub(crate) fn run(runtime: &Runtime, plan: &Plan) -> anyhow::Result<bool> {
    // Its loopback is where the API answers.
    let _here = Segment::new(NetNs::current()?, &[])?;
    let size = Size {
        manner: Manner::Admissible,
        steps: 1,
        packets: plan.packets,
        ..Size::default()
    };
    let mut control = Control::start(runtime, plan)?;
    let mut report = Report::default();
    for variant in Variant::ALL {
        let options = variant.options(&plan.state)?;
        let seeds = plan.seeds.clone();
        let cases: Vec<Case> = seeds
            .filter(|seed| Variant::of(*seed) == variant)
            .map(|seed| random::case_with(seed, size, options.clone()))
            .collect();
        if cases.is_empty() {
            continue;
        }
        let mut bench = Bench::new(&mut control, plan, &cases, variant)?;
        report::begin(variant, cases.len());
        for case in &cases {
            bench.play(case, &mut report)?;
            if report.differs_in(case) {
                let file = plan.state.join(&case.file);
                std::fs::write(&file, case.to_string())
                    .with_context(|| format!("writing {}", file.display()))?;
            }
        }
        report.metrics.extend(bench.metrics()?);
    }
    report.print(&plan.seeds);
    let rights = Rights::new(control.plane.audit(AGENT)?, MANIFEST)?;
    rights.print();
    let good = report.is_good() && rights.suffice();
    if good {
        let _ = std::fs::remove_dir_all(&plan.state);
    }
    Ok(good)
}

/// What the agent is installed by, and the user that it is at the API.
const MANIFEST: &str = include_str!("../../../../deploy/node.yaml");
const AGENT: &str = "system:serviceaccount:kube-system:daymark-node";

/// The control plane, and who writes to it.
struct Control<'a> {
    runtime: &'a Runtime,
    writer: Writer,
    sentinel: Sentinel,
    plane: ControlPlane,
}

impl<'a> Control<'a> {
    fn start(runtime: &'a Runtime, plan: &Plan) -> anyhow::Result<Self> {
        let plane = runtime.block_on(ControlPlane::start(spec(plan)))?;
        let client = runtime.block_on(plane.client())?;
        // The agent has the rights of its manifest, and no others.
        runtime.block_on(grant(&client, MANIFEST))?;
        let writer = Writer::new(client);
        for name in ["default", "prod", sentinel::NAMESPACE] {
            runtime.block_on(writer.namespace(name))?;
        }
        Ok(Self {
            runtime,
            writer,
            sentinel: Sentinel(0),
            plane,
        })
    }
}

/// Two labs with a configuration.
struct Bench<'a, 'b> {
    control: &'a mut Control<'b>,
    layout: Layout,
    sites: [Site; 2],
}

impl<'a, 'b> Bench<'a, 'b> {
    fn new(
        control: &'a mut Control<'b>,
        plan: &Plan,
        cases: &[Case],
        variant: Variant,
    ) -> anyhow::Result<Self> {
        let universe = universe(cases);
        let node = universe.steps.iter().flat_map(|step| &step.changes);
        let node: Vec<Change> = node
            .filter(|change| matches!(change, Change::Node(_)))
            .take(1)
            .cloned()
            .collect();
        control.runtime.block_on(control.writer.clear())?;
        control.runtime.block_on(control.writer.apply(&node))?;
        let layout = Layout::of(&universe);
        let server = format!("https://{}", site::API);
        let start = |proxy: Proxy| -> anyhow::Result<Site> {
            let kubeconfig = plan.state.join(format!("{}.kubeconfig", proxy.name()));
            control
                .plane
                .kubeconfig(proxy.name(), &server, &kubeconfig)?;
            let config = variant.write(proxy.name(), &kubeconfig, &plan.state)?;
            Site::new(proxy, &layout, &plan.programs, &config, &plan.state)
        };
        let [kube, daymark] = Proxy::BOTH.map(start);
        let mut sites = [kube?, daymark?];
        sites.iter_mut().try_for_each(Site::await_ranges)?;
        Ok(Self {
            control,
            layout,
            sites,
        })
    }

    /// Brings both proxies through the states of a case.
    fn play(&mut self, case: &Case, report: &mut Report) -> anyhow::Result<()> {
        let mut world = World::new(case.options.clone());
        let control = &mut *self.control;
        control.runtime.block_on(control.writer.clear())?;
        for step in &case.steps {
            world.apply(step.changes.iter().cloned());
            self.enter(&step.changes)
                .with_context(|| format!("{}: {}", case.file, step.name))?;
            let packets: Vec<Packet> = step.checks.iter().map(|check| check.packet).collect();
            self.compare(case, &world, &packets, report)?;
        }
        report.clusters += 1;
        Ok(())
    }

    fn enter(&mut self, changes: &[Change]) -> anyhow::Result<()> {
        let control = &mut *self.control;
        control.sentinel = control.sentinel.next();
        let sentinel = control.sentinel;
        control.runtime.block_on(async {
            control.writer.apply(changes).await?;
            sentinel.raise(&mut control.writer).await
        })?;
        for site in &mut self.sites {
            site.catch_up(&sentinel)?;
        }
        for site in &mut self.sites {
            site.forget()?;
        }
        Ok(())
    }

    fn compare(
        &mut self,
        case: &Case,
        world: &World,
        packets: &[Packet],
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let questions: Vec<Question> = packets
            .iter()
            .map(|packet| question(world, packet, TRIES))
            .collect();
        let first = self.ask(&questions)?;
        for (question, [kube, _]) in questions.iter().zip(&first) {
            report.meets(&question.packet, kube);
        }
        // Chance may hide one endpoint of many, and a busy machine a packet: asked again, it is certain.
        let again: Vec<Question> = questions
            .iter()
            .zip(&first)
            .filter(|(question, [kube, daymark])| {
                compare(world, question, kube, daymark) != Finding::Same
            })
            .map(|(asked, _)| question(world, &asked.packet, 8 * TRIES))
            .collect();
        for (question, [kube, daymark]) in again.iter().zip(self.ask(&again)?) {
            let finding = compare(world, question, &kube, &daymark);
            if finding != Finding::Same {
                report.differs(case, &question.packet, &finding, &kube, &daymark);
            }
        }
        report.repeated += again.len();
        Ok(())
    }

    /// What differs between the names and labels of the two programs' counters.
    fn metrics(&self) -> anyhow::Result<Vec<String>> {
        let [kube, daymark] = &self.sites;
        Ok(metrics::differences(&kube.metrics()?, &daymark.metrics()?))
    }

    /// What becomes of packets in the two labs.
    fn ask(&self, questions: &[Question]) -> anyhow::Result<Vec<[Seen; 2]>> {
        let [kube, daymark] = &self.sites;
        let kube = kube.ask(&self.layout, questions)?;
        let daymark = daymark.ask(&self.layout, questions)?;
        Ok(kube
            .into_iter()
            .zip(daymark)
            .map(<[Seen; 2]>::from)
            .collect())
    }
}

fn question(world: &World, packet: &Packet, tries: usize) -> Question {
    let desired = world.desired();
    let sticky = daymark_case::judge::spread(desired, packet) != Spread::Anew;
    Question {
        packet: *packet,
        tries: match decide(desired, packet) {
            Verdict::Forward(_) if sticky => Tries::InTurn(4),
            Verdict::Forward(targets) => Tries::AtOnce(tries * targets.len()),
            Verdict::Reject(_) | Verdict::Drop(_) | Verdict::Untouched => Tries::AtOnce(tries),
        },
    }
}

fn spec(plan: &Plan) -> Spec {
    let kube_proxy = User {
        name: Proxy::Kube.name().to_owned(),
        identity: "system:kube-proxy".to_owned(),
        groups: vec!["system:authenticated".to_owned()],
    };
    let daymark = User::service_account(Proxy::Daymark.name(), "kube-system", "daymark-node");
    control_plane(
        &plan.programs,
        plan.state.clone(),
        vec![kube_proxy, daymark],
    )
}

/// One case with everything that some case has, so that one pair of labs serves all.
fn universe(cases: &[Case]) -> Case {
    let mut all = Case::default();
    for step in cases.iter().flat_map(|case| &case.steps) {
        all.steps.push(Step {
            line: 0,
            name: String::new(),
            changes: step.changes.clone(),
            checks: step.checks.clone(),
        });
    }
    let slices = Sentinel(0).slices().into_iter().chain(Sentinel(1).slices());
    let changes = slices.map(|slice| Change::Slice(slice.key.clone(), Some(slice.into())));
    all.steps.push(Step {
        line: 0,
        name: String::new(),
        changes: changes.collect(),
        checks: Vec::new(),
    });
    all
}

/// Connections for each endpoint: one in some thousand packets is asked again because one was missed.
const TRIES: usize = 8;
