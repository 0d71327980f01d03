//! Directory entries, found by name and listed by cookie.
//!
//! By name (`d`, name, NUL): inode u64, kind u8, cookie u64; 17 bytes.
//! By cookie (`c`, cookie u64): inode u64, kind u8, then the name.
//!
//! Cookies of a directory are given out in ascending order and never again, so that a listing can go on after any of them
//! whatever came and went meanwhile. 1 and 2 are `.` and `..`, which are not stored.

use cairn_types::{FileKind, InodeId};

use super::codec::{DecodeError, Reader, Writer};
use super::inode::{kind_code, kind_of};
use super::{ObjectKind, body};

/// The first cookie of a stored entry.
pub const FIRST_COOKIE: u64 = 3;

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirentRecord {
    /// The name: 1 to 255 bytes.
    pub name: Vec<u8>,
    /// What it names.
    pub inode: InodeId,
    /// The type of that.
    pub kind: FileKind,
    /// Its place in listings.
    pub cookie: u64,
}

pub(crate) fn name_body(directory: InodeId, name: &[u8]) -> Vec<u8> {
    let mut key = body(directory, ObjectKind::EntryByName);
    key.extend_from_slice(name);
    key.push(0);
    key
}

pub(crate) fn cookie_body(directory: InodeId, cookie: u64) -> Vec<u8> {
    let mut key = body(directory, ObjectKind::EntryByCookie);
    key.extend_from_slice(&cookie.to_be_bytes());
    key
}

/// Bytes of a body before the name or cookie.
const BODY_PREFIX: usize = 9;

impl DirentRecord {
    pub(crate) fn encode_by_name(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(17);
        writer.u64(self.inode.0);
        writer.u8(kind_code(self.kind));
        writer.u64(self.cookie);
        writer.finish()
    }

    pub(crate) fn encode_by_cookie(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(9 + self.name.len());
        writer.u64(self.inode.0);
        writer.u8(kind_code(self.kind));
        writer.bytes(&self.name);
        writer.finish()
    }

    /// `key` is the body under which the value was found.
    pub(crate) fn decode_by_name(key: &[u8], value: &[u8]) -> Result<Self, DecodeError> {
        let mut name = Reader::new("directory entry key", key);
        name.take(BODY_PREFIX)?;
        let error = name.error();
        let (terminator, name) = name.rest().split_last().ok_or(error)?;
        if *terminator != 0 || name.is_empty() {
            return Err(error);
        }
        let mut reader = Reader::new("directory entry", value);
        let inode = InodeId(reader.u64()?);
        let error = reader.error();
        let kind = kind_of(reader.u8()?).ok_or(error)?;
        let cookie = reader.u64()?;
        reader.end()?;
        Ok(DirentRecord {
            name: name.to_vec(),
            inode,
            kind,
            cookie,
        })
    }

    /// `key` is the body under which the value was found.
    pub(crate) fn decode_by_cookie(key: &[u8], value: &[u8]) -> Result<Self, DecodeError> {
        let mut cookie = Reader::new("directory cookie key", key);
        cookie.take(BODY_PREFIX)?;
        let number = u64::from_be_bytes(cookie.array()?);
        cookie.end()?;
        let mut reader = Reader::new("directory cookie", value);
        let inode = InodeId(reader.u64()?);
        let error = reader.error();
        let kind = kind_of(reader.u8()?).ok_or(error)?;
        let name = reader.rest().to_vec();
        if name.is_empty() {
            return Err(reader.error());
        }
        Ok(DirentRecord {
            name,
            inode,
            kind,
            cookie: number,
        })
    }
}
