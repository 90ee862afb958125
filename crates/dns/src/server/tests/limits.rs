//! What waits, what is bounded and what is garbage.

use super::*;

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
