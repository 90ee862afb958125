//! New connections of each Service, read from the plane's tables when somebody asks.
//!
//! The tables count by the numbers of Service ports; whose they are the plane's thread says, once for each state of it. The
//! tables are read beside that thread.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use daymark_dataplane::nft::counts;
use daymark_model::ServiceKey;
use daymark_model::desired::PortName;
use daymark_sys::netlink::{NfSocket, OpenError};
use tokio::sync::oneshot;

use crate::ask::{Ask, Ports};
use crate::proxy::Order;

/// Who reads them.
#[derive(Debug)]
pub struct Connections {
    orders: Sender<Order>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    socket: NfSocket,
    ports: Ports,
}

impl Connections {
    /// Opens a socket in the network namespace of this thread.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn open(orders: Sender<Order>) -> Result<Self, OpenError> {
        let (socket, ports) = (NfSocket::open()?, Ports::default());
        Ok(Self {
            orders,
            state: Mutex::new(State { socket, ports }),
        })
    }

    /// The lines for `/metrics`; none if the kernel or the thread cannot be asked. It waits for that thread: for the threads
    /// that may.
    #[must_use]
    pub fn lines(&self) -> String {
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
        match answer.blocking_recv() {
            Ok(Some(newer)) => *ports = newer,
            Ok(None) => {}
            Err(_) => return String::new(),
        }
        let mut services = BTreeMap::new();
        for (table, names) in &ports.tables {
            let Ok(counts) = counts::connections(socket, table) else {
                return String::new();
            };
            add(&mut services, names, &counts);
        }
        lines(&services)
    }
}

/// Adds up the ports of each Service; what counts for a port that went is nobody's.
fn add(
    services: &mut BTreeMap<ServiceKey, u64>,
    names: &BTreeMap<u32, Arc<PortName>>,
    counts: &BTreeMap<u32, u64>,
) {
    for (number, count) in counts {
        if let Some(name) = names.get(number) {
            *services.entry(name.service.clone()).or_default() += count;
        }
    }
}

/// One series a Service. Beyond [`MOST`], in the order of their names, the rest has one without a name, so that the sum is right.
fn lines(services: &BTreeMap<ServiceKey, u64>) -> String {
    let name = "daymark_service_connections";
    let mut out = format!(
        "# HELP {name} New connections that a Service was sent, from the first after a day without any.\n# TYPE {name} counter\n"
    );
    let row = |out: &mut String, namespace: &str, service: &str, count| {
        // Writing to a String cannot fail; names of Services need no escapes.
        let _ = writeln!(
            out,
            "{name}_total{{namespace=\"{namespace}\",service=\"{service}\"}} {count}"
        );
    };
    for (service, count) in services.iter().take(MOST) {
        row(&mut out, &service.namespace, &service.name, *count);
    }
    if services.len() > MOST {
        let rest = services.values().skip(MOST).sum();
        row(&mut out, "", "", rest);
    }
    out
}

/// The most series.
const MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use daymark_model::Protocol;

    use super::*;

    fn port(service: &str, port: &str) -> Arc<PortName> {
        Arc::new(PortName {
            service: ServiceKey::new("shop", service),
            port: port.into(),
            protocol: Protocol::Tcp,
        })
    }

    #[test]
    fn a_services_ports_are_added_up_and_numbers_without_a_port_are_nobodys() {
        let four = BTreeMap::from([(1, port("web", "http")), (2, port("web", "https"))]);
        let six = BTreeMap::from([(1, port("db", "")), (7, port("web", "http"))]);
        let mut services = BTreeMap::new();
        add(&mut services, &four, &[(1, 10), (2, 5), (3, 99)].into());
        add(&mut services, &six, &[(1, 2), (7, 1)].into());
        let text = lines(&services);
        let rows: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                r#"daymark_service_connections_total{namespace="shop",service="db"} 2"#,
                r#"daymark_service_connections_total{namespace="shop",service="web"} 16"#,
            ]
        );
    }

    #[test]
    fn beyond_ten_thousand_services_the_rest_is_one_series() {
        let key = |number: u64| ServiceKey::new("shop", &format!("s-{number:05}"));
        let services: BTreeMap<ServiceKey, u64> = (0..10_003).map(|n| (key(n), 2)).collect();
        let text = lines(&services);
        assert_eq!(text.lines().count(), 2 + 10_000 + 1);
        let last = r#"daymark_service_connections_total{namespace="",service=""} 6"#;
        assert_eq!(text.lines().last(), Some(last));
    }
}
