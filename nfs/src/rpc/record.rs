//! Record marking (RFC 5531 section 11): how messages are cut out of a TCP byte stream.
//!
//! A record is one or more fragments; each begins with a 4-byte marker, big-endian: bit 31 says that it is the
//! record's last fragment, the other 31 bits are the number of bytes that follow.

/// Bytes of a marker.
pub(crate) const MARKER_BYTES: usize = 4;

/// Most fragments of one record, those without a byte among them. A megabyte in fragments of 4,000 bytes, the smallest
/// that common RPC libraries send, has 263.
pub(crate) const FRAGMENTS_MAX: usize = 1024;

/// What a record may hold beyond the largest WRITE payload: RPC header, credential, arguments.
pub(crate) const RECORD_OVERHEAD_BYTES: usize = 64 * 1024;

const LAST: u32 = 1 << 31;

/// A decoded marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker {
    /// Whether the fragment ends its record.
    pub(crate) last: bool,
    /// Bytes of the fragment.
    pub(crate) length: usize,
}

impl Marker {
    #[inline]
    pub(crate) fn decode(bytes: [u8; MARKER_BYTES]) -> Self {
        let word = u32::from_be_bytes(bytes);
        Marker {
            last: word & LAST != 0,
            length: (word & !LAST) as usize,
        }
    }

    /// The marker of a record in one fragment. Replies are at most a megabyte and a little, far below 2^31.
    #[inline]
    pub(crate) fn whole(length: usize) -> [u8; MARKER_BYTES] {
        (length as u32 | LAST).to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::Marker;

    #[test]
    fn golden_bytes() {
        assert_eq!(Marker::whole(40), [0x80, 0, 0, 40]);
        assert_eq!(
            Marker::decode([0x80, 0, 0, 40]),
            Marker {
                last: true,
                length: 40
            }
        );
        assert_eq!(
            Marker::decode([0x7f, 0xff, 0xff, 0xff]),
            Marker {
                last: false,
                length: 0x7fff_ffff
            }
        );
    }
}
