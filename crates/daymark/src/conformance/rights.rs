//! What the agent asked of the API, by its audit log, against what its manifest grants.

use std::collections::BTreeSet;

use anyhow::Context;
use daymark_lab::control::{Audit, Right};
use serde_json::Value;

use crate::out::say;

/// Both, held against each other.
#[derive(Debug, Default)]
pub(crate) struct Rights {
    audit: Audit,
    unused: BTreeSet<Right>,
}

impl Rights {
    /// # Errors
    /// If the manifest cannot be read.
    pub(crate) fn new(audit: Audit, manifest: &str) -> anyhow::Result<Self> {
        let granted = granted(manifest)?;
        let used: BTreeSet<Right> = audit.granted.keys().cloned().collect();
        let unused = granted.difference(&used).cloned().collect();
        Ok(Self { audit, unused })
    }

    /// Whether the agent asked for something, and for nothing that it may not.
    pub(crate) fn suffice(&self) -> bool {
        self.audit.refused.is_empty() && !self.audit.granted.is_empty()
    }

    /// Prints every right.
    pub(crate) fn print(&self) {
        for line in self.lines() {
            say!("{line}");
        }
    }

    /// A line for each right.
    fn lines(&self) -> Vec<String> {
        let used = self.audit.granted.iter();
        let used = used.map(|(right, count)| format!("used     {count:>6} {right}"));
        let refused = self.audit.refused.iter();
        let refused = refused.map(|(right, count)| {
            format!("refused  {count:>6} {right}: deploy/node.yaml does not grant it")
        });
        let unused = self.unused.iter();
        let unused = unused.map(|right| {
            format!("unused          {right}: granted, and not asked for in this run")
        });
        used.chain(refused).chain(unused).collect()
    }
}

/// Every single right of the roles in a manifest.
fn granted(manifest: &str) -> anyhow::Result<BTreeSet<Right>> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(manifest).context("the manifest")?;
    let mut rights = BTreeSet::new();
    let rules = objects.iter().flat_map(|object| list(&object["rules"]));
    for rule in rules {
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                rights.extend(words(&rule["verbs"]).map(|verb| Right {
                    verb: verb.to_owned(),
                    resource: resource.to_owned(),
                    group: group.to_owned(),
                }));
            }
        }
    }
    Ok(rights)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn words(value: &Value) -> impl Iterator<Item = &str> {
    list(value).filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(verb: &str, resource: &str, group: &str) -> Right {
        Right {
            verb: verb.to_owned(),
            resource: resource.to_owned(),
            group: group.to_owned(),
        }
    }

    #[test]
    fn rights_that_lack_and_rights_that_nobody_uses_are_listed() {
        let audit = Audit {
            granted: [(right("watch", "services", ""), 3)].into(),
            refused: [(right("get", "secrets", ""), 1)].into(),
        };
        let manifest = include_str!("../../../../deploy/node.yaml");
        let rights = Rights::new(audit, manifest).unwrap();
        assert!(!rights.suffice());
        let lines = rights.lines();
        assert_eq!(lines[0], "used          3 watch services");
        assert!(
            lines[1].starts_with("refused       1 get secrets: "),
            "{lines:?}"
        );
        let slices = "unused          list endpointslices.discovery.k8s.io: granted, and not asked for in this run";
        assert!(lines.iter().any(|line| line == slices), "{lines:#?}");
        assert!(
            !lines
                .iter()
                .any(|line| line.contains("unused") && line.contains("watch services:"))
        );
        assert!(
            !Rights::default().suffice(),
            "who asks for nothing proves nothing"
        );
    }
}
