//! A disk in memory that records what it is told, fails on demand, and can be cut off at any point.
//!
//! The crash it models: everything before the last sync is there. Of the writes after it, any subset is, each in whole
//! 512-byte sectors, and a sector that was written twice may hold the older of the two. A change of length that is not
//! there takes the writes behind the old end with it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use daymark_store::{Raw, Store};
use redb::StorageBackend;

/// One thing that happened, in order.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The store wrote.
    Write { offset: u64, data: Vec<u8> },
    /// The store changed the length.
    SetLen(u64),
    /// The store synced, and the disk said yes.
    Sync,
    /// A plan was given this revision.
    HandedOut(u64),
    /// A plan was answered with this revision.
    Acknowledged(u64),
    /// A watcher was shown this revision.
    Seen(u64),
}

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The write or change of length answers ENOSPC.
    NoSpace,
    /// Half of the data is written, then ENOSPC.
    ShortWrite,
    /// The write answers EIO.
    WriteError,
    /// The sync answers EIO, though all may be there.
    SyncError,
}

#[derive(Debug, Default)]
struct State {
    image: Vec<u8>,
    events: Vec<Event>,
    /// The fault, and how many operations of its sort go well before it.
    fault: Option<(Fault, usize)>,
    /// The store whose visible revision is noted before each write and sync.
    watched: Option<Store<Raw>>,
}

/// A handle on the disk: the store has one, the test another.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

impl Disk {
    pub(crate) fn with_image(image: Vec<u8>) -> Self {
        let disk = Self::default();
        disk.state().image = image;
        disk
    }

    pub(crate) fn image(&self) -> Vec<u8> {
        self.state().image.clone()
    }

    pub(crate) fn note(&self, event: Event) {
        self.state().events.push(event);
    }

    /// Starts recording anew; returns the image that the record starts from.
    pub(crate) fn record(&self) -> Vec<u8> {
        self.state().events.clear();
        self.image()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.state().events.clone()
    }

    pub(crate) fn fail(&self, fault: Fault, after: usize) {
        self.state().fault = Some((fault, after));
    }

    pub(crate) fn heal(&self) {
        self.state().fault = None;
    }

    /// Looks at what a store shows, whenever that store uses this disk. A store that is watched does not end.
    pub(crate) fn watch(&self, store: Option<Store<Raw>>) {
        let before = std::mem::replace(&mut self.state().watched, store);
        drop(before);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn state_in_use(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        if let Some(revision) = state.watched.as_ref().map(Store::revision) {
            state.events.push(Event::Seen(revision));
        }
        state
    }
}

impl State {
    /// Whether an operation that these faults hit fails now; from then on all of them do.
    fn hit(&mut self, faults: &[Fault]) -> Option<Fault> {
        let (fault, left) = self
            .fault
            .as_mut()
            .filter(|(fault, _)| faults.contains(fault))?;
        match left.checked_sub(1) {
            Some(rest) => {
                *left = rest;
                None
            }
            None => Some(*fault),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().image.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let start = offset as usize;
        let bytes = state.image.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        if state.hit(&[Fault::NoSpace]).is_some() {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        state.image.resize(len as usize, 0);
        state.events.push(Event::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state_in_use();
        if state.hit(&[Fault::SyncError]).is_some() {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        state.events.push(Event::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state_in_use();
        let (keep, result) =
            match state.hit(&[Fault::NoSpace, Fault::ShortWrite, Fault::WriteError]) {
                None | Some(Fault::SyncError) => (data.len(), Ok(())),
                Some(Fault::ShortWrite) => {
                    (data.len() / 2, Err(io::Error::from_raw_os_error(ENOSPC)))
                }
                Some(Fault::NoSpace) => (0, Err(io::Error::from_raw_os_error(ENOSPC))),
                Some(Fault::WriteError) => (0, Err(io::Error::from_raw_os_error(EIO))),
            };
        let data = &data[..keep];
        put(&mut state.image, offset, data);
        state.events.push(Event::Write {
            offset,
            data: data.to_vec(),
        });
        result
    }
}

/// Which of the unsynced writes a crash leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Leaves {
    Nothing,
    Everything,
    /// A random subset of the sectors; the number is the seed.
    Some(u64),
}

/// The disk as it was on its way through the events, step by step.
pub(crate) struct Replay {
    synced: Vec<u8>,
    unsynced: Vec<Event>,
}

impl Replay {
    pub(crate) fn new(image: Vec<u8>) -> Self {
        Self {
            synced: image,
            unsynced: Vec::new(),
        }
    }

    /// Goes on by one event.
    pub(crate) fn step(&mut self, event: &Event) {
        match event {
            Event::Sync => {
                self.synced = self.crash(Leaves::Everything);
                self.unsynced.clear();
            }
            Event::Write { .. } | Event::SetLen(_) => self.unsynced.push(event.clone()),
            Event::HandedOut(_) | Event::Acknowledged(_) | Event::Seen(_) => {}
        }
    }

    /// The image after a crash at this point.
    pub(crate) fn crash(&self, leaves: Leaves) -> Vec<u8> {
        let mut image = self.synced.clone();
        let mut random = match leaves {
            Leaves::Nothing => return image,
            Leaves::Everything => None,
            Leaves::Some(seed) => Some(Random(seed)),
        };
        let mut stays = || random.as_mut().is_none_or(Random::coin);
        let mut sectors: BTreeMap<u64, Vec<&[u8]>> = BTreeMap::new();
        for event in &self.unsynced {
            match event {
                Event::SetLen(len) if stays() => image.resize(*len as usize, 0),
                Event::Write { offset, data } => {
                    for (at, sector) in split(*offset, data) {
                        sectors.entry(at).or_default().push(sector);
                    }
                }
                _ => {}
            }
        }
        for (at, versions) in sectors {
            let last = versions.iter().rev().find(|_| stays());
            if let Some(bytes) = last.filter(|bytes| at as usize + bytes.len() <= image.len()) {
                put(&mut image, at, bytes);
            }
        }
        image
    }
}

/// The pieces of a write that reach the disk whole.
fn split(offset: u64, data: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let head = (SECTOR - offset % SECTOR).min(data.len() as u64) as usize;
    let (first, rest) = data.split_at(head);
    let behind = (0..).map(move |n| offset + head as u64 + n * SECTOR);
    std::iter::once((offset, first)).chain(behind.zip(rest.chunks(SECTOR as usize)))
}

fn put(image: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let (start, end) = (offset as usize, offset as usize + data.len());
    if image.len() < end {
        image.resize(end, 0);
    }
    image[start..end].copy_from_slice(data);
}

/// xorshift64*: the same numbers for the same seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.max(1);
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.next() >> 63 == 1
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

const SECTOR: u64 = 512;
const ENOSPC: i32 = 28;
const EIO: i32 = 5;
