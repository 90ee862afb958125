//! Labs that other processes run: found by their state folder, joined, ended.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use daymark_sys::ns::{JoinError, NetNs};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::FlockOperation;
use rustix::process::{Pid, PidfdFlags, Signal};
use thiserror::Error;

use super::plan::OUTER_KUBECONFIG;
use super::private::{self, FolderError};
use super::{PlaceError, Record, Spaces, Where, pod_spaces};

/// Held by a lab as long as it lives; the kernel lets go of it however the lab ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

/// Why a lab's folder could not be taken.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another lab has it.
    #[error("a lab runs in {} already: daymark lab down ends it, --name gives this one another name", state.display())]
    Taken {
        /// The folder.
        state: PathBuf,
    },
    /// The folder, or the one that holds it, is not this user's alone.
    #[error(transparent)]
    Private(#[from] FolderError),
    /// The folder cannot be used.
    #[error("state folder {}: {source}", state.display())]
    Folder {
        /// The folder.
        state: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Lock {
    /// Makes the folder and its parent (mode 0700) and takes it for the process with this id, emptied of what a lab before left.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn take(state: &Path) -> Result<Self, LockError> {
        let folder = |source| LockError::Folder {
            state: state.to_owned(),
            source,
        };
        private::make(state)?;
        let path = state.join(LOCK);
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(folder)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(LockError::Taken {
                    state: state.to_owned(),
                });
            }
            Err(errno) => return Err(folder(errno.into())),
        }
        clear(state).map_err(folder)?;
        std::fs::write(state.join(PID), std::process::id().to_string()).map_err(folder)?;
        Ok(Self { file, path })
    }

    /// Whether the lock file, and so the folder, is still the one that was taken. Without it no command finds the lab:
    /// somebody cleaned `/tmp`, and the lab should end.
    pub fn stands(&self) -> bool {
        let Ok(held) = rustix::fs::fstat(&self.file) else {
            return true;
        };
        match rustix::fs::stat(&self.path) {
            Ok(found) => (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino),
            Err(errno) => !matches!(errno, rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR),
        }
    }

    /// Returns when the lock file has vanished, within a second.
    pub async fn vanished(&self) {
        while self.stands() {
            tokio::time::sleep(GLANCE).await;
        }
    }
}

fn clear(state: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(state)? {
        let entry = entry?;
        if entry.file_name() == LOCK {
            continue;
        }
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// A lab that another process runs.
#[derive(Clone, Debug)]
pub struct Running {
    state: PathBuf,
    record: Record,
    keeper: u32,
}

/// Why a running lab could not be found or ended.
#[derive(Debug, Error)]
pub enum RunningError {
    /// There is none.
    #[error("no lab runs in {}: daymark lab up starts one", state.display())]
    None {
        /// The folder.
        state: PathBuf,
    },
    /// Its folder, or the one that holds it, is not this user's alone: what it says is not to be believed.
    #[error(transparent)]
    Private(#[from] FolderError),
    /// Its processes cannot be joined.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// Its kubeconfig cannot be used.
    #[error(transparent)]
    Kubeconfig(#[from] super::KubeconfigError),
    /// Its API refused a request or is out of reach.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// It did not end in time.
    #[error("the lab's process {pid} did not end within {} s", PATIENCE.as_secs())]
    Stubborn {
        /// Its keeper.
        pid: u32,
    },
}

impl Running {
    /// Finds the lab of a state folder.
    ///
    /// # Errors
    /// [`RunningError::None`], [`RunningError::Private`].
    pub fn find(state: &Path) -> Result<Self, RunningError> {
        let none = || RunningError::None {
            state: state.to_owned(),
        };
        match private::check(state) {
            Err(FolderError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(none());
            }
            checked => checked?,
        }
        if !is_locked(state) {
            return Err(none());
        }
        let record = Record::read(state).map_err(|_| none())?;
        let keeper = std::fs::read_to_string(state.join(PID))
            .ok()
            .and_then(|text| text.trim().parse().ok());
        Ok(Self {
            state: state.to_owned(),
            record,
            keeper: keeper.ok_or_else(none)?,
        })
    }

    /// What its builder wrote down.
    pub fn record(&self) -> &Record {
        &self.record
    }

    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    /// The kubeconfig for the machine's own shells.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state.join(OUTER_KUBECONFIG)
    }

    /// Moves this process into the lab; only children started after it are there in every respect. Must be called
    /// before any thread exists.
    ///
    /// # Errors
    /// [`RunningError::Join`].
    pub fn join(&self) -> Result<(), RunningError> {
        Ok(daymark_sys::ns::join(self.record.outer_pid)?)
    }

    /// A command that will run in a place of the lab, which this process has joined.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub fn command(&self, place: &Where, program: &str) -> Result<Command, PlaceError> {
        let mut command = Command::new(program);
        if let Some(spaces) = self.spaces(place)? {
            spaces.apply(place, &mut command)?;
        }
        Ok(command)
    }

    /// The namespaces of a place; `None` for the fabric, where a joined process is anyway.
    fn spaces(&self, place: &Where) -> Result<Option<Spaces>, PlaceError> {
        let open = |path: &Path| {
            let network = NetNs::open(path).map_err(|source| PlaceError::Enter {
                place: place.clone(),
                source,
            })?;
            Ok(Some(Spaces::network_only(network)))
        };
        match place {
            Where::Fabric => Ok(None),
            Where::Outside => open(&self.record.outside),
            Where::Node(name) => match self.record.nodes.iter().find(|node| node.name == *name) {
                Some(node) => open(&node.network),
                None => {
                    let known: Vec<&str> = self
                        .record
                        .nodes
                        .iter()
                        .map(|node| node.name.as_str())
                        .collect();
                    Err(PlaceError::UnknownNode {
                        name: name.clone(),
                        known: known.join(", "),
                    })
                }
            },
            Where::Pod { namespace, name } => {
                let sockets = self.record.nodes.iter().map(|node| node.control.clone());
                pod_spaces(sockets, namespace, name).map(Some)
            }
        }
    }

    /// Ends the lab and removes its folder.
    ///
    /// # Errors
    /// [`RunningError::Stubborn`].
    pub fn down(self) -> Result<(), RunningError> {
        end(self.keeper)?;
        // Nothing in it is of use to anybody without the lab.
        let _ = std::fs::remove_dir_all(&self.state);
        Ok(())
    }
}

fn is_locked(state: &Path) -> bool {
    let Ok(file) = File::open(state.join(LOCK)) else {
        return false;
    };
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared)
        == Err(rustix::io::Errno::WOULDBLOCK)
}

/// SIGTERM, and SIGKILL when that is not enough: either way the kernel ends the whole pid namespace.
fn end(pid: u32) -> Result<(), RunningError> {
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Ok(());
    };
    let Ok(handle) = rustix::process::pidfd_open(raw, PidfdFlags::empty()) else {
        return Ok(());
    };
    for signal in [Signal::TERM, Signal::KILL] {
        // One that has ended needs no signal.
        let _ = rustix::process::pidfd_send_signal(&handle, signal);
        let patience = Timespec {
            tv_sec: PATIENCE.as_secs().cast_signed(),
            tv_nsec: 0,
        };
        let mut ended = [PollFd::new(&handle, PollFlags::IN)];
        if rustix::event::poll(&mut ended, Some(&patience)).is_ok_and(|count| count > 0) {
            return Ok(());
        }
    }
    Err(RunningError::Stubborn { pid })
}

const PATIENCE: Duration = Duration::from_secs(5);
/// How often a lab looks after its lock file.
const GLANCE: Duration = Duration::from_secs(1);
const LOCK: &str = "lock";
const PID: &str = "pid";

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let parent = format!("daymark-lab-test-{}-{name}", std::process::id());
        std::env::temp_dir().join(parent).join("lab")
    }

    fn remove(state: &Path) {
        std::fs::remove_dir_all(state.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_folder_is_taken_once_and_again_after_its_lab_is_gone() {
        let state = folder("lock");
        let lock = Lock::take(&state).unwrap();
        std::fs::write(state.join("left.over"), "").unwrap();
        assert!(matches!(Lock::take(&state), Err(LockError::Taken { .. })));
        drop(lock);
        let _lock = Lock::take(&state).unwrap();
        assert!(!state.join("left.over").exists());
        remove(&state);
    }

    #[test]
    fn a_folder_whose_parent_is_open_to_others_is_neither_taken_nor_believed() {
        use std::os::unix::fs::PermissionsExt;
        let state = folder("open");
        drop(Lock::take(&state).unwrap());
        let parent = state.parent().unwrap();
        std::fs::set_permissions(parent, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(Lock::take(&state), Err(LockError::Private(_))));
        let found = Running::find(&state);
        assert!(matches!(found, Err(RunningError::Private(_))));
        remove(&state);
    }

    #[test]
    fn a_lock_stands_until_its_folder_is_removed_or_made_again() {
        let state = folder("stands");
        let lock = Lock::take(&state).unwrap();
        assert!(lock.stands());
        std::fs::remove_dir_all(&state).unwrap();
        assert!(!lock.stands());
        let second = Lock::take(&state).unwrap();
        assert!(!lock.stands());
        assert!(second.stands());
        remove(&state);
        assert!(!second.stands());
    }

    #[tokio::test]
    async fn a_lab_hears_that_its_folder_vanished() {
        let state = folder("vanished");
        let lock = Lock::take(&state).unwrap();
        let early = tokio::time::timeout(Duration::from_millis(20), lock.vanished()).await;
        assert!(early.is_err());
        remove(&state);
        let heard = tokio::time::timeout(Duration::from_secs(5), lock.vanished()).await;
        heard.expect("within 5 s");
    }

    #[test]
    fn a_lab_that_is_not_there_is_not_found() {
        assert!(matches!(
            Running::find(&folder("none")),
            Err(RunningError::None { .. })
        ));
    }
}
