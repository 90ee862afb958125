//! Just enough SCTP (RFC 9260) to send an INIT and to recognise it on arrival.

use std::net::{IpAddr, SocketAddr};

/// An INIT as found in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Init {
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    /// The initiate tag: the prober's mark.
    pub(super) tag: u32,
}

impl Init {
    /// The packet, checksum included: the common header (section 3.1) and one INIT chunk (3.3.2).
    pub(super) fn emit(self) -> [u8; PACKET] {
        let mut packet = [0; PACKET];
        packet[0..2].copy_from_slice(&self.source_port.to_be_bytes());
        packet[2..4].copy_from_slice(&self.destination_port.to_be_bytes());
        // Verification tag 0, as an INIT must have; chunk type INIT, no flags, 20 bytes.
        packet[12..16].copy_from_slice(&[CHUNK_INIT, 0, 0, 20]);
        packet[16..20].copy_from_slice(&self.tag.to_be_bytes());
        // Receiver window, one stream each way, the tag as the first sequence number.
        packet[20..24].copy_from_slice(&65_536_u32.to_be_bytes());
        packet[24..28].copy_from_slice(&[0, 1, 0, 1]);
        packet[28..32].copy_from_slice(&self.tag.to_be_bytes());
        let checksum = crc32c(&packet);
        // Appendix A: the one little-endian field.
        packet[8..12].copy_from_slice(&checksum.to_le_bytes());
        packet
    }

    /// The INIT in an SCTP packet, if that is what it starts with.
    pub(super) fn parse(packet: &[u8]) -> Option<Self> {
        let word = |at: usize| Some([*packet.get(at)?, *packet.get(at + 1)?]);
        if *packet.get(12)? != CHUNK_INIT {
            return None;
        }
        Some(Self {
            source_port: u16::from_be_bytes(word(0)?),
            destination_port: u16::from_be_bytes(word(2)?),
            tag: u32::from_be_bytes(packet.get(16..20)?.try_into().ok()?),
        })
    }
}

/// An INIT that arrived in a raw IPv4 packet, with its addresses: (destination, source, INIT).
pub(super) fn parse_ipv4(packet: &[u8]) -> Option<(SocketAddr, SocketAddr, Init)> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let address = |at: usize| -> Option<IpAddr> {
        Some(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?.into())
    };
    let init = Init::parse(packet.get(header..)?)?;
    let (source, destination) = (address(12)?, address(16)?);
    Some((
        (destination, init.destination_port).into(),
        (source, init.source_port).into(),
        init,
    ))
}

/// CRC-32C (RFC 9260, appendix A), bit by bit: a probe has 32 bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| {
        if crc & 1 == 1 {
            (crc >> 1) ^ 0x82f6_3b78
        } else {
            crc >> 1
        }
    };
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc))
    })
}

/// Common header and INIT chunk without parameters.
pub(super) const PACKET: usize = 32;
const CHUNK_INIT: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_castagnoli_one() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn an_init_is_recognised_in_its_own_packet() {
        let init = Init {
            source_port: 40_000,
            destination_port: 80,
            tag: 0xdead_beef,
        };
        assert_eq!(Init::parse(&init.emit()), Some(init));
        assert_eq!(Init::parse(&init.emit()[..19]), None);
        assert_eq!(Init::parse(&[]), None);
    }

    #[test]
    fn a_raw_ipv4_packet_tells_both_addresses() {
        let init = Init {
            source_port: 40_000,
            destination_port: 80,
            tag: 7,
        };
        let mut packet = vec![0x46];
        packet.resize(12, 0);
        packet.extend([10, 0, 0, 1, 10, 0, 0, 2, 0, 0, 0, 0]);
        packet.extend(init.emit());
        let expected = (
            "10.0.0.2:80".parse().unwrap(),
            "10.0.0.1:40000".parse().unwrap(),
            init,
        );
        assert_eq!(parse_ipv4(&packet), Some(expected));
        assert_eq!(parse_ipv4(&packet[..30]), None);
    }
}
