//! One connection, passed on.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::BUFFER;
use crate::sockets::room::Stream;

/// How long an endpoint may take to accept.
const DIAL: Duration = Duration::from_secs(5);
/// How soon, and how often, a silent peer is asked whether it is there: Go's default, which kube-proxy has.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Passes bytes on in both directions until both have ended. The end of one is passed on and leaves the other open; an
/// error ends both. An endpoint that does not answer is not replaced by another one: the client is closed.
pub(super) async fn pass(mut client: Stream<TcpStream>, to: SocketAddr) -> io::Result<()> {
    let dialled = timeout(DIAL, TcpStream::connect(to)).await;
    let mut endpoint = dialled.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    for side in [client.get_ref(), &endpoint] {
        side.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE);
        SockRef::from(side).set_tcp_keepalive(&keepalive)?;
    }
    copy_bidirectional_with_sizes(&mut client, &mut endpoint, BUFFER, BUFFER).await?;
    Ok(())
}
