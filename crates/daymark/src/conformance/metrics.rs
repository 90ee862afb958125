//! The names and labels of `/metrics`, beside those of the real kube-proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use anyhow::{Context, bail};

/// The families of a text: type and labels by name.
pub(crate) type Families = BTreeMap<String, Family>;

/// What everything of one name has in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Family {
    kind: String,
    /// But for `le`, which tells the buckets apart.
    labels: BTreeSet<String>,
    /// Without samples nobody knows the labels.
    samples: usize,
}

/// What kube-proxy has and daymark does not: the beginnings of names, each with a row in docs/from-kube-proxy.md.
const NOT_SERVED: &[&str] = &[
    "aggregator_discovery_",
    "apiserver_",
    "cardinality_enforcement_",
    "disabled_metrics_total",
    "go_",
    "hidden_metrics_total",
    "kubernetes_build_info",
    "kubernetes_feature_enabled",
    "kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total",
    "process_network_",
    "registered_metrics_total",
    "rest_client_exec_plugin_",
    "rest_client_rate_limiter_duration_seconds",
    "rest_client_request_size_bytes",
    "rest_client_response_size_bytes",
    "rest_client_transport_",
];

/// What differs between kube-proxy's families and daymark's, a line each.
pub(crate) fn differences(kube: &Families, daymark: &Families) -> Vec<String> {
    let is_served = |name: &&String| !NOT_SERVED.iter().any(|left_out| name.starts_with(left_out));
    let mut lines = Vec::new();
    for name in kube.keys().filter(is_served) {
        let theirs = &kube[name];
        let Some(own) = daymark.get(name) else {
            lines.push(format!("{name}: kube-proxy has it, daymark does not"));
            continue;
        };
        if own.kind != theirs.kind {
            lines.push(format!(
                "{name}: a {} of kube-proxy's, a {} of daymark's",
                theirs.kind, own.kind
            ));
        }
        if own.labels != theirs.labels && own.samples > 0 && theirs.samples > 0 {
            lines.push(format!(
                "{name}: labels {:?} of kube-proxy's, {:?} of daymark's",
                theirs.labels, own.labels
            ));
        }
    }
    lines
}

/// Asks the port of a proxy in the network namespace of this thread.
pub(crate) fn read() -> anyhow::Result<Families> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, 10_249)).context("port 10249")?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        bail!("/metrics: an answer without a body");
    };
    let first = head.lines().next().unwrap_or_default();
    if !first.contains(" 200 ") || !head.contains("text/plain; version=0.0.4") {
        bail!("/metrics: {head}");
    }
    Ok(parse(body))
}

/// The families of Prometheus' text.
fn parse(text: &str) -> Families {
    let mut families = Families::new();
    for line in text.lines() {
        if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            kind.clone_into(&mut families.entry(name.to_owned()).or_default().kind);
            continue;
        }
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let of = ["", "_bucket", "_sum", "_count"].iter().find_map(|end| {
            name.strip_suffix(end)
                .filter(|of| families.contains_key(*of))
        });
        if let Some(family) = of.and_then(|of| families.get_mut(of)) {
            family.samples += 1;
            family.labels.extend(labels(&line[name.len()..]));
        }
    }
    families
}

/// The names of the labels at the beginning of the rest of a line.
fn labels(rest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut rest = rest.strip_prefix('{').unwrap_or_default();
    while let Some((name, behind)) = rest.split_once("=\"") {
        names.insert(name.trim_start_matches(',').to_owned());
        // The value ends at the first quote that is not escaped.
        let mut escaped = false;
        let end = behind.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        rest = end.map_or("", |end| &behind[end + 1..]);
        if rest.starts_with('}') {
            break;
        }
    }
    names.remove("le");
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_types_and_labels_are_compared_and_what_is_left_out_is_not() {
        let kube = "\
# TYPE go_threads gauge
go_threads 3
# TYPE a_total counter
a_total{code=\"a \\\"b=\\\",\",verb=\"GET\"} 1
# TYPE b_seconds histogram
b_seconds_bucket{ip_family=\"IPv4\",le=\"1\"} 1
b_seconds_sum{ip_family=\"IPv4\"} 1
# TYPE c gauge
c 1
# TYPE d gauge
d 1
";
        let own = "\
# TYPE a_total counter
a_total{verb=\"GET\",code=\"}\"} 1
# TYPE b_seconds histogram
b_seconds_bucket{le=\"1\"} 1
# TYPE c counter
";
        let found = differences(&parse(kube), &parse(own));
        assert_eq!(
            found,
            [
                r#"b_seconds: labels {"ip_family"} of kube-proxy's, {} of daymark's"#,
                "c: a gauge of kube-proxy's, a counter of daymark's",
                "d: kube-proxy has it, daymark does not",
            ]
        );
        assert_eq!(differences(&parse(kube), &parse(kube)), [""; 0]);
    }

    #[test]
    fn what_is_not_served_has_a_row_in_the_documents() {
        let text = include_str!("../../../../docs/from-kube-proxy.md");
        for name in NOT_SERVED {
            let shown = if name.ends_with('_') {
                format!("`{name}*`")
            } else {
                format!("`{name}`")
            };
            assert!(
                text.contains(&shown),
                "{shown} is not in docs/from-kube-proxy.md"
            );
        }
    }
}
