//! What became of a packet, as far as it can be seen from outside.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use daymark_lab::bare::{Outcome, Place, Refusal};

/// What many connections with the same packet met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The endpoints reached, with the source that each saw.
    pub(crate) reached: BTreeSet<(SocketAddr, IpAddr)>,
    /// Everything else that happened.
    pub(crate) ends: BTreeSet<End>,
}

/// How a packet ends that reaches no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// Refused: by a reset or by ICMP, which a client cannot tell apart.
    Refused,
    /// Nobody answered.
    Dropped,
    /// It arrived where it was sent to, as if there were no Services.
    Untouched,
    /// Refused in a way that no proxy's rules ask for.
    Other(String),
}

impl Seen {
    /// Adds what became of one connection that was sent to `to`.
    pub(crate) fn add(&mut self, to: SocketAddr, outcome: Outcome) {
        match outcome {
            Outcome::Reached(answer)
                if answer.place == Place::Fabric || answer.arrived_at == to =>
            {
                self.ends.insert(End::Untouched);
            }
            Outcome::Reached(answer) => {
                self.reached.insert((answer.arrived_at, answer.source.ip()));
            }
            Outcome::Refused(Refusal::TcpReset | Refusal::PortUnreachable) => {
                self.ends.insert(End::Refused);
            }
            Outcome::Refused(other) => {
                self.ends.insert(End::Other(format!("{other:?}")));
            }
            Outcome::Timeout => {
                self.ends.insert(End::Dropped);
            }
        }
    }

    /// Whether the packet ended so, always.
    pub(crate) fn is_always(&self, end: &End) -> bool {
        self.reached.is_empty() && self.ends.len() == 1 && self.ends.contains(end)
    }

    /// The endpoint that it reached, always, and the source that this one saw.
    pub(crate) fn only(&self) -> Option<(SocketAddr, IpAddr)> {
        let first = self.reached.first().copied();
        first.filter(|_| self.reached.len() == 1 && self.ends.is_empty())
    }

    /// What became of it, in a word.
    pub(crate) fn verdict(&self) -> &'static str {
        let mut ends = self.ends.iter();
        match (self.reached.is_empty(), ends.next(), ends.next()) {
            (false, None, _) => "reached",
            (true, Some(End::Refused), None) => "refused",
            (true, Some(End::Dropped), None) => "dropped",
            (true, Some(End::Untouched), None) => "untouched",
            _ => "mixed",
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reached = self
            .reached
            .iter()
            .map(|(at, source)| format!("{at} from {source}"));
        let ends = self.ends.iter().map(|end| match end {
            End::Refused => "refused".to_owned(),
            End::Dropped => "dropped".to_owned(),
            End::Untouched => "untouched".to_owned(),
            End::Other(what) => what.clone(),
        });
        let all: Vec<String> = reached.chain(ends).collect();
        out.write_str(&all.join(", "))
    }
}
