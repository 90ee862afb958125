//! Selectors of lists and watches: by label and by field.

mod field;
mod label;

pub(crate) use field::{FieldSelector, FieldSource, Selectable};
pub(crate) use label::LabelSelector;
