//! References in a scenario: `${KIND/NAME:PATH}` is a field of an object.

use serde_json::Value;

use super::{PATIENCE, Performance, StepError, until};
use crate::scenario::Object;

impl Performance<'_> {
    /// A text with what its references stand for, as soon as all of it is there.
    pub(super) async fn refer(&self, text: &str) -> Result<String, StepError> {
        let (mut done, mut rest) = (String::new(), text);
        while let Some((before, reference)) = rest.split_once("${") {
            let (reference, after) = reference
                .split_once('}')
                .ok_or_else(|| StepError::File(format!("{text}: ${{ without }}")))?;
            done += before;
            done += &self.stands_for(reference).await?;
            rest = after;
        }
        Ok(done + rest)
    }

    async fn stands_for(&self, reference: &str) -> Result<String, StepError> {
        let bad = || StepError::File(format!("${{{reference}}}: write ${{KIND/NAME:PATH}}"));
        let (object, path) = reference.rsplit_once(':').ok_or_else(bad)?;
        let object = Object::read(object, self.namespace).map_err(StepError::File)?;
        let client = self.client().await?;
        let found = std::cell::RefCell::new(None);
        until(PATIENCE, || async {
            let value = Self::get(&client, &object).await?;
            let text = at(&value, path).and_then(word);
            let text = text.ok_or_else(|| format!("{object} has no {path}"))?;
            found.replace(Some(text));
            Ok(())
        })
        .await?;
        Ok(found.take().unwrap_or_default())
    }
}

/// The value at the end of a path of names and numbers between dots.
pub(super) fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let found = path
        .split('.')
        .try_fold(value, |value, segment| match value {
            Value::Array(list) => list.get(segment.parse::<usize>().ok()?),
            other => other.get(segment),
        });
    found.filter(|found| !found.is_null())
}

fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_leads_through_maps_and_lists() {
        let object = json!({"spec": {"ports": [{"nodePort": 30007}], "none": null}});
        let found = |path: &str| at(&object, path).and_then(word);
        assert_eq!(found("spec.ports.0.nodePort").as_deref(), Some("30007"));
        for path in ["spec.ports.1", "spec.none", "spec.ports.x", "spec.ports"] {
            assert_eq!(found(path), None, "{path}");
        }
    }
}
