//! Whether the kernel's table of tracked connections is full: then it drops what is new, of every kind, and says so in its own log alone.
//!
//! Nothing that the agent does needs that table to have room, and what it forgets makes some. But who looks for the reason why a Service does not answer
//! asks the agent first.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use daymark_feed::trouble::{Before, REMIND, Tell, Trouble};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::clock;
use crate::events::{Outcome, Severity, about_node};
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
    let tell = move |message| {
        let (client, node) = (client.clone(), Arc::clone(&node));
        async move {
            let said = ("ConntrackFull", message);
            about_node(&client, &node, Severity::Warning, said).await
        }
    };
    // A kernel that does not tell is asked in vain.
    look(|| Table::read().ok(), tell, &metrics).await;
}

async fn look<Told: Future<Output = Outcome> + Send + 'static>(
    mut read: impl FnMut() -> Option<Table>,
    tell: impl Fn(String) -> Told,
    metrics: &Metrics,
) {
    let mut before = None;
    let mut trouble = Trouble::default();
    let mut telling = Telling::default();
    loop {
        let now = read();
        let full = now
            .zip(before)
            .filter(|(now, before): &(Table, Table)| now.was_full(*before));
        before = now.or(before);
        let message = full.map(|(now, _)| message(now.most));
        metrics.set_conntrack_full(message.clone());
        telling.look(message.as_ref(), &tell);
        match message {
            None if trouble.is_over() == Before::Failures => {
                info!("the table of tracked connections has room again");
            }
            None => {}
            Some(message) if trouble.again(&message, clock::now(), REMIND) == Tell::Now => {
                warn!("{message}");
            }
            Some(_) => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The Event, written beside the looks: an API that hangs ends none of them.
#[derive(Debug, Default)]
struct Telling {
    running: JoinSet<Outcome>,
    /// For how many looks it is not written.
    rest: u32,
}

impl Telling {
    /// Writes the message, if there is one, unless that runs, or was done or tried a short time ago.
    fn look<Told: Future<Output = Outcome> + Send + 'static>(
        &mut self,
        message: Option<&String>,
        tell: impl Fn(String) -> Told,
    ) {
        self.rest = self.rest.saturating_sub(1);
        if let Some(ended) = self.running.try_join_next() {
            self.rest = match ended {
                Ok(Outcome::Stands | Outcome::Refused) => AN_HOUR,
                Ok(Outcome::Failed) | Err(_) => A_MINUTE,
            };
        }
        if let Some(message) = message
            && self.rest == 0
            && self.running.is_empty()
        {
            self.running.spawn(tell(message.clone()));
        }
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
/// In looks.
const A_MINUTE: u32 = 6;
const AN_HOUR: u32 = 360;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

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

    /// What the Event comes to, time after time; then it stands. When it was written, in looks.
    async fn written(outcomes: &[(Duration, Outcome)], looks: usize) -> Vec<usize> {
        let (read, written) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let outcomes = Mutex::new(VecDeque::from(outcomes.to_vec()));
        let table = || {
            let number = read.fetch_add(1, Ordering::Relaxed);
            let dropped = u64::try_from(number).unwrap();
            (number <= looks).then_some(Table {
                tracked: 1000,
                most: 1000,
                dropped,
            })
        };
        let tell = |_| {
            let now = read.load(Ordering::Relaxed) - 1;
            written.lock().unwrap().push(now);
            let next = outcomes.lock().unwrap().pop_front();
            let (wait, outcome) = next.unwrap_or((Duration::ZERO, Outcome::Stands));
            async move {
                tokio::time::sleep(wait).await;
                outcome
            }
        };
        let metrics = Metrics::default();
        let looked = look(table, tell, &metrics);
        let time = LOOK * u32::try_from(looks).unwrap();
        let _endless = tokio::time::timeout(time, looked).await;
        written.into_inner().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_was_not_written_is_written_again_and_one_that_was_an_hour_later() {
        assert_eq!(written(&[], 800).await, [1, 362, 723]);
        let refused = (Duration::ZERO, Outcome::Refused);
        assert_eq!(written(&[refused], 400).await, [1, 362]);
        let failed = |seconds| (Duration::from_secs(seconds), Outcome::Failed);
        // Each is seen to have failed at the look after it, and rests for a minute from then on.
        let again = written(&[failed(1), failed(45)], 100).await;
        assert_eq!(again, [1, 8, 19]);
    }
}
