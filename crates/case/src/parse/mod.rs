//! Text to case, line by line.
//!
//! Object lines collect into a draft of the step; a `step` line, or the end, closes it. Whatever a line
//! says about an object is the whole of it, apart from `endpoint` lines, which go into a slice.

mod line;
mod objects;
mod packet;
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use daymark_model::input::SlicePort;
use daymark_model::{Change, Node, Service, ServiceCidr, ServiceKey, Slice, SliceKey};

use crate::error::ParseError;
use crate::value::{Case, Check, Step};
use line::Line;

const KEYWORDS: &str = "a line of: options, node, machine, service-cidr, service, slice, endpoint, remove, packet, step";

impl Case {
    /// Reads a case. `file` is its name in messages.
    ///
    /// # Errors
    /// The first line that cannot be read, and what could stand there.
    pub fn parse(file: &str, text: &str) -> Result<Self, ParseError> {
        let mut parser = Parser::new(file);
        for (index, text) in text.lines().enumerate() {
            parser.read(index + 1, text)?;
        }
        parser.close_step();
        Ok(parser.case)
    }
}

/// The case so far, and what the next line may refer to.
struct Parser<'a> {
    file: &'a str,
    case: Case,
    state: State,
    draft: Draft,
    /// Where an `endpoint` line without `of` goes.
    open: Open,
}

/// The objects as they are at this line.
#[derive(Default)]
struct State {
    /// The ports that each Service has at its endpoints, as its line gives them.
    targets: BTreeMap<ServiceKey, Vec<SlicePort>>,
    slices: BTreeMap<SliceKey, Slice>,
    node: Option<Arc<Node>>,
    service_cidrs: BTreeSet<Arc<str>>,
}

/// The step that is being read.
#[derive(Default)]
struct Draft {
    line: usize,
    name: String,
    node: Option<Option<Arc<Node>>>,
    machine: Option<Arc<[std::net::IpAddr]>>,
    service_cidrs: BTreeMap<Arc<str>, Option<Arc<ServiceCidr>>>,
    services: BTreeMap<ServiceKey, Option<Arc<Service>>>,
    slices: BTreeMap<SliceKey, Option<Slice>>,
    checks: Vec<Check>,
}

/// Where endpoints go.
enum Open {
    Nothing,
    /// Into the slices that the Service's line implies, one a family.
    Service(ServiceKey),
    Slice(SliceKey),
}

impl<'a> Parser<'a> {
    fn new(file: &'a str) -> Self {
        Self {
            file,
            case: Case {
                file: file.to_owned(),
                ..Case::default()
            },
            state: State::default(),
            draft: Draft {
                line: 1,
                ..Draft::default()
            },
            open: Open::Nothing,
        }
    }

    fn read(&mut self, number: usize, text: &str) -> Result<(), ParseError> {
        if let Some(comment) = text.trim_start().strip_prefix('#') {
            if self.is_blank() {
                self.case.about.push(comment.trim().to_owned());
            }
            return Ok(());
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        if words.is_empty() {
            return Ok(());
        }
        let mut line = Line::new(self.file, number, &words);
        self.read_words(&mut line)?;
        self.case.spelling.extend(line.spelled);
        Ok(())
    }

    fn read_words(&mut self, line: &mut Line) -> Result<(), ParseError> {
        let keyword = line.word(KEYWORDS)?;
        let object = !matches!(keyword, "packet" | "step");
        if object && !self.draft.checks.is_empty() {
            return Err(line.error("a `step` line before objects change again", keyword));
        }
        match keyword {
            "options" => self.options(line),
            "node" => self.node(line),
            "machine" => self.machine(line),
            "service-cidr" => self.service_cidr(line),
            "service" => self.service(line),
            "slice" => self.slice(line),
            "endpoint" => self.endpoint(line),
            "remove" => self.remove(line),
            "packet" => {
                let check = packet::check(line, self.state.node.as_deref())?;
                self.draft.checks.push(check);
                Ok(())
            }
            "step" => self.step(line),
            _ => Err(line.error(KEYWORDS, keyword)),
        }
    }

    fn step(&mut self, line: &mut Line) -> Result<(), ParseError> {
        let name = line.rest().join(" ");
        if name.is_empty() {
            return Err(line.error("what happens in this step, in words", ""));
        }
        self.close_step();
        self.draft.line = line.number();
        self.draft.name = name;
        self.open = Open::Nothing;
        Ok(())
    }

    fn close_step(&mut self) {
        let draft = std::mem::take(&mut self.draft);
        let machine = draft.machine.map(Change::MachineAddresses);
        let service_cidrs = draft.service_cidrs.into_iter();
        let services = draft.services.into_iter();
        let slices = draft.slices.into_iter();
        let changes = draft.node.map(Change::Node).into_iter().chain(machine);
        let changes = changes
            .chain(service_cidrs.map(|(name, cidr)| Change::ServiceCidr(name, cidr)))
            .chain(services.map(|(key, service)| Change::Service(key, service)))
            .chain(slices.map(|(key, slice)| Change::Slice(key, slice.map(Arc::new))));
        self.case.steps.push(Step {
            line: draft.line,
            name: draft.name,
            changes: changes.collect(),
            checks: draft.checks,
        });
    }

    /// Whether nothing but comments has been read.
    fn is_blank(&self) -> bool {
        let Draft {
            node,
            machine,
            service_cidrs,
            services,
            slices,
            checks,
            name,
            ..
        } = &self.draft;
        self.case.steps.is_empty()
            && name.is_empty()
            && node.is_none()
            && machine.is_none()
            && service_cidrs.is_empty()
            && services.is_empty()
            && slices.is_empty()
            && checks.is_empty()
    }

    fn put_slice(&mut self, slice: Slice) {
        let key = slice.key.clone();
        self.draft.slices.insert(key.clone(), Some(slice.clone()));
        self.state.slices.insert(key, slice);
    }
}

#[cfg(test)]
mod tests;
