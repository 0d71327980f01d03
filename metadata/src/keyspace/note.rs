//! Change notes: which inodes changed in which epoch of a branch.
//!
//! Note (`D`, branch u64, epoch u64, inode u64): empty. The inode was made, changed or removed in that epoch of that branch. No
//! notes are kept of the first epoch of a branch that started empty: no state is older than that.
//! Bound (`D`, branch u64, 0 u64, 0 u64): epoch u64. Nothing is noted of the epochs up to this one, in which anything may have
//! changed. There is no epoch 0, so it comes before all notes. Absent: all epochs are noted.

use cairn_types::{BranchId, Epoch, InodeId};

use super::codec::{DecodeError, Reader};
use super::prefix_end;

pub(crate) fn note_key(branch: BranchId, epoch: Epoch, inode: InodeId) -> Vec<u8> {
    let mut key = Vec::with_capacity(25);
    key.push(b'D');
    key.extend_from_slice(&branch.0.to_be_bytes());
    key.extend_from_slice(&epoch.0.to_be_bytes());
    key.extend_from_slice(&inode.0.to_be_bytes());
    key
}

/// The inode of a note's key.
pub(crate) fn decode_note_key(key: &[u8]) -> Result<InodeId, DecodeError> {
    decode_note(key).map(|(_, inode)| inode)
}

/// The epoch and the inode of a note's key.
pub(crate) fn decode_note(key: &[u8]) -> Result<(Epoch, InodeId), DecodeError> {
    let mut reader = Reader::new("change note key", key);
    reader.take(9)?;
    let epoch = Epoch(u64::from_be_bytes(reader.array()?));
    let inode = InodeId(u64::from_be_bytes(reader.array()?));
    reader.end()?;
    Ok((epoch, inode))
}

/// The key of a branch's bound.
pub(crate) fn bound_key(branch: BranchId) -> Vec<u8> {
    note_key(branch, Epoch(0), InodeId(0))
}

pub(crate) fn encode_bound(epoch: Epoch) -> Vec<u8> {
    epoch.0.to_le_bytes().to_vec()
}

pub(crate) fn decode_bound(bytes: &[u8]) -> Result<Epoch, DecodeError> {
    let mut reader = Reader::new("bound of change notes", bytes);
    let epoch = Epoch(reader.u64()?);
    reader.end()?;
    Ok(epoch)
}

/// The range of all notes of a branch, with its bound.
pub(crate) fn notes_range(branch: BranchId) -> (Vec<u8>, Vec<u8>) {
    let from = bound_key(branch);
    let to = prefix_end(from.get(..9).unwrap_or_default());
    (from, to)
}
