//! Statements: what a rule does rather than asks.

use super::{NFPROTO_IPV4, NFPROTO_IPV6, Printer, verdict};
use crate::nft::data::{Field, Type};
use crate::nft::expr::*;
use crate::nft::object::Family;

impl Printer<'_, '_> {
    pub(super) fn act(&mut self, expr: &Expr) {
        let text = match expr {
            Expr::Verdict(end) => verdict(end),
            Expr::Nat(nat) => self.nat(nat),
            Expr::Masq(masq) => self.port_translation("masquerade", masq.port, masq.flags),
            Expr::Redir(redir) => self.port_translation("redirect", redir.port, redir.flags),
            Expr::Reject(reject) => self.reject(*reject),
            Expr::Counter(counter) => format!(
                "counter packets {} bytes {}",
                counter.packets, counter.bytes
            ),
            Expr::Limit(limit) => limit_text(limit),
            Expr::ObjRef(object) => self.object(object),
            Expr::Log(log) => log_text(log),
            Expr::NoTrack => "notrack".to_owned(),
            Expr::Other { name, bytes } => format!("# {name} ({} bytes)", bytes.len()),
            _ => return,
        };
        self.say(text);
    }

    fn nat(&self, nat: &Nat) -> String {
        let addr = if nat.family == Family::Ip6 {
            Field::Ipv6Addr
        } else {
            Field::Ipv4Addr
        };
        // An address and its port from one map are one value.
        let target = match (nat.addr, nat.port) {
            (Some(to), Some(port)) if Some(port.min) == after(to.min, addr) => {
                let both = self
                    .registers
                    .read(to.min, &Type::concat(&[addr, Field::InetService]));
                if both.contains(" map @") {
                    both
                } else {
                    both.replacen(" . ", ":", 1)
                }
            }
            (to, port) => {
                let to = to.map(|to| self.ends(to, addr)).unwrap_or_default();
                let port = port.map(|port| format!(":{}", self.ends(port, Field::InetService)));
                to + &port.unwrap_or_default()
            }
        };
        let family = if self.family == Family::Inet {
            format!(" {}", nat.family)
        } else {
            String::new()
        };
        format!("{}{family} to {target}{}", nat.kind, words(nat.flags))
    }

    fn port_translation(&self, verb: &str, port: Option<RegRange>, flags: NatFlags) -> String {
        let port = port.map(|port| format!(" to :{}", self.ends(port, Field::InetService)));
        format!("{verb}{}{}", port.unwrap_or_default(), words(flags))
    }

    fn ends(&self, range: RegRange, field: Field) -> String {
        let kind = Type::single(field);
        let min = self.registers.read(range.min, &kind);
        if range.min == range.max {
            return min;
        }
        format!("{min}-{}", self.registers.read(range.max, &kind))
    }

    /// What `nft` takes if no reason is named is left out.
    fn reject(&self, reject: Reject) -> String {
        match reject {
            Reject::TcpReset => "reject with tcp reset".to_owned(),
            Reject::Icmpx(RejectCode::PortUnreachable) => "reject".to_owned(),
            Reject::Icmpx(code) => format!("reject with icmpx {code}"),
            Reject::Icmp(code) => match (self.network, code) {
                (Some(NFPROTO_IPV4), 3) | (Some(NFPROTO_IPV6), 4) => "reject".to_owned(),
                (Some(NFPROTO_IPV6), code) => format!("reject with icmpv6 {code}"),
                (_, code) => format!("reject with icmp {code}"),
            },
        }
    }

    fn object(&self, object: &ObjRef) -> String {
        match object {
            ObjRef::Named { kind, name } => format!("{} name \"{name}\"", kind.word()),
            ObjRef::Map { set, key } => {
                let key = self.key((self.find)(set), *key);
                format!("counter name {key} map @{set}")
            }
        }
    }
}

/// The register behind an address.
fn after(reg: Reg, addr: Field) -> Option<Reg> {
    reg.plus(if addr == Field::Ipv6Addr { 4 } else { 1 })
}

fn words(flags: NatFlags) -> String {
    let flags: Vec<_> = flags.words().collect();
    if flags.is_empty() {
        String::new()
    } else {
        format!(" {}", flags.join(","))
    }
}

/// `nft` leaves out its default: 5 packets, no bytes.
fn limit_text(limit: &Limit) -> String {
    let over = if limit.side == RangeOp::Without {
        "over "
    } else {
        ""
    };
    let (rate, unit, burst) = (limit.rate, limit.unit, limit.burst);
    match (limit.kind, burst) {
        (LimitKind::Packets, 5) => format!("limit rate {over}{rate}/{unit}"),
        (LimitKind::Packets, _) => format!("limit rate {over}{rate}/{unit} burst {burst} packets"),
        (LimitKind::Bytes, 0) => format!("limit rate {over}{rate} bytes/{unit}"),
        (LimitKind::Bytes, _) => {
            format!("limit rate {over}{rate} bytes/{unit} burst {burst} bytes")
        }
    }
}

fn log_text(log: &Log) -> String {
    let mut out = "log".to_owned();
    if let Some(prefix) = &log.prefix {
        out += &format!(" prefix \"{prefix}\"");
    }
    match log.to {
        LogTo::Kernel { level, flags } => {
            if level != LogLevel::Warning {
                out += &format!(" level {level}");
            }
            out.extend(flags.words().map(|flag| format!(" flags {flag}")));
        }
        LogTo::Group {
            group,
            snaplen,
            threshold,
        } => {
            out += &format!(" group {group}");
            out.extend(snaplen.map(|snaplen| format!(" snaplen {snaplen}")));
            if threshold != 0 {
                out += &format!(" queue-threshold {threshold}");
            }
        }
    }
    out
}
