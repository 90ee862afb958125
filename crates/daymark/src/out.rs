//! Standard output and standard error, whose readers may go before all is said: `daymark status | head -1`.
//!
//! The process ignores SIGPIPE, as Rust's runtime sets it, so that a socket whose other side is gone is an error of that socket alone; a
//! print to nobody would be a panic then. Here it ends the command instead, quietly, with the exit code that a shell gives to a
//! program which SIGPIPE ended: not 0, since `status` says health by its code, and nobody read the rest. What the command holds is given back
//! on the way (a lab, its processes), so this unwinds to `main`, and does not end the process where it stands.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;

use crate::failure;

/// Prints a line, as `println!` does.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::out::line(format_args!($($text)*))
    };
}
/// Writes a line to standard error, as `eprintln!` does; if nobody reads it, nothing is lost by going on.
macro_rules! warn_line {
    ($($text:tt)*) => {
        $crate::out::error_line(format_args!($($text)*))
    };
}
pub(crate) use {say, warn_line};

/// What [`say`] does.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    let written = writeln!(io::stdout().lock(), "{text}");
    written.unwrap_or_else(|error| give_up(error));
}

/// What [`warn_line`] does.
pub(crate) fn error_line(text: fmt::Arguments<'_>) {
    let _nobody_reads = writeln!(io::stderr().lock(), "{text}");
}

/// Standard output for what writes by itself.
#[derive(Debug)]
pub(crate) struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = io::stdout().lock().write(bytes);
        Ok(written.unwrap_or_else(|error| give_up(error)))
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = io::stdout().lock().flush();
        flushed.unwrap_or_else(|error| give_up(error));
        Ok(())
    }
}

/// Why nothing can be printed.
struct Unwritable(io::Error);

/// Unwinds without the words of a panic.
fn give_up(error: io::Error) -> ! {
    resume_unwind(Box::new(Unwritable(error)))
}

/// Runs a command that may print.
pub(crate) fn printing(command: impl FnOnce() -> ExitCode) -> ExitCode {
    let payload = match catch_unwind(AssertUnwindSafe(command)) {
        Ok(code) => return code,
        Err(payload) => payload,
    };
    match payload.downcast::<Unwritable>() {
        Ok(unwritable) if unwritable.0.kind() == ErrorKind::BrokenPipe => ExitCode::from(SIGPIPE),
        Ok(unwritable) => {
            let error = anyhow::Error::new(unwritable.0);
            failure::complain(&error.context("standard output cannot be written"), 1)
        }
        Err(panic) => resume_unwind(panic),
    }
}

/// 128 and the signal's number, as shells have it.
const SIGPIPE: u8 = 128 + 13;
