//! A Pod's status, from what its containers are doing.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::plan::{Refusal, Restart, Role};

/// All that decides a Pod's status.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    /// The Pod as the API last showed it: its conditions keep their transition times.
    pub(super) pod: &'a core::Pod,
    pub(super) containers: &'a [ContainerView],
    pub(super) restart: Restart,
    pub(super) addresses: &'a [IpAddr],
    pub(super) node_addresses: &'a [IpAddr],
    pub(super) seen: Timestamp,
}

/// One container.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ContainerView {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) image: String,
    pub(super) state: State,
    pub(super) ready: bool,
    pub(super) restarts: i32,
    pub(super) last: Option<Ended>,
}

/// What a container is doing.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    Waiting(Refusal),
    Running { since: Timestamp, pid: u32 },
    Ended(Ended),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ended {
    /// As a shell gives it: 128 + n for signal n.
    pub(super) code: i32,
    pub(super) signal: Option<i32>,
    pub(super) started: Timestamp,
    pub(super) finished: Timestamp,
    pub(super) pid: u32,
}

/// The status to report.
pub(super) fn status(view: View<'_>, now: Timestamp) -> core::PodStatus {
    let phase = phase(view.containers, view.restart);
    core::PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(conditions(view, phase, now)),
        container_statuses: Some(statuses(view.containers, Role::Main)),
        init_container_statuses: Some(statuses(view.containers, Role::Sidecar))
            .filter(|statuses| !statuses.is_empty()),
        host_ip: view.node_addresses.first().map(ToString::to_string),
        host_ips: some(view.node_addresses, |ip| core::HostIP {
            ip: ip.to_string(),
        }),
        pod_ip: view.addresses.first().map(ToString::to_string),
        pod_ips: some(view.addresses, |ip| core::PodIP { ip: ip.to_string() }),
        start_time: Some(Time(view.seen)),
        observed_generation: view.pod.metadata.generation,
        qos_class: Some("BestEffort".to_owned()),
        ..core::PodStatus::default()
    }
}

fn some<T>(addresses: &[IpAddr], wrap: impl Fn(&IpAddr) -> T) -> Option<Vec<T>> {
    (!addresses.is_empty()).then(|| addresses.iter().map(wrap).collect())
}

fn statuses(containers: &[ContainerView], role: Role) -> Vec<core::ContainerStatus> {
    let of_role = containers.iter().filter(|view| view.role == role);
    of_role.map(container_status).collect()
}

/// The phase, as the kubelet's `getPhase` decides it.
///
/// In order: a container that never ran -> Pending; one that runs or will run again -> Running; all ended well ->
/// Succeeded; else Failed. Once it has run a sidecar counts no more.
fn phase(containers: &[ContainerView], restart: Restart) -> &'static str {
    let never_ran = |c: &ContainerView| matches!(c.state, State::Waiting(_)) && c.last.is_none();
    if containers.iter().any(never_ran) {
        return "Pending";
    }
    let main: Vec<&ContainerView> = containers.iter().filter(|c| c.role == Role::Main).collect();
    let goes_on = |c: &ContainerView| match (&c.state, restart) {
        (State::Ended(ended), Restart::OnFailure) => ended.code != 0,
        (State::Ended(_), Restart::Never) => false,
        _ => true,
    };
    if main.iter().any(|c| goes_on(c)) {
        return "Running";
    }
    let failed = |c: &ContainerView| matches!(&c.state, State::Ended(ended) if ended.code != 0);
    if main.iter().any(|c| failed(c)) {
        "Failed"
    } else {
        "Succeeded"
    }
}

/// The conditions a kubelet owns, and those of others as they are.
fn conditions(view: View<'_>, phase: &str, now: Timestamp) -> Vec<core::PodCondition> {
    let before = view
        .pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let ended = matches!(phase, "Succeeded" | "Failed");
    let containers_ready = !ended && view.containers.iter().all(|container| container.ready);
    let gates = view
        .pod
        .spec
        .iter()
        .flat_map(|spec| spec.readiness_gates.iter().flatten());
    let gates_open = gates.into_iter().all(|gate| {
        before
            .iter()
            .any(|condition| condition.type_ == gate.condition_type && condition.status == "True")
    });
    let why = if ended {
        "PodCompleted"
    } else {
        "ContainersNotReady"
    };
    let unready: Vec<&str> = view
        .containers
        .iter()
        .filter(|container| !container.ready)
        .map(|container| container.name.as_str())
        .collect();
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    let own = [
        (
            "PodReadyToStartContainers",
            !view.addresses.is_empty(),
            "",
            "",
        ),
        ("Initialized", true, "", ""),
        (
            "Ready",
            containers_ready && gates_open,
            if containers_ready {
                "ReadinessGatesNotReady"
            } else {
                why
            },
            &message,
        ),
        ("ContainersReady", containers_ready, why, &message),
        ("PodScheduled", true, "", ""),
    ];
    let mut conditions: Vec<core::PodCondition> = own
        .iter()
        .map(|&(kind, holds, why, message)| condition(before, kind, holds, (why, message), now))
        .collect();
    conditions.extend(
        before
            .iter()
            .filter(|other| own.iter().all(|(kind, ..)| *kind != other.type_))
            .cloned(),
    );
    conditions
}

fn condition(
    before: &[core::PodCondition],
    kind: &str,
    holds: bool,
    (reason, message): (&str, &str),
    now: Timestamp,
) -> core::PodCondition {
    let status = if holds { "True" } else { "False" };
    let same = before
        .iter()
        .find(|condition| condition.type_ == kind && condition.status == status);
    let since = same
        .and_then(|condition| condition.last_transition_time.clone())
        .unwrap_or(Time(now));
    let said = |text: &str| (!holds && !text.is_empty()).then(|| text.to_owned());
    core::PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: said(reason),
        message: said(message),
        last_transition_time: Some(since),
        ..core::PodCondition::default()
    }
}

fn container_status(view: &ContainerView) -> core::ContainerStatus {
    let pid = match &view.state {
        State::Running { pid, .. } => Some(*pid),
        State::Ended(ended) => Some(ended.pid),
        State::Waiting(_) => None,
    };
    core::ContainerStatus {
        name: view.name.clone(),
        image: view.image.clone(),
        image_id: String::new(),
        container_id: pid.map(|pid| format!("lab://{pid}")),
        ready: view.ready,
        started: Some(matches!(view.state, State::Running { .. })),
        restart_count: view.restarts,
        state: Some(container_state(&view.state)),
        last_state: view
            .last
            .as_ref()
            .map(|ended| container_state(&State::Ended(ended.clone()))),
        ..core::ContainerStatus::default()
    }
}

fn container_state(state: &State) -> core::ContainerState {
    let mut result = core::ContainerState::default();
    match state {
        State::Waiting(refusal) => {
            result.waiting = Some(core::ContainerStateWaiting {
                reason: Some(refusal.reason.to_owned()),
                message: Some(refusal.message.clone()).filter(|message| !message.is_empty()),
            });
        }
        State::Running { since, .. } => {
            result.running = Some(core::ContainerStateRunning {
                started_at: Some(Time(*since)),
            });
        }
        State::Ended(ended) => {
            result.terminated = Some(core::ContainerStateTerminated {
                exit_code: ended.code,
                signal: ended.signal,
                reason: Some(
                    if ended.code == 0 {
                        "Completed"
                    } else {
                        "Error"
                    }
                    .to_owned(),
                ),
                started_at: Some(Time(ended.started)),
                finished_at: Some(Time(ended.finished)),
                ..core::ContainerStateTerminated::default()
            });
        }
    }
    result
}

/// Whether the API shows something else than was reported, in the parts others decide by: a node controller marks
/// the Pods of a node it cannot hear as not ready, and the node's return must undo it.
pub(super) fn differs(shown: &core::Pod, reported: &core::PodStatus) -> bool {
    let Some(shown) = &shown.status else {
        return true;
    };
    let ready = |status: &core::PodStatus| {
        let all = status.conditions.iter().flatten();
        all.filter(|c| matches!(c.type_.as_str(), "Ready" | "ContainersReady"))
            .map(|c| c.status.clone())
            .collect::<Vec<_>>()
    };
    shown.phase != reported.phase
        || shown.pod_ips != reported.pod_ips
        || ready(shown) != ready(reported)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ended(code: i32) -> Ended {
        Ended {
            code,
            signal: None,
            started: at(1),
            finished: at(2),
            pid: 7,
        }
    }

    fn container(state: State, ready: bool) -> ContainerView {
        ContainerView {
            name: "c".into(),
            role: Role::Main,
            image: "i".into(),
            state,
            ready,
            restarts: 0,
            last: None,
        }
    }

    fn running(ready: bool) -> ContainerView {
        container(
            State::Running {
                since: at(1),
                pid: 7,
            },
            ready,
        )
    }

    fn waiting() -> State {
        State::Waiting(Refusal {
            reason: "ContainerCreating",
            message: String::new(),
        })
    }

    #[test]
    fn the_phase_follows_containers_and_restart_policy() {
        let sidecar = |state| ContainerView {
            role: Role::Sidecar,
            ..container(state, true)
        };
        let over = container(State::Ended(ended(0)), false);
        let beside = |state| phase(&[sidecar(state), over.clone()], Restart::Never);
        assert_eq!(beside(running(true).state), "Succeeded");
        assert_eq!(beside(waiting()), "Pending");
        let restarted = ContainerView {
            last: Some(ended(1)),
            ..container(waiting(), false)
        };
        let good = container(State::Ended(ended(0)), false);
        let bad = container(State::Ended(ended(1)), false);
        for (containers, restart, expected) in [
            (
                vec![container(waiting(), false)],
                Restart::Always,
                "Pending",
            ),
            (
                vec![running(true), container(waiting(), false)],
                Restart::Always,
                "Pending",
            ),
            (vec![running(false)], Restart::Always, "Running"),
            (vec![restarted], Restart::Always, "Running"),
            (vec![good.clone()], Restart::Always, "Running"),
            (vec![good.clone()], Restart::Never, "Succeeded"),
            (vec![good.clone(), bad.clone()], Restart::Never, "Failed"),
            (vec![good.clone(), running(true)], Restart::Never, "Running"),
            (vec![bad], Restart::OnFailure, "Running"),
            (vec![good], Restart::OnFailure, "Succeeded"),
        ] {
            assert_eq!(
                phase(&containers, restart),
                expected,
                "{containers:?} {restart:?}"
            );
        }
    }

    fn report(pod: &core::Pod, containers: &[ContainerView], now: i64) -> core::PodStatus {
        let addresses = ["10.244.1.2".parse().unwrap()];
        let view = View {
            pod,
            containers,
            restart: Restart::Always,
            addresses: &addresses,
            node_addresses: &addresses,
            seen: at(0),
        };
        status(view, at(now))
    }

    fn condition_of(status: &core::PodStatus, kind: &str) -> (String, i64) {
        let all = status.conditions.as_ref().unwrap();
        let found = all
            .iter()
            .find(|condition| condition.type_ == kind)
            .unwrap();
        (
            found.status.clone(),
            found.last_transition_time.as_ref().unwrap().0.as_second(),
        )
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_changes() {
        let mut pod = core::Pod::default();
        let first = report(&pod, &[running(false)], 10);
        assert_eq!(condition_of(&first, "Ready"), ("False".into(), 10));
        pod.status = Some(first);
        let second = report(&pod, &[running(false)], 20);
        assert_eq!(condition_of(&second, "Ready"), ("False".into(), 10));
        let third = report(&pod, &[running(true)], 30);
        assert_eq!(condition_of(&third, "Ready"), ("True".into(), 30));
        assert_eq!(condition_of(&third, "PodScheduled"), ("True".into(), 10));
    }

    #[test]
    fn conditions_of_others_stay_and_gates_hold_a_pod_back() {
        let pod: core::Pod = serde_json::from_value(serde_json::json!({
            "spec": {"containers": [], "readinessGates": [{"conditionType": "lb/attached"}]},
            "status": {"conditions": [{"type": "lb/attached", "status": "False"}]},
        }))
        .unwrap();
        let status = report(&pod, &[running(true)], 10);
        assert_eq!(condition_of(&status, "ContainersReady").0, "True");
        assert_eq!(condition_of(&status, "Ready").0, "False");
        assert!(
            status
                .conditions
                .unwrap()
                .iter()
                .any(|condition| condition.type_ == "lb/attached")
        );
    }

    #[test]
    fn a_foreign_change_of_readiness_is_noticed() {
        let mut pod = core::Pod::default();
        let reported = report(&pod, &[running(true)], 10);
        assert!(differs(&pod, &reported));
        pod.status = Some(reported.clone());
        assert!(!differs(&pod, &reported));
        for condition in pod.status.as_mut().unwrap().conditions.as_mut().unwrap() {
            if condition.type_ == "Ready" {
                condition.status = "False".into();
            }
        }
        assert!(differs(&pod, &reported));
    }
}
