//! Upstream answers for as long as they say, within bounds.

use std::collections::HashMap;
use std::time::Instant;

use super::{Answer, Question, packet};

/// Whole answers by question.
#[derive(Debug)]
pub(super) struct Cache {
    entries: HashMap<Question, Entry>,
    limit: usize,
}

#[derive(Debug)]
struct Entry {
    answer: Answer,
    since: Instant,
    /// Seconds.
    lifetime: u32,
}

impl Cache {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            entries: HashMap::new(),
            limit,
        }
    }

    /// The answer to a question, aged, if it is still good.
    pub(super) fn find(&mut self, question: &Question, now: Instant) -> Option<Answer> {
        let entry = self.entries.get(question)?;
        let seconds =
            u32::try_from(now.saturating_duration_since(entry.since).as_secs()).unwrap_or(u32::MAX);
        if seconds >= entry.lifetime {
            self.entries.remove(question);
            return None;
        }
        let mut answer = entry.answer.to_vec();
        packet::age(&mut answer, &packet::layout(&entry.answer)?, seconds);
        Some(answer.into())
    }

    /// Keeps an answer, unless it is cut, an error, too large, or says that it must not be kept.
    pub(super) fn keep(&mut self, question: Question, answer: &Answer, now: Instant) {
        let code = answer[3] & 0xf;
        let is_final = matches!(code, NOERROR | NXDOMAIN) && answer[2] & packet::TRUNCATED == 0;
        if !is_final || answer.len() > LARGEST || self.limit == 0 {
            return;
        }
        let Some(lifetime) =
            packet::layout(answer).and_then(|layout| packet::lifetime(answer, &layout))
        else {
            return;
        };
        let lifetime = lifetime.min(LONGEST);
        if lifetime == 0 {
            return;
        }
        self.make_room(now);
        self.entries.insert(
            question,
            Entry {
                answer: Answer::clone(answer),
                since: now,
                lifetime,
            },
        );
    }

    /// Takes out what is over, or else any one entry.
    fn make_room(&mut self, now: Instant) {
        if self.entries.len() < self.limit {
            return;
        }
        self.entries.retain(|_, entry| {
            now.saturating_duration_since(entry.since).as_secs() < entry.lifetime.into()
        });
        if self.entries.len() >= self.limit
            && let Some(victim) = self.entries.keys().next().cloned()
        {
            self.entries.remove(&victim);
        }
    }
}

/// Seconds that an answer is kept at most, as in kubeadm's CoreDNS (`cache 30`).
const LONGEST: u32 = 30;
/// Bytes of the largest answer that is kept.
const LARGEST: usize = 2048;
const NOERROR: u8 = 0;
const NXDOMAIN: u8 = 3;
