//! Why the log failed, with the place and the values that a person needs to act on it.

use std::fmt;
use std::io;
use std::sync::Arc;

use cairn_types::{ErrorKind, LogPosition, SegmentId};

/// What is wrong with the bytes where a record was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordFault {
    /// All zeros, or the end of the file: nothing was ever written here.
    Empty,
    /// The header's magic number, lengths or checksum are not those of a record of this log at this place.
    Header,
    /// The record reaches beyond the end of its segment.
    Truncated,
    /// The record is sound but not the next one.
    Sequence {
        /// The sequence number that comes next.
        expected: u64,
        /// The one in the record.
        found: u64,
    },
    /// A block of the payload fails its checksum.
    Payload {
        /// Byte offset of the block in the segment file.
        offset: u64,
        /// The checksum in the record's table.
        expected: u32,
        /// The checksum of the bytes.
        found: u32,
    },
}

impl fmt::Display for RecordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordFault::Empty => f.write_str("no record"),
            RecordFault::Header => f.write_str("no valid record header"),
            RecordFault::Truncated => f.write_str("a record that the segment's end cuts off"),
            RecordFault::Sequence { expected, found } => write!(f, "record {found} where {expected} must be"),
            RecordFault::Payload {
                offset,
                expected,
                found,
            } => {
                write!(
                    f,
                    "payload block at offset {offset} has checksum {found:08x}, expected {expected:08x}"
                )
            }
        }
    }
}

/// Why an operation of the log failed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A setting is out of its bounds.
    #[error("log setting {what} is {found}: it must be {minimum} to {maximum}")]
    Setting {
        /// The setting.
        what: &'static str,
        /// Its value.
        found: u64,
        /// The least that is allowed.
        minimum: u64,
        /// The most that is allowed.
        maximum: u64,
    },
    /// An argument that can never be right. Nothing was written.
    #[error("{what} of {found} bytes: it must have {minimum} to {maximum}")]
    Length {
        /// `payload`, `context` or `slice`.
        what: &'static str,
        /// Bytes given.
        found: u64,
        /// The fewest that are allowed.
        minimum: u64,
        /// The most that are allowed.
        maximum: u64,
    },
    /// Another process, or another `Log` of this one, has the log open.
    #[error("the log in {directory} is in use by another process")]
    Locked {
        /// The log's directory.
        directory: String,
    },
    /// The disk has no room for the bytes. Nothing was written; reads go on, and appends succeed again when there is
    /// room.
    #[error("no space left for the log")]
    NoSpace(#[source] io::Error),
    /// A write or a sync failed earlier: what reached the disk is unknown, so every append and sync fails from then
    /// on. Reads go on. Opening the log again finds out what is on the disk.
    #[error("the log stopped: {cause}")]
    Poisoned {
        /// What failed.
        cause: Arc<str>,
    },
    /// The file system refused an operation.
    #[error("cannot {operation}")]
    Io {
        /// What was tried, with the segment it was tried on.
        operation: String,
        /// The file system's answer.
        #[source]
        source: io::Error,
    },
    /// Bytes that were read are not those that were written.
    #[error(
        "segment {:016x} at offset {offset}: the block has checksum {found:08x}, expected {expected:08x}",
        segment.0
    )]
    Checksum {
        /// The segment.
        segment: SegmentId,
        /// Byte offset of the block in the segment file.
        offset: u64,
        /// The checksum that the bytes had when they were written.
        expected: u32,
        /// The checksum that they have now.
        found: u32,
    },
    /// A segment file ends before the bytes that it must hold.
    #[error(
        "segment {:016x} at offset {offset}: {found} bytes where {expected} must be",
        segment.0
    )]
    ShortSegment {
        /// The segment.
        segment: SegmentId,
        /// Byte offset of the first byte wanted.
        offset: u64,
        /// Bytes wanted.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// There is no file for the segment.
    #[error("segment {:016x} does not exist", segment.0)]
    NoSegment {
        /// The segment.
        segment: SegmentId,
    },
    /// A record that was durable is damaged. Nothing was cut or removed.
    #[error(
        "segment {:016x} at offset {offset}: {fault}, but the log is known to be durable up to position {}",
        segment.0, durable.0
    )]
    DamagedRecord {
        /// The segment.
        segment: SegmentId,
        /// Byte offset of the damage in the segment file.
        offset: u64,
        /// What is wrong.
        fault: RecordFault,
        /// The log is known to have been durable up to here, which is beyond the damage.
        durable: LogPosition,
    },
    /// A segment's header is damaged, and the segment is needed.
    #[error("segment {:016x}: the header is damaged: {reason}", segment.0)]
    DamagedHeader {
        /// The segment.
        segment: SegmentId,
        /// What is wrong.
        reason: &'static str,
    },
    /// Segments are missing.
    #[error(
        "the segment with the log's positions up to {} is missing; the oldest one that follows is {:016x}",
        previous_end.0, segment.0
    )]
    MissingSegment {
        /// The segment that follows the gap.
        segment: SegmentId,
        /// Where the missing segment's records end.
        previous_end: LogPosition,
    },
    /// The log ends before a position that is known to have been durable.
    #[error("the log ends at position {} but was durable up to {}", end.0, durable.0)]
    Shortened {
        /// The end of the last record that was found.
        end: LogPosition,
        /// What the caller, or the log itself, knows to have been durable.
        durable: LogPosition,
    },
    /// The position to replay from is not the end of a record.
    #[error("no record ends at log position {}", position.0)]
    NotABoundary {
        /// The position.
        position: LogPosition,
    },
    /// A segment of another log lies in the directory, or all of them are of another log than expected.
    #[error(
        "segment {:016x} belongs to log {:032x}, not to log {:032x}",
        segment.0, u128::from_be_bytes(*found), u128::from_be_bytes(*expected)
    )]
    Foreign {
        /// The segment.
        segment: SegmentId,
        /// The log that was opened.
        expected: [u8; 16],
        /// The log in the segment's header.
        found: [u8; 16],
    },
    /// A segment was written by a newer version.
    #[error("segment {:016x} has format version {found}; this version knows {supported} and older", segment.0)]
    Version {
        /// The segment.
        segment: SegmentId,
        /// The version in its header.
        found: u32,
        /// The newest version known here.
        supported: u32,
    },
    /// The segment cannot be removed: it is the newest, or not all of it is durable.
    #[error("segment {:016x} is in use: it is the newest one or not yet durable", segment.0)]
    SegmentInUse {
        /// The segment.
        segment: SegmentId,
    },
}

impl LogError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            LogError::Setting { .. } | LogError::Length { .. } | LogError::NotABoundary { .. } => {
                ErrorKind::Invalid
            }
            LogError::Locked { .. } | LogError::SegmentInUse { .. } | LogError::Foreign { .. } => {
                ErrorKind::Conflict
            }
            LogError::NoSpace(_) => ErrorKind::NoSpace,
            LogError::Poisoned { .. } | LogError::Io { .. } | LogError::Version { .. } => {
                ErrorKind::Unavailable
            }
            LogError::Checksum { .. }
            | LogError::ShortSegment { .. }
            | LogError::NoSegment { .. }
            | LogError::DamagedRecord { .. }
            | LogError::DamagedHeader { .. }
            | LogError::MissingSegment { .. }
            | LogError::Shortened { .. } => ErrorKind::Corrupt,
        }
    }

    /// An [`LogError::Io`], or [`LogError::NoSpace`] if that is what the file system says.
    pub(super) fn io(operation: String, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::StorageFull || source.kind() == io::ErrorKind::QuotaExceeded {
            LogError::NoSpace(source)
        } else {
            LogError::Io { operation, source }
        }
    }
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError<E: std::error::Error + 'static> {
    /// The log itself.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The visitor refused a record.
    #[error("the record that ends at log position {} could not be replayed", end.0)]
    Visit {
        /// The end of the record.
        end: LogPosition,
        /// The visitor's error.
        #[source]
        source: E,
    },
}
