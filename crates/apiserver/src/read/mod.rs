//! Reads: which version a list is of, which objects are in it, and where the next page begins.

mod list;
mod options;
mod token;

pub(crate) use list::{Page, list};
#[cfg(test)]
pub(crate) use token::Token;

pub(crate) use options::{Bookmarks, InitialEvents, ListOptions, Use, VersionMatch};

use serde_json::Value;

use crate::selector::{FieldSelector, LabelSelector};

/// Which objects a request is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// By label.
    pub(crate) labels: LabelSelector,
    /// By field.
    pub(crate) fields: FieldSelector,
}

impl Filter {
    /// Whether everything passes.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether an object, as it is stored, passes.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.labels.matches(object) && self.fields.matches(object)
    }
}
