//! `daymark cleanup --once-healthy` before a kube-proxy that is a script.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use daymark_dataplane::nft::apply::Kernel;
use daymark_dataplane::nft::kernel::Netlink;
use daymark_netlink::nft::{Exists, Family, Message, Table, TableId};

/// kube-proxy without metrics: it serves once it is healthy and its rules are in nf_tables.
pub(crate) fn waits_for_rules(socket: &Path) {
    let mut next = Next::start(socket, None);
    next.says("503 Service Unavailable\r\n");
    next.says("200 OK\r\nserver: daymark\r\n");
    next.says("200 OK\r\n");
    let question = next.asked();
    write_rules();
    reply(question, "200 OK\r\n");
    assert!(next.cleanup.wait().unwrap().success());
}

/// With metrics those decide, whatever rules of an earlier one are there.
pub(crate) fn waits_for_a_sync(socket: &Path) {
    let metrics = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut next = Next::start(socket, Some(&metrics));
    write_rules();
    let line = |value| {
        format!(
            "200 OK\r\n\r\nkubeproxy_sync_proxy_rules_last_timestamp_seconds{{ip_family=\"IPv4\"}} {value}\n"
        )
    };
    for page in ["200 OK\r\n".to_owned(), line("0"), line("1.7e+09")] {
        next.says("200 OK\r\n");
        reply(next.asked_at(&metrics, "GET /metrics "), &page);
    }
    assert!(next.cleanup.wait().unwrap().success());
}

/// The proxy that follows, as a script, and who cleans up after it.
struct Next {
    healthz: TcpListener,
    cleanup: Child,
}

impl Next {
    fn start(socket: &Path, metrics: Option<&TcpListener>) -> Self {
        let healthz = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_daymark"));
        command
            .args(["cleanup", "--daymark", "--once-healthy", &at(&healthz)])
            .arg("--socket")
            .arg(socket);
        if let Some(metrics) = metrics {
            command.args(["--metrics", &at(metrics)]);
        }
        let cleanup = command.spawn().unwrap();
        Self { healthz, cleanup }
    }

    /// Answers the next question for its health.
    fn says(&mut self, status: &str) {
        reply(self.asked(), status);
    }

    fn asked(&mut self) -> TcpStream {
        let healthz = self.healthz.try_clone().unwrap();
        self.asked_at(&healthz, "GET /healthz ")
    }

    /// The next question. Until then nothing has ended.
    fn asked_at(&mut self, at: &TcpListener, expected: &str) -> TcpStream {
        at.set_nonblocking(true).unwrap();
        for _ in 0..600 {
            assert!(self.cleanup.try_wait().unwrap().is_none(), "{expected}");
            let Ok((stream, _)) = at.accept() else {
                std::thread::sleep(Duration::from_millis(50));
                continue;
            };
            stream.set_nonblocking(false).unwrap();
            let mut reader = BufReader::new(&stream);
            let mut request = String::new();
            reader.read_line(&mut request).unwrap();
            assert!(request.starts_with(expected), "{request}");
            // A socket that is closed with something unread takes the answer with it.
            while !matches!(reader.read_line(&mut request), Ok(0 | 2)) {}
            return stream;
        }
        panic!("no question {expected}");
    }
}

/// The answer ends with the connection.
fn reply(mut question: TcpStream, answer: &str) {
    let answer = format!("HTTP/1.0 {answer}\r\n");
    question.write_all(answer.as_bytes()).unwrap();
}

/// The table of kube-proxy's mode nftables, in this network namespace.
fn write_rules() {
    let table = Table::new(TableId::new(Family::Ip, "kube-proxy"));
    let exists = Exists::Keep;
    let mut kernel = Netlink::open().unwrap();
    kernel
        .commit(&[Message::NewTable { table, exists }])
        .unwrap();
}
