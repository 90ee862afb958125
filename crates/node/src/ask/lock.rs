//! The lock beside an agent's socket, which the kernel lets go of however its holder ends.
//!
//! Who can open the file can hold the lock, and keep every agent out for ever: a file that others can open, or could have
//! opened while it was so, is replaced by one that they cannot.

use std::fs::{DirBuilder, File, Metadata, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{OFlags, major, minor};
use rustix::process::geteuid;
use socket2::{Domain, SockAddr, Socket, Type};
use tracing::warn;

use super::server::SocketError;

/// Where a socket is; a name alone is one in the working folder.
pub(super) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Makes the folder of a socket if it is not there, and then nobody else sees what is in it.
pub(super) fn make_folder(socket: &Path) -> Result<(), SocketError> {
    let path = folder(socket);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| SocketError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Takes the lock beside a socket.
pub(super) fn lock(socket: &Path) -> Result<File, SocketError> {
    let path = beside(socket);
    let failed = |source| SocketError::Io {
        path: path.clone(),
        source,
    };
    let taken = || SocketError::Taken {
        path: socket.to_owned(),
    };
    for _ in 0..TRIES {
        let file = open(&path).map_err(failed)?;
        if !is_private(&file.metadata().map_err(failed)?) {
            // An honest holder of such a file is an agent, and answers.
            if is_answered(socket) {
                return Err(taken());
            }
            replace(&path, &file).map_err(failed)?;
            continue;
        }
        match file.try_lock() {
            Ok(()) if is_at(&path, &file).map_err(failed)? => return Ok(file),
            // It was replaced since it was opened.
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if is_answered(socket) => return Err(taken()),
            Err(TryLockError::WouldBlock) => {
                let by = holder(&file);
                return Err(SocketError::Locked { path, by });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
    let why = "others can open the lock, however often it is made anew";
    Err(failed(io::Error::other(why)))
}

/// Whether a living process listens there. If that cannot be known, one does.
pub(super) fn is_answered(socket: &Path) -> bool {
    let connect = || -> io::Result<()> {
        let kind = Type::STREAM.nonblocking().cloexec();
        Socket::new(Domain::UNIX, kind, None)?.connect(&SockAddr::unix(socket)?)
    };
    connect().err().is_none_or(|error| {
        !matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
        )
    })
}

/// The lock's file.
fn beside(socket: &Path) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// Neither through a link, nor waiting for the other end of a pipe.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("is there and is no file: remove it"));
    }
    Ok(file)
}

/// Whether nobody else can open it. Its owner could at any time.
fn is_private(file: &Metadata) -> bool {
    file.uid() == geteuid().as_raw() && file.mode() & 0o077 == 0
}

/// Takes a file away that others can open. Of several who do that at once, none takes away what another has made since: they take
/// turns by a lock on the folder. Where somebody holds that one on purpose they do not, and are told apart by the claim on
/// their network namespace alone ([`crate::claim`]).
fn replace(path: &Path, seen: &File) -> io::Result<()> {
    let turn = File::open(folder(path))?;
    for _ in 0..TRIES {
        match turn.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(TURN),
            _ => break,
        }
    }
    if is_at(path, seen)? {
        warn!(lock = %path.display(), "other users could open this lock, and keep an agent out: it is made anew");
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// Whether this is the file with that name.
fn is_at(path: &Path, file: &File) -> io::Result<bool> {
    let file = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (file.dev(), file.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Which process holds a lock, if this PID namespace has a number for it.
fn holder(file: &File) -> Option<u32> {
    let file = file.metadata().ok()?;
    let (major, minor) = (major(file.dev()), minor(file.dev()));
    let wanted = format!("{major:02x}:{minor:02x}:{}", file.ino());
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let holder = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, at, ..] = fields[..] else {
            return None;
        };
        pid.parse().ok().filter(|pid| at == wanted && *pid > 0)
    };
    locks.lines().find_map(holder)
}

/// How often a lock is made anew, and a turn at that is waited for.
const TRIES: usize = 10;
const TURN: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    /// The path of a socket in a folder that was just made.
    fn socket(name: &str) -> PathBuf {
        let folder = format!("daymark-lock-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        let _ = std::fs::remove_dir_all(&folder);
        let socket = folder.join("node.sock");
        make_folder(&socket).unwrap();
        socket
    }

    fn remove(socket: &Path) {
        std::fs::remove_dir_all(folder(socket)).unwrap();
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_lock_that_others_can_open_keeps_no_agent_out() {
        let socket = socket("open");
        let path = beside(&socket);
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        // As any user of this machine could.
        let other = File::open(&path).unwrap();
        other.lock().unwrap();
        let ours = lock(&socket).unwrap();
        assert_eq!((mode(&path), mode(folder(&path))), (0o600, 0o700));
        assert!(is_at(&path, &ours).unwrap());
        // The next one finds a lock that it can trust.
        let second = lock(&socket).unwrap_err();
        assert!(matches!(second, SocketError::Locked { .. }), "{second}");
        drop(other);
        remove(&socket);
    }

    #[test]
    fn of_many_who_make_a_lock_anew_at_once_one_has_it() {
        let socket = socket("race");
        let path = beside(&socket);
        for round in 0..20 {
            let _ = std::fs::remove_file(&path);
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
            let all: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| lock(&socket))).collect();
                let ended = threads.into_iter().map(|thread| thread.join().unwrap());
                ended.collect()
            });
            let won = all.iter().filter(|one| one.is_ok()).count();
            assert_eq!(won, 1, "round {round}: {all:?}");
        }
        remove(&socket);
    }

    #[test]
    fn who_holds_a_lock_is_told_apart_from_who_answers() {
        let socket = socket("holder");
        let held = lock(&socket).unwrap();
        let said = lock(&socket).unwrap_err().to_string();
        let process = format!("process {}", std::process::id());
        assert!(
            said.contains(&process) && said.contains("node.sock.lock"),
            "{said}"
        );
        let answers = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let said = lock(&socket).unwrap_err().to_string();
        assert!(said.contains("answers at this socket"), "{said}");
        drop(answers);
        drop(held);
        lock(&socket).unwrap();
        remove(&socket);
    }

    #[test]
    fn a_link_or_a_pipe_in_the_locks_place_is_an_error() {
        let socket = socket("link");
        let path = beside(&socket);
        let target = path.with_file_name("target");
        symlink(&target, &path).unwrap();
        let error = lock(&socket).unwrap_err();
        assert!(matches!(error, SocketError::Io { .. }), "{error}");
        assert!(!target.exists(), "nothing is made behind the link");
        std::fs::remove_file(&path).unwrap();
        mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let error = lock(&socket).unwrap_err();
        assert!(matches!(error, SocketError::Io { .. }), "{error}");
        remove(&socket);
    }
}
