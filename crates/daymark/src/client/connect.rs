//! How connections to the API are made: HTTP/2, with all requests on one, where the server agrees to it in the TLS handshake (ALPN,
//! RFC 7301); else HTTP/1.1, with one for each watch.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt, RustlsTlsError};
use kube::config::Config;
use kube::{Client, Error};
use tower::ServiceBuilder;

use super::proxy::Way;
use super::renewed::{self, Renewed};
use super::requests::{Counted, Requests};
use super::sent_again::SentAgain;

/// What a watch may be behind, in bytes; of what is more, the server waits until it is read. On a way of 50 ms that is 20 MB/s.
const WINDOW: u32 = 1 << 20;
/// How often the kernel asks a silent connection before it gives it up.
const KEEPALIVES: u32 = 3;

/// A client for the API of that configuration.
///
/// # Errors
/// What of the configuration cannot be used.
pub(super) fn connect(config: Config, requests: Option<Arc<Requests>>) -> kube::Result<Client> {
    Wire::default().client(config, requests)
}

/// What is spoken, and how long silence is borne: a quiet watch may last for minutes, so that the other side is asked whether it is
/// still there, by a PING in HTTP/2 and by the kernel.
#[derive(Clone, Copy, Debug)]
struct Wire {
    versions: Versions,
    /// The other side is asked after so long a silence,
    silence: Duration,
    /// and gone if it does not answer for so long.
    patience: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Versions {
    /// The newest that both know.
    All,
    Http1,
}

impl Default for Wire {
    /// client-go asks after 30 s; here both come to 35 s, as the kernel's questions of a connection with HTTP/1.1 do.
    fn default() -> Self {
        // As in client-go (apimachinery pkg/util/net/http.go), for proxies in between that do not bear HTTP/2.
        let disabled = std::env::var_os("DISABLE_HTTP2").is_some_and(|value| !value.is_empty());
        Self {
            versions: if disabled {
                Versions::Http1
            } else {
                Versions::All
            },
            silence: Duration::from_secs(20),
            patience: Duration::from_secs(15),
        }
    }
}

impl Wire {
    fn client(self, config: Config, requests: Option<Arc<Requests>>) -> kube::Result<Client> {
        let uri = config.base_uri_layer();
        let (auth, headers) = (config.auth_layer()?, config.extra_headers_layer()?);
        let namespace = config.default_namespace.clone();
        let client = Renewed::new(renewed::files(&config.auth_info), move || {
            let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .http2_keep_alive_interval(self.silence)
                .http2_keep_alive_timeout(self.patience)
                .http2_initial_stream_window_size(WINDOW)
                .http2_initial_connection_window_size(2 * WINDOW)
                .build::<_, Body>(self.connector(&config)?);
            Ok(client)
        })?;
        let client = SentAgain { client };
        let service = ServiceBuilder::new()
            .layer(uri)
            .option_layer(auth)
            .layer(headers)
            .service(Counted { client, requests });
        Ok(Client::new(service, namespace))
    }

    fn connector(self, config: &Config) -> kube::Result<HttpsConnector<Way>> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(config.connect_timeout);
        tcp.set_keepalive(Some(self.silence));
        tcp.set_keepalive_interval(Some(self.patience / KEEPALIVES));
        tcp.set_keepalive_retries(Some(KEEPALIVES));
        let ours = config.rustls_client_config()?;
        let way = match &config.proxy_url {
            None => Way::Straight(tcp),
            // As in Go, which has one configuration for both. CONNECT is asked for in HTTP/1.1.
            Some(proxy) => Way::through(proxy, tcp, |tcp| {
                let tls = HttpsConnectorBuilder::new().with_tls_config(ours.clone());
                tls.https_only().enable_http1().wrap_connector(tcp)
            }),
        };
        let mut tls = HttpsConnectorBuilder::new()
            .with_tls_config(ours)
            .https_or_http();
        if let Some(name) = &config.tls_server_name {
            let name = name.clone().try_into();
            let name =
                name.map_err(|error| Error::RustlsTls(RustlsTlsError::InvalidServerName(error)))?;
            tls = tls.with_server_name_resolver(FixedServerNameResolver::new(name));
        }
        Ok(match self.versions {
            Versions::All => tls.enable_all_versions().wrap_connector(way),
            Versions::Http1 => tls.enable_http1().wrap_connector(way),
        })
    }
}
