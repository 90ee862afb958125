//! Label selectors: `a=b,c!=d,e in (x,y),f notin (z),g,!h,i>1`.
//!
//! Grammar: `k8s.io/apimachinery/pkg/labels/selector.go`. All requirements must hold.

use serde_json::{Map, Value};

/// A parsed selector; the empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LabelSelector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    /// Holds also where the label is absent.
    NotIn(Vec<String>),
    Exists,
    Absent,
    GreaterThan(i64),
    LessThan(i64),
}

impl LabelSelector {
    /// Parses the query parameter.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { rest: text.trim() };
        let mut requirements = Vec::new();
        while !parser.rest.is_empty() {
            let requirement = parser
                .requirement()
                .map_err(|why| format!("unable to parse requirement: {why}"))?;
            requirements.push(requirement);
            match parser.token() {
                None => break,
                Some(",") if !parser.rest.is_empty() => {}
                Some(",") => {
                    return Err(
                        "unable to parse requirement: found '', expected: identifier".to_owned(),
                    );
                }
                Some(found) => {
                    return Err(format!(
                        "unable to parse requirement: found '{found}', expected: ',' or 'end of string'"
                    ));
                }
            }
        }
        Ok(Self(requirements))
    }

    /// Whether nothing is required.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object's labels fulfil every requirement.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = crate::json::map(object, "/metadata/labels");
        self.0.iter().all(|requirement| requirement.holds(labels))
    }
}

impl Requirement {
    fn holds(&self, labels: Option<&Map<String, Value>>) -> bool {
        let value = labels
            .and_then(|labels| labels.get(&self.key))
            .and_then(Value::as_str);
        match (&self.test, value) {
            (Test::Exists, value) => value.is_some(),
            (Test::Absent, value) => value.is_none(),
            (Test::In(values), Some(value)) => values.iter().any(|wanted| wanted == value),
            (Test::NotIn(values), Some(value)) => values.iter().all(|unwanted| unwanted != value),
            (Test::NotIn(_), None) => true,
            (Test::GreaterThan(bound), Some(value)) => {
                value.parse::<i64>().is_ok_and(|number| number > *bound)
            }
            (Test::LessThan(bound), Some(value)) => {
                value.parse::<i64>().is_ok_and(|number| number < *bound)
            }
            (Test::In(_) | Test::GreaterThan(_) | Test::LessThan(_), None) => false,
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    /// The next operator, bracket, comma or word.
    fn token(&mut self) -> Option<&'a str> {
        self.rest = self.rest.trim_start();
        let first = self.rest.chars().next()?;
        let length = ["!=", "=="]
            .iter()
            .find(|two| self.rest.starts_with(**two))
            .map_or_else(
                || {
                    if SPECIAL.contains(first) {
                        first.len_utf8()
                    } else {
                        word(self.rest)
                    }
                },
                |two| two.len(),
            );
        let (token, rest) = self.rest.split_at(length);
        self.rest = rest.trim_start();
        Some(token)
    }

    fn peek(&self) -> Option<&'a str> {
        Self { rest: self.rest }.token()
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        if self.peek() == Some("!") {
            self.token();
            let key = self.key()?;
            return Ok(Requirement {
                key,
                test: Test::Absent,
            });
        }
        let key = self.key()?;
        let test = match self.peek() {
            None | Some(",") => {
                return Ok(Requirement {
                    key,
                    test: Test::Exists,
                });
            }
            Some(_) => self.test()?,
        };
        Ok(Requirement { key, test })
    }

    fn test(&mut self) -> Result<Test, String> {
        match self.token().unwrap_or_default() {
            "=" | "==" => Ok(Test::In(vec![self.value()?])),
            "!=" => Ok(Test::NotIn(vec![self.value()?])),
            "in" => Ok(Test::In(self.values()?)),
            "notin" => Ok(Test::NotIn(self.values()?)),
            ">" => Ok(Test::GreaterThan(self.number()?)),
            "<" => Ok(Test::LessThan(self.number()?)),
            found => Err(format!(
                "found '{found}', expected: in, notin, =, ==, !=, gt, lt"
            )),
        }
    }

    fn key(&mut self) -> Result<String, String> {
        let key = self.token().unwrap_or_default();
        let named = key.rsplit('/').next().unwrap_or_default();
        match is_label_text(named) && !named.is_empty() && key.matches('/').count() <= 1 {
            true => Ok(key.to_owned()),
            false => Err(format!(
                "<nil>: Invalid value: {key:?}: name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
            )),
        }
    }

    /// A value, which may be empty.
    fn value(&mut self) -> Result<String, String> {
        match self.peek() {
            None | Some("," | ")") => Ok(String::new()),
            Some(_) => checked(self.token().unwrap_or_default()),
        }
    }

    fn number(&mut self) -> Result<i64, String> {
        let text = self.token().unwrap_or_default();
        text.parse().map_err(|_| {
            format!("for 'Gt', 'Lt' operators, the value must be an integer, found '{text}'")
        })
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        match self.token() {
            Some("(") => {}
            found => {
                return Err(format!(
                    "found '{}' expected: '('",
                    found.unwrap_or_default()
                ));
            }
        }
        let mut values = Vec::new();
        loop {
            values.push(self.value()?);
            match self.token() {
                Some(",") => {}
                Some(")") => return Ok(values),
                found => {
                    return Err(format!(
                        "found '{}', expected: ',' or ')'",
                        found.unwrap_or_default()
                    ));
                }
            }
        }
    }
}

const SPECIAL: &str = "=!(),<>";

/// The length of the word that a text begins with.
fn word(text: &str) -> usize {
    text.find(|c: char| SPECIAL.contains(c) || c.is_whitespace())
        .unwrap_or(text.len())
}

fn checked(value: &str) -> Result<String, String> {
    match is_label_text(value) {
        true => Ok(value.to_owned()),
        false => Err(format!(
            "values[0]: Invalid value: {value:?}: a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
        )),
    }
}

fn is_label_text(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && text.chars().all(inside)
        && edge(text.chars().next())
        && edge(text.chars().last())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::LabelSelector;

    #[test]
    fn selectors_match_as_upstream_does() {
        let object =
            json!({"metadata": {"labels": {"app": "web", "tier": "", "n": "5", "ex.io/a": "b"}}});
        let cases = [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("app = web , tier =", true),
            ("app!=web", false),
            ("absent!=x", true),
            ("app in (web, api)", true),
            ("app in (api)", false),
            ("app notin (api)", true),
            ("absent notin (api)", true),
            ("app", true),
            ("!app", false),
            ("!absent", true),
            ("ex.io/a=b", true),
            ("n>4,n<6", true),
            ("n>5", false),
            ("absent>1", false),
            ("tier in (,x)", true),
        ];
        for (selector, expected) in cases {
            let parsed = LabelSelector::parse(selector).unwrap();
            assert_eq!(parsed.matches(&object), expected, "{selector:?}");
        }
    }

    #[test]
    fn a_malformed_selector_is_refused() {
        for selector in [
            "app in web",
            "=x",
            "a=b,",
            "a=b c",
            "app in (x",
            "a>b",
            "a=-x-",
            "a/b/c=d",
        ] {
            let error = LabelSelector::parse(selector).unwrap_err();
            assert!(
                error.starts_with("unable to parse requirement: "),
                "{selector:?}: {error}"
            );
        }
    }
}
