//! A client made anew when the files of its credential change.
//!
//! kubelet writes a client certificate anew long before the old one ends (`kubelet-client-current.pem`). A connection keeps the one that
//! it was opened with, and the API server refuses that once it has ended; so it is not enough to show another one to new connections: the
//! new client has none of the old one's. What is on its way, such as a watch, ends where it began.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use kube::config::AuthInfo;
use tower::Service;
use tracing::{info, warn};

use crate::clock;

/// How often the files are read, if there are requests.
const LOOK: Duration = Duration::from_secs(10);

/// A client, or the one in its place.
#[derive(Clone)]
pub(super) struct Renewed<S> {
    shared: Arc<Shared<S>>,
    client: S,
}

struct Shared<S> {
    files: Vec<PathBuf>,
    make: Box<dyn Fn() -> kube::Result<S> + Send + Sync>,
    held: Mutex<Held<S>>,
}

struct Held<S> {
    client: S,
    /// What the files had when it was last tried to make one; nothing for one that is not there.
    content: Content,
    looked: Instant,
}

type Content = Vec<Option<Vec<u8>>>;

/// The files of the client certificate that the user's fields name. Tokens, and the cluster's CA, are read again by kube-rs itself.
pub(super) fn files(user: &AuthInfo) -> Vec<PathBuf> {
    let certificate = user
        .client_certificate
        .iter()
        .filter(|_| user.client_certificate_data.is_none());
    let key = user
        .client_key
        .iter()
        .filter(|_| user.client_key_data.is_none());
    certificate.chain(key).map(PathBuf::from).collect()
}

impl<S: Clone> Renewed<S> {
    /// A client that `make` makes, now and when the files have changed.
    ///
    /// # Errors
    /// Those of the first.
    pub(super) fn new(
        files: Vec<PathBuf>,
        make: impl Fn() -> kube::Result<S> + Send + Sync + 'static,
    ) -> kube::Result<Self> {
        let content = read(&files);
        let client = make()?;
        let held = Mutex::new(Held {
            client: client.clone(),
            content,
            looked: clock::now(),
        });
        let shared = Shared {
            files,
            make: Box::new(make),
            held,
        };
        Ok(Self {
            shared: Arc::new(shared),
            client,
        })
    }
}

impl<S: Clone> Shared<S> {
    /// The client for the next request. Files that cannot be used, as while only one of two is written, leave the one before.
    fn current(&self, now: Instant) -> S {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if self.files.is_empty() || now < held.looked + LOOK {
            return held.client.clone();
        }
        held.looked = now;
        let content = read(&self.files);
        if content != held.content {
            held.content = content;
            match (self.make)() {
                Ok(client) => {
                    info!(files = ?self.files, "the client certificate of the kubeconfig changed, and is used from now on");
                    held.client = client;
                }
                Err(error) => {
                    warn!(files = ?self.files, %error, "the client certificate of the kubeconfig changed and cannot be used; the one before is shown");
                }
            }
        }
        held.client.clone()
    }
}

fn read(files: &[PathBuf]) -> Content {
    files.iter().map(|file| std::fs::read(file).ok()).collect()
}

impl<S: Service<R> + Clone, R> Service<R> for Renewed<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.client = self.shared.current(clock::now());
        self.client.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        self.client.call(request)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use daymark_apiserver::tls::{Pki, Role, listen};
    use daymark_apiserver::{ApiServer, Config};
    use k8s_openapi::api::core::v1::Namespace;
    use kube::api::{Api, PostParams};

    use super::*;
    use crate::client::stand_in::Proxy;

    /// Numbers in place of clients: each that is made is the next, while the file is there.
    fn numbers(file: &std::path::Path) -> Renewed<u32> {
        let (made, needs) = (AtomicU32::new(0), file.to_owned());
        let make = move || {
            let there = std::fs::read(&needs).map_err(|error| kube::Error::Service(error.into()));
            there.map(|_| made.fetch_add(1, Ordering::Relaxed))
        };
        Renewed::new(vec![file.to_owned()], make).unwrap()
    }

    #[test]
    fn a_client_is_made_anew_once_its_files_have_changed_and_can_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("current.pem");
        std::fs::write(&file, "1").unwrap();
        let renewed = numbers(&file);
        let begun = clock::now();
        let at = |seconds| {
            renewed
                .shared
                .current(begun + LOOK + Duration::from_secs(seconds))
        };
        assert_eq!(at(1), 0, "nothing changed");
        std::fs::write(&file, "2").unwrap();
        assert_eq!(at(2), 0, "it was read a second ago");
        assert_eq!(at(12), 1);
        assert_eq!(at(23), 1, "it is made once");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(at(34), 1, "what cannot be used takes nothing away");
        std::fs::write(&file, "2").unwrap();
        assert_eq!(at(45), 2);
        // A clone has the same.
        assert_eq!(renewed.clone().shared.current(begun), 2);
    }

    /// As kubelet has it: one file with certificate and key. Whom the API takes the client for is seen by what it may do.
    #[tokio::test]
    async fn a_certificate_that_was_written_anew_is_the_one_that_a_server_sees() {
        let proxy = Proxy::start().await;
        let through = format!("proxy-url: '{}', ", proxy.url);
        tokio::join!(seen_by_a_server(""), seen_by_a_server(&through));
        assert!(proxy.seen().starts_with("CONNECT "), "{}", proxy.seen());
    }

    async fn seen_by_a_server(more: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let pki = Pki::ephemeral().unwrap();
        let server = ApiServer::open(Config::default()).unwrap();
        let tls = pki.server_config(&[]).unwrap();
        tokio::spawn(async move { server.serve(vec![listener], tls).await });
        let become_one = |role: Role| {
            let it = pki.client(role.user()).unwrap();
            std::fs::write(path("current.pem"), it.certificate + &it.key).unwrap();
        };
        let text = format!(
            "current-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{{more}server: 'https://{address}', certificate-authority: ca.pem}}}}]\n\
             users: [{{name: u, user: {{client-certificate: current.pem, client-key: current.pem}}}}]\n"
        );
        std::fs::write(path("kubeconfig"), text).unwrap();
        std::fs::write(path("ca.pem"), pki.certificate()).unwrap();
        become_one(Role::Viewer);
        let client = crate::client::from_kubeconfig(&path("kubeconfig")).await;
        let namespaces: Api<Namespace> = Api::all(client.unwrap());
        let make = || async {
            let object = serde_json::json!({"metadata": {"name": "made"}});
            let object: Namespace = serde_json::from_value(object).unwrap();
            namespaces.create(&PostParams::default(), &object).await
        };
        let refused = make().await.unwrap_err().to_string();
        assert!(refused.contains("daymark:viewer"), "{refused}");
        become_one(Role::Admin);
        tokio::time::sleep(LOOK + Duration::from_millis(100)).await;
        make().await.unwrap();
    }

    #[test]
    fn files_are_those_that_data_does_not_stand_in_for() {
        let user = |data: Option<&str>| AuthInfo {
            client_certificate: Some("/c".to_owned()),
            client_certificate_data: data.map(str::to_owned),
            client_key: Some("/k".to_owned()),
            ..AuthInfo::default()
        };
        assert_eq!(files(&user(None)), ["/c", "/k"].map(PathBuf::from));
        assert_eq!(files(&user(Some("YQ=="))), ["/k"].map(PathBuf::from));
        assert!(files(&AuthInfo::default()).is_empty());
    }
}
