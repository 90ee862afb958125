//! What the agent answers on its socket: where packets go and why, and how it is.
//!
//! One request a connection, one JSON document in one line; then one answer in one line, and the connection ends
//! ([`wire`] has both, [`server`] the limits). Questions about Services are answered by the plane's thread between two
//! commits, so that model, program and kernel are of one moment; of the kernel a place costs some microseconds. For the whole
//! comparison of [`wire::Status`] that thread copies its program; the tables are read and compared beside it.

mod explain;
mod lock;
pub mod server;
mod status;
pub mod wire;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use daymark_dataplane::nft::TableId;
use daymark_dataplane::nft::apply::StartError;
use daymark_dataplane::nft::compare::Comparison;
use daymark_dataplane::nft::program::Program;
use daymark_model::desired::PortName;
use k8s_openapi::api::core::v1::ObjectReference;
use tokio::sync::oneshot;

use crate::events::About;
pub(crate) use explain::explained;
pub use status::Parts;
pub(crate) use status::Standing;

/// A question to the plane's thread. Who asks may be gone when it is answered.
#[derive(Debug)]
pub enum Ask {
    /// Where packets go.
    Explain {
        /// What is asked.
        question: wire::Explain,
        /// The answer.
        reply: oneshot::Sender<wire::Explained>,
    },
    /// How the plane is.
    Standing(oneshot::Sender<Standing>),
    /// What the tables should hold.
    Wanted {
        /// [`Standing::moment`] before they were read.
        moment: u64,
        /// A copy; `None` if they were changed since.
        reply: oneshot::Sender<Option<Box<Program>>>,
    },
    /// Whose connections the tables count.
    Ports {
        /// That of the last answer.
        moment: u64,
        /// The answer; `None` if it is the last one.
        reply: oneshot::Sender<Option<Ports>>,
    },
    /// What an Event is to name; `None`: it is not there, or there is nothing to say about it any more.
    Reference {
        /// What it is about.
        about: About,
        /// Its reason.
        reason: &'static str,
        /// The answer.
        reply: oneshot::Sender<Option<Box<ObjectReference>>>,
    },
    /// Whose address this is, in words: a Service's, or that of one that a ServiceCIDR has it for; `None` if nobody's.
    Holder(IpAddr, oneshot::Sender<Option<String>>),
    /// How many nodes have endpoints.
    Nodes {
        /// From so many on they are not counted.
        most: usize,
        /// The answer.
        reply: oneshot::Sender<usize>,
    },
    /// What differences are there for.
    Name(Box<Comparison>, oneshot::Sender<Comparison>),
    /// Whether the tables are as they should be, read by the thread itself: nothing else happens meanwhile.
    Look(oneshot::Sender<Result<Comparison, StartError>>),
}

/// The Service ports by the numbers under which the tables count their connections.
#[derive(Clone, Debug, Default)]
pub struct Ports {
    /// Of which state of the tables this is. 0: none yet.
    pub(crate) moment: u64,
    /// In the order of [`daymark_model::Family::BOTH`].
    pub(crate) tables: Vec<(TableId, BTreeMap<u32, Arc<PortName>>)>,
}

/// The most differences that are named.
pub(crate) const MOST_DIFFERENCES: usize = 100;
