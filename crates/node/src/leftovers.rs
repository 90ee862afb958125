//! Removes what kube-proxy left on this node, after the node's own first commit.
//!
//! The older kind of iptables is the one thing for which a program is run: the kernel has no other interface for it that
//! other programs agree on.

mod ipvs;
mod legacy;
pub mod vigil;

use std::io;
use std::path::PathBuf;

use daymark_dataplane::leftovers::nft::{self, Look};
use daymark_dataplane::nft::apply::CommitError;
use daymark_dataplane::nft::kernel::Netlink;
use daymark_model::Cidr;

/// What became of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is gone.
    Removed(String),
    /// It stays, because others use it.
    Kept(String),
    /// It stays, because it could not be removed; with the remedy.
    Failed(String),
}

/// What is not the agent's to remove, and what is known to be gone.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Virtual servers of IPVS in these ranges are others'.
    pub spared: Vec<Cidr>,
    /// Where it stands that iptables-legacy has nothing of kube-proxy: without its programs that cannot be seen.
    pub mark: Option<Mark>,
}

/// A file by which a `daymark cleanup` that has the programs of iptables-legacy tells agents that have not that nothing is left there. It holds
/// for as long as the machine runs.
#[derive(Clone, Debug)]
pub struct Mark(pub PathBuf);

impl Mark {
    /// Leaves it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn leave(&self) -> io::Result<()> {
        std::fs::write(&self.0, boot()?)
    }

    /// Whether it was left since the machine started.
    #[must_use]
    pub fn is_left(&self) -> bool {
        let left = std::fs::read_to_string(&self.0);
        matches!((left, boot()), (Ok(left), Ok(boot)) if left == boot)
    }
}

/// What the kernel calls this run of the machine (`drivers/char/random.c`).
fn boot() -> io::Result<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
}

/// Removes kube-proxy's tables, chains, ipsets, virtual servers and device from this thread's network namespace, but for virtual
/// servers that the scope spares. What is not there is not told.
pub async fn remove_kube_proxys(scope: Scope) -> Vec<Outcome> {
    let mut outcomes = tokio::task::spawn_blocking(in_nf_tables)
        .await
        .unwrap_or_else(|error| {
            vec![Outcome::Failed(format!(
                "nf_tables: the thread for it ended: {error}"
            ))]
        });
    let is_left = scope.mark.as_ref().is_some_and(Mark::is_left);
    outcomes.extend(
        legacy::remove(if is_left {
            Unseen::Nothing
        } else {
            Unseen::Maybe
        })
        .await,
    );
    outcomes.extend(ipvs::remove(scope.spared).await);
    outcomes
}

/// What of kube-proxy is in iptables-legacy where its programs are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unseen {
    /// Nothing: who had the programs said so.
    Nothing,
    /// It is not known.
    Maybe,
}

/// What of kube-proxy is in nf_tables; `None` if the kernel cannot be asked.
pub async fn look() -> Option<Look> {
    let asked = tokio::task::spawn_blocking(|| {
        let mut kernel = Netlink::open().ok()?;
        nft::look(&mut kernel).ok()
    });
    asked.await.ok().flatten()
}

/// Whether nf_tables holds the rules of a kube-proxy that has synced once, in mode nftables or iptables; what cannot be asked is
/// not there.
#[must_use]
pub fn kube_proxy_has_written() -> bool {
    let asked = Netlink::open().map(|mut kernel| nft::is_written(&mut kernel));
    matches!(asked, Ok(Ok(true)))
}

fn in_nf_tables() -> Vec<Outcome> {
    let mut kernel = match Netlink::open() {
        Ok(kernel) => kernel,
        Err(error) => return vec![Outcome::Failed(error.to_string())],
    };
    nft::remove(&mut kernel)
        .into_iter()
        .flat_map(tell)
        .collect()
}

fn tell(outcome: Result<nft::Removed, CommitError>) -> Vec<Outcome> {
    match outcome {
        Ok(nft::Removed {
            table,
            chains,
            kept,
        }) => {
            let what = chains.map_or_else(
                || format!("table {table}"),
                |chains| format!("{chains} chains of table {table}"),
            );
            let kept = kept.iter().map(|chain| {
                Outcome::Kept(format!(
                    "chain {chain} of table {table}: rules of others jump to it"
                ))
            });
            std::iter::once(Outcome::Removed(what))
                .chain(kept)
                .collect()
        }
        Err(error) => vec![Outcome::Failed(error.to_string())],
    }
}

/// Removes daymark's own tables. While an agent runs they are its own, and the kernel says so.
pub fn remove_own() -> Vec<Outcome> {
    let mut kernel = match Netlink::open() {
        Ok(kernel) => kernel,
        Err(error) => return vec![Outcome::Failed(error.to_string())],
    };
    nft::remove_own(&mut kernel)
        .into_iter()
        .flat_map(tell)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_holds_until_the_machine_is_started_anew() {
        let name = format!("daymark-mark-{}", std::process::id());
        let mark = Mark(std::env::temp_dir().join(name));
        assert!(!mark.is_left());
        mark.leave().unwrap();
        assert!(mark.is_left());
        std::fs::write(&mark.0, "00000000-0000-4000-8000-000000000000\n").unwrap();
        assert!(!mark.is_left(), "of another boot");
        std::fs::remove_file(&mark.0).unwrap();
    }
}
