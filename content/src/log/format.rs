//! The bytes of a segment file, version 1. Drawn here and in `docs/formats/log-segment.md`; pinned by the golden tests
//! below. All integers are little-endian.
//!
//! A segment is a header of 4096 bytes, then records without gaps, each aligned to 8 bytes, then bytes without meaning
//! (zeros, where room was reserved) up to the end of the file.
//!
//! Segment header:
//!
//! | offset | width | field |
//! | --- | --- | --- |
//! | 0 | 8 | magic `CAIRNLOG` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | CRC-32C of all 4096 bytes, with this field as zeros |
//! | 16 | 16 | identity of the log, random |
//! | 32 | 8 | id of the segment, which is its file name too |
//! | 40 | 8 | base: the log position of the file's first byte |
//! | 48 | 8 | bytes of log positions that belong to the segment |
//! | 56 | 8 | sequence number of its first record |
//! | 64 | 8 | previous end: the log position where the last record before this segment ends; 0 in the first segment |
//! | 72 | 8 | durable: the log was durable up to this position when the header was written |
//! | 80 | 4016 | zeros |
//!
//! Record:
//!
//! | offset | width | field |
//! | --- | --- | --- |
//! | 0 | 4 | magic `CREC` |
//! | 4 | 4 | CRC-32C of the log's identity, then bytes 8..48, the context and the checksum table |
//! | 8 | 4 | record length: all bytes of the record, with the padding |
//! | 12 | 4 | payload length P, 1 to 4 MiB |
//! | 16 | 2 | context length C, 0 to 128 |
//! | 18 | 6 | zeros |
//! | 24 | 8 | sequence number, one more than that of the record before |
//! | 32 | 8 | the log position of the record's first byte |
//! | 40 | 8 | durable: the log was durable up to this position when the record got its place |
//! | 48 | C | context |
//! | 48 + C | 4 B | checksum table: the CRC-32C of each of the B = ceil(P / 4096) blocks of the payload |
//! | 48 + C + 4 B | P | payload |
//! | | 0 to 7 | zeros up to a multiple of 8 |
//!
//! Why so. The one checksum in front covers everything but the payload, and the table in it covers the payload: a
//! reader of a part verifies only the blocks it reads, and a record is whole if and only if both hold. The identity is
//! summed but not stored, so that a record of another log can never pass; the record's own position is stored, so that
//! a copy elsewhere in the log (a client may well store a copy of a segment file in a volume) can never pass either.
//! Positions are never used twice in a file's life, so stale bytes can never pass as newer records. `durable` is true
//! whenever it can be read: a valid record after a damaged one proves by it whether the damage hit bytes that had been
//! durable (then it is an error), or bytes that a power cut was free to lose (then it is the torn tail).

use cairn_types::{CHECKSUM_BLOCK, LogPosition, SegmentId};

use super::error::RecordFault;
use super::settings::{RECORD_CONTEXT_BYTES_MAX, RECORD_PAYLOAD_BYTES_MAX, SEGMENT_BYTES_MAX};
use crate::checksum::{Crc32c, crc32c};

/// Bytes of a segment's header, and so the offset of its first record.
pub const SEGMENT_HEADER_BYTES: u64 = 4096;
/// The version that is written, and the newest that is read.
pub const FORMAT_VERSION: u32 = 1;

const SEGMENT_MAGIC: [u8; 8] = *b"CAIRNLOG";
/// What starts a record.
pub(super) const RECORD_MAGIC: [u8; 4] = *b"CREC";
/// Bytes of a record before its context.
pub(super) const RECORD_HEADER_BYTES: usize = 48;
/// Records begin at multiples of this.
pub(super) const RECORD_ALIGNMENT: u64 = 8;
/// Bytes of the longest record.
pub(super) const RECORD_BYTES_MAX: u64 = record_bytes(RECORD_CONTEXT_BYTES_MAX, RECORD_PAYLOAD_BYTES_MAX);

/// Blocks of a payload, each with a checksum.
const fn blocks(payload: u32) -> usize {
    payload.div_ceil(CHECKSUM_BLOCK) as usize
}

/// Bytes that a record takes up in its segment.
pub(super) const fn record_bytes(context: usize, payload: u32) -> u64 {
    (payload_offset(context, payload) as u64 + payload as u64).next_multiple_of(RECORD_ALIGNMENT)
}

/// Offset of the payload from the record's first byte.
pub(super) const fn payload_offset(context: usize, payload: u32) -> usize {
    RECORD_HEADER_BYTES + context + 4 * blocks(payload)
}

/// What a segment's header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub identity: [u8; 16],
    pub id: SegmentId,
    pub base: LogPosition,
    pub bytes: u64,
    pub first_sequence: u64,
    pub previous_end: LogPosition,
    pub durable: LogPosition,
}

/// Why bytes are no segment header of this version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HeaderFault {
    Invalid(&'static str),
    Version(u32),
}

impl SegmentHeader {
    /// The position after the last one that belongs to the segment.
    pub(super) fn limit(&self) -> LogPosition {
        LogPosition(self.base.0 + self.bytes)
    }

    /// Whether a record that ends at `end` lies in the segment.
    pub(super) fn contains_end(&self, end: LogPosition) -> bool {
        self.base < end && end <= self.limit()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES as usize);
        bytes.extend_from_slice(&SEGMENT_MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.identity);
        for number in [
            self.id.0,
            self.base.0,
            self.bytes,
            self.first_sequence,
            self.previous_end.0,
            self.durable.0,
        ] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.resize(SEGMENT_HEADER_BYTES as usize, 0);
        let checksum = crc32c(&bytes);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        if bytes.len() < SEGMENT_HEADER_BYTES as usize {
            return Err(HeaderFault::Invalid("the file is shorter than a header"));
        }
        let bytes = &bytes[..SEGMENT_HEADER_BYTES as usize];
        if bytes[..8] != SEGMENT_MAGIC {
            return Err(HeaderFault::Invalid("wrong magic number"));
        }
        // Before the checksum: another version may sum otherwise.
        let version = u32_at(bytes, 8);
        if version > FORMAT_VERSION {
            return Err(HeaderFault::Version(version));
        }
        let mut checksum = Crc32c::new();
        checksum.update(&bytes[..12]);
        checksum.update(&[0; 4]);
        checksum.update(&bytes[16..]);
        if checksum.value() != u32_at(bytes, 12) || version == 0 {
            return Err(HeaderFault::Invalid("wrong checksum"));
        }
        let mut identity = [0; 16];
        identity.copy_from_slice(&bytes[16..32]);
        let header = SegmentHeader {
            identity,
            id: SegmentId(u64_at(bytes, 32)),
            base: LogPosition(u64_at(bytes, 40)),
            bytes: u64_at(bytes, 48),
            first_sequence: u64_at(bytes, 56),
            previous_end: LogPosition(u64_at(bytes, 64)),
            durable: LogPosition(u64_at(bytes, 72)),
        };
        let sound = (SEGMENT_HEADER_BYTES..=SEGMENT_BYTES_MAX).contains(&header.bytes)
            && header.base.0.checked_add(header.bytes).is_some()
            && header.previous_end <= header.base
            && header.durable <= header.previous_end
            && header.first_sequence > 0;
        if sound {
            Ok(header)
        } else {
            Err(HeaderFault::Invalid("fields that contradict each other"))
        }
    }
}

/// Sums records of one log: a CRC-32C that has taken in the log's identity.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordKey(Crc32c);

impl RecordKey {
    pub(super) fn new(identity: &[u8; 16]) -> Self {
        let mut checksum = Crc32c::new();
        checksum.update(identity);
        RecordKey(checksum)
    }

    fn sum(&self, front: &[u8]) -> u32 {
        let mut checksum = self.0;
        checksum.update(&front[8..]);
        checksum.value()
    }
}

/// The fixed fields of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub checksum: u32,
    pub record_length: u32,
    pub payload_length: u32,
    pub context_length: u16,
    pub sequence: u64,
    pub position: LogPosition,
    pub durable: LogPosition,
}

impl RecordHeader {
    /// Reads the fixed fields and checks all that can be checked without the rest of the record.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, RecordFault> {
        let Some(bytes) = bytes.get(..RECORD_HEADER_BYTES) else {
            return Err(if bytes.iter().all(|b| *b == 0) {
                RecordFault::Empty
            } else {
                RecordFault::Truncated
            });
        };
        if bytes[..4] != RECORD_MAGIC {
            let empty = bytes.iter().all(|b| *b == 0);
            return Err(if empty {
                RecordFault::Empty
            } else {
                RecordFault::Header
            });
        }
        let header = RecordHeader {
            checksum: u32_at(bytes, 4),
            record_length: u32_at(bytes, 8),
            payload_length: u32_at(bytes, 12),
            context_length: u16::from_le_bytes([bytes[16], bytes[17]]),
            sequence: u64_at(bytes, 24),
            position: LogPosition(u64_at(bytes, 32)),
            durable: LogPosition(u64_at(bytes, 40)),
        };
        let context = usize::from(header.context_length);
        let sound = (1..=RECORD_PAYLOAD_BYTES_MAX).contains(&header.payload_length)
            && context <= RECORD_CONTEXT_BYTES_MAX
            && u64::from(header.record_length) == record_bytes(context, header.payload_length)
            && header.durable <= header.position;
        if sound {
            Ok(header)
        } else {
            Err(RecordFault::Header)
        }
    }

    /// Bytes before the payload.
    pub(super) fn front_bytes(&self) -> usize {
        payload_offset(self.context_length.into(), self.payload_length)
    }

    /// Whether `front`, the record's bytes before the payload, has the checksum that it must have.
    pub(super) fn verifies(&self, front: &[u8], key: &RecordKey) -> bool {
        front.len() == self.front_bytes() && key.sum(front) == self.checksum
    }

    /// The checksum table in `front`.
    pub(super) fn table(&self, front: &[u8]) -> Vec<u32> {
        let table = &front[RECORD_HEADER_BYTES + usize::from(self.context_length)..];
        table.chunks_exact(4).map(|entry| u32_at(entry, 0)).collect()
    }
}

/// A record's bytes before the payload, with zeros for what is known only when the record gets its place.
pub(super) fn encode_front(context: &[u8], payload_length: u32, checksums: &[u32]) -> Vec<u8> {
    let length = payload_offset(context.len(), payload_length);
    let mut front = Vec::with_capacity(length);
    front.extend_from_slice(&RECORD_MAGIC);
    front.extend_from_slice(&[0; 4]);
    front.extend_from_slice(&(record_bytes(context.len(), payload_length) as u32).to_le_bytes());
    front.extend_from_slice(&payload_length.to_le_bytes());
    front.extend_from_slice(&(context.len() as u16).to_le_bytes());
    front.resize(RECORD_HEADER_BYTES, 0);
    front.extend_from_slice(context);
    for checksum in checksums {
        front.extend_from_slice(&checksum.to_le_bytes());
    }
    front
}

/// Fills in what the record's place says, and the checksum.
pub(super) fn seal_front(
    front: &mut [u8],
    key: &RecordKey,
    sequence: u64,
    position: LogPosition,
    durable: LogPosition,
) {
    front[24..32].copy_from_slice(&sequence.to_le_bytes());
    front[32..40].copy_from_slice(&position.0.to_le_bytes());
    front[40..48].copy_from_slice(&durable.0.to_le_bytes());
    let checksum = key.sum(front);
    front[4..8].copy_from_slice(&checksum.to_le_bytes());
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use cairn_types::{LogPosition, SegmentId};

    use super::{
        HeaderFault, RECORD_BYTES_MAX, RecordHeader, RecordKey, SegmentHeader, encode_front, record_bytes,
        seal_front,
    };
    use crate::checksum::{block_checksums, crc32c};
    use crate::log::RecordFault;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn sample() -> SegmentHeader {
        SegmentHeader {
            identity: *b"0123456789abcdef",
            id: SegmentId(3),
            base: LogPosition(0x0800_0000),
            bytes: 0x0400_0000,
            first_sequence: 0x1234,
            previous_end: LogPosition(0x07ff_f008),
            durable: LogPosition(0x07ff_0000),
        }
    }

    #[test]
    fn the_bytes_of_a_segment_header_are_fixed() {
        let bytes = sample().encode();
        assert_eq!(bytes.len(), 4096);
        let expected = concat!(
            "434149524e4c4f47", // magic
            "01000000",         // version
            "913f7341",         // checksum
            "30313233343536373839616263646566",
            "0300000000000000", // id
            "0000000800000000", // base
            "0000000400000000", // bytes
            "3412000000000000", // first sequence
            "08f0ff0700000000", // previous end
            "0000ff0700000000", // durable
        );
        assert_eq!(hex(&bytes[..80]), expected);
        assert!(bytes[80..].iter().all(|byte| *byte == 0));
        assert_eq!(SegmentHeader::decode(&bytes), Ok(sample()));
    }

    #[test]
    fn headers_that_contradict_themselves_are_refused() {
        let refused = |change: fn(&mut SegmentHeader)| {
            let mut header = sample();
            change(&mut header);
            matches!(
                SegmentHeader::decode(&header.encode()),
                Err(HeaderFault::Invalid(_))
            )
        };
        assert!(refused(
            |header| header.previous_end = LogPosition(header.base.0 + 8)
        ));
        assert!(refused(
            |header| header.durable = LogPosition(header.previous_end.0 + 8)
        ));
        assert!(refused(|header| header.bytes = 4095));
        assert!(refused(|header| header.base = LogPosition(u64::MAX - 8)));
        assert!(refused(|header| header.first_sequence = 0));
        assert!(!refused(|_| ()));
    }

    #[test]
    fn the_bytes_of_a_record_are_fixed() {
        let payload: Vec<u8> = (0..4100u32).map(|i| (i % 251) as u8).collect();
        let table = block_checksums(&[&payload]);
        let mut front = encode_front(b"ctx", 4100, &table);
        let key = RecordKey::new(b"0123456789abcdef");
        seal_front(
            &mut front,
            &key,
            0x1234,
            LogPosition(0x0800_1000),
            LogPosition(0x07ff_0000),
        );
        let expected = concat!(
            "43524543",         // magic
            "d0ebfc5e",         // checksum
            "40100000",         // record length
            "04100000",         // payload length
            "0300",             // context length
            "000000000000",     // zeros
            "3412000000000000", // sequence
            "0010000800000000", // position
            "0000ff0700000000", // durable
            "637478",           // context
            "fc7790717ce4c1bd", // checksum table
        );
        assert_eq!(hex(&front), expected);
        assert_eq!(record_bytes(3, 4100), 0x1040);
        assert_eq!(
            (record_bytes(0, 1), RECORD_BYTES_MAX),
            (56, 48 + 128 + 4096 + (4 << 20))
        );
        let header = RecordHeader::decode(&front).unwrap();
        assert!(header.verifies(&front, &key));
        assert!(
            !header.verifies(&front, &RecordKey::new(&[0; 16])),
            "a record of another log"
        );
        assert_eq!(header.table(&front)[..], table[..]);
        assert_eq!(table[1], crc32c(&payload[4096..]));
    }

    #[test]
    fn any_bytes_are_decoded_or_refused() {
        let mut front = encode_front(b"ctx", 4100, &[1, 2]);
        let key = RecordKey::new(&[1; 16]);
        seal_front(&mut front, &key, 1, LogPosition(4096), LogPosition(0));
        for bit in 0..front.len() * 8 {
            let mut flipped = front.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let accepted = RecordHeader::decode(&flipped).is_ok_and(|header| {
                let front = flipped.get(..header.front_bytes());
                front.is_some_and(|front| header.verifies(front, &key))
            });
            assert!(!accepted, "bit {bit}");
        }
        for length in 0..48 {
            assert!(RecordHeader::decode(&front[..length]).is_err());
            assert_eq!(RecordHeader::decode(&vec![0; length]), Err(RecordFault::Empty));
        }
        assert_eq!(RecordHeader::decode(&[0; 100]), Err(RecordFault::Empty));
        assert_eq!(RecordHeader::decode(&[0xff; 100]), Err(RecordFault::Header));
    }
}
