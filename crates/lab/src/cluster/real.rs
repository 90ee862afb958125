//! A cluster on the real control plane of Kubernetes.

use std::net::IpAddr;
use std::path::PathBuf;

use kube::Client;

use super::basics::{CreateError, create_all, grant};
use super::kubeconfig;
use super::plan::{API_PORT, FABRIC};
use super::up::setup;
use super::{ChildError, Cluster, Part, UpError};
use crate::clock;
use crate::control::{self, ControlError, ControlPlane, Controllers, Relay, User};

/// The processes of the control plane, and the machine's way to it.
#[derive(Debug)]
pub(super) struct Control {
    plane: ControlPlane,
    _outer: Option<Relay>,
}

impl Control {
    /// Ends the API server.
    pub(super) fn kill_api(&mut self) -> Result<(), ChildError> {
        self.plane.kill_api()
    }

    /// Starts it again.
    pub(super) fn start_api(&mut self) -> Result<(), ChildError> {
        self.plane.start_api()
    }

    /// Fails when one of the processes has ended.
    pub(super) fn check(&mut self) -> Result<(), ControlError> {
        self.plane.check()
    }
}

impl Cluster {
    /// Starts etcd, kube-apiserver and kube-controller-manager in the fabric, and brings in what a lab needs there.
    pub(super) async fn start_real(&mut self, programs: PathBuf) -> Result<(), UpError> {
        let [IpAddr::V4(fabric), _] = FABRIC.map(|prefix| prefix.address) else {
            unreachable!("the fabric's first address is IPv4");
        };
        let state = self.spec.state.join("control");
        std::fs::create_dir_all(&state).map_err(setup("state folder"))?;
        let roles = self.roles();
        let plane = ControlPlane::start(control::Spec {
            programs,
            state,
            users: roles.iter().map(|(_, part)| user(part)).collect(),
            service_ranges: "10.96.0.0/16,fd00:10:96::/112".to_owned(),
            advertised: fabric,
            controllers: Controllers::Real,
            node_grace: self.spec.announce_lapse(),
        })
        .await?;
        let server = format!("https://{fabric}:{API_PORT}");
        for (_, part) in &roles {
            plane.kubeconfig(&part.to_string(), &server, &self.spec.part_kubeconfig(part))?;
        }
        plane.kubeconfig(User::ADMINISTRATOR, &server, &self.kubeconfig())?;
        let outer = self.outer_relay()?;
        let client = plane.client().await?;
        self.control = Some(Control {
            plane,
            _outer: outer,
        });
        furnish(&client)
            .await
            .map_err(|error| UpError::Control(ControlError::Credentials(error.to_string())))?;
        self.await_kinds(&client).await
    }

    /// The machine's own loopback leads to the API too.
    fn outer_relay(&self) -> Result<Option<Relay>, UpError> {
        let (Some(listener), Some(port)) = (&self.spec.api_listener, self.spec.api_port()) else {
            return Ok(None);
        };
        let listener = listener.try_clone().map_err(setup("the API's listener"))?;
        let relay = Relay::accepting(listener, ControlPlane::address());
        let relay = relay.map_err(setup("the way to the API"))?;
        let server = format!("https://127.0.0.1:{port}");
        kubeconfig::derive(&self.kubeconfig(), &server, &self.spec.outer_kubeconfig())?;
        Ok(Some(relay))
    }

    /// A kind that was just defined is served some moments later.
    async fn await_kinds(&mut self, client: &Client) -> Result<(), UpError> {
        let end = clock::instant() + self.spec.patience;
        for path in KINDS {
            loop {
                let request = http::Request::get(path).body(Vec::new()).expect("a path");
                if client.request_text(request).await.is_ok() {
                    break;
                }
                self.check(end, || format!("{path} is not served"))?;
                tokio::time::sleep(super::up::STEP).await;
            }
        }
        Ok(())
    }
}

/// Agents announce, and have the rights of the manifest for that; the lab's own parts, which play kubelet and scheduler, all.
fn user(part: &Part) -> User {
    match part {
        Part::Agent(_) => User {
            name: part.to_string(),
            ..User::service_account("", "kube-system", "daymark-announcer")
        },
        _ => User {
            name: part.to_string(),
            identity: format!("lab:{part}"),
            groups: vec!["system:masters".to_owned()],
        },
    }
}

async fn furnish(client: &Client) -> Result<(), CreateError> {
    create_all(client, include_str!("../../../../examples/lab/real.yaml")).await?;
    for manifest in MANIFESTS {
        grant(client, manifest).await?;
    }
    Ok(())
}

/// The rights of the agents are those that a cluster gives them.
const MANIFESTS: [&str; 3] = [
    include_str!("../../../../deploy/node.yaml"),
    include_str!("../../../../deploy/load-balancer.yaml"),
    include_str!("../../../../examples/lab/rights.yaml"),
];
/// The namespace of the announcers' Leases in the second of them.
pub(super) const ANNOUNCERS: &str = "daymark-announcers";
const KINDS: [&str; 2] = [
    "/apis/metallb.io/v1beta1/ipaddresspools",
    "/apis/metallb.io/v1beta1/l2advertisements",
];
