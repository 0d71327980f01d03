//! The ledger of keyed requests, as far as it is stored: entries and generations, read, written alone, or written together with
//! the change that they tell of.

use cairn_types::VolumeId;

use super::Store;
use crate::engine::{Batch, Durability};
use crate::error::MetadataError;
use crate::keyspace::ledger::{self, LedgerRecord};

/// An entry of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// The key, 1 to [`LEDGER_KEY_BYTES_MAX`](crate::keyspace::ledger::LEDGER_KEY_BYTES_MAX) bytes.
    pub key: String,
    /// What is known of it.
    pub record: LedgerRecord,
}

/// Changes of the ledger that are written together with a change of the catalogue, in its batch: both happen or neither does.
pub type LedgerEntries<'a> = &'a mut [LedgerEntry];

/// Adds entries to the batch of a change of `volume`. Entries that name no volume yet get that one.
pub(super) fn record(entries: LedgerEntries<'_>, volume: VolumeId, batch: &mut Batch) {
    for entry in entries {
        if entry.record.volume == VolumeId(0) {
            entry.record.volume = volume;
        }
        batch.put(ledger::entry_key(&entry.key), entry.record.encode());
    }
}

impl Store {
    /// All entries of the ledger, by key.
    pub fn ledger(&self, visit: &mut dyn FnMut(&str, LedgerRecord)) -> Result<(), MetadataError> {
        self.each(ledger::ENTRIES, &mut |key, value| {
            visit(ledger::decode_key(key)?, LedgerRecord::decode(value)?);
            Ok(())
        })
    }

    /// What the ledger knows of a key.
    pub fn ledger_record(&self, key: &str) -> Result<Option<LedgerRecord>, MetadataError> {
        match self.engine.get(&ledger::entry_key(key))? {
            Some(value) => Ok(Some(LedgerRecord::decode(&value)?)),
            None => Ok(None),
        }
    }

    /// Writes an entry. Durable on return.
    pub fn put_ledger(&self, entry: &LedgerEntry) -> Result<(), MetadataError> {
        let mut batch = Batch::default();
        batch.put(ledger::entry_key(&entry.key), entry.record.encode());
        Ok(self.engine.write(batch, Durability::Power)?)
    }

    /// Forgets keys. Durable on return.
    pub fn forget_ledger(&self, keys: &[String]) -> Result<(), MetadataError> {
        let mut batch = Batch::default();
        for key in keys {
            batch.delete(ledger::entry_key(key));
        }
        Ok(self.engine.write(batch, Durability::Power)?)
    }

    /// The greatest generation seen of each cluster.
    pub fn generations(&self) -> Result<Vec<(String, u64)>, MetadataError> {
        let mut generations = Vec::new();
        self.each(ledger::GENERATIONS, &mut |key, value| {
            let cluster = ledger::decode_key(key)?.to_owned();
            generations.push((cluster, ledger::decode_generation(value)?));
            Ok(())
        })?;
        Ok(generations)
    }

    /// Stores the greatest generation seen of a cluster. Durable on return.
    pub fn put_generation(&self, cluster: &str, generation: u64) -> Result<(), MetadataError> {
        let mut batch = Batch::default();
        batch.put(ledger::generation_key(cluster), generation.to_le_bytes().to_vec());
        Ok(self.engine.write(batch, Durability::Power)?)
    }
}
