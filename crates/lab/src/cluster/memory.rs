//! The data of daymark's API, in memory: it lives as long as the lab, and no disk has to be waited for, which may hang for seconds.

use std::io;
use std::path::{Path, PathBuf};

use daymark_sys::mount;

/// A `tmpfs` in a lab's state folder. Dropping it takes it away.
pub(super) struct Memory(PathBuf);

impl Memory {
    pub(super) fn mount(state: &Path) -> io::Result<Self> {
        let folder = state.join(FOLDER);
        mount::tmpfs(&folder.to_string_lossy(), SIZE)?;
        Ok(Self(folder))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // It ends with the lab's mount namespace in any case.
        let _ = mount::detach(&self.0);
    }
}

/// Removes the state folder of a lab that is gone. A process that entered a lab's namespaces and saw the lab killed
/// still has its mount.
///
/// # Errors
/// As the file system gives them.
pub fn remove_files(state: &Path) -> io::Result<()> {
    let _ = mount::detach(&state.join(FOLDER));
    std::fs::remove_dir_all(state)
}

const FOLDER: &str = "data";

/// Bytes that may be stored: none of it is taken before it is needed.
const SIZE: u64 = 4 << 30;
