//! `daymark status`: what the kernel holds against what it should hold, and the health of every part.

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::bail;
use daymark_node::ask::wire::{Difference, Nothing, Reply, Request, Status};

use super::explain::UNKNOWN;
use super::lab::Output;
use crate::agent_socket::{self, Which};
use crate::columns::columns;
use crate::failure;
use crate::out::say;

/// Flags of `daymark status`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  daymark status
  daymark status --lab --node node-2 -o json

Both tables are read back and compared with what the agent wants in them. Exit code 0: healthy; 1: not; 2: a flag that cannot be;
3: no agent answered.")]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    /// Table for people, or JSON for programs.
    #[arg(long, short, default_value = "table")]
    output: Output,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let status = match ask(&args) {
        Ok(status) => status,
        Err(error) => return Ok(failure::complain(&error, UNKNOWN)),
    };
    match args.output {
        Output::Json => print(&serde_json::to_string_pretty(&status)?),
        Output::Table => print(table(&status).trim_end()),
    }
    Ok(ExitCode::from(u8::from(!status.healthy)))
}

fn ask(args: &Args) -> anyhow::Result<Status> {
    let socket = args.which.agents()?.socket(args.which.node.as_deref())?;
    match agent_socket::ask(&socket, &Request::Status(Nothing {}))? {
        Reply::Status(status) => Ok(status),
        _ => bail!("the agent at {} answered something else", socket.display()),
    }
}

fn table(status: &Status) -> String {
    let health = if status.healthy {
        "healthy"
    } else {
        "NOT healthy"
    };
    let mut out = format!("{}: {health}\n\n", status.node);
    let mut rows = vec![["PART", "STATE", ""].map(str::to_owned).to_vec()];
    for part in &status.parts {
        let state = if part.healthy { "ok" } else { "NOT OK" };
        rows.push(vec![part.name.clone(), state.to_owned(), part.text.clone()]);
    }
    out += &columns(0, &rows);
    out.push('\n');
    out += &kernel(status);
    list(
        &mut out,
        "refused by the kernel",
        &status.refused,
        |refused| format!("{}: {}: {}", refused.subject, refused.shown, refused.reason),
    );
    list(
        &mut out,
        "held by another Service",
        &status.conflicts,
        |conflict| {
            let why = conflict.why.iter().map(|why| format!(": it {why}"));
            format!(
                "{} asks for {}, which {} has{}",
                conflict.port,
                conflict.at,
                conflict.held_by,
                why.collect::<String>()
            )
        },
    );
    list(
        &mut out,
        "values that cannot be used",
        &status.unusable,
        |object| {
            let more = match object.more {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            let values = object.values.join("; ");
            format!("{} {}: {values}{more}", object.kind, object.name)
        },
    );
    let more = status.unusable_total.saturating_sub(status.unusable.len());
    if more > 0 {
        let _ = writeln!(out, "  ... and of {more} more objects");
    }
    out
}

/// One row for both families: the name, and what each of them has.
fn kernel(status: &Status) -> String {
    if let Some(why) = &status.unread {
        return format!("the kernel could not be read: {why}\n");
    }
    let mut rows = vec![
        ["TABLE", "OF", "WANTED", "HELD"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let counts = status.counts.iter();
    let is_some = |number: Option<usize>| number.is_some_and(|number| number > 0);
    for count in counts.filter(|count| is_some(count.held) || is_some(count.wanted)) {
        let word = |number: Option<usize>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let (wanted, held) = (word(count.wanted), word(count.held));
        rows.push(vec![count.table.clone(), count.of.clone(), wanted, held]);
    }
    let mut out = columns(0, &rows);
    match status.differences_total {
        0 => out.push_str("\nno differences\n"),
        total => {
            let _ = writeln!(out, "\n{total} differences");
            out += &columns(
                2,
                &status
                    .differences
                    .iter()
                    .map(difference)
                    .collect::<Vec<_>>(),
            );
            let more = total - status.differences.len();
            if more > 0 {
                let _ = writeln!(out, "  ... and {more} more");
            }
        }
    }
    out
}

fn difference(difference: &Difference) -> Vec<String> {
    let object = difference.object.as_deref().unwrap_or("the table");
    vec![
        difference.agreement.clone(),
        format!("{} {object}", difference.table),
        difference.shown.clone(),
        difference.about.join(", "),
    ]
}

fn list<T>(out: &mut String, name: &str, items: &[T], line: impl Fn(&T) -> String) {
    if items.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{name}");
    for item in items {
        let _ = writeln!(out, "  {}", line(item));
    }
}

fn print(text: &str) {
    say!("{text}");
}

#[cfg(test)]
mod tests;
