//! The first process of a guest.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use daymark_sys::boot;

use super::report::line;
use super::{PLAN, Plan, REPORT};
use crate::out::say;

/// Does what the plan says and switches the machine off, also when something of it cannot be done: then the report
/// lacks commands, which the host takes for a failure.
///
/// # Errors
/// Not process 1, which is refused; or the machine cannot be switched off.
pub(crate) fn init() -> anyhow::Result<()> {
    if std::process::id() != 1 {
        bail!("this is for the first process of a guest: see `daymark guest boot`");
    }
    if let Err(error) = run_all() {
        say(&format!("guest: {error:#}"));
    }
    boot::power_off().context("cannot switch off")
}

fn run_all() -> anyhow::Result<()> {
    boot::mount_usual()?;
    let text = std::fs::read(PLAN).with_context(|| format!("cannot read {PLAN}"))?;
    let plan: Plan = serde_json::from_slice(&text).with_context(|| format!("in {PLAN}"))?;
    let mut report = OpenOptions::new()
        .write(true)
        .open(REPORT)
        .with_context(|| format!("cannot open {REPORT}"))?;
    for module in &plan.modules {
        load(module)?;
    }
    boot::raise_loopback().context("cannot raise lo")?;
    std::env::set_current_dir(&plan.folder)
        .with_context(|| format!("cannot enter {}", plan.folder.display()))?;
    for (number, command) in plan.commands.iter().enumerate() {
        run(&plan, number, command, &mut report)?;
    }
    Ok(())
}

fn load(module: &Path) -> anyhow::Result<()> {
    let shown = module.display();
    let image = std::fs::read(module).with_context(|| format!("cannot read {shown}"))?;
    boot::load_module(&image).with_context(|| format!("the kernel does not take {shown}"))
}

/// Runs one command with the console as its output, and reports its exit code as a shell would.
fn run(plan: &Plan, number: usize, command: &[String], report: &mut File) -> anyhow::Result<()> {
    let Some((program, arguments)) = command.split_first() else {
        bail!("command {} of {PLAN} is empty", number + 1);
    };
    say(&format!("== {}", command.join(" ")));
    let status = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(plan.environment.iter().cloned())
        .stdin(Stdio::null())
        .status();
    let code = match status {
        Ok(status) => status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or_default()),
        Err(error) => {
            say(&format!("{program}: {error}"));
            127
        }
    };
    boot::reap_orphans();
    report
        .write_all(line(number, code).as_bytes())
        .with_context(|| format!("cannot write to {REPORT}"))
}

fn say(line: &str) {
    say!("{line}");
}
