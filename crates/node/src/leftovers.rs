//! Removes what kube-proxy left on this node, after the node's own first commit.
//!
//! The older kind of iptables is the one thing for which a program is run: the kernel has no other interface for it that
//! other programs agree on.

mod ipvs;
mod legacy;
pub mod vigil;

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

/// Removes kube-proxy's tables, chains, ipsets, virtual servers and device from this thread's network namespace, but for virtual
/// servers in `spared`. What is not there is not told.
pub async fn remove_kube_proxys(spared: Vec<Cidr>) -> Vec<Outcome> {
    let mut outcomes = tokio::task::spawn_blocking(in_nf_tables)
        .await
        .unwrap_or_else(|error| {
            vec![Outcome::Failed(format!(
                "nf_tables: the thread for it ended: {error}"
            ))]
        });
    outcomes.extend(legacy::remove().await);
    outcomes.extend(ipvs::remove(spared).await);
    outcomes
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
