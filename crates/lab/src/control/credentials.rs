//! Keys, tokens and kubeconfigs of a control plane. They live as long as its folder.

use std::fmt::Write as _;
use std::path::Path;

use rcgen::KeyPair;
use serde_json::json;

use super::{ControlError, Spec, certificate};
use crate::cluster::write_private;

/// Somebody who may come to the API with a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// What [`super::ControlPlane::kubeconfig`] is asked for.
    pub name: String,
    /// The name that the API sees: rights are bound to it.
    pub identity: String,
    /// Its groups.
    pub groups: Vec<String>,
}

impl User {
    /// The name of the user with all rights, who is always there.
    pub const ADMINISTRATOR: &str = "admin";

    /// A service account.
    #[must_use]
    pub fn service_account(name: &str, namespace: &str, account: &str) -> Self {
        Self {
            name: name.to_owned(),
            identity: format!("system:serviceaccount:{namespace}:{account}"),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
        }
    }

    fn administrator() -> Self {
        Self {
            name: Self::ADMINISTRATOR.to_owned(),
            identity: Self::ADMINISTRATOR.to_owned(),
            groups: vec!["system:masters".to_owned()],
        }
    }

    /// The API listens on the loopback of a namespace of its own: a token need not be a secret there.
    fn token(&self) -> String {
        format!("token-of-{}", self.name)
    }
}

/// Writes the key of service accounts and the list of tokens.
pub(super) fn write(spec: &Spec) -> Result<(), ControlError> {
    let key = KeyPair::generate().map_err(|error| ControlError::Credentials(error.to_string()))?;
    put(
        &spec.state.join("accounts.key"),
        &private_key(&key.serialize_pem()),
    )?;
    put(&spec.state.join("accounts.pub"), &key.public_key_pem())?;
    let mut tokens = String::new();
    for user in spec.users.iter().chain([&User::administrator()]) {
        let (identity, groups) = (&user.identity, user.groups.join(","));
        let _ = writeln!(
            tokens,
            "{},{identity},{identity},\"{groups}\"",
            user.token()
        );
    }
    put(&spec.state.join("tokens.csv"), &tokens)
}

/// What kube-apiserver reads as a private key ends its lines with LF alone.
fn private_key(pem: &str) -> String {
    pem.replace('\r', "")
}

/// Writes a kubeconfig, as JSON, which is YAML.
pub(super) fn kubeconfig(
    spec: &Spec,
    user: &str,
    server: &str,
    to: &Path,
) -> Result<(), ControlError> {
    let administrator = User::administrator();
    let mut known = spec.users.iter().chain([&administrator]);
    let user = known.find(|known| known.name == user).ok_or_else(|| {
        ControlError::Credentials(format!("the control plane knows no user {user:?}"))
    })?;
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "real", "cluster": {
            "server": server,
            "tls-server-name": "kubernetes",
            "certificate-authority": certificate(spec),
        }}],
        "users": [{"name": user.name, "user": {"token": user.token()}}],
        "contexts": [{"name": "real", "context": {"cluster": "real", "user": user.name}}],
        "current-context": "real",
    });
    put(to, &format!("{config:#}\n"))
}

pub(super) fn put(path: &Path, text: &str) -> Result<(), ControlError> {
    write_private(path, text).map_err(|source| ControlError::File {
        what: format!("writing {}", path.display()),
        source,
    })
}
