//! What one interface answers: frames and the time in, frames out. No sockets, no clock.

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

/// Answers for addresses on one interface, while it may.
#[derive(Clone, Debug)]
pub struct Responder {
    mac: Mac,
    addresses: BTreeMap<IpAddr, Announcements>,
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
    /// It asks for an address that was ours until the Lease could not be renewed.
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
            next: None,
            valid_until: Moment::default(),
        }
    }

    /// Makes these the addresses it answers for. New ones are announced from now on.
    pub fn assign(&mut self, now: Moment, addresses: &BTreeSet<IpAddr>) {
        self.addresses
            .retain(|address, _| addresses.contains(address));
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

    /// Allows it to answer until `until`. After that it is silent, whatever it was assigned.
    ///
    /// If it was silent before, everything is announced again.
    pub fn allow(&mut self, now: Moment, until: Moment) {
        if now >= self.valid_until && now < until {
            for announcements in self.addresses.values_mut() {
                *announcements = Announcements::starting(now);
            }
            self.find_next();
        }
        self.valid_until = until;
    }

    /// The answer to a frame, to be sent on the same interface.
    ///
    /// # Errors
    /// Why there is none. No frame makes it panic.
    pub fn receive(&self, now: Moment, frame: &[u8]) -> Result<Vec<u8>, Drop> {
        match frame::read(frame, self.mac)? {
            Message::ArpRequest {
                sender,
                sender_mac,
                target,
            } => {
                if self.addresses.contains_key(&IpAddr::V4(sender)) {
                    return Err(Drop::Contested);
                }
                self.owned(now, target.into())?;
                Ok(frame::arp_reply(self.mac, target, sender_mac, sender))
            }
            Message::ArpClaim { sender, .. } => {
                self.owned(now, sender.into())?;
                Err(Drop::Contested)
            }
            Message::Solicitation {
                sender,
                sender_mac,
                target,
            } => {
                self.owned(now, target.into())?;
                Ok(frame::advertisement(self.mac, target, sender_mac, sender))
            }
            Message::DuplicateProbe { target } => {
                self.owned(now, target.into())?;
                Ok(frame::unsolicited_advertisement(self.mac, target))
            }
        }
    }

    fn owned(&self, now: Moment, address: IpAddr) -> Result<(), Drop> {
        match self.addresses.contains_key(&address) {
            false => Err(Drop::NotOurs),
            true if now >= self.valid_until => Err(Drop::Fenced),
            true => Ok(()),
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
