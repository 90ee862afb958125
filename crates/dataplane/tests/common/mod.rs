//! What the tests of this folder share: cases as inputs, and worlds with every kind of plan.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use daymark_case::Case;
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::Borders;
use daymark_dataplane::nft::compile::{Compiler, Update};
use daymark_dataplane::nft::layout::set;
use daymark_dataplane::nft::program::Program;
use daymark_model::{Desired, World};
use daymark_netlink::nft::{Elements, Message, Role, SetElem};

/// Every case of the repository, by name.
pub(crate) fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cases");
    let mut files: Vec<PathBuf> = [folder.clone(), folder.join("unseen")]
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).expect("the folder of cases"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "case"))
        .collect();
    files.sort();
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).expect("a case");
        Case::parse(&path.to_string_lossy(), &text).expect("a case that parses")
    };
    files.iter().map(read).collect()
}

/// The world after the last step of a case.
pub(crate) fn world(case: &Case) -> World {
    let mut world = World::new(case.options.clone());
    for step in &case.steps {
        world.apply(step.changes.iter().cloned());
    }
    world
}

/// The world of a case's text.
pub(crate) fn world_of(text: &str) -> World {
    world(&Case::parse("inline.case", text).expect("a case that parses"))
}

/// A world whose program has every kind of plan, in both families.
pub(crate) fn every_plan() -> World {
    world_of(EVERY_PLAN)
}

/// The program that a compiler makes of a world, from nothing.
pub(crate) fn compiled(world: &World) -> Program {
    compiled_desired(world.desired())
}

/// The same of what a world wants.
pub(crate) fn compiled_desired(desired: &Desired) -> Program {
    let (mut compiler, _) = Compiler::new(TableFlags::NONE);
    compiler.reconcile(desired.clone());
    compiler.program().clone()
}

/// How many elements each set has. Frontends may be in either of two maps, and plans stay.
pub(crate) fn sizes(program: &Program) -> BTreeMap<String, usize> {
    let mut sizes = BTreeMap::new();
    for table in program.tables() {
        for (name, filled) in &table.sets {
            if **name == *set::PLANS {
                continue;
            }
            let name = name.trim_end_matches("-a").trim_end_matches("-b");
            *sizes
                .entry(format!("{} {name}", table.table.id.family))
                .or_default() += filled.elems.len();
        }
    }
    sizes
}

/// The smallest pieces in which an update may be carried out: one element each, where nothing must stay together.
pub(crate) fn pieces(update: &Update) -> Vec<Vec<Message>> {
    let mut pieces = Vec::new();
    for transaction in &update.transactions {
        let mut open = Vec::new();
        let borders = Borders::of(transaction);
        for (index, message) in transaction.iter().enumerate() {
            open.push(message.clone());
            if borders.behind(index) {
                let group = std::mem::take(&mut open);
                match <[Message; 1]>::try_from(group) {
                    Ok([alone]) => pieces.extend(single_elements(&alone).map(|piece| vec![piece])),
                    Err(group) => pieces.push(group),
                }
            }
        }
        pieces.extend((!open.is_empty()).then_some(open));
    }
    pieces
}

fn single_elements(message: &Message) -> impl Iterator<Item = Message> + use<> {
    // Two boundaries make a range: their list is short and never cut.
    let has_boundaries = |set: &Elements| {
        set.elems
            .iter()
            .any(|elem| elem.role() == Role::IntervalEnd)
    };
    let one = |set: &Elements, elem: &SetElem| Elements {
        set: set.set.clone(),
        elems: vec![elem.clone()],
    };
    let split: Vec<Message> = match message {
        Message::NewElems { elements, .. } | Message::DelElems { elements, .. }
            if has_boundaries(elements) =>
        {
            vec![message.clone()]
        }
        Message::NewElems {
            table,
            elements,
            exists,
        } => elements
            .elems
            .iter()
            .map(|elem| Message::NewElems {
                table: table.clone(),
                elements: one(elements, elem),
                exists: *exists,
            })
            .collect(),
        Message::DelElems { table, elements } => elements
            .elems
            .iter()
            .map(|elem| Message::DelElems {
                table: table.clone(),
                elements: one(elements, elem),
            })
            .collect(),
        other => vec![other.clone()],
    };
    split.into_iter()
}

/// Names of the chains that [`every_plan`] must lead to, so that the text above it cannot lose one unseen.
pub(crate) const EVERY_CHAIN: [&str; 15] = [
    "dropped",
    "dropped-checked",
    "np-to-3",
    "np-to-3-sticky-60s",
    "np-to-local-1",
    "np-to-local-1-sticky-60s",
    "refused",
    "refused-checked",
    "to-3",
    "to-3-checked",
    "to-3-sticky-60s",
    "to-3-sticky-60s-checked",
    "to-local-1",
    "to-local-1-checked",
    "to-local-1-sticky-60s-checked",
];

const EVERY_PLAN: &str = "\
node node-1 172.30.0.11 fd00:30::11 pods=10.244.1.0/24,fd00:10:244:1::/64
service plain LoadBalancer 80->8080/TCP@30001 cluster=10.96.0.20,fd00:10:96::20 external=172.30.0.201,fd00:30::201 lb=172.30.0.200,fd00:30::200 ranges=172.30.0.100/32,fd00:30::100/128
endpoint 10.244.1.5 ready on node-1
endpoint 10.244.2.5 ready on node-2
endpoint 10.244.2.6 ready on node-2
endpoint fd00:10:244:1::5 ready on node-1
endpoint fd00:10:244:2::5 ready on node-2
endpoint fd00:10:244:2::6 ready on node-2
service sticky LoadBalancer 80->8080/UDP@30002 cluster=10.96.0.21,fd00:10:96::21 external=172.30.0.203,fd00:30::203 lb=172.30.0.202,fd00:30::202 ranges=172.30.0.100/32,fd00:30::100/128 affinity=ClientIP:60
endpoint 10.244.1.5 ready on node-1
endpoint 10.244.2.5 ready on node-2
endpoint 10.244.2.6 ready on node-2
endpoint fd00:10:244:1::5 ready on node-1
endpoint fd00:10:244:2::5 ready on node-2
endpoint fd00:10:244:2::6 ready on node-2
service local LoadBalancer 80->8080/TCP@30003 cluster=10.96.0.22,fd00:10:96::22 lb=172.30.0.204,fd00:30::204 external=172.30.0.207,fd00:30::207 ranges=172.30.0.100/32,fd00:30::100/128 external-policy=Local
endpoint 10.244.1.5 ready on node-1
endpoint 10.244.2.5 ready on node-2
endpoint 10.244.2.6 ready on node-2
endpoint fd00:10:244:1::5 ready on node-1
endpoint fd00:10:244:2::5 ready on node-2
endpoint fd00:10:244:2::6 ready on node-2
service keeps LoadBalancer 80->8080/SCTP@30004 cluster=10.96.0.23,fd00:10:96::23 lb=172.30.0.205,fd00:30::205 ranges=172.30.0.100/32,fd00:30::100/128 external-policy=Local affinity=ClientIP:60
endpoint 10.244.1.5 ready on node-1
endpoint 10.244.2.5 ready on node-2
endpoint 10.244.2.6 ready on node-2
endpoint fd00:10:244:1::5 ready on node-1
endpoint fd00:10:244:2::5 ready on node-2
endpoint fd00:10:244:2::6 ready on node-2
service empty LoadBalancer 80->8080/TCP@30005 cluster=10.96.0.24,fd00:10:96::24 lb=172.30.0.206,fd00:30::206 ranges=172.30.0.100/32,fd00:30::100/128
service far LoadBalancer 80->8080/TCP@30006 cluster=10.96.0.25,fd00:10:96::25 lb=172.30.0.208,fd00:30::208 external=172.30.0.209,fd00:30::209 ranges=172.30.0.100/32,fd00:30::100/128 external-policy=Local
endpoint 10.244.2.7 ready on node-2
endpoint fd00:10:244:2::7 ready on node-2
";
