//! A store in memory whose power can be cut.
//!
//! The model is the least that POSIX promises: until its file is synced, each sector of each write survives a power cut
//! or does not, independently of all others; so does every change of a file's length, of the room reserved for it, and
//! of the directory until that is synced. A failed sync loses what it was to make durable, while the cache goes on
//! showing it until it is evicted, as Linux does.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::Arc;

use cairn_types::SegmentId;
use parking_lot::Mutex;

use super::store::{SegmentFile, SegmentStore};

/// Bytes that a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// Operations that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// [`SegmentStore::create`].
    Create,
    /// [`SegmentStore::remove`].
    Remove,
    /// [`SegmentStore::sync_directory`].
    SyncDirectory,
    /// [`SegmentFile::write_all_at`].
    Write,
    /// [`SegmentFile::sync_data`].
    SyncData,
    /// [`SegmentFile::allocate`].
    Allocate,
    /// [`SegmentFile::truncate`].
    Truncate,
}

/// What has been done to a file since its last sync.
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Default)]
struct Contents {
    durable: Vec<u8>,
    cached: Vec<u8>,
    unsynced: Vec<Change>,
}

impl Contents {
    fn change(&mut self, change: Change) {
        apply(&mut self.cached, &change);
        self.unsynced.push(change);
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, bytes: new } => {
            let end = offset + new.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset..end].copy_from_slice(new);
        }
        Change::Length(length) => bytes.resize(*length, 0),
    }
}

type Inode = Arc<Mutex<Contents>>;

#[derive(Default)]
struct Directory {
    durable: BTreeMap<SegmentId, Inode>,
    cached: BTreeMap<SegmentId, Inode>,
}

/// Faults to come.
struct Faults {
    /// Changing operations until the machine stops; `None` for never.
    remaining: Option<u64>,
    /// Changing operations so far.
    operations: u64,
    /// The next operation of this kind fails so, once.
    next: Option<(Operation, io::ErrorKind)>,
    /// Bytes that files may have reserved or written in all.
    room: u64,
}

struct Machine {
    directory: Mutex<Directory>,
    faults: Mutex<Faults>,
}

impl Machine {
    /// Counts an operation, and says whether and how it fails.
    fn begin(&self, operation: Operation) -> io::Result<()> {
        let mut faults = self.faults.lock();
        if faults.remaining == Some(0) {
            return Err(io::Error::other("the power is off"));
        }
        faults.remaining = faults.remaining.map(|remaining| remaining - 1);
        faults.operations += 1;
        match faults.next.take_if(|(next, _)| *next == operation) {
            Some((_, kind)) => Err(kind.into()),
            None => Ok(()),
        }
    }

    fn used(&self) -> u64 {
        self.directory
            .lock()
            .cached
            .values()
            .map(|inode| inode.lock().cached.len() as u64)
            .sum()
    }

    fn check_room(&self, more: u64) -> io::Result<()> {
        let used = self.used();
        if used + more > self.faults.lock().room {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }
}

/// A store in memory. Clones are the same store.
#[derive(Clone)]
pub struct MemoryStore(Arc<Machine>);

impl Default for MemoryStore {
    fn default() -> Self {
        MemoryStore::new()
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        MemoryStore::of(BTreeMap::new())
    }

    fn of(files: BTreeMap<SegmentId, Inode>) -> Self {
        let directory = Directory {
            durable: files.clone(),
            cached: files,
        };
        let faults = Faults {
            remaining: None,
            operations: 0,
            next: None,
            room: u64::MAX,
        };
        MemoryStore(Arc::new(Machine {
            directory: Mutex::new(directory),
            faults: Mutex::new(faults),
        }))
    }

    /// What the disk holds after a power cut: everything synced, and of the rest whatever `seed` says. This store is
    /// not changed.
    pub fn power_cut(&self, seed: u64) -> MemoryStore {
        let mut chance = Chance(seed);
        let directory = self.0.directory.lock();
        let mut files = BTreeMap::new();
        let mut names: Vec<SegmentId> = directory.durable.keys().copied().collect();
        names.extend(
            directory
                .cached
                .keys()
                .filter(|id| !directory.durable.contains_key(id)),
        );
        for id in names {
            let (durable, cached) = (directory.durable.get(&id), directory.cached.get(&id));
            let entry = match (durable, cached) {
                (Some(durable), Some(cached)) if Arc::ptr_eq(durable, cached) => Some(durable),
                _ if chance.heads() => cached,
                _ => durable,
            };
            if let Some(inode) = entry {
                let durable = survivors(&inode.lock(), &mut chance);
                let contents = Contents {
                    cached: durable.clone(),
                    durable,
                    unsynced: Vec::new(),
                };
                files.insert(id, Arc::new(Mutex::new(contents)));
            }
        }
        MemoryStore::of(files)
    }

    /// Lets `operations` more changing operations happen; all that come later fail. `None` for no limit.
    pub fn stop_after(&self, operations: Option<u64>) {
        self.0.faults.lock().remaining = operations;
    }

    /// Changing operations so far.
    pub fn operations(&self) -> u64 {
        self.0.faults.lock().operations
    }

    /// Makes the next operation of this kind fail, once.
    pub fn fail_next(&self, operation: Operation, kind: io::ErrorKind) {
        self.0.faults.lock().next = Some((operation, kind));
    }

    /// Sets how many bytes all files together may have.
    pub fn set_room(&self, bytes: u64) {
        self.0.faults.lock().room = bytes;
    }

    /// Changes the bytes of a file, on disk and in the cache, as a faulty disk does. `false` if there is no such file.
    pub fn damage(&self, id: SegmentId, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let inode = self.0.directory.lock().cached.get(&id).cloned();
        if let Some(inode) = &inode {
            let mut contents = inode.lock();
            change(&mut contents.cached);
            contents.durable = contents.cached.clone();
            contents.unsynced.clear();
        }
        inode.is_some()
    }

    /// A copy of everything in the cache, as after the end of the process. This store is not changed.
    pub fn fork(&self) -> MemoryStore {
        let copy = |inode: &Inode| {
            let cached = inode.lock().cached.clone();
            Arc::new(Mutex::new(Contents {
                durable: cached.clone(),
                cached,
                unsynced: Vec::new(),
            }))
        };
        MemoryStore::of(
            self.0
                .directory
                .lock()
                .cached
                .iter()
                .map(|(id, inode)| (*id, copy(inode)))
                .collect(),
        )
    }
}

/// What is left of a file: each sector of each unsynced write and each change of length with a chance of one half.
fn survivors(contents: &Contents, chance: &mut Chance) -> Vec<u8> {
    let mut bytes = contents.durable.clone();
    for change in &contents.unsynced {
        match change {
            Change::Length(_) => {
                if chance.heads() {
                    apply(&mut bytes, change);
                }
            }
            Change::Write { offset, bytes: new } => {
                let mut at = 0;
                while at < new.len() {
                    let sector_end = (offset + at + 1).next_multiple_of(SECTOR_BYTES) - offset;
                    let end = sector_end.min(new.len());
                    if chance.heads() {
                        apply(
                            &mut bytes,
                            &Change::Write {
                                offset: offset + at,
                                bytes: new[at..end].to_vec(),
                            },
                        );
                    }
                    at = end;
                }
            }
        }
    }
    bytes
}

/// A sequence of coin tosses (SplitMix64).
struct Chance(u64);

impl Chance {
    fn heads(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) & 1 == 1
    }
}

impl SegmentStore for MemoryStore {
    fn list(&self) -> io::Result<Vec<SegmentId>> {
        Ok(self.0.directory.lock().cached.keys().copied().collect())
    }

    fn create(&self, id: SegmentId) -> io::Result<Arc<dyn SegmentFile>> {
        self.0.begin(Operation::Create)?;
        let mut directory = self.0.directory.lock();
        if directory.cached.contains_key(&id) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = Inode::default();
        directory.cached.insert(id, Arc::clone(&inode));
        Ok(Arc::new(MemoryFile {
            machine: Arc::clone(&self.0),
            inode,
        }))
    }

    fn open(&self, id: SegmentId) -> io::Result<Arc<dyn SegmentFile>> {
        let inode = self.0.directory.lock().cached.get(&id).cloned();
        let inode = inode.ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(MemoryFile {
            machine: Arc::clone(&self.0),
            inode,
        }))
    }

    fn remove(&self, id: SegmentId) -> io::Result<()> {
        self.0.begin(Operation::Remove)?;
        let removed = self.0.directory.lock().cached.remove(&id);
        removed.map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.0.begin(Operation::SyncDirectory)?;
        let mut directory = self.0.directory.lock();
        directory.durable = directory.cached.clone();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let used = self.0.used();
        Ok(self.0.faults.lock().room.saturating_sub(used))
    }
}

struct MemoryFile {
    machine: Arc<Machine>,
    inode: Inode,
}

impl SegmentFile for MemoryFile {
    fn write_all_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let begun = self.machine.begin(Operation::Write);
        let offset = offset as usize;
        let length = self.inode.lock().cached.len();
        let begun = begun.and_then(|()| {
            self.machine
                .check_room((offset + bytes.len()).saturating_sub(length) as u64)
        });
        if let Err(error) = begun {
            // A write that fails may have written any part.
            let half = bytes[..bytes.len() / 2].to_vec();
            if error.kind() != io::ErrorKind::Other {
                self.inode.lock().change(Change::Write { offset, bytes: half });
            }
            return Err(error);
        }
        self.inode.lock().change(Change::Write { offset, bytes });
        Ok(())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let contents = self.inode.lock();
        let from = (offset as usize).min(contents.cached.len());
        let found = &contents.cached[from..(from + bytes.len()).min(contents.cached.len())];
        bytes[..found.len()].copy_from_slice(found);
        Ok(found.len())
    }

    fn read_cached_at(&self, bytes: &mut [u8], offset: u64) -> bool {
        self.read_at(bytes, offset)
            .is_ok_and(|count| count == bytes.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        let begun = self.machine.begin(Operation::SyncData);
        let mut contents = self.inode.lock();
        match begun {
            Ok(()) => {
                let unsynced = std::mem::take(&mut contents.unsynced);
                unsynced
                    .iter()
                    .for_each(|change| apply(&mut contents.durable, change));
                Ok(())
            }
            // The machine is off: nothing happens to what it has not written.
            Err(error) if error.kind() == io::ErrorKind::Other => Err(error),
            Err(error) => {
                contents.unsynced.clear();
                Err(error)
            }
        }
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.machine.begin(Operation::Allocate)?;
        let cached = self.inode.lock().cached.len() as u64;
        self.machine.check_room(length.saturating_sub(cached))?;
        if cached < length {
            self.inode.lock().change(Change::Length(length as usize));
        }
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.machine.begin(Operation::Truncate)?;
        self.inode.lock().change(Change::Length(length as usize));
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.inode.lock().cached.len() as u64)
    }

    fn disk_bytes(&self) -> io::Result<u64> {
        self.length()
    }

    fn evict(&self) -> io::Result<()> {
        let mut contents = self.inode.lock();
        let mut bytes = contents.durable.clone();
        contents
            .unsynced
            .iter()
            .for_each(|change| apply(&mut bytes, change));
        contents.cached = bytes;
        Ok(())
    }
}
