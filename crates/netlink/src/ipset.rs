//! ipsets by name (`linux/netfilter/ipset/ip_set.h`): made empty, and removed.

use crate::attr::Writer;
use crate::frame::{self, Header};

/// A request about one set; the kernel answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request<'a> {
    /// Removes the set and what is in it. ENOENT if there is none, [`IN_USE`] if a rule or another set refers to it.
    Destroy(&'a str),
    /// Makes a set of IPv4 addresses, `hash:ip`; EEXIST if there is one of that name.
    Create(&'a str),
}

impl Request<'_> {
    /// Appends the message.
    pub fn encode(&self, out: &mut Writer, seq: u32) {
        let (kind, name) = match self {
            Self::Destroy(name) => (IPSET_CMD_DESTROY, name),
            Self::Create(name) => (IPSET_CMD_CREATE, name),
        };
        let header = Header {
            kind: SUBSYS_IPSET << 8 | kind,
            // Without NLM_F_EXCL a set that is not there is none to complain of (`flag_exist`).
            flags: frame::NLM_F_REQUEST | frame::NLM_F_ACK | frame::NLM_F_EXCL,
            seq,
            port: 0,
        };
        let start = frame::start(out, header, AF_INET, 0);
        out.u8(IPSET_ATTR_PROTOCOL, IPSET_PROTOCOL_MIN);
        out.str(IPSET_ATTR_SETNAME, name);
        if let Self::Create(_) = self {
            out.str(IPSET_ATTR_TYPENAME, "hash:ip");
            out.u8(IPSET_ATTR_REVISION, 0);
            out.u8(IPSET_ATTR_FAMILY, AF_INET);
            out.nest(IPSET_ATTR_DATA, |_| ());
        }
        frame::finish(out, start);
    }
}

/// `IPSET_ERR_BUSY`: an errno of this subsystem's own.
pub const IN_USE: i32 = 4100;

/// `NFNL_SUBSYS_IPSET`.
const SUBSYS_IPSET: u16 = 6;
/// The protocol of every kernel since 2.6.39.
const IPSET_PROTOCOL_MIN: u8 = 6;
const IPSET_CMD_CREATE: u16 = 2;
const IPSET_CMD_DESTROY: u16 = 3;
const IPSET_ATTR_PROTOCOL: u16 = 1;
const IPSET_ATTR_SETNAME: u16 = 2;
const IPSET_ATTR_TYPENAME: u16 = 3;
const IPSET_ATTR_REVISION: u16 = 4;
const IPSET_ATTR_FAMILY: u16 = 5;
const IPSET_ATTR_DATA: u16 = 7;
const AF_INET: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attr::Fields;

    #[test]
    fn a_removal_names_the_protocol_and_the_set() {
        let mut out = Writer::new();
        Request::Destroy("KUBE-CLUSTER-IP").encode(&mut out, 9);
        let frame = frame::walk(out.bytes()).next().unwrap().unwrap();
        assert_eq!((frame.header.kind, frame.header.flags), (0x0603, 0x205));
        let (family, attrs) = frame.netfilter().unwrap();
        let fields = Fields::parse("test", attrs).unwrap();
        assert_eq!(
            (family, fields.opt_u8(IPSET_ATTR_PROTOCOL)),
            (2, Ok(Some(6)))
        );
        assert_eq!(
            fields.bytes(IPSET_ATTR_SETNAME),
            Ok(&b"KUBE-CLUSTER-IP\0"[..])
        );
    }
}
