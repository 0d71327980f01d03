//! Reading and writing the bytes of values. Reading is bounded and never panics.

use cairn_types::Timestamp;

/// Stored bytes that are no value of their kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stored {what} is malformed at byte {offset}")]
pub struct DecodeError {
    /// The kind of value.
    pub what: &'static str,
    /// Where it stopped making sense.
    pub offset: usize,
}

/// Takes a value apart, front to back.
pub(crate) struct Reader<'a> {
    what: &'static str,
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Reader {
            what,
            bytes,
            offset: 0,
        }
    }

    pub fn error(&self) -> DecodeError {
        DecodeError {
            what: self.what,
            offset: self.offset,
        }
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.offset.checked_add(count).ok_or(self.error())?;
        let taken = self.bytes.get(self.offset..end).ok_or(self.error())?;
        self.offset = end;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let error = self.error();
        self.take(N)?.try_into().map_err(|_| error)
    }

    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// Seconds since 1970, i64, and nanoseconds within the second, u32.
    pub fn time(&mut self) -> Result<Timestamp, DecodeError> {
        let seconds = self.i64()?;
        let error = self.error();
        match self.u32()? {
            nanoseconds @ 0..1_000_000_000 => Ok(Timestamp::new(seconds, nanoseconds)),
            _ => Err(error),
        }
    }

    /// A byte that is 0 or 1.
    pub fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError {
                what: self.what,
                offset: self.offset - 1,
            }),
        }
    }

    /// Bytes with their count, a u16, before them.
    pub fn short_bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let count = self.u16()?;
        self.take(usize::from(count))
    }

    /// UTF-8 with its bytes' count before it.
    pub fn short_text(&mut self) -> Result<&'a str, DecodeError> {
        let error = self.error();
        std::str::from_utf8(self.short_bytes()?).map_err(|_| error)
    }

    pub fn rest(&mut self) -> &'a [u8] {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        self.offset = self.bytes.len();
        rest
    }

    /// Checks that nothing is left.
    pub fn end(self) -> Result<(), DecodeError> {
        if self.offset == self.bytes.len() {
            Ok(())
        } else {
            Err(self.error())
        }
    }
}

/// Puts a value together.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub fn with_capacity(capacity: usize) -> Self {
        Writer(Vec::with_capacity(capacity))
    }

    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    pub fn i64(&mut self, value: i64) {
        self.bytes(&value.to_le_bytes());
    }

    pub fn time(&mut self, time: Timestamp) {
        self.i64(time.seconds());
        self.u32(time.nanoseconds());
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Bytes with their count before them; at most 65,535, which the types of all callers guarantee.
    pub fn short_bytes(&mut self, bytes: &[u8]) {
        let count = u16::try_from(bytes.len()).expect("short values are validated before they are stored");
        self.u16(count);
        self.bytes(bytes);
    }

    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}
