//! What a Pod object asks of the lab, or why the lab cannot do it.

use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The containers of a Pod, ready to be run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) containers: Vec<Container>,
    pub(super) network: Network,
    pub(super) restart: Restart,
}

/// One container.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) image: String,
    pub(super) program: Program,
    pub(super) directory: Option<String>,
    pub(super) readiness: Option<Probe>,
    pub(super) before_stop: Option<BeforeStop>,
    /// The object itself, for its environment.
    pub(super) env: Vec<core::EnvVar>,
}

/// What a container is to its Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// One of those that the Pod is for.
    Main,
    /// An init container that goes on beside them (KEP-753).
    Sidecar,
}

/// What a container runs. Variables in it are not expanded yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// A command line.
    Command(Vec<String>),
    /// The built-in test server, for a container that names only an image.
    Echo {
        /// Its ports.
        ports: Vec<u16>,
    },
}

/// The network namespace of a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    /// Its own.
    Pod,
    /// The node's (`hostNetwork`).
    Host,
}

/// When an ended container is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restart {
    Always,
    OnFailure,
    Never,
}

/// A readiness probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) action: Action,
    pub(super) initial_delay: Duration,
    pub(super) period: Duration,
    pub(super) timeout: Duration,
    pub(super) success_threshold: u32,
    pub(super) failure_threshold: u32,
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Http {
        host: Option<String>,
        port: u16,
        path: String,
        headers: Vec<(String, String)>,
    },
    Tcp {
        host: Option<String>,
        port: u16,
    },
    Exec(Vec<String>),
}

/// What happens before SIGTERM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BeforeStop {
    Exec(Vec<String>),
    Sleep(Duration),
}

/// Why a Pod cannot run in a lab: the container's waiting reason and message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// Reads the Pod's spec.
pub(super) fn plan(pod: &core::Pod) -> Result<Plan, Refusal> {
    let Some(spec) = &pod.spec else {
        return Err(refuse("spec: the Pod has none".to_owned()));
    };
    let (before, main) = (spec.init_containers.iter().flatten(), &spec.containers);
    let goes_on =
        |container: &core::Container| container.restart_policy.as_deref() == Some("Always");
    if !before.clone().all(goes_on) {
        return Err(refuse(
            "spec.initContainers: the lab runs those with restartPolicy Always; do the work of others in the \
             container's command"
                .to_owned(),
        ));
    }
    let period = pod
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(PERIOD));
    let period = period.map(|text| duration(text)).transpose()?;
    let sidecars = before.map(|container| self::container(container, Role::Sidecar, period));
    let containers = main
        .iter()
        .map(|container| self::container(container, Role::Main, period));
    let containers = sidecars.chain(containers);
    Ok(Plan {
        containers: containers.collect::<Result<_, _>>()?,
        network: if spec.host_network == Some(true) {
            Network::Host
        } else {
            Network::Pod
        },
        restart: match spec.restart_policy.as_deref() {
            Some("Never") => Restart::Never,
            Some("OnFailure") => Restart::OnFailure,
            _ => Restart::Always,
        },
    })
}

fn container(
    container: &core::Container,
    role: Role,
    period: Option<Duration>,
) -> Result<Container, Refusal> {
    let readiness = container
        .readiness_probe
        .as_ref()
        .map(|probe| self::probe(probe, container, period));
    let stop = container
        .lifecycle
        .as_ref()
        .and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    Ok(Container {
        name: container.name.clone(),
        role,
        image: container.image.clone().unwrap_or_default(),
        program: program(container),
        directory: container
            .working_dir
            .clone()
            .filter(|directory| !directory.is_empty()),
        readiness: readiness.transpose()?,
        before_stop: stop
            .map(|handler| before_stop(handler, &container.name))
            .transpose()?,
        env: container.env.clone().unwrap_or_default(),
    })
}

fn program(container: &core::Container) -> Program {
    let args = container.args.clone().unwrap_or_default();
    match &container.command {
        Some(command) if !command.is_empty() => Program::Command([command.clone(), args].concat()),
        _ => {
            let ports = container
                .ports
                .iter()
                .flatten()
                .filter_map(|port| u16::try_from(port.container_port).ok());
            let mut ports: Vec<u16> = ports.collect();
            ports.dedup();
            if ports.is_empty() {
                ports.push(DEFAULT_PORT);
            }
            Program::Echo { ports }
        }
    }
}

fn probe(
    probe: &core::Probe,
    container: &core::Container,
    period: Option<Duration>,
) -> Result<Probe, Refusal> {
    let field = format!("container {}: readinessProbe", container.name);
    let seconds = |value: Option<i32>, default: u64| {
        Duration::from_secs(
            value
                .and_then(|value| u64::try_from(value).ok())
                .unwrap_or(default),
        )
    };
    let count = |value: Option<i32>, default| {
        value
            .and_then(|value| u32::try_from(value).ok())
            .unwrap_or(default)
            .max(1)
    };
    Ok(Probe {
        action: action(probe, container, &field)?,
        initial_delay: seconds(probe.initial_delay_seconds, 0),
        period: period
            .unwrap_or_else(|| seconds(probe.period_seconds, 10).max(Duration::from_secs(1))),
        timeout: seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1)),
        success_threshold: count(probe.success_threshold, 1),
        failure_threshold: count(probe.failure_threshold, 3),
    })
}

fn action(
    probe: &core::Probe,
    container: &core::Container,
    field: &str,
) -> Result<Action, Refusal> {
    if let Some(http) = &probe.http_get {
        if http
            .scheme
            .as_deref()
            .is_some_and(|scheme| scheme != "HTTP")
        {
            return Err(refuse(format!(
                "{field}.httpGet.scheme: the lab probes HTTP only; use tcpSocket for TLS"
            )));
        }
        let headers = http
            .http_headers
            .iter()
            .flatten()
            .map(|header| (header.name.clone(), header.value.clone()));
        return Ok(Action::Http {
            host: http.host.clone(),
            port: port(&http.port, container, field)?,
            path: http
                .path
                .clone()
                .filter(|path| !path.is_empty())
                .unwrap_or_else(|| "/".to_owned()),
            headers: headers.collect(),
        });
    }
    if let Some(tcp) = &probe.tcp_socket {
        return Ok(Action::Tcp {
            host: tcp.host.clone(),
            port: port(&tcp.port, container, field)?,
        });
    }
    if let Some(exec) = &probe.exec {
        return Ok(Action::Exec(exec.command.clone().unwrap_or_default()));
    }
    Err(refuse(format!(
        "{field}: the lab knows httpGet, tcpSocket and exec; choose one of them"
    )))
}

/// A probe's port: a number, or the name of one of the container's ports.
fn port(port: &IntOrString, container: &core::Container, field: &str) -> Result<u16, Refusal> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container
                .ports
                .iter()
                .flatten()
                .find(|port| port.name.as_deref() == Some(name));
            named
                .map(|port| port.container_port)
                .or_else(|| name.parse().ok())
        }
    };
    let number = number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number > 0);
    number.ok_or_else(|| {
        refuse(format!(
            "{field}: port {port:?} is neither a number nor a port of the container"
        ))
    })
}

fn before_stop(handler: &core::LifecycleHandler, name: &str) -> Result<BeforeStop, Refusal> {
    if let Some(exec) = &handler.exec {
        return Ok(BeforeStop::Exec(exec.command.clone().unwrap_or_default()));
    }
    if let Some(sleep) = &handler.sleep {
        return Ok(BeforeStop::Sleep(Duration::from_secs(
            u64::try_from(sleep.seconds).unwrap_or(0),
        )));
    }
    Err(refuse(format!(
        "container {name}: lifecycle.preStop: the lab knows exec and sleep"
    )))
}

/// `250ms`, `0.5s` or `2s`.
fn duration(text: &str) -> Result<Duration, Refusal> {
    let parse = || {
        let (number, unit) = match text.strip_suffix("ms") {
            Some(number) => (number, 0.001),
            None => (text.strip_suffix('s')?, 1.0),
        };
        let seconds = number.parse::<f64>().ok()? * unit;
        Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|duration| !duration.is_zero())
    };
    parse().ok_or_else(|| {
        refuse(format!(
            "metadata.annotations[{PERIOD}]: {text:?} is no duration such as 200ms or 2s"
        ))
    })
}

fn refuse(message: String) -> Refusal {
    Refusal {
        reason: "CreateContainerConfigError",
        message,
    }
}

/// Annotation: the period of the Pod's readiness probes, which the API allows in whole seconds only.
pub(super) const PERIOD: &str = "lab.daymark.dev/readiness-period";
/// What the built-in server listens on when the container names no port.
const DEFAULT_PORT: u16 = 8080;

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(json: serde_json::Value) -> core::Pod {
        serde_json::from_value(json).unwrap()
    }

    fn planned(container: serde_json::Value) -> Result<Container, Refusal> {
        let pod = pod(
            serde_json::json!({"metadata": {"name": "p"}, "spec": {"containers": [container]}}),
        );
        plan(&pod).map(|mut plan| plan.containers.remove(0))
    }

    #[test]
    fn a_container_without_command_is_the_built_in_server_on_its_ports() {
        let echo = |ports: &[u16]| Program::Echo {
            ports: ports.to_vec(),
        };
        let table = [
            (
                serde_json::json!({"name": "c", "image": "nginx"}),
                echo(&[8080]),
            ),
            (
                serde_json::json!({"name": "c", "args": ["x"], "ports": [{"containerPort": 80}, {"containerPort": 443}]}),
                echo(&[80, 443]),
            ),
            (
                serde_json::json!({"name": "c", "command": ["sh", "-c"], "args": ["true"]}),
                Program::Command(["sh", "-c", "true"].map(String::from).into()),
            ),
        ];
        for (container, program) in table {
            assert_eq!(
                planned(container.clone()).unwrap().program,
                program,
                "{container}"
            );
        }
    }

    #[test]
    fn an_init_container_that_goes_on_is_a_sidecar_and_others_are_refused() {
        let with = |policy: &str| {
            plan(&pod(
                serde_json::json!({"metadata": {"name": "p"}, "spec": {
                "initContainers": [{"name": "side", "restartPolicy": policy}],
                "containers": [{"name": "c"}]}}),
            ))
        };
        let roles: Vec<_> = with("Always").unwrap().containers;
        let roles: Vec<_> = roles.iter().map(|c| (c.name.as_str(), c.role)).collect();
        assert_eq!(roles, [("side", Role::Sidecar), ("c", Role::Main)]);
        let refusal = with("Never").unwrap_err();
        assert!(
            refusal.message.starts_with("spec.initContainers"),
            "{}",
            refusal.message
        );
    }

    #[test]
    fn a_probe_has_the_defaults_of_the_api() {
        let container = serde_json::json!({"name": "c", "ports": [{"name": "web", "containerPort": 81}],
            "readinessProbe": {"httpGet": {"port": "web"}}});
        let probe = planned(container).unwrap().readiness.unwrap();
        let expected = Probe {
            action: Action::Http {
                host: None,
                port: 81,
                path: "/".into(),
                headers: vec![],
            },
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            success_threshold: 1,
            failure_threshold: 3,
        };
        assert_eq!(probe, expected);
    }

    #[test]
    fn an_annotation_makes_probes_faster_than_a_second() {
        let with = |text: &str| {
            plan(&pod(serde_json::json!({
                "metadata": {"name": "p", "annotations": {PERIOD: text}},
                "spec": {"containers": [{"name": "c", "readinessProbe": {"tcpSocket": {"port": 80}}}]},
            })))
        };
        for (text, millis) in [("200ms", 200), ("0.5s", 500), ("2s", 2000)] {
            let probe = with(text).unwrap().containers.remove(0).readiness.unwrap();
            assert_eq!(probe.period, Duration::from_millis(millis), "{text}");
        }
        for text in ["", "2", "-1s", "0ms", "1h", "xs"] {
            let refusal = with(text).unwrap_err();
            assert!(
                refusal.message.contains("200ms"),
                "{text}: {}",
                refusal.message
            );
        }
    }

    #[test]
    fn what_the_lab_cannot_do_is_refused_by_field() {
        for (container, field) in [
            (
                serde_json::json!({"name": "c", "readinessProbe": {}}),
                "container c: readinessProbe",
            ),
            (
                serde_json::json!({"name": "c", "readinessProbe": {"httpGet": {"port": "web"}}}),
                "container c: readinessProbe: port",
            ),
            (
                serde_json::json!({"name": "c", "readinessProbe": {"httpGet": {"port": 1, "scheme": "HTTPS"}}}),
                "container c: readinessProbe.httpGet.scheme",
            ),
        ] {
            let refusal = planned(container).unwrap_err();
            assert!(refusal.message.starts_with(field), "{}", refusal.message);
        }
    }
}
