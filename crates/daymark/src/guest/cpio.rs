//! An initramfs as the kernel takes it: the "newc" format of cpio
//! (`Documentation/driver-api/early-userspace/buffer-format.rst`).

use std::collections::BTreeSet;
use std::path::{Component, Path};

/// An archive in the making. Parents are made before their children, once.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    inodes: u32,
}

impl Archive {
    /// A regular file of this mode (`0o755`) at an absolute path.
    pub(super) fn file(&mut self, path: &Path, mode: u32, content: &[u8]) {
        if let Some(parent) = path.parent() {
            self.folder(parent);
        }
        self.entry(&name(path), REGULAR | mode, content);
    }

    /// A folder, and those above it.
    pub(super) fn folder(&mut self, path: &Path) {
        let ancestors: Vec<_> = path.ancestors().collect();
        for ancestor in ancestors.into_iter().rev() {
            let name = name(ancestor);
            if !name.is_empty() && self.folders.insert(name.clone()) {
                self.entry(&name, FOLDER | 0o755, &[]);
            }
        }
    }

    /// The archive with its end.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    /// Header, name and content, each padded to four bytes.
    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.inodes += 1;
        let links = 1 + u32::from(mode & FOLDER != 0);
        let size = u32::try_from(content.len()).expect("a file of an initramfs is below 4 GB");
        let name_size = u32::try_from(name.len() + 1).expect("a path is short");
        // Inode, mode, uid, gid, links, time, size, four device numbers, the name's size, no checksum.
        let fields = [
            self.inodes,
            mode,
            0,
            0,
            links,
            0,
            size,
            0,
            0,
            0,
            0,
            name_size,
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The name without the slash in front, as the kernel unpacks it below `/`.
fn name(path: &Path) -> String {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(part) => Some(part.to_string_lossy()),
        _ => None,
    });
    parts.collect::<Vec<_>>().join("/")
}

const REGULAR: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, mode and content of every entry.
    fn entries(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            assert_eq!(&bytes[..6], b"070701");
            let field = |index: usize| {
                let text = std::str::from_utf8(&bytes[6 + 8 * index..][..8]).unwrap();
                usize::from_str_radix(text, 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6), field(11));
            let name = bytes[110..][..name_size - 1].to_vec();
            let content = (110 + name_size).next_multiple_of(4);
            found.push((
                String::from_utf8(name).unwrap(),
                u32::try_from(mode).unwrap(),
                bytes[content..][..size].to_vec(),
            ));
            bytes = &bytes[(content + size).next_multiple_of(4)..];
        }
        found
    }

    #[test]
    fn every_folder_stands_before_what_it_holds_and_once() {
        let mut archive = Archive::default();
        archive.file(Path::new("/a/b/tool"), 0o755, b"12345");
        archive.file(Path::new("/a/note"), 0o644, b"");
        archive.folder(Path::new("/a/b"));
        let entry = |name: &str, mode, content: &[u8]| (name.to_owned(), mode, content.to_vec());
        assert_eq!(
            entries(&archive.finish()),
            [
                entry("a", 0o040_755, b""),
                entry("a/b", 0o040_755, b""),
                entry("a/b/tool", 0o100_755, b"12345"),
                entry("a/note", 0o100_644, b""),
                entry("TRAILER!!!", 0, b""),
            ]
        );
    }
}
