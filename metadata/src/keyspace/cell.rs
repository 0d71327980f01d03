//! Single values: format version, log checkpoint, id counters.
//!
//! | key | value |
//! | --- | --- |
//! | `F` `v` | format version, u32 |
//! | `F` `c` | log checkpoint, u64: every record of the hot log that ends at or before this position is in the metadata |
//! | `F` `n` | next volume id u64, next branch id u64 |

use cairn_types::LogPosition;

use super::codec::{DecodeError, Reader};

/// The format that this code reads and writes.
pub const FORMAT_VERSION: u32 = 3;

pub(crate) const FORMAT_KEY: &[u8] = b"Fv";
pub(crate) const CHECKPOINT_KEY: &[u8] = b"Fc";
pub(crate) const NEXT_IDS_KEY: &[u8] = b"Fn";

pub(crate) fn decode_format(bytes: &[u8]) -> Result<u32, DecodeError> {
    let mut reader = Reader::new("format version", bytes);
    let error = reader.error();
    let version = reader.u32()?;
    reader.end()?;
    // There never was a format 0.
    if version == 0 { Err(error) } else { Ok(version) }
}

pub(crate) fn decode_checkpoint(bytes: &[u8]) -> Result<LogPosition, DecodeError> {
    let mut reader = Reader::new("log checkpoint", bytes);
    let position = LogPosition(reader.u64()?);
    reader.end()?;
    Ok(position)
}

/// The ids that the next volume and the next branch get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NextIds {
    pub volume: u64,
    pub branch: u64,
}

impl NextIds {
    pub const FIRST: NextIds = NextIds { volume: 1, branch: 1 };

    pub fn encode(&self) -> Vec<u8> {
        [self.volume.to_le_bytes(), self.branch.to_le_bytes()].concat()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("id counters", bytes);
        let ids = NextIds {
            volume: reader.u64()?,
            branch: reader.u64()?,
        };
        reader.end()?;
        Ok(ids)
    }
}
