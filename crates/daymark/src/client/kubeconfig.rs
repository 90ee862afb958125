//! A kubeconfig, judged by its fields before it is used.
//!
//! client-go and kube-rs go on without a credential where the context names a user that the file does not have: the API then
//! sees `system:anonymous`, and refuses with a message that speaks of rights. Here that is an error of the file.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use http::Uri;
use kube::config::{AuthInfo, Config, Context, KubeConfigOptions, Kubeconfig, KubeconfigError};

use super::{REMEDY, proxy, unusable, url};

/// What the file says, of its current context.
///
/// # Errors
/// The file, the field and its value, and what to write.
pub(super) async fn config_of(path: &Path) -> anyhow::Result<Config> {
    let shown = path.display();
    let file = Kubeconfig::read_from(path).map_err(|error| match error {
        KubeconfigError::ReadConfig(source, _) => {
            anyhow!("cannot read the kubeconfig {shown}: {source}; {REMEDY}")
        }
        error => anyhow!(error).context(unusable(path)),
    })?;
    whole(file, path).await
}

/// What the files of `KUBECONFIG` say, or `~/.kube/config`, if anything that can be used.
pub(super) async fn config_of_user() -> Option<Config> {
    let file = Kubeconfig::read().ok()?;
    whole(file, Path::new("of the environment")).await.ok()
}

async fn whole(mut file: Kubeconfig, path: &Path) -> anyhow::Result<Config> {
    let shown = path.display();
    let judged = judge(&mut file);
    let judged = judged.map_err(|why| anyhow!("the kubeconfig {shown} cannot be used: {why}"))?;
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .map_err(|error| match error {
            // What the file says was read already.
            KubeconfigError::ParseProxyUrl(why) => {
                anyhow!("the environment variable HTTPS_PROXY is no address: {why}")
            }
            error => anyhow!(error).context(unusable(path)),
        })?;
    // kube-rs reads it again each minute.
    config.root_cert_file = judged.ca;
    // And it takes the environment's whatever NO_PROXY says.
    config.proxy_url = judged.proxy;
    Ok(config)
}

/// What a file says that kube-rs is not told.
#[derive(Debug)]
struct Judged {
    /// The file of the server's CA, if that is in one.
    ca: Option<PathBuf>,
    /// `proxy-url`.
    proxy: Option<Uri>,
}

/// Finds what the current context names, and makes its server's address whole.
fn judge(file: &mut Kubeconfig) -> Result<Judged, String> {
    let (name, context) = current(file)?;
    let Context { cluster, user, .. } = context.clone();
    let of = format!("of the context {name:?}");
    if let Some(user) = user.filter(|user| !user.is_empty()) {
        let there = file.auth_infos.iter();
        let there: Vec<&str> = there.map(|user| user.name.as_str()).collect();
        if !there.contains(&&*user) {
            return Err(format!(
                "contexts[].context.user {of} is {user:?}, and {}: write the name of one there, or add that user with its token or client \
                 certificate; without one the API would take the agent for system:anonymous",
                none_of("users[]", &there)
            ));
        }
    }
    let there = file.clusters.iter();
    let there: Vec<&str> = there.map(|cluster| cluster.name.as_str()).collect();
    let missing = format!(
        "contexts[].context.cluster {of} is {cluster:?}, and {}: write the name of one there, or add that cluster with its server",
        none_of("clusters[]", &there)
    );
    let found = file.clusters.iter_mut().find(|named| named.name == cluster);
    let found = found.and_then(|named| named.cluster.as_mut());
    let found = found.ok_or(missing)?;
    let data = found.certificate_authority_data.is_some();
    let ca = found.certificate_authority.as_deref().filter(|_| !data);
    let ca = ca.map(PathBuf::from);
    let proxy = found.proxy_url.take().filter(|text| !text.is_empty());
    let proxy = proxy.map(|text| proxy::read(&text)).transpose();
    let proxy = proxy
        .map_err(|why| format!("clusters[].cluster.proxy-url of the cluster {cluster:?}: {why}"))?;
    let server = &mut found.server;
    let Some(text) = server.as_deref().filter(|text| !text.is_empty()) else {
        return Err(format!(
            "clusters[].cluster.server of the cluster {cluster:?} is not set: write the API server's own address, as https://ADDRESS:6443"
        ));
    };
    let whole = url(text).map_err(|why| format!("clusters[].cluster.server: {why}"))?;
    *server = Some(whole.to_string());
    Ok(Judged { ca, proxy })
}

/// The current context, by its name.
fn current(file: &Kubeconfig) -> Result<(&str, &Context), String> {
    let there = file.contexts.iter();
    let there: Vec<&str> = there.map(|context| context.name.as_str()).collect();
    let none = || none_of("contexts[]", &there);
    let name = file.current_context.as_deref().unwrap_or_default();
    if name.is_empty() {
        return Err(format!(
            "current-context is not set, and {}: write the name of one there",
            none()
        ));
    }
    let found = file.contexts.iter().find(|context| context.name == name);
    let found = found.and_then(|found| found.context.as_ref());
    let found = found.ok_or_else(|| {
        format!(
            "current-context is {name:?}, and {}: write the name of one there, or add that context",
            none()
        )
    })?;
    Ok((name, found))
}

/// That a list has no such name, and which it has.
fn none_of(list: &str, there: &[&str]) -> String {
    if there.is_empty() {
        return format!("{list} is empty");
    }
    let there: Vec<String> = there.iter().map(|name| format!("{name:?}")).collect();
    format!("{list} has {} alone", there.join(", "))
}

/// What the API is shown, for people; secrets are not told.
pub(super) fn credential(user: &AuthInfo) -> &'static str {
    let has = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let certificate = has(&user.client_certificate) || has(&user.client_certificate_data);
    if user.exec.is_some() || user.auth_provider.is_some() {
        "what a program gives"
    } else if user.token.is_some() || has(&user.token_file) {
        "a token"
    } else if certificate {
        "a client certificate"
    } else if has(&user.username) {
        "a user name and a password"
    } else {
        NONE
    }
}

/// Nothing is shown.
pub(super) const NONE: &str = "none: the API would take the agent for system:anonymous; contexts[].context.user of a kubeconfig names one, or a Pod has its account's";

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with these lines of the context, and one user and one cluster.
    fn file(current: &str, context: &str, server: &str) -> Kubeconfig {
        let text = format!(
            "{current}\ncontexts: [{{name: y, context: {{{context}}}}}]\nusers: [{{name: u, user: {{token: t}}}}]\n\
             clusters: [{{name: c, cluster: {{{server}}}}}]\n"
        );
        Kubeconfig::from_yaml(&text).unwrap()
    }

    #[test]
    fn what_the_current_context_names_has_to_be_there() {
        let [here, server] = ["current-context: y", "server: 'https://192.0.2.1:6443'"];
        let rows: [(&str, &str, &str, &[&str]); 9] = [
            (
                "",
                "cluster: c",
                server,
                &["current-context is not set", "contexts[] has \"y\" alone"],
            ),
            (
                "current-context: z",
                "cluster: c",
                server,
                &["current-context is \"z\"", "\"y\" alone"],
            ),
            (
                here,
                "cluster: c, user: q",
                server,
                &[
                    "contexts[].context.user of the context \"y\" is \"q\"",
                    "users[] has \"u\" alone",
                    "add that user",
                ],
            ),
            (
                here,
                "cluster: d, user: u",
                server,
                &[
                    "contexts[].context.cluster of the context \"y\" is \"d\"",
                    "clusters[] has \"c\" alone",
                ],
            ),
            (
                here,
                "cluster: c, user: u",
                "",
                &[
                    "server of the cluster \"c\" is not set",
                    "https://ADDRESS:6443",
                ],
            ),
            (
                here,
                "cluster: c, user: u",
                "server: 'https://'",
                &[
                    "clusters[].cluster.server: https://: ",
                    "https://ADDRESS:6443",
                ],
            ),
            (
                here,
                "cluster: c, user: u",
                "server: 'https://a:b'",
                &["https://a:b: "],
            ),
            (
                here,
                "cluster: c, user: u",
                "server: 'https://a', proxy-url: 'ftp://b'",
                &[
                    "clusters[].cluster.proxy-url of the cluster \"c\": \"ftp\"",
                    "http://ADDRESS:PORT",
                ],
            ),
            (
                here,
                "cluster: c, user: u",
                "server: 'a b'",
                &["clusters[].cluster.server: a b: "],
            ),
        ];
        for (current, context, server, parts) in rows {
            let said = judge(&mut file(current, context, server)).unwrap_err();
            for part in parts {
                assert!(said.contains(part), "{part} is not in: {said}");
            }
        }
        let mut empty = Kubeconfig::from_yaml("current-context: y").unwrap();
        let said = judge(&mut empty).unwrap_err();
        assert!(said.contains("contexts[] is empty"), "{said}");
    }

    #[test]
    fn a_server_without_a_scheme_is_made_whole_and_a_context_may_name_nobody() {
        for context in ["cluster: c, user: u", "cluster: c", "cluster: c, user: ''"] {
            let mut file = file("current-context: y", context, "server: '192.0.2.1:6443'");
            judge(&mut file).unwrap();
            let cluster = file.clusters[0].cluster.as_ref().unwrap();
            let server = cluster.server.as_deref();
            assert_eq!(server, Some("https://192.0.2.1:6443/"), "{context}");
        }
    }

    #[test]
    fn a_credential_is_told_by_its_kind() {
        let user = |text: &str| {
            let text = format!("users: [{{name: u, user: {{{text}}}}}]");
            let file = Kubeconfig::from_yaml(&text).unwrap();
            file.auth_infos[0].auth_info.clone().unwrap_or_default()
        };
        for (text, expected) in [
            ("", NONE),
            ("tokenFile: /t", "a token"),
            ("token: t", "a token"),
            (
                "client-certificate: /c, client-key: /k",
                "a client certificate",
            ),
            ("username: n, password: p", "a user name and a password"),
            ("exec: {command: c}", "what a program gives"),
        ] {
            assert_eq!(credential(&user(text)), expected, "{text}");
        }
    }
}
