//! What was measured, and whether it is good enough.

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
        self.goal.map(|goal| match goal {
            Goal::AtMost(limit) => self.median() <= limit,
            Goal::AtLeast(limit) => self.median() >= limit,
        })
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
        let (min, max) = self.spread();
        let value = |value: f64| short(value);
        let goal = match self.goal {
            None => String::new(),
            Some(Goal::AtMost(limit)) => format!("at most {}", value(limit)),
            Some(Goal::AtLeast(limit)) => format!("at least {}", value(limit)),
        };
        let met = match self.met() {
            None => "",
            Some(true) => "met",
            Some(false) => "MISSED",
        };
        let spread = format!("{}..{}", value(min), value(max));
        let median = value(self.median());
        format!(
            "{:<22}{median:>9} {:<6}{spread:>20}  {goal:<15}{met:<8}{}",
            self.name, self.unit, self.what
        )
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
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Figure, Goal, percentile};
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
    fn a_percentile_is_a_value_that_was_seen() {
        let mut values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut values, 50), 100.0);
        assert_eq!(percentile(&mut values, 99), 198.0);
        assert_eq!(percentile(&mut [7.0], 99), 7.0);
    }
}
