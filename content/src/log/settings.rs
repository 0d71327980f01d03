//! The log's settings and the bounds of everything that it holds or queues.

use super::error::LogError;
use super::format::{SEGMENT_HEADER_BYTES, record_bytes};

/// Largest payload of one record in bytes.
pub const RECORD_PAYLOAD_BYTES_MAX: u32 = 4 << 20;
/// Largest context of one record in bytes.
pub const RECORD_CONTEXT_BYTES_MAX: usize = 128;
/// Largest segment in bytes.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Most appends that have a place in the log and are not yet written; more wait.
pub const APPENDS_IN_FLIGHT_MAX: usize = 1024;
/// Most segments that hold bytes which no sync has reached; the append that would need one more syncs first.
pub const UNSYNCED_SEGMENTS_MAX: usize = 16;
/// Most segment files that may be kept open for reading.
pub const OPEN_SEGMENTS_MAX: usize = 65_536;

/// What can be set about a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Bytes of each new segment file, preallocated. Default 64 MiB; at least what one record of the largest payload
    /// needs, at most [`SEGMENT_BYTES_MAX`]. Segments that exist keep the size they were made with.
    pub segment_bytes: u64,
    /// Largest payload that an append takes, in bytes. Default and most [`RECORD_PAYLOAD_BYTES_MAX`].
    pub payload_bytes_max: u32,
    /// Segment files kept open for reading. Default 256; 1 to [`OPEN_SEGMENTS_MAX`].
    pub open_segments_max: usize,
}

impl Default for LogSettings {
    fn default() -> Self {
        LogSettings {
            segment_bytes: 64 << 20,
            payload_bytes_max: RECORD_PAYLOAD_BYTES_MAX,
            open_segments_max: 256,
        }
    }
}

impl LogSettings {
    /// Checks the bounds that the fields name.
    pub(super) fn check(&self) -> Result<(), LogError> {
        let out_of_bounds = |what, found, minimum, maximum| {
            let fits = (minimum..=maximum).contains(&found);
            if fits {
                Ok(())
            } else {
                Err(LogError::Setting {
                    what,
                    found,
                    minimum,
                    maximum,
                })
            }
        };
        let payload_bytes_max = u64::from(self.payload_bytes_max);
        out_of_bounds(
            "payload_bytes_max",
            payload_bytes_max,
            1,
            RECORD_PAYLOAD_BYTES_MAX.into(),
        )?;
        let segment_bytes_min =
            SEGMENT_HEADER_BYTES + record_bytes(RECORD_CONTEXT_BYTES_MAX, self.payload_bytes_max);
        out_of_bounds(
            "segment_bytes",
            self.segment_bytes,
            segment_bytes_min,
            SEGMENT_BYTES_MAX,
        )?;
        out_of_bounds(
            "open_segments_max",
            self.open_segments_max as u64,
            1,
            OPEN_SEGMENTS_MAX as u64,
        )
    }
}
