//! Whichever process of a lab is killed, nothing of it survives.
//!
//! Without the test harness: the harness has threads, and namespaces are entered by a process of one thread.

#![allow(
    clippy::disallowed_macros,
    clippy::unwrap_used,
    reason = "a test without the harness prints its own results"
)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use daymark_sys::ns::{self, EnterError, Entered, UserNamespace};
use daymark_sys::process::{Isolation, Session};
use rustix::process::{Pid, Signal};

/// Which process is killed.
#[derive(Clone, Copy, Debug)]
enum Victim {
    /// The one that was called, and waits.
    Caller,
    /// Process 1 of the pid namespace.
    Init,
    /// The one that goes on inside.
    Program,
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(SLEEPER) {
        std::thread::sleep(Duration::from_secs(60));
        return ExitCode::SUCCESS;
    }
    if let Some(mark) = std::env::args()
        .nth(1)
        .filter(|argument| argument.starts_with("98765."))
    {
        return inside(&mark);
    }
    for (number, victim) in [Victim::Caller, Victim::Init, Victim::Program]
        .into_iter()
        .enumerate()
    {
        // An argument that no other process of the machine has.
        let mark = format!("98765.{}{number}", std::process::id());
        match attempt(victim, &mark) {
            Ok(()) => println!("test killing_the_{victim:?}_ends_all ... ok"),
            Err(reason)
                if reason.starts_with(SKIP)
                    && std::env::var_os("DAYMARK_FAIL_ON_SKIP").is_none() =>
            {
                println!("test nothing_survives ... SKIPPED: {reason}");
                return ExitCode::SUCCESS;
            }
            Err(reason) => {
                println!("test killing_the_{victim:?}_ends_all ... FAILED: {reason}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// The lab: a child in a session of its own, which nobody ends.
fn inside(mark: &str) -> ExitCode {
    match ns::enter(UserNamespace::Always) {
        Ok(Entered::Outside(code)) => code,
        Ok(Entered::Inside(inside)) => {
            let mut orphan = Command::new(std::env::current_exe().unwrap());
            orphan.args([SLEEPER, mark]).stdout(Stdio::null());
            Isolation {
                session: Session::Own,
                ..Isolation::default()
            }
            .apply(&mut orphan);
            let orphan = orphan.spawn();
            println!("{}", inside.outer_pid);
            std::io::stdout().flush().unwrap();
            let ended = orphan.and_then(|mut child| child.wait());
            ExitCode::from(u8::from(ended.is_err()))
        }
        Err(
            error @ (EnterError::Forbidden(_)
            | EnterError::Missing { .. }
            | EnterError::Mount { .. }),
        ) => {
            println!("{SKIP}: {error}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn attempt(victim: Victim, mark: &str) -> Result<(), String> {
    let exe = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut caller = Command::new(exe)
        .arg(mark)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let program = match program_pid(&mut caller) {
        Ok(pid) => pid,
        Err(reason) => {
            let _ = caller.wait();
            return Err(reason);
        }
    };
    let within = |done: fn(usize) -> bool| wait(|| done(sleepers(mark)));
    if !within(|count| count > 0) {
        return Err("the child inside never started".into());
    }
    let pid = match victim {
        Victim::Caller => caller.id(),
        Victim::Program => program,
        Victim::Init => parent(program).ok_or("the program has no parent")?,
    };
    let raw = Pid::from_raw(pid.cast_signed()).ok_or("no such pid")?;
    rustix::process::kill_process(raw, Signal::KILL).map_err(|error| error.to_string())?;
    let _ = caller.wait();
    if within(|count| count == 0) {
        Ok(())
    } else {
        Err(format!("{} processes are left", sleepers(mark)))
    }
}

fn program_pid(caller: &mut Child) -> Result<u32, String> {
    let mut line = String::new();
    let output = caller.stdout.take().ok_or("no output")?;
    BufReader::new(output)
        .read_line(&mut line)
        .map_err(|error| error.to_string())?;
    line.trim().parse().map_err(|_| line.trim().to_owned())
}

/// How many sleepers of this mark the machine has.
fn sleepers(mark: &str) -> usize {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let command_lines =
        processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let wanted = format!("{SLEEPER}\0{mark}\0");
    command_lines
        .filter(|line| line.ends_with(wanted.as_bytes()))
        .count()
}

fn parent(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:"))?
        .trim()
        .parse()
        .ok()
}

/// Waits up to five seconds.
fn wait(done: impl Fn() -> bool) -> bool {
    (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        done()
    })
}

const SKIP: &str = "cannot run";
const SLEEPER: &str = "sleeper";
