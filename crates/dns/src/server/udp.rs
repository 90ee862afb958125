//! UDP: one task a socket; questions for upstreams go on in tasks of their own.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::sleep;
use tracing::debug;

use super::serve::{Shared, Step};
use crate::metrics::add;
use crate::wire::Transport;

/// Answers until the task is ended.
pub(super) async fn serve(shared: Arc<Shared>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; LARGEST_QUESTION];
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                debug!(%error, "UDP receive failed");
                sleep(PAUSE).await;
                continue;
            }
        };
        add(&shared.metrics.queries_udp, 1);
        match shared.begin(&buffer[..length], Transport::Udp) {
            Step::Nothing => {}
            Step::Done(answer) => {
                // A client that cannot be reached, or a full send buffer, costs that answer alone.
                let _lost = socket.send_to(&answer, client).await;
            }
            Step::Ask(pending) => {
                let (shared, socket) = (Arc::clone(&shared), Arc::clone(&socket));
                tokio::spawn(async move {
                    let answer = shared.finish(pending).await;
                    let _lost = socket.send_to(&answer, client).await;
                });
            }
        }
    }
}

/// A question has one name and an OPT record; a longer packet is cut, and then malformed.
const LARGEST_QUESTION: usize = 4096;
/// After an error of the socket itself.
const PAUSE: Duration = Duration::from_millis(10);
