//! How long to rest between two looks for openings, while endpoints change without end.
//!
//! A walk of the kernel's table costs some milliseconds however little is in it, and where endpoints change all the time nearly every one
//! finds nothing. What a rest costs is told by the client: it sends its SYN again one second after the first, and after
//! three, seven and fifteen (RFC 6298). So the looks come before the second SYN; if none of them finds anything, before the third,
//! the fourth, and then before the fifth. One that finds something is followed by prompt ones again, and so is one that nothing waited for.

use std::time::Duration;

use super::PACE;

/// What the last looks came to.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// How many in a row had been waited for and found nothing.
    fruitless: usize,
}

/// What came during the rest before a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// Changes, which waited for the look, the first of them from the beginning.
    Changes,
    /// Nothing at first.
    Calm,
}

impl Pace {
    /// The rest after a look that forgot so many flows.
    pub(super) fn after(&mut self, since: Since, forgotten: usize) -> Duration {
        match since {
            Since::Changes if forgotten == 0 => self.fruitless += 1,
            Since::Changes | Since::Calm => self.fruitless = 0,
        }
        let step = (self.fruitless / FRUITLESS).min(RESTS.len() - 1);
        RESTS[step]
    }
}

/// Each with [`super::SETTLE`] is less than the client waits for its second SYN and each of the three after it.
const RESTS: [Duration; 4] = [
    PACE,
    Duration::from_millis(2_600),
    Duration::from_millis(6_600),
    Duration::from_millis(14_600),
];
/// So many looks in a row that find nothing make the rest longer.
const FRUITLESS: usize = 2;

#[cfg(test)]
mod tests {
    use super::super::SETTLE;
    use super::*;

    #[test]
    fn looks_that_find_nothing_become_rare_until_one_finds_something_or_nothing_waits() {
        for (since, forgotten) in [(Since::Changes, 2), (Since::Calm, 0), (Since::Calm, 1)] {
            let mut pace = Pace::default();
            let mut seen = Vec::new();
            for _ in 0..2 {
                seen.push(pace.after(since, forgotten));
                seen.extend([(); 10].map(|()| pace.after(Since::Changes, 0)));
            }
            let once: Vec<Duration> = RESTS.into_iter().flat_map(|rest| [rest; 2]).collect();
            let once = [once.as_slice(), &[RESTS[3]; 3]].concat();
            assert_eq!(seen, [once.clone(), once].concat());
        }
    }

    #[test]
    fn every_rest_ends_before_the_client_sends_again() {
        for (rest, again) in RESTS.into_iter().zip([1, 3, 7, 15]) {
            assert!(rest + SETTLE < Duration::from_secs(again), "{rest:?}");
        }
    }
}
