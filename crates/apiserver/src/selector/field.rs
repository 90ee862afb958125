//! Field selectors: `metadata.name=x,status.phase!=Running`, over the fields that a kind offers.

use serde_json::Value;

/// A field that a kind can be selected by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selectable {
    /// The name in selectors, such as `spec.nodeName`.
    pub(crate) label: &'static str,
    /// Where its value comes from.
    pub(crate) source: FieldSource,
}

/// Where a selectable field's value comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FieldSource {
    /// The text at a JSON pointer; absent is empty.
    Text(&'static str),
    /// The boolean at a JSON pointer; absent is `false`.
    Bool(&'static str),
    /// The first of two texts that is not empty.
    Either(&'static str, &'static str),
}

impl FieldSource {
    fn value<'a>(&self, object: &'a Value) -> &'a str {
        let text = |pointer| crate::json::text(object, pointer);
        match self {
            Self::Text(pointer) => text(pointer),
            Self::Bool(pointer) if object.pointer(pointer) == Some(&Value::Bool(true)) => "true",
            Self::Bool(_) => "false",
            Self::Either(first, second) if text(first).is_empty() => text(second),
            Self::Either(first, _) => text(first),
        }
    }
}

/// A parsed selector; the empty one matches everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct FieldSelector(Vec<Term>);

#[derive(Clone, Debug)]
struct Term {
    source: FieldSource,
    wanted: Match,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    Equal,
    Different,
}

const METADATA: [Selectable; 2] = [
    Selectable {
        label: "metadata.name",
        source: FieldSource::Text("/metadata/name"),
    },
    Selectable {
        label: "metadata.namespace",
        source: FieldSource::Text("/metadata/namespace"),
    },
];

impl FieldSelector {
    /// Parses the query parameter; `fields` are what the kind offers beside name and namespace.
    pub(crate) fn parse(text: &str, fields: &[Selectable]) -> Result<Self, String> {
        split(text)
            .iter()
            .filter(|term| !term.is_empty())
            .map(|term| Term::parse(term, fields))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether nothing is required.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object's fields have the wanted values.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.0
            .iter()
            .all(|term| (term.source.value(object) == term.value) == (term.wanted == Match::Equal))
    }
}

impl Term {
    fn parse(term: &str, fields: &[Selectable]) -> Result<Self, String> {
        let (label, wanted, value) = operator(term)
            .ok_or_else(|| format!("invalid selector: '{term}'; can't understand '{term}'"))?;
        let field = METADATA
            .iter()
            .chain(fields)
            .find(|field| field.label == label);
        match field {
            Some(field) => Ok(Self {
                source: field.source,
                wanted,
                value: unescape(value),
            }),
            None if fields.is_empty() => Err(format!(
                "{label:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
            )),
            None => Err(format!("field label not supported: {label}")),
        }
    }
}

fn operator(term: &str) -> Option<(&str, Match, &str)> {
    let at = term.find(['=', '!'])?;
    let (label, rest) = term.split_at(at);
    for (written, wanted) in [
        ("!=", Match::Different),
        ("==", Match::Equal),
        ("=", Match::Equal),
    ] {
        if let Some(value) = rest.strip_prefix(written) {
            return Some((label, wanted, value));
        }
    }
    None
}

/// The terms between commas that no backslash precedes.
fn split(text: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        let last = terms.last_mut().expect("there is always one");
        match c {
            ',' if !escaped => terms.push(String::new()),
            c => last.push(c),
        }
        escaped = c == '\\' && !escaped;
    }
    terms
}

fn unescape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{FieldSelector, FieldSource, Selectable};

    const FIELDS: [Selectable; 3] = [
        Selectable {
            label: "status.phase",
            source: FieldSource::Text("/status/phase"),
        },
        Selectable {
            label: "spec.unschedulable",
            source: FieldSource::Bool("/spec/unschedulable"),
        },
        Selectable {
            label: "source",
            source: FieldSource::Either("/source/component", "/reportingComponent"),
        },
    ];

    #[test]
    fn selectors_compare_the_fields_of_the_kind() {
        let object = json!({"metadata": {"name": "a,b"}, "status": {"phase": "Running"}, "reportingComponent": "me"});
        let cases = [
            ("", true),
            ("status.phase=Running", true),
            ("status.phase==Running", true),
            ("status.phase!=Running", false),
            ("spec.unschedulable=false", true),
            ("source=me,metadata.namespace=", true),
            ("metadata.name=a\\,b", true),
            ("metadata.name=a", false),
        ];
        for (selector, expected) in cases {
            let parsed = FieldSelector::parse(selector, &FIELDS).unwrap();
            assert_eq!(parsed.matches(&object), expected, "{selector:?}");
        }
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let error =
            |selector, fields: &[Selectable]| FieldSelector::parse(selector, fields).unwrap_err();
        assert_eq!(
            error("spec.foo=1", &FIELDS),
            "field label not supported: spec.foo"
        );
        assert!(error("spec.foo=1", &[]).contains("is not a known field selector"));
        assert!(error("nonsense", &[]).starts_with("invalid selector"));
    }
}
