//! What one interface answers: frames and the time in, frames out. No sockets, no clock.
//!
//! Until the fence, while the Lease of this node is known to be renewed, it answers at once. After it nobody knows whether
//! another node has taken over: the API may be away for all, or for this node alone. Then
//! 1. an address that somebody else claims, or answers for, is yielded, and stays so until the Lease is renewed;
//! 2. a question for any other is not answered before this node has itself asked the link for the address and heard
//!    nothing for [`LISTEN`]: the asker asks again within a second and is answered then;
//! 3. nothing is announced.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::Mac;
use super::frame::{self, Message};
use crate::moment::Moment;

/// Between two announcements of an address that was taken over. Longer than the second within which Linux
/// may keep an entry it has just learnt (`net.ipv4.neigh.*.locktime`).
pub const ANNOUNCE_EVERY: Duration = Duration::from_millis(1100);

/// How long an address that was taken over is announced.
pub const ANNOUNCE_FOR: Duration = Duration::from_secs(5);

/// How long the link may take to say that somebody else has an address.
pub const LISTEN: Duration = Duration::from_millis(200);

/// For how long the link's silence is believed.
pub const BELIEVE: Duration = Duration::from_secs(5);

/// Answers for addresses on one interface, while it may.
#[derive(Clone, Debug)]
pub struct Responder {
    mac: Mac,
    addresses: BTreeMap<IpAddr, Announcements>,
    /// What is known of addresses since the fence; nothing of those that nobody asked for.
    doubts: BTreeMap<IpAddr, Doubt>,
    /// The earliest announcement of any address: asked after every frame.
    next: Option<Moment>,
    valid_until: Moment,
}

/// When an address is announced next, and until when.
#[derive(Clone, Copy, Debug)]
struct Announcements {
    next: Option<Moment>,
    end: Moment,
}

impl Announcements {
    fn starting(now: Moment) -> Self {
        Self {
            next: Some(now),
            end: now + ANNOUNCE_FOR,
        }
    }
}

/// What is known of an address while the Lease is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// The link was asked for it then, and nobody has answered.
    Asked(Moment),
    /// Somebody else has it.
    Yielded,
}

/// What to do about a question.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stand {
    Answer,
    AskFirst,
}

/// Why a frame is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Drop {
    /// It ends too early.
    Truncated,
    /// A field has a value that it must not have.
    Malformed,
    /// It came from this interface itself.
    Own,
    /// Its hardware destination is somebody else.
    NotForUs,
    /// It asks for no address.
    NotAQuestion,
    /// A neighbour solicitation whose hop limit is not 255: it came through a router.
    Routed,
    /// The checksum is wrong.
    Checksum,
    /// It asks for an address that this node does not announce here.
    NotOurs,
    /// Somebody else claims an address that this node announces.
    Contested,
    /// It asks for an address that may be another node's since the Lease could not be renewed.
    Fenced,
}

impl Drop {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 10] = [
        Self::Truncated,
        Self::Malformed,
        Self::Own,
        Self::NotForUs,
        Self::NotAQuestion,
        Self::Routed,
        Self::Checksum,
        Self::NotOurs,
        Self::Contested,
        Self::Fenced,
    ];

    /// The reason as a metric's label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::Own => "own",
            Self::NotForUs => "not_for_us",
            Self::NotAQuestion => "not_a_question",
            Self::Routed => "routed",
            Self::Checksum => "checksum",
            Self::NotOurs => "not_ours",
            Self::Contested => "contested",
            Self::Fenced => "fenced",
        }
    }
}

impl fmt::Display for Drop {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl Responder {
    /// A responder of the interface with this hardware address. It answers for nothing yet.
    #[must_use]
    pub fn new(mac: Mac) -> Self {
        Self {
            mac,
            addresses: BTreeMap::new(),
            doubts: BTreeMap::new(),
            next: None,
            valid_until: Moment::default(),
        }
    }

    /// Makes these the addresses it answers for. New ones are announced from now on.
    pub fn assign(&mut self, now: Moment, addresses: &BTreeSet<IpAddr>) {
        self.addresses
            .retain(|address, _| addresses.contains(address));
        self.doubts.retain(|address, _| addresses.contains(address));
        for address in addresses {
            self.addresses
                .entry(*address)
                .or_insert_with(|| Announcements::starting(now));
        }
        self.find_next();
    }

    fn find_next(&mut self) {
        let all = self.addresses.values();
        self.next = all.filter_map(|announcements| announcements.next).min();
    }

    /// Allows it to answer at once until `until`, and with care after that; never, if `until` is the beginning of time.
    ///
    /// If it was not allowed before, everything is announced again.
    pub fn allow(&mut self, now: Moment, until: Moment) {
        if now >= self.valid_until && now < until {
            self.doubts.clear();
            for announcements in self.addresses.values_mut() {
                *announcements = Announcements::starting(now);
            }
            self.find_next();
        }
        self.valid_until = until;
    }

    /// The answer to a frame, or a question of its own, to be sent on the same interface.
    ///
    /// # Errors
    /// Why there is none. No frame makes it panic.
    pub fn receive(&mut self, now: Moment, frame: &[u8]) -> Result<Vec<u8>, Drop> {
        match frame::read(frame, self.mac)? {
            Message::ArpRequest {
                sender,
                sender_mac,
                target,
            } => {
                if self.addresses.contains_key(&IpAddr::V4(sender)) {
                    return Err(self.claimed(now, sender.into()));
                }
                Ok(match self.stand(now, target.into())? {
                    Stand::Answer => frame::arp_reply(self.mac, target, sender_mac, sender),
                    Stand::AskFirst => frame::arp_probe(self.mac, target),
                })
            }
            Message::ArpClaim { sender, .. } => Err(self.claimed(now, sender.into())),
            Message::Advertisement { target } => Err(self.claimed(now, target.into())),
            Message::Solicitation {
                sender,
                sender_mac,
                target,
            } => Ok(match self.stand(now, target.into())? {
                Stand::Answer => frame::advertisement(self.mac, target, sender_mac, sender),
                Stand::AskFirst => frame::duplicate_probe(self.mac, target),
            }),
            Message::DuplicateProbe { target } => Ok(match self.stand(now, target.into())? {
                Stand::Answer => frame::unsolicited_advertisement(self.mac, target),
                Stand::AskFirst => frame::duplicate_probe(self.mac, target),
            }),
        }
    }

    /// Somebody else says that it has an address.
    fn claimed(&mut self, now: Moment, address: IpAddr) -> Drop {
        if !self.addresses.contains_key(&address) {
            return Drop::NotOurs;
        }
        if now >= self.valid_until {
            self.doubts.insert(address, Doubt::Yielded);
        }
        Drop::Contested
    }

    fn stand(&mut self, now: Moment, address: IpAddr) -> Result<Stand, Drop> {
        if !self.addresses.contains_key(&address) {
            return Err(Drop::NotOurs);
        }
        if now < self.valid_until {
            return Ok(Stand::Answer);
        }
        if self.valid_until == Moment::default() {
            return Err(Drop::Fenced);
        }
        match self.doubts.get(&address) {
            Some(Doubt::Yielded) => Err(Drop::Fenced),
            Some(Doubt::Asked(at)) if now.since(*at) < LISTEN => Err(Drop::Fenced),
            Some(Doubt::Asked(at)) if now.since(*at) < BELIEVE => Ok(Stand::Answer),
            Some(Doubt::Asked(_)) | None => {
                self.doubts.insert(address, Doubt::Asked(now));
                Ok(Stand::AskFirst)
            }
        }
    }

    /// The announcements that are due, to be sent now.
    pub fn due(&mut self, now: Moment) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        if now >= self.valid_until || self.next.is_none_or(|next| next > now) {
            return frames;
        }
        for (address, announcements) in &mut self.addresses {
            if announcements.next.is_none_or(|next| next > now) {
                continue;
            }
            let next = now + ANNOUNCE_EVERY;
            announcements.next = (next <= announcements.end).then_some(next);
            match address {
                IpAddr::V4(four) => frames.extend(frame::arp_announcements(self.mac, *four)),
                IpAddr::V6(six) => frames.push(frame::unsolicited_advertisement(self.mac, *six)),
            }
        }
        self.find_next();
        frames
    }

    /// When [`Responder::due`] has something next.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        self.next.filter(|next| *next < self.valid_until)
    }
}

#[cfg(test)]
mod tests;
