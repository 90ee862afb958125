//! Counters of the agent's parts as lines of `/metrics`.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use daymark_feed::{Kind, KindMetrics};

/// The lines of DNS, the announcer and the feed.
pub(crate) fn of_parts(
    dns: Option<&daymark_dns::Metrics>,
    announcer: &daymark_lb::Metrics,
    feed: &daymark_feed::Metrics,
) -> String {
    let mut out = String::new();
    if let Some(dns) = dns {
        of_dns(&mut out, dns);
    }
    counter(
        &mut out,
        "daymark_announcer_answers",
        "Questions for load-balancer addresses answered",
        &[("", &announcer.answered)],
    );
    counter(
        &mut out,
        "daymark_announcer_announcements",
        "Unsolicited announcements sent",
        &[("", &announcer.announced)],
    );
    let _ = writeln!(
        out,
        "# HELP daymark_announcer_addresses Addresses this node answers for.\n# TYPE daymark_announcer_addresses gauge"
    );
    let _ = writeln!(
        out,
        "daymark_announcer_addresses {}",
        announcer.answering().len()
    );
    // Not of kinds that nobody here watches: that their watch is not open is nothing to be called for.
    let kinds: Vec<(String, &KindMetrics)> = Kind::ALL
        .into_iter()
        .map(|kind| (format!("{{kind=\"{kind}\"}}"), feed.kind(kind)))
        .filter(|(_, kind)| kind.watched.load(Ordering::Relaxed))
        .collect();
    let mut of_kinds = |name, help, count: fn(&KindMetrics) -> &AtomicU64| {
        let rows: Vec<(&str, &AtomicU64)> = kinds
            .iter()
            .map(|(label, kind)| (label.as_str(), count(kind)))
            .collect();
        counter(&mut out, name, help, &rows);
    };
    of_kinds("daymark_feed_objects", "Objects received", |kind| {
        &kind.received
    });
    of_kinds(
        "daymark_feed_watch_failures",
        "Times that a watch or list broke or could not be opened",
        |kind| &kind.failures,
    );
    of_kinds(
        "daymark_feed_unreadable",
        "Values and objects that could not be read",
        |kind| &kind.unreadable,
    );
    out.push_str("# HELP daymark_feed_watch_connected Whether a watch of the API is open now.\n");
    out.push_str("# TYPE daymark_feed_watch_connected gauge\n");
    for (label, kind) in &kinds {
        let connected = u8::from(kind.connected.load(Ordering::Relaxed));
        let _ = writeln!(out, "daymark_feed_watch_connected{label} {connected}");
    }
    out
}

fn of_dns(out: &mut String, dns: &daymark_dns::Metrics) {
    let by_transport = [
        ("{proto=\"udp\"}", &dns.queries_udp),
        ("{proto=\"tcp\"}", &dns.queries_tcp),
    ];
    counter(
        out,
        "coredns_dns_requests",
        "Questions received",
        &by_transport,
    );
    let by_code = [
        ("{rcode=\"NOERROR\"}", &dns.noerror),
        ("{rcode=\"NXDOMAIN\"}", &dns.nxdomain),
        ("{rcode=\"SERVFAIL\"}", &dns.servfail),
        ("{rcode=\"FORMERR\"}", &dns.formerr),
        ("{rcode=\"other\"}", &dns.other_rcode),
    ];
    counter(out, "coredns_dns_responses", "Answers by code", &by_code);
    counter(
        out,
        "daymark_dns_forwarded",
        "Questions sent to an upstream",
        &[("", &dns.forwarded)],
    );
    counter(
        out,
        "daymark_dns_held",
        "Names held back until the data plane had them",
        &[("", &dns.held)],
    );
    counter(
        out,
        "daymark_dns_hold_timeouts",
        "Names let go because the data plane took too long",
        &[("", &dns.hold_timeouts)],
    );
    counter(
        out,
        "coredns_panics",
        "Questions about which the server panicked",
        &[("", &dns.panics)],
    );
}

/// Writing to a String cannot fail.
fn counter(out: &mut String, name: &str, help: &str, rows: &[(&str, &AtomicU64)]) {
    let _ = writeln!(out, "# HELP {name} {help}.\n# TYPE {name} counter");
    for (labels, value) in rows {
        let _ = writeln!(
            out,
            "{name}_total{labels} {}",
            value.load(Ordering::Relaxed)
        );
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn kinds_that_nobody_watches_have_no_lines() {
        let feed = daymark_feed::Metrics::default();
        let service = feed.kind(Kind::Service);
        service.watched.store(true, Ordering::Relaxed);
        let connected = || {
            let text = of_parts(None, &daymark_lb::Metrics::default(), &feed);
            let lines = text
                .lines()
                .filter(|line| line.starts_with("daymark_feed_"));
            let lines: Vec<String> = lines.map(str::to_owned).collect();
            let service = "kind=\"Service\"";
            assert!(lines.iter().all(|line| line.contains(service)), "{text}");
            lines.last().cloned().expect("lines of the feed")
        };
        assert_eq!(
            connected(),
            "daymark_feed_watch_connected{kind=\"Service\"} 0"
        );
        service.connected.store(true, Ordering::Relaxed);
        assert_eq!(
            connected(),
            "daymark_feed_watch_connected{kind=\"Service\"} 1"
        );
    }

    /// Metrics of the agent in what docs/metrics.md asks to be called for.
    fn called_for() -> BTreeSet<&'static str> {
        let text = include_str!("../../../docs/metrics.md");
        let exprs = text
            .lines()
            .filter(|line| line.trim_start().starts_with("expr: "));
        let words =
            exprs.flat_map(|expr| expr.split(|c: char| !c.is_ascii_lowercase() && c != '_'));
        words
            .filter(|word| word.starts_with("daymark_") || word.starts_with("kubeproxy_"))
            .collect()
    }

    #[test]
    fn every_metric_that_an_alert_asks_for_is_there() {
        let feed = daymark_feed::Metrics::default();
        let text = daymark_node::metrics::Metrics::default().families()
            + &of_parts(None, &daymark_lb::Metrics::default(), &feed);
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let types: BTreeSet<&str> = types.filter_map(|line| line.split(' ').next()).collect();
        let called_for = called_for();
        assert!(called_for.len() > 8, "{called_for:?}");
        for name in called_for {
            let of_type = ["_total", "_bucket"]
                .into_iter()
                .find_map(|end| name.strip_suffix(end));
            let known = of_type.unwrap_or(name);
            assert!(types.contains(known), "{name} is not in\n{text}");
        }
    }
}
