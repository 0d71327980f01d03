//! Bringing older formats up to date.

use super::BATCH;
use crate::engine::{Batch, Durability, Engine};
use crate::error::MetadataError;
use crate::keyspace::branch::{self, BranchRecord};
use crate::keyspace::{cell, note, prefix_end};

/// From format 1, which has no change notes: what changed in each branch up to now, the epoch that is not over included, cannot
/// be told. One batch, so that it has happened or not.
pub(super) fn upgrade(engine: &dyn Engine) -> Result<(), MetadataError> {
    let mut batch = Batch::default();
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
            _ => break,
        }
    }
    batch.put(
        cell::FORMAT_KEY.to_vec(),
        cell::FORMAT_VERSION.to_le_bytes().to_vec(),
    );
    Ok(engine.write(batch, Durability::Power)?)
}
