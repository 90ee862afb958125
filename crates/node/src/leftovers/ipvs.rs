//! kube-proxy's device of mode ipvs. With it its addresses go, so that packets from outside reach no virtual server
//! any more; those from this node are translated before IPVS sees them.

use futures::TryStreamExt;
use rtnetlink::{Handle, new_connection};

use super::Outcome;

const DEVICE: &str = "kube-ipvs0";

pub(super) async fn remove() -> Option<Outcome> {
    // Without a route socket there would be no agent either.
    let (connection, handle, _) = new_connection().ok()?;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connection);
    let mut found = handle.link().get().match_name(DEVICE.to_owned()).execute();
    // A name that no device has is an error.
    let link = found.try_next().await.ok()??;
    Some(delete(&handle, link.header.index).await)
}

async fn delete(handle: &Handle, index: u32) -> Outcome {
    match handle.link().del(index).execute().await {
        Ok(()) => Outcome::Removed(format!("device {DEVICE}")),
        Err(error) => Outcome::Failed(format!(
            "device {DEVICE}: {error}; remove it with `ip link del {DEVICE}`"
        )),
    }
}
