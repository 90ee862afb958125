//! What the tables hold for one place: what they should hold, and what the kernel really holds.
//!
//! A place is a handful of elements and a chain or two. They are found as a packet finds them: the frontend in its
//! two maps, from there the plans, their chains, the slots of the pools that they name, and the addresses that the
//! filter chains ask for. Each is asked of the kernel by its key: some microseconds an element, and no dump.

mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use daymark_model::FrontendKey;
use daymark_model::desired::{List, PortName};
use daymark_netlink::nft::{
    Data, Expr, Name, Rule, Ruleset, Set, SetElem, TableId, Value, Verdict, show,
};

use super::apply::{CommitError, Kernel, Plane, Why};
use super::compile::Subject;
use super::counts::packets;
use super::layout::{FrontendValue, Side, Words, backend_of, frontend_key, octets, set};
use super::plan::{Fate, Plan};
use super::program::Contents;
use words::{meaning, plan_in_words};

/// What the tables hold for a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The table.
    pub table: TableId,
    /// The objects, in the order in which packets meet them.
    pub objects: Vec<Held>,
    /// How many slots were not asked for: of each pool the first [`MOST_SLOTS`] are.
    pub unasked: usize,
    /// What the kernel refused of the Service port, so that it is left out of the program too.
    pub withheld: Vec<(Subject, Why)>,
}

/// One element or chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The set or chain.
    pub object: Object,
    /// What it does for packets.
    pub meaning: String,
    /// What the program has, as `nft` would print it: an element is one line, a chain its rules.
    pub wanted: Vec<String>,
    /// What the kernel has.
    pub held: Vec<String>,
    /// Whether they are the same.
    pub agreement: Agreement,
}

/// Where something is in a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// An element of a set or map of this name.
    Element(Name),
    /// A chain of this name.
    Chain(Name),
}

/// Whether the kernel holds what the program has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Agreement {
    /// It does.
    Same,
    /// It lacks it.
    Missing,
    /// It holds what is not in the program.
    Unexpected,
    /// It holds something else under that name or key.
    Different,
}

impl Agreement {
    /// Of what should be there and what is there.
    fn of<T: PartialEq>(wanted: Option<&T>, held: Option<&T>) -> Self {
        match (wanted, held) {
            (wanted, held) if wanted == held => Self::Same,
            (Some(_), None) => Self::Missing,
            (None, _) => Self::Unexpected,
            (Some(_), Some(_)) => Self::Different,
        }
    }

    /// One word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Missing => "missing",
            Self::Unexpected => "unexpected",
            Self::Different => "different",
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Element(set) => set.fmt(out),
            Self::Chain(chain) => write!(out, "chain {chain}"),
        }
    }
}

impl Inspection {
    /// Whether the kernel holds all that the program has for the place, and nothing else.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.objects
            .iter()
            .all(|held| held.agreement == Agreement::Same)
    }
}

/// The backend that a client keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The backend.
    pub backend: SocketAddr,
    /// For how long, if no connection comes meanwhile.
    pub expires: Option<Duration>,
}

/// How many elements of one set are asked for: the plane waits meanwhile, and a pool may have thousands.
pub const MOST_SLOTS: usize = 200;

impl<K: Kernel> Plane<K> {
    /// What the tables hold for a place that belongs to a Service port.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn inspect(
        &mut self,
        at: &FrontendKey,
        port: &PortName,
    ) -> Result<Inspection, CommitError> {
        let words = self.compiler().words(at.family());
        let table = words.table();
        let found = self.compiler().program().table(&table);
        let (probes, unasked) = found.map_or_else(Default::default, |c| probes(c, &words, at));
        let mut objects = Vec::new();
        for probe in probes {
            objects.extend(probe.ask(self.kernel(), &table)?);
        }
        let about = |subject: &Subject| match (subject, at) {
            (Subject::Port(of), _) => **of == *port,
            (Subject::Address(_, of), FrontendKey::Address { ip, .. }) => of == ip,
            (Subject::Address(..), FrontendKey::NodePort { .. }) => false,
        };
        let withheld = self.withheld().iter();
        let withheld = withheld.filter(|(subject, _)| about(subject));
        Ok(Inspection {
            table,
            objects,
            unasked,
            withheld: withheld.map(|(s, why)| (s.clone(), why.clone())).collect(),
        })
    }

    /// How many new connections its Service port had, at all places of the family; `None` if none is known, as after a day
    /// without any.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn connections(&mut self, at: &FrontendKey) -> Result<Option<u64>, CommitError> {
        let table = self.compiler().words(at.family()).table();
        let found = self.compiler().program().table(&table);
        let value = found.and_then(|contents| frontend_value(contents, at));
        let Some(value) = value else { return Ok(None) };
        let key = SetElem::key(Data::host(value.port));
        let found = self.kernel().element(&table, &set::HITS.into(), &key)?;
        Ok(found.as_ref().and_then(packets))
    }

    /// The backend that a client keeps at a place, if it keeps one.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn kept(&mut self, at: &FrontendKey, client: IpAddr) -> Result<Option<Kept>, CommitError> {
        let words = self.compiler().words(at.family());
        let table = words.table();
        let found = self.compiler().program().table(&table);
        let value = found.and_then(|contents| frontend_value(contents, at));
        let Some(value) = value else { return Ok(None) };
        let key = Data::concat(&[&octets(client), &value.port.to_ne_bytes()]);
        let kernel = self.kernel();
        let found = kernel.element(&table, &set::STICKY.into(), &SetElem::key(key))?;
        Ok(found.and_then(|elem| {
            let Value::Data(data) = &elem.value else {
                return None;
            };
            Some(Kept {
                backend: backend_of(&words, data)?,
                expires: elem.expires().map(Duration::from_millis),
            })
        }))
    }
}

/// The value of a place in the program, from whichever map holds it.
fn frontend_value(contents: &Contents, at: &FrontendKey) -> Option<FrontendValue> {
    let key = frontend_key(at);
    let of = |side: Side| contents.data(side.map(at), &key);
    let data = Side::BOTH.into_iter().find_map(of)?;
    FrontendValue::decode(&data)
}

/// One question to the kernel.
enum Probe {
    Element {
        set: Rc<Set>,
        key: SetElem,
        wanted: Option<SetElem>,
        words: Words,
        /// Chains by the numbers of their plans.
        plans: Rc<BTreeMap<u32, Name>>,
    },
    Chain {
        /// The table without its elements, for the names in rules.
        bare: Rc<Ruleset>,
        name: Name,
        wanted: Vec<Rule>,
    },
}

/// All questions about a place, in the order in which packets meet the answers, and how many slots are left out.
fn probes(contents: &Contents, words: &Words, at: &FrontendKey) -> (Vec<Probe>, usize) {
    let finder = Finder {
        contents,
        words: *words,
        plans: Rc::new(plans(contents)),
    };
    let key = frontend_key(at);
    let in_maps = Side::BOTH.map(|side| finder.by_key(side.map(at), SetElem::key(key.clone())));
    let mut probes: Vec<Probe> = in_maps.into_iter().flatten().collect();
    match at {
        FrontendKey::Address { ip, .. } => {
            let own = SetElem::key(Data::addr(*ip));
            probes.extend(finder.by_key(set::SERVICE_ADDRESSES, own));
            probes.extend(finder.beginning(set::RANGES, &key));
        }
        FrontendKey::NodePort { .. } => {
            probes.extend(finder.beginning(set::NODE_PORT_ADDRESSES, &[]));
        }
    }
    let value = frontend_value(contents, at);
    let unasked = value.map_or(0, |value| finder.value(&value, &mut probes));
    (probes, unasked)
}

/// The numbers of plans with their chains.
fn plans(contents: &Contents) -> BTreeMap<u32, Name> {
    let named = |elem: SetElem| match &elem.value {
        Value::Verdict(Verdict::Jump(chain)) => Some((elem.key.host_word(0)?, chain.clone())),
        _ => None,
    };
    contents.elements(set::PLANS).filter_map(named).collect()
}

struct Finder<'a> {
    contents: &'a Contents,
    words: Words,
    plans: Rc<BTreeMap<u32, Name>>,
}

impl Finder<'_> {
    /// What a frontend's value leads to; returns how many slots are left out.
    fn value(&self, value: &FrontendValue, probes: &mut Vec<Probe>) -> usize {
        let mut numbers = vec![value.inside, value.outside];
        numbers.dedup();
        let mut pools = BTreeSet::new();
        for number in numbers {
            probes.extend(self.by_key(set::PLANS, SetElem::key(Data::host(number))));
            let Some(chain) = self.plans.get(&number) else {
                continue;
            };
            probes.extend(self.chain(chain));
            if let Some(Fate::Spread { list, .. }) = Plan::of_chain(chain).map(|plan| plan.fate) {
                pools.insert(match list {
                    List::Cluster => value.pool,
                    List::Local => value.pool | 1,
                });
            }
        }
        let mut backends = BTreeSet::new();
        let mut unasked = 0;
        for pool in pools {
            let pool = pool.to_ne_bytes();
            probes.extend(self.beginning(set::SLOTS, &pool));
            probes.extend(self.beginning(set::MEMBERS, &pool));
            let slots = || self.contents.elements_from(set::SLOTS, &pool);
            let of_slots = slots().filter_map(|slot| slot_backend(&self.words, &slot));
            backends.extend(of_slots.take(MOST_SLOTS).map(|backend| backend.ip()));
            unasked += slots().skip(MOST_SLOTS).count();
        }
        for ip in backends {
            let own = octets(ip);
            let pair = SetElem::key(Data::concat(&[&own, &own]));
            probes.extend(self.by_key(set::LOCAL_BACKENDS, pair));
        }
        unasked
    }

    /// The element of a key, which may be there or not.
    fn by_key(&self, name: &str, key: SetElem) -> Option<Probe> {
        let filled = self.contents.sets.get(name)?;
        Some(Probe::Element {
            set: Rc::new(filled.set.clone()),
            wanted: filled.elems.get(&key.key),
            key,
            words: self.words,
            plans: Rc::clone(&self.plans),
        })
    }

    /// The elements of the program whose keys begin so, the first of them.
    fn beginning(&self, name: &str, prefix: &[u8]) -> Vec<Probe> {
        let elems = self.contents.elements_from(name, prefix).take(MOST_SLOTS);
        elems.filter_map(|elem| self.by_key(name, elem)).collect()
    }

    fn chain(&self, name: &Name) -> Option<Probe> {
        let (_, rules) = self.contents.chains.get(name)?;
        let mut bare = Ruleset::new(self.contents.table.clone());
        let sets = self.contents.sets.values();
        bare.sets = sets.map(|filled| filled.set.clone()).collect();
        Some(Probe::Chain {
            bare: Rc::new(bare),
            name: name.clone(),
            wanted: rules.clone(),
        })
    }
}

impl Probe {
    /// The answer; nothing if nothing is there and nothing should be.
    fn ask(self, kernel: &mut impl Kernel, table: &TableId) -> Result<Option<Held>, CommitError> {
        match self {
            Self::Element {
                set,
                key,
                wanted,
                words,
                plans,
            } => {
                let held = kernel.element(table, &set.name, &key)?;
                let Some(present) = wanted.as_ref().or(held.as_ref()) else {
                    return Ok(None);
                };
                let shown = |elem: &Option<SetElem>| {
                    let elem = elem.iter();
                    elem.map(|elem| show::element(&set, elem)).collect()
                };
                Ok(Some(Held {
                    meaning: meaning(&words, &set.name, present, &plans),
                    wanted: shown(&wanted),
                    held: shown(&held),
                    agreement: Agreement::of(wanted.as_ref(), held.as_ref()),
                    object: Object::Element(set.name.clone()),
                }))
            }
            Self::Chain { bare, name, wanted } => {
                let held = kernel.rules(table, &name)?;
                let at_rest = |rules: &[Rule]| -> Vec<_> {
                    rules.iter().map(|rule| rule.at_rest().exprs).collect()
                };
                let shown =
                    |rules: &[Rule]| rules.iter().map(|rule| show::rule(&bare, rule)).collect();
                let (should, is) = (at_rest(&wanted), at_rest(&held));
                let counted = counted(&held).map(|packets| {
                    format!("; {packets} packets so far, of all places with this plan")
                });
                Ok(Some(Held {
                    meaning: plan_in_words(&name) + &counted.unwrap_or_default(),
                    agreement: Agreement::of(Some(&should), (!is.is_empty()).then_some(&is)),
                    wanted: shown(&wanted),
                    held: shown(&held),
                    object: Object::Chain(name),
                }))
            }
        }
    }
}

/// What the counters of rules say; `None` if they have none.
fn counted(rules: &[Rule]) -> Option<u64> {
    let exprs = rules.iter().flat_map(|rule| &rule.exprs);
    let counters = exprs.filter_map(|expr| match expr {
        Expr::Counter(counter) => Some(counter.packets),
        _ => None,
    });
    counters.reduce(|all, packets| all + packets)
}

fn slot_backend(words: &Words, slot: &SetElem) -> Option<SocketAddr> {
    match &slot.value {
        Value::Data(data) => backend_of(words, data),
        _ => None,
    }
}
