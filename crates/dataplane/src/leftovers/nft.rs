//! What is in nf_tables: kube-proxy's tables, and its chains in the tables that iptables keeps there.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use daymark_netlink::nft::{
    ChainKind, Expr, Family, Message, Name, Query, Reply, Snapshot, TableId, Verdict, Victim,
};
use daymark_sys::netlink::{NfSocket, QueryError};

use super::{Jump, removable};
use crate::nft::apply::{CommitError, Kernel};
use crate::nft::kernel::Netlink;
use crate::nft::layout;

/// What was removed of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The table.
    pub table: TableId,
    /// How many chains of it; the whole table, if `None`.
    pub chains: Option<usize>,
    /// Chains of kube-proxy that stay, because rules of others jump to them.
    pub kept: Vec<Name>,
}

/// Removes kube-proxy's tables and chains in the network namespace of the socket, each table in a transaction of its
/// own. What cannot be removed is told beside what could.
pub fn remove(kernel: &mut Netlink) -> Vec<Result<Removed, CommitError>> {
    let mut outcomes = Vec::new();
    for family in [Family::Ip, Family::Ip6] {
        let own = TableId::new(family, "kube-proxy");
        outcomes.extend(remove_table(kernel, own).transpose());
        for name in ["nat", "filter", "mangle"] {
            outcomes.extend(remove_chains(kernel, &TableId::new(family, name)).transpose());
        }
    }
    outcomes
}

/// What of kube-proxy is there at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Its tables, and its chains in those of iptables, in words.
    pub found: BTreeSet<String>,
    /// Another number once kube-proxy has written: made of the handles of its chains, and of the rules in those that it writes at
    /// each sync. Packets that rules count do not change it. It means something to the process that made it.
    pub mark: u64,
}

/// Looks at what of kube-proxy is there: one dump of chains a family, and the rules of a chain or two.
///
/// Mode iptables and mode ipvs write `KUBE-SERVICES` anew at each sync; mode nftables makes or removes a chain with each endpoint,
/// and writes `services` anew each hour. (kubernetes `pkg/proxy/*/proxier.go`.)
///
/// # Errors
/// If the kernel cannot be asked.
pub fn look(kernel: &mut Netlink) -> Result<Look, CommitError> {
    let mut found = BTreeSet::new();
    let mut mark = DefaultHasher::new();
    for family in [Family::Ip, Family::Ip6] {
        let own = TableId::new(family, "kube-proxy");
        if exists(kernel.socket(), &own)? {
            found.insert(format!("table {own}"));
        }
        let chains = kernel.socket().query(&Query::Chains(family));
        for reply in chains.map_err(failed)? {
            let Reply::Chain(held) = reply else { continue };
            let (name, table) = (&held.object.name, &held.table);
            let in_iptables = super::is_kube_proxys(name) && is_of_iptables(table);
            if in_iptables {
                found.insert(format!("chain {name} of table {table}"));
            }
            if in_iptables || *table == own {
                (held.handle, &**name).hash(&mut mark);
            }
            if matches!(&**name, "KUBE-SERVICES" | "services") && (in_iptables || *table == own) {
                rules(kernel.socket(), table, name)?.hash(&mut mark);
            }
        }
    }
    let mark = mark.finish();
    Ok(Look { found, mark })
}

/// The handles of a chain's rules.
fn rules(socket: &mut NfSocket, table: &TableId, chain: &Name) -> Result<Vec<u64>, CommitError> {
    let (table, chain) = (table.clone(), Arc::clone(chain));
    let replies = match socket.query(&Query::ChainRules { table, chain }) {
        Ok(replies) => replies,
        // It went meanwhile.
        Err(error) if error.is_not_found() => Vec::new(),
        Err(error) => return Err(failed(error)),
    };
    let handle = |reply| match reply {
        Reply::Rule(held) => Some(held.handle),
        _ => None,
    };
    Ok(replies.into_iter().filter_map(handle).collect())
}

/// Whether kube-proxy has written its rules: its table is there, which mode nftables makes in the transaction that fills it, or
/// in `nat` the chain `KUBE-NODEPORTS`, which mode iptables makes nowhere but in the one `iptables-restore` of a sync
/// (`KUBE-SERVICES` and the canaries come before it). (kubernetes `pkg/proxy/nftables/proxier.go`, `pkg/proxy/iptables/proxier.go`.)
///
/// # Errors
/// If the kernel cannot be asked.
pub fn is_written(kernel: &mut Netlink) -> Result<bool, CommitError> {
    for family in [Family::Ip, Family::Ip6] {
        if exists(kernel.socket(), &TableId::new(family, "kube-proxy"))? {
            return Ok(true);
        }
        let chains = kernel.socket().query(&Query::Chains(family));
        let written = |reply: &Reply| {
            matches!(reply, Reply::Chain(held)
                if &*held.object.name == "KUBE-NODEPORTS" && &*held.table.name == "nat")
        };
        if chains.map_err(failed)?.iter().any(written) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_of_iptables(table: &TableId) -> bool {
    ["nat", "filter", "mangle"].contains(&&*table.name)
}

/// Removes daymark's own tables, of whatever layout. The kernel refuses that while an agent owns them.
pub fn remove_own(kernel: &mut Netlink) -> Vec<Result<Removed, CommitError>> {
    let removed = |table| remove_table(kernel, table).transpose();
    layout::all_tables().filter_map(removed).collect()
}

/// Removes a whole table, if it is there.
fn remove_table(kernel: &mut Netlink, table: TableId) -> Result<Option<Removed>, CommitError> {
    if !exists(kernel.socket(), &table)? {
        return Ok(None);
    }
    kernel.commit(&[Message::DelTable {
        table: table.clone(),
    }])?;
    Ok(Some(Removed {
        table,
        chains: None,
        kept: Vec::new(),
    }))
}

fn exists(socket: &mut NfSocket, table: &TableId) -> Result<bool, CommitError> {
    match socket.query(&Query::Table(table.clone())) {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: QueryError) -> CommitError {
    CommitError::Socket(error.to_string())
}

fn remove_chains(kernel: &mut Netlink, table: &TableId) -> Result<Option<Removed>, CommitError> {
    let Some(snapshot) = kernel.socket().snapshot(table).map_err(failed)? else {
        return Ok(None);
    };
    let plan = plan(&snapshot);
    if plan.chains.is_empty() {
        return Ok(None);
    }
    for part in plan.parts() {
        kernel.commit(&part)?;
    }
    Ok(Some(Removed {
        table: table.clone(),
        chains: Some(plan.chains.len()),
        kept: plan.kept,
    }))
}

/// What goes of a table.
#[derive(Debug)]
struct Plan {
    table: TableId,
    /// Rules of hooks that lead to what goes, by chain and handle.
    inward: Vec<(Name, u64)>,
    chains: Vec<Name>,
    kept: Vec<Name>,
}

fn plan(snapshot: &Snapshot) -> Plan {
    let chains = snapshot.chains.iter().map(|held| &held.object);
    let is_hook = |kind: &ChainKind| matches!(kind, ChainKind::Base(_));
    let hooks = chains.clone().filter(|chain| is_hook(&chain.kind));
    let hooks: BTreeSet<&str> = hooks.map(|chain| &*chain.name).collect();
    let jumps = snapshot.rules.iter().filter_map(|held| {
        let (from, to) = (&*held.object.chain, target(&held.object.exprs)?);
        Some((held.handle, Jump { from, to }))
    });
    let jumps: Vec<(u64, Jump<'_>)> = jumps.collect();
    let all: Vec<Jump<'_>> = jumps.iter().map(|(_, jump)| *jump).collect();
    let names = chains.map(|chain| &chain.name);
    let going = removable(names.clone().map(|name| &**name), &all, &hooks);
    let inward = jumps
        .iter()
        .filter(|(_, jump)| hooks.contains(jump.from) && going.contains(jump.to));
    let kept = names
        .clone()
        .filter(|name| super::is_kube_proxys(name) && !going.contains(&***name));
    Plan {
        table: snapshot.table.table.clone(),
        inward: inward
            .map(|(handle, jump)| (jump.from.into(), *handle))
            .collect(),
        kept: kept.cloned().collect(),
        chains: going.into_iter().map(Name::from).collect(),
    }
}

impl Plan {
    /// What is committed one after the other: nothing leads in after the first, then rules go, and then chains, which
    /// nothing refers to any more. Some thousands at a time fit a socket without privilege.
    fn parts(&self) -> Vec<Vec<Message>> {
        let rule = |chain: &Name, which| Message::DelRule {
            table: self.table.clone(),
            chain: Arc::clone(chain),
            which,
        };
        let inward = self
            .inward
            .iter()
            .map(|(chain, handle)| rule(chain, Victim::Handle(*handle)));
        let rules = self.chains.iter().map(|chain| rule(chain, Victim::All));
        let chains = self.chains.iter().map(|chain| Message::DelChain {
            table: self.table.clone(),
            chain: Arc::clone(chain),
        });
        let mut parts = vec![inward.collect()];
        for all in [rules.collect::<Vec<_>>(), chains.collect()] {
            parts.extend(all.chunks(PART).map(<[Message]>::to_vec));
        }
        parts.retain(|part| !part.is_empty());
        parts
    }
}

/// How many chains a transaction changes.
const PART: usize = 500;

/// Where a rule sends packets, if to another chain.
fn target(exprs: &[Expr]) -> Option<&str> {
    exprs.iter().find_map(|expr| match expr {
        Expr::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => Some(&**chain),
        _ => None,
    })
}
