//! What was said already. The time is handed in.

use std::collections::VecDeque;
use std::time::Duration;

use super::HOUR;
use super::queue::{LONGEST, most_within};

/// How often each thing was said in each window. Windows come in no order: of what waits any is written, and what was put up in the window
/// before may be written after news.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// What was said first stands first.
    all: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    window: i64,
    what: u64,
    times: u32,
}

/// What was put up in the longest window may be written until as long after it as anything waits. In that time so much is said at most.
const REMEMBERED: usize = most_within(Duration::from_secs(HOUR as u64 + LONGEST.as_secs()));

impl Said {
    /// How often it was said before in that window.
    pub(super) fn times(&self, window: i64, what: u64) -> u32 {
        let mut all = self.all.iter();
        let entry = all.find(|entry| entry.is(window, what));
        entry.map_or(0, |entry| entry.times)
    }

    /// It was said.
    pub(super) fn again(&mut self, window: i64, what: u64) {
        let mut all = self.all.iter_mut();
        if let Some(entry) = all.find(|entry| entry.is(window, what)) {
            entry.times += 1;
            return;
        }
        if self.all.len() == REMEMBERED {
            self.all.pop_front();
        }
        self.all.push_back(Entry {
            window,
            what,
            times: 1,
        });
    }
}

impl Entry {
    fn is(&self, window: i64, what: u64) -> bool {
        (self.window, self.what) == (window, what)
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::{BURST, EACH};
    use super::*;

    #[test]
    fn windows_come_in_any_order_and_each_thing_is_counted_in_its_own() {
        let mut said = Said::default();
        for (window, what, before) in [
            (1, 7, 0),
            (0, 8, 0),
            (1, 7, 1),
            (0, 7, 0),
            (1, 7, 2),
            (0, 8, 1),
        ] {
            assert_eq!(said.times(window, what), before, "{what} in {window}");
            said.again(window, what);
        }
    }

    /// As many things as a node may say, without end.
    #[test]
    fn what_may_be_asked_for_is_remembered_and_no_more() {
        let mut said = Said::default();
        for first in 0..u64::from(BURST) {
            said.again(0, first);
        }
        let each = EACH.as_secs();
        let longest = HOUR.cast_unsigned() + LONGEST.as_secs();
        let window = |second: u64| second.cast_signed() / HOUR;
        for second in (each..longest * 3).step_by(each as usize) {
            said.again(window(second), second);
            let oldest = second.saturating_sub(longest).max(each);
            assert_eq!(said.times(window(oldest), oldest), 1, "{second}");
            assert!(said.all.len() <= REMEMBERED);
        }
        assert_eq!(said.all.len(), REMEMBERED);
    }
}
