//! What the log says of something that is tried again and again: each reason when it is new, then once in a while; otherwise watches that are
//! tried again would fill the log with one sentence.

use std::time::{Duration, Instant};

/// What was told of the failures since the last success.
#[derive(Debug, Default)]
pub struct Trouble {
    told: Option<(String, Instant)>,
}

/// Whether a failure is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// It is new, or the last word about it is a while ago.
    Now,
    /// It was told lately.
    Lately,
}

/// What was before a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Failures that were told.
    Failures,
    /// Another success, or nothing.
    Success,
}

impl Trouble {
    /// It failed once more, with this reason, which is told again after `remind`.
    pub fn again(&mut self, reason: &str, now: Instant, remind: Duration) -> Tell {
        let lately = |(told, at): &(String, Instant)| {
            told == reason && now.saturating_duration_since(*at) < remind
        };
        if self.told.as_ref().is_some_and(lately) {
            return Tell::Lately;
        }
        self.told = Some((reason.to_owned(), now));
        Tell::Now
    }

    /// It worked.
    pub fn is_over(&mut self) -> Before {
        match self.told.take() {
            Some(_) => Before::Failures,
            None => Before::Success,
        }
    }
}

/// How long a reason is not told again that keeps something from its work.
pub const REMIND: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_reason_is_told_when_it_is_new_when_it_changes_and_each_minute() {
        let (mut trouble, start) = (Trouble::default(), clock::now());
        let mut at = |seconds, reason| {
            let now = start + Duration::from_secs(seconds);
            trouble.again(reason, now, REMIND)
        };
        assert_eq!(at(0, "a"), Tell::Now);
        assert_eq!(at(5, "a"), Tell::Lately);
        assert_eq!(at(10, "b"), Tell::Now);
        assert_eq!(at(69, "b"), Tell::Lately);
        assert_eq!(at(70, "b"), Tell::Now);
        assert_eq!(trouble.is_over(), Before::Failures);
        assert_eq!(trouble.is_over(), Before::Success);
        assert_eq!(trouble.again("b", start, REMIND), Tell::Now);
    }
}
