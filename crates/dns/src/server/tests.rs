//! A server on loopback, asked over UDP and TCP, with upstreams that tests play.

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
async fn others_are_forwarded_once_and_cached() {
    let (up, asked) = upstream(Play::Addresses(2)).await;
    let (_cluster, server) = start(with(&[up])).await;
    let at = server.addresses()[0];
    let ask = |name: &'static str| async move { udp(at, &question(name, RecordType::A)).await };
    // Four equal questions at once are one to the upstream; a later one is none.
    let answers = tokio::join!(
        ask("example.com."),
        ask("example.com."),
        ask("EXAMPLE.com."),
        ask("example.com.")
    );
    assert_eq!(texts(&answers.0), ["192.0.2.0", "192.0.2.1"]);
    assert_eq!(
        answers.2.queries[0].name.to_ascii(),
        "EXAMPLE.com.",
        "the question comes back as it was spelt"
    );
    assert!(answers.0.metadata.recursion_available && !answers.0.metadata.authoritative);
    ask("Example.com.").await;
    assert_eq!(asked[0].load(Ordering::Relaxed), 1);
    assert_eq!(server.metrics().cache_hits.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_cut_answer_is_fetched_over_tcp_and_cut_for_the_client_alone() {
    let (up, asked) = upstream(Play::Addresses(100)).await;
    let (_cluster, server) = start(with(&[up])).await;
    let at = server.addresses()[0];
    let asked_over_udp = udp(at, &question("example.com.", RecordType::A)).await;
    assert!(asked_over_udp.metadata.truncation && asked_over_udp.answers.len() > 20);
    let whole = tcp(at, &question("example.com.", RecordType::A)).await;
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.answers.len(), 100);
    assert_eq!(
        asked[1].load(Ordering::Relaxed),
        1,
        "the second answer came from the cache"
    );
}

#[tokio::test]
async fn the_next_upstream_is_asked_if_one_fails_or_is_silent() {
    let (bad, _) = upstream(Play::Code(ResponseCode::ServFail)).await;
    let (silent, _) = upstream(Play::Silence).await;
    let (good, _) = upstream(Play::WrongIdFirst).await;
    let (_cluster, server) = start(with(&[bad, silent, good])).await;
    let answer = udp(
        server.addresses()[0],
        &question("example.com.", RecordType::A),
    )
    .await;
    assert_eq!(
        texts(&answer),
        ["192.0.2.0"],
        "an answer with a wrong id counts for nothing"
    );
}

#[tokio::test]
async fn no_upstream_that_answers_is_servfail_and_no_upstream_at_all_refused() {
    let (silent, _) = upstream(Play::Silence).await;
    let (_cluster, server) = start(with(&[silent])).await;
    let answer = udp(
        server.addresses()[0],
        &question("example.com.", RecordType::A),
    )
    .await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    let (_cluster, server) = start(Config::default()).await;
    let answer = udp(
        server.addresses()[0],
        &question("example.com.", RecordType::A),
    )
    .await;
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
}

#[tokio::test]
async fn an_external_name_is_followed_outside() {
    let cases = [
        (Play::Addresses(1), vec!["example.com.", "192.0.2.0"]),
        (Play::Code(ResponseCode::NXDomain), vec!["example.com."]),
        (Play::Code(ResponseCode::ServFail), vec![]),
        (Play::Silence, vec![]),
    ];
    for (play, expected) in cases {
        let (up, _) = upstream(play).await;
        let (cluster, server) = start(with(&[up])).await;
        cluster
            .lines
            .send(line(
                "out",
                r#"{"type":"ExternalName","externalName":"example.com"}"#,
            ))
            .unwrap();
        let at = server.addresses()[0];
        let asked = question("out.test.svc.cluster.local.", RecordType::A);
        let mut answer = udp(at, &asked).await;
        for _ in 0..1000 {
            if answer.metadata.response_code != ResponseCode::NXDomain {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            answer = udp(at, &asked).await;
        }
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
        assert_eq!(texts(&answer), expected);
    }
}

#[tokio::test]
async fn a_loop_ends_in_servfail_and_does_not_multiply() {
    // The two servers name each other as upstream.
    let first = Sockets::bind(&[(IpAddr::from(Ipv4Addr::LOCALHOST), 0).into()]).unwrap();
    let second = Sockets::bind(&[(IpAddr::from(Ipv4Addr::LOCALHOST), 0).into()]).unwrap();
    let (one, other) = (first.addresses()[0], second.addresses()[0]);
    let (cluster, plane) = cluster(PlaneStatus::NoPlane);
    let start = |up, sockets| {
        Server::start(
            with(&[up]),
            sockets,
            cluster.feed.subscribe(),
            plane.clone(),
        )
        .unwrap()
    };
    let (server, back) = (start(other, first), start(one, second));
    let answer = udp(one, &question("example.com.", RecordType::A)).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    let queries = |server: &Server| server.metrics().queries_udp.load(Ordering::Relaxed);
    assert!(
        queries(&server) + queries(&back) < 20,
        "{} and {}",
        queries(&server),
        queries(&back)
    );
}

#[tokio::test]
async fn an_upstream_that_is_the_server_itself_is_refused() {
    let (cluster, plane) = cluster(PlaneStatus::NoPlane);
    let sockets = Sockets::bind(&[(IpAddr::from(Ipv4Addr::LOCALHOST), 0).into()]).unwrap();
    let own = sockets.addresses()[0];
    let error = Server::start(with(&[own]), sockets, cluster.feed.subscribe(), plane).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("upstream {own} is this server itself"))
    );
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_remedy() {
    let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = Sockets::bind(&[address]).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("DNS cannot listen on {address} (UDP)")),
        "{error}"
    );
    assert!(Sockets::bind(&[(IpAddr::from(Ipv4Addr::UNSPECIFIED), 0).into()]).is_err());
}

#[tokio::test]
async fn a_new_name_waits_for_the_plane_but_not_for_ever() {
    let (cluster, plane) = cluster(PlaneStatus::Committed { generation: 1 });
    let sockets = Sockets::bind(&[(IpAddr::from(Ipv4Addr::LOCALHOST), 0).into()]).unwrap();
    let config = Config {
        hold: Duration::from_millis(500),
        ..Config::default()
    };
    let server = Server::start(config, sockets, cluster.feed.subscribe(), plane).unwrap();
    cluster.lines.send(web() + END).unwrap();
    ready(&server).await;
    let at = server.addresses()[0];
    let held = || server.metrics().held.load(Ordering::Relaxed);
    let code = async |name: &str| {
        udp(
            at,
            &question(&format!("{name}.test.svc.cluster.local."), RecordType::A),
        )
        .await
        .metadata
        .response_code
    };
    for (count, name, commit) in [(1, "quick", true), (2, "slow", false)] {
        let spec = format!(
            r#"{{"clusterIP":"10.96.0.{}","ports":[{{"port":80}}]}}"#,
            20 + count
        );
        cluster.lines.send(line(name, &spec)).unwrap();
        let wait = async {
            while held() < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, wait).await.expect("the batch comes");
        assert_eq!(
            code(name).await,
            ResponseCode::NXDomain,
            "{name} is held back"
        );
        if commit {
            cluster
                .plane
                .send(PlaneStatus::Committed {
                    generation: 1 + count,
                })
                .unwrap();
        }
        let began = crate::clock::now();
        while code(name).await == ResponseCode::NXDomain {
            assert!(began.elapsed() < PATIENCE, "{name} never came");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(
            server.metrics().hold_timeouts.load(Ordering::Relaxed),
            u64::from(!commit)
        );
    }
}

#[tokio::test]
async fn tcp_is_bounded_in_connections_questions_and_idle_time() {
    let tcp_limits = crate::Tcp {
        connections: 1,
        idle: Duration::from_millis(200),
        questions: 2,
    };
    let (_cluster, server) = start(Config {
        tcp: tcp_limits,
        ..Config::default()
    })
    .await;
    let at = server.addresses()[0];
    let asked = question("web.test.svc.cluster.local.", RecordType::A);
    let closed = async |stream: &mut TcpStream| {
        matches!(
            timeout(PATIENCE, stream.read(&mut [0])).await,
            Ok(Ok(0) | Err(_))
        )
    };

    let mut first = TcpStream::connect(at).await.unwrap();
    tcp_on(&mut first, &asked).await;
    let mut second = TcpStream::connect(at).await.unwrap();
    assert!(closed(&mut second).await, "a connection too many");
    tcp_on(&mut first, &asked).await;
    assert!(closed(&mut first).await, "a question too many");

    let mut idle = TcpStream::connect(at).await.unwrap();
    idle.write_u8(0).await.unwrap();
    assert!(closed(&mut idle).await, "half a question and then nothing");
    let mut large = TcpStream::connect(at).await.unwrap();
    large.write_u16(60_000).await.unwrap();
    assert!(closed(&mut large).await, "a question of 60,000 bytes");
}

#[tokio::test]
async fn garbage_gets_formerr_or_nothing_and_the_server_lives() {
    let (_cluster, server) = start(Config::default()).await;
    let at = server.addresses()[0];
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    for length in 0..400 {
        let bytes: Vec<u8> = (0..length).map(|_| rand::random()).collect();
        socket.send_to(&bytes, at).await.unwrap();
    }
    let answer = udp(at, &question("web.test.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(texts(&answer), ["10.96.0.1"]);
}

#[tokio::test]
async fn an_edns_client_gets_an_opt_record_and_its_size() {
    let (_cluster, server) = start(Config::default()).await;
    let mut asked = question("web.test.svc.cluster.local.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(4096).set_dnssec_ok(true);
    asked.edns = Some(edns);
    let answer = udp(server.addresses()[0], &asked).await;
    assert!(
        answer
            .edns
            .is_some_and(|edns| edns.flags().dnssec_ok && edns.max_payload() == 1232)
    );
}
