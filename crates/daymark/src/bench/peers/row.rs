//! A figure of both programs, side by side.

use serde_json::{Value, json};

use super::super::figure::{Goal, median, short, spread};

/// One figure of kube-proxy and of daymark.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Its name.
    pub(crate) name: String,
    /// What it is, in words.
    pub(crate) what: String,
    /// The unit of all values.
    pub(crate) unit: &'static str,
    /// kube-proxy's, one a run.
    pub(crate) kube: Vec<f64>,
    /// daymark's, of the same runs.
    pub(crate) daymark: Vec<f64>,
    /// What the project wants.
    pub(crate) wanted: Wanted,
}

/// What daymark should come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wanted {
    /// At most this share of kube-proxy's value of the same run, in the median.
    AtMost(f64),
    /// At least this share.
    AtLeast(f64),
    /// A value of its own, whatever kube-proxy's is.
    Itself(Goal),
    /// Nothing.
    Nothing,
}

impl Row {
    /// daymark's value by kube-proxy's, for each run.
    pub(crate) fn ratios(&self) -> Vec<f64> {
        let pairs = self.daymark.iter().zip(&self.kube);
        pairs.map(|(daymark, kube)| daymark / kube).collect()
    }

    /// Whether the goal is met, if there is one.
    pub(crate) fn met(&self) -> Option<bool> {
        let ratio = median(&self.ratios());
        match self.wanted {
            Wanted::AtMost(share) => Some(ratio <= share),
            Wanted::AtLeast(share) => Some(ratio >= share),
            Wanted::Itself(goal) => Some(goal.is_met_by(median(&self.daymark))),
            Wanted::Nothing => None,
        }
    }

    /// The goal in words; nothing if there is none.
    fn goal(&self) -> String {
        match self.wanted {
            Wanted::AtMost(share) => format!("at most {}", short(share)),
            Wanted::AtLeast(share) => format!("at least {}", short(share)),
            Wanted::Itself(goal) => format!("{goal} itself"),
            Wanted::Nothing => String::new(),
        }
    }

    /// One object of the JSON report.
    pub(crate) fn to_json(&self) -> Value {
        let of = |values: &[f64]| {
            let (min, max) = spread(values);
            json!({ "median": median(values), "min": min, "max": max, "runs": values })
        };
        json!({
            "name": self.name,
            "what": self.what,
            "unit": self.unit,
            "kubeProxy": of(&self.kube),
            "daymark": of(&self.daymark),
            "ratio": of(&self.ratios()),
            "goal": self.goal(),
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
        format!(
            "{:<22}{:<3} kube-proxy {:<24}daymark {:<24}ratio {:<24}{:<22}{met:<7}{}",
            self.name,
            self.unit,
            shown(&self.kube),
            shown(&self.daymark),
            shown(&self.ratios()),
            self.goal(),
            self.what
        )
    }

    /// What stands above [`Row::to_markdown`].
    pub(crate) const HEAD: &'static str = "\
| name | what | kube-proxy | daymark | ratio | goal | |
|---|---|---|---|---|---|---|";

    /// One row of the table in `docs/benchmarks.md`: medians, with the least and the greatest of the runs.
    pub(crate) fn to_markdown(&self) -> String {
        let met = match self.met() {
            None => "",
            Some(true) => "met",
            Some(false) => "**missed**",
        };
        let unit = self.unit;
        format!(
            "| `{}` | {} | {} {unit} | {} {unit} | {} | {} | {met} |",
            self.name,
            self.what,
            shown(&self.kube),
            shown(&self.daymark),
            shown(&self.ratios()),
            self.goal(),
        )
    }
}

/// The median, and the spread if there is one.
fn shown(values: &[f64]) -> String {
    let (least, most) = spread(values);
    let (least, most, middle) = (short(least), short(most), short(median(values)));
    match values.len() {
        0 | 1 => middle,
        _ => format!("{middle} ({least}..{most})"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::figure::Goal;
    use super::{Row, Wanted};

    fn row(kube: &[f64], daymark: &[f64], wanted: Wanted) -> Row {
        Row {
            name: "x".to_owned(),
            what: "y".to_owned(),
            unit: "s",
            kube: kube.to_vec(),
            daymark: daymark.to_vec(),
            wanted,
        }
    }

    #[test]
    fn a_goal_is_a_share_of_the_other_program_in_the_same_run() {
        // The second run was made on a busy machine: the ratio is what it was in the others.
        let kube = [10.0, 40.0, 10.0];
        let row = |daymark: &[f64], wanted| row(&kube, daymark, wanted);
        assert_eq!(row(&[1.0, 4.0, 1.0], Wanted::AtMost(0.1)).met(), Some(true));
        assert_eq!(
            row(&[1.1, 4.0, 1.1], Wanted::AtMost(0.1)).met(),
            Some(false)
        );
        assert_eq!(
            row(&[9.0, 40.0, 9.0], Wanted::AtLeast(1.0)).met(),
            Some(false)
        );
        assert_eq!(row(&[9.0, 40.0, 9.0], Wanted::Nothing).met(), None);
        // What was not measured reaches no goal.
        assert_eq!(row(&[], Wanted::AtMost(0.1)).met(), Some(false));
    }

    #[test]
    fn a_goal_of_its_own_does_not_ask_for_the_other_program() {
        let itself = Wanted::Itself(Goal::AtMost(1.0));
        assert_eq!(row(&[5.0], &[1.0], itself).met(), Some(true));
        assert_eq!(row(&[5.0], &[2.0], itself).met(), Some(false));
        assert_eq!(row(&[5.0], &[], itself).met(), Some(false));
    }

    #[test]
    fn a_row_of_the_document_has_medians_and_spreads() {
        let row = row(&[10.0, 20.0, 40.0], &[1.0, 3.0, 2.0], Wanted::AtMost(0.125));
        assert_eq!(
            row.to_markdown(),
            "| `x` | y | 20.0 (10.0..40.0) s | 2.00 (1.00..3.00) s | 0.100 (0.0500..0.150) | at most 0.125 | met |"
        );
    }
}
