//! The embedded API server as a child process over TLS: how soon it answers, how much it takes.

use std::path::Path;

use anyhow::Context;
use kube::Client;
use serde_json::Value;

use super::figure::Goal;
use super::ground::{Folder, Ground, Part, filled, until};
use super::inputs::{self, Stored};
use super::{Figure, Measurement, Sizes, clock};
use crate::client::from_kubeconfig;

/// A runtime of this thread alone, so that connections begin in its network namespace.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

/// Waits until the server of a folder says that it is ready, over TLS.
pub(crate) fn ready(api: &mut Part, folder: &Folder) -> anyhow::Result<()> {
    let kubeconfig = folder.join("admin.conf");
    let mut client = None;
    // A file that is being written cannot be read yet.
    let runtime = runtime()?;
    until(api, "the API's kubeconfig", || {
        client = runtime.block_on(from_kubeconfig(&kubeconfig)).ok();
        client.is_some()
    })?;
    let client = client.context("the API's kubeconfig")?;
    runtime.block_on(async {
        let request = http::Request::get("/readyz").body(Vec::new())?;
        client.request_text(request).await.context("GET /readyz")
    })?;
    Ok(())
}

/// `api-start-empty`.
pub(crate) fn start_empty(base: &Path, runs: usize) -> anyhow::Result<Figure> {
    let mut times = Vec::new();
    for _ in 0..runs {
        let folder = Folder::new(base, "empty")?;
        times.push(start(&folder)?);
    }
    Ok(figure(
        Measurement::ApiStartEmpty,
        "api-start-empty",
        "API server with no store yet, CA included: start to ready",
        times,
        Some(Goal::AtMost(0.2)),
    ))
}

/// `api-start-10k`.
pub(crate) fn start_filled(base: &Path, sizes: &Sizes, runs: usize) -> anyhow::Result<Vec<Figure>> {
    let (services, endpoints) = (sizes.services, sizes.endpoints);
    let measured = |stored| {
        let folder = filled(base, services, stored)?;
        (0..runs)
            .map(|_| start(&folder))
            .collect::<anyhow::Result<Vec<f64>>>()
    };
    let of = Measurement::ApiStart10k;
    Ok(vec![
        figure(
            of,
            "api-start-10k",
            &format!("with {services} Services and their IPAddresses stored"),
            measured(Stored::Services)?,
            Some(Goal::AtMost(0.5)),
        ),
        figure(
            of,
            "api-start-10k-slices",
            &format!("and an EndpointSlice of {endpoints} for each"),
            measured(Stored::WithEndpoints(endpoints))?,
            None,
        ),
    ])
}

/// Seconds from the start of a server to its readiness.
fn start(folder: &Folder) -> anyhow::Result<f64> {
    let ground = Ground::new()?;
    // A kubeconfig from before would be read too early.
    let _ = std::fs::remove_file(folder.join("admin.conf"));
    let started = clock::now();
    let mut api = Part::api(folder, &[&ground])?;
    let took = ground.run(|| {
        ready(&mut api, folder)?;
        Ok((clock::now() - started).as_secs_f64())
    })?;
    api.stop()?;
    Ok(took)
}

/// `api-creates`.
pub(crate) fn creates(base: &Path, sizes: &Sizes, runs: usize) -> anyhow::Result<Figure> {
    let mut rates = Vec::new();
    for _ in 0..runs {
        let folder = Folder::new(base, "creates")?;
        let ground = Ground::new()?;
        let mut api = Part::api(&folder, &[&ground])?;
        rates.push(ground.run(|| {
            ready(&mut api, &folder)?;
            runtime()?.block_on(create_all(&folder, sizes.clients, sizes.creates))
        })?);
        api.stop()?;
    }
    Ok(Figure {
        of: Measurement::ApiCreates,
        name: "api-creates".to_owned(),
        what: format!(
            "{} Services created by {} clients over TLS, fsync on",
            sizes.creates, sizes.clients
        ),
        unit: "/s",
        runs: rates,
        goal: Some(Goal::AtLeast(1000.0)),
    })
}

/// Creates a second. Each client has a connection of its own and waits for each answer.
async fn create_all(folder: &Folder, clients: usize, creates: usize) -> anyhow::Result<f64> {
    let mut connected = Vec::new();
    for _ in 0..clients {
        let client = from_kubeconfig(&folder.join("admin.conf")).await?;
        client
            .request_text(http::Request::get("/readyz").body(Vec::new())?)
            .await?;
        connected.push(client);
    }
    let each = creates / clients;
    let started = clock::now();
    let mut tasks = tokio::task::JoinSet::new();
    for (number, client) in connected.into_iter().enumerate() {
        tasks.spawn(async move {
            for service in 0..each {
                create(&client, &format!("service-{number}-{service}")).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let took = clock::now() - started;
    Ok((each * clients) as f64 / took.as_secs_f64())
}

async fn create(client: &Client, name: &str) -> anyhow::Result<()> {
    let body = serde_json::to_vec(&inputs::new_service(name))?;
    let request = http::Request::post("/api/v1/namespaces/default/services")
        .header("content-type", "application/json")
        .body(body)?;
    let _created: Value = client.request(request).await?;
    Ok(())
}

fn figure(of: Measurement, name: &str, what: &str, runs: Vec<f64>, goal: Option<Goal>) -> Figure {
    Figure {
        of,
        name: name.to_owned(),
        what: what.to_owned(),
        unit: "s",
        runs,
        goal,
    }
}
