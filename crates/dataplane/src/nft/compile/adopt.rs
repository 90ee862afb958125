//! Taking over a table that is already in the kernel.
//!
//! After a restart, or after somebody else edited the table, the dump is the truth. Numbers of ports and
//! pools are taken from it where what they stand for is still wanted, so that a restart without changes
//! is an update without messages, and clients keep their backends.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use daymark_model::{Desired, Family};
use daymark_netlink::nft::{Data, SetElem, TableFlags, Value, Verdict};

use super::draft::Draft;
use super::{Compiler, Contents, Installed, Plane, Port, wanted};
use crate::nft::base;
use crate::nft::layout::{FrontendValue, Side, TABLE, TABLES, Words, decode_frontend_key, set};
use crate::nft::plan::Plan;
use crate::nft::program::{self, Program};

impl Compiler {
    /// Takes over the tables of `found`, or says why they are none of this layout.
    ///
    /// # Errors
    /// The first difference in the constant part: another layout, or a rule that somebody changed.
    pub fn adopt(found: Program, flags: TableFlags) -> Result<Self, String> {
        let is_there = |name: &&'static str| {
            let words = Family::BOTH.map(|family| Words::of(family).named(name));
            words
                .iter()
                .all(|words| found.table(&words.table()).is_some())
        };
        let name = TABLES.into_iter().find(is_there).unwrap_or(TABLE);
        let words = |family| Words::of(family).named(name);
        let planes = Family::BOTH.map(|family| Plane::found(words(family), &found, flags));
        let [four, six] = planes;
        Ok(Self {
            desired: Desired::default(),
            program: found,
            planes: [four?, six?],
        })
    }
}

impl Plane {
    fn found(words: Words, found: &Program, flags: TableFlags) -> Result<Self, String> {
        let id = words.table();
        let contents = found
            .table(&id)
            .ok_or_else(|| format!("there is no table {id}"))?;
        let expected =
            Program::from_rulesets([base::ruleset(&words, flags)]).map_err(|e| e.to_string())?;
        let expected = expected.table(&id).ok_or("no layout for the family")?;
        same_base(contents, expected, &words)?;
        let mut plane = Self::new(words);
        for elem in contents.elements(set::PLANS) {
            let number = elem.key.host_word(0).ok_or("a plan without a number")?;
            let Value::Verdict(Verdict::Jump(chain)) = &elem.value else {
                return Err("a plan without a chain".into());
            };
            let plan = Plan::of_chain(chain).ok_or("a plan without a chain of its own")?;
            plane.plans.found(plan, number);
        }
        let chains = contents.chains.keys();
        chains.for_each(|chain| plane.plans.found_chain(chain));
        plane.find_frontends(contents);
        let pools = contents
            .elements(set::SLOTS)
            .filter_map(|elem| elem.key.host_word(0));
        plane.numbers.pool = pools.max().unwrap_or(0) & !1;
        Ok(plane)
    }

    /// A frontend in both maps was about to move: either value is right, the second goes.
    fn find_frontends(&mut self, contents: &program::Contents) {
        for (side, maps) in Side::BOTH.map(|side| {
            (
                side,
                [
                    set::FRONTENDS[side as usize],
                    set::NODE_PORTS[side as usize],
                ],
            )
        }) {
            for map in maps {
                for elem in contents.elements(map) {
                    let Some(key) = decode_frontend_key(self.words.family, map, &elem.key) else {
                        continue;
                    };
                    let Value::Data(data) = &elem.value else {
                        continue;
                    };
                    let Some(value) = FrontendValue::decode(data) else {
                        continue;
                    };
                    self.numbers.port = self.numbers.port.max(value.port);
                    match self.frontends.entry(key) {
                        Entry::Vacant(free) => {
                            self.plans.take(&value);
                            free.insert(Installed {
                                value,
                                side,
                                port: None,
                            });
                        }
                        Entry::Occupied(_) => {
                            self.doubles.insert((map, elem.key.clone()), elem);
                        }
                    }
                }
            }
        }
    }

    /// Removes every element that nothing wants, and adds what is missing.
    pub(super) fn sweep(&mut self, desired: &Desired, found: &Program, draft: &mut Draft) {
        let Some(contents) = found.table(&self.words.table()) else {
            return;
        };
        let family = self.words.family;
        for side in Side::BOTH {
            for map in [
                set::FRONTENDS[side as usize],
                set::NODE_PORTS[side as usize],
            ] {
                for elem in contents.elements(map) {
                    let double = self.doubles.get(&(map, elem.key.clone()));
                    if double != Some(&elem) && !self.is_installed(map, side, &elem) {
                        draft.withdraw(map, elem);
                    }
                }
            }
        }
        for ((map, _), elem) in std::mem::take(&mut self.doubles) {
            draft.drop_first(map, elem);
        }
        self.sweep_pools(contents, draft);
        let of_family = |ips: &BTreeSet<IpAddr>| {
            ips.iter()
                .copied()
                .filter(|ip| Family::of(*ip) == family)
                .collect()
        };
        let service: Vec<IpAddr> = of_family(&desired.service_addresses);
        let node_ports: Vec<IpAddr> = of_family(&desired.node_port_addresses);
        let outer: Vec<IpAddr> = of_family(&desired.outer_addresses);
        let spared: Vec<IpAddr> = of_family(&desired.spared_addresses);
        let local: Vec<IpAddr> = of_family(&desired.local_backends);
        let plain = |ips: Vec<IpAddr>, element: fn(IpAddr) -> SetElem| {
            ips.into_iter().map(element).collect()
        };
        for (name, elems, outer) in [
            (
                set::SERVICE_ADDRESSES,
                plain(service, wanted::address),
                true,
            ),
            (
                set::NODE_PORT_ADDRESSES,
                plain(node_ports, wanted::address),
                true,
            ),
            (set::OUTER_ADDRESSES, plain(outer, wanted::address), true),
            (set::SPARED_ADDRESSES, plain(spared, wanted::address), false),
            (
                set::ENDPOINT_PORTS,
                desired
                    .endpoint_ports
                    .iter()
                    .copied()
                    .map(wanted::port)
                    .collect(),
                true,
            ),
            (set::LOCAL_BACKENDS, plain(local, wanted::pair), false),
        ] {
            sweep_plain(contents, name, elems, outer, draft);
        }
        self.boundaries(desired, found, draft);
        self.sweep_ranges(contents, draft);
    }

    fn is_installed(&self, map: &str, side: Side, elem: &SetElem) -> bool {
        let Some(key) = decode_frontend_key(self.words.family, map, &elem.key) else {
            return false;
        };
        // One that changed stays in its map until it is withdrawn by the draft itself.
        self.frontends.get(&key).is_some_and(|installed| {
            installed.side == side && *elem == wanted::frontend(&key, &installed.value)
        })
    }

    /// Slots of pools that exist stay; all others go.
    fn sweep_pools(&self, contents: &program::Contents, draft: &mut Draft) {
        let pool = |port: &Port| (port.pool, port.contents.clone());
        let wanted: BTreeMap<u32, Contents> = self.ports.values().map(pool).collect();
        for name in [set::SLOTS, set::MEMBERS] {
            // Elements of one pool come one after the other.
            let mut current: (Option<u32>, BTreeSet<Data>) = Default::default();
            for elem in contents.elements(name) {
                let number = elem.key.host_word(0).map(|number| number & !1);
                if current.0 != number {
                    let known = number.and_then(|number| Some((number, wanted.get(&number)?)));
                    let elems = known.map(|(number, contents)| wanted::pool(number, contents));
                    let of_set = elems.into_iter().flatten().filter(|(of, _)| *of == name);
                    current = (number, of_set.map(|(_, elem)| elem.key).collect());
                }
                // One that holds another backend changes in one piece.
                if !current.1.contains(&elem.key) {
                    draft.bury(name, elem);
                }
            }
        }
    }

    /// Ranges of frontends that are there were replaced already; all others go.
    fn sweep_ranges(&self, contents: &program::Contents, draft: &mut Draft) {
        for name in set::RANGES {
            for elem in contents.elements(name) {
                let of = self.frontend_of(name, &elem.key);
                if of.is_none_or(|of| !self.frontends.contains_key(&of)) {
                    draft.bury(name, elem);
                }
            }
        }
    }

    /// The contents that the kernel holds under a found pool number, if they are exactly `wanted`.
    pub(super) fn holds(&self, found: &Program, pool: u32, wanted: &Contents) -> bool {
        let Some(contents) = found.table(&self.words.table()) else {
            return false;
        };
        let elements = wanted::pool(pool, wanted);
        let count = |name| {
            let of_pool = |number: u32| contents.elements_from(name, &number.to_ne_bytes()).count();
            of_pool(pool) + of_pool(pool | 1)
        };
        pool != 0
            && count(set::SLOTS) + count(set::MEMBERS) == elements.len()
            && elements.iter().all(|(name, elem)| {
                contents
                    .sets
                    .get(*name)
                    .and_then(|s| s.elems.get(&elem.key))
                    .as_ref()
                    == Some(elem)
            })
    }
}

fn sweep_plain(
    contents: &program::Contents,
    name: &'static str,
    wanted: Vec<SetElem>,
    outer: bool,
    draft: &mut Draft,
) {
    let wanted: BTreeMap<Data, SetElem> = wanted
        .into_iter()
        .map(|elem| (elem.key.clone(), elem))
        .collect();
    let mut change = |elem: &SetElem, present| {
        if outer {
            draft.change_outer(name, elem.clone(), present)
        } else {
            draft.change_inner(name, elem.clone(), present)
        }
    };
    let present: BTreeMap<Data, SetElem> = contents
        .elements(name)
        .map(|elem| (elem.key.clone(), elem))
        .collect();
    for (_, elem) in present.iter().filter(|(key, _)| !wanted.contains_key(*key)) {
        change(elem, false);
    }
    for (_, elem) in wanted.iter().filter(|(key, _)| !present.contains_key(*key)) {
        change(elem, true);
    }
}

/// The constant part must be that of this layout; chains of plans may stand beside it, as they should be.
fn same_base(
    found: &program::Contents,
    expected: &program::Contents,
    words: &Words,
) -> Result<(), String> {
    if found.table.comment != expected.table.comment {
        return Err(format!("table {} is of another layout", found.table.id));
    }
    for (name, filled) in &expected.sets {
        let same = found
            .sets
            .get(name)
            .is_some_and(|f| f.set.key == filled.set.key && f.set.kind == filled.set.kind);
        same.then_some(())
            .ok_or_else(|| format!("set {name} is missing or of another kind"))?;
    }
    for (name, (chain, rules)) in &expected.chains {
        let same = found
            .chains
            .get(name)
            .is_some_and(|(f, r)| f.kind == chain.kind && same_rules(r, rules));
        same.then_some(())
            .ok_or_else(|| format!("chain {name} is missing or was changed"))?;
    }
    for (name, (_, rules)) in found
        .chains
        .iter()
        .filter(|(name, _)| !expected.chains.contains_key(*name))
    {
        let plan =
            Plan::of_chain(name).ok_or_else(|| format!("chain {name} is not of this layout"))?;
        let wanted = plan.rules(words);
        let same = rules.len() == wanted.len()
            && rules
                .iter()
                .zip(&wanted)
                .all(|(rule, exprs)| rule.at_rest().exprs == *exprs);
        same.then_some(())
            .ok_or_else(|| format!("chain {name} was changed"))?;
    }
    Ok(())
}

fn same_rules(
    found: &[daymark_netlink::nft::Rule],
    expected: &[daymark_netlink::nft::Rule],
) -> bool {
    found.len() == expected.len()
        && found
            .iter()
            .zip(expected)
            .all(|(f, e)| f.at_rest().exprs == e.at_rest().exprs)
}
