//! A server that accepts and closes.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use daymark_sys::ns::NetNs;

/// Accepts and closes, on a thread of its own, until dropped.
pub(crate) struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Listens at a port of every address of a network namespace.
    pub(crate) fn start(ns: &NetNs, port: u16) -> anyhow::Result<Self> {
        let listener = ns.within(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))??;
        let socket = socket2::SockRef::from(&listener);
        // A queue that overflows while this thread waits for a core costs a client a second: that of the library is short.
        socket.listen(QUEUE)?;
        socket.set_read_timeout(Some(ROUND))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let accept = move || {
            while !stopped.load(Ordering::Relaxed) {
                // A time-out, to look whether it goes on.
                let _ = listener.accept();
            }
        };
        let thread = std::thread::Builder::new().spawn(accept)?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Connections that wait to be accepted, at most; what Linux allows unless told otherwise.
const QUEUE: i32 = 4096;
const ROUND: Duration = Duration::from_millis(200);
