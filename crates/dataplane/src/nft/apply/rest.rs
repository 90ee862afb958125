//! What is left of an update after a refusal.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use daymark_netlink::nft::{Data, Elements, Message, Name, SetElem, TableId};

use super::Committed;
use crate::nft::compile::Update;
use crate::nft::layout::set;

/// Transactions that are not in the kernel yet, in order.
pub(super) type Rest = VecDeque<Vec<Message>>;

/// The stages of an update as one transaction, if it is a plain one: where three commits cost the kernel three times as
/// much. A packet reads each set as of the moment it asks. So what a packet in flight may still have to find, or must not
/// find yet, keeps commits of its own: chains (their rules are those of the moment when the packet came), members and ranges
/// (they are asked for after the frontend), and whatever is asked after routing.
pub(super) fn joined(stages: Vec<Vec<Message>>) -> Rest {
    let weight: usize = stages.iter().flatten().map(Update::weight).sum();
    if weight > JOINED || !stages.iter().flatten().all(is_plain) {
        return stages.into();
    }
    let all: Vec<Message> = stages.into_iter().flatten().collect();
    Rest::from_iter((!all.is_empty()).then_some(all))
}

/// Whether a message is about elements alone of which a packet that misses one asks again.
fn is_plain(message: &Message) -> bool {
    let [fe_a, fe_b] = set::FRONTENDS;
    let [np_a, np_b] = set::NODE_PORTS;
    let plain = [fe_a, fe_b, np_a, np_b, set::SLOTS, set::ENDPOINT_PORTS];
    elements(message).is_some_and(|list| plain.contains(&&*list.set))
}

/// More elements than this are no change of a few endpoints.
const JOINED: usize = 1_000;

/// The messages of a transaction behind those that were committed.
pub(super) fn behind(transaction: Vec<Message>, committed: Committed) -> Vec<Message> {
    let mut rest = transaction;
    rest.drain(..committed.messages.min(rest.len()));
    if let Some(first) = rest.first_mut().and_then(elements_mut) {
        let gone = committed.elements.min(first.elems.len());
        first.elems.drain(..gone);
    }
    rest
}

/// Puts transactions behind `rest` that take back some of it: what would come and go again does neither.
pub(super) fn take_back(rest: &mut Rest, back: Vec<Vec<Message>>) {
    let coming: Keys = keys(rest.iter().flatten(), |message| {
        matches!(message, Message::NewElems { .. })
    });
    let mut cancelled = keys(back.iter().flatten(), |message| {
        matches!(message, Message::DelElems { .. })
    });
    for (set, keys) in &mut cancelled {
        let coming = coming.get(set);
        keys.retain(|key| coming.is_some_and(|coming| coming.contains(key)));
    }
    let cancel = |transaction: &mut Vec<Message>, in_question: fn(&Message) -> bool| {
        for message in transaction
            .iter_mut()
            .filter(|message| in_question(message))
        {
            let table = message.table().clone();
            if let Some(list) = elements_mut(message)
                && let Some(keys) = cancelled.get(&(table, list.set.clone()))
            {
                list.elems.retain(|elem| !keys.contains(&key(elem)));
            }
        }
        transaction.retain(|message| elements(message).is_none_or(|list| !list.elems.is_empty()));
    };
    for transaction in rest.iter_mut() {
        cancel(transaction, |message| {
            matches!(message, Message::NewElems { .. })
        });
    }
    for mut transaction in back {
        cancel(&mut transaction, |message| {
            matches!(message, Message::DelElems { .. })
        });
        rest.push_back(transaction);
    }
    rest.retain(|transaction| !transaction.is_empty());
}

/// Both ends of an element, by table and set.
type Keys = BTreeMap<(TableId, Name), BTreeSet<(Data, Option<Data>)>>;

fn keys<'a>(
    messages: impl Iterator<Item = &'a Message>,
    in_question: fn(&Message) -> bool,
) -> Keys {
    let mut keys = Keys::new();
    for message in messages.filter(|message| in_question(message)) {
        if let Some(list) = elements(message) {
            let of_set = keys.entry((message.table().clone(), list.set.clone()));
            of_set.or_default().extend(list.elems.iter().map(key));
        }
    }
    keys
}

fn key(elem: &SetElem) -> (Data, Option<Data>) {
    (elem.key.clone(), elem.key_end().cloned())
}

fn elements(message: &Message) -> Option<&Elements> {
    match message {
        Message::NewElems { elements, .. } | Message::DelElems { elements, .. } => Some(elements),
        _ => None,
    }
}

fn elements_mut(message: &mut Message) -> Option<&mut Elements> {
    match message {
        Message::NewElems { elements, .. } | Message::DelElems { elements, .. } => Some(elements),
        _ => None,
    }
}
