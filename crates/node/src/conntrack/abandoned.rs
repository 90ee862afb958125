//! When the kernel's flows are looked through for connections that were abandoned with their endpoint.
//!
//! That such a connection is silent shows only by two looks; and a client may take a while to give up on an endpoint that is
//! dead. So there are several looks after an endpoint has left, each after twice the wait of the one before. Where endpoints leave
//! all the time there is one every half a minute ([`CROWDED`]).

use std::time::{Duration, Instant};

use daymark_dataplane::conntrack::HalfClosed;
use daymark_model::flows::{SILENCE, Verdicts};

/// The looks that are to come.
#[derive(Debug, Default)]
pub(super) struct Abandoned {
    watch: Option<Watch>,
}

#[derive(Debug)]
struct Watch {
    due: Instant,
    /// The wait after the next look.
    wait: Duration,
    verdicts: Verdicts,
    /// What the last look found, and when that was.
    seen: HalfClosed,
    looked: Option<Instant>,
    /// Whether somebody left since the last look.
    left: bool,
    /// For so many looks in a row somebody had left since the one before.
    crowded: usize,
}

impl Watch {
    /// The wait for the look after somebody left.
    fn first_wait(&self) -> Duration {
        if self.crowded < CROWD {
            SILENCE
        } else {
            CROWDED
        }
    }
}

impl Abandoned {
    /// Takes verdicts in that a commit has just made true.
    pub(super) fn add(&mut self, now: Instant, verdicts: &Verdicts) {
        let leaves = verdicts.concern_abandoned();
        match &mut self.watch {
            Some(watch) => {
                // Also those by which an endpoint is back.
                // Without places that are gone: else every one that ever was would stay, where endpoints leave all the time.
                watch.verdicts.extend_frontends(verdicts);
                if leaves {
                    watch.left = true;
                    watch.wait = watch.first_wait();
                    watch.due = watch.due.min(now + watch.wait);
                }
            }
            None if leaves => {
                let mut frontends = Verdicts::default();
                frontends.extend_frontends(verdicts);
                self.watch = Some(Watch {
                    due: now + SILENCE,
                    wait: SILENCE,
                    verdicts: frontends,
                    seen: HalfClosed::default(),
                    looked: None,
                    left: true,
                    crowded: 0,
                });
            }
            None => {}
        }
    }

    /// When the next look is due; `None` if nobody has left.
    pub(super) fn due(&self) -> Option<Instant> {
        self.watch.as_ref().map(|watch| watch.due)
    }

    /// Looks, if it is due. `look` is handed what the last look found, how long ago that was, and says what it found and how
    /// long it worked.
    ///
    /// # Errors
    /// The failure of `look`, which comes again after the same wait.
    pub(super) fn look<E>(
        &mut self,
        now: Instant,
        look: impl FnOnce(&Verdicts, &HalfClosed, Duration) -> Result<(HalfClosed, Duration), E>,
    ) -> Result<(), E> {
        let Some(watch) = self.watch.as_mut().filter(|watch| watch.due <= now) else {
            return Ok(());
        };
        watch.due = now + watch.wait;
        watch.crowded = if watch.left { watch.crowded + 1 } else { 0 };
        watch.left = false;
        let since = watch.looked.map_or(Duration::ZERO, |at| now - at);
        let (found, worked) = look(&watch.verdicts, &watch.seen, since)?;
        watch.seen = found;
        watch.looked = Some(now);
        watch.due = now + watch.wait.max(worked * SHARE);
        let is_last = watch.wait >= LONGEST && watch.seen.is_empty();
        watch.wait = (watch.wait * 2).min(LONGEST);
        if is_last {
            self.watch = None;
        }
        Ok(())
    }
}

/// The longest wait between two looks. Connections that are half-closed and not silent are watched on at this pace.
const LONGEST: Duration = Duration::from_secs(320);
/// Where endpoints leave all the time, looks come at this pace: an empty table costs its milliseconds too.
const CROWDED: Duration = Duration::from_secs(30);
/// After so many looks in a row before each of which somebody had left.
const CROWD: usize = 2;
/// The rest after a look, in times of its work: nothing of this is urgent.
const SHARE: u32 = 100;

#[cfg(test)]
mod tests {
    use daymark_model::flows;

    use super::super::steps::verdicts;
    use super::*;

    /// When looks come, in seconds after the first verdicts, if each finds nothing and costs nothing.
    fn looks(abandoned: &mut Abandoned, start: Instant) -> Vec<u64> {
        let mut all = Vec::new();
        while let Some(due) = abandoned.due() {
            let nothing = |_: &Verdicts, _: &HalfClosed, _| {
                Ok::<_, ()>((HalfClosed::default(), Duration::ZERO))
            };
            abandoned.look(due, nothing).expect("it went well");
            all.push((due - start).as_secs());
            assert!(all.len() < 20, "{all:?}");
        }
        all
    }

    const TWO: &[&str] = &["10.244.1.5", "10.244.1.6"];
    const ONE: &[&str] = &["10.244.1.5"];

    #[test]
    fn looks_come_after_an_endpoint_has_left_and_end() {
        let [comes, leaves] = &verdicts(&[TWO, ONE])[..] else {
            panic!("two steps")
        };
        let start = crate::clock::now();
        let mut abandoned = Abandoned::default();
        abandoned.add(start, comes);
        assert_eq!(abandoned.due(), None);
        abandoned.add(start, leaves);
        assert_eq!(looks(&mut abandoned, start), [10, 20, 40, 80, 160, 320]);
    }

    #[test]
    fn who_leaves_later_has_looks_of_his_own_and_who_is_back_is_known() {
        let [_, leaves, back] = &verdicts(&[TWO, ONE, TWO])[..] else {
            panic!("three steps")
        };
        let start = crate::clock::now();
        let second = Duration::from_secs(1);
        let mut abandoned = Abandoned::default();
        abandoned.add(start, leaves);
        let flow = flows::Flow {
            protocol: daymark_model::Protocol::Tcp,
            stage: flows::Stage::Silent(flows::Leave::EndpointHeard),
            original: "10.96.0.9:80".parse().expect("an address"),
            answers: "10.244.1.6:80".parse().expect("an address"),
        };
        let mut seen = Vec::new();
        for (at, news) in [(10, None), (20, Some(back)), (50, Some(leaves))] {
            let now = start + second * at;
            news.into_iter().for_each(|news| abandoned.add(now, news));
            let looked = abandoned.look(now, |verdicts, _, since| {
                seen.push((at, verdicts.is_stale(&flow), since));
                Ok::<_, ()>((HalfClosed::default(), Duration::ZERO))
            });
            looked.expect("it went well");
        }
        let zero = Duration::ZERO;
        let expected = [
            (10, true, zero),
            (20, false, second * 10),
            (50, true, second * 30),
        ];
        assert_eq!(seen, expected);
        assert_eq!(abandoned.due(), Some(start + second * 60));
    }

    #[test]
    fn where_endpoints_leave_all_the_time_a_look_comes_every_half_a_minute() {
        let [_, leaves] = &verdicts(&[TWO, ONE])[..] else {
            panic!("two steps")
        };
        let start = crate::clock::now();
        let mut abandoned = Abandoned::default();
        let mut looks = Vec::new();
        for second in 0..150 {
            let now = start + Duration::from_secs(second);
            abandoned.add(now, leaves);
            let looked = abandoned.look(now, |_, _, _| {
                looks.push(second);
                Ok::<_, ()>((HalfClosed::default(), Duration::ZERO))
            });
            looked.expect("it went well");
        }
        assert_eq!(looks, [10, 20, 30, 60, 90, 120]);
        // Once nobody leaves any more, the waits double again.
        let after: Vec<u64> = self::looks(&mut abandoned, start);
        assert_eq!(after, [150, 180, 240, 360, 600]);
    }

    #[test]
    fn a_look_that_fails_or_is_dear_comes_again_later() {
        let [_, leaves] = &verdicts(&[TWO, ONE])[..] else {
            panic!("two steps")
        };
        let start = crate::clock::now();
        let second = Duration::from_secs(1);
        let mut abandoned = Abandoned::default();
        abandoned.add(start, leaves);
        let failed = abandoned.look(start + SILENCE, |_, _, _| Err("no"));
        assert_eq!(failed, Err("no"));
        assert_eq!(abandoned.due(), Some(start + SILENCE * 2));
        let dear = |_: &Verdicts, _: &HalfClosed, _| Ok::<_, ()>((HalfClosed::default(), second));
        abandoned
            .look(start + SILENCE * 2, dear)
            .expect("it went well");
        assert_eq!(abandoned.due(), Some(start + SILENCE * 2 + second * SHARE));
    }
}
