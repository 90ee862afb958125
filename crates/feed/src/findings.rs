//! Values of objects that could not be used, for those who tell people.

use std::fmt;

/// A value of an object that could not be used, or the whole object (field empty).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Where it stands, as in `spec.ports[3].port`.
    pub field: String,
    /// The value, what is wrong with it, and what is done without it.
    pub why: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            out.write_str(&self.why)
        } else {
            write!(out, "{}: {}", self.field, self.why)
        }
    }
}

/// Which object it is whose values could not be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whose {
    /// `metadata.uid`, for Events about it.
    pub uid: Box<str>,
    /// Of an EndpointSlice: the Service of its namespace that it is of.
    pub service: Option<Box<str>>,
}

/// What of one object could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// The object.
    pub whose: Whose,
    /// The first values, at most [`Findings::SHOWN`]; one at least.
    pub shown: Box<[Reason]>,
    /// How many more there are.
    pub more: usize,
}

impl Findings {
    /// So many values of an object are named: an annotation has room for a hundred thousand wrong ones.
    pub const SHOWN: usize = 5;

    /// `None` if there is no reason.
    pub(crate) fn of(whose: &Whose, reasons: &[Reason]) -> Option<Self> {
        let shown = &reasons[..reasons.len().min(Self::SHOWN)];
        (!shown.is_empty()).then(|| Self {
            whose: whose.clone(),
            shown: shown.into(),
            more: reasons.len() - shown.len(),
        })
    }
}
