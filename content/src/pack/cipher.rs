//! What encrypts a pack: each frame is an envelope, and so is the index. With a frame its place and its entry in the index are
//! authenticated, with the index the trailer.
//!
//! A frame is bound to its place in *a* pack by this, and to its very pack by what the index of that, which nobody without the key
//! can make, says about it: its checksum, and the keyed hashes that its chunks must have.

use super::{FrameEntry, PackError, PackIndex};
use crate::checksum::crc32c;
use crate::sealing::{Failed, Keys, Purpose, SALT_BYTES, TAG_BYTES};

const FRAME_LABEL: &[u8; 16] = b"cairn pack frame";
const INDEX_LABEL: &[u8; 16] = b"cairn pack index";

/// Encrypts the frames of a pack where they are, and notes the checksums of what is stored then.
pub(super) fn seal_frames(keys: &Keys, pack: &mut [u8], index: &mut PackIndex) -> Result<(), PackError> {
    let chunks = &index.chunks;
    for frame in &mut index.frames {
        let start = frame.offset as usize;
        let envelope = &mut pack[start..start + frame.stored as usize];
        // The identities of the chunks are a hash of the frame already; the checksum tells how they were encoded.
        let mut digest = blake3::Hasher::new();
        let first = frame.first_chunk as usize;
        for chunk in &chunks[first..first + frame.chunks as usize] {
            digest.update(&chunk.id.0);
        }
        let encoded = &envelope[SALT_BYTES..envelope.len() - TAG_BYTES];
        digest.update(&crc32c(encoded).to_le_bytes());
        let digest = *digest.finalize().as_bytes();
        keys.seal(Purpose::Frame, envelope, &about_frame(frame), &digest)
            .map_err(|Failed| PackError::Cipher)?;
        frame.checksum = crc32c(envelope);
    }
    Ok(())
}

/// Verifies and decrypts a frame.
pub(super) fn open_frame(
    keys: &Keys,
    frame: &FrameEntry,
    stored: &[u8],
    opened: &mut Vec<u8>,
) -> Result<(), PackError> {
    keys.open(Purpose::Frame, stored, &about_frame(frame), opened)
        .map_err(|Failed| PackError::Key {
            what: "frame",
            offset: frame.offset.into(),
        })
}

/// Encrypts an index: the envelope. `trailer` is the trailer behind it, from its byte 4 on.
pub(super) fn seal_index(keys: &Keys, entries: &[u8], trailer: &[u8]) -> Result<Vec<u8>, PackError> {
    let mut envelope = Vec::with_capacity(SALT_BYTES + entries.len() + TAG_BYTES);
    envelope.resize(SALT_BYTES, 0);
    envelope.extend_from_slice(entries);
    envelope.resize(SALT_BYTES + entries.len() + TAG_BYTES, 0);
    let digest = *blake3::hash(entries).as_bytes();
    keys.seal(Purpose::Index, &mut envelope, &about_index(trailer), &digest)
        .map_err(|Failed| PackError::Cipher)?;
    Ok(envelope)
}

/// Verifies and decrypts the index at `offset`.
pub(super) fn open_index(
    keys: &Keys,
    envelope: &[u8],
    trailer: &[u8],
    offset: u64,
) -> Result<Vec<u8>, PackError> {
    let mut entries = Vec::new();
    keys.open(Purpose::Index, envelope, &about_index(trailer), &mut entries)
        .map_err(|Failed| PackError::Key {
            what: "index",
            offset,
        })?;
    Ok(entries)
}

fn about_frame(frame: &FrameEntry) -> [u8; 29] {
    let mut about = [0; 29];
    about[..16].copy_from_slice(FRAME_LABEL);
    about[16..20].copy_from_slice(&frame.offset.to_le_bytes());
    about[20..24].copy_from_slice(&frame.stored.to_le_bytes());
    about[24..28].copy_from_slice(&frame.length.to_le_bytes());
    about[28] = frame.encoding as u8;
    about
}

fn about_index(trailer: &[u8]) -> Vec<u8> {
    [&INDEX_LABEL[..], trailer].concat()
}
