//! `daymark echo`: a small server that tells who asked.

use std::process::ExitCode;
use std::time::Duration;

use daymark_lab::echo::{self, Config};

/// Flags of `daymark echo`.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  daymark echo --port 8080\n  curl http://localhost:8080/\n\nEvery path answers \
    {pod, node, client, local} as JSON; UDP answers the same.\nGET /healthz is 200 or 503, set by POST /fail and POST /heal."
)]
pub(crate) struct Args {
    /// A port to serve, TCP and UDP; may be given several times.
    #[arg(long = "port", default_value = "8080", value_name = "PORT")]
    ports: Vec<u16>,
    /// Seconds to go on serving after SIGTERM.
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    drain: f64,
    /// The Pod's name in the answers; $POD_NAME or $HOSTNAME when not given.
    #[arg(long)]
    pod: Option<String>,
    /// The node's name in the answers; $NODE_NAME when not given.
    #[arg(long)]
    node: Option<String>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let drain = Duration::try_from_secs_f64(args.drain).map_err(|error| {
        anyhow::anyhow!(
            "--drain {}: {error}; give seconds, such as 2 or 0.5",
            args.drain
        )
    })?;
    let config = Config {
        ports: args.ports,
        pod: args
            .pod
            .or_else(|| environment("POD_NAME"))
            .or_else(|| environment("HOSTNAME"))
            .unwrap_or_default(),
        node: args
            .node
            .or_else(|| environment("NODE_NAME"))
            .unwrap_or_default(),
        drain,
    };
    echo::run(&config)?;
    Ok(ExitCode::SUCCESS)
}

fn environment(name: &str) -> Option<String> {
    std::env::var_os(name).and_then(|value| value.into_string().ok())
}
