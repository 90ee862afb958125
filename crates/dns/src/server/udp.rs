//! UDP: one task a socket; questions for upstreams go on in tasks of their own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::sleep;
use tracing::debug;

use super::serve::{Shared, Step};
use crate::metrics::{Metrics, Panics, add};
use crate::wire::Transport;

/// Answers until the task is ended.
pub(super) async fn serve(shared: Arc<Shared>, socket: Arc<UdpSocket>) {
    answer(&shared, &socket, |bytes| {
        shared.begin(bytes, Transport::Udp)
    })
    .await;
}

async fn answer(shared: &Arc<Shared>, socket: &Arc<UdpSocket>, begin: impl Fn(&[u8]) -> Step) {
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
        match guarded(&shared.metrics, || begin(&buffer[..length])) {
            Step::Nothing => {}
            Step::Done(answer) => {
                // A client that cannot be reached, or a full send buffer, costs that answer alone.
                let _lost = socket.send_to(&answer, client).await;
            }
            Step::Ask(pending) => {
                let (shared, socket) = (Arc::clone(shared), Arc::clone(socket));
                tokio::spawn(async move {
                    let _panics = Panics(&shared.metrics);
                    let answer = shared.finish(pending).await;
                    let _lost = socket.send_to(&answer, client).await;
                });
            }
        }
    }
}

/// A question about which the server panics has no answer, and the socket answers the next: one packet, which anybody can send again, must not end
/// what all others ask. Nothing is left half done by it, since a question changes nothing of what the sockets share.
fn guarded(metrics: &Metrics, begin: impl FnOnce() -> Step) -> Step {
    let counted = || {
        let _panics = Panics(metrics);
        begin()
    };
    catch_unwind(AssertUnwindSafe(counted)).unwrap_or(Step::Nothing)
}

/// A question has one name and an OPT record; a longer packet is cut, and then malformed.
const LARGEST_QUESTION: usize = 4096;
/// After an error of the socket itself.
const PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::Ordering;

    use tokio::time::timeout;

    use super::*;
    use crate::config::Config;

    #[tokio::test]
    async fn a_question_that_makes_the_server_panic_is_counted_and_the_next_is_answered() {
        let shared = Arc::new(Shared::new(Config::default()).unwrap());
        let local = (Ipv4Addr::LOCALHOST, 0);
        let socket = Arc::new(UdpSocket::bind(local).await.unwrap());
        let client = UdpSocket::bind(local).await.unwrap();
        client.connect(socket.local_addr().unwrap()).await.unwrap();
        let begin = |bytes: &[u8]| match bytes {
            b"bad" => panic!("such a question"),
            good => Step::Done(good.to_vec()),
        };
        let asks = async {
            for question in ["bad", "good", "bad", "better"] {
                client.send(question.as_bytes()).await.unwrap();
            }
            for expected in ["good", "better"] {
                let mut answer = [0; 16];
                let length = client.recv(&mut answer).await.unwrap();
                assert_eq!(&answer[..length], expected.as_bytes());
            }
        };
        tokio::select! {
            () = answer(&shared, &socket, begin) => unreachable!("it answers for ever"),
            answered = timeout(Duration::from_secs(5), asks) => answered.expect("both are answered"),
        }
        assert_eq!(shared.metrics.panics.load(Ordering::Relaxed), 2);
    }
}
