//! Behaviour cases: what must become of packets, as text that people read and judges run.
//!
//! ```text
//! text --Case::parse--> Case --World::apply--> Desired --Judge--> Report
//! ```
//!
//! A case is one small file: the objects of a cluster as one node sees them, and packets with the
//! verdict that each must get. The same file is put before several judges: the reference
//! (`daymark_model::decide`, here as [`judge_model`]), the trace of a compiled program, and real
//! packets in a lab. The format is described in `docs/cases.md`.
//!
//! Read in this order:
//! 1. [`value`]: what a case says, as data;
//! 2. [`mod@judge`]: how a judge is asked and its answers are held against the case;
//! 3. `parse` and `write`: text to value and back;
//! 4. [`random`]: clusters, changes and packets out of a seed, nasty on purpose.
//!
//! The crate does no IO and uses the standard library alone.

pub mod error;
pub mod judge;
mod parse;
pub mod random;
pub mod value;
mod write;

pub use error::ParseError;
pub use judge::{Failure, Judge, Outcome, Report, Seen, Spread, judge, judge_model, judge_with};
pub use value::{Case, Check, Choice, Expect, Step};
