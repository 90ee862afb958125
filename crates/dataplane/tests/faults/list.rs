//! The faults: every constant rule, every rule of a plan, every set and every flag, lost one by one, and some
//! that are wrong instead of lost.

use std::rc::Rc;

use daymark_dataplane::nft::layout::{FrontendValue, chain, flag, set};
use daymark_dataplane::nft::plan::Plan;
use daymark_dataplane::nft::program::{Contents, Elems, Program};
use daymark_model::World;
use daymark_netlink::nft::{Expr, Rule, Value};

use crate::common::compiled;

/// One thing that is wrong in the tables of both families.
pub(crate) struct Fault {
    pub(crate) name: String,
    pub(crate) spoil: Rc<dyn Fn(&mut Program)>,
}

impl Fault {
    fn new(name: impl Into<String>, spoil: impl Fn(&mut Contents) + 'static) -> Self {
        let spoil = move |program: &mut Program| program.tables_mut().for_each(&spoil);
        Self {
            name: name.into(),
            spoil: Rc::new(spoil),
        }
    }

    /// Whether packets cannot show it.
    pub(crate) fn is_hidden_from_packets(&self) -> bool {
        HIDDEN.iter().any(|(part, _)| self.name.contains(part))
    }
}

/// Faults that endpoints cannot see, and why; the trace alone notices them.
const HIDDEN: &[(&str, &str)] = &[
    (
        "masq-node",
        "the node's own packets carry its address either way",
    ),
    ("masquerade the node", "the same"),
    (
        "share its number",
        "two choices may be the same one by chance",
    ),
];

/// All of them.
pub(crate) fn faults() -> Vec<Fault> {
    let mut faults = lost_rules();
    faults.extend(lost_elements());
    faults.extend(lost_flags());
    faults.extend(wrong_plans());
    faults
}

/// Rules that one packet at rest cannot miss, and why they are there.
const NOT_NEEDED_AT_REST: &[(&str, &str)] = &[
    (chain::LOST, "meets packets that came between two look-ups"),
    ("Goto(\"lost\")", "leads there"),
    (
        "postrouting loses rule 0",
        "spares untranslated connections the look-ups",
    ),
    (
        "masq-node loses rule 1:",
        "spares the node look-ups: at its own addresses it is masqueraded anyway",
    ),
    ("masq-node loses rule 3:", "the same in the second map"),
    (
        "np-a .. Verdict(Return)",
        "keeps to the first map while a node port changes hands",
    ),
    ("np-b .. Verdict(Return)", "the same in the second map"),
    (
        "Goto(\"invalid\")",
        "meets packets that are no first ones: tests/invalid.rs",
    ),
    ("invalid loses", "the same"),
    (
        "TcpReset",
        "says what the rule behind it says, to TCP sooner",
    ),
];

/// Every rule of the constant part, each with its repetitions: a map is asked twice for the sake of changes
/// in between.
fn lost_rules() -> Vec<Fault> {
    let program = compiled(&World::default());
    let table = program.tables().next().expect("a table");
    let mut faults = Vec::new();
    for (name, (_, rules)) in &table.chains {
        for (number, rule) in rules.iter().enumerate() {
            let title = format!("{name} loses rule {number}: {}", shown(rule));
            let excused = |(part, _): &(&str, &str)| title.contains(part);
            if rules[..number].contains(rule) || NOT_NEEDED_AT_REST.iter().any(excused) {
                continue;
            }
            let name = name.clone();
            faults.push(Fault::new(title, move |table| {
                let (_, rules) = table.chains.get_mut(&name).expect("a chain of the base");
                let lost = rules[number].clone();
                rules.retain(|rule| *rule != lost);
            }));
        }
    }
    faults
}

fn shown(rule: &Rule) -> String {
    let last = rule.exprs.last().map(|expr| format!("{expr:?}"));
    let sets = rule.exprs.iter().filter_map(|expr| match expr {
        Expr::Lookup(lookup) => Some(lookup.set.to_string()),
        _ => None,
    });
    format!(
        "{} .. {}",
        sets.collect::<Vec<_>>().join(" "),
        last.unwrap_or_default()
    )
}

/// Every kind of element.
fn lost_elements() -> Vec<Fault> {
    let sets = [
        set::FRONTENDS[0],
        set::FRONTENDS[1],
        set::NODE_PORTS[0],
        set::NODE_PORTS[1],
        set::PLANS,
        set::SLOTS,
        set::MEMBERS,
        set::RANGES[0],
        set::RANGES[1],
        set::OWN_PODS,
        set::OWN_INTERFACES,
        set::OUTER_ADDRESSES,
        set::SERVICE_NETWORKS,
        set::SPARED_ADDRESSES,
        set::NODE_PORT_ADDRESSES,
        set::SERVICE_ADDRESSES,
        set::LOCAL_BACKENDS,
    ];
    let all = sets.map(|name| {
        Fault::new(format!("{name} is empty"), move |table| {
            elements(table, name).clear();
        })
    });
    let last = [set::SLOTS, set::PLANS, set::SERVICE_ADDRESSES].map(|name| {
        Fault::new(format!("{name} loses its last element"), move |table| {
            let elems = elements(table, name);
            if let Some(last) = elems.iter().last() {
                elems.remove(&last.key);
            }
        })
    });
    all.into_iter().chain(last).collect()
}

/// Every bit of a frontend's flags, lost or set; and each of its words.
fn lost_flags() -> Vec<Fault> {
    let [node, own_pod, outside] = flag::MASQUERADE;
    let bits = [
        ("masquerade the node", node),
        ("masquerade own Pods", own_pod),
        ("masquerade clients outside", outside),
        ("refuse", flag::REFUSE),
        ("refuse on loopback", flag::REFUSE_LOOPBACK),
    ];
    let mut faults = Vec::new();
    for (what, bit) in bits {
        faults.push(values(
            format!("no frontend has the flag: {what}"),
            move |v| v.flags &= !bit,
        ));
        // Only between two look-ups does a frontend that never refuses meet the rule for those that do.
        if bit != flag::REFUSE {
            faults.push(values(
                format!("every frontend has the flag: {what}"),
                move |v| v.flags |= bit,
            ));
        }
    }
    faults.push(values(
        "clients outside get the plan of those inside",
        |v| v.outside = v.inside,
    ));
    faults.push(values(
        "clients inside get the plan of those outside",
        |v| v.inside = v.outside,
    ));
    faults.push(values("a frontend names the next pool", |v| v.pool += 2));
    faults.push(values(
        "the addresses of a port do not share its number",
        |v| {
            v.port += v.flags * 1_000;
        },
    ));
    faults
}

/// Rules of plans that are there, and wrong.
fn wrong_plans() -> Vec<Fault> {
    let shorter = Fault::new("the last slot is never chosen", |table| {
        each_expr(table, |expr| match expr {
            Expr::Numgen(numgen) if numgen.modulus > 1 => numgen.modulus -= 1,
            _ => {}
        });
    });
    let longer = Fault::new("a slot that is not there is chosen", |table| {
        each_expr(table, |expr| {
            if let Expr::Numgen(numgen) = expr {
                numgen.modulus += 1;
            }
        });
    });
    let anywhere = Fault::new("local plans use the cluster's pool", |table| {
        for (name, (_, rules)) in &mut table.chains {
            if name.contains("local-") {
                let exprs = rules.iter_mut().map(|rule| &mut rule.exprs);
                exprs.for_each(|exprs| exprs.retain(|expr| !matches!(expr, Expr::Bitwise(_))));
            }
        }
    });
    let forgetful = of_plans("no choice is kept", |rule| {
        rule.exprs
            .iter()
            .any(|expr| matches!(expr, Expr::Dynset(_)))
    });
    let stubborn = of_plans("what was kept is not used", |rule| {
        asks(rule, set::STICKY) && matches!(rule.exprs.last(), Some(Expr::Nat(_)))
    });
    let hospitable = of_plans("nobody's range is checked", |rule| {
        asks(rule, set::RANGES[0])
    });
    let mut faults = vec![shorter, longer, anywhere, forgetful, stubborn, hospitable];
    for ranges in set::RANGES {
        faults.push(Fault::new(format!("no plan asks {ranges}"), move |table| {
            for (_, rules) in table.chains.values_mut() {
                for rule in rules {
                    rule.exprs.retain(|expr| !looks_up(expr, ranges));
                }
            }
        }));
    }
    for map in set::FRONTENDS.into_iter().chain(set::NODE_PORTS) {
        let name = format!("no plan asks {map}");
        faults.push(of_plans(name, move |rule| asks(rule, map)));
    }
    faults
}

/// A fault that takes these rules out of all chains of plans.
fn of_plans(name: impl Into<String>, lost: impl Fn(&Rule) -> bool + 'static) -> Fault {
    Fault::new(name, move |table| {
        for (name, (_, rules)) in &mut table.chains {
            if Plan::of_chain(name).is_some() {
                rules.retain(|rule| !lost(rule));
            }
        }
    })
}

fn asks(rule: &Rule, name: &str) -> bool {
    rule.exprs.iter().any(|expr| looks_up(expr, name))
}

fn looks_up(expr: &Expr, name: &str) -> bool {
    matches!(expr, Expr::Lookup(lookup) if *lookup.set == *name)
}

fn elements<'a>(table: &'a mut Contents, name: &str) -> &'a mut Elems {
    &mut table.sets.get_mut(name).expect("a set of the layout").elems
}

/// A fault in the value of every frontend.
fn values(name: impl Into<String>, change: impl Fn(&mut FrontendValue) + 'static) -> Fault {
    Fault::new(name, move |table| {
        for map in set::FRONTENDS.into_iter().chain(set::NODE_PORTS) {
            let elems = elements(table, map);
            for mut elem in elems.iter().collect::<Vec<_>>() {
                if let Value::Data(data) = &mut elem.value {
                    let mut value = FrontendValue::decode(data).expect("a frontend's value");
                    change(&mut value);
                    *data = value.encode();
                }
                elems.insert(elem);
            }
        }
    })
}

fn each_expr(table: &mut Contents, change: impl Fn(&mut Expr)) {
    let rules = table.chains.values_mut().flat_map(|(_, rules)| rules);
    rules.flat_map(|rule| &mut rule.exprs).for_each(change);
}
