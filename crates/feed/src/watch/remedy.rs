//! What an operator can do about a watch that fails.

use super::Broken;

/// What can be done about a failure; nothing where waiting is all there is.
pub(super) fn remedy(broken: &Broken) -> Option<&'static str> {
    if let Broken::Status(status) = broken {
        return match status.code {
            401 => Some(
                "the API knows no such user: the token or client certificate of the kubeconfig (or of the service account) is wrong or \
                 has expired",
            ),
            403 if status.message.contains(ANONYMOUS) => Some(
                "no credential was sent, or none that the API knows: name a user with a token or a client certificate in \
                 contexts[].context.user of the kubeconfig; whoever reaches the API is system:anonymous, so grant that user nothing",
            ),
            403 => Some(
                "grant the verbs list and watch on that resource to that user, as the ClusterRole of deploy/node.yaml does",
            ),
            400 if status.message.contains("HTTP request to an HTTPS server") => Some(
                "write https:// in clusters[].cluster.server of the kubeconfig, or in --master",
            ),
            _ => None,
        };
    }
    let Broken::Client(_) = broken else {
        return None;
    };
    let said = broken.to_string();
    let row = REMEDIES.iter().find(|(words, _)| said.contains(words));
    row.map(|(_, remedy)| *remedy)
}

/// Whom the API takes a request without a credential for (kubernetes `staging/src/k8s.io/apiserver/pkg/authentication/user/user.go`).
const ANONYMOUS: &str = "system:anonymous";

/// Words of an error's chain of causes (rustls, hyper, the resolver), and what helps.
const REMEDIES: &[(&str, &str)] = &[
    (
        "failed to create underlying connection",
        "the proxy on the way to the API cannot be reached, or its certificate is not trusted: is clusters[].cluster.proxy-url of the \
         kubeconfig (or the variable HTTPS_PROXY) right, and is its CA in certificate-authority too, if it is https://?",
    ),
    (
        "proxy authorization required",
        "the proxy asks for a user: write it as http://USER:PASSWORD@ADDRESS:PORT in clusters[].cluster.proxy-url of the kubeconfig",
    ),
    (
        "tunnel error: unsuccessful",
        "the proxy does not let the agent through to the API server's address: allow it CONNECT to that address and port, or list the \
         address in NO_PROXY if the proxy is that of HTTPS_PROXY",
    ),
    (
        "UnknownIssuer",
        "the server's certificate is not signed by the CA that is trusted: put the cluster's into certificate-authority of the kubeconfig",
    ),
    (
        "certificate not valid for name",
        "name the server in the kubeconfig as its certificate does, or set tls-server-name to one of those names",
    ),
    (
        "certificate expired",
        "renew the API server's certificate, or set this machine's clock",
    ),
    (
        "certificate not valid yet",
        "set this machine's clock, or wait until the API server's certificate is valid",
    ),
    (
        "CertificateExpired",
        "renew the client certificate of the kubeconfig: the API server says that it has expired",
    ),
    (
        "BadCertificate",
        "the API server does not take the client certificate of the kubeconfig: its CA signs another one",
    ),
    (
        "Connection refused",
        "nothing listens at that address and port: is the API server up, and is clusters[].cluster.server (or --master) right?",
    ),
    (
        "dns error",
        "the server's name cannot be looked up: clusters[].cluster.server (or --master) should be an address that needs no cluster DNS",
    ),
    (
        "InvalidContentType",
        "the server does not speak TLS: write its https:// port in clusters[].cluster.server (or --master)",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::StatusError;

    #[test]
    fn a_refusal_names_what_to_grant_or_to_renew() {
        let status = |code, message: &str| {
            Broken::Status(StatusError {
                code,
                reason: String::new(),
                message: message.to_owned(),
                retry_after: None,
            })
        };
        let has = |broken: Broken, words: &str| {
            let said = remedy(&broken).unwrap_or_default();
            assert!(said.contains(words), "{words} is not in: {said}");
        };
        has(status(401, "Unauthorized"), "token");
        has(status(403, "services is forbidden"), "deploy/node.yaml");
        let nobody =
            r#"services is forbidden: User "system:anonymous" cannot list resource "services""#;
        has(status(403, nobody), "no credential was sent");
        has(status(403, nobody), "grant that user nothing");
        let plain = "Client sent an HTTP request to an HTTPS server.";
        has(status(400, plain), "https://");
        let proxy = |words: &str| {
            let said = format!("the proxy http://192.0.2.9:3128: tunnel error: {words}");
            Broken::Client(kube::Error::Service(said.into()))
        };
        has(proxy("proxy authorization required"), "http://USER");
        has(proxy("unsuccessful"), "CONNECT");
        let refused = "failed to create underlying connection: Connection refused (os error 111)";
        has(proxy(refused), "proxy-url");
        assert_eq!(remedy(&status(503, "")), None);
        assert_eq!(remedy(&Broken::ListCut), None);
    }
}
