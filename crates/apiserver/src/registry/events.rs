//! Events have two faces: core `v1` and `events.k8s.io/v1`. They are stored as the first.

use serde_json::{Map, Value};

/// Pairs of top-level field names: (stored, shown).
#[derive(Debug)]
pub(crate) struct Renames {
    /// The apiVersion of the stored face.
    stored: &'static str,
    /// The apiVersion of the shown face.
    shown: &'static str,
    fields: &'static [(&'static str, &'static str)],
}

/// `k8s.io/kubernetes/pkg/apis/events/v1/conversion.go`
pub(crate) static RENAMES: Renames = Renames {
    stored: "v1",
    shown: "events.k8s.io/v1",
    fields: &[
        ("involvedObject", "regarding"),
        ("message", "note"),
        ("source", "deprecatedSource"),
        ("firstTimestamp", "deprecatedFirstTimestamp"),
        ("lastTimestamp", "deprecatedLastTimestamp"),
        ("count", "deprecatedCount"),
        ("reportingComponent", "reportingController"),
    ],
};

impl Renames {
    /// A stored object as the other face shows it.
    pub(crate) fn show(&self, object: &Value) -> Value {
        let name = |key: &str| {
            self.fields
                .iter()
                .find(|(stored, _)| *stored == key)
                .map(|(_, shown)| *shown)
        };
        rename(object, self.shown, name)
    }

    /// An object of the other face as it is stored.
    pub(crate) fn store(&self, object: &Value) -> Value {
        let name = |key: &str| {
            self.fields
                .iter()
                .find(|(_, shown)| *shown == key)
                .map(|(stored, _)| *stored)
        };
        rename(object, self.stored, name)
    }
}

fn rename(object: &Value, api_version: &str, name: impl Fn(&str) -> Option<&'static str>) -> Value {
    let mut out = Map::new();
    for (key, value) in object.as_object().into_iter().flatten() {
        let key = name(key).unwrap_or(key);
        out.insert(key.to_owned(), value.clone());
    }
    out.insert("apiVersion".to_owned(), api_version.into());
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::RENAMES;

    #[test]
    fn both_faces_say_the_same() {
        let stored = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "a"}, "reason": "Because",
            "involvedObject": {"name": "web"}, "message": "text", "count": 3, "reportingComponent": "me"});
        let shown = RENAMES.show(&stored);
        assert_eq!(
            shown,
            json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "a"}, "reason": "Because",
                "regarding": {"name": "web"}, "note": "text", "deprecatedCount": 3, "reportingController": "me"})
        );
        assert_eq!(RENAMES.store(&shown), stored);
    }
}
