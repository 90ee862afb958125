//! The real control plane of Kubernetes as processes: etcd, kube-apiserver, kube-controller-manager.
//!
//! It runs in the network namespace of the process that starts it and answers at its loopback; who lives in another
//! namespace comes through a [`Relay`]. The programs are not daymark's: `peers/` builds them.

mod audit;
mod credentials;
mod relay;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use daymark_sys::process::{Isolation, Lifetime};
use kube::Client;
use thiserror::Error;

use crate::child::{Child, ChildError};
use crate::clock;
use crate::cluster;

pub use audit::{Audit, Right};
pub use credentials::User;
pub use relay::Relay;

/// What a control plane is built from.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The folder of `etcd`, `kube-apiserver` and `kube-controller-manager`.
    pub programs: PathBuf,
    /// An empty folder for keys, the store and logs.
    pub state: PathBuf,
    /// Who may come, beside the administrator.
    pub users: Vec<User>,
    /// `--service-cluster-ip-range`: one prefix a family, the first family first.
    pub service_ranges: String,
    /// The address that the API server says it has; nothing listens there.
    pub advertised: Ipv4Addr,
    /// Whether the controllers run.
    pub controllers: Controllers,
    /// How long a node may be silent before it is not ready, in whole seconds.
    pub node_grace: Duration,
}

/// Who makes endpoints out of Pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controllers {
    /// kube-controller-manager.
    Real,
    /// Nobody: whoever uses the API writes what it needs.
    None,
}

/// Why the control plane did not come up.
#[derive(Debug, Error)]
pub enum ControlError {
    /// A program is missing.
    #[error("{} is missing: make peers builds it", .0.display())]
    Missing(PathBuf),
    /// A process.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// A file.
    #[error("{what}: {source}")]
    File {
        /// What was to be done.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A key or a kubeconfig.
    #[error("{0}")]
    Credentials(String),
    /// It did not answer in time.
    #[error("the API server is not ready after {0:?}; its log is {log}", log = .1.display())]
    Patience(Duration, PathBuf),
}

/// A running control plane. Dropping it ends its processes.
#[derive(Debug)]
pub struct ControlPlane {
    spec: Spec,
    children: Vec<Child>,
}

impl ControlPlane {
    /// Starts the programs and waits until the API is ready.
    ///
    /// The calling thread must be one that stays: the processes end with it.
    ///
    /// # Errors
    /// [`ControlError`], with the end of the log of a program that ended.
    pub async fn start(spec: Spec) -> Result<Self, ControlError> {
        credentials::write(&spec)?;
        credentials::put(&spec.state.join(POLICY), audit::POLICY)?;
        let mut plane = Self {
            spec,
            children: Vec::new(),
        };
        plane.run("etcd", &etcd(&plane.spec))?;
        plane.run(API_SERVER, &apiserver(&plane.spec))?;
        plane.await_ready().await?;
        if plane.spec.controllers == Controllers::Real {
            plane.run("kube-controller-manager", &controllers(&plane.spec))?;
        }
        Ok(plane)
    }

    /// Where the API answers, in the namespace that it was started in.
    #[must_use]
    pub fn address() -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))
    }

    /// Writes a kubeconfig for a user of [`Spec::users`], or for [`User::ADMINISTRATOR`].
    ///
    /// # Errors
    /// [`ControlError::Credentials`] for an unknown user, [`ControlError::File`].
    pub fn kubeconfig(&self, user: &str, server: &str, to: &Path) -> Result<(), ControlError> {
        credentials::kubeconfig(&self.spec, user, server, to)
    }

    /// A client with all rights.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn client(&self) -> Result<Client, ControlError> {
        let path = self.spec.state.join("admin.kubeconfig");
        self.kubeconfig(
            User::ADMINISTRATOR,
            &format!("https://{}", Self::address()),
            &path,
        )?;
        let client = cluster::client(&path).await;
        client.map_err(|error| ControlError::Credentials(error.to_string()))
    }

    /// What a ServiceAccount asked for so far.
    ///
    /// # Errors
    /// [`ControlError::File`].
    pub fn audit(&self, identity: &str) -> Result<Audit, ControlError> {
        let log = self.spec.state.join(AUDIT);
        Audit::read(&log, identity).map_err(|source| ControlError::File {
            what: format!("reading {}", log.display()),
            source,
        })
    }

    /// Fails when one of the processes has ended.
    ///
    /// # Errors
    /// [`ChildError::Ended`].
    pub fn check(&mut self) -> Result<(), ControlError> {
        Ok(self.children.iter_mut().try_for_each(Child::check)?)
    }

    /// Ends the API server with SIGKILL.
    ///
    /// # Errors
    /// [`ChildError::NotRunning`].
    pub fn kill_api(&mut self) -> Result<(), ChildError> {
        self.api_server()?.kill()
    }

    /// Starts the API server again that was killed. It is ready some seconds later.
    ///
    /// # Errors
    /// [`ChildError::Start`].
    pub fn start_api(&mut self) -> Result<(), ChildError> {
        let args = apiserver(&self.spec);
        self.children.retain(|child| child.name() != API_SERVER);
        let child = self.launch(API_SERVER, &args)?;
        self.children.push(child);
        Ok(())
    }

    fn api_server(&mut self) -> Result<&mut Child, ChildError> {
        let found = self
            .children
            .iter_mut()
            .find(|child| child.name() == API_SERVER);
        found.ok_or_else(|| ChildError::Unknown {
            part: API_SERVER.to_owned(),
        })
    }

    async fn await_ready(&mut self) -> Result<(), ControlError> {
        let end = clock::instant() + PATIENCE;
        // The server writes its certificate when it starts.
        while !certificate(&self.spec).exists() {
            self.pause(end).await?;
        }
        let client = self.client().await?;
        loop {
            let ready = http::Request::get("/readyz").body(Vec::new());
            let ready = ready.map_err(|error| ControlError::Credentials(error.to_string()))?;
            if client.request_text(ready).await.is_ok() {
                return Ok(());
            }
            self.pause(end).await?;
        }
    }

    async fn pause(&mut self, end: tokio::time::Instant) -> Result<(), ControlError> {
        self.check()?;
        if clock::instant() > end {
            let log = log(&self.spec, API_SERVER);
            return Err(ControlError::Patience(PATIENCE, log));
        }
        tokio::time::sleep(STEP).await;
        Ok(())
    }

    fn run(&mut self, program: &str, args: &[String]) -> Result<(), ControlError> {
        let path = self.spec.programs.join(program);
        if !path.is_file() {
            return Err(ControlError::Missing(path));
        }
        let child = self.launch(program, args)?;
        self.children.push(child);
        Ok(())
    }

    fn launch(&self, program: &str, args: &[String]) -> Result<Child, ChildError> {
        let mut command = Command::new(self.spec.programs.join(program));
        command.args(args).current_dir(&self.spec.state);
        let isolation = Isolation {
            lifetime: Lifetime::BoundToThread,
            ..Isolation::default()
        };
        isolation.apply(&mut command);
        Child::start(program, log(&self.spec, program), &mut command)
    }
}

fn etcd(spec: &Spec) -> Vec<String> {
    let data = spec.state.join("etcd");
    let data = data.display();
    // Nothing here has to outlive a crash of the machine.
    words(&[
        &format!("--data-dir={data}"),
        "--unsafe-no-fsync",
        "--log-level=error",
        &format!("--listen-client-urls={ETCD}"),
        &format!("--advertise-client-urls={ETCD}"),
        "--listen-peer-urls=http://127.0.0.1:2380",
    ])
}

fn apiserver(spec: &Spec) -> Vec<String> {
    let file = |name: &str| spec.state.join(name).display().to_string();
    words(&[
        &format!("--etcd-servers={ETCD}"),
        &format!("--cert-dir={}", file("certificates")),
        &format!("--secure-port={PORT}"),
        &format!("--advertise-address={}", spec.advertised),
        // Nothing listens at the advertised address of this namespace.
        "--endpoint-reconciler-type=none",
        &format!("--service-cluster-ip-range={}", spec.service_ranges),
        &format!("--service-account-key-file={}", file("accounts.pub")),
        &format!(
            "--service-account-signing-key-file={}",
            file("accounts.key")
        ),
        "--service-account-issuer=https://kubernetes.default.svc",
        &format!("--token-auth-file={}", file("tokens.csv")),
        "--authorization-mode=RBAC",
        &format!("--audit-policy-file={}", file(POLICY)),
        &format!("--audit-log-path={}", file(AUDIT)),
        // Pods of a lab mount no account.
        "--disable-admission-plugins=ServiceAccount",
        "--allow-privileged",
    ])
}

fn controllers(spec: &Spec) -> Vec<String> {
    let file = |name: &str| spec.state.join(name).display().to_string();
    words(&[
        &format!("--kubeconfig={}", file("admin.kubeconfig")),
        &format!(
            "--service-account-private-key-file={}",
            file("accounts.key")
        ),
        "--leader-elect=false",
        "--use-service-account-credentials=false",
        "--allocate-node-cidrs=false",
        &format!("--node-monitor-grace-period={}s", spec.node_grace.as_secs()),
        "--node-monitor-period=500ms",
    ])
}

fn words(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

fn certificate(spec: &Spec) -> PathBuf {
    spec.state.join("certificates/apiserver.crt")
}

fn log(spec: &Spec, program: &str) -> PathBuf {
    spec.state.join(format!("{program}.log"))
}

const ETCD: &str = "http://127.0.0.1:2379";
const PORT: u16 = 6443;
/// Which requests are written down, and where: a line is there when the answer is sent.
const POLICY: &str = "audit.yaml";
const AUDIT: &str = "audit.log";
const API_SERVER: &str = "kube-apiserver";
/// Some twenty times what a quiet machine needs: several may start at a time, beside other work.
const PATIENCE: Duration = Duration::from_secs(120);
const STEP: Duration = Duration::from_millis(50);
