//! The compiled program and the model agree on random clusters, at every moment of every update.

mod common;
#[path = "../../daymark/src/judge/trace.rs"]
mod trace;

#[path = "agreement/bytes.rs"]
mod bytes;
#[path = "agreement/commits.rs"]
mod commits;
#[path = "agreement/inspect.rs"]
mod inspect;
#[path = "agreement/meaning.rs"]
mod meaning;
#[path = "agreement/prefixes.rs"]
mod prefixes;
#[path = "agreement/ranges.rs"]
mod ranges;
#[path = "agreement/singles.rs"]
mod singles;
#[path = "agreement/verdicts.rs"]
mod verdicts;
