//! A way for TCP from one network namespace into another, without a link between them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

use daymark_sys::ns::NetNs;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// Accepts connections in one namespace and goes on with them in that of the thread that started it. Dropping
/// it closes all of them.
#[derive(Debug)]
pub struct Relay {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Listens at `from` inside `ns`; whoever connects talks to `to`.
    ///
    /// # Errors
    /// When the address cannot be bound or the thread not be started.
    pub fn start(ns: &NetNs, from: SocketAddr, to: SocketAddr) -> io::Result<Self> {
        Self::accepting(ns.within(|| TcpListener::bind(from))??, to)
    }

    /// The same with a listener that is there already.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn accepting(listener: TcpListener, to: SocketAddr) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, to) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new()
            .name("relay".into())
            .spawn(serve)?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It may have ended by itself.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, to: SocketAddr) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                tokio::spawn(pass_on(client, to));
            }
            // Out of descriptors, for instance: the connections that there are go on.
            Err(error) => {
                tracing::warn!(%error, "relay");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// The end of either side is the end of the connection, which its owner sees. A request of HTTP/2 comes in two pieces, and the second must not
/// wait until the first is acknowledged.
async fn pass_on(mut client: TcpStream, to: SocketAddr) {
    let Ok(mut server) = TcpStream::connect(to).await else {
        return;
    };
    for side in [&client, &server] {
        // One that cannot is slow, and works.
        let _ = side.set_nodelay(true);
    }
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}
