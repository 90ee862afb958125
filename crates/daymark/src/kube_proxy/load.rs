//! A configuration from its file.

use std::path::Path;

use anyhow::{anyhow, bail};

use super::configuration::{API_VERSION, Configuration, KIND};
use super::field::Field;
use super::report::Report;
use super::tree::Tree;

/// Reads a file; what is wrong with single fields goes to the report.
pub(crate) fn file(path: &Path, report: &mut Report) -> anyhow::Result<Configuration> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        anyhow!("cannot read the configuration {shown}: {error}; name another one with --config")
    })?;
    text_of(&text, report)
        .map_err(|error| error.context(format!("the configuration {shown} cannot be used")))
}

pub(super) fn text_of(text: &str, report: &mut Report) -> anyhow::Result<Configuration> {
    let tree = Tree::parse(text).map_err(|error| anyhow!("it is no YAML or JSON: {error}"))?;
    let mut configuration = Configuration::default();
    configuration.take_tree("", &tree, report);
    let found = (
        configuration.api_version.as_str(),
        configuration.kind.as_str(),
    );
    if found != (API_VERSION, KIND) {
        bail!(
            "it is apiVersion {:?}, kind {:?}; daymark reads apiVersion {API_VERSION:?}, kind {KIND:?}",
            found.0,
            found.1
        );
    }
    Ok(configuration)
}
