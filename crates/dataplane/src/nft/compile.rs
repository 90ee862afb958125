//! From what the model wants to a program, and from a change of it to transactions.
//!
//! Each update is published in this order, so that a batch may be cut anywhere and an agent may die
//! anywhere, behind source ranges that come ([`ranges`]):
//! 1. *publish*: new plans, then slots, then frontends. A changed frontend goes into the map that does not
//!    hold it; while it is in both, either value is right. Then slots whose backend is another;
//! 2. *withdraw*: old frontends;
//! 3. *bury*: slots that no frontend names any more, and ranges that go.
//!
//! A pool whose backends change keeps its number, and those that stay keep their slots ([`slots`]). One with affinity
//! gets a new number and new slots. Everything else is an element that comes or goes.

mod adopt;
mod draft;
mod plans;
mod ranges;
mod slots;
mod subject;
mod wanted;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use daymark_model::desired::{Frontend, List, Pool, PoolKey, PortName, Sources};
use daymark_model::input::Affinity;
use daymark_model::{Delta, Desired, Family, FrontendKey};
use daymark_netlink::nft::{Data, Exists, Message, SetElem, TableFlags};

use super::base;
use super::layout::{FrontendValue, Side, TABLE, Words, set};
use super::program::Program;
use draft::Draft;
pub use draft::Update;
use plans::Plans;
pub use subject::{Of, Subject};

/// The state of the tables: what is installed, under which numbers.
#[derive(Clone, Debug)]
pub struct Compiler {
    desired: Desired,
    program: Program,
    planes: [Plane; 2],
}

/// The table of one family.
#[derive(Clone, Debug)]
struct Plane {
    words: Words,
    frontends: BTreeMap<FrontendKey, Installed>,
    /// In no order: each change looks some up by name.
    ports: HashMap<Arc<PortName>, Port>,
    plans: Plans,
    numbers: Numbers,
    /// Second copies of frontends, in a table that was found.
    doubles: BTreeMap<(&'static str, Data), SetElem>,
}

/// A frontend as it is in the kernel.
#[derive(Clone, Debug)]
struct Installed {
    value: FrontendValue,
    side: Side,
    /// The Service port it belongs to; unknown in a table that was found.
    port: Option<Arc<PortName>>,
}

/// A Service port as it is in the kernel.
#[derive(Clone, Debug, Default)]
struct Port {
    number: u32,
    pool: u32,
    contents: Contents,
    /// As they are wanted: sorted, and few.
    frontends: Vec<(FrontendKey, Arc<Frontend>)>,
}

/// The backends of a port, and whether clients keep them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Contents {
    cluster: Option<Arc<Pool>>,
    local: Option<Arc<Pool>>,
    sticky: bool,
}

/// The next free numbers. Zero is never one.
#[derive(Clone, Debug, Default)]
struct Numbers {
    port: u32,
    pool: u32,
    ports_used: BTreeSet<u32>,
    pools_used: BTreeSet<u32>,
}

impl Compiler {
    /// Tables without any Service, and the transaction that creates them.
    #[must_use]
    pub fn new(flags: TableFlags) -> (Self, Vec<Message>) {
        Self::named(TABLE, flags)
    }

    /// The same of tables of another name, one of [`super::layout::TABLES`].
    ///
    /// # Panics
    /// Never: the base ruleset fits together, as a test shows.
    #[must_use]
    pub fn named(name: &'static str, flags: TableFlags) -> (Self, Vec<Message>) {
        let planes = Family::BOTH.map(|family| Plane::new(Words::of(family).named(name)));
        let rulesets = planes
            .each_ref()
            .map(|plane| base::ruleset(&plane.words, flags));
        let messages: Vec<Message> = rulesets
            .iter()
            .flat_map(|ruleset| Message::create(ruleset, Exists::Refuse))
            .collect();
        let program = Program::from_rulesets(rulesets).expect("the base ruleset fits together");
        (
            Self {
                desired: Desired::default(),
                program,
                planes,
            },
            messages,
        )
    }

    /// The words of a family's table.
    #[must_use]
    pub fn words(&self, family: Family) -> Words {
        let [four, six] = &self.planes;
        match family {
            Family::V4 => four.words,
            Family::V6 => six.words,
        }
    }

    /// The Service ports of a family with the numbers under which their connections are counted, in no order.
    pub fn ports(&self, family: Family) -> impl Iterator<Item = (u32, &Arc<PortName>)> {
        let [four, six] = &self.planes;
        let plane = match family {
            Family::V4 => four,
            Family::V6 => six,
        };
        plane.ports.iter().map(|(name, port)| (port.number, name))
    }

    /// What the kernel holds once all transactions so far are committed.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// What the program stands for.
    #[must_use]
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// The same, but so many plans are kept that no frontend names; for tests of how they go.
    #[must_use]
    pub fn keeping_plans(mut self, spare: usize) -> Self {
        for plane in &mut self.planes {
            plane.plans.set_spare(spare);
        }
        self
    }

    /// Whether no Service was ever installed, or found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let [four, six] = &self.planes;
        let fresh = |plane: &Plane| plane.frontends.is_empty() && plane.plans.is_empty();
        self.desired == Desired::default() && fresh(four) && fresh(six) && self.program.is_bare()
    }

    /// Takes a change in and says which transactions carry it out, in order.
    pub fn update(&mut self, delta: &Delta) -> Update {
        delta.apply_to(&mut self.desired);
        let Self {
            desired,
            program,
            planes,
        } = self;
        let mut update = Update::default();
        for plane in planes {
            let mut draft = Draft::new(plane.words);
            let touched = plane.enlist(delta);
            plane.install(desired, program, &touched, &mut draft);
            plane.plain_sets(delta, desired, program, &mut draft);
            update.add(draft);
        }
        update.record_in(program);
        update
    }

    /// Compares everything with everything: takes a whole desired state, and leaves no element behind
    /// that it does not want. For a table that was found, or changed by others.
    pub fn reconcile(&mut self, desired: Desired) -> Update {
        self.desired = desired;
        let Self {
            desired,
            program,
            planes,
        } = self;
        let mut update = Update::default();
        for plane in planes {
            let mut draft = Draft::new(plane.words);
            let touched = plane.enlist_all(desired);
            plane.install(desired, program, &touched, &mut draft);
            plane.sweep(desired, program, &mut draft);
            update.add(draft);
        }
        update.record_in(program);
        update
    }
}

/// The Service ports and frontends that an update has to look at.
#[derive(Default)]
struct Touched {
    ports: BTreeSet<Arc<PortName>>,
    gone: BTreeSet<FrontendKey>,
}

impl Plane {
    fn new(words: Words) -> Self {
        Self {
            words,
            frontends: BTreeMap::new(),
            ports: HashMap::new(),
            plans: Plans::new(),
            numbers: Numbers::default(),
            doubles: BTreeMap::new(),
        }
    }

    /// Notes which port each changed frontend belongs to now.
    fn enlist(&mut self, delta: &Delta) -> Touched {
        let family = self.words.family;
        let mut touched = Touched::default();
        let pools = delta.pools.keys().filter(|key| key.family == family);
        touched.ports.extend(pools.map(|key| key.port.clone()));
        for (key, frontend) in delta
            .frontends
            .iter()
            .filter(|(key, _)| key.family() == family)
        {
            self.leave_port(key, &mut touched);
            match frontend {
                Some(frontend) => self.join_port(*key, frontend, &mut touched),
                None => {
                    touched.gone.insert(*key);
                }
            }
        }
        touched
    }

    fn enlist_all(&mut self, desired: &Desired) -> Touched {
        let mut touched = Touched::default();
        let known: Vec<FrontendKey> = self.frontends.keys().copied().collect();
        for key in known {
            self.leave_port(&key, &mut touched);
            if !desired.frontends.contains_key(&key) {
                touched.gone.insert(key);
            }
        }
        let family = self.words.family;
        for (key, frontend) in desired
            .frontends
            .iter()
            .filter(|(key, _)| key.family() == family)
        {
            self.join_port(*key, frontend, &mut touched);
        }
        touched
    }

    fn leave_port(&mut self, key: &FrontendKey, touched: &mut Touched) {
        let Some(port) = self
            .frontends
            .get(key)
            .and_then(|installed| installed.port.clone())
        else {
            return;
        };
        if let Some(known) = self.ports.get_mut(&port) {
            known.frontends.retain(|(known, _)| known != key);
            touched.ports.insert(port);
        }
    }

    fn join_port(&mut self, key: FrontendKey, frontend: &Arc<Frontend>, touched: &mut Touched) {
        let found = self.frontends.get(&key).map(|installed| installed.value);
        let numbers = &mut self.numbers;
        let port = self
            .ports
            .entry(frontend.port.clone())
            .or_insert_with(|| numbers.port_for(found));
        let wanted = (key, Arc::clone(frontend));
        match port.frontends.binary_search_by_key(&key, |(key, _)| *key) {
            Ok(at) => port.frontends[at] = wanted,
            Err(at) => {
                port.frontends.reserve_exact(1);
                port.frontends.insert(at, wanted);
            }
        }
        touched.ports.insert(frontend.port.clone());
    }

    fn install(
        &mut self,
        desired: &Desired,
        program: &Program,
        touched: &Touched,
        draft: &mut Draft,
    ) {
        for name in &touched.ports {
            self.install_port(desired, program, name, draft);
        }
        for key in &touched.gone {
            if let Some(installed) = self.frontends.remove(key) {
                self.plans.release(&installed.value);
                draft.withdraw(
                    installed.side.map(key),
                    wanted::frontend(key, &installed.value),
                );
                draft.replace_ranges(program, key, &Sources::Any);
            }
        }
        self.plans.retire(&self.words, draft);
    }

    fn install_port(
        &mut self,
        desired: &Desired,
        program: &Program,
        name: &Arc<PortName>,
        draft: &mut Draft,
    ) {
        let Some(mut port) = self.ports.remove(name) else {
            return;
        };
        let contents = self.contents(desired, name, &port);
        let contents = self.arranged(program, &port, contents);
        if port.contents == Contents::default()
            && self.holds(program, port.pool, &contents)
            && self.numbers.pools_used.insert(port.pool)
        {
            port.contents = contents.clone();
        }
        if contents != port.contents && contents.can_follow(&port.contents) {
            contents.follow(&port.contents, port.pool, draft);
            port.contents = contents;
        } else if contents != port.contents {
            let number = self.numbers.pool_for(&contents);
            draft.publish_all(wanted::pool(number, &contents));
            draft.bury_all(wanted::pool(port.pool, &port.contents));
            self.numbers.pools_used.remove(&port.pool);
            (port.pool, port.contents) = (number, contents);
        }
        if port.frontends.is_empty() {
            self.numbers.ports_used.remove(&port.number);
            return;
        }
        for (key, frontend) in &port.frontends {
            self.install_frontend(program, *key, frontend, &port, draft);
        }
        self.ports.insert(name.clone(), port);
    }

    /// What a port's pools hold; nothing once no frontend names the port.
    fn contents(&self, desired: &Desired, name: &Arc<PortName>, port: &Port) -> Contents {
        if port.frontends.is_empty() {
            return Contents::default();
        }
        let pool = |list| {
            desired
                .pools
                .get(&PoolKey {
                    port: name.clone(),
                    family: self.words.family,
                    list,
                })
                .cloned()
        };
        let mut affinities = port.frontends.iter().map(|(_, wanted)| wanted.affinity);
        let sticky = affinities.any(|one| one != Affinity::None);
        Contents {
            cluster: pool(List::Cluster),
            local: pool(List::Local),
            sticky,
        }
    }

    fn install_frontend(
        &mut self,
        program: &Program,
        key: FrontendKey,
        frontend: &Frontend,
        port: &Port,
        draft: &mut Draft,
    ) {
        let plans = wanted::plans(&key, frontend, &port.contents);
        let [inside, outside] = plans.map(|plan| self.plans.number(&plan, &self.words, draft));
        let flags = wanted::flags(frontend);
        let value = FrontendValue {
            flags,
            inside,
            outside,
            port: port.number,
            pool: port.pool,
        };
        draft.replace_ranges(program, &key, &frontend.sources);
        let old = match self.frontends.get_mut(&key) {
            Some(old) if old.value == value => {
                old.port = Some(frontend.port.clone());
                return;
            }
            old => old,
        };
        self.plans.take(&value);
        let side = old.as_ref().map_or(Side::A, |old| old.side.other());
        draft.publish(side.map(&key), wanted::frontend(&key, &value));
        if let Some(old) = old {
            self.plans.release(&old.value);
            draft.withdraw(old.side.map(&key), wanted::frontend(&key, &old.value));
        }
        self.frontends.insert(
            key,
            Installed {
                value,
                side,
                port: Some(frontend.port.clone()),
            },
        );
    }

    /// The sets that the model names outright.
    fn plain_sets(&self, delta: &Delta, desired: &Desired, program: &Program, draft: &mut Draft) {
        let family = self.words.family;
        let changes =
            |changes: &BTreeMap<std::net::IpAddr, bool>| -> Vec<(std::net::IpAddr, bool)> {
                changes
                    .iter()
                    .filter(|(ip, _)| Family::of(**ip) == family)
                    .map(|(ip, on)| (*ip, *on))
                    .collect()
            };
        for (name, of_set) in [
            (set::SERVICE_ADDRESSES, &delta.service_addresses),
            (set::OUTER_ADDRESSES, &delta.outer_addresses),
            (set::NODE_PORT_ADDRESSES, &delta.node_port_addresses),
        ] {
            for (ip, present) in changes(of_set) {
                draft.change_outer(name, wanted::address(ip), present);
            }
        }
        for (ip, present) in changes(&delta.spared_addresses) {
            draft.change_inner(set::SPARED_ADDRESSES, wanted::address(ip), present);
        }
        for (ip, present) in changes(&delta.local_backends) {
            draft.change_inner(set::LOCAL_BACKENDS, wanted::pair(ip), present);
        }
        if delta.own_pods.is_some() || delta.service_networks.is_some() {
            self.boundaries(desired, program, draft);
        }
        for (port, present) in &delta.endpoint_ports {
            draft.change_outer(set::ENDPOINT_PORTS, wanted::port(*port), *present);
        }
    }
}

impl Plane {
    /// Sets of ranges that the model names outright.
    fn boundaries(&self, desired: &Desired, program: &Program, draft: &mut Draft) {
        let family = self.words.family;
        let own = &desired.own_pods;
        for (name, wanted) in [
            (set::OWN_PODS, wanted::prefixes(&own.prefixes, family)),
            (set::OWN_INTERFACES, wanted::interfaces(own.interfaces)),
            (
                set::SERVICE_NETWORKS,
                wanted::prefixes(&desired.service_networks, family),
            ),
        ] {
            draft.replace_boundaries(program, name, wanted);
        }
    }
}

impl Numbers {
    /// A port with the number of the value that was found in the kernel, or else with a fresh one.
    fn port_for(&mut self, found: Option<FrontendValue>) -> Port {
        if let Some(value) = found.filter(|value| !self.ports_used.contains(&value.port)) {
            self.ports_used.insert(value.port);
            return Port {
                number: value.port,
                pool: value.pool,
                ..Port::default()
            };
        }
        let number = fresh(&mut self.port, 1, &mut self.ports_used);
        Port {
            number,
            ..Port::default()
        }
    }

    fn pool_for(&mut self, contents: &Contents) -> u32 {
        if contents.cluster.is_none() && contents.local.is_none() {
            return 0;
        }
        fresh(&mut self.pool, 2, &mut self.pools_used)
    }
}

fn fresh(last: &mut u32, step: u32, used: &mut BTreeSet<u32>) -> u32 {
    loop {
        *last = last.wrapping_add(step);
        if *last != 0 && used.insert(*last) {
            return *last;
        }
    }
}
