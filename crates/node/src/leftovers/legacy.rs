//! kube-proxy's chains in the older kind of iptables.

use std::io;
use std::process::Stdio;

use daymark_dataplane::leftovers::text::script;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tracing::debug;

use super::{Outcome, Unseen};

/// A family: where the kernel names its tables, and the beginning of its commands' names.
const FAMILIES: [(&str, &str); 2] = [
    ("/proc/self/net/ip_tables_names", "iptables"),
    ("/proc/self/net/ip6_tables_names", "ip6tables"),
];

pub(super) async fn remove(unseen: Unseen) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for (names, command) in FAMILIES {
        // The kernel names no table until somebody uses one.
        let names = std::fs::read_to_string(names).unwrap_or_default();
        if !names.trim().is_empty() {
            outcomes.extend(remove_of(command, &names, unseen).await);
        }
    }
    outcomes
}

/// Whether kube-proxy may have chains here: it has its canary in `mangle` and Services in `nat` and `filter`, all three for as long as
/// its other chains are there. Docker alone uses no `mangle`. (kubernetes `pkg/util/iptables/iptables.go`, `Monitor`.)
fn may_be_kube_proxys(names: &str) -> bool {
    ["mangle", "nat", "filter"]
        .iter()
        .all(|table| names.lines().any(|name| name.trim() == *table))
}

/// `names` are the tables in use. Without the program nothing is told where they show that kube-proxy has nothing there.
async fn remove_of(command: &str, names: &str, unseen: Unseen) -> Vec<Outcome> {
    match try_remove(command).await {
        Ok(outcomes) => outcomes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => no_program(command, names, unseen),
        Err(error) => vec![Outcome::Failed(format!(
            "chains in {command}-legacy: {error}; {REMEDY}"
        ))],
    }
}

fn no_program(command: &str, names: &str, unseen: Unseen) -> Vec<Outcome> {
    // Tables stay in use when the last chain has gone from them.
    if unseen == Unseen::Nothing || !may_be_kube_proxys(names) {
        let tables: Vec<&str> = names.lines().collect();
        debug!(?tables, "{command}-legacy has nothing of kube-proxy");
        return Vec::new();
    }
    vec![Outcome::Failed(format!(
        "chains in {command}-legacy, if there are any: there is no program {command}-legacy-save here; {REMEDY}"
    ))]
}

const REMEDY: &str = "label the node daymark-cleanup=kube-proxy for deploy/cleanup.yaml, run `daymark cleanup --kube-proxy` on the node \
    as root where that program is, or start the node anew";

async fn try_remove(command: &str) -> io::Result<Vec<Outcome>> {
    let saved = Command::new(format!("{command}-legacy-save"))
        .output()
        .await?;
    if !saved.status.success() {
        return Err(io::Error::other(
            String::from_utf8_lossy(&saved.stderr).trim().to_owned(),
        ));
    }
    let script = script(&String::from_utf8_lossy(&saved.stdout));
    if !script.text.is_empty() {
        restore(command, &script.text).await?;
    }
    let removed = (script.chains > 0)
        .then(|| Outcome::Removed(format!("{} chains in {command}-legacy", script.chains)));
    let kept = script.kept.into_iter().map(|chain| {
        Outcome::Kept(format!(
            "chain {chain} in {command}-legacy: rules of others jump to it"
        ))
    });
    Ok(removed.into_iter().chain(kept).collect())
}

async fn restore(command: &str, text: &str) -> io::Result<()> {
    let mut child = Command::new(format!("{command}-legacy-restore"))
        .args(["--noflush", "--wait", "5"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes()).await?;
    }
    let ended = child.wait_with_output().await?;
    if ended.status.success() {
        return Ok(());
    }
    Err(io::Error::other(
        String::from_utf8_lossy(&ended.stderr).trim().to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_without_a_canary_are_of_others_and_are_not_spoken_of() {
        for kube_proxys in ["mangle\nfilter\nnat\n", "raw\nmangle\nfilter\nnat\n"] {
            assert_eq!(no_program("ip6tables", kube_proxys, Unseen::Nothing), []);
            let told = no_program("ip6tables", kube_proxys, Unseen::Maybe);
            let [Outcome::Failed(why)] = &told[..] else {
                panic!("{told:?}");
            };
            assert!(why.contains("no program ip6tables-legacy-save"), "{why}");
        }
        for others in ["filter\nnat\n", "raw\nfilter\nnat\n", "mangle\n"] {
            assert_eq!(
                no_program("iptables", others, Unseen::Maybe),
                [],
                "{others:?}"
            );
        }
    }
}
