//! A process of the cluster and its log.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal};
use thiserror::Error;

/// A child process with a name and a log. Dropping it ends it.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: std::process::Child,
    log: PathBuf,
}

/// Why a process of the cluster could not be started or ended.
#[derive(Debug, Error)]
pub enum ChildError {
    /// The cluster has no such part.
    #[error("this lab has no {part}")]
    Unknown {
        /// Its name.
        part: String,
    },
    /// It could not be started.
    #[error("starting {name}: {source}")]
    Start {
        /// The part's name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// It ended by itself; the end of its log is in the message.
    #[error("{name} ended ({status}); its log {} ends with:\n{tail}", log.display())]
    Ended {
        /// The part's name.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// It is not running.
    #[error("{name} is not running")]
    NotRunning {
        /// The part's name.
        name: String,
    },
}

impl Child {
    pub(crate) fn start(
        name: &str,
        log: PathBuf,
        command: &mut Command,
    ) -> Result<Self, ChildError> {
        let start = |source| ChildError::Start {
            name: name.to_owned(),
            source,
        };
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(start)?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(start)?)
            .stderr(file);
        let process = command.spawn().map_err(start)?;
        Ok(Self {
            name: name.to_owned(),
            process,
            log,
        })
    }

    /// What it was started as.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its process id inside the lab.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    /// Fails with the end of its log when it has ended.
    ///
    /// # Errors
    /// [`ChildError::Ended`].
    pub fn check(&mut self) -> Result<(), ChildError> {
        let Some(status) = self.ended() else {
            return Ok(());
        };
        let (name, log) = (self.name.clone(), self.log.clone());
        Err(ChildError::Ended {
            name,
            status,
            tail: tail(&log),
            log,
        })
    }

    /// Ends it with SIGKILL and waits for it.
    ///
    /// # Errors
    /// [`ChildError::NotRunning`].
    pub fn kill(&mut self) -> Result<(), ChildError> {
        let not_running = || ChildError::NotRunning {
            name: self.name.clone(),
        };
        if self.process.try_wait().is_ok_and(|status| status.is_some()) {
            return Err(not_running());
        }
        self.process.kill().map_err(|_| not_running())?;
        self.process.wait().map(drop).map_err(|_| not_running())
    }

    /// Asks it to end (SIGTERM).
    pub(crate) fn terminate(&self) {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            // One that has ended needs no signal.
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.kill();
    }
}

/// The last lines of a log, at most 2 kB.
pub(crate) fn tail(log: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(2048)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|error| format!("(not readable: {error})"))
}
