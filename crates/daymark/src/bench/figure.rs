//! What was measured, and whether it is good enough.

use std::fmt;

use serde_json::{Value, json};

use super::Measurement;

/// One number, measured several times.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// The measurement that it belongs to.
    pub(crate) of: Measurement,
    /// Its own name: that of the measurement, or that and an ending.
    pub(crate) name: String,
    /// What it is, in words.
    pub(crate) what: String,
    /// The unit of all values.
    pub(crate) unit: &'static str,
    /// One value a run, in order.
    pub(crate) runs: Vec<f64>,
    /// What the project wants; nothing for a number that only explains others.
    pub(crate) goal: Option<Goal>,
}

/// What a median should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// This, or less.
    AtMost(f64),
    /// This, or more.
    AtLeast(f64),
}

impl Goal {
    /// Whether a median is good enough; one that was not measured is not.
    pub(crate) fn is_met_by(self, median: f64) -> bool {
        match self {
            Self::AtMost(limit) => median <= limit,
            Self::AtLeast(limit) => median >= limit,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "at most {}", short(*limit)),
            Self::AtLeast(limit) => write!(f, "at least {}", short(*limit)),
        }
    }
}

impl Figure {
    /// As [`median`], of the runs.
    pub(crate) fn median(&self) -> f64 {
        median(&self.runs)
    }

    /// As [`spread`], of the runs.
    pub(crate) fn spread(&self) -> (f64, f64) {
        spread(&self.runs)
    }

    /// Whether the median reaches the goal, if there is one.
    pub(crate) fn met(&self) -> Option<bool> {
        self.goal.map(|goal| goal.is_met_by(self.median()))
    }

    /// One object of the JSON report.
    pub(crate) fn to_json(&self) -> Value {
        let (min, max) = self.spread();
        let goal = self.goal.map(|goal| match goal {
            Goal::AtMost(limit) => json!({ "atMost": limit }),
            Goal::AtLeast(limit) => json!({ "atLeast": limit }),
        });
        json!({
            "name": self.name,
            "what": self.what,
            "unit": self.unit,
            "median": self.median(),
            "min": min,
            "max": max,
            "runs": self.runs,
            "goal": goal,
            "met": self.met(),
        })
    }

    /// One line of the report for people.
    pub(crate) fn to_line(&self) -> String {
        let met = match self.met() {
            None => "",
            Some(true) => "met",
            Some(false) => "MISSED",
        };
        let (min, max) = self.spread();
        let spread = format!("{}..{}", short(min), short(max));
        let median = short(self.median());
        format!(
            "{:<22}{median:>9} {:<6}{spread:>20}  {:<15}{met:<8}{}",
            self.name,
            self.unit,
            self.goal(),
            self.what
        )
    }

    /// What stands above [`Figure::to_markdown`].
    pub(crate) const HEAD: &'static str = "\
| name | what | median | spread of the runs | goal | |
|---|---|---|---|---|---|";

    /// One row of the table in `docs/benchmarks.md`.
    pub(crate) fn to_markdown(&self) -> String {
        let met = match self.met() {
            None => "",
            Some(true) => "met",
            Some(false) => "**missed**",
        };
        let (min, max) = self.spread();
        format!(
            "| `{}` | {} | {} {} | {} .. {} | {} | {met} |",
            self.name,
            self.what,
            short(self.median()),
            self.unit,
            short(min),
            short(max),
            self.goal(),
        )
    }

    fn goal(&self) -> String {
        self.goal.map(|goal| goal.to_string()).unwrap_or_default()
    }
}

/// The middle value; of an even number the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    f64::midpoint(sorted[last / 2], sorted[last.div_ceil(2)])
}

/// The least and the greatest value.
pub(crate) fn spread(values: &[f64]) -> (f64, f64) {
    let sorted = sorted(values);
    let at = |value: Option<&f64>| value.copied().unwrap_or(f64::NAN);
    (at(sorted.first()), at(sorted.last()))
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The value at this percentile of times, in the order of their size: the least that as many are not above.
pub(crate) fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// Three digits that count.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        size if size.is_nan() => "-".to_owned(),
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        size if size >= 0.1 => format!("{value:.3}"),
        size if size >= 0.01 => format!("{value:.4}"),
        _ => format!("{value:.5}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Figure, Goal, percentile, short};
    use crate::bench::Measurement;

    fn figure(runs: &[f64], goal: Goal) -> Figure {
        Figure {
            of: Measurement::Store,
            name: "store".to_owned(),
            what: String::new(),
            unit: "s",
            runs: runs.to_vec(),
            goal: Some(goal),
        }
    }

    #[test]
    fn the_median_is_in_the_middle_and_judged() {
        let rows = [
            (vec![3.0, 1.0, 2.0], 2.0, Goal::AtMost(2.0), true),
            (vec![4.0, 1.0, 2.0, 3.0], 2.5, Goal::AtMost(2.0), false),
            (vec![5.0], 5.0, Goal::AtLeast(6.0), false),
            (vec![9.0, 7.0], 8.0, Goal::AtLeast(6.0), true),
        ];
        for (runs, median, goal, met) in rows {
            let figure = figure(&runs, goal);
            assert_eq!((figure.median(), figure.met()), (median, Some(met)));
        }
    }

    #[test]
    fn numbers_have_three_digits_that_count() {
        let rows = [
            (12_345.6, "12346"),
            (99.04, "99.0"),
            (1.0, "1.00"),
            (0.1226, "0.123"),
            (0.02, "0.0200"),
            (0.00446, "0.00446"),
            (0.0, "0"),
            (f64::NAN, "-"),
        ];
        for (value, shown) in rows {
            assert_eq!(short(value), shown);
        }
    }

    #[test]
    fn a_percentile_is_a_value_that_was_seen() {
        let mut values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut values, 50), 100.0);
        assert_eq!(percentile(&mut values, 99), 198.0);
        assert_eq!(percentile(&mut [7.0], 99), 7.0);
    }
}
