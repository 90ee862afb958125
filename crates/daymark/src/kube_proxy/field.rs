//! Fields of a configuration: how each type of value is read from a file, from a flag, and written.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::period::Period;
use super::report::Report;
use super::tree::Tree;

/// A value that a field can hold, or a group of fields.
pub(crate) trait Field {
    /// Takes what the file says. What cannot be taken is reported, and the value stays.
    fn take_tree(&mut self, at: &str, tree: &Tree, report: &mut Report);

    /// Takes a flag's text; what is wrong with it, if it cannot be taken.
    fn take_flag(&mut self, name: &str, text: &str) -> Taken;

    /// As kube-proxy writes it.
    fn json(&self) -> Value;

    /// The rows of the table of fields; a group has one for each of its own.
    fn rows(at: &str, flag: &'static str, meaning: &'static str, rows: &mut Vec<Row>)
    where
        Self: Sized,
    {
        rows.push(Row {
            path: at.to_owned(),
            flag,
            shape: Self::shape(),
            meaning,
        });
    }

    /// How the value of its flag is written.
    fn shape() -> Shape
    where
        Self: Sized,
    {
        Shape::Value
    }
}

/// What became of a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is none of these fields.
    NotHere,
    /// It was taken.
    Yes,
    /// Its text is not what the field takes.
    Refused(&'static str),
}

/// One field: what stands in the table of `docs/from-kube-proxy.md`, and in the help of its flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The path in the file; empty for what has a flag alone.
    pub(crate) path: String,
    /// The flag, without its dashes; empty if it has none.
    pub(crate) flag: &'static str,
    /// How the flag's value is written.
    pub(crate) shape: Shape,
    /// What daymark makes of it.
    pub(crate) meaning: &'static str,
}

/// How the value of a flag is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `--flag VALUE`.
    Value,
    /// `--flag`, or `--flag=false`.
    Switch,
}

/// Declares a group of fields: each with its key in the file, its flag (empty: none), its type and default, and what
/// daymark makes of it.
macro_rules! fields {
    ($(#[$outer:meta])* struct $name:ident {
        $($key:literal, $flag:literal, $field:ident: $type:ty = $default:expr, $meaning:literal;)+
    }) => {
        $(#[$outer])*
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) struct $name { $(#[doc = $meaning] pub(crate) $field: $type,)+ }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl Field for $name {
            fn take_tree(&mut self, at: &str, tree: &Tree, report: &mut Report) {
                for (key, path, value) in report.fields(at, tree) {
                    match key {
                        $($key => self.$field.take_tree(&path, value, report),)+
                        _ => report.unknown(&path),
                    }
                }
            }

            fn take_flag(&mut self, name: &str, text: &str) -> Taken {
                $(
                    let inside = if $flag.is_empty() || $flag == name {
                        self.$field.take_flag(if $flag == name { "" } else { name }, text)
                    } else {
                        Taken::NotHere
                    };
                    if inside != Taken::NotHere {
                        return inside;
                    }
                )+
                Taken::NotHere
            }

            fn json(&self) -> Value {
                let mut out = serde_json::Map::new();
                $(out.insert($key.to_owned(), self.$field.json());)+
                Value::Object(out)
            }

            fn rows(at: &str, _flag: &'static str, _meaning: &'static str, rows: &mut Vec<Row>) {
                $(<$type>::rows(&below(at, $key), $flag, $meaning, rows);)+
            }
        }
    };
}
pub(crate) use fields;

/// Takes a value, or says what it should have been.
fn take<T>(
    into: &mut T,
    at: &str,
    tree: &Tree,
    report: &mut Report,
    read: impl Fn(&Tree) -> Option<T>,
    wanted: &str,
) {
    match read(tree) {
        Some(value) => *into = value,
        None if *tree == Tree::Null => {}
        None => report.refuse(
            at,
            tree,
            &format!("this is {}, and the field takes {wanted}", tree.kind()),
        ),
    }
}

/// Takes the text of a flag that was meant for this field: one whose name was used up on the way here.
fn take_text<T>(into: &mut T, name: &str, read: Option<T>, wanted: &'static str) -> Taken {
    if !name.is_empty() {
        return Taken::NotHere;
    }
    match read {
        Some(value) => {
            *into = value;
            Taken::Yes
        }
        None => Taken::Refused(wanted),
    }
}

const SWITCH: &str = "true or false";
const NUMBER: &str = "a whole number";
const RATE: &str = "a number";
const TEXT: &str = "a text";
const TEXTS: &str = "a list of texts";
const PERIOD: &str = "a time with its unit, as in 30s or 1h30m";
const GATES: &str = "gates with true or false, as in Gate=true";

impl Field for bool {
    fn take_tree(&mut self, at: &str, tree: &Tree, report: &mut Report) {
        let read = |tree: &Tree| match tree {
            Tree::Flag(flag) => Some(*flag),
            // YAML 1.1, in which kube-proxy reads, has more words for these.
            Tree::Text(text) => match text.to_ascii_lowercase().as_str() {
                "yes" | "y" | "on" => Some(true),
                "no" | "n" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        };
        take(self, at, tree, report, read, SWITCH);
    }

    fn take_flag(&mut self, name: &str, text: &str) -> Taken {
        let read = match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => None,
        };
        take_text(self, name, read, SWITCH)
    }

    fn json(&self) -> Value {
        json!(self)
    }

    fn shape() -> Shape {
        Shape::Switch
    }
}

impl Field for i32 {
    fn take_tree(&mut self, at: &str, tree: &Tree, report: &mut Report) {
        let read = |tree: &Tree| match tree {
            Tree::Integer(number) => Self::try_from(*number).ok(),
            _ => None,
        };
        take(self, at, tree, report, read, NUMBER);
    }

    fn take_flag(&mut self, name: &str, text: &str) -> Taken {
        take_text(self, name, text.parse().ok(), NUMBER)
    }

    fn json(&self) -> Value {
        json!(self)
    }
}

impl Field for f64 {
    fn take_tree(&mut self, at: &str, tree: &Tree, report: &mut Report) {
        let read = |tree: &Tree| match tree {
            #[allow(
                clippy::cast_precision_loss,
                reason = "a rate of requests; it is shown again, and not used"
            )]
            Tree::Integer(number) => Some(*number as Self),
            Tree::Float(number) => Some(*number),
            _ => None,
        };
        take(self, at, tree, report, read, RATE);
    }

    fn take_flag(&mut self, name: &str, text: &str) -> Taken {
        take_text(self, name, text.parse().ok(), RATE)
    }

    fn json(&self) -> Value {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::float_cmp,
            reason = "whole numbers are written without a point, as Go does"
        )]
        if self.trunc() == *self && self.abs() < 1e15 {
            json!(*self as i64)
        } else {
            json!(self)
        }
    }
}

impl Field for String {
    fn take_tree(&mut self, at: &str, tree: &Tree, report: &mut Report) {
        let read = |tree: &Tree| match tree {
            Tree::Text(text) => Some(text.clone()),
            _ => None,
        };
        take(self, at, tree, report, read, TEXT);
    }

    fn take_flag(&mut self, name: &str, text: &str) -> Taken {
        take_text(self, name, Some(text.to_owned()), TEXT)
    }

    fn json(&self) -> Value {
        json!(self)
    }
}

impl Field for Period {
    fn take_tree(&mut self, at: &str, tree: &Tree, report: &mut Report) {
        let read = |tree: &Tree| match tree {
            Tree::Text(text) => Self::parse(text),
            _ => None,
        };
        take(self, at, tree, report, read, PERIOD);
    }

    fn take_flag(&mut self, name: &str, text: &str) -> Taken {
        take_text(self, name, Self::parse(text), PERIOD)
    }

    fn json(&self) -> Value {
        json!(self.to_string())
    }
}

/// A list that nobody gave is `null`.
impl Field for Vec<String> {
    fn take_tree(&mut self, at: &str, tree: &Tree, report: &mut Report) {
        let Tree::List(items) = tree else {
            return take(self, at, tree, report, |_| None, TEXTS);
        };
        self.clear();
        for (index, item) in items.iter().enumerate() {
            let mut text = String::new();
            text.take_tree(&format!("{at}[{index}]"), item, report);
            self.push(text);
        }
    }

    /// Given more than once, a flag adds.
    fn take_flag(&mut self, name: &str, text: &str) -> Taken {
        let more = text.split(',').filter(|item| !item.is_empty());
        let all = self.iter().cloned().chain(more.map(str::to_owned));
        let all = all.collect();
        take_text(self, name, Some(all), TEXTS)
    }

    fn json(&self) -> Value {
        if self.is_empty() {
            Value::Null
        } else {
            json!(self)
        }
    }
}

/// Feature gates.
impl Field for BTreeMap<String, bool> {
    fn take_tree(&mut self, at: &str, tree: &Tree, report: &mut Report) {
        for (key, path, value) in report.fields(at, tree) {
            let mut on = false;
            on.take_tree(&path, value, report);
            self.insert(key.to_owned(), on);
        }
    }

    fn take_flag(&mut self, name: &str, text: &str) -> Taken {
        let gate = |pair: &str| {
            let (gate, value) = pair.split_once('=')?;
            let mut on = false;
            (on.take_flag("", value) == Taken::Yes).then(|| (gate.to_owned(), on))
        };
        let gates: Option<Vec<_>> = text.split(',').map(gate).collect();
        let all = gates.map(|gates| self.clone().into_iter().chain(gates).collect());
        take_text(self, name, all, GATES)
    }

    fn json(&self) -> Value {
        json!(self)
    }
}

/// A field whose default depends on others, or that tells "not given" from its zero.
impl<T: Field + Default> Field for Option<T> {
    fn take_tree(&mut self, at: &str, tree: &Tree, report: &mut Report) {
        if *tree != Tree::Null {
            self.get_or_insert_default().take_tree(at, tree, report);
        }
    }

    fn take_flag(&mut self, name: &str, text: &str) -> Taken {
        if !name.is_empty() {
            return Taken::NotHere;
        }
        self.get_or_insert_default().take_flag(name, text)
    }

    fn json(&self) -> Value {
        self.as_ref().map_or(Value::Null, Field::json)
    }

    fn shape() -> Shape {
        T::shape()
    }
}
