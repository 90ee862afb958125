//! Which endpoint a connection from loopback goes to.
//!
//! All clients there are one: a port with `sessionAffinity: ClientIP` keeps to one endpoint, until no connection has come for
//! as long as the timeout, the endpoint leaves, or the timeout is set anew.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use daymark_model::desired::Backend;
use daymark_model::input::Affinity;
use daymark_model::listeners::LocalListener;

/// What one port keeps to.
#[derive(Debug, Default)]
pub(super) struct Pin(Option<Kept>);

#[derive(Clone, Copy, Debug)]
struct Kept {
    backend: Backend,
    /// Seconds.
    timeout: u32,
    until: Instant,
}

impl Pin {
    /// The endpoint of a connection that comes `now`; `None` if there is none. `random` draws a number below another.
    pub(super) fn choose(
        &mut self,
        now: Instant,
        listener: &LocalListener,
        random: impl FnOnce(usize) -> usize,
    ) -> Option<SocketAddr> {
        let backends = &listener.pool.backends;
        let kept = self.0.filter(|kept| {
            listener.affinity
                == Affinity::ClientIp {
                    timeout: kept.timeout,
                }
                && now < kept.until
                && backends.contains(&kept.backend)
        });
        let backend = match kept {
            Some(kept) => kept.backend,
            None if backends.is_empty() => return None,
            None => *backends.get(random(backends.len()))?,
        };
        self.0 = match listener.affinity {
            Affinity::None => None,
            Affinity::ClientIp { timeout } => Some(Kept {
                backend,
                timeout,
                until: now + Duration::from_secs(timeout.into()),
            }),
        };
        Some(SocketAddr::new(backend.address, backend.port))
    }
}
