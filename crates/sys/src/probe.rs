//! What this thread may do and this kernel can: capabilities, release, nf_tables features.
//!
//! A probe of nf_tables is a transaction that always fails: its last message deletes a table that cannot exist.
//! What else the kernel refuses in it is the answer, and nothing is changed, not even for a moment.

use std::fmt;
use std::io;

use daymark_netlink::nft::{
    BaseChain, Chain, ChainKind, ChainType, Data, Exists, Expr, Family, Field, Hook, Masq, Message,
    Nat, NatFlags, NatKind, Place, Policy, Reg, Rule, Set, SetKind, Table, TableFlags, TableId,
    Transaction,
};
use rustix::thread::{CapabilitySet, capabilities};

use crate::netlink::{NfSocket, TransactError};

/// The answer to a probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It works.
    Yes,
    /// It does not.
    No {
        /// What the kernel said.
        why: String,
        /// What an operator can do about it.
        remedy: &'static str,
    },
}

impl Answer {
    /// Whether it works.
    #[must_use]
    pub const fn is_yes(&self) -> bool {
        matches!(self, Self::Yes)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes => f.write_str("yes"),
            Self::No { why, remedy } => write!(f, "no: {why}; {remedy}"),
        }
    }
}

/// The effective capabilities of this thread (`capget(2)`): valid in its user namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities(CapabilitySet);

impl Capabilities {
    /// Those of this thread.
    ///
    /// # Errors
    /// As `capget(2)`.
    pub fn of_this_thread() -> io::Result<Self> {
        Ok(Self(capabilities(None)?.effective))
    }

    /// Network configuration, nf_tables, raw netlink (`CAP_NET_ADMIN`).
    #[must_use]
    pub fn net_admin(self) -> Answer {
        self.has(
            CapabilitySet::NET_ADMIN,
            "CAP_NET_ADMIN is missing",
            NET_ADMIN_REMEDY,
        )
    }

    /// Packet sockets and raw sockets (`CAP_NET_RAW`).
    #[must_use]
    pub fn net_raw(self) -> Answer {
        let remedy = "run as root, give the container CAP_NET_RAW, or use a user namespace";
        self.has(CapabilitySet::NET_RAW, "CAP_NET_RAW is missing", remedy)
    }

    /// Namespaces and mounts (`CAP_SYS_ADMIN`).
    #[must_use]
    pub fn sys_admin(self) -> Answer {
        let remedy = "run as root, or allow unprivileged user namespaces (kernel.unprivileged_userns_clone=1, user.max_user_namespaces>0)";
        self.has(CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN is missing", remedy)
    }

    /// Ports below 1024 (`CAP_NET_BIND_SERVICE`).
    #[must_use]
    pub fn net_bind_service(self) -> Answer {
        let remedy =
            "give the process CAP_NET_BIND_SERVICE, or set net.ipv4.ip_unprivileged_port_start";
        self.has(
            CapabilitySet::NET_BIND_SERVICE,
            "CAP_NET_BIND_SERVICE is missing",
            remedy,
        )
    }

    fn has(self, wanted: CapabilitySet, why: &str, remedy: &'static str) -> Answer {
        if self.0.contains(wanted) {
            return Answer::Yes;
        }
        Answer::No {
            why: why.to_owned(),
            remedy,
        }
    }
}

/// A kernel release, such as 6.1 of `6.1.0-18-amd64`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Release {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

impl Release {
    /// The release of the running kernel; `None` if its text has another form.
    #[must_use]
    pub fn running() -> Option<Self> {
        Self::parse(&rustix::system::uname().release().to_string_lossy())
    }

    /// The release in the text of `uname -r`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit());
        let mut next = || numbers.next()?.parse().ok();
        Some(Self {
            major: next()?,
            minor: next()?,
        })
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Whether this thread can translate addresses with nf_tables in its network namespace: maps, nat chains,
/// dnat and masquerade.
///
/// # Errors
/// [`TransactError`] if the question could not be asked; a refusal is an [`Answer::No`].
pub fn nft_nat(socket: &mut NfSocket) -> Result<Answer, TransactError> {
    let table = TableId::new(Family::Inet, PROBE);
    let slots = Set::new("slots", Field::Mark, SetKind::Map(Field::Ipv4Addr.into()));
    let mut messages = vec![
        Message::NewTable {
            table: Table::new(table.clone()),
            exists: Exists::Keep,
        },
        Message::NewSet {
            table: table.clone(),
            set: slots,
            exists: Exists::Keep,
        },
    ];
    let dnat = vec![
        Expr::Immediate {
            dreg: Reg::R0,
            data: Data::new(&[127, 0, 0, 1]),
        },
        Expr::Nat(Nat {
            kind: NatKind::Dnat,
            family: Family::Ip,
            addr: Some(Reg::R0.into()),
            port: None,
            flags: NatFlags::NONE,
        }),
    ];
    let masquerade = vec![Expr::Masq(Masq::default())];
    for (name, hook, exprs) in [
        ("in", Hook::Prerouting, dnat),
        ("out", Hook::Postrouting, masquerade),
    ] {
        let base = BaseChain {
            kind: ChainType::Nat,
            hook,
            priority: 0,
            policy: Policy::Accept,
            device: None,
        };
        let chain = Chain {
            name: name.into(),
            kind: ChainKind::Base(base),
            comment: None,
        };
        messages.push(Message::NewChain {
            table: table.clone(),
            chain,
            exists: Exists::Keep,
        });
        let rule = Rule::new(name, exprs);
        messages.push(Message::NewRule {
            table: table.clone(),
            rule,
            place: Place::Last,
        });
    }
    ask(socket, messages, NAT_REMEDY)
}

/// Whether a table can be owned and yet outlive its owner (Linux 6.9).
///
/// # Errors
/// [`TransactError`] if the question could not be asked; a refusal is an [`Answer::No`].
pub fn persistent_owner(socket: &mut NfSocket) -> Result<Answer, TransactError> {
    let flags = TableFlags::OWNER | TableFlags::PERSIST;
    let table = Table {
        flags,
        ..Table::new(TableId::new(Family::Inet, PROBE))
    };
    let messages = vec![Message::NewTable {
        table,
        exists: Exists::Keep,
    }];
    ask(
        socket,
        messages,
        "use Linux 6.9 or newer; without it foreign changes are found and repaired",
    )
}

/// Sends messages and a last one that fails; the first other refusal is the answer.
fn ask(
    socket: &mut NfSocket,
    mut messages: Vec<Message>,
    remedy: &'static str,
) -> Result<Answer, TransactError> {
    let sentinel = messages.len();
    messages.push(Message::DelTable {
        table: TableId::new(Family::Inet, NEVER),
    });
    let transaction = Transaction::of(&messages).expect("probes are short");
    let refusals = match socket.transact(transaction.bytes()) {
        Err(TransactError::Refused { refusals, .. }) => refusals,
        Err(other) => return Err(other),
        Ok(()) => Vec::new(),
    };
    let real = refusals.iter().find(|refusal| {
        let blame = transaction.blame(refusal.seq, refusal.offset);
        blame.is_none_or(|blame| blame.message != sentinel)
    });
    Ok(match real {
        None => Answer::Yes,
        Some(refusal) if refusal.errno == libc::EPERM => Answer::No {
            why: refusal.to_string(),
            remedy: NET_ADMIN_REMEDY,
        },
        Some(refusal) => Answer::No {
            why: refusal.to_string(),
            remedy,
        },
    })
}

const NET_ADMIN_REMEDY: &str =
    "run as root, give the container CAP_NET_ADMIN, or use a user namespace";
const NAT_REMEDY: &str = "load the kernel modules nf_tables, nft_chain_nat, nft_nat and nft_masq, or use a kernel that has them";
/// The table of a probe; it never comes to be.
const PROBE: &str = "daymark-probe";
/// A table that nobody makes.
const NEVER: &str = "daymark-probe-that-never-exists";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_its_first_two_numbers() {
        let cases = [
            ("6.1.0-18-amd64", Some((6, 1))),
            ("6.18.44-fc-v657", Some((6, 18))),
            ("5.15-rc3", Some((5, 15))),
            ("7.0", Some((7, 0))),
            ("4", None),
            ("", None),
            ("linux", None),
        ];
        for (text, expected) in cases {
            let found = Release::parse(text).map(|release| (release.major, release.minor));
            assert_eq!(found, expected, "{text}");
        }
        assert!(
            Release {
                major: 6,
                minor: 10
            } > Release { major: 6, minor: 9 }
        );
    }

    #[test]
    fn the_running_kernel_has_a_release() {
        assert!(Release::running().is_some());
    }

    #[test]
    fn a_missing_capability_names_its_remedy() {
        let answer = Capabilities(CapabilitySet::empty()).net_admin();
        assert!(
            answer
                .to_string()
                .contains("give the container CAP_NET_ADMIN"),
            "{answer}"
        );
        assert!(Capabilities(CapabilitySet::NET_ADMIN).net_admin().is_yes());
    }
}
