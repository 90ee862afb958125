//! An answer that `daymark explain -o json` gave somewhere else: on a cluster the agent's container has its socket, and who asks
//! has the rights to read Pods.

use std::fs::File;
use std::io::{Read, stdin};
use std::path::Path;

use anyhow::{Context, ensure};

use super::Findings;

/// The name that stands for standard input.
const STDIN: &str = "-";
/// More than the longest answer of an agent as it is printed.
const MOST_BYTES: u64 = 256 << 20;

/// Reads it from a file, or from standard input.
pub(super) fn read(path: &Path) -> anyhow::Result<Findings> {
    let mut text = Vec::new();
    let read = if path.as_os_str() == STDIN {
        stdin().lock().take(MOST_BYTES).read_to_end(&mut text)
    } else {
        File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut text))
    };
    read.with_context(|| format!("--answer {}", path.display()))?;
    parse(&text).with_context(|| format!("--answer {}", path.display()))
}

fn parse(text: &[u8]) -> anyhow::Result<Findings> {
    let is_empty = text.iter().all(u8::is_ascii_whitespace);
    ensure!(
        !is_empty,
        "it is empty: what did the command that should have written it say?"
    );
    serde_json::from_slice(text)
        .context("it is not what daymark explain prints with -o json, or that is of another version of daymark")
}

/// Namespace and name of the Service that it is about.
pub(super) fn service(findings: &Findings) -> anyhow::Result<(String, String)> {
    let named = &findings.explained.service;
    let (namespace, name) = named
        .split_once('/')
        .with_context(|| format!("--answer: {named:?} is no NAMESPACE/NAME of a Service"))?;
    Ok((namespace.to_owned(), name.to_owned()))
}
