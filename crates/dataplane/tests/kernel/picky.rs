//! Kernels that refuse what they are told to.

use std::cell::Cell;
use std::rc::Rc;

use daymark_dataplane::nft::apply::{CommitError, Committed, Kernel, Refusal};
use daymark_netlink::nft::{Blame, Message, Part, Ruleset, SetElem, TableId};

/// Which elements are refused: by the name of their set, and themselves.
pub(crate) type Dislike = Rc<dyn Fn(&str, &SetElem) -> bool>;

/// How much a kernel says of what it refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tells {
    /// The element, as Linux does from 5.19 on.
    Elements,
    /// The message that it is in.
    Messages,
}

/// A kernel that refuses elements, a whole transaction at a time, and says which in each message is the first.
pub(crate) struct Picky<K> {
    pub(crate) kernel: K,
    pub(crate) dislikes: Dislike,
    pub(crate) tells: Tells,
    /// How many commits were refused.
    pub(crate) refused: Rc<Cell<usize>>,
}

impl<K: Kernel> Kernel for Picky<K> {
    fn commit(&mut self, messages: &[Message]) -> Result<(), CommitError> {
        let mut blame = Vec::new();
        for (message, sent) in messages.iter().enumerate() {
            let Message::NewElems { elements, .. } = sent else {
                continue;
            };
            let mut disliked = elements.elems.iter();
            if let Some(at) = disliked.position(|elem| (self.dislikes)(&elements.set, elem)) {
                let part = match self.tells {
                    Tells::Elements => Part::Element(at),
                    Tells::Messages => Part::Whole,
                };
                blame.push(Blame { message, part });
            }
        }
        if blame.is_empty() {
            return self.kernel.commit(messages);
        }
        self.refused.set(self.refused.get() + 1);
        Err(CommitError::Refused(Box::new(Refusal {
            shown: "an element".to_owned(),
            reason: "Invalid argument (os error 22)".to_owned(),
            errno: 22,
            blame,
            committed: Committed::default(),
        })))
    }

    fn read(&mut self, table: &TableId) -> Result<Option<Ruleset>, CommitError> {
        self.kernel.read(table)
    }
}
