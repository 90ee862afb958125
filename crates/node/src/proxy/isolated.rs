//! What the kernel refused: said once, and tried again after waits that double.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use daymark_dataplane::nft::apply::{Why, Withheld};
use daymark_dataplane::nft::compile::{Of, Subject};
use daymark_model::{Desired, FrontendKey, Protocol, ServiceKey};

use crate::events::{Notice, Scope, Severity};

/// What is left out of the tables, and when each is tried again.
#[derive(Debug, Default)]
pub(super) struct Isolated {
    waits: BTreeMap<Subject, Wait>,
}

#[derive(Debug)]
struct Wait {
    /// The next one.
    wait: Duration,
    due: Instant,
}

/// What is new.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News {
    /// What is out, or in again.
    pub(super) subject: Subject,
    /// Why it is out; `None` if it is in the tables again, or wanted no more.
    pub(super) why: Option<Why>,
}

impl Isolated {
    /// Takes in what the plane leaves out now. What was due was tried just now.
    pub(super) fn follow(&mut self, withheld: &Withheld, now: Instant) -> Vec<News> {
        let mut news = Vec::new();
        self.waits.retain(|subject, _| {
            let stays = withheld.holds(subject);
            news.extend((!stays).then(|| News {
                subject: subject.clone(),
                why: None,
            }));
            stays
        });
        for (subject, why) in withheld.iter() {
            match self.waits.get_mut(subject) {
                Some(wait) if wait.due <= now => {
                    wait.due = now + wait.wait;
                    wait.wait = (wait.wait * 2).min(LONGEST_WAIT);
                }
                Some(_) => {}
                None => {
                    let wait = Wait {
                        wait: FIRST_WAIT * 2,
                        due: now + FIRST_WAIT,
                    };
                    self.waits.insert(subject.clone(), wait);
                    news.push(News {
                        subject: subject.clone(),
                        why: Some(why.clone()),
                    });
                }
            }
        }
        news
    }

    /// When the next is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waits.values().map(|wait| wait.due).min()
    }

    /// What is to be tried now.
    pub(super) fn ripe(&self, now: Instant) -> BTreeSet<Subject> {
        let ripe = self.waits.iter().filter(|(_, wait)| wait.due <= now);
        ripe.map(|(subject, _)| subject.clone()).collect()
    }

    /// The Services of which a port is out.
    pub(super) fn services(&self) -> BTreeSet<ServiceKey> {
        let ports = self.waits.keys().filter_map(|subject| match subject {
            Subject::Port(port) => Some(port.service.clone()),
            Subject::Address(..) => None,
        });
        ports.collect()
    }

    pub(super) fn len(&self) -> usize {
        self.waits.len()
    }
}

impl News {
    /// What the Service that it is about should be told; `None` if it is about none.
    pub(super) fn notice(&self, desired: &Desired) -> Option<Notice> {
        let about = self.service(desired)?.into();
        let subject = &self.subject;
        let (severity, reason, message) = match &self.why {
            Some(why) => (
                Severity::Warning,
                "NotProgrammed",
                format!(
                    "{subject} is not served by this node: the kernel refused {}: {}; every other Service goes on, and this \
                     is tried again with each change and at least every {} minutes",
                    why.shown,
                    why.reason,
                    LONGEST_WAIT.as_secs() / 60
                ),
            ),
            None => (
                Severity::Normal,
                "Programmed",
                format!("{subject} is served by this node again"),
            ),
        };
        Some(Notice {
            about,
            scope: Scope::Node,
            severity,
            reason,
            message,
        })
    }

    fn service(&self, desired: &Desired) -> Option<ServiceKey> {
        let ip = match &self.subject {
            Subject::Port(port) => return Some(port.service.clone()),
            Subject::Address(Of::Services | Of::Outer, ip) => *ip,
            Subject::Address(Of::LocalBackend | Of::NodePorts | Of::Spared, _) => return None,
        };
        let first = FrontendKey::Address {
            ip,
            protocol: Protocol::Tcp,
            port: 0,
        };
        let mut at_address = desired
            .frontends
            .range(first..)
            .take_while(|(at, _)| matches!(at, FrontendKey::Address { ip: of, .. } if *of == ip));
        at_address
            .next()
            .map(|(_, frontend)| frontend.port.service.clone())
    }
}

pub(super) const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
