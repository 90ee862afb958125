//! What kube-proxy's mode ipvs leaves beside chains: ipsets, virtual servers, and the device that has their addresses.
//!
//! The device is the sign of that mode: without it nothing here is asked of the kernel, which would load modules for
//! the question. It goes last, so that whoever was interrupted begins anew.

use std::time::Duration;

use daymark_dataplane::leftovers::ipvs::{Servers, remove_servers, set_names};
use daymark_model::Cidr;
use daymark_sys::ipset::Destroyed;
use daymark_sys::netlink::{NfSocket, QueryError};
use futures::TryStreamExt;
use rtnetlink::{Handle, new_connection};

use super::Outcome;

const DEVICE: &str = "kube-ipvs0";

pub(super) async fn remove(spared: Vec<Cidr>) -> Vec<Outcome> {
    // Without a route socket there would be no agent either.
    let Ok((connection, handle, _)) = new_connection() else {
        return Vec::new();
    };
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connection);
    let mut found = handle.link().get().match_name(DEVICE.to_owned()).execute();
    // A name that no device has is an error.
    let Ok(Some(link)) = found.try_next().await else {
        return Vec::new();
    };
    let mut outcomes = ipsets().await;
    // One request each, and there may be tens of thousands.
    let servers = tokio::task::spawn_blocking(move || servers(&spared)).await;
    outcomes.extend(servers.unwrap_or_else(|error| {
        vec![Outcome::Failed(format!(
            "IPVS' virtual servers: the thread for them ended: {error}"
        ))]
    }));
    outcomes.push(delete(&handle, link.header.index).await);
    outcomes
}

/// The rules that named the sets went before; the kernel lets go of them a moment later.
async fn ipsets() -> Vec<Outcome> {
    let mut socket = match NfSocket::open() {
        Ok(socket) => socket,
        Err(error) => return vec![Outcome::Failed(format!("ipsets: {error}"))],
    };
    let (mut removed, mut outcomes) = (0, Vec::new());
    for name in set_names() {
        match destroy(&mut socket, &name).await {
            Ok(Destroyed::Now) => removed += 1,
            Ok(Destroyed::WasNotThere) => {}
            Ok(Destroyed::InUse) => outcomes.push(Outcome::Kept(format!(
                "ipset {name}: rules of others refer to it; once they are gone, `ipset destroy {name}` removes it"
            ))),
            Err(error) => outcomes.push(Outcome::Failed(format!("ipset {name}: {error}"))),
        }
    }
    if removed > 0 {
        outcomes.insert(0, Outcome::Removed(format!("{removed} ipsets")));
    }
    outcomes
}

async fn destroy(socket: &mut NfSocket, name: &str) -> Result<Destroyed, QueryError> {
    for _ in 0..TRIES {
        match socket.destroy_ipset(name)? {
            Destroyed::InUse => tokio::time::sleep(PAUSE).await,
            done => return Ok(done),
        }
    }
    socket.destroy_ipset(name)
}

fn servers(spared: &[Cidr]) -> Vec<Outcome> {
    let Servers { removed, kept } = match remove_servers(spared) {
        Ok(servers) => servers,
        Err(error) => {
            return vec![Outcome::Failed(format!(
                "IPVS' virtual servers: {error}; `ipvsadm -C` removes all of them"
            ))];
        }
    };
    let removed =
        (removed > 0).then(|| Outcome::Removed(format!("{removed} virtual servers of IPVS")));
    let kept = kept.iter().map(|server| {
        Outcome::Kept(format!(
            "virtual server {server} of IPVS: ipvs.excludeCIDRs or its mark say that it is not kube-proxy's"
        ))
    });
    removed.into_iter().chain(kept).collect()
}

async fn delete(handle: &Handle, index: u32) -> Outcome {
    match handle.link().del(index).execute().await {
        Ok(()) => Outcome::Removed(format!("device {DEVICE}")),
        Err(error) => Outcome::Failed(format!(
            "device {DEVICE}: {error}; remove it with `ip link del {DEVICE}`"
        )),
    }
}

/// How often a set that is in use is tried again.
const TRIES: usize = 4;
const PAUSE: Duration = Duration::from_millis(50);
