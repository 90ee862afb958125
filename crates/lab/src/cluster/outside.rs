//! The outside network's DNS server: a few names, everything else does not exist.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread::JoinHandle;
use std::time::Duration;

use daymark_sys::ns::NetNs;

/// A running server; dropping it ends it within its patience.
pub(super) struct Upstream {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What the server knows.
#[derive(Clone, Debug)]
pub(super) struct Zone {
    pub(super) names: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
}

impl Upstream {
    /// Answers UDP port 53 of every address of the namespace that is listed.
    pub(super) fn start(ns: &NetNs, zone: &Zone) -> io::Result<Self> {
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let mut threads = Vec::new();
        for address in &zone.addresses {
            let socket = ns.within(|| UdpSocket::bind(SocketAddr::new(*address, 53)))??;
            socket.set_read_timeout(Some(PATIENCE))?;
            let (zone, stop) = (zone.clone(), std::sync::Arc::clone(&stop));
            let thread = std::thread::Builder::new().name("outside-dns".into());
            threads.push(thread.spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    serve_one(&socket, &zone);
                }
            })?);
        }
        Ok(Self { stop, threads })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn serve_one(socket: &UdpSocket, zone: &Zone) {
    let mut buffer = [0; 512];
    let Ok((length, client)) = socket.recv_from(&mut buffer) else {
        return;
    };
    if let Some(reply) = answer(&buffer[..length], zone) {
        // A client that went away needs none.
        let _ = socket.send_to(&reply, client);
    }
}

/// The reply to a query of one question; `None` when it is no query (RFC 1035, section 4.1).
fn answer(query: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let header = query.get(..12)?;
    if header[2] & 0x80 != 0 || header[4..6] != [0, 1] {
        return None;
    }
    let (name, end) = name(query)?;
    let question = query.get(12..end + 4)?;
    let kind = u16::from_be_bytes([query[end], query[end + 1]]);
    let known = zone
        .names
        .iter()
        .any(|known| known.eq_ignore_ascii_case(&name));
    let records: Vec<Vec<u8>> = if known {
        zone.addresses
            .iter()
            .filter_map(|address| record(*address, kind))
            .collect()
    } else {
        Vec::new()
    };
    let code = if known { NO_ERROR } else { NAME_ERROR };
    // A reply, authoritative, recursion available as the query desired it.
    let flags = [0x84 | (header[2] & 0x01), 0x80 | code];
    let count = u16::try_from(records.len()).ok()?.to_be_bytes();
    let mut reply = [
        &header[..2],
        &flags,
        &[0, 1],
        &count,
        &[0, 0, 0, 0],
        question,
    ]
    .concat();
    reply.extend(records.concat());
    Some(reply)
}

/// The first name of a query, without a trailing dot, and where its type begins.
fn name(query: &[u8]) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        match length {
            0 => break,
            1..=63 => {
                labels.push(String::from_utf8_lossy(query.get(at..at + length)?).into_owned())
            }
            // A query's first name has nothing before it to point at.
            _ => return None,
        }
        at += length;
    }
    query.get(at..at + 4)?;
    Some((labels.join("."), at))
}

/// A resource record of the asked name, if the address is of the asked type.
fn record(address: IpAddr, kind: u16) -> Option<Vec<u8>> {
    let (own, data) = match address {
        IpAddr::V4(address) => (TYPE_A, address.octets().to_vec()),
        IpAddr::V6(address) => (TYPE_AAAA, address.octets().to_vec()),
    };
    let length = u8::try_from(data.len()).ok()?;
    // A pointer to the question's name, class IN, five seconds to live.
    let head = [0xc0, 12, 0, own, 0, 1, 0, 0, 0, 5, 0, length];
    (u16::from(own) == kind).then(|| [&head[..], &data].concat())
}

const NO_ERROR: u8 = 0;
const NAME_ERROR: u8 = 3;
const TYPE_A: u8 = 1;
const TYPE_AAAA: u8 = 28;
const PATIENCE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> Zone {
        Zone {
            names: vec!["example.com".into()],
            addresses: vec![
                "172.30.0.100".parse().unwrap(),
                "fd00:30::100".parse().unwrap(),
            ],
        }
    }

    fn query(name: &str, kind: u8) -> Vec<u8> {
        let mut bytes = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            bytes.push(u8::try_from(label.len()).unwrap());
            bytes.extend(label.bytes());
        }
        bytes.extend([0, 0, kind, 0, 1]);
        bytes
    }

    #[test]
    fn a_known_name_has_the_address_of_the_asked_family() {
        let reply = answer(&query("Example.COM", TYPE_A), &zone()).unwrap();
        assert_eq!(reply[..8], [0xab, 0xcd, 0x85, 0x80, 0, 1, 0, 1]);
        assert!(reply.ends_with(&[0, 4, 172, 30, 0, 100]));
        let reply = answer(&query("example.com", TYPE_AAAA), &zone()).unwrap();
        assert!(reply.ends_with(&[0xfd, 0, 0, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]));
        let reply = answer(&query("example.com", 15), &zone()).unwrap();
        assert_eq!(reply[3..8], [0x80, 0, 1, 0, 0], "no data is no error");
    }

    #[test]
    fn any_other_name_does_not_exist() {
        let reply = answer(&query("example.org", TYPE_A), &zone()).unwrap();
        assert_eq!(reply[3], 0x80 | NAME_ERROR);
    }

    #[test]
    fn what_is_no_query_gets_no_reply() {
        let good = query("example.com", TYPE_A);
        for length in 0..good.len() {
            assert_eq!(answer(&good[..length], &zone()), None, "{length} bytes");
        }
        let mut reply = good.clone();
        reply[2] |= 0x80;
        assert_eq!(answer(&reply, &zone()), None);
    }
}
