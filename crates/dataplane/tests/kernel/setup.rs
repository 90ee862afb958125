//! Planes over the kernel, and what it holds.

use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::{Found, Kernel, Plane};
use daymark_dataplane::nft::kernel::Netlink;
use daymark_dataplane::nft::layout::{TABLES, Words, all_tables, set};
use daymark_dataplane::nft::program::Program;
use daymark_model::{Family, World};
use daymark_netlink::nft::{Elements, Ruleset};
use daymark_sys::probe;

/// A plane over this namespace's kernel, and how it came up.
pub(crate) fn plane(flags: TableFlags) -> (Plane<Netlink>, Found) {
    let kernel = Netlink::open().expect("a netfilter socket");
    Plane::start(kernel, flags).expect("a plane")
}

/// A plane that holds `world`.
pub(crate) fn plane_of(world: &World, flags: TableFlags) -> Plane<Netlink> {
    let (mut plane, _) = plane(flags);
    plane
        .reconcile(world.desired().clone())
        .expect("a loaded world");
    plane
}

/// What the kernel holds, table by table, in one order, without what packets write.
pub(crate) fn held() -> Vec<Ruleset> {
    let mut kernel = Netlink::open().expect("a netfilter socket");
    let read = all_tables().filter_map(|table| kernel.read(&table).expect("readable"));
    let of_agents = |mut ruleset: Ruleset| {
        let of_packets = |list: &Elements| [set::STICKY, set::HITS].contains(&&*list.set);
        ruleset.elements.retain(|list| !of_packets(list));
        ruleset.canonical()
    };
    read.map(of_agents).collect()
}

/// The words of a family's table in a program: its name is one of several.
pub(crate) fn words(program: &Program, family: Family) -> Words {
    let named = TABLES.map(|name| Words::of(family).named(name));
    let there = named
        .into_iter()
        .find(|words| program.table(&words.table()).is_some());
    there.expect("a table of the family")
}

/// The same of a program.
pub(crate) fn canonical(program: &Program) -> Vec<Ruleset> {
    let tables = program.tables();
    tables.map(|table| table.ruleset().canonical()).collect()
}

/// Owned and persistent tables, where the kernel has them.
pub(crate) fn owned() -> Option<TableFlags> {
    let mut kernel = Netlink::open().expect("a netfilter socket");
    let answer = probe::persistent_owner(kernel.socket()).expect("an answer");
    answer
        .is_yes()
        .then(|| TableFlags::OWNER | TableFlags::PERSIST)
}
