//! A server on loopback, asked over UDP and TCP, with upstreams that tests play.

mod forward;
mod limits;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use daymark_feed::{Config as FeedConfig, Feed, PlaneSender, PlaneStatus, plane_channel};
use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

/// A feed whose Services are the lines that a test sends.
struct Cluster {
    lines: mpsc::UnboundedSender<String>,
    feed: Feed,
    plane: PlaneSender,
}

const END: &str = "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"1\",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}}}}\n";

fn line(name: &str, spec: &str) -> String {
    format!(
        "{{\"type\":\"ADDED\",\"object\":{{\"metadata\":{{\"name\":\"{name}\",\"namespace\":\"test\",\"resourceVersion\":\"2\"}},\"spec\":{spec}}}}}\n"
    )
}

fn web() -> String {
    line(
        "web",
        r#"{"clusterIP":"10.96.0.1","ports":[{"name":"http","port":80}]}"#,
    )
}

fn cluster(plane: PlaneStatus) -> (Cluster, PlaneReceiver) {
    let (lines, receiver) = mpsc::unbounded_channel::<String>();
    let receiver = Arc::new(std::sync::Mutex::new(Some(receiver)));
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let live = if request.uri().path() == "/api/v1/services" {
            receiver.lock().unwrap().take()
        } else {
            None
        };
        let lines = futures::stream::unfold(live, |live| async {
            let text = live?;
            next_line(text).await
        });
        let first = futures::stream::iter(if request.uri().path() == "/api/v1/services" {
            None
        } else {
            Some(END.to_owned())
        });
        let all = futures::StreamExt::chain(
            first,
            futures::StreamExt::chain(lines, futures::stream::pending()),
        );
        let frames = futures::StreamExt::map(all, |text: String| {
            Ok::<_, std::convert::Infallible>(hyper::body::Frame::data(bytes::Bytes::from(text)))
        });
        async move {
            Ok::<_, std::convert::Infallible>(http::Response::new(http_body_util::StreamBody::new(
                frames,
            )))
        }
    });
    let client = kube::Client::new(service, "default");
    let feed = Feed::start(&client, FeedConfig::default());
    let (plane, receiver) = plane_channel(plane);
    (Cluster { lines, feed, plane }, receiver)
}

async fn next_line(
    mut live: mpsc::UnboundedReceiver<String>,
) -> Option<(String, Option<mpsc::UnboundedReceiver<String>>)> {
    let text = live.recv().await?;
    Some((text, Some(live)))
}

async fn start(config: Config) -> (Cluster, Server) {
    let (cluster, plane) = cluster(PlaneStatus::NoPlane);
    let loopback: IpAddr = Ipv4Addr::LOCALHOST.into();
    let sockets = Sockets::bind(&[(loopback, 0).into()]).unwrap();
    let server = Server::start(config, sockets, cluster.feed.subscribe(), plane).unwrap();
    cluster.lines.send(web() + END).unwrap();
    ready(&server).await;
    (cluster, server)
}

async fn ready(server: &Server) {
    let wait = async {
        while !server.is_ready() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, wait)
        .await
        .expect("the first batch comes");
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.id = rand::random();
    message.metadata.recursion_desired = true;
    message
        .queries
        .push(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

async fn udp(server: SocketAddr, question: &Message) -> Message {
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).await.unwrap();
    socket.connect(server).await.unwrap();
    socket.send(&question.to_vec().unwrap()).await.unwrap();
    let mut buffer = vec![0; 65_535];
    let length = timeout(PATIENCE, socket.recv(&mut buffer))
        .await
        .expect("an answer")
        .unwrap();
    let answer = Message::from_vec(&buffer[..length]).unwrap();
    assert_eq!(answer.metadata.id, question.metadata.id);
    answer
}

async fn tcp_on(stream: &mut TcpStream, question: &Message) -> Message {
    let bytes = question.to_vec().unwrap();
    stream
        .write_u16(bytes.len().try_into().unwrap())
        .await
        .unwrap();
    stream.write_all(&bytes).await.unwrap();
    let length = timeout(PATIENCE, stream.read_u16())
        .await
        .expect("an answer")
        .unwrap();
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await.unwrap();
    Message::from_vec(&answer).unwrap()
}

async fn tcp(server: SocketAddr, question: &Message) -> Message {
    tcp_on(&mut TcpStream::connect(server).await.unwrap(), question).await
}

fn texts(answer: &Message) -> Vec<String> {
    answer
        .answers
        .iter()
        .map(|record| record.data.to_string())
        .collect()
}

/// What a played upstream does with a question.
#[derive(Clone, Copy)]
enum Play {
    /// So many addresses, whole over TCP; over UDP cut if there are more than ten.
    Addresses(u8),
    Code(ResponseCode),
    /// Answers with a wrong id, then rightly.
    WrongIdFirst,
    Silence,
}

/// An upstream on loopback that counts the questions it gets, over UDP and over TCP.
async fn upstream(play: Play) -> (SocketAddr, Arc<[AtomicU64; 2]>) {
    // A port that is free for UDP may be taken for TCP; `Sockets` looks for one that is free for both.
    let sockets = Sockets::bind(&[(IpAddr::from(Ipv4Addr::LOCALHOST), 0).into()]).unwrap();
    let (socket, listener) = sockets.into_tokio().unwrap().remove(0);
    let address = socket.local_addr().unwrap();
    let asked = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let counts = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            counts[0].fetch_add(1, Ordering::Relaxed);
            let question = Message::from_vec(&buffer[..length]).unwrap();
            if let Play::WrongIdFirst = play {
                let mut wrong = played(&question, Play::Addresses(9));
                wrong.metadata.id = wrong.metadata.id.wrapping_add(1);
                socket
                    .send_to(&wrong.to_vec().unwrap(), client)
                    .await
                    .unwrap();
            }
            let mut answer = played(&question, play);
            if answer.answers.len() > 10 {
                answer.answers.clear();
                answer.metadata.truncation = true;
            }
            // Slow enough for equal questions to meet.
            tokio::time::sleep(Duration::from_millis(20)).await;
            if !matches!(play, Play::Silence) {
                socket
                    .send_to(&answer.to_vec().unwrap(), client)
                    .await
                    .unwrap();
            }
        }
    });
    let counts = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counts[1].fetch_add(1, Ordering::Relaxed);
            let length = stream.read_u16().await.unwrap();
            let mut question = vec![0; length.into()];
            stream.read_exact(&mut question).await.unwrap();
            let answer = played(&Message::from_vec(&question).unwrap(), play)
                .to_vec()
                .unwrap();
            stream
                .write_u16(answer.len().try_into().unwrap())
                .await
                .unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    (address, asked)
}

fn played(question: &Message, play: Play) -> Message {
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    answer.metadata.recursion_available = true;
    answer.queries.clone_from(&question.queries);
    answer.edns.clone_from(&question.edns);
    let count = match play {
        Play::Addresses(count) => count,
        Play::Code(code) => {
            answer.metadata.response_code = code;
            0
        }
        Play::WrongIdFirst | Play::Silence => 1,
    };
    let name = &question.queries[0].name;
    answer.answers = (0..count)
        .map(|i| Record::from_rdata(name.clone(), 60, RData::A(A([192, 0, 2, i].into()))))
        .collect();
    answer
}

fn with(upstreams: &[SocketAddr]) -> Config {
    let upstream_timeout = Duration::from_millis(200);
    Config {
        upstreams: upstreams.to_vec(),
        upstream_timeout,
        ..Config::default()
    }
}

#[tokio::test]
async fn the_zone_is_answered_over_udp_and_tcp() {
    let (_cluster, server) = start(Config::default()).await;
    let at = server.addresses()[0];
    let asked = question("web.test.svc.cluster.local.", RecordType::A);
    for answer in [udp(at, &asked).await, tcp(at, &asked).await] {
        assert_eq!(texts(&answer), ["10.96.0.1"]);
        assert!(answer.metadata.authoritative && answer.metadata.recursion_desired);
    }
    let missing = udp(
        at,
        &question("nobody.test.svc.cluster.local.", RecordType::A),
    )
    .await;
    assert_eq!(
        (missing.metadata.response_code, missing.authorities.len()),
        (ResponseCode::NXDomain, 1)
    );
    assert_eq!(server.metrics().nxdomain.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn both_families_are_answered_from_the_address_asked() {
    let (cluster, plane) = cluster(PlaneStatus::NoPlane);
    let addresses = [
        (IpAddr::from(Ipv4Addr::new(127, 0, 0, 53)), 0).into(),
        (IpAddr::from(Ipv6Addr::LOCALHOST), 0).into(),
    ];
    let sockets = match Sockets::bind(&addresses) {
        Ok(sockets) => sockets,
        Err(error) => {
            panic!("loopback has both families on every machine this is built on: {error}")
        }
    };
    let server =
        Server::start(Config::default(), sockets, cluster.feed.subscribe(), plane).unwrap();
    cluster.lines.send(web() + END).unwrap();
    ready(&server).await;
    for at in server.addresses() {
        // `udp` connects its socket: an answer from another address would never arrive.
        assert_eq!(
            texts(&udp(*at, &question("web.test.svc.cluster.local.", RecordType::A)).await),
            ["10.96.0.1"]
        );
    }
}

#[tokio::test]
async fn before_the_first_batch_the_zone_fails_and_others_are_forwarded() {
    let (up, _) = upstream(Play::Addresses(1)).await;
    let (cluster, plane) = cluster(PlaneStatus::NoPlane);
    let sockets = Sockets::bind(&[(IpAddr::from(Ipv4Addr::LOCALHOST), 0).into()]).unwrap();
    let server = Server::start(with(&[up]), sockets, cluster.feed.subscribe(), plane).unwrap();
    let at = server.addresses()[0];
    let answer = udp(at, &question("web.test.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert!(!server.is_ready());
    assert_eq!(
        texts(&udp(at, &question("example.com.", RecordType::A)).await),
        ["192.0.2.0"]
    );
}

#[tokio::test]
async fn that_a_task_panics_ends_the_server_with_what_it_said() {
    let (_cluster, mut server) = start(Config::default()).await;
    let at = server.addresses()[0];
    server.tasks.spawn(async { panic!("such a Service") });
    let ended = timeout(PATIENCE, tokio::spawn(server.ended())).await;
    let panic = ended.expect("noticed").unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref(), Some(&"such a Service"));
    let socket = UdpSocket::bind(at).await;
    socket.expect("its sockets are closed");
}

#[tokio::test]
async fn a_server_whose_feed_has_ended_answers_as_before() {
    let (cluster, server) = start(Config::default()).await;
    let at = server.addresses()[0];
    let ended = tokio::spawn(server.ended());
    drop(cluster);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!ended.is_finished());
    let answer = udp(at, &question("web.test.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
}
