//! One request, from its path to its answer.

use std::sync::Arc;

use axum::body::Body;
use http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::collection::Call;
use super::path::{Probe, Route, Target, route};
use super::reply::{error_reply, json_reply};
use super::{Query, negotiate};
use crate::auth::{self, Attributes, Name};
use crate::object::encode;
use crate::registry::User;
use crate::server::Server;
use crate::status::Status;
use crate::{clock, discovery, openapi};

/// Answers a request of a user; `None` is somebody without a client certificate.
pub(crate) async fn handle(
    server: Arc<Server>,
    user: Option<User>,
    request: Request<Body>,
) -> Response<Body> {
    let started = clock::instant();
    let method = request.method().clone();
    let response = answer(&server, user, request)
        .await
        .unwrap_or_else(|status| error_reply(&status));
    server
        .metrics
        .count(&method, response.status(), started.elapsed());
    response
}

async fn answer(
    server: &Arc<Server>,
    user: Option<User>,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let route = route(request.uri().path());
    if let Route::Health(probe) = route {
        return Ok(health(
            server,
            probe,
            request.uri().query().unwrap_or_default(),
        ));
    }
    let _permit = server.in_flight.try_acquire().map_err(|_| {
        Status::too_many_requests("too many requests are being answered: try again", 1)
    })?;
    let user = user.ok_or_else(Status::unauthorized)?;
    let (parts, body) = request.into_parts();
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    if let Route::Resource(target) = route {
        let call = call(server, user, &parts.method, parts.headers, query, target)?;
        return call.run(body).await;
    }
    if parts.method != Method::GET && parts.method != Method::HEAD {
        return Err(Status::method_not_allowed(
            "the server does not allow this method on the requested resource",
        ));
    }
    page(server, &route, &parts.headers, &query)
}

/// Finds the kind and checks the rights.
fn call(
    server: &Arc<Server>,
    user: User,
    method: &Method,
    headers: HeaderMap,
    query: Query,
    target: Target,
) -> Result<Call, Status> {
    let verb = auth::verb(method, &target, &query)?;
    auth::allow(
        &user,
        &Attributes {
            verb,
            target: &target,
            name: Name::in_path(verb, &target),
        },
        server,
    )?;
    let (group, version, resource) = (&target.group, &target.version, &target.resource);
    let entry = server.registry.position(group, version, resource);
    let entry = entry.ok_or_else(|| Status::unserved_kind(group, version, resource))?;
    Ok(Call {
        server: Arc::clone(server),
        user,
        verb,
        headers,
        query,
        target,
        entry,
    })
}

/// The pages that are no resources.
fn page(
    server: &Server,
    route: &Route,
    headers: &HeaderMap,
    query: &Query,
) -> Result<Response<Body>, Status> {
    match route {
        Route::Version => Ok(value(&version())),
        Route::Metrics => Ok(plain(
            StatusCode::OK,
            server
                .metrics
                .render(&server.store, server.watchers.count()),
        )),
        Route::CoreVersions | Route::Groups => groups(server, route, headers),
        Route::Group(group) => discovery::group(&server.registry, group).map(|page| value(&page)),
        Route::Resources { group, version } => {
            discovery::resources(&server.registry, group, version).map(|page| value(&page))
        }
        Route::OpenApi => Ok(value(&openapi::index(&server.registry))),
        Route::OpenApiDocument(path) => document(server, path, headers, query),
        Route::OpenApi2 => Ok(openapi_2(headers)),
        Route::Health(_) | Route::Resource(_) | Route::Unknown => Err(Status::unknown_path()),
    }
}

fn groups(server: &Server, route: &Route, headers: &HeaderMap) -> Result<Response<Body>, Status> {
    let core = *route == Route::CoreVersions;
    let mut response = match negotiate::discovery(headers)? {
        negotiate::Discovery::Aggregated => {
            let page = encode(&discovery::aggregated(&server.registry, core));
            let tag = openapi::hash(&page);
            let mut response = cached(headers, &tag, page);
            response.headers_mut().insert(
                CONTENT_TYPE,
                HeaderValue::from_static(discovery::AGGREGATED_TYPE),
            );
            response
        }
        negotiate::Discovery::Legacy if core => value(&discovery::core_versions()),
        negotiate::Discovery::Legacy => value(&discovery::groups(&server.registry)),
    };
    response
        .headers_mut()
        .insert(VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

fn document(
    server: &Server,
    path: &str,
    headers: &HeaderMap,
    query: &Query,
) -> Result<Response<Body>, Status> {
    let document = openapi::document(&server.registry, path).ok_or_else(Status::unknown_path)?;
    let mut response = cached(headers, &document.hash, document.text.clone());
    if query.get("hash") == document.hash {
        let forever = HeaderValue::from_static("public, immutable");
        response.headers_mut().insert("cache-control", forever);
        // Clients compare this with their own clock only; a year from the release is as good as any other far date.
        response.headers_mut().insert(
            "expires",
            HeaderValue::from_static("Fri, 31 Dec 2066 00:00:00 GMT"),
        );
    }
    Ok(response)
}

/// The older form, which kubectl asks for about what the third version does not describe: a `List`, or a kind that is not served. It
/// describes nothing, so that kubectl goes on: it reads a list item by item, and finds out itself that there is no such kind.
fn openapi_2(headers: &HeaderMap) -> Response<Body> {
    if negotiate::takes_json(headers) {
        return value(&openapi::second());
    }
    let mut response = Response::new(Body::from(openapi::second_protobuf()));
    let kind = HeaderValue::from_static(openapi::SECOND_PROTOBUF_TYPE);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// A page with an ETag; 304 without a body for those who have it.
fn cached(headers: &HeaderMap, tag: &str, page: bytes::Bytes) -> Response<Body> {
    let tag = format!("\"{tag}\"");
    let known = headers
        .get(IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|known| known.contains(&tag));
    let mut response = match known {
        true => json_reply(StatusCode::NOT_MODIFIED, Body::empty(), &[]),
        false => json_reply(StatusCode::OK, page, &[]),
    };
    response.headers_mut().insert(
        ETAG,
        HeaderValue::from_str(&tag).expect("a hash is plain text"),
    );
    response
}

fn value(page: &Value) -> Response<Body> {
    json_reply(StatusCode::OK, encode(page), &[])
}

fn plain(code: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = code;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn health(server: &Server, probe: Probe, query: &str) -> Response<Body> {
    let health = server.store.health();
    let reason = match &health {
        daymark_store::Health::ReadOnly { reason } if probe == Probe::Ready => {
            Some(reason.as_str())
        }
        _ => None,
    };
    let (name, code) = match (probe, reason) {
        (Probe::Live, _) => ("livez", StatusCode::OK),
        (Probe::Ready, None) => ("readyz", StatusCode::OK),
        (Probe::Ready, Some(_)) => ("readyz", StatusCode::SERVICE_UNAVAILABLE),
    };
    let text = match (reason, query.contains("verbose")) {
        (None, false) => "ok".to_owned(),
        (None, true) => format!("[+]ping ok\n[+]store ok\n{name} check passed\n"),
        (Some(reason), _) => {
            format!("[+]ping ok\n[-]store failed: {reason}\n{name} check failed\n")
        }
    };
    plain(code, text)
}

/// A true upstream minor, because clients compute their skew from it.
fn version() -> Value {
    json!({
        "major": "1",
        "minor": "37",
        "gitVersion": openapi::VERSION,
        "gitCommit": env!("CARGO_PKG_VERSION"),
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, go_arch()),
    })
}

fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
