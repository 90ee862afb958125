//! The forms of names: what is wrong with a text, as a list of messages (empty: nothing is).
//!
//! Source: `k8s.io/apimachinery/pkg/util/validation/validation.go`; RFC 1035, RFC 1123, RFC 6335.

use super::field::{FieldError, Path};

const LABEL_MAX: usize = 63;
const SUBDOMAIN_MAX: usize = 253;
const PORT_NAME_MAX: usize = 15;

const LABEL_PATTERN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_PATTERN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const NAME_PATTERN: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const VALUE_PATTERN: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";

const LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const NAME_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/// A check of one text.
pub type Check = fn(&str) -> Vec<String>;

fn pattern_text(rule: &str, pattern: &str, examples: &[&str]) -> String {
    let shown: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!(
        "{rule} (e.g. {}regex used for validation is '{pattern}')",
        shown.join(" or ")
    )
}

fn length_text(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn is_label_form(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_name_form(text: &str) -> bool {
    let outer = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    outer(bytes.first()) && outer(bytes.last()) && bytes.iter().all(inner)
}

/// RFC 1123 label: a Service, a port of a Service, a Namespace.
pub fn dns1123_label(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > LABEL_MAX {
        wrong.push(length_text(LABEL_MAX));
    }
    if !is_label_form(text) {
        wrong.push(pattern_text(
            LABEL_RULE,
            LABEL_PATTERN,
            &["my-name", "123-abc"],
        ));
    }
    wrong
}

/// RFC 1123 subdomain: the name of most objects, `externalName`, a node name.
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > SUBDOMAIN_MAX {
        wrong.push(length_text(SUBDOMAIN_MAX));
    }
    if !text.split('.').all(is_label_form) {
        wrong.push(pattern_text(
            SUBDOMAIN_RULE,
            SUBDOMAIN_PATTERN,
            &["example.com"],
        ));
    }
    wrong
}

/// The value of a label or of a selector.
pub fn label_value(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > LABEL_MAX {
        wrong.push(length_text(LABEL_MAX));
    }
    if !text.is_empty() && !is_name_form(text) {
        wrong.push(pattern_text(
            VALUE_RULE,
            VALUE_PATTERN,
            &["MyValue", "my_value", "12345"],
        ));
    }
    wrong
}

/// `name` or `prefix/name`: label keys, annotation keys, finalizers, appProtocol, classes.
pub fn qualified_name(text: &str) -> Vec<String> {
    let rule = || pattern_text(NAME_RULE, NAME_PATTERN, &["MyName", "my.name", "123-abc"]);
    let mut wrong = Vec::new();
    let name = match text.split('/').collect::<Vec<_>>().as_slice() {
        [name] => (*name).to_owned(),
        [prefix, name] => {
            if prefix.is_empty() {
                wrong.push("prefix part must be non-empty".to_owned());
            } else {
                wrong.extend(
                    dns1123_subdomain(prefix)
                        .into_iter()
                        .map(|w| format!("prefix part {w}")),
                );
            }
            (*name).to_owned()
        }
        _ => {
            let prefix =
                "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a qualified name {} {prefix}", rule())];
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        wrong.push(format!("name part {}", length_text(LABEL_MAX)));
    }
    if !is_name_form(&name) {
        wrong.push(format!("name part {}", rule()));
    }
    wrong
}

/// The IANA form of a port's name (RFC 6335 section 5.1): `targetPort` and the ports of a container.
pub fn port_name(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > PORT_NAME_MAX {
        wrong.push(length_text(PORT_NAME_MAX));
    }
    if text.is_empty()
        || !text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        wrong.push(
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned(),
        );
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        wrong.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".to_owned());
    }
    wrong
}

/// A port number of a transport protocol.
pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) {
        Vec::new()
    } else {
        vec!["must be between 1 and 65535, inclusive".to_owned()]
    }
}

/// Every complaint of `check` about `text`, as invalid values at `path`.
pub fn invalid(path: &Path, text: &str, check: Check) -> impl Iterator<Item = FieldError> {
    check(text)
        .into_iter()
        .map(move |why| FieldError::invalid(path, text, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_names() {
        let long = "a".repeat(64);
        let rows: &[(&str, Check, &str, &str)] = &[
            ("label", dns1123_label, "web", ""),
            ("label", dns1123_label, "1web", ""),
            (
                "label",
                dns1123_label,
                "Web",
                "a lowercase RFC 1123 label must",
            ),
            (
                "label",
                dns1123_label,
                "",
                "a lowercase RFC 1123 label must",
            ),
            (
                "label",
                dns1123_label,
                "-a",
                "a lowercase RFC 1123 label must",
            ),
            (
                "label",
                dns1123_label,
                &long,
                "must be no more than 63 characters",
            ),
            ("subdomain", dns1123_subdomain, "a.b-c.d", ""),
            (
                "subdomain",
                dns1123_subdomain,
                "a..b",
                "a lowercase RFC 1123 subdomain must",
            ),
            (
                "subdomain",
                dns1123_subdomain,
                "a_b",
                "a lowercase RFC 1123 subdomain must",
            ),
            ("value", label_value, "", ""),
            ("value", label_value, "A_b.c", ""),
            (
                "value",
                label_value,
                "a b",
                "a valid label must be an empty string",
            ),
            ("qualified", qualified_name, "app", ""),
            ("qualified", qualified_name, "example.com/App", ""),
            (
                "qualified",
                qualified_name,
                "/App",
                "prefix part must be non-empty",
            ),
            (
                "qualified",
                qualified_name,
                "example.com/",
                "name part must be non-empty",
            ),
            (
                "qualified",
                qualified_name,
                "a/b/c",
                "a qualified name must consist",
            ),
            ("qualified", qualified_name, "a b", "name part must consist"),
            ("port", port_name, "http", ""),
            ("port", port_name, "80", "must contain at least one letter"),
            (
                "port",
                port_name,
                "a--b",
                "must not contain consecutive hyphens",
            ),
            (
                "port",
                port_name,
                "a-",
                "must not begin or end with a hyphen",
            ),
            ("port", port_name, "HTTP", "must contain only alpha-numeric"),
            (
                "port",
                port_name,
                "a-very-long-port-name",
                "must be no more than 15 characters",
            ),
        ];
        for (form, check, text, expected) in rows {
            let wrong = check(text);
            match *expected {
                "" => assert!(wrong.is_empty(), "{form} {text:?}: {wrong:?}"),
                start => assert!(
                    wrong.first().is_some_and(|w| w.starts_with(start)),
                    "{form} {text:?}: {wrong:?}"
                ),
            }
        }
    }

    #[test]
    fn the_text_of_a_refused_name_is_upstreams() {
        assert_eq!(
            dns1123_label("Web"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with \
                 an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
    }
}
