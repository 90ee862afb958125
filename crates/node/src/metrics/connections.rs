//! New connections of each Service, read from the plane's tables when somebody asks.
//!
//! The tables count by the numbers of Service ports; whose they are the plane's thread says, once for each state of it. The
//! tables are read beside that thread.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daymark_dataplane::nft::counts;
use daymark_model::Family;
use daymark_model::desired::PortName;
use daymark_sys::netlink::{NfSocket, OpenError};
use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::ask::{Ask, Ports};
use crate::clock;
use crate::proxy::Order;

/// Who reads them.
#[derive(Debug)]
pub struct Connections {
    orders: Sender<Order>,
    state: Mutex<State>,
    most: usize,
}

#[derive(Debug)]
struct State {
    socket: NfSocket,
    ports: Ports,
}

impl Connections {
    /// Opens a socket in the network namespace of this thread. So many series are told at most; with 0 nobody is asked for any.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn open(orders: Sender<Order>, most: usize) -> Result<Self, OpenError> {
        let (socket, ports) = (NfSocket::open()?, Ports::default());
        Ok(Self {
            orders,
            state: Mutex::new(State { socket, ports }),
            most,
        })
    }

    /// The lines for `/metrics`; none if the kernel or the thread cannot be asked. It waits for
    /// that thread, for [`PATIENCE`]: for the threads that may.
    #[must_use]
    pub fn lines(&self) -> String {
        if self.most == 0 {
            return String::new();
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { socket, ports } = &mut *state;
        let (reply, answer) = oneshot::channel();
        let ask = Ask::Ports {
            moment: ports.moment,
            reply,
        };
        if self.orders.send(Order::Ask(ask)).is_err() {
            return String::new();
        }
        // Of a thread that is busy: the ports as they were the last time.
        if let Some(Some(newer)) = within(PATIENCE, answer) {
            *ports = newer;
        }
        let mut series = BTreeMap::new();
        for (family, (table, names)) in Family::BOTH.into_iter().zip(&ports.tables) {
            let Ok(counts) = counts::connections(socket, table) else {
                return String::new();
            };
            add(&mut series, family, names, &counts);
        }
        lines(&series, self.most)
    }
}

/// What a thread answers in time; `None` if it is busy for longer, or gone.
fn within<T>(patience: Duration, mut answer: oneshot::Receiver<T>) -> Option<T> {
    let until = clock::now() + patience;
    loop {
        match answer.try_recv() {
            Ok(answer) => return Some(answer),
            Err(TryRecvError::Empty) if clock::now() < until => std::thread::sleep(LOOK),
            Err(_) => return None,
        }
    }
}

/// How long a scrape waits for the plane's thread, and how often it looks.
const PATIENCE: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(1);

/// A Service port, and the family of the address that was connected to. Each is counted, and forgotten after a day, by itself: a
/// sum of them would go down, which a counter must not.
type Series = (Arc<PortName>, Family);

/// What counts for a port that went is nobody's.
fn add(
    series: &mut BTreeMap<Series, u64>,
    family: Family,
    names: &BTreeMap<u32, Arc<PortName>>,
    counts: &BTreeMap<u32, u64>,
) {
    for (number, count) in counts {
        if let Some(name) = names.get(number) {
            *series.entry((name.clone(), family)).or_default() += count;
        }
    }
}

/// One series a port and family, in the order of their names, and how many more there are than are told.
fn lines(series: &BTreeMap<Series, u64>, most: usize) -> String {
    let name = "daymark_service_connections";
    let mut out = format!(
        "# HELP {name} New connections that a Service port was sent, from the first after a day without any.\n# TYPE {name} counter\n"
    );
    for ((port, family), count) in series.iter().take(most) {
        let PortName {
            service,
            port,
            protocol,
        } = &**port;
        let (namespace, service) = (&service.namespace, &service.name);
        // Writing to a String cannot fail; names of Services and ports need no escapes.
        let _ = writeln!(
            out,
            "{name}_total{{namespace=\"{namespace}\",service=\"{service}\",port=\"{port}\",protocol=\"{protocol}\",ip_family=\"{family}\"}} {count}"
        );
    }
    let more = series.len().saturating_sub(most);
    let name = "daymark_service_connections_untold";
    let _ = writeln!(
        out,
        "# HELP {name} Series of daymark_service_connections beyond --connection-series, the last ones by name.\n# TYPE {name} gauge\n{name} {more}"
    );
    out
}

/// The most series, unless another number is wanted.
pub const MOST: usize = 1_000;

#[cfg(test)]
mod tests {
    use daymark_model::{Protocol, ServiceKey};

    use super::*;

    fn port(service: &str, port: &str) -> Arc<PortName> {
        Arc::new(PortName {
            service: ServiceKey::new("shop", service),
            port: port.into(),
            protocol: Protocol::Tcp,
        })
    }

    #[test]
    fn each_port_and_family_is_a_series_and_numbers_without_a_port_are_nobodys() {
        let four = BTreeMap::from([(1, port("web", "http")), (2, port("web", "https"))]);
        let six = BTreeMap::from([(1, port("db", "")), (7, port("web", "http"))]);
        let mut series = BTreeMap::new();
        let counts = [(1, 10), (2, 5), (3, 99)].into();
        add(&mut series, Family::V4, &four, &counts);
        add(&mut series, Family::V6, &six, &[(1, 2), (7, 1)].into());
        let text = lines(&series, MOST);
        let rows: Vec<&str> = text
            .lines()
            .skip(2)
            .take_while(|row| !row.starts_with('#'))
            .collect();
        let row = |service: &str, port: &str, family: &str, count: u64| {
            format!(
                r#"daymark_service_connections_total{{namespace="shop",service="{service}",port="{port}",protocol="TCP",ip_family="{family}"}} {count}"#
            )
        };
        assert_eq!(
            rows,
            [
                row("db", "", "IPv6", 2),
                row("web", "http", "IPv4", 10),
                row("web", "http", "IPv6", 1),
                row("web", "https", "IPv4", 5),
            ]
        );
    }

    #[test]
    fn there_are_at_most_as_many_series_as_are_wanted_and_it_is_told_how_many_more() {
        let one = |number: u64| port(&format!("s-{number:05}"), "http");
        let series: BTreeMap<Series, u64> = (0..1_003).map(|n| ((one(n), Family::V4), 2)).collect();
        for (most, more) in [(MOST, 3), (10, 993), (2_000, 0)] {
            let text = lines(&series, most);
            let told = text.matches("daymark_service_connections_total{").count();
            assert_eq!(told, most.min(1_003));
            let rest = format!("\ndaymark_service_connections_untold {more}\n");
            assert!(text.ends_with(&rest), "{most}");
        }
    }

    #[test]
    fn with_no_series_nobody_is_asked() {
        let (orders, asked) = std::sync::mpsc::channel();
        let connections = Connections::open(orders, 0).expect("a socket");
        assert_eq!(connections.lines(), "");
        assert!(asked.try_recv().is_err());
    }

    #[test]
    fn a_thread_that_is_busy_is_not_waited_for() {
        let (reply, answer) = oneshot::channel::<u8>();
        assert_eq!(within(Duration::from_millis(20), answer), None);
        drop(reply);
        let (reply, answer) = oneshot::channel();
        reply.send(7).expect("a receiver");
        assert_eq!(within(PATIENCE, answer), Some(7));
    }
}
