//! Where log events go: standard error, a line each.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging at the level of `DAYMARK_LOG`, or `info`.
pub(crate) fn start() {
    start_at("info");
}

/// The same, at this level if `DAYMARK_LOG` says none.
pub(crate) fn start_at(level: &str) {
    let filter = EnvFilter::try_from_env("DAYMARK_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    // It tells each failed connection a second time, without saying why it failed.
    let twice = [
        "kube_client::client::builder=off",
        "rustls_platform_verifier=off",
    ];
    let filter = twice.into_iter().fold(filter, |filter, directive| {
        filter.add_directive(directive.parse().expect("a directive"))
    });
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        // What cannot be logged would be told to standard error, by a panic if that is gone: a node is served without a log too.
        .log_internal_errors(false);
    // A second start in one process keeps the first.
    let _ = subscriber.try_init();
}
