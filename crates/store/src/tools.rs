//! Looking after a store that nobody has open: check, compact, export, import.
//!
//! An export is JSON lines: a header, then one object a line, in the order of kind, namespace and name. It holds the
//! objects with their revisions, not the history.
//!
//! ```text
//! {"daymark":"store","format":1,"cluster":"9f0c...","revision":41,"reserved":41}
//! {"kind":"services","namespace":"default","name":"web","created":7,"revision":41,"value":{"kind":"Service",...}}
//! ```
//!
//! A value that is not JSON on one line stands as `"bytes"` in hexadecimal instead.

mod export;
mod import;
mod line;
mod upkeep;

pub use export::{ExportError, Exported, export};
pub use import::{Existing, ImportError, Imported, Stamp, import};
pub use upkeep::{Compacted, Report, check, compact};

#[cfg(test)]
mod tests;
