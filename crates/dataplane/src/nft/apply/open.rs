//! What is in the kernel when an agent comes: tables to adopt, to replace, or none.
//!
//! Tables that cannot be adopted (of another layout, up or down, or changed by somebody) serve until others are ready to
//! take their place:
//!
//! 1. *prepare*: tables of the free name, with all their sets and rules, but no chain at a hook: no packet meets them;
//! 2. they are filled;
//! 3. *hook*: their chains at the hooks, with their rules, in one transaction. From here on both translate: of two nat
//!    chains at one hook the kernel asks the newer first (`nf_hook_entries_grow`), and the other only if that did not
//!    translate (`nf_nat_inet_fn`); in the filter chains both must let a packet pass;
//! 4. *unhook*: the old tables go.
//!
//! Hook and unhook are two transactions, because within one a packet might ask the new chain before it counts and the old
//! one after it went. Flows that stand keep their translation throughout: it is conntrack's, and the hooks of nat are never
//! without a chain. An agent may die anywhere: tables without hooks are begun anew, and of two that have hooks the one of
//! the agent's own layout is adopted. Where somebody took one of the tables away, the others serve their family until all
//! are there.

use std::collections::BTreeSet;
use std::net::IpAddr;

use daymark_model::{Family, FrontendKey};
use daymark_netlink::nft::{self, Chain, ChainKind, Exists, Message, Ruleset, Table, TableFlags};

use super::{Found, Kernel, Old, StartError};
use crate::nft::base;
use crate::nft::compile::Compiler;
use crate::nft::layout::{TABLE, TABLES, Words, address, decode_frontend_key, set};
use crate::nft::program::Program;

/// What was found in the kernel, and what is to be done about it.
pub(super) struct Opened {
    pub(super) compiler: Compiler,
    pub(super) takeover: Option<Takeover>,
    pub(super) found: Found,
    pub(super) places: Places,
}

/// What tables that were found captured: who remembers no state from before learns it here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The frontends, as far as their maps are those of this layout.
    pub frontends: BTreeSet<FrontendKey>,
    /// The addresses at which node ports answered.
    pub node_addresses: BTreeSet<IpAddr>,
}

impl Places {
    fn of(present: &[Present]) -> Self {
        let mut places = Self::default();
        for ruleset in present.iter().flat_map(|one| &one.rulesets) {
            let family = family(ruleset);
            for list in &ruleset.elements {
                let keys = list.elems.iter().map(|elem| &elem.key);
                if *list.set == *set::NODE_PORT_ADDRESSES {
                    places
                        .node_addresses
                        .extend(keys.filter_map(|key| address(key)));
                } else if set::FRONTENDS.contains(&&*list.set)
                    || set::NODE_PORTS.contains(&&*list.set)
                {
                    let keys = keys.filter_map(|key| decode_frontend_key(family, &list.set, key));
                    places.frontends.extend(keys);
                }
            }
        }
        places
    }
}

/// How tables come into the place of others. See the module.
#[derive(Debug, Default)]
pub(super) struct Takeover {
    pub(super) prepare: Vec<Message>,
    pub(super) hook: Vec<Message>,
    pub(super) unhook: Vec<Message>,
}

/// The tables of one name.
struct Present {
    name: &'static str,
    tables: Vec<Table>,
    /// The families whose packets meet them.
    hooked: BTreeSet<Family>,
    /// What they hold, until that is looked at.
    rulesets: Vec<Ruleset>,
}

impl Present {
    fn new(name: &'static str, rulesets: Vec<Ruleset>) -> Self {
        let is_hooked = |ruleset: &Ruleset| ruleset.chains.iter().any(is_base);
        let hooked = rulesets.iter().filter(|one| is_hooked(one));
        Self {
            name,
            hooked: hooked.map(family).collect(),
            tables: rulesets
                .iter()
                .map(|ruleset| ruleset.table.clone())
                .collect(),
            rulesets,
        }
    }

    fn delete(&self) -> impl Iterator<Item = Message> + '_ {
        let ids = self.tables.iter().map(|table| table.id.clone());
        ids.map(|table| Message::DelTable { table })
    }
}

fn family(ruleset: &Ruleset) -> Family {
    match ruleset.table.id.family {
        nft::Family::Ip6 => Family::V6,
        _ => Family::V4,
    }
}

/// The families whose packets meet any of these tables.
fn hooked<'a>(present: impl Iterator<Item = &'a Present>) -> BTreeSet<Family> {
    present.flat_map(|one| one.hooked.iter().copied()).collect()
}

fn is_base(chain: &Chain) -> bool {
    matches!(chain.kind, ChainKind::Base(_))
}

/// Looks at what is there. The owner of tables that outlived theirs is this socket afterwards.
pub(super) fn open(kernel: &mut impl Kernel, flags: TableFlags) -> Result<Opened, StartError> {
    let mut present = Vec::new();
    for name in TABLES {
        let rulesets = read(kernel, name, flags)?;
        if !rulesets.is_empty() {
            present.push(Present::new(name, rulesets));
        }
    }
    if present.is_empty() {
        let (compiler, create) = Compiler::new(flags);
        kernel.commit(&create)?;
        return Ok(Opened {
            compiler,
            takeover: None,
            found: Found::Nothing,
            places: Places::default(),
        });
    }
    let places = Places::of(&present);
    let mut reason = String::new();
    for at in 0..present.len() {
        match adopt(&mut present[at], flags)? {
            Ok(compiler) => {
                present.remove(at);
                return Ok(adopted(compiler, &present, places));
            }
            Err(why) => reason = why,
        }
    }
    Ok(beside(&present, flags, reason, places))
}

/// Becomes the owner first and reads then, so that nobody edits in between.
fn read(
    kernel: &mut impl Kernel,
    name: &'static str,
    flags: TableFlags,
) -> Result<Vec<Ruleset>, StartError> {
    let ids = Family::BOTH.map(|family| Words::of(family).named(name).table());
    let mut claims = Vec::new();
    for id in &ids {
        let Some(table) = kernel.header(id)? else {
            continue;
        };
        // One that never had an owner gets none (`nf_tables_updtable`).
        if flags.contains(TableFlags::OWNER) && table.flags.contains(TableFlags::PERSIST) {
            claims.push(claim(table, flags));
        }
    }
    if !claims.is_empty() {
        kernel.commit(&claims)?;
    }
    let mut rulesets = Vec::new();
    for id in ids {
        if let Some(ruleset) = kernel.read_program(&id)? {
            is_ours(&ruleset)
                .then_some(())
                .ok_or(StartError::Foreign(id))?;
            rulesets.push(ruleset);
        }
    }
    Ok(rulesets)
}

fn claim(table: Table, flags: TableFlags) -> Message {
    Message::NewTable {
        table: Table { flags, ..table },
        exists: Exists::Keep,
    }
}

/// A table of our name is ours if its comment says so, whatever its layout; kernels before 5.10 keep no
/// comment of a table, there the names inside tell.
fn is_ours(ruleset: &Ruleset) -> bool {
    match &ruleset.table.comment {
        Some(comment) => comment.starts_with(base::COMMENT),
        None => ruleset.set(set::SLOTS).is_some(),
    }
}

fn adopt(present: &mut Present, flags: TableFlags) -> Result<Result<Compiler, String>, StartError> {
    if present.tables.len() < Family::BOTH.len() {
        return Ok(Err("only one of the two tables is there".to_owned()));
    }
    let owner = TableFlags::OWNER;
    let mut tables = present.tables.iter();
    if tables.any(|table| table.flags.contains(owner) != flags.contains(owner)) {
        return Ok(Err(format!(
            "table {} is owned otherwise than it should be",
            present.name
        )));
    }
    let program = Program::from_rulesets(std::mem::take(&mut present.rulesets))?;
    Ok(Compiler::adopt(program, flags))
}

/// Tables that were adopted; the others go once they hold what is wanted.
fn adopted(compiler: Compiler, others: &[Present], places: Places) -> Opened {
    let unhook: Vec<Message> = others.iter().flat_map(Present::delete).collect();
    let takeover = Takeover {
        unhook,
        ..Takeover::default()
    };
    Opened {
        compiler,
        takeover: (!others.is_empty()).then_some(takeover),
        found: Found::Adopted,
        places,
    }
}

/// Tables beside those that are there.
fn beside(present: &[Present], flags: TableFlags, reason: String, places: Places) -> Opened {
    let at = |name: &str| present.iter().find(|one| one.name == name);
    let name = free(present);
    let (compiler, create) = Compiler::named(name, flags);
    let mut prepare: Vec<Message> = at(name).into_iter().flat_map(Present::delete).collect();
    let (hook, rest): (Vec<_>, Vec<_>) = create.into_iter().partition(is_of_hook());
    prepare.extend(rest);
    let others = || present.iter().filter(|one| one.name != name);
    let old = if hooked(others()).len() == Family::BOTH.len() {
        Old::Serves
    } else {
        Old::Idle
    };
    Opened {
        compiler,
        takeover: Some(Takeover {
            prepare,
            hook,
            unhook: others().flat_map(Present::delete).collect(),
        }),
        found: Found::ToReplace { why: reason, old },
        places,
    }
}

/// The name under which others are built: the first that no table has, or whose tables no packet needs, since those of the other
/// names serve the same families. They go at once. There is one always: two families need two names at most
/// ([`TABLES`] has one more).
fn free(present: &[Present]) -> &'static str {
    let can_go = |name: &&str| {
        let (these, others): (Vec<_>, Vec<_>) = present.iter().partition(|one| one.name == *name);
        hooked(these.into_iter()).is_subset(&hooked(others.into_iter()))
    };
    TABLES.into_iter().find(can_go).unwrap_or(TABLE)
}

/// Whether a message of those that create tables, asked one after the other, makes a chain at a hook or a rule in one.
fn is_of_hook() -> impl FnMut(&Message) -> bool {
    let mut base = BTreeSet::new();
    move |message| match message {
        Message::NewChain { chain, .. } if is_base(chain) => {
            base.insert(chain.name.clone());
            true
        }
        Message::NewRule { rule, .. } => base.contains(&rule.chain),
        _ => false,
    }
}
