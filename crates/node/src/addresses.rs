//! Which addresses the machine's interfaces hold, and when that changes.

use std::net::IpAddr;
use std::sync::Arc;

use daymark_model::Change;
use futures::{StreamExt, TryStreamExt};
use netlink_packet_route::address::AddressAttribute;
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};
use thiserror::Error;

/// Why the addresses are not known.
#[derive(Debug, Error)]
pub enum AddressError {
    /// No route socket.
    #[error("cannot open a route socket: {0}")]
    Socket(#[source] std::io::Error),
    /// The dump failed.
    #[error("cannot list the addresses of this machine: {0}")]
    Dump(#[source] rtnetlink::Error),
    /// The socket has nothing more to say.
    #[error("the kernel's announcements of addresses ended")]
    Ended,
}

/// Follows the machine's addresses, loopback and link-local ones excepted: tells `changed` the list at
/// once, and again after each change. Ends when `changed` says so.
///
/// # Errors
/// If they cannot be read, or not any more.
pub async fn follow(mut changed: impl FnMut(Arc<[IpAddr]>) -> Listen) -> Result<(), AddressError> {
    let groups = [MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
    let (connection, handle, mut news) =
        new_multicast_connection(&groups).map_err(AddressError::Socket)?;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connection);
    let mut known: Option<Arc<[IpAddr]>> = None;
    loop {
        let now: Arc<[IpAddr]> = steady(&handle).await?.into();
        if known.as_ref() != Some(&now) && changed(now.clone()) == Listen::Stop {
            break;
        }
        known = Some(now);
        if news.next().await.is_none() {
            return Err(AddressError::Ended);
        }
        // One change of an interface is several messages; what is here already is one change.
        while news.try_recv().is_ok() {}
    }
    Ok(())
}

/// The Node with this address before its own, as if the object said so.
pub(crate) fn with_primary(change: Change, primary: Option<IpAddr>) -> Change {
    match (change, primary) {
        (Change::Node(Some(node)), Some(primary)) => {
            let mut node = Arc::unwrap_or_clone(node);
            node.addresses.retain(|ip| *ip != primary);
            node.addresses.insert(0, primary);
            Change::Node(Some(Arc::new(node)))
        }
        (change, _) => change,
    }
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Yes.
    On,
    /// No.
    Stop,
}

/// A list that two looks in a row agree on.
async fn steady(handle: &Handle) -> Result<Vec<IpAddr>, AddressError> {
    let mut looks = Looks::default();
    loop {
        if let Some(addresses) = looks.saw(list(handle).await?) {
            return Ok(addresses);
        }
    }
}

/// What looks at the addresses have seen. The kernel hands a long list out in parts, and while interfaces come and go in between some
/// address may be missing that is there (`NLM_F_DUMP_INTR`): its node ports would close, and flows to them be forgotten.
#[derive(Debug, Default)]
struct Looks {
    count: usize,
    last: Option<Vec<IpAddr>>,
}

impl Looks {
    /// Takes one in: what is to be believed, once it is the same as the one before. If there is no rest for long, what either of
    /// the last two saw.
    fn saw(&mut self, mut now: Vec<IpAddr>) -> Option<Vec<IpAddr>> {
        self.count += 1;
        match self.last.take() {
            Some(last) if last == now => Some(now),
            Some(last) if self.count >= MOST_LOOKS => {
                now.extend(last);
                now.sort_unstable();
                now.dedup();
                Some(now)
            }
            _ => {
                self.last = Some(now);
                None
            }
        }
    }
}

/// How often the list is read while it changes.
const MOST_LOOKS: usize = 10;

async fn list(handle: &Handle) -> Result<Vec<IpAddr>, AddressError> {
    let mut found = Vec::new();
    let mut dump = handle.address().get().execute();
    while let Some(message) = dump.try_next().await.map_err(AddressError::Dump)? {
        // IFA_LOCAL is the address itself where the link has a peer; IPv6 has IFA_ADDRESS alone.
        let local = message.attributes.iter().find_map(|a| match a {
            AddressAttribute::Local(ip) => Some(*ip),
            _ => None,
        });
        let address = message.attributes.iter().find_map(|a| match a {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        });
        found.extend(local.or(address).filter(is_of_use));
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn is_of_use(ip: &IpAddr) -> bool {
    !ip.is_loopback()
        && match ip {
            IpAddr::V4(ip) => !ip.is_link_local(),
            IpAddr::V6(ip) => !ip.is_unicast_link_local(),
        }
}

#[cfg(test)]
mod tests {
    use daymark_model::input::Node;

    use super::*;

    /// What is believed of these looks, the last of them again and again.
    fn believed(looks: &[&[&str]]) -> (Vec<String>, usize) {
        let mut count = 0;
        let mut state = Looks::default();
        loop {
            let look = looks[count.min(looks.len() - 1)];
            count += 1;
            let now = look.iter().map(|ip| ip.parse().unwrap()).collect();
            if let Some(all) = state.saw(now) {
                return (all.iter().map(IpAddr::to_string).collect(), count);
            }
        }
    }

    #[test]
    fn an_address_that_one_look_misses_is_not_gone() {
        const BOTH: &[&str] = &["192.0.2.1", "192.0.2.2"];
        const ONE: &[&str] = &["192.0.2.1"];
        let of = |all: &[&str]| all.iter().map(|ip| (*ip).to_owned()).collect::<Vec<_>>();
        assert_eq!(believed(&[BOTH]), (of(BOTH), 2));
        assert_eq!(believed(&[ONE, BOTH]), (of(BOTH), 3));
        assert_eq!(believed(&[BOTH, ONE, BOTH]), (of(BOTH), 4));
        assert_eq!(believed(&[BOTH, ONE]), (of(ONE), 3));
        let restless: Vec<&[&str]> = [BOTH, ONE].into_iter().cycle().take(20).collect();
        assert_eq!(believed(&restless), (of(BOTH), MOST_LOOKS));
    }

    #[test]
    fn a_given_primary_address_goes_before_those_of_the_node() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let node = Node {
            addresses: vec![ip("192.0.2.1"), ip("192.0.2.2")],
            ..Node::default()
        };
        let given = |primary| {
            let change = Change::Node(Some(Arc::new(node.clone())));
            match with_primary(change, primary) {
                Change::Node(Some(node)) => node.addresses.clone(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(given(None), node.addresses);
        assert_eq!(
            given(Some(ip("192.0.2.2"))),
            [ip("192.0.2.2"), ip("192.0.2.1")]
        );
        assert_eq!(given(Some(ip("192.0.2.9")))[0], ip("192.0.2.9"));
        let gone = with_primary(Change::Node(None), Some(ip("192.0.2.9")));
        assert_eq!(gone, Change::Node(None));
    }
}
