//! The persistent vocabulary: every key and every value that metadata consists of, one file per kind.
//!
//! A key starts with one byte that tells its family. Integers in keys are big-endian, so that they sort; integers in values
//! are little-endian.
//!
//! | first byte | family | rest of the key | module |
//! | --- | --- | --- | --- |
//! | `F` | format version, log checkpoint, id counters | one byte naming the cell | [`cell`] |
//! | `V` | volume | volume u64 | [`volume`] |
//! | `N` | name of a volume | the name | [`volume`] |
//! | `B` | branch | branch u64 | [`branch`] |
//! | `U` | usage of a branch | branch u64 | [`branch`] |
//! | `S` | snapshot | volume u64, sequence u64 | [`snapshot`] |
//! | `I` | snapshot by id | id, 16 bytes | [`snapshot`] |
//! | `K` | idempotency key of a snapshot | volume u64, the key | [`snapshot`] |
//! | `O` | orphan: a removed inode whose extents wait for the sweep | branch u64, inode u64 | [`branch`] |
//! | `D` | change note | branch u64, epoch u64, inode u64 | [`note`] |
//! | `P` | import that is not finished | name of the workspace | [`import`] |
//! | `Q` | directory of an import whose parent has a higher number | branch u64, inode u64 | [`import`] |
//! | `L` | ledger of keyed requests: `e` entry, `g` generation | that byte, then a key or the name of a cluster | [`ledger`] |
//! | `R` | reply record | second u64, key of the request, 16 bytes | [`reply`] |
//! | `H` | object, newest version | branch u64, *body* | this module |
//! | `h` | object, an older version | branch u64, *body*, last epoch u64 | this module |
//!
//! The body of an object is inode u64, then one byte for what it is, then what names it within the inode:
//!
//! | byte | object | rest | module |
//! | --- | --- | --- | --- |
//! | `a` | attributes | none | [`inode`] |
//! | `c` | directory entry by cookie | cookie u64 | [`dirent`] |
//! | `d` | directory entry by name | name, NUL | [`dirent`] |
//! | `e` | extent | offset one past its last byte, u64 | [`extent`] |
//! | `i` | the data of a small file | none | [`inode`] |
//! | `l` | target of a symbolic link | none | [`inode`] |
//!
//! No body is a prefix of another (a name ends with the one byte that it cannot contain), so that a body followed by an
//! epoch sorts with its own kind.
//!
//! An object's value is a *version*: flag u8 (0 removed, 1 present), epoch of birth u64, then the object's own bytes.

use cairn_types::{BranchId, Epoch, InodeId};

pub mod branch;
pub mod cell;
pub mod codec;
pub mod dirent;
pub mod extent;
pub mod import;
pub mod inode;
pub mod ledger;
pub mod note;
pub mod reply;
pub mod snapshot;
pub mod volume;

#[cfg(test)]
mod tests;

use codec::{DecodeError, Reader, Writer};

/// What an object is within its inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ObjectKind {
    Attributes = b'a',
    EntryByCookie = b'c',
    EntryByName = b'd',
    Extent = b'e',
    InlineData = b'i',
    LinkTarget = b'l',
}

/// The start of an object's body.
pub(crate) fn body(inode: InodeId, kind: ObjectKind) -> Vec<u8> {
    let mut body = Vec::with_capacity(32);
    body.extend_from_slice(&inode.0.to_be_bytes());
    body.push(kind as u8);
    body
}

/// Key of the newest version of an object.
pub(crate) fn head_key(branch: BranchId, body: &[u8]) -> Vec<u8> {
    object_key(b'H', branch, body)
}

/// Key of the version of an object that was valid until `last`, included.
pub(crate) fn history_key(branch: BranchId, body: &[u8], last: Epoch) -> Vec<u8> {
    let mut key = object_key(b'h', branch, body);
    key.extend_from_slice(&last.0.to_be_bytes());
    key
}

/// Start of all keys of old versions of the branch's objects from `body` on.
pub(crate) fn history_prefix(branch: BranchId, body: &[u8]) -> Vec<u8> {
    object_key(b'h', branch, body)
}

fn object_key(family: u8, branch: BranchId, body: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(body.len() + 17);
    key.push(family);
    key.extend_from_slice(&branch.0.to_be_bytes());
    key.extend_from_slice(body);
    key
}

/// Bytes of a head key before the body.
pub(crate) const HEAD_KEY_PREFIX: usize = 9;

/// The first key that does not start with `prefix`. `prefix` must not consist of 0xff bytes only.
pub(crate) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            break;
        }
    }
    end
}

/// One version of an object, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version<'a> {
    /// The epoch in which it came to be.
    pub birth: Epoch,
    /// Its bytes; `None` if the object was removed in that epoch.
    pub value: Option<&'a [u8]>,
}

impl<'a> Version<'a> {
    /// Bytes before the object's own.
    pub const HEADER_BYTES: usize = 9;

    pub fn encode(&self) -> Vec<u8> {
        let value = self.value.unwrap_or_default();
        let mut writer = Writer::with_capacity(Self::HEADER_BYTES + value.len());
        writer.u8(u8::from(self.value.is_some()));
        writer.u64(self.birth.0);
        writer.bytes(value);
        writer.finish()
    }

    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("version", bytes);
        let present = reader.flag()?;
        let birth = Epoch(reader.u64()?);
        let rest = reader.rest();
        if !present && !rest.is_empty() {
            return Err(DecodeError {
                what: "version",
                offset: Self::HEADER_BYTES,
            });
        }
        Ok(Version {
            birth,
            value: present.then_some(rest),
        })
    }
}
