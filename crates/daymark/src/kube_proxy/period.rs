//! Spans of time as Go writes them: `1h30m`, `250ms`, `-1s`.

use std::fmt;
use std::time::Duration;

/// A span of time; below zero too, so that a check can name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Period {
    nanos: i64,
}

impl Period {
    /// No time; in many fields it means that something is left as it is.
    pub(crate) const ZERO: Self = Self { nanos: 0 };

    /// So many seconds.
    pub(crate) const fn seconds(seconds: i64) -> Self {
        Self {
            nanos: seconds * SECOND,
        }
    }

    /// So many nanoseconds.
    pub(crate) const fn nanos(nanos: i64) -> Self {
        Self { nanos }
    }

    /// Reads numbers with their units (Go's `time.ParseDuration`).
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (sign, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (-1.0, rest),
            None => (1.0, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Some(Self::ZERO);
        }
        if rest.is_empty() {
            return None;
        }
        let mut nanos = 0.0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let (number, behind) = rest.split_at(digits);
            let length = behind.find(|c: char| c.is_ascii_digit() || c == '.');
            let (unit, next) = behind.split_at(length.unwrap_or(behind.len()));
            let (_, factor) = UNITS.iter().find(|(known, _)| *known == unit)?;
            nanos += number.parse::<f64>().ok()? * factor;
            rest = next;
        }
        #[allow(
            clippy::cast_possible_truncation,
            reason = "checked to be within the range just before"
        )]
        (nanos < LONGEST).then_some(Self {
            nanos: (sign * nanos) as i64,
        })
    }

    /// Whether it lies before now.
    pub(crate) fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// In whole seconds, for the kernel.
    pub(crate) fn whole_seconds(self) -> i64 {
        self.nanos / SECOND
    }

    /// As a span to wait; what lies before now is none.
    pub(crate) fn duration(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.nanos).unwrap_or(0))
    }
}

const SECOND: i64 = 1_000_000_000;
/// 292 years: what fits.
const LONGEST: f64 = 9.2e18;
const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("\u{b5}s", 1e3),
    ("\u{3bc}s", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 6e10),
    ("h", 3.6e12),
];

/// As Go writes it: `24h0m0s`, `1.5s`, `250ms`.
impl fmt::Display for Period {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_negative() {
            out.write_str("-")?;
        }
        let nanos = self.nanos.unsigned_abs();
        let (below, unit, digits) = match nanos {
            0 => return out.write_str("0s"),
            1..1_000 => return write!(out, "{nanos}ns"),
            1_000..1_000_000 => (1_000, "\u{b5}s", 3),
            1_000_000..1_000_000_000 => (1_000_000, "ms", 6),
            _ => (1_000_000_000, "s", 9),
        };
        let whole = nanos / below;
        let fraction = format!("{:0digits$}", nanos % below);
        let fraction = fraction.trim_end_matches('0');
        let (hours, minutes) = (whole / 3600, whole / 60 % 60);
        let in_seconds = unit == "s";
        if in_seconds && hours > 0 {
            write!(out, "{hours}h")?;
        }
        if in_seconds && (hours > 0 || minutes > 0) {
            write!(out, "{minutes}m")?;
        }
        write!(out, "{}", if in_seconds { whole % 60 } else { whole })?;
        if !fraction.is_empty() {
            write!(out, ".{fraction}")?;
        }
        out.write_str(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::Period;

    #[test]
    fn spans_are_read_and_written_as_go_does() {
        let rows = [
            ("0", "0s"),
            ("0s", "0s"),
            ("30s", "30s"),
            ("15m", "15m0s"),
            ("24h", "24h0m0s"),
            ("1h30m", "1h30m0s"),
            ("90s", "1m30s"),
            ("1.5s", "1.5s"),
            ("1500ms", "1.5s"),
            ("250ms", "250ms"),
            ("-1s", "-1s"),
            ("+1m0.5s", "1m0.5s"),
            ("12us", "12\u{b5}s"),
            ("7ns", "7ns"),
        ];
        for (text, shown) in rows {
            let period = Period::parse(text).expect(text);
            assert_eq!(period.to_string(), shown, "{text}");
            assert_eq!(Period::parse(shown), Some(period), "{text}");
        }
        for wrong in [
            "",
            "-",
            "15",
            "s",
            "1x",
            "1s2",
            "1..5s",
            "1e3s",
            " 1s",
            "999999999h",
        ] {
            assert_eq!(Period::parse(wrong), None, "{wrong}");
        }
    }
}
