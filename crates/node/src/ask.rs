//! What the agent answers on its socket: where packets go and why, and how it is.
//!
//! One request a connection, one JSON document in one line; then one answer in one line, and the connection ends
//! ([`wire`] has both, [`server`] the limits). Questions about Services are answered by the plane's thread between two
//! commits, so that model, program and kernel are of one moment; of the kernel a place costs some microseconds. The whole
//! comparison of [`wire::Status`] reads the tables beside that thread, and only compares in it.

mod explain;
pub mod server;
mod status;
pub mod wire;

use daymark_dataplane::nft::apply::StartError;
use daymark_dataplane::nft::compare::Comparison;
use daymark_dataplane::nft::program::Program;
use tokio::sync::oneshot;

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
    /// Whether the tables that were read are as they should be.
    Compare {
        /// What was read.
        held: Box<Program>,
        /// [`Standing::moment`] before it was read.
        moment: u64,
        /// The answer; `None` if the tables were changed since.
        reply: oneshot::Sender<Option<Comparison>>,
    },
    /// The same, read by the thread itself: nothing else happens meanwhile.
    Look(oneshot::Sender<Result<Comparison, StartError>>),
}

/// The most differences that are named.
pub(crate) const MOST_DIFFERENCES: usize = 100;
