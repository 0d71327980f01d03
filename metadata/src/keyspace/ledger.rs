//! The ledger of keyed requests: what was asked for under a key, and what came of it; and the greatest generation of leaders.
//!
//! Entry (`L`, `e`, key): layout u8 (1), kind u8 (1 workspace, 2 snapshot, 3 restore), phase u8 (1 intended, 2 done, 3 deleting,
//! 4 deleted), time of writing i64 and u32, volume u64 (0: none), snapshot (flag u8, id 16 bytes), safety snapshot (the same),
//! arguments (u16 count; each: name (u16 and UTF-8), digest 16 bytes), detail: the rest, which the metadata does not look into.
//! Generation (`L`, `g`, cluster): the greatest generation seen of that cluster, u64.
//!
//! What the digests are of, and what the detail holds, is up to whoever keeps the ledger.

use cairn_types::{SnapshotId, Timestamp, VolumeId};

use super::codec::{DecodeError, Reader, Writer};

/// Longest key, and longest name of a cluster, in bytes.
pub const LEDGER_KEY_BYTES_MAX: usize = 253;

/// What a key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerKind {
    /// A workspace.
    Workspace,
    /// A snapshot.
    Snapshot,
    /// A restore.
    Restore,
}

/// How far what was asked for under a key has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerPhase {
    /// It was asked for, and nothing is known of its effect.
    Intended,
    /// It is done; what was made is there, unless somebody removed it without the key.
    Done,
    /// It is to be deleted, and that is not finished.
    Deleting,
    /// It was deleted.
    Deleted,
}

/// What the ledger knows of a key. The module's documentation draws the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRecord {
    /// What the key stands for.
    pub kind: LedgerKind,
    /// How far it is.
    pub phase: LedgerPhase,
    /// When this record was written.
    pub written: Timestamp,
    /// The volume that it is about; 0 if none is, or not yet.
    pub volume: VolumeId,
    /// The snapshot that it is about.
    pub snapshot: Option<SnapshotId>,
    /// The snapshot that a restore took of what it replaced.
    pub safety: Option<SnapshotId>,
    /// What was asked for: names of fields, at most 65,535 of at most 65,535 bytes, with digests of their values.
    pub arguments: Vec<(String, [u8; 16])>,
    /// Whatever else the keeper of the ledger wants to find again.
    pub detail: Vec<u8>,
}

pub(crate) const ENTRIES: &[u8] = b"Le";
pub(crate) const GENERATIONS: &[u8] = b"Lg";

pub(crate) fn entry_key(key: &str) -> Vec<u8> {
    [ENTRIES, key.as_bytes()].concat()
}

pub(crate) fn generation_key(cluster: &str) -> Vec<u8> {
    [GENERATIONS, cluster.as_bytes()].concat()
}

/// The text of an entry's or a generation's key.
pub(crate) fn decode_key(key: &[u8]) -> Result<&str, DecodeError> {
    let mut reader = Reader::new("ledger key", key);
    reader.take(2)?;
    let error = reader.error();
    std::str::from_utf8(reader.rest()).map_err(|_| error)
}

pub(crate) fn decode_generation(bytes: &[u8]) -> Result<u64, DecodeError> {
    let mut reader = Reader::new("generation", bytes);
    let generation = reader.u64()?;
    reader.end()?;
    Ok(generation)
}

fn write_id(writer: &mut Writer, id: Option<SnapshotId>) {
    writer.u8(u8::from(id.is_some()));
    writer.bytes(&id.map_or([0; 16], |id| id.0));
}

fn read_id(reader: &mut Reader<'_>) -> Result<Option<SnapshotId>, DecodeError> {
    let present = reader.flag()?;
    let id = SnapshotId(reader.array()?);
    Ok(present.then_some(id))
}

impl LedgerRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(256 + self.detail.len());
        writer.u8(1);
        writer.u8(match self.kind {
            LedgerKind::Workspace => 1,
            LedgerKind::Snapshot => 2,
            LedgerKind::Restore => 3,
        });
        writer.u8(match self.phase {
            LedgerPhase::Intended => 1,
            LedgerPhase::Done => 2,
            LedgerPhase::Deleting => 3,
            LedgerPhase::Deleted => 4,
        });
        writer.time(self.written);
        writer.u64(self.volume.0);
        write_id(&mut writer, self.snapshot);
        write_id(&mut writer, self.safety);
        let count = u16::try_from(self.arguments.len()).expect("requests have few fields");
        writer.u16(count);
        for (name, digest) in &self.arguments {
            writer.short_bytes(name.as_bytes());
            writer.bytes(digest);
        }
        writer.bytes(&self.detail);
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("ledger entry", bytes);
        let error = reader.error();
        if reader.u8()? != 1 {
            return Err(error);
        }
        let error = reader.error();
        let kind = match reader.u8()? {
            1 => LedgerKind::Workspace,
            2 => LedgerKind::Snapshot,
            3 => LedgerKind::Restore,
            _ => return Err(error),
        };
        let error = reader.error();
        let phase = match reader.u8()? {
            1 => LedgerPhase::Intended,
            2 => LedgerPhase::Done,
            3 => LedgerPhase::Deleting,
            4 => LedgerPhase::Deleted,
            _ => return Err(error),
        };
        let written = reader.time()?;
        let volume = VolumeId(reader.u64()?);
        let snapshot = read_id(&mut reader)?;
        let safety = read_id(&mut reader)?;
        let count = reader.u16()?;
        let mut arguments = Vec::new();
        for _ in 0..count {
            arguments.push((reader.short_text()?.to_owned(), reader.array()?));
        }
        let detail = reader.rest().to_vec();
        Ok(LedgerRecord {
            kind,
            phase,
            written,
            volume,
            snapshot,
            safety,
            arguments,
            detail,
        })
    }
}
