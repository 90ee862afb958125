//! What the zone says to a question, before it becomes a message.

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record};

/// The zone's decision about a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The name is not the zone's: ask an upstream.
    Elsewhere,
    /// The name is the zone's, and nothing is known yet: SERVFAIL.
    NotReady,
    /// The answer, authoritative.
    Answer(Answer),
    /// The name is an alias for one outside of the zone: ask an upstream about the target.
    Alias {
        /// The CNAME records from the question's name to the target, in order.
        chain: Vec<Record>,
        /// Where they end.
        target: Name,
        /// The SOA record for the case that nothing is found there.
        soa: Box<Record>,
    },
}

/// An authoritative answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// NOERROR, NXDOMAIN or REFUSED.
    pub code: ResponseCode,
    /// The records asked for.
    pub answers: Vec<Record>,
    /// The SOA record of a negative answer (RFC 2308).
    pub soa: Option<Box<Record>>,
    /// Addresses of the targets in `answers`.
    pub additionals: Vec<Record>,
}

impl Answer {
    pub(super) fn records(answers: Vec<Record>, additionals: Vec<Record>) -> Self {
        Self {
            code: ResponseCode::NoError,
            answers,
            soa: None,
            additionals,
        }
    }

    pub(super) fn no_data(soa: Record) -> Self {
        Self::negative(ResponseCode::NoError, soa)
    }

    pub(super) fn no_name(soa: Record) -> Self {
        Self::negative(ResponseCode::NXDomain, soa)
    }

    fn negative(code: ResponseCode, soa: Record) -> Self {
        Self {
            code,
            answers: Vec::new(),
            soa: Some(Box::new(soa)),
            additionals: Vec::new(),
        }
    }
}

/// Makes records of one TTL.
#[derive(Clone, Copy, Debug)]
pub(super) struct Maker {
    pub(super) ttl: u32,
    pub(super) serial: u32,
}

impl Maker {
    pub(super) fn address(self, name: &Name, address: IpAddr) -> Record {
        let data = match address {
            IpAddr::V4(four) => RData::A(A(four)),
            IpAddr::V6(six) => RData::AAAA(AAAA(six)),
        };
        self.record(name, data)
    }

    pub(super) fn srv(self, name: &Name, weight: u16, port: u16, target: Name) -> Record {
        self.record(name, RData::SRV(SRV::new(0, weight, port, target)))
    }

    pub(super) fn cname(self, name: &Name, target: Name) -> Record {
        self.record(name, RData::CNAME(CNAME(target)))
    }

    pub(super) fn ptr(self, name: &Name, target: Name) -> Record {
        self.record(name, RData::PTR(PTR(target)))
    }

    pub(super) fn ns(self, name: &Name, target: Name) -> Record {
        self.record(name, RData::NS(NS(target)))
    }

    /// The version record's TTL is fixed by the specification's example.
    pub(super) fn version(self, name: &Name) -> Record {
        Record::from_rdata(
            name.clone(),
            28_800,
            RData::TXT(TXT::new(vec!["1.1.0".to_owned()])),
        )
    }

    /// The SOA record of a zone, with its suffix in the question's case.
    pub(super) fn soa(self, zone: &Name, ns: Name) -> Record {
        let mail = prefixed("hostmaster", zone).unwrap_or_else(|| zone.clone());
        let soa = SOA::new(ns, mail, self.serial, 7200, 1800, 86_400, self.ttl);
        Record::from_rdata(zone.clone(), self.ttl.min(300), RData::SOA(soa))
    }

    fn record(self, name: &Name, data: RData) -> Record {
        Record::from_rdata(name.clone(), self.ttl, data)
    }
}

/// `label.name`, unless that is too long for a name.
pub(super) fn prefixed(label: &str, name: &Name) -> Option<Name> {
    name.prepend_label(label.as_bytes()).ok()
}
