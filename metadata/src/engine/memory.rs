//! An engine in memory, for tests: the semantics of a durable one, with power cuts and faults on request.
//!
//! Beside the live map it keeps, for every key changed since the last moment of durability, the value the key had at
//! that moment. [`MemoryEngine::power_cut`] puts those back. It does not persist anything: when the last handle goes, so
//! does the data.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use super::{
    Batch, Durability, Engine, EngineError, Operation, Pair, Precondition, SCAN_ENTRIES_MAX, limits,
};

/// An ordered map in memory. A clone is another handle on the same map.
#[derive(Debug, Clone, Default)]
pub struct MemoryEngine {
    state: Arc<RwLock<State>>,
}

#[derive(Debug, Default)]
struct State {
    live: BTreeMap<Bytes, Bytes>,
    /// What a power cut would bring back: the durable values of the keys changed since. At most one entry a key.
    undo: BTreeMap<Bytes, Option<Bytes>>,
    poisoned: bool,
    /// How many more syncs succeed before one fails; `None` if all do.
    syncs_left: Option<u64>,
    /// How many more writes succeed before one finds no space; `None` if all do.
    writes_left: Option<u64>,
}

impl MemoryEngine {
    /// An empty engine.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new engine that holds exactly what is durable here: every write with [`Durability::Power`], every write that a
    /// [`Engine::sync`] followed, and everything before those. It has no faults and is not poisoned.
    pub fn power_cut(&self) -> MemoryEngine {
        let state = self.state.read();
        let mut live = state.live.clone();
        for (key, durable) in &state.undo {
            match durable {
                Some(value) => live.insert(key.clone(), value.clone()),
                None => live.remove(key),
            };
        }
        MemoryEngine {
            state: Arc::new(RwLock::new(State {
                live,
                ..State::default()
            })),
        }
    }

    /// Makes the next sync fail, be it of [`Engine::sync`] or of a write with [`Durability::Power`]. From then on the
    /// engine is poisoned. A write that fails so is visible, and not durable.
    pub fn fail_next_sync(&self) {
        self.fail_sync_after(0);
    }

    /// As [`MemoryEngine::fail_next_sync`], after `successes` more syncs.
    pub fn fail_sync_after(&self, successes: u64) {
        self.state.write().syncs_left = Some(successes);
    }

    /// Makes the next write fail with [`EngineError::NoSpace`]. It changes nothing; later writes succeed.
    pub fn fail_next_write(&self) {
        self.fail_write_after(0);
    }

    /// As [`MemoryEngine::fail_next_write`], after `successes` more writes.
    pub fn fail_write_after(&self, successes: u64) {
        self.state.write().writes_left = Some(successes);
    }

    fn collect(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
        pick: impl FnOnce(&mut dyn DoubleEndedIterator<Item = (&Bytes, &Bytes)>, usize) -> Vec<Pair>,
    ) -> Vec<Pair> {
        if from >= to {
            return Vec::new();
        }
        let state = self.state.read();
        let mut range = state
            .live
            .range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        pick(&mut range, limit.min(SCAN_ENTRIES_MAX))
    }
}

impl State {
    fn check_usable(&self) -> Result<(), EngineError> {
        if self.poisoned {
            Err(EngineError::Poisoned)
        } else {
            Ok(())
        }
    }

    fn check_preconditions(&self, preconditions: &[Precondition]) -> Result<(), EngineError> {
        for precondition in preconditions {
            let (key, holds) = match precondition {
                Precondition::Absent(key) => (key, !self.live.contains_key(key.as_slice())),
                Precondition::Equals(key, value) => (
                    key,
                    self.live.get(key.as_slice()).is_some_and(|found| found == value),
                ),
            };
            if !holds {
                return Err(EngineError::PreconditionFailed { key: key.clone() });
            }
        }
        Ok(())
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Put(key, value) => self.set(key.into(), Some(value.into())),
            Operation::Delete(key) => self.set(key.into(), None),
            Operation::DeleteRange(from, to) => {
                if from >= to {
                    return;
                }
                let bounds = (Bound::Included(from.as_slice()), Bound::Excluded(to.as_slice()));
                let keys: Vec<Bytes> = self
                    .live
                    .range::<[u8], _>(bounds)
                    .map(|(key, _)| key.clone())
                    .collect();
                for key in keys {
                    self.set(key, None);
                }
            }
        }
    }

    fn set(&mut self, key: Bytes, value: Option<Bytes>) {
        let old = match value {
            Some(value) => self.live.insert(key.clone(), value),
            None => self.live.remove(&key),
        };
        self.undo.entry(key).or_insert(old);
    }

    fn make_durable(&mut self) -> Result<(), EngineError> {
        if !count_down(&mut self.syncs_left) {
            self.poisoned = true;
            return Err(EngineError::Failed(Box::new(io::Error::other(
                "an injected sync failure",
            ))));
        }
        self.undo.clear();
        Ok(())
    }
}

/// Whether the event that is counted happens. The fault strikes once.
fn count_down(left: &mut Option<u64>) -> bool {
    match left {
        None => true,
        Some(0) => {
            *left = None;
            false
        }
        Some(count) => {
            *count -= 1;
            true
        }
    }
}

fn pair((key, value): (&Bytes, &Bytes)) -> Pair {
    (key.clone(), value.clone())
}

impl Engine for MemoryEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.state.read().live.get(key).cloned())
    }

    fn get_cached(&self, key: &[u8]) -> Result<Option<Option<Bytes>>, EngineError> {
        Ok(Some(self.get(key)?))
    }

    fn get_many(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, EngineError> {
        let state = self.state.read();
        Ok(keys
            .iter()
            .map(|key| state.live.get(key.as_slice()).cloned())
            .collect())
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, EngineError> {
        Ok(self.collect(from, to, limit, |range, limit| {
            range.take(limit).map(pair).collect()
        }))
    }

    fn scan_back(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, EngineError> {
        Ok(self.collect(from, to, limit, |range, limit| {
            range.rev().take(limit).map(pair).collect()
        }))
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        limits::check(&batch)?;
        let mut state = self.state.write();
        state.check_usable()?;
        state.check_preconditions(&batch.preconditions)?;
        if !count_down(&mut state.writes_left) {
            let source = io::Error::new(io::ErrorKind::StorageFull, "an injected full disk");
            return Err(EngineError::NoSpace(Box::new(source)));
        }
        for operation in batch.operations {
            state.apply(operation);
        }
        match durability {
            Durability::Process => Ok(()),
            Durability::Power => state.make_durable(),
        }
    }

    fn sync(&self) -> Result<(), EngineError> {
        let mut state = self.state.write();
        state.check_usable()?;
        state.make_durable()
    }

    fn disk_bytes(&self) -> u64 {
        0
    }
}
