//! Packets that the kernel refused or dropped, read from its rules when somebody asks.

use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use daymark_dataplane::nft::counts::{self, Answer, Reason};
use daymark_model::Protocol;
use daymark_sys::netlink::{NfSocket, OpenError};

/// A socket to read counters by.
#[derive(Debug)]
pub struct Refused {
    socket: Mutex<NfSocket>,
}

impl Refused {
    /// Opens the socket in the network namespace of this thread.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn open() -> Result<Self, OpenError> {
        Ok(Self {
            socket: Mutex::new(NfSocket::open()?),
        })
    }

    /// The lines for `/metrics`; none if the kernel cannot be asked.
    #[must_use]
    pub fn lines(&self) -> String {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(counts) = counts::read(&mut socket) else {
            return String::new();
        };
        let mut out = String::new();
        for (name, help, words) in [
            (
                "daymark_refused_packets",
                "Packets of new connections that were refused",
                REFUSED,
            ),
            (
                "daymark_dropped_packets",
                "Packets of new connections that were dropped",
                DROPPED,
            ),
            (
                "kubeproxy_nftables_localhost_nodeport_rejected_packets",
                "Packets to node ports on loopback that were refused because they are not served there",
                ON_LOOPBACK,
            ),
            (
                "daymark_affinity_unkept_connections",
                "New connections whose endpoint was not kept because the map of affinity is full",
                UNKEPT,
            ),
        ] {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# HELP {name} {help}.\n# TYPE {name} counter");
            for ((family, reason), packets) in &counts {
                if let Some((_, label)) = words.iter().find(|(known, _)| known == reason) {
                    let _ = writeln!(
                        out,
                        "{name}_total{{ip_family=\"{family}\"{label}}} {packets}"
                    );
                }
            }
        }
        out
    }
}

const REFUSED: &[(Reason, &str)] = &[
    (
        Reason::NoEndpoint(Answer::Reset),
        ",reason=\"no-endpoint\",answer=\"tcp-reset\"",
    ),
    (
        Reason::NoEndpoint(Answer::Icmp),
        ",reason=\"no-endpoint\",answer=\"icmp\"",
    ),
    (
        Reason::UnknownPort(Answer::Reset),
        ",reason=\"unknown-port\",answer=\"tcp-reset\"",
    ),
    (
        Reason::UnknownPort(Answer::Icmp),
        ",reason=\"unknown-port\",answer=\"icmp\"",
    ),
];
const ON_LOOPBACK: &[(Reason, &str)] = &[
    (
        Reason::RefusedOnLoopback(Protocol::Tcp),
        ",protocol=\"TCP\"",
    ),
    (
        Reason::RefusedOnLoopback(Protocol::Udp),
        ",protocol=\"UDP\"",
    ),
    (
        Reason::RefusedOnLoopback(Protocol::Sctp),
        ",protocol=\"SCTP\"",
    ),
];
const UNKEPT: &[(Reason, &str)] = &[(Reason::Unkept, "")];
const DROPPED: &[(Reason, &str)] = &[
    (Reason::NoLocalEndpoint, ",reason=\"no-local-endpoint\""),
    (Reason::SourceRange, ",reason=\"source-range\""),
    (Reason::NotTranslated, ",reason=\"not-translated\""),
    (Reason::Unallocated, ",reason=\"unallocated\""),
    (Reason::Invalid, ",reason=\"invalid\""),
    (Reason::Other, ",reason=\"other\""),
];
