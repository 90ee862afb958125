//! What a program comes to, without the numbers that its history gave out.

use std::collections::{BTreeMap, BTreeSet};

use daymark_dataplane::nft::layout::{FrontendValue, set};
use daymark_dataplane::nft::program::{Contents, Program};
use daymark_netlink::nft::{Data, Name, SetElem, Value, Verdict};

/// Every element of every set as text, by set. A plan's number is replaced by its chain with all its rules, those of Service
/// ports and pools by what they stand for, and a frontend may be in either of its two maps. Which backend of a pool is in which
/// slot says nothing, nor does the number of a pool without slots. Two programs that mean the same are equal, and those that differ in one element are not.
pub(crate) fn meaning(program: &Program) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    for contents in program.tables() {
        let numbers = Numbers::of(contents);
        for name in contents.sets.keys().filter(|name| ***name != *set::PLANS) {
            let one = name.trim_end_matches("-a").trim_end_matches("-b");
            let key = format!("{} {one}", contents.table.id);
            let elems = contents.elements(name);
            let said = elems.flat_map(|elem| numbers.said(name, &elem));
            all.entry(key).or_insert_with(Vec::new).extend(said);
        }
    }
    all.values_mut().for_each(|elems| elems.sort_unstable());
    all
}

/// What the numbers of one table stand for.
struct Numbers {
    /// A plan's chain with its rules.
    plans: BTreeMap<u32, String>,
    /// A Service port's number: the first frontend that has it.
    ports: BTreeMap<u32, Data>,
    /// The same of a pool that has slots, by its even number.
    pools: BTreeMap<u32, Data>,
}

impl Numbers {
    fn of(contents: &Contents) -> Self {
        let plan = |elem: SetElem| {
            let Value::Verdict(Verdict::Jump(chain)) = &elem.value else {
                panic!("{elem:?}");
            };
            let rules = &contents.chains[chain].1;
            let rules: Vec<_> = rules.iter().map(|rule| &rule.exprs).collect();
            (number(&elem.key), format!("{chain} {rules:?}"))
        };
        let maps = set::FRONTENDS.into_iter().chain(set::NODE_PORTS);
        let mut frontends: Vec<SetElem> = maps.flat_map(|map| contents.elements(map)).collect();
        frontends.sort_by(|one, other| one.key.cmp(&other.key));
        let slots = contents.elements(set::SLOTS);
        let filled: BTreeSet<u32> = slots.map(|slot| number(&slot.key) & !1).collect();
        let mut numbers = Self {
            plans: contents.elements(set::PLANS).map(plan).collect(),
            ports: BTreeMap::new(),
            pools: BTreeMap::new(),
        };
        for elem in frontends {
            let value = frontend(&elem);
            let known = numbers.ports.entry(value.port);
            known.or_insert_with(|| elem.key.clone());
            if filled.contains(&value.pool) {
                numbers.pools.entry(value.pool).or_insert(elem.key);
            }
        }
        numbers
    }

    fn said(&self, set: &Name, elem: &SetElem) -> Vec<String> {
        let name: &str = set;
        if set::FRONTENDS.contains(&name) || set::NODE_PORTS.contains(&name) {
            let value = frontend(elem);
            let plans = [value.inside, value.outside].map(|plan| &self.plans[&plan]);
            let (port, pool) = (&self.ports[&value.port], self.pools.get(&value.pool));
            let (key, flags) = (&elem.key, value.flags);
            let said = format!("{key:?}: {flags} {plans:?} port {port:?} pool {pool:?}");
            return vec![said];
        }
        if name == set::SLOTS || name == set::MEMBERS {
            let pool = number(&elem.key);
            let of = &self.pools[&(pool & !1)];
            let (list, rest) = (pool & 1, &elem.key[4..]);
            let slot = format!("pool {of:?} list {list} {rest:?}");
            let value = format!("pool {of:?} list {list}: {:?}", elem.value);
            return vec![slot, value];
        }
        vec![format!("{elem:?}")]
    }
}

fn frontend(elem: &SetElem) -> FrontendValue {
    let Value::Data(data) = &elem.value else {
        panic!("{elem:?}");
    };
    FrontendValue::decode(data).expect("five words")
}

fn number(key: &Data) -> u32 {
    key.host_word(0).expect("a key that begins with a number")
}
