//! Kernels with less room than they were asked for.

use daymark_dataplane::nft::apply::{CommitError, Kernel};
use daymark_netlink::nft::{Message, Ruleset, TableId};

/// A kernel whose set of one name is made smaller than it was asked for: it is full sooner, and the real kernel says so.
pub(crate) struct Narrow<K> {
    pub(crate) kernel: K,
    pub(crate) set: &'static str,
    pub(crate) size: u32,
}

impl<K: Kernel> Kernel for Narrow<K> {
    fn commit(&mut self, messages: &[Message]) -> Result<(), CommitError> {
        let mut messages = messages.to_vec();
        for message in &mut messages {
            if let Message::NewSet { set, .. } = message
                && *set.name == *self.set
            {
                set.size = Some(self.size);
            }
        }
        self.kernel.commit(&messages)
    }

    fn read(&mut self, table: &TableId) -> Result<Option<Ruleset>, CommitError> {
        self.kernel.read(table)
    }
}
