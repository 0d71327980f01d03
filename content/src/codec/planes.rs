//! Elements of N bytes, split into N planes that are compressed each for itself.

use std::io;

use super::{DecodeError, Encoding, compress};

/// What a plane's length is preceded by.
const PLANE_RAW: u8 = 0;
const PLANE_ZSTD: u8 = 1;
/// Kind, and length of what follows.
const PLANE_HEAD_BYTES: usize = 5;

/// Appends the planes of `data` to `out`, and behind them the bytes that make no whole element.
pub(super) fn encode<const N: usize>(
    data: &[u8],
    compressor: &mut zstd::bulk::Compressor<'_>,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let (elements, rest) = data.as_chunks::<N>();
    scratch.resize(elements.len(), 0);
    for index in 0..N {
        for (to, element) in scratch.iter_mut().zip(elements) {
            *to = element[index];
        }
        let head = out.len();
        out.extend_from_slice(&[PLANE_ZSTD; PLANE_HEAD_BYTES]);
        let start = out.len();
        compress(compressor, scratch, out)?;
        if out.len() - start > scratch.len() - scratch.len() / 32 {
            out.truncate(start);
            out.extend_from_slice(scratch);
            out[head] = PLANE_RAW;
        }
        let length = u32::try_from(out.len() - start).map_err(io::Error::other)?;
        out[head + 1..start].copy_from_slice(&length.to_le_bytes());
    }
    out.extend_from_slice(rest);
    Ok(())
}

/// Puts the `length` bytes together again.
pub(super) fn decode<const N: usize>(
    encoding: Encoding,
    stored: &[u8],
    length: usize,
    zstd: &mut zstd::bulk::Decompressor<'_>,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let wrong = |what| DecodeError::Planes { encoding, what };
    out.resize(length, 0);
    let (elements, tail) = out.as_chunks_mut::<N>();
    scratch.resize(elements.len(), 0);
    let mut rest = stored;
    for index in 0..N {
        let (head, after) = rest
            .split_first_chunk::<PLANE_HEAD_BYTES>()
            .ok_or(wrong("a plane is missing"))?;
        let [kind, size @ ..] = *head;
        let (plane, after) = after
            .split_at_checked(u32::from_le_bytes(size) as usize)
            .ok_or(wrong("a plane is cut short"))?;
        let bytes = match kind {
            PLANE_RAW => plane,
            PLANE_ZSTD => {
                let found = zstd
                    .decompress_to_buffer(plane, scratch.as_mut_slice())
                    .map_err(|cause| DecodeError::Damaged { encoding, cause })?;
                &scratch[..found]
            }
            _ => return Err(wrong("a plane is of an unknown kind")),
        };
        if bytes.len() != elements.len() {
            return Err(wrong("a plane has another number of elements"));
        }
        for (element, byte) in elements.iter_mut().zip(bytes) {
            element[index] = *byte;
        }
        rest = after;
    }
    if rest.len() != tail.len() {
        return Err(wrong("what follows the planes has another length"));
    }
    tail.copy_from_slice(rest);
    Ok(())
}
