//! The questions to the kernel about places, each asked once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use daymark_model::FrontendKey;
use daymark_model::desired::List;
use daymark_netlink::nft::{
    Data, Expr, Name, Rule, Ruleset, Set, SetElem, TableId, Value, Verdict, show,
};

use super::words::{meaning, plan_in_words};
use super::{Agreement, Held, MOST_ASKED, MOST_LISTED, More, Object, frontend_value};
use crate::nft::apply::{CommitError, Kernel};
use crate::nft::layout::{FrontendValue, Side, Words, backend_of, frontend_key, octets, set};
use crate::nft::plan::{Fate, Plan};
use crate::nft::program::Contents;

/// What one question about several places has asked of the kernel so far: places share pools.
#[derive(Debug)]
pub struct Asking {
    /// For how many more elements it may ask.
    room: usize,
    pools: BTreeMap<(TableId, u32), Answers>,
}

impl Default for Asking {
    fn default() -> Self {
        Self::within(MOST_ASKED)
    }
}

/// What the kernel answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers {
    pub(super) objects: Vec<Held>,
    pub(super) more: Vec<More>,
    pub(super) unasked: usize,
}

/// All questions about a place, in the order in which packets meet the answers.
#[derive(Default)]
pub(super) struct Probes {
    of_place: Vec<Probe>,
    /// Pools by their numbers; none of them if it was asked before.
    of_pools: Vec<(u32, Option<Vec<Probe>>)>,
}

/// One question to the kernel.
enum Probe {
    Elements(Elements),
    Chain {
        /// The table without its elements, for the names in rules.
        bare: Rc<Ruleset>,
        name: Name,
        wanted: Vec<Rule>,
    },
}

/// Elements of one set by their keys, with what the program has.
struct Elements {
    set: Set,
    wanted: Vec<(SetElem, Option<SetElem>)>,
    words: Words,
    /// Chains by the numbers of their plans.
    plans: Rc<BTreeMap<u32, Name>>,
}

impl Asking {
    /// One that may ask for so many elements.
    #[must_use]
    pub fn within(room: usize) -> Self {
        Self {
            room,
            pools: BTreeMap::new(),
        }
    }

    pub(super) fn probes(&self, contents: &Contents, words: &Words, at: &FrontendKey) -> Probes {
        let finder = Finder {
            contents,
            words: *words,
            plans: Rc::new(plans(contents)),
        };
        let mut probes = Probes {
            of_place: finder.place(at),
            of_pools: Vec::new(),
        };
        let Some(value) = frontend_value(contents, at) else {
            return probes;
        };
        let pools = finder.value(&value, &mut probes.of_place);
        let table = words.table();
        let of_pools = pools.into_iter().map(|pool| {
            let known = self.pools.contains_key(&(table.clone(), pool));
            (pool, (!known).then(|| finder.pool(pool)))
        });
        probes.of_pools = of_pools.collect();
        probes
    }

    pub(super) fn ask(
        &mut self,
        probes: Probes,
        kernel: &mut impl Kernel,
        table: &TableId,
    ) -> Result<Answers, CommitError> {
        let mut answers = Answers::default();
        for probe in probes.of_place {
            answers.ask(probe, kernel, table, &mut self.room)?;
        }
        for (number, unknown) in probes.of_pools {
            let key = (table.clone(), number);
            if let Some(unknown) = unknown {
                let mut of_pool = Answers::default();
                for probe in unknown {
                    of_pool.ask(probe, kernel, table, &mut self.room)?;
                }
                self.pools.insert(key.clone(), of_pool);
            }
            if let Some(known) = self.pools.get(&key) {
                answers.add(known);
            }
        }
        Ok(answers)
    }
}

impl Answers {
    fn add(&mut self, other: &Self) {
        self.objects.extend_from_slice(&other.objects);
        self.more.extend_from_slice(&other.more);
        self.unasked += other.unasked;
    }

    /// What is there; nothing if nothing is and nothing should be.
    fn ask(
        &mut self,
        probe: Probe,
        kernel: &mut impl Kernel,
        table: &TableId,
        room: &mut usize,
    ) -> Result<(), CommitError> {
        match probe {
            Probe::Elements(elements) => self.elements(elements, kernel, table, room),
            Probe::Chain { bare, name, wanted } => {
                let held = kernel.rules(table, &name)?;
                self.objects.push(chain(&bare, name, &wanted, &held));
                Ok(())
            }
        }
    }

    fn elements(
        &mut self,
        mut elements: Elements,
        kernel: &mut impl Kernel,
        table: &TableId,
        room: &mut usize,
    ) -> Result<(), CommitError> {
        let asked = elements.wanted.len().min(*room);
        let unasked = elements.wanted.drain(asked..);
        self.unasked += unasked.filter(|(_, wanted)| wanted.is_some()).count();
        *room -= asked;
        let mut more = More {
            set: elements.set.name.clone(),
            same: 0,
            differing: 0,
        };
        let mut listed = [0; 2];
        for (key, wanted) in std::mem::take(&mut elements.wanted) {
            let held = kernel.element(table, &elements.set.name, &key)?;
            if wanted.is_none() && held.is_none() {
                continue;
            }
            let (counted, listed) = if wanted == held {
                (&mut more.same, &mut listed[0])
            } else {
                (&mut more.differing, &mut listed[1])
            };
            if *listed == MOST_LISTED {
                *counted += 1;
                continue;
            }
            *listed += 1;
            self.objects.push(elements.held(wanted, held));
        }
        if more.same + more.differing > 0 {
            self.more.push(more);
        }
        Ok(())
    }
}

impl Elements {
    fn held(&self, wanted: Option<SetElem>, held: Option<SetElem>) -> Held {
        let shown = |elem: &Option<SetElem>| {
            let elem = elem.iter();
            elem.map(|elem| show::element(&self.set, elem)).collect()
        };
        let present = wanted.as_ref().or(held.as_ref());
        let meaning = present.map(|e| meaning(&self.words, &self.set.name, e, &self.plans));
        Held {
            object: Object::Element(self.set.name.clone()),
            meaning: meaning.unwrap_or_default(),
            wanted: shown(&wanted),
            held: shown(&held),
            agreement: Agreement::of(wanted.as_ref(), held.as_ref()),
        }
    }
}

fn chain(bare: &Ruleset, name: Name, wanted: &[Rule], held: &[Rule]) -> Held {
    let at_rest =
        |rules: &[Rule]| -> Vec<_> { rules.iter().map(|rule| rule.at_rest().exprs).collect() };
    let shown = |rules: &[Rule]| rules.iter().map(|rule| show::rule(bare, rule)).collect();
    let (should, is) = (at_rest(wanted), at_rest(held));
    let counted = counted(held)
        .map(|packets| format!("; {packets} packets so far, of all places with this plan"));
    Held {
        meaning: plan_in_words(&name) + &counted.unwrap_or_default(),
        agreement: Agreement::of(Some(&should), (!is.is_empty()).then_some(&is)),
        wanted: shown(wanted),
        held: shown(held),
        object: Object::Chain(name),
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
    /// What is there for a place by its own key.
    fn place(&self, at: &FrontendKey) -> Vec<Probe> {
        let key = frontend_key(at);
        let in_maps = Side::BOTH.map(|side| self.by_key(side.map(at), SetElem::key(key.clone())));
        let mut probes: Vec<Probe> = in_maps.into_iter().flatten().collect();
        match at {
            FrontendKey::Address { ip, .. } => {
                let own = SetElem::key(Data::addr(*ip));
                probes.extend(self.by_key(set::SERVICE_ADDRESSES, own));
                let ranges = set::RANGES.into_iter();
                probes.extend(ranges.filter_map(|name| self.beginning(name, &key)));
            }
            FrontendKey::NodePort { .. } => {
                probes.extend(self.beginning(set::NODE_PORT_ADDRESSES, &[]));
            }
        }
        probes
    }

    /// What a frontend's value leads to; returns its pools.
    fn value(&self, value: &FrontendValue, probes: &mut Vec<Probe>) -> BTreeSet<u32> {
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
        pools
    }

    /// The slots of a pool, its members, and which of them may reach themselves.
    fn pool(&self, pool: u32) -> Vec<Probe> {
        let pool = pool.to_ne_bytes();
        let slots = self.contents.elements_from(set::SLOTS, &pool);
        let backends = slots.filter_map(|slot| slot_backend(&self.words, &slot));
        let backends: BTreeSet<IpAddr> = backends.map(|backend| backend.ip()).collect();
        let pairs = backends.into_iter().map(|ip| {
            let own = octets(ip);
            SetElem::key(Data::concat(&[&own, &own]))
        });
        [
            self.beginning(set::SLOTS, &pool),
            self.beginning(set::MEMBERS, &pool),
            self.by_keys(set::LOCAL_BACKENDS, pairs),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The element of a key, which may be there or not.
    fn by_key(&self, name: &str, key: SetElem) -> Option<Probe> {
        self.by_keys(name, std::iter::once(key))
    }

    /// The elements of the program whose keys begin so.
    fn beginning(&self, name: &str, prefix: &[u8]) -> Option<Probe> {
        self.by_keys(name, self.contents.elements_from(name, prefix))
    }

    fn by_keys(&self, name: &str, keys: impl Iterator<Item = SetElem>) -> Option<Probe> {
        let filled = self.contents.sets.get(name)?;
        let wanted = keys.map(|key| {
            let wanted = filled.elems.get(&key.key);
            (key, wanted)
        });
        Some(Probe::Elements(Elements {
            set: filled.set.clone(),
            wanted: wanted.collect(),
            words: self.words,
            plans: Rc::clone(&self.plans),
        }))
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

pub(super) fn slot_backend(words: &Words, slot: &SetElem) -> Option<SocketAddr> {
    match &slot.value {
        Value::Data(data) => backend_of(words, data),
        _ => None,
    }
}
