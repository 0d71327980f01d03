//! The file `packs`: the ends of all known packs, as they came from the store. It only grows, by whole records; what a kill
//! or a power cut leaves of the last one is cut off when it is opened.
//!
//! It is what runs are made from, and where indexes are read. Nothing in it is synced but the records of packs that are
//! about to be removed: a pack that was stored and is forgotten here is found again in the store, a pack that was removed and
//! is remembered would be a lie.
//!
//! The format is drawn in `docs/formats/chunk-index.md`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::checksum::crc32c;
use crate::pack::{PACK_BYTES_MAX, PACK_CHUNKS_MAX, PackId};

const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"CAIRNPKS";
const HEADER_BYTES: usize = 48;
const RECORD_BYTES: usize = 64;
const KIND_PACK: u32 = 1;
const KIND_FORGOTTEN: u32 = 2;
/// From so many bytes on, a file of which less than half is of use is written anew.
const REWRITE_BYTES_MIN: u64 = 1 << 20;

/// A pack as it stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PackRecord {
    /// What runs call it. Never given twice.
    pub number: u32,
    /// Its name.
    pub id: PackId,
    /// Bytes of the whole pack.
    pub bytes: u64,
    /// Chunks in it.
    pub chunks: u32,
    /// Where its end stands in this file.
    pub offset: u64,
    /// Bytes of its end, index and trailer.
    pub end_bytes: u32,
    /// Their checksum.
    pub checksum: u32,
}

impl PackRecord {
    fn encode(&self, kind: u32) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[4..8].copy_from_slice(&kind.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.number.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.end_bytes.to_le_bytes());
        bytes[16..48].copy_from_slice(&self.id.0);
        bytes[48..56].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.chunks.to_le_bytes());
        bytes[60..].copy_from_slice(&self.checksum.to_le_bytes());
        let sum = crc32c(&bytes[4..]);
        bytes[..4].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The record whose header is at `at`, and its kind; nothing if these bytes are no record.
    fn decode(bytes: &[u8; RECORD_BYTES], at: u64) -> Option<(u32, Self)> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut id = [0; 32];
        id.copy_from_slice(&bytes[16..48]);
        let record = PackRecord {
            number: word(8),
            id: PackId(id),
            bytes: u64::from(word(48)) | u64::from(word(52)) << 32,
            chunks: word(56),
            offset: at + RECORD_BYTES as u64,
            end_bytes: word(12),
            checksum: word(60),
        };
        let possible = crc32c(&bytes[4..]) == word(0)
            && record.bytes <= PACK_BYTES_MAX
            && u64::from(record.end_bytes) <= record.bytes
            && record.chunks as usize <= PACK_CHUNKS_MAX
            && matches!(word(4), KIND_PACK | KIND_FORGOTTEN);
        possible.then_some((word(4), record))
    }
}

/// The open file.
#[derive(Debug)]
pub(super) struct PacksFile {
    path: PathBuf,
    file: File,
    length: u64,
    /// Which store it is of: the BLAKE3 hash of its URL.
    store: [u8; 32],
    /// Bytes of records that are of use.
    used: u64,
}

/// What a file holds when it is opened.
pub(super) struct Opened {
    pub file: PacksFile,
    /// The packs that are not forgotten, by number.
    pub packs: Vec<PackRecord>,
    /// Above every number in the file.
    pub next: u32,
    /// Whether something of it was cut off or all of it dropped.
    pub damaged: bool,
}

fn header(store: &[u8; 32]) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..44].copy_from_slice(store);
    let sum = crc32c(&bytes[..44]);
    bytes[44..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

impl PacksFile {
    /// Opens the file, after making it if it is missing. One of another store or version, or with another beginning, is begun
    /// anew; an end that is no record is cut off.
    pub fn open(path: &Path, store: [u8; 32]) -> io::Result<Opened> {
        let file = open_file(path)?;
        let length = file.metadata()?.len();
        let mut found = [0; HEADER_BYTES];
        let known = length >= HEADER_BYTES as u64 && {
            file.read_exact_at(&mut found, 0)?;
            found == header(&store)
        };
        if !known {
            file.set_len(0)?;
            file.write_all_at(&header(&store), 0)?;
        }
        let mut at = HEADER_BYTES as u64;
        let mut next = 0;
        let mut packs = std::collections::BTreeMap::new();
        while known && at + RECORD_BYTES as u64 <= length {
            let mut bytes = [0; RECORD_BYTES];
            file.read_exact_at(&mut bytes, at)?;
            let Some((kind, record)) = PackRecord::decode(&bytes, at) else {
                break;
            };
            let end = match kind {
                KIND_PACK => record.offset + u64::from(record.end_bytes),
                _ => record.offset,
            };
            let Some(above) = record.number.checked_add(1).filter(|_| end <= length) else {
                break;
            };
            match kind {
                KIND_PACK => packs.insert(record.number, record),
                _ => packs.remove(&record.number),
            };
            next = next.max(above);
            at = end;
        }
        let damaged = length > 0 && (!known || at != length);
        if damaged {
            file.set_len(at)?;
        }
        let packs: Vec<PackRecord> = packs.into_values().collect();
        Ok(Opened {
            file: PacksFile {
                path: path.to_owned(),
                file,
                length: at,
                store,
                used: packs.iter().map(record_bytes).sum(),
            },
            packs,
            next,
            damaged,
        })
    }

    /// Appends a pack; `record` is completed by where its end stands now. Not synced.
    pub fn append(&mut self, record: &mut PackRecord, end: &[u8]) -> io::Result<()> {
        record.offset = self.length + RECORD_BYTES as u64;
        record.end_bytes = end.len() as u32;
        record.checksum = crc32c(end);
        let mut bytes = Vec::with_capacity(RECORD_BYTES + end.len());
        bytes.extend_from_slice(&record.encode(KIND_PACK));
        bytes.extend_from_slice(end);
        self.write(&bytes)?;
        self.used += record_bytes(record);
        Ok(())
    }

    /// Appends that packs are not there any more. Durable on return if `sync`.
    pub fn forget(&mut self, records: &[PackRecord], sync: bool) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(records.len() * RECORD_BYTES);
        for record in records {
            let forgotten = PackRecord {
                end_bytes: 0,
                ..*record
            };
            bytes.extend_from_slice(&forgotten.encode(KIND_FORGOTTEN));
            self.used = self.used.saturating_sub(record_bytes(record));
        }
        self.write(&bytes)?;
        match sync {
            true => self.file.sync_data(),
            false => Ok(()),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        // What an earlier attempt left behind `length` is written over, or cut off when the file is opened.
        self.file.write_all_at(bytes, self.length)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// The end of a pack; nothing if it is damaged.
    pub fn read(&self, record: &PackRecord) -> io::Result<Option<Vec<u8>>> {
        let mut end = vec![0; record.end_bytes as usize];
        match self.file.read_exact_at(&mut end, record.offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        Ok((crc32c(&end) == record.checksum).then_some(end))
    }

    /// Whether most of the file is of no use.
    pub fn is_wasteful(&self) -> bool {
        self.length > REWRITE_BYTES_MIN && self.used < self.length / 2
    }

    /// Writes the file anew with these packs alone, and says where they are now. Those whose end is damaged are left out.
    pub fn rewrite(&mut self, packs: &[PackRecord]) -> io::Result<Vec<PackRecord>> {
        let unfinished = self.path.with_extension("tmp");
        let written = self.write_anew(&unfinished, packs);
        let (file, length, moved) = match written {
            Ok(written) => written,
            Err(error) => {
                let _ = fs::remove_file(&unfinished);
                return Err(error);
            }
        };
        // Synced before it takes the place of what was: forgotten packs must not come back with the old file, and a torn new
        // one would forget them all.
        file.sync_data()?;
        fs::rename(&unfinished, &self.path)?;
        self.used = moved.iter().map(record_bytes).sum();
        (self.file, self.length) = (file, length);
        Ok(moved)
    }

    fn write_anew(&self, path: &Path, packs: &[PackRecord]) -> io::Result<(File, u64, Vec<PackRecord>)> {
        let file = open_file(path)?;
        file.set_len(0)?;
        let mut out = BufWriter::with_capacity(1 << 20, &file);
        out.write_all(&header(&self.store))?;
        let mut length = HEADER_BYTES as u64;
        let mut moved = Vec::with_capacity(packs.len());
        for pack in packs {
            let Some(end) = self.read(pack)? else { continue };
            out.write_all(&pack.encode(KIND_PACK))?;
            out.write_all(&end)?;
            moved.push(PackRecord {
                offset: length + RECORD_BYTES as u64,
                ..*pack
            });
            length += record_bytes(pack);
        }
        out.flush()?;
        drop(out);
        Ok((file, length, moved))
    }
}

/// Bytes that a pack takes in the file.
fn record_bytes(record: &PackRecord) -> u64 {
    RECORD_BYTES as u64 + u64::from(record.end_bytes)
}

#[cfg(test)]
mod tests;
