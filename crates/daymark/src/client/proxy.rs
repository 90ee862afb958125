//! The proxy between an agent and the API: `proxy-url` of the kubeconfig, or the variables that client-go reads too.

use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::{anyhow, bail};
use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::{BoxError, Service, ServiceExt};

use super::bare;

/// A proxy as somebody wrote it.
///
/// # Errors
/// What is wrong with it, and what to write; a password is not told.
pub(super) fn read(text: &str) -> anyhow::Result<Uri> {
    const REMEDY: &str = "write it as http://ADDRESS:PORT, https:// or socks5://, user and password as http://USER:PASSWORD@ADDRESS:PORT";
    // The text is not repeated, because of the password.
    let url: Uri = text.parse().map_err(|error| anyhow!("{error}; {REMEDY}"))?;
    let authority = url.authority().map_or("", |all| all.as_str());
    if authority.matches('@').count() > 1 {
        // What is behind the first would be taken for a part of the address, and shown.
        bail!("there is more than one @ in it: write those of a user or password as %40; {REMEDY}");
    }
    let scheme = url.scheme_str().unwrap_or_default();
    if !SCHEMES.contains(&scheme) {
        bail!("{scheme:?} is no kind of proxy that is known; {REMEDY}");
    }
    if url.host().is_none_or(str::is_empty) {
        bail!("it names no host; {REMEDY}");
    }
    Ok(url)
}

/// client-go's (`tools/clientcmd/client_config.go`, `parseProxyURL`), and what Go's transport knows beside.
const SCHEMES: [&str; 4] = ["http", "https", "socks5", "socks5h"];

/// What the environment says for this server, as Go reads it (`golang.org/x/net/http/httpproxy`): none on loopback, and none for what
/// `NO_PROXY` lists.
///
/// # Errors
/// The variable, and what is wrong with it.
pub(super) fn of_environment(
    server: &Uri,
    variable: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<Option<Uri>> {
    let host = bare(server.host().unwrap_or_default());
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
    if host == "localhost" || host.parse().is_ok_and(is_loopback) {
        return Ok(None);
    }
    let names = match server.scheme_str() {
        Some("http") => ["HTTP_PROXY", "http_proxy"],
        _ => ["HTTPS_PROXY", "https_proxy"],
    };
    let set = |name: &&str| variable(name).filter(|text| !text.is_empty());
    let Some(name) = names.iter().find(|name| set(name).is_some()) else {
        return Ok(None);
    };
    let text = set(name).unwrap_or_default();
    let text = if text.contains("://") {
        text
    } else {
        format!("http://{text}")
    };
    let url = read(&text).map_err(|why| anyhow!("the environment variable {name}: {why}"))?;
    let none = ["NO_PROXY", "no_proxy"].iter().find_map(set);
    let none = none.unwrap_or_default();
    // The matcher takes it for a name: no address is like it.
    let all_are = none.split(',').any(|entry| entry.trim() == "*");
    let port = server.port_u16().unwrap_or(match server.scheme_str() {
        Some("http") => 80,
        _ => 443,
    });
    let none = none
        .split(',')
        .filter_map(|entry| listed_at(entry.trim(), port));
    let none = none.collect::<Vec<_>>().join(",");
    let listed = Matcher::builder().all(text).no(none).build();
    let is_asked = !all_are && listed.intercept(server).is_some();
    Ok(is_asked.then_some(url))
}

/// An entry of `NO_PROXY` in the matcher's words, which knows neither `*.NAME` nor ports; `None` if it is about another port.
fn listed_at(entry: &str, port: u16) -> Option<&str> {
    let entry = entry
        .strip_prefix('*')
        .filter(|rest| rest.starts_with('.'))
        .unwrap_or(entry);
    let Some((host, digits)) = entry.rsplit_once(':') else {
        return Some(entry);
    };
    if host.contains(':') && !host.ends_with(']') {
        // An address of IPv6, or a prefix, without a port.
        return Some(entry);
    }
    (digits.parse() == Ok(port)).then(|| bare(host))
}

/// The proxy without user and password, and those by themselves.
fn taken_apart(proxy: &Uri) -> Option<Intercept> {
    let all = Matcher::builder().all(proxy.to_string()).build();
    all.intercept(&Uri::from_static("https://any"))
}

/// The proxy for people: secrets are not told.
pub(super) fn shown(proxy: &Uri) -> String {
    let parts = taken_apart(proxy).map(|parts| parts.uri().to_string());
    parts.unwrap_or_default().trim_end_matches('/').to_owned()
}

/// How a connection comes to the API, before TLS with it.
#[derive(Clone, Debug)]
pub(super) enum Way {
    Straight(HttpConnector),
    /// CONNECT (RFC 9110 section 9.3.6) to a proxy in plain text,
    Tunnel(String, Tunnel<HttpConnector>),
    /// or over TLS,
    TlsTunnel(String, Tunnel<HttpsConnector<HttpConnector>>),
    /// SOCKS 5 (RFC 1928), where the proxy looks up names.
    Socks(String, SocksV5<HttpConnector>),
}

impl Way {
    /// Through this proxy. `tls` is for one with TLS.
    pub(super) fn through(
        proxy: &Uri,
        tcp: HttpConnector,
        tls: impl FnOnce(HttpConnector) -> HttpsConnector<HttpConnector>,
    ) -> Self {
        let Some(parts) = taken_apart(proxy) else {
            return Self::Straight(tcp);
        };
        let (to, name) = (parts.uri().clone(), shown(proxy));
        match proxy.scheme_str() {
            Some("https") => Self::TlsTunnel(name, with_user(Tunnel::new(to, tls(tcp)), &parts)),
            Some("socks5" | "socks5h") => {
                let socks = SocksV5::new(to, tcp);
                Self::Socks(
                    name,
                    match parts.raw_auth() {
                        Some((user, password)) => socks.with_auth(user.into(), password.into()),
                        None => socks,
                    },
                )
            }
            _ => Self::Tunnel(name, with_user(Tunnel::new(to, tcp), &parts)),
        }
    }
}

fn with_user<C>(tunnel: Tunnel<C>, parts: &Intercept) -> Tunnel<C> {
    match parts.basic_auth() {
        Some(user) => tunnel.with_auth(user.clone()),
        None => tunnel,
    }
}

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

impl Service<Uri> for Way {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, api: Uri) -> Self::Future {
        let way = self.clone();
        Box::pin(async move {
            match way {
                Self::Straight(tcp) => Ok(MaybeHttpsStream::Http(tcp.oneshot(api).await?)),
                Self::Tunnel(proxy, tunnel) => match tunnel.oneshot(api).await {
                    Ok(stream) => Ok(MaybeHttpsStream::Http(stream)),
                    Err(error) => Err(failed(&proxy, error)),
                },
                Self::TlsTunnel(proxy, tunnel) => {
                    let stream = tunnel.oneshot(api).await;
                    stream.map_err(|error| failed(&proxy, error))
                }
                Self::Socks(proxy, socks) => match socks.oneshot(api).await {
                    Ok(stream) => Ok(MaybeHttpsStream::Http(stream)),
                    Err(error) => Err(failed(&proxy, error)),
                },
            }
        })
    }
}

/// The error of a proxy, by its name.
fn failed(proxy: &str, error: impl std::error::Error + Send + Sync + 'static) -> BoxError {
    anyhow!(error).context(format!("the proxy {proxy}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_read_with_user_and_password_and_shown_without() {
        for (text, expected) in [
            ("http://192.0.2.9:3128", "http://192.0.2.9:3128"),
            ("https://u:p%40@proxy.example/", "https://proxy.example"),
            (
                "socks5://u:p@[2001:db8::9]:1080",
                "socks5://[2001:db8::9]:1080",
            ),
        ] {
            assert_eq!(shown(&read(text).unwrap()), expected);
        }
        for text in [
            "ftp://secret@a:1",
            "192.0.2.9:3128",
            "http://",
            "http://secret a",
            "http://user:sec@secret@a:1",
            "",
        ] {
            let said = read(text).unwrap_err().to_string();
            assert!(said.contains("http://ADDRESS:PORT"), "{text}: {said}");
            assert!(!said.contains("secret"), "{said}");
        }
    }

    #[test]
    fn the_environment_is_read_as_go_reads_it() {
        let of = |server: &'static str, set: &[(&str, &str)]| {
            let variable = |name: &str| {
                let found = set.iter().find(|(of, _)| *of == name);
                found.map(|(_, text)| (*text).to_owned())
            };
            let proxy = of_environment(&Uri::from_static(server), variable);
            proxy.map(|proxy| proxy.map(|proxy| shown(&proxy)))
        };
        let [api, plain] = ["https://192.0.2.1:6443", "http://192.0.2.1:8080"];
        let here = ("HTTPS_PROXY", "http://p:1");
        let through = Some("http://p:1".to_owned());
        for (server, set, expected) in [
            (api, vec![], &None),
            (api, vec![here], &through),
            (api, vec![("https_proxy", "p:1")], &through),
            (
                api,
                vec![("HTTPS_PROXY", ""), ("https_proxy", "p:1")],
                &through,
            ),
            (api, vec![("HTTP_PROXY", "http://p:1")], &None),
            (plain, vec![("HTTP_PROXY", "http://p:1")], &through),
            (plain, vec![here], &None),
            (
                api,
                vec![here, ("NO_PROXY", "10.0.0.0/8,192.0.2.0/24")],
                &None,
            ),
            (api, vec![here, ("no_proxy", "*")], &None),
            (api, vec![here, ("NO_PROXY", "192.0.2.2")], &through),
            (api, vec![here, ("NO_PROXY", "a,192.0.2.1:6443")], &None),
            (api, vec![here, ("NO_PROXY", "192.0.2.1:443")], &through),
            (
                "https://[2001:db8::1]:6443",
                vec![here, ("NO_PROXY", "[2001:db8::1]:6443")],
                &None,
            ),
            (
                "https://[2001:db8::1]:6443",
                vec![here, ("NO_PROXY", "2001:db8::/32")],
                &None,
            ),
            (
                "https://api.example.com:6443",
                vec![here, ("NO_PROXY", ".example.com")],
                &None,
            ),
            (
                "https://api.example.com:6443",
                vec![here, ("NO_PROXY", "*.example.com")],
                &None,
            ),
            ("https://127.0.0.1:6443", vec![here], &None),
            ("https://[::1]:6443", vec![here], &None),
            ("https://localhost:6443", vec![here], &None),
        ] {
            assert_eq!(&of(server, &set).unwrap(), expected, "{server} {set:?}");
        }
        let said = of(api, &[("HTTPS_PROXY", "ftp://p:1")]).unwrap_err();
        assert!(said.to_string().contains("variable HTTPS_PROXY"), "{said}");
    }
}
