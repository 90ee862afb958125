//! Everything that the controllers know, and which work a change brings.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::Resource;
use kube::api::DynamicObject;
use kube::runtime::watcher::Event;

use crate::adrift::{Adrift, first_look, patience};
use crate::cache::{Cache, Change, id_of};
use crate::endpoints::topology::{facts, is_asked_by};
use crate::endpoints::{self, SERVICE_NAME_LABEL, Triggers};
use crate::graph::Graph;
use crate::kinds::Kinds;
use crate::lease::{NODE_LEASES, renewed_at};
use crate::node::{Heartbeat, posted_at};
use crate::options::Scheduler;
use crate::schedule;
use crate::watch::{LAST_WAIT, LEASES, Seen, others};

const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// One piece of work.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Job {
    /// The slices of a Service: namespace and name.
    Slices(String, String),
    /// A Pod that waits for a node: namespace and name.
    Bind(String, String),
    /// The pulse of a node.
    Node(String),
    /// Pods that are bound to a node which is not there.
    Stranded(String),
    /// A namespace that is being deleted.
    Namespace(String),
    /// What becomes of an object, by uid, when its owners go.
    Collect(String),
    /// A ServiceCIDR.
    Cidr(String),
    /// Old Events.
    Events,
}

/// Work found, some of it for later.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    pub(crate) now: Vec<Job>,
    pub(crate) later: Vec<(Job, Duration)>,
}

/// The indices of the kinds that have a type.
#[derive(Clone, Copy, Default)]
struct Indices {
    pod: Option<usize>,
    service: Option<usize>,
    slice: Option<usize>,
    node: Option<usize>,
    lease: Option<usize>,
    namespace: Option<usize>,
    cidr: Option<usize>,
}

/// See the module.
pub(crate) struct World {
    pub(crate) pods: Cache<Pod>,
    pub(crate) services: Cache<Service>,
    pub(crate) slices: Cache<EndpointSlice>,
    pub(crate) nodes: Cache<Node>,
    leases: Cache<Lease>,
    pub(crate) namespaces: Cache<Namespace>,
    cidrs: Cache<ServiceCIDR>,
    others: BTreeMap<usize, Cache<DynamicObject>>,
    pub(crate) graph: Graph,
    pub(crate) triggers: HashMap<(String, String), Triggers>,
    pub(crate) heartbeats: HashMap<String, Heartbeat>,
    /// Where Pods are about to be bound, by uid.
    pub(crate) assumed: HashMap<String, String>,
    pub(crate) adrift: Adrift,
    /// Nodes that were deleted of late, and when.
    departed: HashMap<String, Instant>,
    /// When the watch of Leases last failed, until it speaks again.
    blind: Option<Instant>,
    indices: Indices,
    scheduler: Scheduler,
    grace: Duration,
}

impl World {
    /// Knows nothing yet but the kinds there are.
    pub(crate) fn new(kinds: &Kinds, scheduler: Scheduler, grace: Duration) -> Self {
        let indices = Indices {
            pod: kinds.of::<Pod>(),
            service: kinds.of::<Service>(),
            slice: kinds.of::<EndpointSlice>(),
            node: kinds.of::<Node>(),
            lease: kinds.of::<Lease>(),
            namespace: kinds.of::<Namespace>(),
            cidr: kinds.of::<ServiceCIDR>(),
        };
        Self {
            pods: Cache::default(),
            services: Cache::default(),
            slices: Cache::default(),
            nodes: Cache::default(),
            leases: Cache::default(),
            namespaces: Cache::default(),
            cidrs: Cache::default(),
            others: others(kinds)
                .map(|index| (index, Cache::default()))
                .collect(),
            graph: Graph::default(),
            triggers: HashMap::new(),
            heartbeats: HashMap::new(),
            assumed: HashMap::new(),
            adrift: Adrift::default(),
            departed: HashMap::new(),
            blind: None,
            indices,
            scheduler,
            grace,
        }
    }

    /// Whether every kind was listed once: before that, "is not there" means nothing.
    pub(crate) fn is_synced(&self) -> bool {
        let typed = [
            self.pods.is_synced(),
            self.services.is_synced(),
            self.slices.is_synced(),
            self.nodes.is_synced(),
            self.leases.is_synced(),
            self.namespaces.is_synced(),
            self.cidrs.is_synced(),
        ];
        typed.into_iter().all(|synced| synced) && self.others.values().all(Cache::is_synced)
    }

    /// Takes in what a watch says.
    pub(crate) fn apply(&mut self, seen: Seen, now: Instant, touched: &mut Touched) {
        match seen {
            Seen::Pod(event) => {
                for change in self.pods.apply(*event) {
                    self.on_pod(&change, now, touched);
                }
            }
            Seen::Service(event) => {
                for change in self.services.apply(*event) {
                    self.own(self.indices.service, &change, touched);
                    let (namespace, name) = id_of(change.object().as_ref());
                    touched.now.push(Job::Slices(namespace, name));
                }
            }
            Seen::Slice(event) => {
                for change in self.slices.apply(event) {
                    self.on_slice(&change, touched);
                }
            }
            Seen::Node(event) => {
                for change in self.nodes.apply(*event) {
                    self.on_node(&change, now, touched);
                }
            }
            Seen::Lease(event) => self.on_lease_event(event, now, touched),
            Seen::Namespace(event) => {
                for change in self.namespaces.apply(event) {
                    self.own(self.indices.namespace, &change, touched);
                    if change.object().metadata.deletion_timestamp.is_some() {
                        touched
                            .now
                            .push(Job::Namespace(id_of(change.object().as_ref()).1));
                    }
                }
            }
            Seen::Cidr(event) => {
                for change in self.cidrs.apply(event) {
                    self.own(self.indices.cidr, &change, touched);
                    touched
                        .now
                        .push(Job::Cidr(id_of(change.object().as_ref()).1));
                }
            }
            Seen::Other(index, event) => {
                let changes = self.others.entry(index).or_default().apply(event);
                for change in changes {
                    self.own(Some(index), &change, touched);
                }
            }
            // While Leases cannot be seen, their silence says nothing.
            Seen::Broken(LEASES, _) => self.blind = Some(now),
            Seen::Broken(_, _) => {}
        }
    }

    /// Takes in the answer to a write of a slice.
    pub(crate) fn wrote_slice(&mut self, slice: EndpointSlice, touched: &mut Touched) {
        if let Some(change) = self.slices.set(slice) {
            self.own(self.indices.slice, &change, touched);
        }
    }

    /// Takes in that a slice was deleted.
    pub(crate) fn forget_slice(
        &mut self,
        namespace: &str,
        name: &str,
        uid: &str,
        touched: &mut Touched,
    ) {
        self.slices.forget(namespace, name, uid);
        touched
            .now
            .extend(self.graph.remove(uid).into_iter().map(Job::Collect));
    }

    /// Takes in the answer to a write of a Pod.
    pub(crate) fn wrote_pod(&mut self, pod: Pod, now: Instant, touched: &mut Touched) {
        if let Some(change) = self.pods.set(pod) {
            self.on_pod(&change, now, touched);
        }
    }

    /// Takes in the answer to a write of a Node.
    pub(crate) fn wrote_node(&mut self, node: Node, now: Instant, touched: &mut Touched) {
        if let Some(change) = self.nodes.set(node) {
            self.on_node(&change, now, touched);
        }
    }

    /// Who owns what.
    fn own<K: Resource>(&mut self, kind: Option<usize>, change: &Change<K>, touched: &mut Touched) {
        let Some(kind) = kind else { return };
        let uids = match change {
            Change::Set { new, .. } => self.graph.set(kind, new.meta()),
            Change::Gone(old) => old
                .meta()
                .uid
                .as_deref()
                .map(|uid| self.graph.remove(uid))
                .unwrap_or_default(),
        };
        touched.now.extend(uids.into_iter().map(Job::Collect));
    }

    fn on_pod(&mut self, change: &Change<Pod>, now: Instant, touched: &mut Touched) {
        self.own(self.indices.pod, change, touched);
        let pod = change.object();
        let (namespace, name) = id_of(pod.as_ref());
        for side in change.sides() {
            self.touch_services(&namespace, side, touched);
        }
        let node = node_of(pod);
        if let (Change::Gone(_), Some(uid)) = (change, &pod.metadata.uid) {
            self.assumed.remove(uid);
            self.adrift.forget(uid);
        } else if self.scheduler == Scheduler::On && schedule::waits(pod) {
            touched.now.push(Job::Bind(namespace, name));
        } else if node.is_some_and(|node| self.nodes.get("", node).is_none()) {
            self.strand(pod, now, touched);
        }
    }

    /// Takes in that a Pod is bound to a Node that is not there.
    fn strand(&mut self, pod: &Pod, now: Instant, touched: &mut Touched) {
        let (Some(node), Some(uid)) = (node_of(pod), &pod.metadata.uid) else {
            return;
        };
        // What somebody deleted is not waited for: no kubelet will say that it has ended. Nor is a Node that was there:
        // its end may be heard before its Pod.
        let was_there = self.departed.contains_key(node);
        let wait = match pod.metadata.deletion_timestamp {
            None if !was_there => patience(self.grace),
            _ => self.grace,
        };
        self.adrift.found(uid, wait, now);
        touched
            .later
            .push((Job::Stranded(node.to_owned()), first_look(wait)));
    }

    fn touch_services(&self, namespace: &str, pod: &Pod, touched: &mut Touched) {
        let services = self
            .services
            .of(namespace)
            .filter(|service| endpoints::has_selector(service));
        for service in services.filter(|service| endpoints::matches(service, &pod.metadata)) {
            let (namespace, name) = id_of(service.as_ref());
            touched.now.push(Job::Slices(namespace, name));
        }
    }

    fn on_slice(&mut self, change: &Change<EndpointSlice>, touched: &mut Touched) {
        self.own(self.indices.slice, change, touched);
        let slice = change.object();
        let service = slice
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(SERVICE_NAME_LABEL));
        if let Some(service) =
            service.filter(|_| change.sides().any(|slice| endpoints::is_ours(slice)))
        {
            touched
                .now
                .push(Job::Slices(id_of(slice.as_ref()).0, service.clone()));
        }
    }

    fn on_node(&mut self, change: &Change<Node>, now: Instant, touched: &mut Touched) {
        self.own(self.indices.node, change, touched);
        let name = id_of(change.object().as_ref()).1;
        match change {
            Change::Gone(_) => {
                self.heartbeats.remove(&name);
                let patience = patience(self.grace);
                self.departed
                    .retain(|_, at| now.saturating_duration_since(*at) < patience);
                self.departed.insert(name.clone(), now);
                self.touch_services_with_topology(touched);
                let pods = self.pods.all().filter(|pod| node_of(pod) == Some(&name));
                for uid in pods.filter_map(|pod| pod.metadata.uid.as_deref()) {
                    self.adrift.lost(uid, self.grace, now);
                }
                let look = first_look(self.grace);
                touched.later.push((Job::Stranded(name), look));
            }
            Change::Set { old, new } => {
                self.departed.remove(&name);
                let heartbeat = self
                    .heartbeats
                    .entry(name.clone())
                    .or_insert_with(|| Heartbeat::new(now));
                heartbeat.posted(posted_at(new), now);
                if old.as_ref().map(|old| zone(old)) != Some(zone(new)) {
                    self.touch_services_on(&name, touched);
                }
                if old.as_ref().map(|old| facts(old)) != Some(facts(new)) {
                    self.touch_services_with_topology(touched);
                }
                touched.now.push(Job::Node(name));
                self.touch_waiting(touched);
            }
        }
    }

    /// A Node came or moved: its Pods' endpoints say so.
    fn touch_services_on(&self, node: &str, touched: &mut Touched) {
        for pod in self.pods.all().filter(|pod| node_of(pod) == Some(node)) {
            self.touch_services(&id_of(pod.as_ref()).0, pod, touched);
        }
    }

    /// The CPU of zones is another: whoever asks for hints by it may get others.
    fn touch_services_with_topology(&self, touched: &mut Touched) {
        let asking = self.services.all().filter(|one| is_asked_by(one));
        let names = asking.map(|service| id_of(service.as_ref()));
        let jobs = names.map(|(namespace, name)| Job::Slices(namespace, name));
        touched.now.extend(jobs);
    }

    fn touch_waiting(&self, touched: &mut Touched) {
        if self.scheduler == Scheduler::On {
            let waiting = self
                .pods
                .all()
                .filter(|pod| schedule::waits(pod))
                .map(|pod| id_of(pod.as_ref()));
            touched
                .now
                .extend(waiting.map(|(namespace, name)| Job::Bind(namespace, name)));
        }
    }

    fn on_lease_event(&mut self, event: Event<Lease>, now: Instant, touched: &mut Touched) {
        if matches!(event, Event::Init) || self.blind.take().is_some() {
            self.hear_anew(now);
        }
        for change in self.leases.apply(event) {
            self.own(self.indices.lease, &change, touched);
            let (namespace, name) = id_of(change.object().as_ref());
            if let (NODE_LEASES, Change::Set { new, .. }) = (namespace.as_str(), &change) {
                let heartbeat = self
                    .heartbeats
                    .entry(name.clone())
                    .or_insert_with(|| Heartbeat::new(now));
                let lapsed = heartbeat.lapses(self.grace) <= now;
                heartbeat.renewed(renewed_at(new), now);
                // While the node is alive its timer looks often enough.
                touched.now.extend(lapsed.then_some(Job::Node(name)));
            }
        }
    }

    /// Takes in that nothing could be heard for a while: every grace period starts anew.
    pub(crate) fn hear_anew(&mut self, now: Instant) {
        self.heartbeats
            .values_mut()
            .for_each(|heartbeat| heartbeat.reset(now));
    }

    /// Takes in that the API says a node's Lease was renewed.
    pub(crate) fn heard(&mut self, node: &str, renewed: Timestamp, now: Instant) {
        if let Some(heartbeat) = self.heartbeats.get_mut(node) {
            heartbeat.renewed(Some(renewed), now);
        }
    }

    /// Whether the silence of Leases means anything now: while their watch fails it does not, and after that nodes
    /// have the time to be heard again.
    pub(crate) fn hears(&self, now: Instant) -> bool {
        self.blind
            .is_none_or(|since| now >= since + LAST_WAIT + self.grace)
    }

    /// How many Pods each node has or is about to have.
    pub(crate) fn pod_counts(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        let assumed = |pod: &Arc<Pod>| {
            pod.metadata
                .uid
                .as_ref()
                .and_then(|uid| self.assumed.get(uid))
                .cloned()
        };
        for node in self
            .pods
            .all()
            .filter_map(|pod| node_of(pod).map(str::to_owned).or_else(|| assumed(pod)))
        {
            *counts.entry(node).or_default() += 1;
        }
        counts
    }

    /// The work of a start: everything is looked at once.
    pub(crate) fn everything(&mut self, now: Instant, touched: &mut Touched) {
        let services = self.services.all().map(|service| id_of(service.as_ref()));
        touched
            .now
            .extend(services.map(|(namespace, name)| Job::Slices(namespace, name)));
        touched.now.extend(
            self.nodes
                .all()
                .map(|node| Job::Node(id_of(node.as_ref()).1)),
        );
        let namespaces = self
            .namespaces
            .all()
            .filter(|namespace| namespace.metadata.deletion_timestamp.is_some());
        touched
            .now
            .extend(namespaces.map(|namespace| Job::Namespace(id_of(namespace.as_ref()).1)));
        touched.now.extend(
            self.cidrs
                .all()
                .map(|cidr| Job::Cidr(id_of(cidr.as_ref()).1)),
        );
        touched
            .now
            .extend(self.graph.all().cloned().map(Job::Collect));
        touched.now.push(Job::Events);
        self.touch_waiting(touched);
        // Which Nodes there are is known only now.
        self.adrift.clear();
        let missing =
            |pod: &&Arc<Pod>| node_of(pod).is_some_and(|node| self.nodes.get("", node).is_none());
        let stranded: Vec<Arc<Pod>> = self.pods.all().filter(missing).cloned().collect();
        for pod in stranded {
            self.strand(&pod, now, touched);
        }
    }
}

/// The node that a Pod is bound to.
pub(crate) fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .filter(|node| !node.is_empty())
}

fn zone(node: &Node) -> Option<String> {
    node.metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(ZONE_LABEL))
        .cloned()
}
