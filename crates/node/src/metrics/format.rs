//! In which form `/metrics` is written, and what asks for it.
//!
//! The agent's counters are written as OpenMetrics 1.0.0. Whoever does not ask for that gets Prometheus' older text, which
//! names a counter's family as its sample is named, and knows neither units nor an end. A counter's sample ends in `_total`
//! in both. (Prometheus, "Exposition formats"; `expfmt.NegotiateIncludingOpenMetrics` of prometheus/common. Its third form,
//! protobuf, is never asked for alone.)

use std::collections::HashSet;
use std::fmt::Write;

/// A form of `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `text/plain; version=0.0.4`.
    Text,
    /// `application/openmetrics-text` of the version that was asked for.
    OpenMetrics(Version),
}

/// A version of OpenMetrics; what is written is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// The draft, and what is meant where no version is named.
    V0_0_1,
    /// The standard.
    V1_0_0,
}

impl Format {
    /// The form that the header `Accept` likes best; the older text where it likes none, or is not there.
    pub(crate) fn negotiate(accept: &str) -> Self {
        let mut liked: Vec<(f32, Self)> = accept.split(',').filter_map(range).collect();
        // The sort is stable: among equals the first counts.
        liked.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        liked.first().map_or(Self::Text, |(_, format)| *format)
    }

    /// The header `Content-Type`.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics(Version::V0_0_1) => {
                "application/openmetrics-text; version=0.0.1; charset=utf-8"
            }
            Self::OpenMetrics(Version::V1_0_0) => {
                "application/openmetrics-text; version=1.0.0; charset=utf-8"
            }
        }
    }

    /// The text in this form, of families as OpenMetrics writes them, without its end.
    pub(crate) fn write(self, families: &str) -> String {
        match self {
            Self::Text => older(families),
            Self::OpenMetrics(_) => families.to_owned() + END,
        }
    }
}

/// What ends a text of OpenMetrics.
pub(crate) const END: &str = "# EOF\n";

/// One range of an `Accept` header with its weight; none if this crate writes nothing of the kind, or it is not wanted.
fn range(range: &str) -> Option<(f32, Format)> {
    let mut words = range.split(';').map(str::trim);
    let kind = words.next()?.to_ascii_lowercase();
    let (mut weight, mut version) = (1.0, String::new());
    for word in words {
        match word.split_once('=') {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("q") => {
                weight = value.trim().parse().ok()?;
            }
            Some((name, value)) if name.trim().eq_ignore_ascii_case("version") => {
                value.trim().trim_matches('"').clone_into(&mut version);
            }
            _ => {}
        }
    }
    let format = match (kind.as_str(), version.as_str()) {
        // Version 1.0.0 of the text allows other names, and those here are the same in it.
        ("text/plain", "" | "0.0.4" | "1.0.0") | ("text/*" | "*/*", "") => Format::Text,
        ("application/openmetrics-text", "" | "0.0.1") => Format::OpenMetrics(Version::V0_0_1),
        ("application/openmetrics-text", "1.0.0") => Format::OpenMetrics(Version::V1_0_0),
        _ => return None,
    };
    (weight > 0.0).then_some((weight, format))
}

/// The same as the older text.
fn older(families: &str) -> String {
    let counters: HashSet<&str> = families
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut out = String::with_capacity(families.len());
    for line in families.lines() {
        let about = ["# HELP ", "# TYPE "].iter().find_map(|word| {
            let (name, rest) = line.strip_prefix(word)?.split_once(' ')?;
            Some((word, name, rest))
        });
        // Writing to a String cannot fail.
        let _ = match about {
            Some((word, name, rest)) if counters.contains(name) => {
                writeln!(out, "{word}{name}_total {rest}")
            }
            Some((word, name, "unknown")) => writeln!(out, "{word}{name} untyped"),
            None if line.starts_with("# UNIT ") => Ok(()),
            _ => writeln!(out, "{line}"),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_liked_best_is_answered_and_the_older_text_otherwise() {
        let new = Format::OpenMetrics(Version::V1_0_0);
        let draft = Format::OpenMetrics(Version::V0_0_1);
        for (accept, expected) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Text),
            ("application/json", Format::Text),
            ("text/plain;version=0.0.4", Format::Text),
            ("application/openmetrics-text", draft),
            ("application/openmetrics-text; version=1.0.0", new),
            (
                "application/openmetrics-text; version=\"1.0.0\"; charset=utf-8",
                new,
            ),
            ("application/openmetrics-text;version=2.0.0", Format::Text),
            (
                "text/plain;q=0.5,application/openmetrics-text;version=0.0.1",
                draft,
            ),
            (
                "text/plain,application/openmetrics-text;version=1.0.0",
                Format::Text,
            ),
            (
                "application/openmetrics-text;version=1.0.0;q=0,text/plain;q=0.1",
                Format::Text,
            ),
            // Prometheus 2.48 and 3.5, in this order.
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                new,
            ),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,*/*;q=0.2",
                new,
            ),
        ] {
            assert_eq!(Format::negotiate(accept), expected, "{accept}");
        }
    }

    #[test]
    fn the_older_text_names_counters_as_their_samples_and_knows_no_unit_and_no_end() {
        let families = "\
# HELP a_b Things.
# TYPE a_b counter
a_b_total{x=\"# TYPE y counter\"} 3
# HELP c_seconds Times.
# TYPE c_seconds histogram
# UNIT c_seconds seconds
c_seconds_bucket{le=\"+Inf\"} 1
# TYPE d_total gauge
d_total 1
# TYPE e unknown
e 2
";
        let expected = "\
# HELP a_b_total Things.
# TYPE a_b_total counter
a_b_total{x=\"# TYPE y counter\"} 3
# HELP c_seconds Times.
# TYPE c_seconds histogram
c_seconds_bucket{le=\"+Inf\"} 1
# TYPE d_total gauge
d_total 1
# TYPE e untyped
e 2
";
        assert_eq!(Format::Text.write(families), expected);
        let new = Format::OpenMetrics(Version::V1_0_0).write(families);
        assert_eq!(new, families.to_owned() + "# EOF\n");
    }
}
