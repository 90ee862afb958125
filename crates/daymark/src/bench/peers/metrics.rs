//! What a program tells of itself at the port of kube-proxy's metrics, under kube-proxy's names.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

/// All of it at one moment.
pub(super) struct Metrics(String);

impl Metrics {
    /// Asks the program that runs in the network namespace of this thread.
    pub(super) fn read() -> io::Result<Self> {
        let mut stream = TcpStream::connect(METRICS)?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: node\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(Self(text))
    }

    /// A value of the IPv4 half, or one that has no halves; 0 if there is none yet.
    pub(super) fn of_ipv4(&self, name: &str) -> f64 {
        let lines = self.0.lines().filter_map(|line| line.strip_prefix(name));
        let of_v4 = lines.filter(|rest| match rest.chars().next() {
            Some('{') => rest.contains("\"IPv4\""),
            first => first == Some(' '),
        });
        let values = of_v4.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum()
    }
}

const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10_249);

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn values_of_one_family_are_found_by_their_whole_name() {
        let text = "# TYPE a_count counter\na_count{ip_family=\"IPv4\"} 3\na_count{ip_family=\"IPv6\"} 5\n\
                    a_counts{ip_family=\"IPv4\"} 7\nb 0.5\n";
        let metrics = Metrics(text.to_owned());
        assert_eq!(metrics.of_ipv4("a_count"), 3.0);
        assert_eq!(metrics.of_ipv4("b"), 0.5);
        assert_eq!(metrics.of_ipv4("c"), 0.0);
    }
}
