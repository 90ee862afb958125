//! Against HTTP/2 by hand (RFC 9113): what goes away does so as Go's server does, which passes over requests that were on their way.

use std::ops::Range;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::server::TlsStream;

use super::*;

/// How a server refuses a request.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    /// GOAWAY that names the request before as the last.
    GoAway(h2::Reason),
    /// RST_STREAM.
    Reset(h2::Reason),
}

/// Which connections refuse, and what.
#[derive(Clone, Debug)]
struct Plan {
    refusal: Refusal,
    /// So many connections, the first ones.
    connections: usize,
    /// Which of its requests, counted from 0.
    requests: Range<u32>,
}

/// What came: the connection, the stream, and the bytes of its body.
type Seen = Arc<Mutex<Vec<(usize, u32, Vec<u8>)>>>;

struct Refusing {
    config: Config,
    seen: Seen,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Refusing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Refusing {
    async fn start(plan: Plan) -> Self {
        let (listener, acceptor, config) = listen(&["h2"]).await;
        let seen = Seen::default();
        let log = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let stream = acceptor.accept(stream).await.unwrap();
                let plan = (number < plan.connections).then(|| plan.clone());
                let log = Arc::clone(&log);
                tokio::spawn(async move {
                    let connection = Connection {
                        stream,
                        number,
                        plan,
                        log,
                        gone: false,
                    };
                    // The client hangs up.
                    let _ = connection.serve().await;
                });
            }
        });
        Self { config, seen, task }
    }

    fn client(&self) -> Client {
        Wire::default().client(self.config.clone(), None).unwrap()
    }

    /// How many requests each connection saw.
    fn requests(&self) -> Vec<usize> {
        let seen = self.seen.lock().unwrap();
        let last = seen.iter().map(|(number, ..)| *number).max();
        let of = |number| seen.iter().filter(|(of, ..)| *of == number).count();
        (0..=last.unwrap_or_default()).map(of).collect()
    }
}

/// Types of frames (section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
/// Flag of SETTINGS and PING.
const ACK: u8 = 1;
/// Flag of HEADERS.
const END_HEADERS: u8 = 4;
/// `:status: 200` (RFC 7541 appendix A, entry 8).
const OK: [u8; 1] = [0x88];

struct Connection {
    stream: TlsStream<TcpStream>,
    number: usize,
    plan: Option<Plan>,
    log: Seen,
    /// GOAWAY was sent.
    gone: bool,
}

impl Connection {
    async fn serve(mut self) -> std::io::Result<()> {
        let mut preface = [0; 24];
        self.stream.read_exact(&mut preface).await?;
        self.send(SETTINGS, 0, 0, &[]).await?;
        loop {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await?;
            let [a, b, c, kind, flags, id @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.stream.read_exact(&mut payload).await?;
            let id = u32::from_be_bytes(id);
            match kind {
                SETTINGS | PING if flags & ACK == 0 => {
                    let echo = if kind == PING { &payload[..] } else { &[] };
                    self.send(kind, ACK, 0, echo).await?;
                }
                HEADERS => {
                    let entry = (self.number, id, Vec::new());
                    self.log.lock().unwrap().push(entry);
                    self.answer(id).await?;
                }
                DATA => {
                    let mut log = self.log.lock().unwrap();
                    let mut of = log.iter_mut();
                    let of = of.find(|(number, stream, _)| (*number, *stream) == (self.number, id));
                    of.unwrap().2.extend(payload);
                }
                _ => {}
            }
        }
    }

    async fn answer(&mut self, id: u32) -> std::io::Result<()> {
        match self
            .plan
            .as_ref()
            .filter(|plan| plan.requests.contains(&(id / 2)))
        {
            _ if self.gone => Ok(()),
            None => {
                self.send(HEADERS, END_HEADERS, id, &OK).await?;
                self.send(DATA, 0, id, b"a line\n").await
            }
            Some(plan) => match plan.refusal {
                Refusal::GoAway(reason) => {
                    self.gone = true;
                    let last = id.saturating_sub(2).to_be_bytes();
                    let words = [last, u32::from(reason).to_be_bytes()].concat();
                    self.send(GOAWAY, 0, 0, &words).await
                }
                Refusal::Reset(reason) => {
                    let reason = u32::from(reason).to_be_bytes();
                    self.send(RST_STREAM, 0, id, &reason).await
                }
            },
        }
    }

    async fn send(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) -> std::io::Result<()> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(id.to_be_bytes());
        frame.extend(payload);
        self.stream.write_all(&frame).await?;
        self.stream.flush().await
    }
}

#[tokio::test]
async fn what_a_server_refuses_to_begin_is_sent_again_and_what_it_began_goes_on() {
    for refusal in [
        Refusal::GoAway(h2::Reason::NO_ERROR),
        Refusal::Reset(h2::Reason::REFUSED_STREAM),
    ] {
        // The first connection is told before any of its answers is read.
        let server = Refusing::start(Plan {
            refusal,
            connections: 1,
            requests: 2..6,
        })
        .await;
        let client = server.client();
        let (_, mut first) = watch(&client).await;
        let (_, mut second) = watch(&client).await;
        let (versions, _watches) = four(&client).await;
        assert_eq!(versions, [Version::HTTP_2; 4]);
        for running in [&mut first, &mut second] {
            let more = timeout(Duration::from_millis(50), running.frame()).await;
            assert!(more.is_err(), "a watch that ran has ended: {more:?}");
        }
        let requests = server.requests();
        match refusal {
            // The two that ran, and at least the one that was refused; all four are on the second.
            Refusal::GoAway(_) => assert!(requests[0] >= 3 && requests[1] == 4, "{requests:?}"),
            Refusal::Reset(_) => assert_eq!(requests, [10]),
        }
    }
}

#[tokio::test]
async fn what_is_sent_again_has_its_body() {
    let server = Refusing::start(Plan {
        refusal: Refusal::GoAway(h2::Reason::NO_ERROR),
        connections: 2,
        requests: 0..1,
    })
    .await;
    let body = b"an Event".to_vec();
    let request = Request::post("/events").body(Body::from(body.clone()));
    let client = server.client();
    let answer = client.send(request.unwrap());
    let answer = timeout(Duration::from_secs(5), answer).await.unwrap();
    assert_eq!(answer.unwrap().status(), 200);
    let came = |seen: &Seen| seen.lock().unwrap().last().cloned();
    let mut last = came(&server.seen);
    for _ in 0..100 {
        if last.as_ref().is_some_and(|(.., bytes)| !bytes.is_empty()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        last = came(&server.seen);
    }
    assert_eq!(last, Some((2, 1, body)));
}

#[tokio::test]
async fn a_server_that_refuses_without_end_is_asked_four_times() {
    let server = Refusing::start(Plan {
        refusal: Refusal::GoAway(h2::Reason::NO_ERROR),
        connections: usize::MAX,
        requests: 0..1,
    })
    .await;
    let request = Request::get("/watch").body(Body::empty()).unwrap();
    let answer = timeout(Duration::from_secs(5), server.client().send(request)).await;
    assert!(answer.unwrap().is_err());
    assert_eq!(server.requests(), [1; 4]);
}

#[tokio::test]
async fn what_may_have_been_begun_is_not_sent_again() {
    for refusal in [
        Refusal::GoAway(h2::Reason::INTERNAL_ERROR),
        Refusal::Reset(h2::Reason::INTERNAL_ERROR),
        Refusal::Reset(h2::Reason::NO_ERROR),
    ] {
        let server = Refusing::start(Plan {
            refusal,
            connections: usize::MAX,
            requests: 0..1,
        })
        .await;
        let request = Request::get("/watch").body(Body::empty()).unwrap();
        let answer = timeout(Duration::from_secs(5), server.client().send(request)).await;
        assert!(answer.unwrap().is_err(), "{refusal:?}");
        assert_eq!(server.requests(), [1], "{refusal:?}");
    }
}
