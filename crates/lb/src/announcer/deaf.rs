//! The interfaces that should be answered on and cannot.

use std::collections::BTreeMap;
use std::io;

use crate::l2::links::Link;

/// Interfaces whose sockets could not be opened. While there is one, this node must not be elected: it would
/// own addresses that nobody answers for.
#[derive(Debug, Default)]
pub(super) struct Deaf {
    links: BTreeMap<u32, Link>,
    /// Whether any interface was tried yet.
    tried: bool,
}

impl Deaf {
    /// The interface could not be opened. Logged the first time.
    pub(super) fn failed(&mut self, link: &Link, error: &io::Error) -> Attempt {
        self.tried = true;
        if self.links.insert(link.index, link.clone()).is_some() {
            return Attempt::Again;
        }
        tracing::warn!(
            interface = %link.name, %error,
            "load-balancer addresses cannot be answered on this interface, so this node does not renew its Lease; \
             it needs CAP_NET_RAW"
        );
        Attempt::First
    }

    /// Tries again what failed and is still there, and one interface before the first renewal. Whether all is well.
    pub(super) fn hears(
        &mut self,
        listed: &[Link],
        probe: impl Fn(&Link) -> io::Result<()>,
    ) -> bool {
        let mut wanted: Vec<Link> = std::mem::take(&mut self.links).into_values().collect();
        wanted.retain(|one| listed.iter().any(|link| link.index == one.index));
        for link in &wanted {
            match probe(link) {
                Ok(()) => {
                    tracing::info!(interface = %link.name, "this interface can be answered on again");
                }
                Err(_) => {
                    self.links.insert(link.index, link.clone());
                }
            }
        }
        let first = listed.iter().find(|link| !link.prefixes.is_empty());
        if let Some(link) = first.filter(|_| !self.tried) {
            match probe(link) {
                Ok(()) => self.tried = true,
                Err(error) => {
                    self.failed(link, &error);
                }
            }
        }
        self.links.is_empty()
    }
}

/// Whether an interface failed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    First,
    Again,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32) -> Link {
        Link {
            index,
            name: format!("eth{index}"),
            mac: [2, 0, 0, 0, 0, 1],
            addresses: Vec::new(),
            prefixes: daymark_model::Cidr::parse("172.30.0.0/24")
                .into_iter()
                .collect(),
        }
    }

    fn refused(_: &Link) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    #[test]
    fn a_node_that_may_not_open_sockets_never_renews() {
        let mut deaf = Deaf::default();
        assert!(!deaf.hears(&[link(1)], refused) && !deaf.hears(&[link(1)], refused));
        assert!(deaf.hears(&[link(1)], |_| Ok(())));
    }

    #[test]
    fn an_interface_that_fails_is_told_once_and_forgotten_when_it_opens_or_goes() {
        let mut deaf = Deaf::default();
        let listed = [link(1), link(2)];
        assert!(deaf.hears(&listed, |_| Ok(())));
        let error = io::ErrorKind::PermissionDenied.into();
        assert_eq!(deaf.failed(&link(2), &error), Attempt::First);
        assert_eq!(deaf.failed(&link(2), &error), Attempt::Again);
        assert!(!deaf.hears(&listed, refused));
        assert_eq!(deaf.failed(&link(2), &error), Attempt::Again);
        assert!(deaf.hears(&listed, |_| Ok(())));
        assert_eq!(deaf.failed(&link(2), &error), Attempt::First);
        assert!(deaf.hears(&[link(1)], refused));
    }
}
