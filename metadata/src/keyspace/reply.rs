//! Replies recorded with changes, to answer a retransmission after a restart.
//!
//! Key: `R`, seconds since 1970 u64 big-endian (so that old ones are one range), the request's key, 16 bytes. Value: the body.

use super::codec::{DecodeError, Reader};

pub(crate) fn reply_key(seconds: u64, request: &[u8; 16]) -> Vec<u8> {
    let mut key = reply_range_start(seconds);
    key.extend_from_slice(request);
    key
}

/// The first key that a reply of that second or later can have.
pub(crate) fn reply_range_start(seconds: u64) -> Vec<u8> {
    let mut key = vec![b'R'];
    key.extend_from_slice(&seconds.to_be_bytes());
    key
}

/// The request's key in a reply's key.
pub(crate) fn decode_reply_key(key: &[u8]) -> Result<[u8; 16], DecodeError> {
    let mut reader = Reader::new("reply key", key);
    reader.take(9)?;
    let request = reader.array()?;
    reader.end()?;
    Ok(request)
}
