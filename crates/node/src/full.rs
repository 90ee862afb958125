//! Whether the kernel's table of tracked connections is full: then it drops what is new, of every kind, and says so in its own log alone.
//!
//! Nothing that the agent does needs that table to have room, and what it forgets makes some. But who looks for the reason why a Service does not answer
//! asks the agent first.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daymark_feed::trouble::{Before, REMIND, Tell, Trouble};
use tracing::{info, warn};

use crate::clock;
use crate::events::{Severity, about_node};
use crate::metrics::Metrics;

/// The table of this network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Table {
    /// Connections in it.
    tracked: u64,
    /// The most that it takes.
    most: u64,
    /// Packets that were dropped since it was made, for want of room or of memory.
    dropped: u64,
}

impl Table {
    fn read() -> io::Result<Self> {
        let read = std::fs::read_to_string;
        let number = |text: String| text.trim().parse().map_err(io::Error::other);
        Ok(Self {
            tracked: number(read("/proc/sys/net/netfilter/nf_conntrack_count")?)?,
            most: number(read("/proc/sys/net/netfilter/nf_conntrack_max")?)?,
            dropped: dropped(&read("/proc/thread-self/net/stat/nf_conntrack")?)
                .ok_or_else(|| io::Error::other("no column `drop`"))?,
        })
    }

    /// Whether it was full since it was read before. The kernel counts other losses too, which have nothing to do with room.
    fn was_full(self, before: Self) -> bool {
        let crowded = self.tracked.saturating_mul(10) >= self.most.saturating_mul(9);
        crowded && self.dropped > before.dropped
    }
}

/// The sum of a column of hexadecimal numbers, a line a processor (`ct_cpu_seq_show` of `nf_conntrack_standalone.c`).
fn dropped(text: &str) -> Option<u64> {
    let mut lines = text.lines();
    let column = lines
        .next()?
        .split_whitespace()
        .position(|name| name == "drop")?;
    let of_line = |line: &str| u64::from_str_radix(line.split_whitespace().nth(column)?, 16).ok();
    lines.map(of_line).sum()
}

/// Looks each ten seconds, for ever. A table that is full is a warning in the log once a minute, `daymark_conntrack_full`, a
/// line of `daymark status`, and once an hour an Event on the Node.
pub async fn follow(client: kube::Client, node: Arc<str>, metrics: Arc<Metrics>) {
    let mut before = None;
    let mut trouble = Trouble::default();
    let mut told: Option<Instant> = None;
    loop {
        // A kernel that does not tell is asked in vain.
        let now = Table::read().ok();
        let full = now
            .zip(before)
            .filter(|(now, before): &(Table, Table)| now.was_full(*before));
        before = now.or(before);
        let message = full.map(|(now, _)| message(now.most));
        metrics.set_conntrack_full(message.clone());
        match message {
            None if trouble.is_over() == Before::Failures => {
                info!("the table of tracked connections has room again");
            }
            None => {}
            Some(message) => {
                if trouble.again(&message, clock::now(), REMIND) == Tell::Now {
                    warn!("{message}");
                }
                if told.is_none_or(|told| clock::now() > told + HOUR) {
                    told = Some(clock::now());
                    let said = ("ConntrackFull", message);
                    about_node(&client, &node, Severity::Warning, said).await;
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn message(most: u64) -> String {
    format!(
        "the kernel tracks {most} connections (net.netfilter.nf_conntrack_max), no more fit, and new ones are dropped, of \
         every kind: raise conntrack.maxPerCore or conntrack.min of the configuration, or find out who opens so many \
         (conntrack -L)"
    )
}

const LOOK: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_full_that_drops_while_there_is_no_room() {
        let table = |tracked, dropped| Table {
            tracked,
            most: 1000,
            dropped,
        };
        let before = table(10, 7);
        for (now, expected) in [
            (table(1000, 8), true),
            (table(900, 8), true),
            (table(899, 8), false),
            (table(1000, 7), false),
        ] {
            assert_eq!(now.was_full(before), expected, "{now:?}");
        }
    }

    #[test]
    fn losses_are_those_of_every_processor() {
        let text = "entries  found drop early_drop\n00000001  00000000 0000000a 00000002\n\
                    00000001  00000000 00000010 00000003\n";
        assert_eq!(dropped(text), Some(26));
        assert_eq!(dropped("entries found\n1 2\n"), None);
        assert_eq!(dropped("entries drop\n1 z\n"), None);
    }
}
