//! Reading a segment's records in order, and looking for records where the order is lost.

use std::io;
use std::sync::Arc;

use cairn_types::{CHECKSUM_BLOCK, LogPosition, LogSlice, SegmentId};

use super::super::error::RecordFault;
use super::super::format::{
    RECORD_ALIGNMENT, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, RECORD_MAGIC, RecordHeader, RecordKey,
    payload_offset,
};
use super::super::settings::{RECORD_CONTEXT_BYTES_MAX, RECORD_PAYLOAD_BYTES_MAX};
use super::super::store::SegmentFile;
use crate::checksum::crc32c;

/// Bytes that are read at once. More than the longest record.
const WINDOW_BYTES: usize = 8 << 20;
const _: () = assert!(WINDOW_BYTES as u64 > RECORD_BYTES_MAX);

/// Bytes of the longest record front.
const FRONT_BYTES_MAX: usize = payload_offset(RECORD_CONTEXT_BYTES_MAX, RECORD_PAYLOAD_BYTES_MAX);
const _: () = assert!(FRONT_BYTES_MAX.is_multiple_of(RECORD_ALIGNMENT as usize));

/// A segment file, read from front to back in large pieces.
pub(super) struct Window {
    file: Arc<dyn SegmentFile>,
    start: u64,
    bytes: Vec<u8>,
}

/// A record that verifies.
pub(super) struct Record<'a> {
    pub header: RecordHeader,
    pub context: &'a [u8],
    pub table: Vec<u32>,
    pub payload: &'a [u8],
}

impl Record<'_> {
    /// Where the payload of this record at `offset` of segment `id` is.
    pub(super) fn slice(&self, id: SegmentId, offset: u64) -> LogSlice {
        let length = self.header.payload_length;
        let offset = offset + self.header.front_bytes() as u64;
        LogSlice::new(id, offset, length, 0, length, self.table.as_slice().into())
            .expect("a payload of at least one byte with one checksum per block is a slice")
    }
}

impl Window {
    pub(super) fn new(file: Arc<dyn SegmentFile>) -> Self {
        Window {
            file,
            start: 0,
            bytes: Vec::new(),
        }
    }

    /// The `length` bytes from `offset` on, or fewer at the end of the file.
    fn get(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let cached = offset >= self.start && offset + length as u64 <= self.start + self.bytes.len() as u64;
        if !cached {
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.resize(WINDOW_BYTES.max(length), 0);
            let count = self.file.read_at(&mut bytes, offset)?;
            bytes.truncate(count);
            (self.bytes, self.start) = (bytes, offset);
        }
        let from = (offset - self.start) as usize;
        let bytes = &self.bytes[from..];
        Ok(&bytes[..bytes.len().min(length)])
    }

    /// The front of the record at `offset`, verified but for its sequence number.
    fn front(
        &mut self,
        offset: u64,
        position: LogPosition,
        key: &RecordKey,
    ) -> io::Result<Result<(RecordHeader, &[u8]), RecordFault>> {
        let header = match RecordHeader::decode(self.get(offset, RECORD_HEADER_BYTES)?) {
            Ok(header) if header.position == position => header,
            Ok(_) => return Ok(Err(RecordFault::Header)),
            Err(fault) => return Ok(Err(fault)),
        };
        let front = self.get(offset, header.front_bytes())?;
        Ok(if header.verifies(front, key) {
            Ok((header, front))
        } else {
            Err(RecordFault::Header)
        })
    }

    /// The record at `offset`, which must end at or before `limit` and have the number `sequence`.
    pub(super) fn record(
        &mut self,
        offset: u64,
        limit: u64,
        base: LogPosition,
        sequence: u64,
        key: &RecordKey,
    ) -> io::Result<Result<Record<'_>, RecordFault>> {
        let header = match self.front(offset, LogPosition(base.0 + offset), key)? {
            Ok((header, _)) => header,
            Err(fault) => return Ok(Err(fault)),
        };
        if header.sequence != sequence {
            return Ok(Err(RecordFault::Sequence {
                expected: sequence,
                found: header.sequence,
            }));
        }
        let length = header.record_length as usize;
        if offset + length as u64 > limit {
            return Ok(Err(RecordFault::Truncated));
        }
        let bytes = self.get(offset, length)?;
        let (front, rest) = bytes.split_at(header.front_bytes().min(bytes.len()));
        let Some(payload) = rest.get(..header.payload_length as usize) else {
            return Ok(Err(RecordFault::Truncated));
        };
        let table = header.table(front);
        for (index, block) in payload.chunks(CHECKSUM_BLOCK as usize).enumerate() {
            let (expected, found) = (table[index], crc32c(block));
            if expected != found {
                let block_offset = offset + (front.len() + index * CHECKSUM_BLOCK as usize) as u64;
                return Ok(Err(RecordFault::Payload {
                    offset: block_offset,
                    expected,
                    found,
                }));
            }
        }
        let context = &front[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + usize::from(header.context_length)];
        Ok(Ok(Record {
            header,
            context,
            table,
            payload,
        }))
    }

    /// Goes from record to record, from `offset` with the number `sequence` up to `target`, by their fronts alone.
    pub(super) fn walk(
        &mut self,
        mut offset: u64,
        target: u64,
        base: LogPosition,
        mut sequence: u64,
        key: &RecordKey,
    ) -> io::Result<Walk> {
        while offset < target {
            match self.front(offset, LogPosition(base.0 + offset), key)? {
                Ok((header, _)) if header.sequence == sequence => {
                    offset += u64::from(header.record_length);
                    sequence += 1;
                }
                broken => {
                    let found = broken.map(|(header, _)| header.sequence);
                    let fault = found.map_or_else(
                        |fault| fault,
                        |found| RecordFault::Sequence {
                            expected: sequence,
                            found,
                        },
                    );
                    // A record at the target itself shows that a record ends there, whatever came before.
                    return Ok(match self.front(target, LogPosition(base.0 + target), key)? {
                        Ok((header, _)) => Walk::Arrived {
                            sequence: header.sequence,
                        },
                        Err(_) => Walk::Broken { offset, fault },
                    });
                }
            }
        }
        Ok(if offset == target {
            Walk::Arrived { sequence }
        } else {
            Walk::Missed
        })
    }

    /// Looks for record fronts at every aligned offset from `from` on, and hands over the headers of those that
    /// verify (or, without a key, of those that could be records).
    pub(super) fn scan(
        &mut self,
        from: u64,
        key: Option<&RecordKey>,
        mut visit: impl FnMut(u64, &RecordHeader),
    ) -> io::Result<()> {
        let mut start = from.next_multiple_of(RECORD_ALIGNMENT);
        loop {
            let bytes = self.get(start, WINDOW_BYTES)?;
            let last = bytes.len() < WINDOW_BYTES;
            let usable = if last {
                bytes.len()
            } else {
                WINDOW_BYTES - FRONT_BYTES_MAX
            };
            for at in (0..usable).step_by(RECORD_ALIGNMENT as usize) {
                if !bytes[at..].starts_with(&RECORD_MAGIC) {
                    continue;
                }
                if let Ok(header) = RecordHeader::decode(&bytes[at..]) {
                    let front = bytes.get(at..at + header.front_bytes());
                    if key.is_none_or(|key| front.is_some_and(|front| header.verifies(front, key))) {
                        visit(start + at as u64, &header);
                    }
                }
            }
            if last {
                return Ok(());
            }
            start += usable as u64;
        }
    }
}

/// Where a walk over the records led.
pub(super) enum Walk {
    /// A record ends at the target; the next one has this number.
    Arrived { sequence: u64 },
    /// A record lies across the target.
    Missed,
    /// A record is damaged, and nothing shows that one ends at the target.
    Broken { offset: u64, fault: RecordFault },
}
