//! When the process is asked to end, by SIGTERM or SIGINT.
//!
//! The kernel drops a signal for which the first process of a container has no handler (`kernel/signal.c`, `sig_task_ignored`), and what a
//! command does at its start may take long: it waits for a lock, for a file, for a program that has the credential. So a thread
//! listens from the first. Until the command serves, a signal ends the process where it stands: what daymark does to the kernel
//! and to files may be cut anywhere. From then on the first signal asks the command to end, and the next one ends it.

use std::io;
use std::process::exit;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{info, warn};

/// What a command is for, and so what it means that it is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// It serves until it is ended: exit code 0.
    Endless,
    /// It has an end of its own, and was ended before: exit code 128 and the signal's number.
    Job,
}

/// Listens for the signals, from before anything that may wait.
#[derive(Debug)]
pub(crate) struct Ending {
    phase: Arc<Mutex<Phase>>,
}

#[derive(Debug)]
enum Phase {
    Starting,
    Serving(Option<oneshot::Sender<()>>),
}

impl Ending {
    /// Listens from now on.
    ///
    /// # Errors
    /// If the kernel gives no thread or no descriptors for it.
    pub(crate) fn listen(work: Work) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let signals = Signals::open(&runtime)?;
        let phase = Arc::new(Mutex::new(Phase::Starting));
        let shared = Arc::clone(&phase);
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(signals.follow(&shared, work)))?;
        Ok(Self { phase })
    }

    /// From this call on the command is not ended but asked to end, which is when the result is ready.
    pub(crate) fn serve(self) -> impl Future<Output = ()> {
        let (sender, asked) = oneshot::channel();
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        *phase = Phase::Serving(Some(sender));
        drop(phase);
        async move {
            // The thread that has the other end lives as long as the process.
            let _ = asked.await;
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn open(runtime: &Runtime) -> io::Result<Self> {
        let _there = runtime.enter();
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn follow(mut self, phase: &Mutex<Phase>, work: Work) {
        loop {
            let (name, number) = tokio::select! {
                _ = self.terminate.recv() => ("SIGTERM", SignalKind::terminate().as_raw_value()),
                _ = self.interrupt.recv() => ("SIGINT", SignalKind::interrupt().as_raw_value()),
            };
            let mut phase = phase.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *phase {
                Phase::Starting => {
                    info!("{name} before the start was over: ended");
                    end(match work {
                        Work::Endless => 0,
                        Work::Job => 128 + number,
                    });
                }
                Phase::Serving(asked) => match asked.take() {
                    // Who does not wait for it has ended already.
                    Some(asked) => drop(asked.send(())),
                    None => {
                        warn!("{name} again: ended without giving anything up");
                        end(128 + number);
                    }
                },
            }
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the binary is the one place that ends the process"
)]
fn end(code: i32) -> ! {
    exit(code)
}
