//! Text like that of `nft list ruleset`, for `daymark status`, errors and tests.
//!
//! Where `nft` 1.0.6 loses something (a look-up by the second word of another's result, a number before a range),
//! this prints it: `(ip daddr . meta l4proto . th dport map @fe)[1] vmap @plans` asks `plans` with the second
//! field of what `fe` holds.

mod message;
mod rule;
mod value;

pub use message::message;

use std::fmt::Write;

use super::data::Type;
use super::object::{
    BaseChain, Chain, ChainKind, Name, Object, ObjectKind, Role, Rule, Ruleset, Set, SetElem,
    SetFlags, SetKind, SetPolicy, Table, Value,
};

/// A whole table: objects, sets with their elements, chains with their rules.
#[must_use]
pub fn ruleset(ruleset: &Ruleset) -> String {
    let mut blocks = Vec::new();
    blocks.extend(
        ruleset
            .objects
            .iter()
            .map(|object| indent(&self::object(object))),
    );
    for set in &ruleset.sets {
        let elems: Vec<_> = ruleset.elements_of(&set.name).collect();
        blocks.push(indent(&set_with(set, &elems)));
    }
    for chain in &ruleset.chains {
        blocks.push(indent(&chain_with(ruleset, chain)));
    }
    let head = table(&ruleset.table);
    let body = blocks.join("\n\n");
    let end = if body.is_empty() { "" } else { "\n" };
    format!("{head}{body}{end}}}\n")
}

/// The first lines of a table; the closing brace is missing.
fn table(table: &Table) -> String {
    let mut out = format!("table {} {{\n", table.id);
    let flags: Vec<_> = table.flags.words().collect();
    if !flags.is_empty() {
        let _ = writeln!(out, "\tflags {}", flags.join(","));
    }
    if let Some(comment) = &table.comment {
        let _ = writeln!(out, "\tcomment \"{comment}\"");
    }
    out
}

/// A named object.
#[must_use]
pub fn object(object: &Object) -> String {
    let mut lines = Vec::new();
    push_comment(&mut lines, object.comment.as_ref());
    lines.push(match &object.kind {
        ObjectKind::Counter(counter) => {
            format!("packets {} bytes {}", counter.packets, counter.bytes)
        }
        ObjectKind::Other { bytes, .. } => format!("# {} bytes", bytes.len()),
    });
    block(
        &format!("{} {}", object.object_type().word(), object.name),
        &lines,
    )
}

/// A set or map without elements.
#[must_use]
pub fn set(set: &Set) -> String {
    set_with(set, &[])
}

fn set_with(set: &Set, elems: &[&SetElem]) -> String {
    let mut lines = vec![format!("type {}{}", set.key, data_type(&set.kind))];
    if set.policy != SetPolicy::Performance {
        lines.push(format!("policy {}", set.policy));
    }
    if let Some(size) = set.size {
        lines.push(format!("size {size}"));
    }
    let flags = [
        SetFlags::CONSTANT,
        SetFlags::DYNAMIC,
        SetFlags::INTERVAL,
        SetFlags::TIMEOUT,
    ];
    let flags: Vec<_> = flags
        .iter()
        .filter(|flag| set.flags.contains(**flag))
        .flat_map(|flag| flag.words())
        .collect();
    if !flags.is_empty() {
        lines.push(format!("flags {}", flags.join(",")));
    }
    if !set.exprs.is_empty() {
        let kinds: Vec<_> = set.exprs.iter().map(rule::kind).collect();
        lines.push(kinds.join(" "));
    }
    if let Some(timeout) = set.timeout {
        lines.push(format!("timeout {}", value::duration(timeout)));
    }
    if let Some(interval) = set.gc_interval {
        lines.push(format!(
            "gc-interval {}",
            value::duration(u64::from(interval))
        ));
    }
    push_comment(&mut lines, set.comment.as_ref());
    if !elems.is_empty() {
        let elems: Vec<_> = elements(set, elems);
        lines.push(format!("elements = {{ {} }}", elems.join(",\n\t     ")));
    }
    let word = if set.kind == SetKind::Set {
        "set"
    } else {
        "map"
    };
    block(&format!("{word} {}", set.name), &lines)
}

fn data_type(kind: &SetKind) -> String {
    match kind {
        SetKind::Set => String::new(),
        SetKind::Map(data) => format!(" : {data}"),
        SetKind::Verdicts => " : verdict".to_owned(),
        SetKind::Objects(object) => format!(" : {}", object.word()),
    }
}

/// Elements, ranges of an interval set put together.
#[must_use]
pub fn elements(set: &Set, elems: &[&SetElem]) -> Vec<String> {
    if !set.flags.contains(SetFlags::INTERVAL) || set.key.fields().len() > 1 {
        return elems.iter().map(|elem| element(set, elem)).collect();
    }
    // The kernel's order is not promised; an end follows its start by key.
    let mut sorted = elems.to_vec();
    sorted.sort_by_key(|elem| (&elem.key, elem.role() == Role::Key));
    let mut out = Vec::new();
    for (index, elem) in sorted.iter().enumerate() {
        if elem.role() != Role::IntervalEnd {
            let end = sorted
                .get(index + 1)
                .filter(|next| next.role() == Role::IntervalEnd);
            let last =
                end.map_or_else(|| vec![0xff; elem.key.len()], |end| value::before(&end.key));
            let key = match elem.role() {
                Role::CatchAll => "*".to_owned(),
                _ => value::range(&set.key, &elem.key, &last),
            };
            out.push(key + &element_rest(set, elem));
        }
    }
    out
}

/// One element.
#[must_use]
pub fn element(set: &Set, elem: &SetElem) -> String {
    let key = match (elem.role(), elem.key_end()) {
        (Role::CatchAll, _) => "*".to_owned(),
        (_, Some(end)) => value::range(&set.key, &elem.key, end),
        (_, None) => value::typed(&set.key, &elem.key),
    };
    key + &element_rest(set, elem)
}

/// What stands behind the key.
fn element_rest(set: &Set, elem: &SetElem) -> String {
    let mut out = String::new();
    if !elem.exprs().is_empty() {
        let _ = write!(out, " {}", rule::exprs(elem.exprs()));
    }
    if let Some(timeout) = elem.timeout() {
        let _ = write!(out, " timeout {}", value::duration(timeout));
    }
    if let Some(expires) = elem.expires() {
        let _ = write!(out, " expires {}", value::duration(expires));
    }
    if let Some(comment) = elem.comment() {
        let _ = write!(out, " comment \"{comment}\"");
    }
    match (&elem.value, &set.kind) {
        (Value::None, _) => {}
        (Value::Data(data), SetKind::Map(kind)) => {
            let _ = write!(out, " : {}", value::typed(kind, data));
        }
        (Value::Data(data), _) => {
            let _ = write!(out, " : {data:?}");
        }
        (Value::Verdict(verdict), _) => {
            let _ = write!(out, " : {}", rule::verdict(verdict));
        }
        (Value::Object(name), _) => {
            let _ = write!(out, " : \"{name}\"");
        }
    }
    out
}

fn chain_with(ruleset: &Ruleset, chain: &Chain) -> String {
    let mut lines = Vec::new();
    push_comment(&mut lines, chain.comment.as_ref());
    if let ChainKind::Base(base) = &chain.kind {
        lines.push(hook(base));
    }
    let rules = ruleset
        .rules_of(&chain.name)
        .map(|rule| self::rule(ruleset, rule));
    lines.extend(rules);
    block(&format!("chain {}", chain.name), &lines)
}

/// The line of a base chain.
fn hook(base: &BaseChain) -> String {
    let device = base
        .device
        .iter()
        .map(|device| format!(" device \"{device}\""))
        .collect::<String>();
    let priority = value::priority(base.hook, base.priority);
    format!(
        "type {} hook {}{device} priority {priority}; policy {};",
        base.kind, base.hook, base.policy
    )
}

/// One rule; the sets of its table give constants and results their types.
#[must_use]
pub fn rule(ruleset: &Ruleset, rule: &Rule) -> String {
    rule::rule(ruleset.table.id.family, |name| ruleset.set(name), rule)
}

fn push_comment(lines: &mut Vec<String>, comment: Option<&Name>) {
    lines.extend(comment.map(|comment| format!("comment \"{comment}\"")));
}

fn block(head: &str, lines: &[String]) -> String {
    let body: String = lines.iter().map(|line| format!("\t{line}\n")).collect();
    format!("{head} {{\n{body}}}")
}

fn indent(block: &str) -> String {
    block
        .lines()
        .map(|line| format!("\t{line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Bytes of a type, for others that print keys.
#[must_use]
pub fn typed(kind: &Type, bytes: &[u8]) -> String {
    value::typed(kind, bytes)
}

#[cfg(test)]
mod tests;
