//! The exit codes of a guest's commands, as lines on its second serial line.

use std::fmt;

/// One line: the command's number, from 0, and its exit code; or why no command could be started.
pub(super) fn line(number: usize, code: i32) -> String {
    format!("{number} {code}\n")
}

/// How a guest ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Every command ran: their exit codes.
    Whole(Vec<i32>),
    /// It went away while this command ran, by its number: a panic, or a reboot.
    Within(usize),
    /// The time was up while this command ran.
    TimedOut(usize),
}

/// Why the host stopped waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// QEMU ended.
    ByItself,
    /// It was ended, after the time limit.
    ByUs,
}

impl Ended {
    /// What a report says about a guest that had so many commands to run.
    pub(super) fn read(report: &str, commands: usize, stopped: Stopped) -> Self {
        let mut codes = Vec::new();
        // The guest may have been ended within a line: what has no end does not count.
        let whole = report.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines() {
            let number = codes.len().to_string();
            let code = line.trim().split_once(' ').filter(|(n, _)| *n == number);
            match code.and_then(|(_, code)| code.parse().ok()) {
                Some(code) => codes.push(code),
                None => break,
            }
        }
        if codes.len() == commands {
            return Self::Whole(codes);
        }
        match stopped {
            Stopped::ByItself => Self::Within(codes.len()),
            Stopped::ByUs => Self::TimedOut(codes.len()),
        }
    }

    /// The exit code of the whole: the first that is not 0.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Whole(codes) => {
                let failed = codes.iter().find(|code| **code != 0);
                failed.map_or(0, |code| u8::try_from(*code).unwrap_or(1))
            }
            Self::Within(_) | Self::TimedOut(_) => super::NO_CODE,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(codes) => {
                let failed = codes.iter().filter(|code| **code != 0).count();
                write!(f, "{} ran, {failed} failed", codes.len())
            }
            Self::Within(number) => write!(
                f,
                "ended within command {}: a panic of its kernel, or what it printed last",
                number + 1
            ),
            Self::TimedOut(number) => write!(
                f,
                "ended for its time was up, within command {}: it hangs, or --timeout is too short",
                number + 1
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_whole_only_when_every_command_has_its_code() {
        use Ended::{TimedOut, Whole, Within};
        use Stopped::{ByItself, ByUs};
        // A serial line ends its lines with both characters.
        for (report, commands, stopped, expected, code) in [
            ("0 0\r\n1 0\r\n", 2, ByItself, Whole(vec![0, 0]), 0),
            ("0 0\r\n1 101\r\n", 2, ByItself, Whole(vec![0, 101]), 101),
            // QEMU was ended although the guest was done: its switch is what hangs.
            ("0 3\r\n", 1, ByUs, Whole(vec![3]), 3),
            ("0 0\r\n", 2, ByItself, Within(1), 125),
            ("", 2, ByItself, Within(0), 125),
            ("", 2, ByUs, TimedOut(0), 125),
            ("0 0\r\n1 1", 2, ByUs, TimedOut(1), 125),
            ("0 0\r\n2 0\r\n", 2, ByItself, Within(1), 125),
            ("nonsense\r\n", 1, ByItself, Within(0), 125),
            ("0 300\r\n", 1, ByItself, Whole(vec![300]), 1),
        ] {
            let ended = Ended::read(report, commands, stopped);
            assert_eq!(ended, expected, "{report:?}");
            assert_eq!(ended.code(), code, "{report:?}");
        }
    }
}
