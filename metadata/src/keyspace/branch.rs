//! Branches, their usage, and the orphans that wait for the sweep.
//!
//! Branch (`B`, branch u64): layout u8 (1), volume u64, current epoch u64, depth u32, parent flag u8, then, if the flag is 1,
//! the parent branch u64 and the epoch at which this branch left it u64.
//! Usage (`U`, branch u64): inodes u64, bytes u64.
//! Orphan (`O`, branch u64, inode u64): empty.

use cairn_types::{BranchId, Epoch, InodeId, VolumeId};

use super::codec::{DecodeError, Reader, Writer};

/// A point in a branch's life: what a snapshot is, and what a fork starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// The branch.
    pub branch: BranchId,
    /// The state at the end of this epoch.
    pub epoch: Epoch,
}

/// A branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BranchRecord {
    /// The volume that it belongs, or belonged, to.
    pub volume: VolumeId,
    /// Changes happen in this epoch; all earlier ones are fixed.
    pub epoch: Epoch,
    /// Branches that it descends from.
    pub depth: u32,
    /// What it started from; `None` for a branch that started empty.
    pub parent: Option<Point>,
}

/// What a branch's live tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Inodes, the root included.
    pub inodes: u64,
    /// Sum of the sizes of its regular files.
    pub bytes: u64,
}

pub(crate) fn branch_key(branch: BranchId) -> Vec<u8> {
    key(b'B', branch)
}

pub(crate) fn usage_key(branch: BranchId) -> Vec<u8> {
    key(b'U', branch)
}

pub(crate) fn orphan_key(branch: BranchId, inode: InodeId) -> Vec<u8> {
    let mut key = key(b'O', branch);
    key.extend_from_slice(&inode.0.to_be_bytes());
    key
}

/// The branch and inode of an orphan's key.
pub(crate) fn decode_orphan_key(key: &[u8]) -> Result<(BranchId, InodeId), DecodeError> {
    let mut reader = Reader::new("orphan key", key);
    reader.take(1)?;
    let branch = BranchId(u64::from_be_bytes(reader.array()?));
    let inode = InodeId(u64::from_be_bytes(reader.array()?));
    reader.end()?;
    Ok((branch, inode))
}

/// The branch of a branch's key.
pub(crate) fn decode_branch_key(key: &[u8]) -> Result<BranchId, DecodeError> {
    let mut reader = Reader::new("branch key", key);
    reader.take(1)?;
    let branch = BranchId(u64::from_be_bytes(reader.array()?));
    reader.end()?;
    Ok(branch)
}

fn key(family: u8, branch: BranchId) -> Vec<u8> {
    let mut key = vec![family];
    key.extend_from_slice(&branch.0.to_be_bytes());
    key
}

impl BranchRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(38);
        writer.u8(1);
        writer.u64(self.volume.0);
        writer.u64(self.epoch.0);
        writer.u32(self.depth);
        writer.u8(u8::from(self.parent.is_some()));
        if let Some(point) = self.parent {
            writer.u64(point.branch.0);
            writer.u64(point.epoch.0);
        }
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("branch", bytes);
        let error = reader.error();
        if reader.u8()? != 1 {
            return Err(error);
        }
        let volume = VolumeId(reader.u64()?);
        let epoch = Epoch(reader.u64()?);
        let depth = reader.u32()?;
        let parent = if reader.flag()? {
            Some(Point {
                branch: BranchId(reader.u64()?),
                epoch: Epoch(reader.u64()?),
            })
        } else {
            None
        };
        reader.end()?;
        Ok(BranchRecord {
            volume,
            epoch,
            depth,
            parent,
        })
    }
}

impl Usage {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(16);
        writer.u64(self.inodes);
        writer.u64(self.bytes);
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("usage", bytes);
        let usage = Usage {
            inodes: reader.u64()?,
            bytes: reader.u64()?,
        };
        reader.end()?;
        Ok(usage)
    }
}
