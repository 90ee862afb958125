//! IPVS' virtual servers (`linux/ip_vs.h`), by generic netlink.
//!
//! daymark makes none; it lists and removes those that kube-proxy's mode ipvs left.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::attr::{DecodeError, Fields, Writer};
use crate::frame::{self, Frame};
use crate::genl::Command;

/// The name of the family.
pub const FAMILY: &str = "IPVS";

/// A virtual server, by what it is found by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum VirtualServer {
    /// Packets to an address.
    Address {
        /// `IPPROTO_*`.
        protocol: u8,
        /// The address.
        address: IpAddr,
        /// The port; 0: all.
        port: u16,
    },
    /// Packets with a mark of the firewall.
    Mark {
        /// `AF_INET` or `AF_INET6`.
        family: u16,
        /// The mark, not 0.
        mark: u32,
    },
}

/// A request about virtual servers. The family's number comes from [`crate::genl::family`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// All of them.
    List,
    /// Removes one with its real servers; the kernel answers.
    Delete(VirtualServer),
    /// Adds one without real servers, scheduled in turn (`rr`); the kernel answers.
    Insert(VirtualServer),
}

impl Request {
    /// Appends the message.
    pub fn encode(&self, out: &mut Writer, family: u16, seq: u32) {
        let (number, flags) = match self {
            Self::List => (IPVS_CMD_GET_SERVICE, frame::NLM_F_DUMP),
            Self::Delete(_) => (IPVS_CMD_DEL_SERVICE, frame::NLM_F_ACK),
            Self::Insert(_) => (IPVS_CMD_NEW_SERVICE, frame::NLM_F_ACK),
        };
        let command = Command {
            family,
            number,
            version: IPVS_GENL_VERSION,
        };
        let start = command.start(out, flags, seq);
        match self {
            Self::List => {}
            Self::Delete(server) => out.nest(IPVS_CMD_ATTR_SERVICE, |out| server.put(out)),
            Self::Insert(server) => out.nest(IPVS_CMD_ATTR_SERVICE, |out| {
                server.put(out);
                put_rest(out, server);
            }),
        }
        frame::finish(out, start);
    }
}

impl VirtualServer {
    /// Decodes one message of a list.
    ///
    /// # Errors
    /// [`DecodeError`] if it does not describe a virtual server.
    pub fn decode(frame: &Frame<'_>) -> Result<Self, DecodeError> {
        let (_, attrs) = frame.netfilter()?;
        let outer = Fields::parse("virtual server", attrs)?;
        let fields = Fields::parse("virtual server", outer.bytes(IPVS_CMD_ATTR_SERVICE)?)?;
        let half = |attr| Ok(fields.sized(attr)?.map(u16::from_ne_bytes));
        let missing = |attr| DecodeError::Missing {
            object: "virtual server",
            attr,
        };
        let family = half(IPVS_SVC_ATTR_AF)?.ok_or(missing(IPVS_SVC_ATTR_AF))?;
        if let Some(mark) = fields.sized(IPVS_SVC_ATTR_FWMARK)? {
            let mark = u32::from_ne_bytes(mark);
            return Ok(Self::Mark { family, mark });
        }
        let protocol = half(IPVS_SVC_ATTR_PROTOCOL)?.ok_or(missing(IPVS_SVC_ATTR_PROTOCOL))?;
        let unknown = |attr, value| DecodeError::Unknown {
            object: "virtual server",
            attr,
            value,
        };
        // `union nf_inet_addr`: an IPv4 address is its beginning.
        let bytes: [u8; 16] = fields
            .sized(IPVS_SVC_ATTR_ADDR)?
            .ok_or(missing(IPVS_SVC_ATTR_ADDR))?;
        let address = match family {
            AF_INET => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
            AF_INET6 => IpAddr::V6(Ipv6Addr::from(bytes)),
            other => return Err(unknown(IPVS_SVC_ATTR_AF, other.into())),
        };
        Ok(Self::Address {
            protocol: u8::try_from(protocol)
                .map_err(|_| unknown(IPVS_SVC_ATTR_PROTOCOL, protocol.into()))?,
            address,
            port: fields.opt_be16(IPVS_SVC_ATTR_PORT)?.unwrap_or_default(),
        })
    }

    fn put(&self, out: &mut Writer) {
        match *self {
            Self::Mark { family, mark } => {
                out.put(IPVS_SVC_ATTR_AF, &family.to_ne_bytes());
                out.put(IPVS_SVC_ATTR_FWMARK, &mark.to_ne_bytes());
            }
            Self::Address {
                protocol,
                address,
                port,
            } => {
                let mut bytes = [0; 16];
                let family = match address {
                    IpAddr::V4(ip) => {
                        bytes[..4].copy_from_slice(&ip.octets());
                        AF_INET
                    }
                    IpAddr::V6(ip) => {
                        bytes = ip.octets();
                        AF_INET6
                    }
                };
                out.put(IPVS_SVC_ATTR_AF, &family.to_ne_bytes());
                out.put(IPVS_SVC_ATTR_PROTOCOL, &u16::from(protocol).to_ne_bytes());
                out.put(IPVS_SVC_ATTR_ADDR, &bytes);
                out.be16(IPVS_SVC_ATTR_PORT, port);
            }
        }
    }

    const fn family(&self) -> u16 {
        match self {
            Self::Mark { family, .. } => *family,
            Self::Address {
                address: IpAddr::V4(_),
                ..
            } => AF_INET,
            Self::Address { .. } => AF_INET6,
        }
    }
}

/// What a new one has besides (`ip_vs_genl_parse_service`): no flags, no persistence.
fn put_rest(out: &mut Writer, server: &VirtualServer) {
    out.str(IPVS_SVC_ATTR_SCHED_NAME, "rr");
    // `struct ip_vs_flags`: the flags and which of them are meant.
    out.put(IPVS_SVC_ATTR_FLAGS, &[0; 8]);
    out.put(IPVS_SVC_ATTR_TIMEOUT, &0_u32.to_ne_bytes());
    // One client a host: a netmask, or the length of a prefix.
    let netmask = match server.family() {
        AF_INET => u32::MAX,
        _ => 128,
    };
    out.put(IPVS_SVC_ATTR_NETMASK, &netmask.to_ne_bytes());
}

impl fmt::Display for VirtualServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mark { mark, .. } => write!(f, "mark {mark}"),
            Self::Address {
                protocol,
                address,
                port,
            } => {
                let at = std::net::SocketAddr::new(*address, *port);
                match protocol {
                    6 => write!(f, "{at}/TCP"),
                    17 => write!(f, "{at}/UDP"),
                    132 => write!(f, "{at}/SCTP"),
                    other => write!(f, "{at}/{other}"),
                }
            }
        }
    }
}

// `linux/ip_vs.h`.
const IPVS_GENL_VERSION: u8 = 1;
const IPVS_CMD_NEW_SERVICE: u8 = 1;
const IPVS_CMD_DEL_SERVICE: u8 = 3;
const IPVS_CMD_GET_SERVICE: u8 = 4;
const IPVS_CMD_ATTR_SERVICE: u16 = 1;
const IPVS_SVC_ATTR_AF: u16 = 1;
const IPVS_SVC_ATTR_PROTOCOL: u16 = 2;
const IPVS_SVC_ATTR_ADDR: u16 = 3;
const IPVS_SVC_ATTR_PORT: u16 = 4;
const IPVS_SVC_ATTR_FWMARK: u16 = 5;
const IPVS_SVC_ATTR_SCHED_NAME: u16 = 6;
const IPVS_SVC_ATTR_FLAGS: u16 = 7;
const IPVS_SVC_ATTR_TIMEOUT: u16 = 8;
const IPVS_SVC_ATTR_NETMASK: u16 = 9;
// `linux/socket.h`.
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn servers() -> Vec<VirtualServer> {
        let at = |protocol, address: &str, port| VirtualServer::Address {
            protocol,
            address: address.parse().unwrap(),
            port,
        };
        let marked = VirtualServer::Mark {
            family: AF_INET6,
            mark: 7,
        };
        vec![
            at(6, "10.96.0.10", 443),
            at(132, "fd00::a", 9),
            at(17, "192.0.2.1", 0),
            marked,
        ]
    }

    #[test]
    fn a_virtual_server_decodes_to_itself() {
        for server in servers() {
            let mut out = Writer::new();
            Request::Insert(server).encode(&mut out, 0x1c, 3);
            let frame = frame::walk(out.bytes()).next().unwrap().unwrap();
            assert_eq!(VirtualServer::decode(&frame), Ok(server));
        }
    }

    /// As ipvsadm sends it, but for the padding of the address, which it leaves away.
    #[test]
    fn a_deletion_names_family_protocol_address_and_port() {
        let mut out = Writer::new();
        Request::Delete(servers()[0]).encode(&mut out, 0x1c, 1);
        let bytes = out.bytes();
        assert_eq!(bytes.len(), 16 + 4 + 4 + 8 + 8 + 20 + 8);
        assert_eq!(bytes[4..6], 0x1c_u16.to_ne_bytes());
        assert_eq!(bytes[6..8], 0x5_u16.to_ne_bytes(), "a request, answered");
        assert_eq!(bytes[16..20], [3, 1, 0, 0]);
        let frame = frame::walk(bytes).next().unwrap().unwrap();
        let (_, attrs) = frame.netfilter().unwrap();
        let outer = Fields::parse("test", attrs).unwrap();
        let inner = outer.bytes(IPVS_CMD_ATTR_SERVICE).unwrap();
        let fields = Fields::parse("test", inner).unwrap();
        assert_eq!(fields.bytes(IPVS_SVC_ATTR_AF), Ok(&2_u16.to_ne_bytes()[..]));
        assert_eq!(
            fields.bytes(IPVS_SVC_ATTR_PROTOCOL),
            Ok(&6_u16.to_ne_bytes()[..])
        );
        let mut address = [0; 16];
        address[..4].copy_from_slice(&[10, 96, 0, 10]);
        assert_eq!(fields.bytes(IPVS_SVC_ATTR_ADDR), Ok(&address[..]));
        assert_eq!(fields.bytes(IPVS_SVC_ATTR_PORT), Ok(&[1, 187][..]));
        assert!(!fields.has(IPVS_SVC_ATTR_SCHED_NAME));
    }

    #[test]
    fn a_server_is_shown_as_people_write_it() {
        let shown: Vec<String> = servers().iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "10.96.0.10:443/TCP",
                "[fd00::a]:9/SCTP",
                "192.0.2.1:0/UDP",
                "mark 7"
            ]
        );
    }
}
