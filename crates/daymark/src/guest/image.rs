//! What goes into a guest: this binary as its first process, modules, and programs at the paths that they have here.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::cpio::Archive;
use super::modules::Module;
use super::{PLAN, Plan};

/// An initramfs in the making.
pub(super) struct Image {
    archive: Archive,
    packed: BTreeSet<PathBuf>,
}

impl Image {
    /// One with the first process, and the folders and files that programs expect.
    pub(super) fn new() -> anyhow::Result<Self> {
        let mut image = Self {
            archive: Archive::default(),
            packed: BTreeSet::new(),
        };
        for folder in ["/dev", "/etc", "/proc", "/run", "/sys", "/tmp", "/var/tmp"] {
            image.archive.folder(Path::new(folder));
        }
        let hosts = b"127.0.0.1\tlocalhost\n::1\tlocalhost\n";
        for (path, content) in [
            ("/etc/hosts", hosts.as_slice()),
            ("/etc/passwd", b"root:x:0:0:root:/:/bin/sh\n"),
            ("/etc/group", b"root:x:0:\n"),
            ("/etc/resolv.conf", b""),
            // What nft prints protocols by.
            (
                "/etc/protocols",
                b"icmp 1\ntcp 6\nudp 17\nipv6-icmp 58\nsctp 132\n",
            ),
        ] {
            image.archive.file(Path::new(path), 0o644, content);
        }
        let own = std::env::current_exe().context("cannot tell where this program lies")?;
        image.program_as(&own, Path::new(INIT))?;
        Ok(image)
    }

    /// A file with the libraries that it needs, or a folder with everything in it, at the path that it has here.
    pub(super) fn add(&mut self, path: &Path) -> anyhow::Result<()> {
        let shown = path.display();
        if path.components().any(|part| part == Component::ParentDir) {
            bail!("{shown}: give the path without `..`, the guest has only what is packed");
        }
        let path = std::path::absolute(path).with_context(|| format!("{shown} is no path"))?;
        if path.is_file() {
            return self.program_as(&path, &path);
        }
        if !path.is_dir() {
            bail!("{shown} is no file and no folder: give one that is there");
        }
        self.archive.folder(&path);
        let entries = std::fs::read_dir(&path).with_context(|| format!("cannot read {shown}"))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read {shown}"))?;
            self.add(&entry.path())?;
        }
        Ok(())
    }

    /// The archive, with modules and plan.
    pub(super) fn finish(
        mut self,
        modules: Vec<Module>,
        mut plan: Plan,
    ) -> anyhow::Result<Vec<u8>> {
        for module in modules {
            let path = Path::new("/modules").join(module.name + ".ko");
            self.archive.file(&path, 0o644, &module.image);
            plan.modules.push(path);
        }
        self.archive.folder(&plan.folder);
        let plan = serde_json::to_vec(&plan)?;
        self.archive.file(Path::new(PLAN), 0o644, &plan);
        Ok(self.archive.finish())
    }

    /// A file under a path of its own; of a program also the libraries, under theirs.
    fn program_as(&mut self, file: &Path, target: &Path) -> anyhow::Result<()> {
        if !self.packed.insert(target.to_owned()) {
            return Ok(());
        }
        let shown = file.display();
        let content = std::fs::read(file).with_context(|| format!("cannot read {shown}"))?;
        let mode = std::fs::metadata(file)?.permissions().mode() & 0o777;
        if !content.starts_with(ELF) {
            self.archive.file(target, mode, &content);
            return Ok(());
        }
        self.archive
            .file(target, mode, &without_debugging(file, content)?);
        for library in libraries(file)? {
            if self.packed.insert(library.clone()) {
                let content = std::fs::read(&library)
                    .with_context(|| format!("cannot read {}", library.display()))?;
                self.archive.file(&library, 0o755, &content);
            }
        }
        Ok(())
    }
}

/// The program without what only a debugger reads: a third of its size. Without `strip` it stays as it is.
fn without_debugging(file: &Path, whole: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    let folder = private_folder()?;
    let stripped = folder.join("stripped");
    let done = Command::new("strip")
        .args(["--strip-debug", "-o"])
        .args([stripped.as_path(), file])
        .output();
    let content = match done {
        Ok(output) if output.status.success() => std::fs::read(&stripped)?,
        _ => whole,
    };
    std::fs::remove_dir_all(&folder)?;
    Ok(content)
}

/// The loader and the libraries of a program, as the loader itself finds them; none of a static one.
fn libraries(file: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(file).output();
    let output = output.context("cannot run ldd, which names a program's libraries: install it")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(line) = text.lines().find(|line| line.contains("not found")) {
        bail!("{} lacks a library: {}", file.display(), line.trim());
    }
    Ok(paths(&text))
}

/// The paths in what `ldd` prints: `libm.so.6 => /lib/libm.so.6 (0x...)`, `/lib64/ld-linux-x86-64.so.2 (0x...)`.
fn paths(text: &str) -> Vec<PathBuf> {
    let words = text.split_whitespace();
    let paths = words.filter(|word| word.starts_with('/') && !word.ends_with(':'));
    paths.map(PathBuf::from).collect()
}

/// A new folder that nobody else may enter.
fn private_folder() -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let name = format!("daymark-guest-{:016x}", rand::random::<u64>());
    let folder = std::env::temp_dir().join(name);
    let made = std::fs::DirBuilder::new().mode(0o700).create(&folder);
    made.with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// The first process, and what the kernel is told to start.
pub(super) const INIT: &str = "/init";
const ELF: &[u8] = b"\x7fELF";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libraries_of_a_program_are_those_with_a_path() {
        let text = "\tlinux-vdso.so.1 (0x00007f6306447000)\n\
            \tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f6306336000)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f6306449000)\n";
        let expected = [
            "/lib/x86_64-linux-gnu/libm.so.6",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(paths(text), expected.map(PathBuf::from));
        assert!(paths("\tnot a dynamic executable\n").is_empty());
    }

    #[test]
    fn what_cannot_be_packed_is_refused() {
        let mut image = Image {
            archive: Archive::default(),
            packed: BTreeSet::new(),
        };
        let error = image.add(Path::new("a/../b")).unwrap_err().to_string();
        assert!(error.contains("without `..`"), "{error}");
        // A device would be read for ever.
        for path in ["/dev/zero", "/no/such/file"] {
            let error = image.add(Path::new(path)).unwrap_err().to_string();
            assert!(error.contains("is no file and no folder"), "{error}");
        }
    }
}
