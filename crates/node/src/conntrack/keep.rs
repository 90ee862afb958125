//! The thread goes on after a panic.
//!
//! What waited for a look waits still, and the plane judges every frontend anew ([`Order::JudgeFlows`]): that a look was half done, or
//! that something was lost with it, makes no difference. The waits between such falls double, and each is counted.

use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use tracing::error;

use super::{Looks, Told};
use crate::clock;
use crate::metrics::Metrics;
use crate::panics::caught;
use crate::proxy::Order;

/// Works until nobody tells anything any more. `work` takes the inbox in and looks; that it ends is the end.
pub(super) fn keep(
    inbox: &Receiver<Told>,
    (orders, metrics): (&Sender<Order>, &Metrics),
    mut work: impl FnMut(&Receiver<Told>, &mut Looks) -> Result<(), String>,
) {
    let mut looks = Looks::default();
    let mut falls = Falls::default();
    while let Err(why) = caught(|| work(inbox, &mut looks)).and_then(|done| done) {
        let wait = falls.another(clock::now());
        error!(
            why,
            ?wait,
            "the thread that forgets flows of endpoints that left begins anew"
        );
        metrics.conntrack_fell(format!("its thread begins anew in {wait:?}: {why}"));
        thread::sleep(wait);
        looks = looks.anew(clock::now());
        metrics.set_conntrack_failure(None);
        // Nobody takes it once the plane's thread has ended, and then the inbox ends too.
        let _ = orders.send(Order::JudgeFlows);
    }
}

/// When it fell.
#[derive(Debug, Default)]
struct Falls {
    last: Option<(Instant, Duration)>,
}

impl Falls {
    /// The wait after another fall.
    fn another(&mut self, now: Instant) -> Duration {
        let lately = self.last.filter(|(at, _)| now < *at + CALM);
        let wait = lately.map_or(FIRST_WAIT, |(_, wait)| (wait * 2).min(LONGEST_WAIT));
        self.last = Some((now, wait));
        wait
    }
}

/// Short: UDP clients of endpoints that left wait meanwhile.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// After so long without one, a fall is a first one.
const CALM: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use daymark_dataplane::conntrack::Which;
    use daymark_model::Protocol;
    use daymark_model::flows::Verdicts;

    use super::super::{gather, steps};
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_until_it_was_calm() {
        let (mut falls, start) = (Falls::default(), clock::now());
        let mut at = |seconds| {
            falls
                .another(start + Duration::from_secs(seconds))
                .as_millis()
        };
        let waits: Vec<u128> = (0..12).map(&mut at).collect();
        assert_eq!(
            waits,
            [
                100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000
            ]
        );
        assert_eq!(at(11 + 601), 100);
    }

    /// Panics in the middle of its first looks; what they were for is looked for all the same, and every frontend is judged anew.
    #[test]
    fn a_look_that_panics_is_done_again_and_counted() {
        let (sender, inbox) = channel();
        let (orders, ordered) = channel();
        let metrics = Metrics::default();
        let (udp, tcp) = (
            steps::lost(Protocol::Udp, 53),
            steps::lost(Protocol::Tcp, 80),
        );
        let mut sender = Some(sender);
        for verdicts in [&udp, &tcp] {
            let told = Told {
                at: clock::now(),
                verdicts: verdicts.clone(),
            };
            sender
                .as_ref()
                .expect("not gone yet")
                .send(told)
                .expect("taken");
        }
        let (mut left, mut failures, mut all) = (3, Vec::new(), Vec::new());
        keep(&inbox, (&orders, &metrics), |inbox, looks| {
            while gather(inbox, looks).is_ok() {
                let done = looks
                    .pending
                    .look(clock::now(), |verdicts: &Verdicts, which| {
                        if left > 0 {
                            left -= 1;
                            panic!("no such flow");
                        }
                        all.push((verdicts.clone(), which));
                        Ok::<_, ()>(())
                    });
                done.expect("no error");
                failures.push(metrics.conntrack_failure());
                if all.len() == 2 {
                    sender = None;
                }
            }
            Ok(())
        });
        let mut both = udp.clone();
        both.extend(tcp);
        assert_eq!(
            all,
            [(both.clone(), Which::Datagrams), (both, Which::Connections)]
        );
        assert_eq!(failures, [None, None]);
        let judged = ordered.try_iter();
        let judged = judged.filter(|order| matches!(order, Order::JudgeFlows));
        assert_eq!(judged.count(), 3);
        let text = metrics.families();
        assert!(
            text.contains("daymark_conntrack_restarts_total 3\n"),
            "{text}"
        );
    }
}
