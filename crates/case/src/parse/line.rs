//! One line of a case, cut into words, and the small values that words hold.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use daymark_model::address::{Family, parse_address};
use daymark_model::input::TrafficPolicy;
use daymark_model::{Cidr, Protocol, ServiceKey};

use crate::error::ParseError;

/// The words of a line that have not been read yet.
pub(super) struct Line<'a> {
    file: &'a str,
    number: usize,
    words: &'a [&'a str],
    /// Addresses and prefixes that were not written in the canonical way.
    pub(super) spelled: Vec<(String, String)>,
}

type Result<T> = std::result::Result<T, ParseError>;

impl<'a> Line<'a> {
    pub(super) fn new(file: &'a str, number: usize, words: &'a [&'a str]) -> Self {
        Self {
            file,
            number,
            words,
            spelled: Vec::new(),
        }
    }

    /// The line's number, from 1.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// The error that says what could stand here.
    pub(super) fn error(&self, expected: impl Into<String>, found: &str) -> ParseError {
        ParseError {
            file: self.file.to_owned(),
            line: self.number,
            expected: expected.into(),
            found: if found.is_empty() {
                "the end of the line".to_owned()
            } else {
                format!("`{found}`")
            },
        }
    }

    /// The next word.
    pub(super) fn word(&mut self, expected: &str) -> Result<&'a str> {
        let Some((first, rest)) = self.words.split_first() else {
            return Err(self.error(expected, ""));
        };
        self.words = rest;
        Ok(first)
    }

    /// The next word, which must be this one.
    pub(super) fn exactly(&mut self, wanted: &str) -> Result<()> {
        let expected = format!("`{wanted}`");
        let word = self.word(&expected)?;
        if word == wanted {
            Ok(())
        } else {
            Err(self.error(expected, word))
        }
    }

    /// The next word, left where it is.
    pub(super) fn peek(&self) -> Option<&'a str> {
        self.words.first().copied()
    }

    /// All words left.
    pub(super) fn rest(&mut self) -> &'a [&'a str] {
        std::mem::take(&mut self.words)
    }

    /// Refuses words that are left over.
    pub(super) fn end(&self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(word) => Err(self.error("the end of the line", word)),
        }
    }

    /// The words left: those of the form `key=value`, with these keys alone, and the others.
    pub(super) fn fields(&mut self, keys: &[&str]) -> Result<Fields<'a>> {
        let mut fields = Fields::default();
        for word in self.rest() {
            let Some((key, value)) = word.split_once('=') else {
                fields.plain.push(word);
                continue;
            };
            if !keys.contains(&key) {
                return Err(self.error(format!("one of {}=", keys.join("=, ")), word));
            }
            if fields.named.insert(key, value).is_some() {
                return Err(self.error(format!("{key}= once in a line"), word));
            }
        }
        Ok(fields)
    }

    /// An address of an object, as leniently read as Kubernetes reads stored objects.
    pub(super) fn address(&mut self, text: &str) -> Result<IpAddr> {
        let Some(address) = parse_address(text) else {
            return Err(self.error("an IP address", text));
        };
        self.spelled(text, address.to_string());
        Ok(address)
    }

    /// A prefix of an object, read as leniently.
    pub(super) fn cidr(&mut self, text: &str) -> Result<Cidr> {
        self.cidr_or("", text)
    }

    /// The same where `others` could stand too.
    pub(super) fn cidr_or(&mut self, others: &str, text: &str) -> Result<Cidr> {
        let Some(cidr) = Cidr::parse(text) else {
            let expected = format!("{others}a prefix such as 10.244.1.0/24");
            return Err(self.error(expected, text));
        };
        self.spelled(text, cidr.to_string());
        Ok(cidr)
    }

    fn spelled(&mut self, text: &str, canonical: String) {
        if text != canonical {
            self.spelled.push((canonical, text.to_owned()));
        }
    }

    /// Values between commas; none in an empty text.
    pub(super) fn list<T>(
        &mut self,
        text: &str,
        read: impl Fn(&mut Self, &str) -> Result<T>,
    ) -> Result<Vec<T>> {
        let parts = text.split(',').filter(|_| !text.is_empty());
        parts.map(|part| read(self, part)).collect()
    }

    /// A number of some type.
    pub(super) fn number_of<T: FromStr>(&self, expected: &str, text: &str) -> Result<T> {
        text.parse().map_err(|_| self.error(expected, text))
    }

    /// A port number.
    pub(super) fn port(&self, text: &str) -> Result<u16> {
        self.number_of("a port number, 0 to 65535", text)
    }

    /// A protocol by its word in the API.
    pub(super) fn protocol(&self, text: &str) -> Result<Protocol> {
        Protocol::parse(text).ok_or_else(|| self.error("a protocol: TCP, UDP or SCTP", text))
    }

    /// A family by its word in the API.
    pub(super) fn family(&self, text: &str) -> Result<Family> {
        let known = Family::BOTH.into_iter().find(|f| f.to_string() == text);
        known.ok_or_else(|| self.error("a family: IPv4 or IPv6", text))
    }

    /// A traffic policy by its word in the API.
    pub(super) fn policy(&self, text: &str) -> Result<TrafficPolicy> {
        match text {
            "Cluster" => Ok(TrafficPolicy::Cluster),
            "Local" => Ok(TrafficPolicy::Local),
            _ => Err(self.error("a policy: Cluster or Local", text)),
        }
    }

    /// One of two words.
    pub(super) fn yes(&self, text: &str) -> Result<bool> {
        match text {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err(self.error("yes or no", text)),
        }
    }

    /// A namespace and name; the namespace is `default` unless written.
    pub(super) fn key(&self, text: &str) -> Result<ServiceKey> {
        let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
        if namespace.is_empty() || name.is_empty() || name.contains(['/', '=', ',']) {
            return Err(self.error("NAME or NAMESPACE/NAME", text));
        }
        Ok(ServiceKey::new(namespace, name))
    }
}

/// The words of a line by form.
#[derive(Default)]
pub(super) struct Fields<'a> {
    /// Words without `=`.
    pub(super) plain: Vec<&'a str>,
    named: BTreeMap<&'a str, &'a str>,
}

impl<'a> Fields<'a> {
    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&'a str> {
        self.named.get(key).copied()
    }

    /// A list field; empty when the key is absent.
    pub(super) fn list<T>(
        &self,
        line: &mut Line<'_>,
        key: &str,
        read: impl Fn(&mut Line<'_>, &str) -> Result<T>,
    ) -> Result<Vec<T>> {
        line.list(self.get(key).unwrap_or_default(), |line, text| {
            read(line, text)
        })
    }
}
