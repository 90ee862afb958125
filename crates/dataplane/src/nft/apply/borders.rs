//! Where an update may be cut.

use daymark_netlink::nft::Message;

/// Where the messages of an update may be cut into transactions.
///
/// A table comes with its hooks in one piece or not at all, and so does a plan: its chain, rules and number.
/// Elements that change places with others of their set do so in one piece, because together they would
/// overlap. Everything else may be cut, also between two elements of one message; only the boundaries of
/// own Pods' ranges mean nothing one by one, and are too few to be cut.
#[derive(Clone, Copy, Debug)]
pub struct Borders<'a> {
    messages: &'a [Message],
    has_table: bool,
}

impl<'a> Borders<'a> {
    /// Those of an update's messages.
    #[must_use]
    pub fn of(messages: &'a [Message]) -> Self {
        let is_table = |message: &Message| {
            matches!(message, Message::NewTable { .. } | Message::DelTable { .. })
        };
        Self {
            messages,
            has_table: messages.iter().any(is_table),
        }
    }

    /// Whether a transaction may end behind this message.
    #[must_use]
    pub fn behind(&self, index: usize) -> bool {
        let is_plan = matches!(
            self.messages.get(index),
            Some(Message::NewChain { .. } | Message::NewRule { .. } | Message::DelRule { .. })
        );
        !is_plan && !changes_places(self.messages, index) && !self.has_table
    }
}

/// Whether this message removes elements and the next adds others to the same set.
fn changes_places(messages: &[Message], index: usize) -> bool {
    let (Some(first), Some(second)) = (messages.get(index), messages.get(index + 1)) else {
        return false;
    };
    match (first, second) {
        (
            Message::DelElems { table, elements },
            Message::NewElems {
                table: to,
                elements: new,
                ..
            },
        ) => table == to && elements.set == new.set,
        _ => false,
    }
}
