//! A figure of both programs, side by side.

use serde_json::{Value, json};

use super::super::figure::{median, spread};

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
    /// daymark's.
    pub(crate) daymark: Vec<f64>,
    /// What the project wants.
    pub(crate) wanted: Wanted,
}

/// What daymark's median should be, as a share of kube-proxy's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wanted {
    /// At most this share.
    AtMost(f64),
    /// At least this share.
    AtLeast(f64),
    /// Nothing.
    Nothing,
}

impl Row {
    /// daymark's median by kube-proxy's.
    pub(crate) fn ratio(&self) -> f64 {
        median(&self.daymark) / median(&self.kube)
    }

    /// Whether the goal is met, if there is one.
    pub(crate) fn met(&self) -> Option<bool> {
        match self.wanted {
            Wanted::AtMost(share) => Some(self.ratio() <= share),
            Wanted::AtLeast(share) => Some(self.ratio() >= share),
            Wanted::Nothing => None,
        }
    }

    /// One object of the JSON report.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "what": self.what,
            "unit": self.unit,
            "kubeProxy": { "median": median(&self.kube), "runs": self.kube },
            "daymark": { "median": median(&self.daymark), "runs": self.daymark },
            "ratio": self.ratio(),
            "met": self.met(),
        })
    }

    /// One line of the report for people.
    pub(crate) fn to_line(&self) -> String {
        let shown = |values: &[f64]| {
            let (least, most) = spread(values);
            format!("{:.4} ({least:.4}..{most:.4})", median(values))
        };
        let goal = match self.wanted {
            Wanted::AtMost(share) => format!("at most {share:.3}"),
            Wanted::AtLeast(share) => format!("at least {share:.3}"),
            Wanted::Nothing => String::new(),
        };
        let met = match self.met() {
            None => "",
            Some(true) => "met",
            Some(false) => "MISSED",
        };
        format!(
            "{:<18}{:<3} kube-proxy {:<34}daymark {:<34}ratio {:<8.4}{goal:<15}{met:<7}{}",
            self.name,
            self.unit,
            shown(&self.kube),
            shown(&self.daymark),
            self.ratio(),
            self.what
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Row, Wanted};

    #[test]
    fn a_goal_is_a_share_of_the_other_programs_median() {
        let row = |daymark: &[f64], wanted| Row {
            name: "x".to_owned(),
            what: String::new(),
            unit: "s",
            kube: vec![10.0, 30.0, 20.0],
            daymark: daymark.to_vec(),
            wanted,
        };
        assert_eq!(row(&[2.0], Wanted::AtMost(0.1)).met(), Some(true));
        assert_eq!(row(&[2.1], Wanted::AtMost(0.1)).met(), Some(false));
        assert_eq!(row(&[19.0], Wanted::AtLeast(1.0)).met(), Some(false));
        assert_eq!(row(&[19.0], Wanted::Nothing).met(), None);
        // What was not measured reaches no goal.
        assert_eq!(row(&[], Wanted::AtMost(0.1)).met(), Some(false));
    }
}
