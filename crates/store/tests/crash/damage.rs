//! Files that are not what they should be: a clear error, or the whole truth; never an empty store, never a changed file.

use std::fs;
use std::path::{Path, PathBuf};

use daymark_store::{Key, OpenError, Options, Raw, Store, Value};

use crate::disk::{Disk, Random};
use crate::model::{Objects, Step, objects, open, submit};

/// A folder with a store of some objects, closed.
fn stored() -> (tempfile::TempDir, PathBuf, Objects) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store = Store::open(Options::at(&path)).unwrap();
    let mut random = Random(5);
    for _ in 0..40 {
        submit(&store, &Disk::default(), Step::random(&mut random))
            .recv()
            .unwrap()
            .unwrap();
    }
    let objects = objects(&store.snapshot());
    (folder, path, objects)
}

fn error(path: &Path) -> OpenError {
    Store::<Raw>::open(Options::at(path)).unwrap_err()
}

/// The error of a file with this content: names the file, tells the remedy, and left it alone.
fn broken(path: &Path, content: &[u8]) -> String {
    fs::write(path, content).unwrap();
    let error = error(path);
    assert!(matches!(error, OpenError::Broken { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.starts_with(path.to_str().unwrap()) && text.contains("daymark store import"),
        "{text}"
    );
    assert_eq!(fs::read(path).unwrap(), content, "the file was changed");
    text
}

#[test]
fn an_empty_file_is_not_taken_for_a_new_store() {
    let (_folder, path, _) = stored();
    assert!(broken(&path, b"").contains("the file is empty"));
}

#[test]
fn a_foreign_file_is_named() {
    let (_folder, path, _) = stored();
    assert!(broken(&path, b"apiVersion: v1\nkind: Service\n").contains("not a store of daymark"));
    broken(&path, &[0; 100_000]);
}

#[test]
fn a_file_cut_short_is_broken() {
    let (_folder, path, _) = stored();
    let whole = fs::read(&path).unwrap();
    for len in [
        1,
        8,
        9,
        63,
        319,
        320,
        4095,
        4096,
        8192,
        40_000,
        whole.len() / 2,
        whole.len() - 4096,
        whole.len() - 1,
    ] {
        broken(&path, &whole[..len]);
    }
}

#[test]
fn a_folder_is_no_store() {
    let folder = tempfile::tempdir().unwrap();
    assert!(error(folder.path()).to_string().contains("it is a folder"));
}

#[test]
fn a_missing_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = error(&folder.path().join("missing/store.redb")).to_string();
    assert!(
        text.contains("missing/store.redb") && text.contains("creating the store file"),
        "{text}"
    );
}

#[test]
fn a_store_that_is_open_is_locked() {
    let (_folder, path, before) = stored();
    let store: Store<Raw> = Store::open(Options::at(&path)).unwrap();
    assert!(matches!(error(&path), OpenError::Locked { .. }));
    assert!(
        error(&path)
            .to_string()
            .contains("is open in another process")
    );
    assert_eq!(objects(&store.snapshot()), before);
}

#[test]
fn a_new_store_is_private_and_leaves_no_other_file() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, path, _) = stored();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// Decodes nothing.
#[derive(Debug)]
struct Picky;

impl Value for Picky {
    fn encode(&self) -> Vec<u8> {
        Vec::new()
    }

    fn decode(_key: &Key, _bytes: &[u8]) -> Result<Self, String> {
        Err("not JSON".to_owned())
    }
}

#[test]
fn an_object_that_does_not_decode_is_named() {
    let (_folder, path, before) = stored();
    let text = Store::<Picky>::open(Options::at(&path))
        .unwrap_err()
        .to_string();
    let first = before.keys().next().unwrap();
    assert!(
        text.contains(&format!("{}: things {first}: not JSON: ", path.display())),
        "{text}"
    );
    assert!(text.contains("daymark store export"), "{text}");
}

/// Every bit of the header, and every bit of many bytes elsewhere.
#[test]
fn a_flipped_bit_is_reported_or_harmless() {
    let disk = Disk::default();
    let store = open(&disk);
    let mut random = Random(9);
    for _ in 0..30 {
        submit(&store, &Disk::default(), Step::random(&mut random))
            .recv()
            .unwrap()
            .unwrap();
    }
    let (before, revision) = (objects(&store.snapshot()), store.revision());
    drop(store);
    let image = disk.image();
    let header = (0..320_usize).flat_map(|byte| (0..8).map(move |bit| (byte, bit)));
    let elsewhere: Vec<_> = (0..3000)
        .map(|_| {
            (
                320 + random.below(image.len() as u64 - 320) as usize,
                random.below(8),
            )
        })
        .collect();
    let mut reported = 0;
    for (byte, bit) in header.chain(elsewhere) {
        let mut damaged = image.clone();
        damaged[byte] ^= 1 << bit;
        match Store::<Raw>::with_backend(Disk::with_image(damaged), Options::in_memory()) {
            Err(OpenError::Broken { .. }) => reported += 1,
            Err(error) => panic!("bit {bit} of byte {byte}: {error:?}"),
            Ok(store) => {
                assert_eq!(
                    objects(&store.snapshot()),
                    before,
                    "bit {bit} of byte {byte}"
                );
                assert!(store.revision() >= revision, "bit {bit} of byte {byte}");
            }
        }
    }
    assert!(reported > 100, "only {reported} flipped bits were noticed");
}
