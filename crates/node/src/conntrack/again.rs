//! Verdicts about flows that the kernel would not give up, for one later look.
//!
//! A flow that a flowtable forwards (`flow add` of a ruleset that is not ours) passes conntrack by, and kernels before 6.4 and 6.1.32 (commit
//! 9b7c68b3911a) do not let it be removed while it does (EBUSY). The flowtable lets it go after half a minute without a packet, or when the connection ends. So it is
//! looked for once more after that, and no more: a client that never pauses keeps its flow for as long as it likes, and to
//! look for it all the time would help nobody.

use std::time::{Duration, Instant};

use daymark_dataplane::conntrack::Which;
use daymark_model::flows::Verdicts;

/// What is to be looked at once more.
#[derive(Debug, Default)]
pub(super) struct Again {
    /// And when.
    next: Option<(Instant, Verdicts)>,
    /// What came since, for the look after the next: each waits for [`LATER`] at least.
    then: Option<Verdicts>,
}

impl Again {
    /// Takes the verdicts of a look in that met such flows.
    pub(super) fn keep(&mut self, now: Instant, verdicts: &Verdicts) {
        let verdicts = verdicts.clone();
        match (&self.next, &mut self.then) {
            (None, _) => self.next = Some((now + LATER, verdicts)),
            (Some(_), Some(then)) => then.extend(verdicts),
            (Some(_), then) => *then = Some(verdicts),
        }
    }

    /// What may go on since a commit may go on here: an endpoint may be back.
    pub(super) fn soften(&mut self, newer: &Verdicts) {
        let next = self.next.as_mut().map(|(_, verdicts)| verdicts);
        for verdicts in next.into_iter().chain(&mut self.then) {
            verdicts.soften(newer);
        }
    }

    /// When the next look is due; `None` if there is nothing to look for.
    pub(super) fn due(&self) -> Option<Instant> {
        self.next.as_ref().map(|(due, _)| *due)
    }

    /// Looks for every kind of flow, if that is due. What it fails for is looked at again, as late.
    ///
    /// # Errors
    /// The failure of `look`.
    pub(super) fn look<E>(
        &mut self,
        now: Instant,
        mut look: impl FnMut(&Verdicts, Which) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some((_, verdicts)) = self.next.as_ref().filter(|(due, _)| *due <= now) else {
            return Ok(());
        };
        let looked =
            look(verdicts, Which::Datagrams).and_then(|()| look(verdicts, Which::Connections));
        // Not before: a look that panics leaves them.
        let verdicts = self.take(now);
        if let Some(verdicts) = verdicts.filter(|_| looked.is_err()) {
            self.keep(now, &verdicts);
        }
        looked
    }

    /// All of it, as one.
    pub(super) fn into_verdicts(self) -> Verdicts {
        let next = self.next.map(|(_, verdicts)| verdicts);
        let mut all = Verdicts::default();
        for verdicts in next.into_iter().chain(self.then) {
            all.extend(verdicts);
        }
        all
    }

    /// The verdicts whose look is due. They are handed out once.
    fn take(&mut self, now: Instant) -> Option<Verdicts> {
        let (_, verdicts) = self.next.take_if(|(due, _)| *due <= now)?;
        self.next = self.then.take().map(|then| (now + LATER, then));
        Some(verdicts)
    }
}

/// Longer than a flowtable keeps what is silent (`NF_FLOW_TIMEOUT` of `nf_flow_table.h`, 30 s), with the second or so that
/// its collector takes.
const LATER: Duration = Duration::from_secs(35);

#[cfg(test)]
mod tests {
    use daymark_model::flows::{Flow, Stage};

    use super::super::steps::verdicts;
    use super::*;

    const TWO: &[&str] = &["10.244.1.5", "10.244.1.6"];
    const ONE: &[&str] = &["10.244.1.5"];

    fn goes(verdicts: &Verdicts) -> bool {
        verdicts.is_stale(&Flow {
            protocol: daymark_model::Protocol::Tcp,
            stage: Stage::Opening,
            original: "10.96.0.9:80".parse().expect("an address"),
            answers: "10.244.1.6:80".parse().expect("an address"),
        })
    }

    #[test]
    fn each_is_looked_for_once_and_not_before_its_time() {
        let [_, leaves] = &verdicts(&[TWO, ONE])[..] else {
            panic!("two steps")
        };
        let start = crate::clock::now();
        let second = Duration::from_secs(1);
        let mut again = Again::default();
        assert_eq!((again.due(), again.take(start)), (None, None));
        again.keep(start, leaves);
        // Those that come meanwhile wait as long, and together.
        again.keep(start + second, leaves);
        again.keep(start + second * 2, leaves);
        assert_eq!(again.take(start + LATER - second), None);
        assert_eq!(again.due(), Some(start + LATER));
        assert_eq!(again.take(start + LATER).as_ref(), Some(leaves));
        assert_eq!(again.due(), Some(start + LATER * 2));
        assert_eq!(again.take(start + LATER * 2).as_ref(), Some(leaves));
        assert_eq!((again.due(), again.take(start + LATER * 9)), (None, None));
    }

    #[test]
    fn an_endpoint_that_is_back_keeps_its_flow() {
        let [_, leaves, back] = &verdicts(&[TWO, ONE, TWO])[..] else {
            panic!("three steps")
        };
        let start = crate::clock::now();
        let mut again = Again::default();
        again.keep(start, leaves);
        again.keep(start, leaves);
        assert!(goes(leaves));
        again.soften(back);
        for due in [start + LATER, start + LATER * 2] {
            let verdicts = again.take(due).expect("it is due");
            assert!(!goes(&verdicts));
        }
    }
    #[test]
    fn a_look_is_for_every_kind_and_comes_again_if_it_fails() {
        let [_, leaves] = &verdicts(&[TWO, ONE])[..] else {
            panic!("two steps")
        };
        let start = crate::clock::now();
        let mut again = Again::default();
        again.keep(start, leaves);
        let failed = again.look(start + LATER, |_, _| Err("no"));
        assert_eq!((failed, again.due()), (Err("no"), Some(start + LATER * 2)));
        let mut asked = Vec::new();
        let looked = again.look(start + LATER * 2, |_, which| {
            asked.push(which);
            Ok::<_, ()>(())
        });
        assert_eq!((looked, again.due()), (Ok(()), None));
        assert_eq!(asked, [Which::Datagrams, Which::Connections]);
    }
}
