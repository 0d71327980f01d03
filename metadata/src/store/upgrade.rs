//! Bringing older formats up to date.

use super::BATCH;
use crate::engine::{Batch, Durability, Engine};
use crate::error::MetadataError;
use crate::keyspace::branch::{self, BranchRecord};
use crate::keyspace::{cell, note, prefix_end};

/// Brings a store of format `found` up to date. One batch, so that it has happened or not.
/// - From format 1, which has no change notes: what changed in each branch up to now, the epoch that is not over included, cannot
///   be told.
/// - From format 2, whose values are read as they are: only the number changes.
pub(super) fn upgrade(engine: &dyn Engine, found: u32) -> Result<(), MetadataError> {
    let mut batch = Batch::default();
    if found < 2 {
        bound_notes(engine, &mut batch)?;
    }
    batch.put(
        cell::FORMAT_KEY.to_vec(),
        cell::FORMAT_VERSION.to_le_bytes().to_vec(),
    );
    Ok(engine.write(batch, Durability::Power)?)
}

/// Gives every branch its current epoch as the bound of its change notes.
fn bound_notes(engine: &dyn Engine, batch: &mut Batch) -> Result<(), MetadataError> {
    let (mut from, to) = (b"B".to_vec(), prefix_end(b"B"));
    loop {
        let pairs = engine.scan(&from, &to, BATCH)?;
        for (key, value) in &pairs {
            let id = branch::decode_branch_key(key)?;
            let epoch = BranchRecord::decode(value)?.epoch;
            batch.put(note::bound_key(id), note::encode_bound(epoch));
        }
        match pairs.last() {
            Some((last, _)) if pairs.len() == BATCH => from = [last, [0].as_slice()].concat(),
            _ => return Ok(()),
        }
    }
}
