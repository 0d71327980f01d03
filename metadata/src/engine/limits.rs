//! The limits that every engine holds a batch against before it touches anything.

use super::{Batch, EngineError, KEY_BYTES_MAX, Operation, Precondition, VALUE_BYTES_MAX};

/// Longest bound of a range: one more than a key, for the end just after the longest key.
const BOUND_BYTES_MAX: usize = KEY_BYTES_MAX + 1;

/// Refuses a batch with an empty or too long key or a too long value.
pub(super) fn check(batch: &Batch) -> Result<(), EngineError> {
    for precondition in &batch.preconditions {
        match precondition {
            Precondition::Absent(key) => check_key(key)?,
            Precondition::Equals(key, value) => {
                check_key(key)?;
                check_value(value)?;
            }
        }
    }
    for operation in &batch.operations {
        match operation {
            Operation::Put(key, value) => {
                check_key(key)?;
                check_value(value)?;
            }
            Operation::Delete(key) => check_key(key)?,
            Operation::DeleteRange(from, to) => {
                check_length("range bound", from.len(), BOUND_BYTES_MAX)?;
                check_length("range bound", to.len(), BOUND_BYTES_MAX)?;
            }
        }
    }
    Ok(())
}

fn check_key(key: &[u8]) -> Result<(), EngineError> {
    if key.is_empty() {
        return Err(EngineError::EmptyKey);
    }
    check_length("key", key.len(), KEY_BYTES_MAX)
}

fn check_value(value: &[u8]) -> Result<(), EngineError> {
    check_length("value", value.len(), VALUE_BYTES_MAX)
}

fn check_length(what: &'static str, found: usize, limit: usize) -> Result<(), EngineError> {
    if found > limit {
        return Err(EngineError::TooLarge { what, found, limit });
    }
    Ok(())
}
