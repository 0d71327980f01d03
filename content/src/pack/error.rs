//! What can be wrong with a pack.

use std::io;

use cairn_types::{ChunkId, ErrorKind};

use super::PACK_VERSION_ENCRYPTED;
use crate::codec::DecodeError;

/// Why a pack cannot be written or read. Places are offsets in bytes from the beginning of the pack.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The bytes are no pack, or its end is missing.
    #[error("no pack ends here: {what}")]
    NotAPack {
        /// What shows it.
        what: &'static str,
    },
    /// A later Cairn wrote it.
    #[error(
        "the pack has version {found} and this Cairn knows versions to {PACK_VERSION_ENCRYPTED}: use the Cairn that wrote it, or a later one"
    )]
    Version {
        /// The pack's version.
        found: u32,
    },
    /// The pack is encrypted, and there is no key.
    #[error("the pack is encrypted and there is no key: give the key file of the store")]
    Encrypted,
    /// There is a key, and the pack is not encrypted.
    #[error("the pack is not encrypted, as everything in its store is: somebody else put it there")]
    NotEncrypted,
    /// The index, or a frame, is what was written, but not with this key for this place.
    #[error(
        "the {what} at {offset} was encrypted with another key, for another place, or by somebody without a key"
    )]
    Key {
        /// Index or frame.
        what: &'static str,
        /// Where it begins.
        offset: u64,
    },
    /// The whole pack is not the one that its name says.
    #[error(
        "the pack is not the one that its name says: its bytes were changed, or another pack is in its place"
    )]
    Name,
    /// The index is not what was written.
    #[error("the pack's index at {offset} is damaged: {what}")]
    Index {
        /// Where the index begins.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A frame's stored bytes are not what was written.
    #[error("the frame at {offset} is damaged: its checksum is {found:08x} and should be {expected:08x}")]
    Checksum {
        /// Where the frame begins.
        offset: u32,
        /// What the index says.
        expected: u32,
        /// What the bytes have.
        found: u32,
    },
    /// A frame came with another number of bytes than it has.
    #[error("{found} bytes were read of the frame at {offset}, which has {expected}")]
    Short {
        /// Where the frame begins.
        offset: u32,
        /// What the index says.
        expected: u32,
        /// What came.
        found: usize,
    },
    /// A frame cannot be decoded, though its stored bytes are what was written.
    #[error("the frame at {offset} cannot be decoded")]
    Decode {
        /// Where the frame begins.
        offset: u32,
        /// Why.
        #[source]
        cause: DecodeError,
    },
    /// A chunk is not what its identity says.
    #[error("chunk {id} in the frame at {offset} has other bytes than it should")]
    Chunk {
        /// Where the frame begins.
        offset: u32,
        /// The chunk.
        id: ChunkId,
    },
    /// What is to be written is too much or too little.
    #[error("a {what} has {found} and must have {minimum} to {maximum}")]
    Limit {
        /// Of what, in which unit.
        what: &'static str,
        /// What there is.
        found: u64,
        /// The least.
        minimum: u64,
        /// The most.
        maximum: u64,
    },
    /// The cipher failed.
    #[error("a pack cannot be encrypted: this is a fault of Cairn, please report it")]
    Cipher,
    /// The compressor failed.
    #[error("compressing a frame failed")]
    Compress(#[source] io::Error),
}

impl PackError {
    /// What can be done about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            PackError::NotAPack { .. }
            | PackError::NotEncrypted
            | PackError::Key { .. }
            | PackError::Name
            | PackError::Index { .. }
            | PackError::Checksum { .. }
            | PackError::Short { .. }
            | PackError::Decode { .. }
            | PackError::Chunk { .. } => ErrorKind::Corrupt,
            PackError::Version { .. } | PackError::Limit { .. } => ErrorKind::Invalid,
            PackError::Encrypted => ErrorKind::Denied,
            PackError::Cipher | PackError::Compress(_) => ErrorKind::Internal,
        }
    }
}
