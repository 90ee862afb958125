//! One question to one upstream.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::{Question, name_bytes, packet};
use crate::wire::HEADER;

/// Asks over UDP, and over TCP if the answer was cut.
///
/// # Errors
/// If nothing fitting came within `patience`, or the network failed.
pub(super) async fn ask(
    upstream: SocketAddr,
    question: &Question,
    id: u16,
    patience: Duration,
) -> io::Result<Vec<u8>> {
    let message = question.message(id).ok_or(io::ErrorKind::InvalidInput)?;
    let answer = timeout(patience, over_udp(upstream, question, id, &message)).await??;
    if answer[2] & packet::TRUNCATED == 0 {
        return Ok(answer);
    }
    match timeout(patience, over_tcp(upstream, question, id, &message)).await {
        Ok(Ok(whole)) => Ok(whole),
        // Half an answer, marked as such, is better than none.
        Ok(Err(_)) | Err(_) => Ok(answer),
    }
}

async fn over_udp(
    upstream: SocketAddr,
    question: &Question,
    id: u16,
    message: &[u8],
) -> io::Result<Vec<u8>> {
    let any: IpAddr = if upstream.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    // A fresh socket has a port of the kernel's random choice, and `connect` shuts out other senders.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(upstream).await?;
    socket.send(message).await?;
    let mut buffer = vec![0; usize::from(PAYLOAD).max(4096)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if fits(&buffer[..length], question, id) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn over_tcp(
    upstream: SocketAddr,
    question: &Question,
    id: u16,
    message: &[u8],
) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    if fits(&answer, question, id) {
        Ok(answer)
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// Whether a message is a readable answer to the question under this id (RFC 5452 section 3).
fn fits(answer: &[u8], question: &Question, id: u16) -> bool {
    let Some(layout) = packet::layout(answer) else {
        return false;
    };
    let asked = name_bytes(&question.name);
    let Some(name) = answer.get(HEADER..HEADER + asked.len()) else {
        return false;
    };
    let kind = u16::from(question.kind).to_be_bytes();
    answer[..2] == id.to_be_bytes()
        && answer[2] & packet::RESPONSE != 0
        && name.eq_ignore_ascii_case(&asked)
        && layout.questions_end == HEADER + asked.len() + 4
        && answer[HEADER + asked.len()..][..2] == kind
}

/// What is announced to upstreams as the largest UDP answer (DNS flag day 2020).
pub(super) const PAYLOAD: u16 = 1232;
