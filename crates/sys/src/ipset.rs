//! ipsets: made and removed by their names.

use daymark_netlink::ipset::{IN_USE, Request};

use crate::netlink::{Answer, NfSocket, QueryError};

/// What became of a set that was to be removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destroyed {
    /// It is gone.
    Now,
    /// There was none of that name.
    WasNotThere,
    /// A rule or another set refers to it.
    InUse,
}

impl NfSocket {
    /// Removes a set. A kernel without ipsets has none.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn destroy_ipset(&mut self, name: &str) -> Result<Destroyed, QueryError> {
        match self.order_ipset(Request::Destroy(name)) {
            Ok(()) => Ok(Destroyed::Now),
            Err(QueryError::Refused(refusal)) => match refusal.errno {
                // EINVAL: no such subsystem (`nfnetlink_rcv_msg`).
                libc::ENOENT | libc::EINVAL => Ok(Destroyed::WasNotThere),
                IN_USE => Ok(Destroyed::InUse),
                _ => Err(QueryError::Refused(refusal)),
            },
            Err(error) => Err(error),
        }
    }

    /// Makes an empty set of IPv4 addresses.
    ///
    /// # Errors
    /// [`QueryError::Refused`], with EINVAL if the kernel has no ipsets.
    pub fn create_ipset(&mut self, name: &str) -> Result<(), QueryError> {
        self.order_ipset(Request::Create(name))
    }

    fn order_ipset(&mut self, request: Request<'_>) -> Result<(), QueryError> {
        let encode = |out: &mut _, seq| request.encode(out, seq);
        self.exchange(Answer::Ack, encode, |_| Ok(Some(())))
            .map(drop)
    }
}
