//! What the tables hold for one place: what they should hold, and what the kernel really holds.
//!
//! A place is a handful of elements and a chain or two. They are found as a packet finds them: the frontend in its
//! two maps, from there the plans, their chains, the slots of the pools that they name, and the addresses that the
//! filter chains ask for. Each is asked of the kernel by its key: some microseconds an element, and no dump. A pool has
//! thousands of them, and all places of a port share it: it is asked once in a question ([`Asking`]), all of it, and what is as
//! it should be is counted beyond the first of it.

mod asking;
mod words;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use daymark_model::FrontendKey;
use daymark_model::desired::PortName;
use daymark_netlink::nft::{Data, Name, SetElem, TableId, Value};

use super::apply::{CommitError, Kernel, Plane, Why};
use super::compile::Subject;
use super::counts::packets;
use super::layout::{FrontendValue, Side, backend_of, frontend_key, octets, set};
use super::program::Contents;
pub use asking::Asking;

/// What the tables hold for a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The table.
    pub table: TableId,
    /// The objects, in the order in which packets meet them.
    pub objects: Vec<Held>,
    /// What else was asked for of sets that have much to the place, and is not among the objects.
    pub more: Vec<More>,
    /// How many elements were not asked for, because the question had no room left ([`MOST_ASKED`]).
    pub unasked: usize,
    /// What the kernel refused of the Service port, so that it is left out of the program too.
    pub withheld: Vec<(Subject, Why)>,
}

/// One element or chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The set or chain.
    pub object: Object,
    /// What it does for packets.
    pub meaning: String,
    /// What the program has, as `nft` would print it: an element is one line, a chain its rules.
    pub wanted: Vec<String>,
    /// What the kernel has.
    pub held: Vec<String>,
    /// Whether they are the same.
    pub agreement: Agreement,
}

/// Elements of one set that were asked for and are not listed: each set lists [`MOST_LISTED`] of either kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct More {
    /// The set.
    pub set: Name,
    /// How many are as they should be.
    pub same: usize,
    /// How many are not.
    pub differing: usize,
}

/// Where something is in a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// An element of a set or map of this name.
    Element(Name),
    /// A chain of this name.
    Chain(Name),
}

/// Whether the kernel holds what the program has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Agreement {
    /// It does.
    Same,
    /// It lacks it.
    Missing,
    /// It holds what is not in the program.
    Unexpected,
    /// It holds something else under that name or key.
    Different,
}

impl Agreement {
    /// Of what should be there and what is there.
    fn of<T: PartialEq>(wanted: Option<&T>, held: Option<&T>) -> Self {
        match (wanted, held) {
            (wanted, held) if wanted == held => Self::Same,
            (Some(_), None) => Self::Missing,
            (None, _) => Self::Unexpected,
            (Some(_), Some(_)) => Self::Different,
        }
    }

    /// One word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Missing => "missing",
            Self::Unexpected => "unexpected",
            Self::Different => "different",
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Element(set) => set.fmt(out),
            Self::Chain(chain) => write!(out, "chain {chain}"),
        }
    }
}

impl Inspection {
    /// Whether the kernel holds all that the program has for the place, and nothing else.
    #[must_use]
    pub fn agrees(&self) -> bool {
        let listed = self.objects.iter();
        let mut listed = listed.map(|held| held.agreement);
        listed.all(|agreement| agreement == Agreement::Same)
            && self.more.iter().all(|more| more.differing == 0)
    }
}

/// The backend that a client keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The backend.
    pub backend: SocketAddr,
    /// For how long, if no connection comes meanwhile.
    pub expires: Option<Duration>,
}

/// How many elements one question asks the kernel for: the plane waits meanwhile, a quarter of a second at most.
pub const MOST_ASKED: usize = 50_000;

/// How many elements of one set are listed for a place, of those that are as they should be, and of those that are not.
pub const MOST_LISTED: usize = 50;

impl<K: Kernel> Plane<K> {
    /// What the tables hold for a place that belongs to a Service port.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn inspect(
        &mut self,
        at: &FrontendKey,
        port: &PortName,
    ) -> Result<Inspection, CommitError> {
        self.inspect_as_part(at, port, &mut Asking::default())
    }

    /// As [`Self::inspect`], as a part of a question about several places: nothing may change between two of them.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn inspect_as_part(
        &mut self,
        at: &FrontendKey,
        port: &PortName,
        asking: &mut Asking,
    ) -> Result<Inspection, CommitError> {
        let words = self.compiler().words(at.family());
        let table = words.table();
        let found = self.compiler().program().table(&table);
        let probes = found.map_or_else(Default::default, |c| asking.probes(c, &words, at));
        let answers = asking.ask(probes, self.kernel(), &table)?;
        let about = |subject: &Subject| match (subject, at) {
            (Subject::Port(of), _) => **of == *port,
            (Subject::Address(_, of), FrontendKey::Address { ip, .. }) => of == ip,
            (Subject::Address(..), FrontendKey::NodePort { .. }) => false,
        };
        let withheld = self.withheld().iter();
        let withheld = withheld.filter(|(subject, _)| about(subject));
        Ok(Inspection {
            table,
            objects: answers.objects,
            more: answers.more,
            unasked: answers.unasked,
            withheld: withheld.map(|(s, why)| (s.clone(), why.clone())).collect(),
        })
    }

    /// How many new connections its Service port had, at all places of the family; `None` if none is known, as after a day
    /// without any.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn connections(&mut self, at: &FrontendKey) -> Result<Option<u64>, CommitError> {
        let table = self.compiler().words(at.family()).table();
        let found = self.compiler().program().table(&table);
        let value = found.and_then(|contents| frontend_value(contents, at));
        let Some(value) = value else { return Ok(None) };
        let key = SetElem::key(Data::host(value.port));
        let found = self.kernel().element(&table, &set::HITS.into(), &key)?;
        Ok(found.as_ref().and_then(packets))
    }

    /// The backend that a client keeps at a place, if it keeps one.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn kept(&mut self, at: &FrontendKey, client: IpAddr) -> Result<Option<Kept>, CommitError> {
        let words = self.compiler().words(at.family());
        let table = words.table();
        let found = self.compiler().program().table(&table);
        let value = found.and_then(|contents| frontend_value(contents, at));
        let Some(value) = value else { return Ok(None) };
        let key = Data::concat(&[&octets(client), &value.port.to_ne_bytes()]);
        let kernel = self.kernel();
        let found = kernel.element(&table, &set::STICKY.into(), &SetElem::key(key))?;
        Ok(found.and_then(|elem| {
            let Value::Data(data) = &elem.value else {
                return None;
            };
            Some(Kept {
                backend: backend_of(&words, data)?,
                expires: elem.expires().map(Duration::from_millis),
            })
        }))
    }
}

/// The value of a place in the program, from whichever map holds it.
fn frontend_value(contents: &Contents, at: &FrontendKey) -> Option<FrontendValue> {
    let key = frontend_key(at);
    let of = |side: Side| contents.data(side.map(at), &key);
    let data = Side::BOTH.into_iter().find_map(of)?;
    FrontendValue::decode(&data)
}
