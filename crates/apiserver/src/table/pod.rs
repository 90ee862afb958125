//! Pods: the Status column says in one word what upstream derives from some fifteen fields (`printPod`).

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, Layout, NAME, age, column, or, wide};
use crate::json;

pub(super) const POD: Layout = Layout {
    columns: &[
        NAME,
        column("Ready", "How many containers are ready, of how many."),
        column("Status", "What the Pod is doing."),
        column(
            "Restarts",
            "How often containers were restarted, and when last.",
        ),
        AGE,
        wide("IP", "The Pod's address."),
        wide("Node", "The node that runs it."),
        wide("Nominated Node", "The node that is being made free for it."),
        wide("Readiness Gates", "How many gates are open, of how many."),
    ],
    cells: |pod, now| {
        let summary = summarize(pod);
        vec![
            json::name(pod).into(),
            format!("{}/{}", summary.ready, summary.total).into(),
            summary.reason.into(),
            restarts(summary.restarts, summary.last_restart, now).into(),
            age::of(pod, now),
            or(pod_ip(pod), "<none>"),
            or(json::text(pod, "/spec/nodeName"), "<none>"),
            or(json::text(pod, "/status/nominatedNodeName"), "<none>"),
            gates(pod).into(),
        ]
    },
};

struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

fn summarize(pod: &Value) -> Summary {
    let restartable = restartable_inits(pod);
    let mut summary = Summary {
        reason: first_reason(pod),
        ready: 0,
        total: json::list(pod, "/spec/containers").len() + restartable.len(),
        restarts: 0,
        last_restart: None,
    };
    if !initializing(pod, &restartable, &mut summary) {
        running(pod, &mut summary);
    }
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        let lost = json::text(pod, "/status/reason") == "NodeLost";
        summary.reason = if lost { "Unknown" } else { "Terminating" }.to_owned();
    }
    summary
}

fn first_reason(pod: &Value) -> String {
    let reason = match json::text(pod, "/status/reason") {
        "" => json::text(pod, "/status/phase"),
        reason => reason,
    };
    let gated = json::list(pod, "/status/conditions")
        .iter()
        .any(|condition| {
            json::text(condition, "/type") == "PodScheduled"
                && json::text(condition, "/reason") == "SchedulingGated"
        });
    if gated { "SchedulingGated" } else { reason }.to_owned()
}

fn restartable_inits(pod: &Value) -> Vec<&str> {
    let inits = json::list(pod, "/spec/initContainers").iter();
    inits
        .filter(|init| json::text(init, "/restartPolicy") == "Always")
        .map(|init| json::text(init, "/name"))
        .collect()
}

/// Whether an init container is still at work; says which then.
fn initializing(pod: &Value, restartable: &[&str], summary: &mut Summary) -> bool {
    let count = json::list(pod, "/spec/initContainers").len();
    for (index, status) in json::list(pod, "/status/initContainerStatuses")
        .iter()
        .enumerate()
    {
        count_restarts(status, summary);
        let sidecar = restartable.contains(&json::text(status, "/name"));
        let exit = status
            .pointer("/state/terminated/exitCode")
            .and_then(Value::as_i64);
        if exit == Some(0) {
            continue;
        }
        if sidecar && status.get("started") == Some(&Value::Bool(true)) {
            summary.ready += usize::from(status.get("ready") == Some(&Value::Bool(true)));
            continue;
        }
        summary.reason = match (status.pointer("/state/terminated"), waiting_reason(status)) {
            (Some(ended), _) => format!("Init:{}", ended_reason(ended)),
            (None, reason) if !reason.is_empty() && reason != "PodInitializing" => {
                format!("Init:{reason}")
            }
            _ => format!("Init:{index}/{count}"),
        };
        return true;
    }
    false
}

fn running(pod: &Value, summary: &mut Summary) {
    let mut has_running = false;
    for status in json::list(pod, "/status/containerStatuses").iter().rev() {
        count_restarts(status, summary);
        let reason = waiting_reason(status);
        if !reason.is_empty() {
            summary.reason = reason.to_owned();
        } else if let Some(ended) = status.pointer("/state/terminated") {
            summary.reason = ended_reason(ended);
        } else if status.get("ready") == Some(&Value::Bool(true))
            && status.pointer("/state/running").is_some()
        {
            has_running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" && has_running {
        let ready = condition(pod, "Ready") == "True";
        summary.reason = if ready { "Running" } else { "NotReady" }.to_owned();
    }
}

fn waiting_reason(status: &Value) -> &str {
    json::text(status, "/state/waiting/reason")
}

fn ended_reason(ended: &Value) -> String {
    let number = |field: &str| ended.get(field).and_then(Value::as_i64).unwrap_or(0);
    match (json::text(ended, "/reason"), number("signal")) {
        ("", 0) => format!("ExitCode:{}", number("exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn count_restarts(status: &Value, summary: &mut Summary) {
    summary.restarts += status
        .get("restartCount")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    let ended = json::time(status, "/lastState/terminated/finishedAt");
    summary.last_restart = summary.last_restart.max(ended);
}

fn restarts(count: i64, last: Option<Timestamp>, now: Timestamp) -> String {
    match last {
        Some(last) if count > 0 => format!(
            "{count} ({} ago)",
            age::human(now.as_second() - last.as_second())
        ),
        _ => count.to_string(),
    }
}

fn pod_ip(pod: &Value) -> &str {
    match json::list(pod, "/status/podIPs").first() {
        Some(first) => json::text(first, "/ip"),
        None => json::text(pod, "/status/podIP"),
    }
}

fn gates(pod: &Value) -> String {
    let gates = json::list(pod, "/spec/readinessGates");
    let open = gates
        .iter()
        .filter(|gate| condition(pod, json::text(gate, "/conditionType")) == "True")
        .count();
    match gates.len() {
        0 => "<none>".to_owned(),
        count => format!("{open}/{count}"),
    }
}

fn condition<'a>(pod: &'a Value, kind: &str) -> &'a str {
    let conditions = json::list(pod, "/status/conditions").iter();
    let mut of_kind = conditions.filter(|condition| json::text(condition, "/type") == kind);
    of_kind
        .next()
        .map_or("", |condition| json::text(condition, "/status"))
}
