//! Walks a compiled program with a packet, in plain Rust.
//!
//! It takes the program, the packet and the machine's own addresses, by which a kernel tells what it delivers from
//! what it forwards, and nothing else: what the model wanted it cannot know. Each expression does what the kernel
//! file named beside its type does; one that this plane never emits is an error, not a guess.

mod machine;
mod sets;

use std::collections::BTreeSet;
use std::net::IpAddr;

use daymark_model::decide::{Arrival, SourceSeen};
use daymark_model::{Family, Packet, Target};
use daymark_netlink::nft::{ChainKind, Data, Hook, Name};
use thiserror::Error;

use super::layout::Words;
use super::program::{Contents, Program};
use machine::{Connection, End, Machine};

/// What a program does with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Translated, to one of these.
    Forward(BTreeSet<Target>),
    /// Answered with ICMP port unreachable.
    Refused,
    /// Dropped.
    Dropped,
    /// Left alone.
    Untouched,
    /// Not the same for every random number, which no frontend should give.
    Mixed(Vec<Single>),
}

/// What a program does with a packet for one value of its random number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Single {
    /// Translated.
    Forward(Target),
    /// Answered with ICMP port unreachable.
    Refused,
    /// Dropped.
    Dropped,
    /// Left alone.
    Untouched,
}

/// Why a program could not be walked.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TraceError {
    /// A chain or set that is named does not exist.
    #[error("chain {chain}, rule {rule}: {what} does not exist")]
    Missing {
        /// Where.
        chain: Name,
        /// Its position in the chain, from 0.
        rule: usize,
        /// What is missing.
        what: String,
    },
    /// An expression that the walker does not know, or a value that does not fit.
    #[error("chain {chain}, rule {rule}: {what}")]
    Unknown {
        /// Where.
        chain: Name,
        /// Its position in the chain, from 0.
        rule: usize,
        /// What.
        what: String,
    },
    /// More jumps than the kernel allows (`NFT_JUMP_STACK_SIZE`).
    #[error("chain {0}: too many jumps")]
    Deep(Name),
    /// There is no table for the packet's family.
    #[error("no table {0}")]
    NoTable(String),
}

/// What clients kept: the dynamic elements that packets wrote, beside the program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    sticky: std::collections::BTreeMap<(Name, Data), Data>,
}

/// A machine that runs a program.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// Its tables.
    pub program: &'a Program,
    /// The addresses that it delivers to itself (`RTN_LOCAL` routes), loopback excepted.
    pub addresses: &'a BTreeSet<IpAddr>,
}

/// Everything that may happen to a packet, over all random numbers, without affinity kept from before.
///
/// # Errors
/// If the program does not fit together.
pub fn trace(host: Host<'_>, packet: &Packet) -> Result<Outcome, TraceError> {
    let (first, modulus) = once(host, packet, 0, &mut Memory::default())?;
    let mut all = BTreeSet::from([first]);
    for random in 1..modulus.max(1) {
        all.insert(once(host, packet, random, &mut Memory::default())?.0);
    }
    Ok(gather(&all))
}

/// What marks the connections that keep the backend that this packet gets, if a choice is kept: the key
/// under which it is remembered.
///
/// # Errors
/// If the program does not fit together.
pub fn kept_by(host: Host<'_>, packet: &Packet) -> Result<Option<String>, TraceError> {
    let mut memory = Memory::default();
    let (first, _) = once(host, packet, 0, &mut memory)?;
    let Some((_, key)) = memory.sticky.keys().next().cloned() else {
        return Ok(None);
    };
    let (again, _) = once(host, packet, 1, &mut memory)?;
    Ok((first == again).then(|| format!("{key:?}")))
}

/// What happens to a packet when the random number is `random`, and what clients kept before counts.
/// Returns the largest modulus that was asked for, too.
///
/// # Errors
/// If the program does not fit together.
pub fn once(
    host: Host<'_>,
    packet: &Packet,
    random: u32,
    memory: &mut Memory,
) -> Result<(Single, u32), TraceError> {
    let moments = Moments {
        before: host,
        after: host,
        asked_before: 0,
    };
    across(moments, packet, random, memory).map(|(single, modulus, _)| (single, modulus))
}

/// A machine that commits a transaction while a packet is under way.
#[derive(Clone, Copy, Debug)]
pub struct Moments<'a> {
    /// As it was when the packet came.
    pub before: Host<'a>,
    /// As it is behind the commit.
    pub after: Host<'a>,
    /// So many sets the packet asked before.
    pub asked_before: usize,
}

/// As [`once`], of a packet that is under way during a commit: its rules are those of the moment when it came to a hook, and
/// each set those of the moment when it is asked (`nft_do_chain` reads the generation once, `nft_set_elem_active` each time).
/// Returns how many sets were asked, too.
///
/// # Errors
/// If one of the programs does not fit together.
pub fn across(
    moments: Moments<'_>,
    packet: &Packet,
    random: u32,
    memory: &mut Memory,
) -> Result<(Single, u32, usize), TraceError> {
    let words = Words::of(Family::of(packet.destination));
    let mut machine = Machine {
        tables: [
            table_of(moments.before, &words)?,
            table_of(moments.after, &words)?,
        ],
        before: moments.asked_before,
        asked: 0,
        words,
        random,
        modulus: 1,
        memory,
        connection: Connection::new(packet),
    };
    let single = walk(&mut machine, packet, moments.after.addresses)?;
    Ok((single, machine.modulus, machine.asked))
}

fn table_of<'a>(host: Host<'a>, words: &Words) -> Result<&'a Contents, TraceError> {
    let mut tables = host.program.tables();
    tables
        .find(|table| table.table.id.family == words.nft)
        .ok_or_else(|| TraceError::NoTable(words.table().to_string()))
}

/// The way of a first packet through the hooks.
fn walk(
    machine: &mut Machine,
    packet: &Packet,
    own: &BTreeSet<IpAddr>,
) -> Result<Single, TraceError> {
    let first = match packet.arrival {
        Arrival::Link => Hook::Prerouting,
        Arrival::Node => Hook::Output,
    };
    if let Some(end) = pass(machine, first)? {
        return Ok(end);
    }
    let ours = own.contains(&machine.connection.destination);
    let second = match (packet.arrival, ours) {
        (Arrival::Node, _) => None,
        (Arrival::Link, true) => Some(Hook::Input),
        (Arrival::Link, false) => Some(Hook::Forward),
    };
    if let Some(hook) = second
        && let Some(end) = pass(machine, hook)?
    {
        return Ok(end);
    }
    // What was delivered never sees postrouting, and the rules there leave untranslated packets alone.
    if second != Some(Hook::Input)
        && machine.connection.translated
        && let Some(end) = pass(machine, Hook::Postrouting)?
    {
        return Ok(end);
    }
    let Connection {
        destination,
        port,
        translated,
        masqueraded,
        ..
    } = machine.connection;
    if !translated {
        return Ok(Single::Untouched);
    }
    let source = if masqueraded {
        SourceSeen::Masqueraded
    } else {
        SourceSeen::Kept
    };
    Ok(Single::Forward(Target {
        address: destination,
        port,
        source,
    }))
}

/// Runs the base chains of a hook; how the packet ended, if it did.
fn pass(machine: &mut Machine, hook: Hook) -> Result<Option<Single>, TraceError> {
    for chain in base_chains(machine.table(), hook) {
        match machine.run(&chain)? {
            End::Accept => {}
            End::Drop => return Ok(Some(Single::Dropped)),
            End::Refuse => return Ok(Some(Single::Refused)),
        }
    }
    Ok(None)
}

/// Base chains of a hook in the order of their priority.
fn base_chains(table: &Contents, hook: Hook) -> Vec<Name> {
    let mut found: Vec<(i32, Name)> = Vec::new();
    for (name, (chain, _)) in &table.chains {
        if let ChainKind::Base(base) = &chain.kind
            && base.hook == hook
        {
            found.push((base.priority, name.clone()));
        }
    }
    found.sort();
    found.into_iter().map(|(_, name)| name).collect()
}

fn gather(all: &BTreeSet<Single>) -> Outcome {
    let targets: BTreeSet<Target> = all
        .iter()
        .filter_map(|one| {
            if let Single::Forward(target) = one {
                Some(*target)
            } else {
                None
            }
        })
        .collect();
    if targets.len() == all.len() {
        return Outcome::Forward(targets);
    }
    match all.iter().collect::<Vec<_>>().as_slice() {
        [Single::Refused] => Outcome::Refused,
        [Single::Dropped] => Outcome::Dropped,
        [Single::Untouched] => Outcome::Untouched,
        mixed => Outcome::Mixed(mixed.iter().map(|one| **one).collect()),
    }
}
