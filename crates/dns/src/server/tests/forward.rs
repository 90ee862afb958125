//! Names of others, and how upstreams play.

use super::*;

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
