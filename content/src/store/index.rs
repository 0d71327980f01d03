//! The chunk index: which packs there are, and which of them hold which chunk, on local disk with little memory.
//!
//! New packs go to the file `packs` and their chunks to a table in memory. When the table is full it is written as a run;
//! runs are merged so that a handful remain, each a few times larger than the next ([`upkeep`]). What a kill leaves is made
//! whole when the index is opened: the chunks of packs that no run covers are taken from `packs` again.
//!
//! An entry is worth what its pack is worth: entries of packs that are not there any more stay in their runs until these are
//! merged, and are passed over.
//!
//! Everything here is a cache. This file knows no object store; it is told which packs exist.
//!
//! Locks, in this order: maintenance, packs file, state. The state is held for as long as a look-up takes, never while a run is
//! written.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use cairn_types::ChunkId;
use parking_lot::{Mutex, RwLock};

use super::decode::Decoding;
use super::error::ChunkStoreError;
use super::packs::{PackRecord, PacksFile};
use super::run::{Entry, Run, RunError};
use crate::pack::{PackId, PackIndex};

mod upkeep;

/// A pack that is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub record: PackRecord,
    /// Its chunks do not count as stored.
    pub condemned: bool,
}

/// A place of a chunk: the pack's number, the chunk's number in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Orders the good places before those in condemned packs.
    pub condemned: bool,
    pub pack: u32,
    pub chunk: u32,
}

/// A run that is not what was written.
#[derive(Debug)]
pub(super) struct DamagedRun {
    pub run: Arc<Run>,
    pub cause: RunError,
}

#[derive(Debug, Default)]
struct State {
    known: HashMap<u32, Known>,
    numbers: HashMap<PackId, u32>,
    /// By name, so that it also holds for packs that become known later.
    condemned: HashSet<PackId>,
    /// Above every number that was ever given.
    next: u32,
    /// Chunks that are in no run yet, and the packs that they are of.
    table: BTreeSet<Entry>,
    table_packs: Vec<u32>,
    /// A table that is being written as a run, ordered.
    frozen: Option<Arc<Vec<Entry>>>,
    runs: Vec<Arc<Run>>,
}

/// The index of one store.
#[derive(Debug)]
pub(super) struct Index {
    directory: PathBuf,
    /// Held with flock(2) against a second opener.
    _lock: File,
    maintenance: Mutex<()>,
    packs: Mutex<PacksFile>,
    state: RwLock<State>,
    table_max: usize,
    /// Number of the next run's file.
    next_run: AtomicU64,
}

/// What opening found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// Packs that are known.
    pub packs: usize,
    /// Packs whose chunks had to be taken from their ends again.
    pub indexed: usize,
    /// Whether something was damaged and dropped.
    pub damaged: bool,
}

impl Index {
    /// Opens the index in `directory`, which is made if it is missing (its parent must exist).
    pub fn open(
        directory: &Path,
        store: [u8; 32],
        table_max: usize,
        decoding: &Decoding,
    ) -> Result<(Self, Found), ChunkStoreError> {
        let failed = |operation: &'static str| {
            let path = directory.to_owned();
            move |source| ChunkStoreError::Cache {
                operation,
                path,
                source,
            }
        };
        match fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("make the directory")(error));
            }
            _ => {}
        }
        let lock = File::open(directory).map_err(failed("open the directory"))?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(ChunkStoreError::Locked {
                    directory: directory.to_owned(),
                });
            }
            Err(error) => return Err(failed("lock the directory")(error.into())),
        }
        let opened = PacksFile::open(&directory.join("packs"), store).map_err(failed("open the packs of"))?;
        let mut state = State {
            next: opened.next,
            ..State::default()
        };
        for record in &opened.packs {
            state.insert(*record);
        }
        let index = Index {
            directory: directory.to_owned(),
            _lock: lock,
            maintenance: Mutex::new(()),
            packs: Mutex::new(opened.file),
            state: RwLock::new(state),
            table_max,
            next_run: AtomicU64::new(0),
        };
        let mut found = index.open_runs(decoding).map_err(failed("open the runs of"))?;
        found.damaged |= opened.damaged;
        Ok((index, found))
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether a pack that is not condemned holds the chunk.
    pub fn contains(&self, id: &ChunkId) -> Result<bool, DamagedRun> {
        let mut entries = Vec::new();
        let state = self.state.read();
        state.find(id, &mut entries)?;
        let counts = |entry: &Entry| state.known.get(&entry.pack).is_some_and(|known| !known.condemned);
        Ok(entries.iter().any(counts))
    }

    /// Every place of a chunk, the best first: not in a condemned pack, then in the pack that has been known longest.
    pub fn places(&self, id: &ChunkId) -> Result<Vec<Place>, DamagedRun> {
        let mut entries = Vec::new();
        let state = self.state.read();
        state.find(id, &mut entries)?;
        let place = |entry: &Entry| {
            let known = state.known.get(&entry.pack)?;
            Some(Place {
                condemned: known.condemned,
                pack: entry.pack,
                chunk: entry.chunk,
            })
        };
        let mut places: Vec<Place> = entries.iter().filter_map(place).collect();
        drop(state);
        places.sort_unstable();
        places.dedup();
        Ok(places)
    }

    /// The pack with this number, if it is there.
    pub fn known(&self, number: u32) -> Option<Known> {
        self.state.read().known.get(&number).copied()
    }

    /// The pack with this name, if it is there.
    pub fn known_as(&self, id: &PackId) -> Option<Known> {
        let state = self.state.read();
        state.known.get(state.numbers.get(id)?).copied()
    }

    /// All packs, by number.
    pub fn all(&self) -> Vec<Known> {
        let mut all: Vec<Known> = self.state.read().known.values().copied().collect();
        all.sort_unstable_by_key(|known| known.record.number);
        all
    }

    /// Takes a pack in that is in the store: `end` is its index and trailer, `index` what that says. Says whether it was not
    /// known.
    pub fn adopt(
        &self,
        id: PackId,
        bytes: u64,
        end: &[u8],
        index: &PackIndex,
    ) -> Result<bool, ChunkStoreError> {
        let added = {
            let mut packs = self.packs.lock();
            if self.known_as(&id).is_some() {
                return Ok(false);
            }
            let number = self.state.read().next;
            let next = number.checked_add(1).ok_or(ChunkStoreError::TooManyPacks {
                maximum: u64::from(u32::MAX),
            })?;
            let mut record = PackRecord {
                number,
                id,
                bytes,
                chunks: index.chunks().len() as u32,
                offset: 0,
                end_bytes: 0,
                checksum: 0,
            };
            packs
                .append(&mut record, end)
                .map_err(|error| self.failed("write the packs of", error))?;
            let mut state = self.state.write();
            state.next = next;
            state.insert(record);
            state.add_chunks(number, index);
            state.table.len()
        };
        if added >= self.table_max {
            self.maintain()?;
        }
        Ok(true)
    }

    /// Replaces the damaged end of a known pack by one that was read again.
    pub fn restore_end(&self, number: u32, end: &[u8]) -> Result<(), ChunkStoreError> {
        let mut packs = self.packs.lock();
        let Some(mut known) = self.known(number) else {
            return Ok(());
        };
        packs
            .append(&mut known.record, end)
            .map_err(|error| self.failed("write the packs of", error))?;
        if let Some(there) = self.state.write().known.get_mut(&number) {
            there.record = known.record;
        }
        Ok(())
    }

    /// The end of a pack as it is cached; nothing if that is damaged or the pack is not there.
    pub fn end(&self, number: u32) -> Result<Option<Vec<u8>>, ChunkStoreError> {
        // Under the lock of the file, as it may be written anew.
        let packs = self.packs.lock();
        let Some(known) = self.known(number) else {
            return Ok(None);
        };
        packs
            .read(&known.record)
            .map_err(|error| self.failed("read the packs of", error))
    }

    /// Forgets packs. Durable on return if `sync`: then they may be removed from the store.
    pub fn forget(&self, ids: &[PackId], sync: bool) -> Result<usize, ChunkStoreError> {
        let mut packs = self.packs.lock();
        let records: Vec<PackRecord> = {
            let mut state = self.state.write();
            ids.iter().filter_map(|id| state.remove(id)).collect()
        };
        if records.is_empty() {
            return Ok(0);
        }
        packs
            .forget(&records, sync)
            .map_err(|error| self.failed("write the packs of", error))?;
        if packs.is_wasteful() {
            let all: Vec<PackRecord> = self.all().iter().map(|known| known.record).collect();
            let moved = packs
                .rewrite(&all)
                .map_err(|error| self.failed("rewrite the packs of", error))?;
            let mut state = self.state.write();
            let moved: HashMap<u32, PackRecord> = moved.into_iter().map(|pack| (pack.number, pack)).collect();
            for record in all {
                match moved.get(&record.number) {
                    Some(moved) => state.insert(*moved),
                    // Its end was damaged. The store tells of it again.
                    None => drop(state.remove(&record.id)),
                }
            }
        }
        Ok(records.len())
    }

    /// Marks packs as condemned, or no longer. Names that are not known are remembered.
    pub fn condemn(&self, ids: &[PackId], condemned: bool) {
        let mut state = self.state.write();
        for id in ids {
            match condemned {
                true => state.condemned.insert(*id),
                false => state.condemned.remove(id),
            };
            if let Some(number) = state.numbers.get(id).copied()
                && let Some(known) = state.known.get_mut(&number)
            {
                known.condemned = condemned;
            }
        }
    }

    /// Whether a pack is condemned, known or not.
    pub fn is_condemned(&self, id: &PackId) -> bool {
        self.state.read().condemned.contains(id)
    }

    /// Packs, runs, and bytes of memory that these take.
    pub fn size(&self) -> (usize, usize, usize) {
        let state = self.state.read();
        let per_pack = size_of::<(u32, Known)>() + size_of::<(PackId, u32)>();
        let frozen = state.frozen.as_ref().map_or(0, |frozen| frozen.len());
        let memory = state.known.len() * per_pack
            + (state.table.len() + frozen) * size_of::<Entry>()
            + state.runs.iter().map(|run| run.memory()).sum::<usize>();
        (state.known.len(), state.runs.len(), memory)
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> ChunkStoreError {
        ChunkStoreError::Cache {
            operation,
            path: self.directory.clone(),
            source,
        }
    }

    fn run_failed(&self, operation: &'static str, error: RunError) -> ChunkStoreError {
        match error {
            RunError::Io(source) => self.failed(operation, source),
            RunError::Damaged(what) => {
                self.failed(operation, io::Error::new(io::ErrorKind::InvalidData, what))
            }
        }
    }
}

impl State {
    fn insert(&mut self, record: PackRecord) {
        let condemned = self.condemned.contains(&record.id);
        self.numbers.insert(record.id, record.number);
        self.known.insert(record.number, Known { record, condemned });
    }

    fn remove(&mut self, id: &PackId) -> Option<PackRecord> {
        let number = self.numbers.remove(id)?;
        Some(self.known.remove(&number)?.record)
    }

    fn add_chunks(&mut self, pack: u32, index: &PackIndex) {
        let entries = index.chunks().iter().zip(0..).map(|(chunk, number)| Entry {
            id: chunk.id,
            pack,
            chunk: number,
        });
        self.table.extend(entries);
        self.table_packs.push(pack);
    }

    fn find(&self, id: &ChunkId, found: &mut Vec<Entry>) -> Result<(), DamagedRun> {
        let bound = |pack, chunk| Entry { id: *id, pack, chunk };
        let range = bound(0, 0)..=bound(u32::MAX, u32::MAX);
        found.extend(self.table.range(range));
        if let Some(frozen) = &self.frozen {
            let from = frozen.partition_point(|entry| entry.id < *id);
            found.extend(frozen[from..].iter().take_while(|entry| entry.id == *id));
        }
        for run in &self.runs {
            run.find(id, found).map_err(|cause| DamagedRun {
                run: run.clone(),
                cause,
            })?;
        }
        Ok(())
    }
}
