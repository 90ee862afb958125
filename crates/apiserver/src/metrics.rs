//! The few figures that say how the server is doing.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use daymark_store::Store;
use http::{Method, StatusCode};

use crate::object::Object;

/// Counters, read by `/metrics`.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// By method, then by class of status code.
    requests: [[AtomicU64; 5]; METHODS.len()],
    microseconds: AtomicU64,
}

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OTHER"];

impl Metrics {
    /// Counts a request that was answered; of a watch, its beginning.
    pub(crate) fn count(&self, method: &Method, code: StatusCode, took: Duration) {
        let row = METHODS
            .iter()
            .position(|known| *known == method.as_str())
            .unwrap_or(METHODS.len() - 1);
        let column = usize::from(code.as_u16() / 100).clamp(1, 5) - 1;
        self.requests[row][column].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.microseconds.fetch_add(micros, Ordering::Relaxed);
    }

    /// The text form of Prometheus.
    pub(crate) fn render(&self, store: &Store<Object>, watchers: usize) -> String {
        let mut out = String::new();
        let mut line =
            |text: std::fmt::Arguments<'_>| writeln!(out, "{text}").expect("writing to a string");
        line(format_args!(
            "# HELP daymark_api_requests_total Requests answered."
        ));
        line(format_args!("# TYPE daymark_api_requests_total counter"));
        for (method, row) in METHODS.iter().zip(&self.requests) {
            for (class, count) in row.iter().enumerate() {
                let (class, count) = (class + 1, count.load(Ordering::Relaxed));
                if count > 0 {
                    line(format_args!(
                        "daymark_api_requests_total{{method=\"{method}\",code=\"{class}xx\"}} {count}"
                    ));
                }
            }
        }
        let seconds =
            Duration::from_micros(self.microseconds.load(Ordering::Relaxed)).as_secs_f64();
        line(format_args!(
            "# HELP daymark_api_request_seconds_total Time until answers began."
        ));
        line(format_args!(
            "# TYPE daymark_api_request_seconds_total counter"
        ));
        line(format_args!("daymark_api_request_seconds_total {seconds}"));
        let snapshot = store.snapshot();
        let objects: usize = snapshot
            .kinds()
            .map(|kind| snapshot.count(kind, None))
            .sum();
        for (name, help, value) in [
            (
                "daymark_api_watches",
                "Watches that are open.",
                watchers as u64,
            ),
            ("daymark_api_objects", "Objects stored.", objects as u64),
            (
                "daymark_api_revision",
                "The newest durable revision.",
                store.revision(),
            ),
            (
                "daymark_api_writable",
                "1 while the store takes writes.",
                u64::from(store.health().is_ready()),
            ),
        ] {
            line(format_args!("# HELP {name} {help}"));
            line(format_args!("# TYPE {name} gauge"));
            line(format_args!("{name} {value}"));
        }
        out
    }
}
