//! Changes as `nft` commands.

use super::{element, hook, rule};
use crate::nft::message::{Message, Place, Victim};
use crate::nft::object::{Chain, ChainKind, Elements, Ruleset, Set, SetElem, TableId};

/// A change as the command that `nft` has for it. The sets of `ruleset` give keys and values their types;
/// without them they are bytes. Of a long list of elements the first ones are shown.
#[must_use]
pub fn message(message: &Message, ruleset: Option<&Ruleset>) -> String {
    let at = message.table();
    match message {
        Message::NewTable { table, .. } => {
            let flags: Vec<_> = table.flags.words().collect();
            let flags = if flags.is_empty() {
                String::new()
            } else {
                format!(" {{ flags {}; }}", flags.join(","))
            };
            format!("add table {at}{flags}")
        }
        Message::DelTable { .. } => format!("delete table {at}"),
        Message::NewChain { chain, .. } => format!("add chain {at} {}", head(chain)),
        Message::DelChain { chain, .. } => format!("delete chain {at} {chain}"),
        Message::NewSet { set, .. } => {
            let lines = super::set(set).replace('\n', " ").replace('\t', "");
            let (word, rest) = lines.split_once(' ').unwrap_or((&lines, ""));
            format!("add {word} {at} {rest}")
        }
        Message::DelSet { set, .. } => format!("delete set {at} {set}"),
        Message::NewObject { object, .. } => {
            format!("add {} {at} {}", object.object_type().word(), object.name)
        }
        Message::DelObject { kind, object, .. } => format!("delete {} {at} {object}", kind.word()),
        Message::NewRule {
            rule: new, place, ..
        } => {
            let find = |name: &str| ruleset.and_then(|ruleset| ruleset.set(name));
            let text = rule::rule(at.family, find, new);
            format!("{} {text}", put(*place, at, &new.chain))
        }
        Message::DelRule {
            chain,
            which: Victim::All,
            ..
        } => format!("flush chain {at} {chain}"),
        Message::DelRule {
            chain,
            which: Victim::Handle(handle),
            ..
        } => {
            format!("delete rule {at} {chain} handle {handle}")
        }
        Message::NewElems { elements, .. } => {
            format!(
                "add element {at} {} {}",
                elements.set,
                list(elements, ruleset)
            )
        }
        Message::DelElems { elements, .. } => {
            format!(
                "delete element {at} {} {}",
                elements.set,
                list(elements, ruleset)
            )
        }
        Message::FlushSet { set, .. } => format!("flush set {at} {set}"),
    }
}

fn head(chain: &Chain) -> String {
    match &chain.kind {
        ChainKind::Regular => chain.name.to_string(),
        ChainKind::Base(base) => format!("{} {{ {} }}", chain.name, hook(base)),
    }
}

fn put(place: Place, at: &TableId, chain: &str) -> String {
    match place {
        Place::Last => format!("add rule {at} {chain}"),
        Place::First => format!("insert rule {at} {chain}"),
        Place::After(handle) => format!("add rule {at} {chain} handle {handle}"),
        Place::Before(handle) => format!("insert rule {at} {chain} handle {handle}"),
        Place::Replace(handle) => format!("replace rule {at} {chain} handle {handle}"),
    }
}

fn list(elements: &Elements, ruleset: Option<&Ruleset>) -> String {
    let set = ruleset.and_then(|ruleset| ruleset.set(&elements.set));
    let first = elements.elems.iter().take(SHOWN).map(|elem| one(set, elem));
    let mut parts: Vec<_> = first.collect();
    if elements.elems.len() > SHOWN {
        parts.push(format!("... {} more", elements.elems.len() - SHOWN));
    }
    format!("{{ {} }}", parts.join(", "))
}

fn one(set: Option<&Set>, elem: &SetElem) -> String {
    match set {
        Some(set) => element(set, elem),
        None => format!("{:?}", elem.key),
    }
}

/// Elements of a list that are shown.
const SHOWN: usize = 5;
