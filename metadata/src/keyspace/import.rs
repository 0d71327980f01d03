//! Imports: trees that are being brought in from elsewhere, each into a branch that nobody sees until it is complete.
//!
//! Import (`P`, the name of the workspace that it is for): layout u8 (1), identity of what is imported 32 bytes, branch u64, same
//! origin flag u8, secret 16 bytes, time of its beginning i64 and u32, time of its last progress i64 and u32, last complete
//! inode u64 (0: none), then of the inodes up to that one: how many u64, bytes of regular files u64, sum over their links u128, sum
//! over their entries u128.
//! Upward directory (`Q`, branch u64, inode u64): empty. A directory whose parent has a higher number, in an import's branch.

use cairn_types::{BranchId, InodeId, Timestamp, WorkspaceName};

use super::branch::Usage;
use super::codec::{DecodeError, Reader, Writer};

/// How far an import has come. The module's documentation draws the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportRecord {
    /// Names what is imported: an import of something else does not go on with this one.
    pub identity: [u8; 32],
    /// What is built.
    pub branch: BranchId,
    /// Whether the inodes keep their generations.
    pub same_origin: bool,
    /// Random bytes drawn for this import: what is derived of them, an import that goes on derives as before.
    pub secret: [u8; 16],
    /// When it began.
    pub started: Timestamp,
    /// When this record was written.
    pub progressed: Timestamp,
    /// All objects of the inodes up to this one are there; 0: of none.
    pub last: InodeId,
    /// What these inodes come to.
    pub usage: Usage,
    /// Sum over the links that these inodes say they have.
    pub links_sum: u128,
    /// Sum over the entries that these inodes, as directories, have.
    pub entries_sum: u128,
}

pub(crate) const IMPORTS: u8 = b'P';

pub(crate) fn import_key(name: &WorkspaceName) -> Vec<u8> {
    let mut key = vec![IMPORTS];
    key.extend_from_slice(name.as_str().as_bytes());
    key
}

/// The name in an import's key.
pub(crate) fn decode_import_key(key: &[u8]) -> Result<WorkspaceName, DecodeError> {
    let mut reader = Reader::new("import key", key);
    reader.take(1)?;
    let error = reader.error();
    let text = std::str::from_utf8(reader.rest()).map_err(|_| error)?;
    WorkspaceName::new(text).map_err(|_| error)
}

pub(crate) fn upward_key(branch: BranchId, inode: InodeId) -> Vec<u8> {
    let mut key = Vec::with_capacity(17);
    key.push(b'Q');
    key.extend_from_slice(&branch.0.to_be_bytes());
    key.extend_from_slice(&inode.0.to_be_bytes());
    key
}

/// The inode of an upward directory's key.
pub(crate) fn decode_upward_key(key: &[u8]) -> Result<InodeId, DecodeError> {
    let mut reader = Reader::new("upward directory key", key);
    reader.take(9)?;
    let inode = InodeId(u64::from_be_bytes(reader.array()?));
    reader.end()?;
    Ok(inode)
}

impl ImportRecord {
    const BYTES: usize = 138;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(Self::BYTES);
        writer.u8(1);
        writer.bytes(&self.identity);
        writer.u64(self.branch.0);
        writer.u8(u8::from(self.same_origin));
        writer.bytes(&self.secret);
        writer.time(self.started);
        writer.time(self.progressed);
        writer.u64(self.last.0);
        writer.u64(self.usage.inodes);
        writer.u64(self.usage.bytes);
        writer.bytes(&self.links_sum.to_le_bytes());
        writer.bytes(&self.entries_sum.to_le_bytes());
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("import", bytes);
        let error = reader.error();
        if reader.u8()? != 1 {
            return Err(error);
        }
        let record = ImportRecord {
            identity: reader.array()?,
            branch: BranchId(reader.u64()?),
            same_origin: reader.flag()?,
            secret: reader.array()?,
            started: reader.time()?,
            progressed: reader.time()?,
            last: InodeId(reader.u64()?),
            usage: Usage {
                inodes: reader.u64()?,
                bytes: reader.u64()?,
            },
            links_sum: u128::from_le_bytes(reader.array()?),
            entries_sum: u128::from_le_bytes(reader.array()?),
        };
        reader.end()?;
        Ok(record)
    }
}
