//! The real API server, and the objects that it serves.

use std::ops::Range;
use std::path::Path;

use anyhow::Context;
use daymark_lab::control::{ControlPlane, User};
use futures::{StreamExt, TryStreamExt, stream};
use http::{Method, StatusCode};
use kube::Client;
use serde_json::Value;

use super::super::ground::{API, Folder};
use super::super::inputs::{self, Stored};
use crate::beside::{Proxy, control_plane};

/// Starts it, and writes a kubeconfig for each program.
pub(super) async fn control(programs: &Path, folder: &Folder) -> anyhow::Result<ControlPlane> {
    let state = folder.join("control");
    std::fs::create_dir_all(&state)?;
    // Neither needs more than it asks for; what it may is not what is measured.
    let user = |name: &str| User {
        name: name.to_owned(),
        identity: name.to_owned(),
        groups: vec!["system:masters".to_owned()],
    };
    let users = Proxy::BOTH.map(|proxy| user(proxy.name())).into();
    let control = ControlPlane::start(control_plane(programs, state, users)).await?;
    let server = format!("https://{API}");
    for name in Proxy::BOTH.map(Proxy::name) {
        control.kubeconfig(name, &server, &folder.join(&format!("{name}.kubeconfig")))?;
    }
    control.kubeconfig(
        User::ADMINISTRATOR,
        &server,
        &folder.join("admin.kubeconfig"),
    )?;
    Ok(control)
}

/// Creates the objects of a range of Services, many at a time, and what they need.
pub(super) async fn fill(
    client: &Client,
    services: Range<usize>,
    endpoints: usize,
) -> anyhow::Result<()> {
    let mut first = Vec::new();
    let mut rest = Vec::new();
    for line in inputs::lines(services.end, Stored::WithEndpoints(endpoints)) {
        match line["kind"].as_str() {
            Some("namespaces" | "nodes") => first.push(line),
            _ => rest.push(line),
        }
    }
    for lines in [first, rest] {
        stream::iter(lines)
            .map(|line| create(client, line))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
    }
    Ok(())
}

/// Creates one object; one that is there stays as it is.
pub(super) async fn create(client: &Client, line: Value) -> anyhow::Result<()> {
    let namespace = line["namespace"].as_str().unwrap_or_default();
    let path = match line["kind"].as_str().unwrap_or_default() {
        "services" => format!("/api/v1/namespaces/{namespace}/services"),
        "discovery.k8s.io/endpointslices" => {
            format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")
        }
        kind => format!("/api/v1/{kind}"),
    };
    let request = http::Request::post(&path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(line["value"].to_string().into_bytes())?;
    match client.request::<Value>(request).await {
        Err(kube::Error::Api(status)) if status.code == StatusCode::CONFLICT.as_u16() => Ok(()),
        other => other.map(drop).with_context(|| format!("POST {path}")),
    }
}

/// Removes every Service and slice of the benchmark.
pub(super) async fn empty(client: &Client) -> anyhow::Result<()> {
    let paths = [
        "/api/v1/namespaces/{}/services",
        "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
    ];
    let namespaces: Vec<String> = (0..20).map(inputs::namespace).collect();
    for path in paths {
        for namespace in &namespaces {
            let path = path.replace("{}", namespace);
            let request = http::Request::builder()
                .method(Method::DELETE)
                .uri(&path)
                .body(Vec::new())?;
            client
                .request::<Value>(request)
                .await
                .with_context(|| format!("DELETE {path}"))?;
        }
    }
    Ok(())
}

/// Requests under way at a time.
const AT_ONCE: usize = 16;
