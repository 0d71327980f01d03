//! External Data Representation (RFC 4506): a bounded decoder over a byte slice, and the items that `BytesMut` lacks as
//! an encoder.
//!
//! The decoder never allocates: variable-length items come back as slices of the input, and every one of them has a
//! limit. A length that the input cannot hold is an error before anything is reserved for it. Pad bytes are skipped
//! without a look at their value, as other servers do.

use bytes::{BufMut, BytesMut};

/// Why bytes are not the item that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum XdrError {
    /// The input ends inside an item.
    #[error("{needed} bytes needed, {left} left")]
    Truncated {
        /// Bytes that the item takes.
        needed: usize,
        /// Bytes that are there.
        left: usize,
    },
    /// A variable-length item is longer than the protocol allows.
    #[error("item of {found} bytes, at most {limit} allowed")]
    TooLong {
        /// Length that was announced.
        found: u32,
        /// Most that is allowed.
        limit: usize,
    },
    /// A value that the enumeration or boolean does not have.
    #[error("no such value: {0}")]
    BadValue(u32),
    /// Bytes follow the last item.
    #[error("{0} bytes after the last item")]
    Trailing(usize),
}

/// Bytes of zero that follow `length` bytes of opaque data.
#[inline]
pub(crate) fn padding(length: usize) -> usize {
    length.wrapping_neg() & 3
}

/// Bytes that an opaque item of `length` bytes takes with its length word and padding.
#[inline]
pub(crate) fn opaque_bytes(length: usize) -> usize {
    4 + length + padding(length)
}

/// Reads items from the front of a slice.
#[derive(Debug, Clone)]
pub(crate) struct Decoder<'a> {
    input: &'a [u8],
}

impl<'a> Decoder<'a> {
    #[inline]
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Decoder { input }
    }

    /// What has not been read yet.
    #[inline]
    pub(crate) fn remaining(&self) -> &'a [u8] {
        self.input
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], XdrError> {
        let error = XdrError::Truncated {
            needed: length,
            left: self.input.len(),
        };
        let (taken, rest) = self.input.split_at_checked(length).ok_or(error)?;
        self.input = rest;
        Ok(taken)
    }

    /// Fixed-length opaque data whose length is a multiple of four.
    #[inline]
    pub(crate) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], XdrError> {
        let error = XdrError::Truncated {
            needed: N,
            left: self.input.len(),
        };
        let (taken, rest) = self.input.split_first_chunk::<N>().ok_or(error)?;
        self.input = rest;
        Ok(*taken)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, XdrError> {
        self.fixed().map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, XdrError> {
        self.fixed().map(u64::from_be_bytes)
    }

    #[inline]
    pub(crate) fn boolean(&mut self) -> Result<bool, XdrError> {
        match self.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(XdrError::BadValue(other)),
        }
    }

    /// Variable-length opaque data or a string of at most `limit` bytes.
    #[inline]
    pub(crate) fn opaque(&mut self, limit: usize) -> Result<&'a [u8], XdrError> {
        let length = self.u32()?;
        if length as usize > limit {
            return Err(XdrError::TooLong { found: length, limit });
        }
        let length = length as usize;
        let data = self.take(length)?;
        self.take(padding(length))?;
        Ok(data)
    }

    /// Checks that nothing is left.
    #[inline]
    pub(crate) fn finish(self) -> Result<(), XdrError> {
        match self.input.len() {
            0 => Ok(()),
            left => Err(XdrError::Trailing(left)),
        }
    }
}

/// The items that [`BufMut`] does not have by itself; its integers are big-endian already.
pub(crate) trait Encode {
    fn put_bool(&mut self, value: bool);

    /// Variable-length opaque data: length, bytes, padding.
    fn put_opaque(&mut self, data: &[u8]);
}

impl Encode for BytesMut {
    #[inline]
    fn put_bool(&mut self, value: bool) {
        self.put_u32(u32::from(value));
    }

    #[inline]
    fn put_opaque(&mut self, data: &[u8]) {
        self.put_u32(data.len() as u32);
        self.put_slice(data);
        self.put_bytes(0, padding(data.len()));
    }
}

/// Items of known sizes put together on the stack, to be appended in one piece: appending them one by one costs a check
/// and a call for each.
pub(crate) struct Block<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Block<N> {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Block {
            bytes: [0; N],
            length: 0,
        }
    }

    #[inline(always)]
    pub(crate) fn fixed<const M: usize>(&mut self, bytes: [u8; M]) {
        self.bytes[self.length..self.length + M].copy_from_slice(&bytes);
        self.length += M;
    }

    #[inline(always)]
    pub(crate) fn u32(&mut self, value: u32) {
        self.fixed(value.to_be_bytes());
    }

    #[inline(always)]
    pub(crate) fn u64(&mut self, value: u64) {
        self.fixed(value.to_be_bytes());
    }

    /// What has been put so far.
    #[inline(always)]
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::{any, proptest};

    use super::{Decoder, Encode, XdrError, opaque_bytes};

    #[test]
    fn opaque_data_is_padded_to_four() {
        let mut out = BytesMut::new();
        out.put_opaque(b"abcde");
        assert_eq!(&out[..], b"\0\0\0\x05abcde\0\0\0");
        assert_eq!(out.len(), opaque_bytes(5));
        let mut decoder = Decoder::new(&out);
        assert_eq!(decoder.opaque(5).unwrap(), b"abcde");
        assert_eq!(decoder.finish(), Ok(()));
    }

    #[test]
    fn lengths_are_limited_before_anything_is_taken() {
        let input = [0x40, 0, 0, 0, 1, 2, 3, 4];
        assert_eq!(
            Decoder::new(&input).opaque(255),
            Err(XdrError::TooLong {
                found: 1 << 30,
                limit: 255
            })
        );
        assert_eq!(
            Decoder::new(&input).opaque(usize::MAX),
            Err(XdrError::Truncated {
                needed: 1 << 30,
                left: 4
            })
        );
    }

    #[test]
    fn missing_padding_is_a_truncation() {
        assert_eq!(
            Decoder::new(b"\0\0\0\x01a\0\0").opaque(4),
            Err(XdrError::Truncated { needed: 3, left: 2 })
        );
    }

    #[test]
    fn booleans_are_zero_or_one() {
        assert_eq!(Decoder::new(&[0, 0, 0, 1]).boolean(), Ok(true));
        assert_eq!(Decoder::new(&[0, 0, 0, 2]).boolean(), Err(XdrError::BadValue(2)));
    }

    #[test]
    fn bytes_after_the_end_are_an_error() {
        assert_eq!(Decoder::new(&[0; 4]).finish(), Err(XdrError::Trailing(4)));
    }

    proptest! {
        #[test]
        fn opaque_data_round_trips(data: Vec<u8>) {
            let mut out = BytesMut::new();
            out.put_opaque(&data);
            let mut decoder = Decoder::new(&out);
            assert_eq!(decoder.opaque(data.len()), Ok(&data[..]));
            assert_eq!(decoder.finish(), Ok(()));
        }

        #[test]
        fn any_input_gives_an_answer(data: Vec<u8>, limit in any::<usize>()) {
            let mut decoder = Decoder::new(&data);
            while decoder.opaque(limit).is_ok() {}
            assert!(decoder.remaining().len() <= data.len());
        }
    }
}
