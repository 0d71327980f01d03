//! Writing the table as a run, merging runs, replacing damaged ones, and what opening has to make whole.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{ChunkStoreError, DamagedRun, Found, Index};
use crate::pack::PackIndex;
use crate::store::decode::Decoding;
use crate::store::run::{Entry, Run, RunError, RunPack, merge, write_run};

/// A run has at least so many times the entries of the next smaller one, or they are merged: for n chunks there are about
/// log(n / table) / log([`GROWTH`]) runs, and an entry is written as often.
const GROWTH: u64 = 4;

type Entries<'a> = Box<dyn Iterator<Item = Result<Entry, RunError>> + 'a>;

impl Index {
    /// Opens the runs, drops those that cannot be used, and indexes the packs that none of them covers.
    pub(super) fn open_runs(&self, decoding: &Decoding) -> io::Result<Found> {
        let mut paths = Vec::new();
        for file in fs::read_dir(&self.directory)? {
            let path = file?.path();
            match run_number(&path) {
                Some(number) => {
                    self.next_run.fetch_max(number + 1, Ordering::Relaxed);
                    paths.push(path);
                }
                None if path.extension().is_some_and(|extension| extension == "tmp") => {
                    fs::remove_file(path)?
                }
                None => {}
            }
        }
        let mut runs = Vec::new();
        let mut damaged = false;
        for path in paths {
            match Run::open(&path) {
                Ok(run) if self.means_the_same_packs(&run) => runs.push(run),
                Ok(_) | Err(RunError::Damaged(_)) => {
                    damaged = true;
                    fs::remove_file(&path)?;
                }
                Err(RunError::Io(error)) => return Err(error),
            }
        }
        runs.sort_by_key(|run| std::cmp::Reverse(run.entries()));
        let mut covered = HashSet::new();
        let mut state = self.state.write();
        for run in runs {
            // A merge that a kill ended before the merged runs were removed leaves runs that another one covers.
            let mut adds = false;
            for pack in run.packs() {
                let alive = state.known.contains_key(&pack.number);
                adds |= covered.insert(pack.number) && alive;
                state.next = state.next.max(pack.number.saturating_add(1));
            }
            match adds {
                true => state.runs.push(Arc::new(run)),
                false => fs::remove_file(run.path())?,
            }
        }
        let all: Vec<u32> = state.known.keys().copied().collect();
        drop(state);
        let mut indexed = 0;
        for number in all.iter().filter(|number| !covered.contains(number)) {
            let end = self.end(*number).map_err(io::Error::other)?;
            let known = self.known(*number);
            let Some(known) = known else { continue };
            match end.map(|end| decoding.index(&end, known.record.bytes)) {
                Some(Ok(index)) => {
                    self.index_again(*number, &index).map_err(io::Error::other)?;
                    indexed += 1;
                }
                // The store tells of it again.
                _ => {
                    damaged = true;
                    self.forget(&[known.record.id], false).map_err(io::Error::other)?;
                }
            }
        }
        Ok(Found {
            packs: self.state.read().known.len(),
            indexed,
            damaged,
        })
    }

    /// Whether the run's numbers mean the packs that they meant when it was written.
    fn means_the_same_packs(&self, run: &Run) -> bool {
        let state = self.state.read();
        let same = |pack: &RunPack| match state.known.get(&pack.number) {
            Some(known) => RunPack::new(pack.number, &known.record.id) == *pack,
            None => true,
        };
        run.packs().iter().all(same)
    }

    /// Takes the chunks of a known pack into the table, once more.
    fn index_again(&self, number: u32, index: &PackIndex) -> Result<(), ChunkStoreError> {
        let full = {
            let mut state = self.state.write();
            state.add_chunks(number, index);
            state.table.len() >= self.table_max
        };
        match full {
            true => self.maintain(),
            false => Ok(()),
        }
    }

    /// Writes the table as a run if it is full, and merges runs that are about as large as each other.
    pub(super) fn maintain(&self) -> Result<(), ChunkStoreError> {
        let _alone = self.maintenance.lock();
        self.flush()?;
        self.merge_runs()
    }

    fn flush(&self) -> Result<(), ChunkStoreError> {
        let (entries, packs) = {
            let mut state = self.state.write();
            if state.table.len() < self.table_max {
                return Ok(());
            }
            let entries: Vec<Entry> = std::mem::take(&mut state.table).into_iter().collect();
            let entries = Arc::new(entries);
            state.frozen = Some(entries.clone());
            (entries, std::mem::take(&mut state.table_packs))
        };
        // Every entry of a run is of a pack in its list: the numbers of forgotten packs that no list has may be given again.
        let named = self.named(packs.iter().copied());
        let alive: HashSet<u32> = named.iter().map(|pack| pack.number).collect();
        let live = entries.iter().filter(|entry| alive.contains(&entry.pack));
        let written = write_run(&self.new_path(), live.copied().map(Ok), named);
        let mut state = self.state.write();
        state.frozen = None;
        match written {
            Ok(run) => {
                state.runs.push(Arc::new(run));
                Ok(())
            }
            Err(error) => {
                state.table.extend(entries.iter().copied());
                state.table_packs.extend(packs);
                Err(self.run_failed("write a run of", error))
            }
        }
    }

    /// The packs among these that are there.
    fn named(&self, numbers: impl Iterator<Item = u32>) -> Vec<RunPack> {
        let state = self.state.read();
        numbers
            .filter_map(|number| Some(RunPack::new(number, &state.known.get(&number)?.record.id)))
            .collect()
    }

    fn merge_runs(&self) -> Result<(), ChunkStoreError> {
        let mut runs = self.state.read().runs.clone();
        runs.sort_by_key(|run| std::cmp::Reverse(run.entries()));
        // The smallest runs, as far as each is small beside what is merged already.
        let Some(smallest) = runs.pop() else { return Ok(()) };
        let mut entries = smallest.entries();
        let mut merged = vec![smallest];
        while let Some(next) = runs.pop_if(|next| next.entries() < entries.saturating_mul(GROWTH)) {
            entries += next.entries();
            merged.push(next);
        }
        // A run of packs that are mostly gone is written anew, too.
        merged.extend(runs.extract_if(.., |run| self.is_wasteful(run)));
        if merged.len() == 1 && !self.is_wasteful(&merged[0]) {
            return Ok(());
        }
        self.replace(&merged)
    }

    fn is_wasteful(&self, run: &Run) -> bool {
        let state = self.state.read();
        let there = run
            .packs()
            .iter()
            .filter(|pack| state.known.contains_key(&pack.number));
        there.count() < run.packs().len() / 2
    }

    /// Writes the entries of some runs as one. A damaged one among them is replaced when a look-up finds it; here it is
    /// left as it is.
    fn replace(&self, merged: &[Arc<Run>]) -> Result<(), ChunkStoreError> {
        let numbers: BTreeSet<u32> = merged
            .iter()
            .flat_map(|run| run.packs().iter().map(|pack| pack.number))
            .collect();
        let packs = self.named(numbers.into_iter());
        let alive: HashSet<u32> = packs.iter().map(|pack| pack.number).collect();
        let sources: Vec<Entries<'_>> = merged
            .iter()
            .map(|run| Box::new(run.iter()) as Entries<'_>)
            .collect();
        let entries = merge(sources).filter(|entry| match entry {
            Ok(entry) => alive.contains(&entry.pack),
            Err(_) => true,
        });
        let written = match packs.is_empty() {
            true => None,
            false => match write_run(&self.new_path(), entries, packs) {
                Ok(run) => Some(run),
                Err(RunError::Damaged(_)) => return Ok(()),
                Err(error) => return Err(self.run_failed("merge the runs of", error)),
            },
        };
        self.swap(merged, written)
    }

    /// Puts a run in the place of others, which are removed.
    fn swap(&self, old: &[Arc<Run>], new: Option<Run>) -> Result<(), ChunkStoreError> {
        {
            let mut state = self.state.write();
            state
                .runs
                .retain(|run| !old.iter().any(|old| Arc::ptr_eq(old, run)));
            state.runs.extend(new.map(Arc::new));
        }
        for run in old {
            match fs::remove_file(run.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.failed("remove a run of", error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes up for a damaged run: the chunks of its packs are taken from `index_of` again, then the run is dropped. Packs that
    /// `index_of` says are not there any more are forgotten.
    pub fn repair(
        &self,
        damage: &DamagedRun,
        index_of: &dyn Fn(u32) -> Result<Option<Arc<PackIndex>>, ChunkStoreError>,
    ) -> Result<(), ChunkStoreError> {
        let _alone = self.maintenance.lock();
        let is_there = |run: &Arc<Run>| Arc::ptr_eq(run, &damage.run);
        if !self.state.read().runs.iter().any(is_there) {
            // Somebody else has done it.
            return Ok(());
        }
        tracing::warn!(run = %damage.run.path().display(), cause = %damage.cause, "a run of the chunk index is damaged: it is made anew");
        let numbers: HashMap<u32, RunPack> = damage
            .run
            .packs()
            .iter()
            .map(|pack| (pack.number, *pack))
            .collect();
        for number in numbers.into_keys() {
            let Some(known) = self.known(number) else { continue };
            match index_of(number)? {
                Some(index) => {
                    self.state.write().add_chunks(number, &index);
                    self.flush()?;
                }
                None => {
                    self.forget(&[known.record.id], false)?;
                }
            }
        }
        self.swap(std::slice::from_ref(&damage.run), None)
    }

    fn new_path(&self) -> PathBuf {
        let number = self.next_run.fetch_add(1, Ordering::Relaxed);
        self.directory.join(format!("run-{number:016x}"))
    }
}

/// The number of a run's file.
fn run_number(path: &Path) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_prefix("run-")?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (digits.len() == 16).then_some(number)
}
