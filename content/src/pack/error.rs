//! What can be wrong with a pack.

use std::io;

use cairn_types::{ChunkId, ErrorKind};

use super::PACK_VERSION;
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
        "the pack has version {found} and this Cairn knows versions to {PACK_VERSION}: use the Cairn that wrote it, or a later one"
    )]
    Version {
        /// The pack's version.
        found: u32,
    },
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
    /// The compressor failed.
    #[error("compressing a frame failed")]
    Compress(#[source] io::Error),
}

impl PackError {
    /// What can be done about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            PackError::NotAPack { .. }
            | PackError::Index { .. }
            | PackError::Checksum { .. }
            | PackError::Short { .. }
            | PackError::Decode { .. }
            | PackError::Chunk { .. } => ErrorKind::Corrupt,
            PackError::Version { .. } | PackError::Limit { .. } => ErrorKind::Invalid,
            PackError::Compress(_) => ErrorKind::Internal,
        }
    }
}
