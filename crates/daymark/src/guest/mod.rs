//! Another kernel: boots an image in QEMU, without KVM, and runs commands in it.
//!
//! ```text
//! host    boot      packs this binary, the modules and the programs into an initramfs, starts QEMU, prints the
//!                   first serial line, reads exit codes from the second, and judges
//! guest   init      the same binary as process 1: mounts, loads the modules, runs the commands, switches off
//! ```
//!
//! The guest's clock counts instructions: a nanosecond each, and the time that everybody sleeps is skipped. What is
//! slow is the host, and nobody in the guest can tell: time limits hold whatever else the machine does.

mod boot;
mod cpio;
mod image;
mod init;
mod modules;
mod report;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(crate) use boot::{Boot, Clock, Kernel, boot};
pub(crate) use init::init;

/// What the first process of a guest is to do: the file [`PLAN`].
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    /// Files of modules, in the order in which to load them.
    modules: Vec<PathBuf>,
    /// The folder that every command starts in.
    folder: PathBuf,
    /// What every command finds in its environment.
    environment: Vec<(String, String)>,
    /// Programs with their arguments, one after the other.
    commands: Vec<Vec<String>>,
}

/// Where the plan lies in the guest.
const PLAN: &str = "/guest.json";
/// The serial line that exit codes go out by; the first one is the console.
const REPORT: &str = "/dev/ttyS1";
/// The exit code when there is none of the guest's: it was not booted, or did not come to its end.
pub(crate) const NO_CODE: u8 = 125;
