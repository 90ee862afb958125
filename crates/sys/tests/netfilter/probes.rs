//! Being written.
use crate::Outcome;
pub(crate) fn probes() -> Outcome {
    Outcome::Skipped("not yet".into())
}
