//! Folders that no other user can read, rename or put something into.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a folder is not safe to keep keys and sockets in.
#[derive(Debug, Error)]
pub enum FolderError {
    /// A file or a symbolic link is in its place.
    #[error("{} is not a folder: remove it", .0.display())]
    NoFolder(PathBuf),
    /// Another user made it.
    #[error("{} belongs to user {owner}: have it removed, or set XDG_RUNTIME_DIR to a folder of your own", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Its owner's uid.
        owner: u32,
    },
    /// Others have rights on it.
    #[error("{} has mode {mode:04o}, and others must not get in: chmod 0700 {}", path.display(), path.display())]
    Open {
        /// The folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It cannot be made or looked at.
    #[error("{}: {source}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Makes a lab's folder and the one that holds it, mode 0700, and checks both: who may write to the parent can
/// rename the folder and put another in its place.
pub(super) fn make(state: &Path) -> Result<(), FolderError> {
    for path in parent_first(state) {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                return Err(FolderError::Io {
                    path: path.to_owned(),
                    source,
                });
            }
            _ => check_one(path)?,
        }
    }
    Ok(())
}

/// Checks both folders as they are.
pub(super) fn check(state: &Path) -> Result<(), FolderError> {
    parent_first(state).try_for_each(check_one)
}

fn parent_first(state: &Path) -> impl Iterator<Item = &Path> {
    state.parent().into_iter().chain([state])
}

fn check_one(path: &Path) -> Result<(), FolderError> {
    let path = path.to_owned();
    // Of a symbolic link itself, not of what it leads to.
    let metadata = match std::fs::symlink_metadata(&path) {
        Ok(metadata) => metadata,
        Err(source) => return Err(FolderError::Io { path, source }),
    };
    let own = rustix::process::geteuid().as_raw();
    judge(
        path,
        metadata.is_dir(),
        (metadata.uid(), own),
        metadata.mode(),
    )
}

/// Whether what was found serves, given its owner and this user.
fn judge(
    path: PathBuf,
    is_folder: bool,
    (owner, own): (u32, u32),
    mode: u32,
) -> Result<(), FolderError> {
    let mode = mode & 0o7777;
    if !is_folder {
        Err(FolderError::NoFolder(path))
    } else if owner != own {
        Err(FolderError::Foreign { path, owner })
    } else if mode & 0o077 != 0 {
        Err(FolderError::Open { path, mode })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn base(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("daymark-private-{}-{name}", std::process::id()))
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn parent_and_folder_are_made_for_this_user_alone() {
        let parent = base("made");
        let state = parent.join("lab");
        make(&state).unwrap();
        make(&state).unwrap();
        for path in [&parent, &state] {
            let mode = std::fs::metadata(path).unwrap().mode() & 0o777;
            assert_eq!(mode, 0o700, "{}", path.display());
        }
        std::fs::remove_dir_all(parent).unwrap();
    }

    #[test]
    fn a_parent_or_folder_that_others_may_enter_is_refused() {
        let parent = base("open");
        let state = parent.join("lab");
        make(&state).unwrap();
        for path in [&parent, &state] {
            set_mode(path, 0o777);
            for result in [make(&state), check(&state)] {
                let error = result.unwrap_err().to_string();
                let remedy = format!("chmod 0700 {}", path.display());
                assert!(error.ends_with(&remedy), "{error}");
            }
            set_mode(path, 0o700);
        }
        check(&state).unwrap();
        std::fs::remove_dir_all(parent).unwrap();
    }

    #[test]
    fn a_link_in_place_of_parent_or_folder_is_refused() {
        let (parent, real) = (base("link"), base("real"));
        make(&real.join("lab")).unwrap();
        symlink(&real, &parent).unwrap();
        let result = make(&parent.join("lab"));
        assert!(matches!(result, Err(FolderError::NoFolder(path)) if path == parent));
        let leaf = real.join("other");
        symlink(real.join("lab"), &leaf).unwrap();
        let result = check(&leaf);
        assert!(matches!(result, Err(FolderError::NoFolder(path)) if path == leaf));
        std::fs::remove_file(parent).unwrap();
        std::fs::remove_dir_all(real).unwrap();
    }

    #[test]
    fn a_folder_of_another_user_is_refused_whatever_its_mode() {
        let found = |owner, own| judge(base("foreign"), true, (owner, own), 0o40700);
        assert!(matches!(
            found(1001, 1000),
            Err(FolderError::Foreign { owner: 1001, .. })
        ));
        assert!(matches!(found(1001, 0), Err(FolderError::Foreign { .. })));
        found(1000, 1000).unwrap();
    }
}
