//! `daymark lab up`, and how soon a Service serves.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use daymark_lab::cluster::create_all;

use super::figure::Goal;
use super::ground::Ground;
use super::{Figure, Measurement, api, clock};
use crate::client::from_kubeconfig;

/// The Service that is asked, with its Pods, and who asks.
const MANIFESTS: [&str; 2] = [
    include_str!("../../../../examples/types/backend.yaml"),
    include_str!("../../../../examples/types/client.yaml"),
];

/// `lab-start`.
pub(crate) fn start(runs: usize) -> anyhow::Result<Vec<Figure>> {
    let mut up = Vec::new();
    let mut served = Vec::new();
    for number in 0..runs {
        let ground = Ground::new()?;
        let name = format!("bench-{:08x}-{number}", rand::random::<u32>());
        let times = ground.run(|| one(&name));
        // Also after a failure: a lab outlives who started it.
        let down = daymark(&["lab", "down", "--name", &name]);
        let [ready, first] = times?;
        down?;
        up.push(ready);
        served.push(first);
    }
    let figure = |name: &str, what: &str, runs, goal| Figure {
        of: Measurement::LabStart,
        name: name.to_owned(),
        what: what.to_owned(),
        unit: "s",
        runs,
        goal,
    };
    Ok(vec![
        figure(
            "lab-start",
            "lab of three nodes: command to first request served by name",
            served,
            Some(Goal::AtMost(2.0)),
        ),
        figure(
            "lab-start-up",
            "of that, `lab up` until it returns",
            up,
            None,
        ),
    ])
}

fn one(name: &str) -> anyhow::Result<[f64; 2]> {
    let started = clock::now();
    let since = |started: Instant| (clock::now() - started).as_secs_f64();
    daymark(&["lab", "up", "--name", name])?;
    let ready = since(started);
    let kubeconfig = PathBuf::from(daymark(&["lab", "kubeconfig", "--name", name])?.trim_end());
    api::runtime()?.block_on(async {
        let client = from_kubeconfig(&kubeconfig).await?;
        for manifest in MANIFESTS {
            create_all(&client, manifest).await?;
        }
        anyhow::Ok(())
    })?;
    let binary = std::env::current_exe()?.to_string_lossy().into_owned();
    let ask = [
        "lab",
        "exec",
        "--name",
        name,
        "pod/client-1",
        "--",
        &binary,
        "ask",
        "backend-service:80",
        "--timeout",
        "0.5",
    ];
    while daymark(&ask).is_err() {
        if since(started) > LONGEST.as_secs_f64() {
            bail!(
                "backend-service did not answer within {} s",
                LONGEST.as_secs()
            );
        }
        std::thread::sleep(ROUND);
    }
    Ok([ready, since(started)])
}

const LONGEST: Duration = Duration::from_secs(30);
const ROUND: Duration = Duration::from_millis(10);

/// Runs a verb of this program and returns what it prints.
fn daymark(args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(std::env::current_exe()?)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| args.join(" "))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("daymark {}: {}", args.join(" "), said.trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
