//! `daymark store`: look after a store file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use daymark_store::Key;
use daymark_store::tools::{Compacted, Existing, Imported, Report, check, compact, export, import};
use serde::Serialize;
use serde_json::Value;

use crate::out::{Stdout, say};

/// Flags of `daymark store`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
    /// How to print the result.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Subcommand)]
enum Verb {
    /// Verify every page and every row, and that the change log leads to the objects.
    Check {
        /// The store file.
        file: PathBuf,
    },
    /// Give free pages back to the file system.
    Compact {
        /// The store file.
        file: PathBuf,
    },
    /// Write all objects to standard output, as JSON lines.
    Export {
        /// The store file.
        file: PathBuf,
    },
    /// Read JSON lines: into a new file with the revisions they name, or into a store that is there, in one transaction.
    Import {
        /// The store file.
        file: PathBuf,
        /// The lines; standard input if it is `-`.
        #[arg(default_value = "-")]
        lines: PathBuf,
        /// Replace objects that are in the store already, instead of importing nothing.
        #[arg(long)]
        replace: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs: one JSON object.
    Json,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let output = args.output;
    match args.verb {
        Verb::Check { file } => {
            let report = check(&file)?;
            print(output, &report, &describe(&file, &report))?;
        }
        Verb::Compact { file } => {
            let sizes = compact(&file)?;
            let Compacted { before, after } = sizes;
            print(
                output,
                &sizes,
                &format!("{}: {before} bytes before, {after} after", file.display()),
            )?;
        }
        Verb::Export { file } => {
            export(&file, &mut Stdout)?;
        }
        Verb::Import {
            file,
            lines,
            replace,
        } => {
            let existing = if replace {
                Existing::Replace
            } else {
                Existing::Refuse
            };
            let imported = import_from(&file, &lines, existing)?;
            let text = format!(
                "{}: {} objects, revision {}",
                file.display(),
                imported.objects,
                imported.revision
            );
            print(output, &imported, &text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn import_from(file: &Path, lines: &Path, existing: Existing) -> anyhow::Result<Imported> {
    if lines == Path::new("-") {
        return Ok(import(file, io::stdin().lock(), existing, stamp)?);
    }
    let source = File::open(lines)
        .with_context(|| format!("{}: reading the lines to import", lines.display()))?;
    Ok(import(file, BufReader::new(source), existing, stamp)?)
}

/// Sets `metadata.resourceVersion`, which the API server keeps inside the object; other bytes stay as they are.
fn stamp(_key: &Key, bytes: Vec<u8>, revision: u64) -> Vec<u8> {
    let Ok(mut object) = serde_json::from_slice::<Value>(&bytes) else {
        return bytes;
    };
    let Some(Value::Object(metadata)) = object.get_mut("metadata") else {
        return bytes;
    };
    metadata.insert(
        "resourceVersion".to_owned(),
        Value::String(revision.to_string()),
    );
    serde_json::to_vec(&object).expect("a JSON value always encodes")
}

fn describe(file: &Path, report: &Report) -> String {
    let mut text = format!(
        "{}: sound, revision {}, {} bytes, cluster {}\n{:<44}{:>9}{:>9}",
        file.display(),
        report.revision,
        report.file_bytes,
        report.cluster,
        "KIND",
        "OBJECTS",
        "CHANGES",
    );
    let kinds: BTreeSet<&String> = report.objects.keys().chain(report.changes.keys()).collect();
    for kind in kinds {
        let count = |of: &BTreeMap<String, usize>| of.get(kind).copied().unwrap_or(0);
        text += &format!(
            "\n{kind:<44}{:>9}{:>9}",
            count(&report.objects),
            count(&report.changes)
        );
    }
    text
}

fn print(output: Output, value: &impl Serialize, text: &str) -> anyhow::Result<()> {
    match output {
        Output::Text => say!("{text}"),
        Output::Json => say!("{}", serde_json::to_string(value)?),
    }
    Ok(())
}

const EXAMPLES: &str = "\
The store must be closed: stop the API server first.

Examples:
  daymark store check /var/lib/daymark/store.redb
  daymark store export store.redb > backup.jsonl
  daymark store import new.redb backup.jsonl
  daymark store import store.redb --replace < services.jsonl
  daymark store compact store.redb -o json

A line of an import: {\"kind\":\"services\",\"namespace\":\"default\",\"name\":\"web\",\"value\":{...}}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_stamped_with_its_revision_and_other_bytes_stay() {
        let key = Key::new("services", "default", "web");
        let stamped = stamp(
            &key,
            br#"{"metadata":{"name":"web","resourceVersion":"1"}}"#.to_vec(),
            7,
        );
        assert_eq!(
            stamped,
            br#"{"metadata":{"name":"web","resourceVersion":"7"}}"#
        );
        for other in [&b"not json"[..], b"[1]", br#"{"metadata":1}"#] {
            assert_eq!(stamp(&key, other.to_vec(), 7), other);
        }
    }
}
