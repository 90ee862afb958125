//! Properties of everything that parses what a client sends: any text is read or refused, and nothing else happens.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::http::{Query, route};
use crate::patch::{Patch, PatchType};
use crate::read::Token;
use crate::registry::FieldValidation;
use crate::registry::decode::decode;
use crate::registry::kinds;
use crate::schema::Schemas;
use crate::schema::body::{Format, parse};
use crate::selector::{FieldSelector, LabelSelector};

/// JSON of some depth, with the words that Services and patches use as keys.
fn value() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        Just("metadata".to_owned()),
        Just("spec".to_owned()),
        Just("ports".to_owned()),
        Just("port".to_owned()),
        Just("selector".to_owned()),
        Just("finalizers".to_owned()),
        Just("$patch".to_owned()),
        Just("$retainKeys".to_owned()),
        Just("$setElementOrder/ports".to_owned()),
        Just("$deleteFromPrimitiveList/finalizers".to_owned()),
        "[a-z]{1,3}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z]{0,4}".prop_map(Value::from),
        Just(Value::from("delete")),
        Just(Value::from("replace")),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((key.clone(), inner), 0..5)
                .prop_map(|pairs| Value::Object(Map::from_iter(pairs))),
        ]
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "web", "finalizers": ["a/b", "c/d"] },
        "spec": { "ports": [{ "port": 80, "protocol": "TCP" }, { "port": 443 }], "selector": { "app": "web" } },
    })
}

proptest! {
    #[test]
    fn any_text_is_a_selector_or_is_refused(text in ".{0,40}") {
        let _ = LabelSelector::parse(&text);
        let _ = FieldSelector::parse(&text, kinds::POD.fields);
    }

    #[test]
    fn any_text_is_a_path_and_a_query(text in "[ -~]{0,60}") {
        route(&text);
        Query::parse(&text);
    }

    #[test]
    fn any_text_is_a_token_or_is_refused(text in ".{0,80}") {
        let _ = Token::decode(&text);
    }

    #[test]
    fn tokens_survive_their_trip(revision in any::<Option<u32>>(), namespace in "[a-z]{0,9}", name in "[a-z0-9.:-]{1,20}") {
        let token = Token { revision: revision.map(u64::from), namespace, name };
        prop_assert_eq!(Token::decode(&token.encode()), Ok(token));
    }

    #[test]
    fn any_bytes_are_a_body_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(Format::Json, &bytes);
        let _ = parse(Format::Yaml, &bytes);
    }

    #[test]
    fn what_decoding_accepts_it_accepts_again_unchanged(value in value()) {
        let text = value.to_string();
        let parsed = parse(Format::Json, text.as_bytes()).expect("it was written as JSON");
        if let Ok(decoded) = decode(&kinds::SERVICE, parsed, FieldValidation::Ignore) {
            let again = parse(Format::Json, decoded.object.to_string().as_bytes()).expect("JSON again");
            let again = decode(&kinds::SERVICE, again, FieldValidation::Strict);
            prop_assert_eq!(again.map(|again| again.object).map_err(|status| status.message), Ok(decoded.object));
        }
    }

    #[test]
    fn no_patch_breaks_more_than_its_object(patch in value()) {
        let schemas = Schemas::all();
        let root = schemas.root(kinds::SERVICE.definition).expect("Services have a schema");
        for kind in [PatchType::Json, PatchType::Merge, PatchType::Strategic] {
            if let Ok(patch) = Patch::parse(kind, patch.clone()) {
                let _ = patch.apply(&service(), schemas, root);
            }
        }
    }

    #[test]
    fn a_strategic_patch_without_directives_changes_nothing_the_second_time(patch in value()) {
        prop_assume!(!patch.to_string().contains('$'));
        let schemas = Schemas::all();
        let root = schemas.root(kinds::SERVICE.definition).expect("Services have a schema");
        if let Ok(patch) = Patch::parse(PatchType::Strategic, patch)
            && let Ok(once) = patch.apply(&service(), schemas, root)
        {
            let twice = patch.apply(&once, schemas, root).map_err(|status| status.message);
            prop_assert_eq!(twice, Ok(once));
        }
    }
}
