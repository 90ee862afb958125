//! Panics of parts that are begun anew.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Does the work; where that panics, what the panic said, which the log has too. What the work changed must be put right, or
/// away, by the caller.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| format!("it panicked: {}", words(&*panic)))
}

/// What a panic said.
#[must_use]
pub fn words(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("nothing")
}
