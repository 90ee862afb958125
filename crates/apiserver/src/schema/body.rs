//! A request body's text as a JSON value, with the places where a field was given twice.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A parsed body.
#[derive(Debug, PartialEq)]
pub(crate) struct Parsed {
    /// The value; of a duplicated field the last one.
    pub(crate) value: Value,
    /// Paths such as `metadata.name` that were given more than once.
    pub(crate) duplicates: Vec<String>,
}

/// The text formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `application/json`
    Json,
    /// `application/yaml`, which JSON text also is.
    Yaml,
}

/// Parses a body. The error says what is wrong and where.
pub(crate) fn parse(format: Format, bytes: &[u8]) -> Result<Parsed, String> {
    match format {
        Format::Json => parse_json(bytes),
        Format::Yaml => parse_json(bytes).or_else(|_| parse_yaml(bytes)),
    }
}

fn parse_json(bytes: &[u8]) -> Result<Parsed, String> {
    let duplicates = RefCell::new(Vec::new());
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let seed = Node {
        path: Path::Root,
        duplicates: &duplicates,
    };
    let value = seed
        .deserialize(&mut deserializer)
        .map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    Ok(Parsed {
        value,
        duplicates: duplicates.into_inner(),
    })
}

/// YAML refuses duplicate keys by itself.
fn parse_yaml(bytes: &[u8]) -> Result<Parsed, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    Ok(Parsed {
        value,
        duplicates: Vec::new(),
    })
}

/// Where the parser stands; written out only when a duplicate is found.
#[derive(Clone, Copy)]
enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Self::Root, key) => f.write_str(key),
            Self::Key(parent, key) => write!(f, "{parent}.{key}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// One value of the document.
struct Node<'a> {
    path: Path<'a>,
    duplicates: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let path = Path::Index(&self.path, items.len());
            match seq.next_element_seed(Node {
                path,
                duplicates: self.duplicates,
            })? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let path = Path::Key(&self.path, &key);
            let value = map.next_value_seed(Node {
                path,
                duplicates: self.duplicates,
            })?;
            if fields.contains_key(&key) {
                self.duplicates.borrow_mut().push(path.to_string());
            }
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Format, parse};

    #[test]
    fn fields_given_twice_are_named_by_path_and_the_last_one_wins() {
        let text = br#"{"spec":{"ports":[{"port":1,"port":2}]},"a":1,"a":2}"#;
        let parsed = parse(Format::Json, text).unwrap();
        assert_eq!(parsed.duplicates, ["spec.ports[0].port", "a"]);
        assert_eq!(
            parsed.value,
            json!({"spec": {"ports": [{"port": 2}]}, "a": 2})
        );
    }

    #[test]
    fn yaml_bodies_are_read_and_json_under_its_name_too() {
        let yaml = b"spec:\n  ports:\n  - port: 80\n    name: \"80\"\n";
        let expected = json!({"spec": {"ports": [{"port": 80, "name": "80"}]}});
        assert_eq!(parse(Format::Yaml, yaml).unwrap().value, expected);
        assert_eq!(
            parse(Format::Yaml, br#"{"a":[1]}"#).unwrap().value,
            json!({"a": [1]})
        );
    }

    #[test]
    fn a_broken_body_says_where() {
        let cases: [(Format, &[u8], &str); 3] = [
            (Format::Json, b"{\"a\":", "EOF"),
            (Format::Json, b"{} trailing", "trailing characters"),
            (Format::Yaml, b"a: [1\nb: 2", "line"),
        ];
        for (format, text, part) in cases {
            let error = parse(format, text).unwrap_err();
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
    }
}
