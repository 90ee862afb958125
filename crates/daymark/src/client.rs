//! A client of the API.
//!
//! A node's agent makes the Service addresses work, so it must not depend on one: the address of the API comes from a
//! kubeconfig or from `--master`, and never from the variables that every Pod has, which name the Service `kubernetes`. One that
//! is certainly a Service's is refused; what only the API can tell is found later (`api_address` of the verb `node`).

mod connect;
mod kubeconfig;
mod proxy;
mod renewed;
mod requests;
mod sent_again;
#[cfg(test)]
mod stand_in;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use kube::Client;
use kube::config::{AuthInfo, Config};

use connect::connect;
use kubeconfig::{config_of, config_of_user};
pub(crate) use requests::Requests;

/// How a node's agent reaches the API.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    /// A kubeconfig.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The server's address, in place of the kubeconfig's.
    pub(crate) server: Option<String>,
    /// The Service address of the API that a Pod is told in its environment.
    pub(crate) service: Option<String>,
    /// Where a Pod finds the credential of its service account.
    pub(crate) account: PathBuf,
}

impl Access {
    /// With what the environment of a Pod says.
    pub(crate) fn new(kubeconfig: Option<PathBuf>, server: Option<String>) -> Self {
        let port = std::env::var_os("KUBERNETES_PORT");
        Self {
            kubeconfig,
            server,
            service: port.and_then(|url| service_address(&url.to_string_lossy())),
            account: SERVICE_ACCOUNT.into(),
        }
    }

    /// A client whose requests are counted there, and where it goes.
    ///
    /// # Errors
    /// If it is not known where the API is, what is known cannot be used, or it is a Service's address.
    pub(crate) async fn client(&self, requests: Arc<Requests>) -> anyhow::Result<(Client, Server)> {
        let (config, server) = self.config().await?;
        tracing::info!(server = %config.cluster_url, proxy = server.proxy, "the API");
        let client = connect(config, Some(requests)).context("the API cannot be asked")?;
        Ok((client, server))
    }

    /// Where a client would go: files are read, and nobody is asked.
    ///
    /// # Errors
    /// As [`Self::client`], but for what only a connection needs.
    pub(crate) async fn server(&self) -> anyhow::Result<Server> {
        self.config().await.map(|(_, server)| server)
    }

    async fn config(&self) -> anyhow::Result<(Config, Server)> {
        let mut config = match (&self.kubeconfig, &self.server) {
            (Some(path), _) => config_of(path).await?,
            (None, Some(_)) => self.config_of_account()?,
            (None, None) => bail!("{}", self.nowhere()),
        };
        if let Some(server) = &self.server {
            config.cluster_url = url(server).context("--master")?;
        }
        environment(&mut config)?;
        let server = Server {
            host: bare(config.cluster_url.host().unwrap_or_default()).to_owned(),
            named_by: self.named_by(),
            credential: kubeconfig::credential(&config.auth_info),
            proxy: config.proxy_url.as_ref().map(proxy::shown),
        };
        if self.is_a_service(&server.host) {
            bail!("{}", server.is_a_service("the Service kubernetes"));
        }
        Ok((config, server))
    }

    /// The flag, or the field and its file.
    fn named_by(&self) -> String {
        match (&self.server, &self.kubeconfig) {
            (None, Some(path)) => format!(
                "clusters[].cluster.server of the kubeconfig {}",
                path.display()
            ),
            _ => "--master".to_owned(),
        }
    }

    /// The credential of a Pod, for the server that a flag names.
    fn config_of_account(&self) -> anyhow::Result<Config> {
        let server = self.server.as_deref().unwrap_or_default();
        let mut config = Config::new(url(server).context("--master")?);
        let [token, ca] = ["token", "ca.crt"].map(|file| self.account.join(file));
        if token.exists() {
            config.root_cert_file = Some(ca);
            config.auth_info = AuthInfo {
                token_file: Some(token.to_string_lossy().into_owned()),
                ..AuthInfo::default()
            };
        }
        Ok(config)
    }

    fn nowhere(&self) -> String {
        let why = match &self.service {
            Some(service) => format!(
                "the Pod's environment names the Service address {service} alone, which answers only once this agent has \
                 made Services work"
            ),
            None => "no kubeconfig is given".to_owned(),
        };
        format!(
            "it is not known where the API is: {why}; give --kubeconfig FILE (clientConnection.kubeconfig), or --master \
             https://ADDRESS:6443 with the API server's own address, and the Pod's service account is used"
        )
    }

    fn is_a_service(&self, host: &str) -> bool {
        let same_address = |service: &str| match (host.parse::<IpAddr>(), service.parse::<IpAddr>())
        {
            (Ok(host), Ok(service)) => host == service,
            _ => host == service,
        };
        self.service.as_deref().is_some_and(same_address)
            || host == "kubernetes"
            || host == "kubernetes.default"
            || host.starts_with("kubernetes.default.svc")
    }
}

/// Where the API is said to be.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// An address or a name.
    pub(crate) host: String,
    /// The flag, or the field and its file.
    pub(crate) named_by: String,
    /// What it is shown, for people.
    pub(crate) credential: &'static str,
    /// The proxy on the way there, if there is one.
    pub(crate) proxy: Option<String>,
}

impl Server {
    /// That this is the address of a Service, and what to do.
    pub(crate) fn is_a_service(&self, whose: &str) -> String {
        let Self { host, named_by, .. } = self;
        format!(
            "{named_by} is {host}, the address of {whose}: it answers only where Services work already, so that after a \
             restart of this node neither would ever work; write the API server's own address there, or that of a load balancer \
             outside of the cluster, as https://ADDRESS:6443"
        )
    }
}

/// The Service `kubernetes` as kubelet names it to a Pod in KUBERNETES_PORT (`tcp://ADDRESS:443`). KUBERNETES_SERVICE_HOST says the same
/// until somebody sets it to the API server's own address, as manifests of such agents do: it is not believed.
fn service_address(port: &str) -> Option<String> {
    let (host, _) = port.strip_prefix("tcp://")?.rsplit_once(':')?;
    Some(bare(host).to_owned())
}

/// Without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

fn url(server: &str) -> anyhow::Result<http::Uri> {
    let full = if server.contains("://") {
        server.to_owned()
    } else {
        format!("https://{server}")
    };
    let remedy = "write it as https://ADDRESS:6443";
    let url: http::Uri = full
        .parse()
        .map_err(|error| anyhow!("{server}: {error}; {remedy}"))?;
    // What is behind the last colon of an address is a port, or nothing.
    let place = url.authority().map_or("", |place| place.as_str());
    let place = place.rsplit_once(']').map_or(place, |(_, rest)| rest);
    if place.contains(':') && url.port_u16().is_none() {
        bail!("{server}: that is no port; {remedy}");
    }
    Ok(url)
}

/// A client for the current context of the file.
///
/// # Errors
/// If the file cannot be read, or what it says cannot be used.
pub(crate) async fn from_kubeconfig(path: &Path) -> anyhow::Result<Client> {
    let mut config = config_of(path).await?;
    environment(&mut config)?;
    let proxy = config.proxy_url.as_ref().map(proxy::shown);
    tracing::info!(server = %config.cluster_url, proxy, "the API");
    connect(config, None).with_context(|| unusable(path))
}

/// A client for the kubeconfig of who calls (`KUBECONFIG`, `~/.kube/config`), if there is one that can be used.
pub(crate) async fn of_user() -> Option<Client> {
    let mut config = config_of_user().await?;
    environment(&mut config).ok()?;
    connect(config, None).ok()
}

/// The proxy of the environment, where the kubeconfig names none.
fn environment(config: &mut Config) -> anyhow::Result<()> {
    if config.proxy_url.is_none() {
        let variable = |name: &str| std::env::var_os(name)?.into_string().ok();
        config.proxy_url = proxy::of_environment(&config.cluster_url, variable)?;
    }
    Ok(())
}

fn unusable(path: &Path) -> String {
    format!("the kubeconfig {} cannot be used; {REMEDY}", path.display())
}

/// First for a cluster, then for what has daymark as its API.
const REMEDY: &str = "name another one with --kubeconfig (of an agent with a configuration file: in its field \
    clientConnection.kubeconfig). The ConfigMap of deploy/node.yaml has one for a Pod, `kubectl config view --minify --flatten` prints that of \
    a person. If the API is daymark's own, daymark api --issue ROLE=FILE writes one; daymark lab kubeconfig says where a lab's is";
/// Where kubelet puts the credential of a Pod.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

#[cfg(test)]
mod tests {
    use super::*;

    fn access(server: Option<&str>, service: Option<&str>) -> Access {
        Access {
            kubeconfig: None,
            server: server.map(str::to_owned),
            service: service.map(str::to_owned),
            account: "/nowhere".into(),
        }
    }

    #[tokio::test]
    async fn a_service_address_of_the_environment_is_refused_with_a_remedy() {
        let said = |access: Access| async move {
            access
                .client(Arc::default())
                .await
                .err()
                .unwrap()
                .to_string()
        };
        let in_a_pod = said(access(None, Some("10.96.0.1"))).await;
        for part in ["10.96.0.1", "--kubeconfig", "--master https://"] {
            assert!(in_a_pod.contains(part), "{part} in {in_a_pod}");
        }
        let outside = said(access(None, None)).await;
        assert!(outside.contains("no kubeconfig is given"), "{outside}");
    }

    #[test]
    fn a_service_is_known_by_its_address_and_its_names() {
        let access = access(None, Some("fd00:10:96::1"));
        for host in [
            "fd00:10:96::1",
            "fd00:10:96:0::1",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "kubernetes.default",
            "kubernetes",
        ] {
            assert!(access.is_a_service(host), "{host}");
        }
        for host in [
            "10.0.0.1",
            "api.example.com",
            "kubernetes-1.example.com",
            "kubernetes.defaults.example",
        ] {
            assert!(!access.is_a_service(host), "{host}");
        }
    }

    #[tokio::test]
    async fn a_service_as_the_api_is_refused_by_the_name_of_its_flag_or_field() {
        let said = |access: Access| async move {
            let refused = access.client(Arc::default()).await.err().unwrap();
            refused.to_string()
        };
        let flag = said(access(Some("https://10.96.0.1:443"), Some("10.96.0.1"))).await;
        assert!(flag.starts_with("--master is 10.96.0.1, "), "{flag}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], "users": [{"name": "u", "user": {}}],
            "clusters": [{"name": "c", "cluster": {"server": "https://[fd00:10:96::1]:443"}}]}"#;
        std::fs::write(file.path(), text).unwrap();
        let in_file = Access {
            kubeconfig: Some(file.path().to_owned()),
            ..access(None, Some("fd00:10:96::1"))
        };
        let field = said(in_file).await;
        let path = file.path().display().to_string();
        for part in [
            "clusters[].cluster.server",
            &path,
            "fd00:10:96::1",
            "https://ADDRESS:6443",
        ] {
            assert!(field.contains(part), "{part} in {field}");
        }
        let (_, server) = access(Some("https://192.0.2.1:6443"), Some("10.96.0.1"))
            .client(Arc::default())
            .await
            .unwrap();
        assert_eq!(server.host, "192.0.2.1");
    }

    #[test]
    fn kubelet_alone_says_which_service_the_api_is() {
        let rows = [
            ("tcp://10.96.0.1:443", Some("10.96.0.1")),
            ("tcp://[fd00::1]:443", Some("fd00::1")),
            ("6443", None),
        ];
        for (port, expected) in rows {
            assert_eq!(service_address(port).as_deref(), expected, "{port}");
        }
    }

    #[test]
    fn a_server_is_reached_by_https_unless_it_says_otherwise() {
        assert_eq!(
            url("192.0.2.1:6443").unwrap().to_string(),
            "https://192.0.2.1:6443/"
        );
        assert_eq!(
            url("http://[fd00::1]:8080").unwrap().to_string(),
            "http://[fd00::1]:8080/"
        );
        for wrong in ["https://", "https://192.0.2.1:99999", "[fd00::1]:x", "a b"] {
            let said = url(wrong).unwrap_err().to_string();
            let whole =
                said.starts_with(&format!("{wrong}: ")) && said.contains("https://ADDRESS:6443");
            assert!(whole, "{said}");
        }
        assert_eq!(url("[fd00::1]:6443").unwrap().port_u16(), Some(6443));
    }
}
