//! Snapshots of volumes.
//!
//! By place (`S`, volume u64, sequence u64): layout u8 (2), id 16 bytes, branch u64, epoch u64, origin u8 (1 requested,
//! 2 safety), created i64 and u32, inodes u64, bytes u64, parent flag u8 and id 16 bytes, note (u16 and UTF-8), tags (u16 count,
//! each u16 and UTF-8), pins (u16 count; each: number u64, created i64 and u32, flag u8 and time of expiry i64 and u32, reason
//! (u16 and UTF-8)), key flag u8 and key (u16 and UTF-8). Layout 1 ends behind the tags.
//! By id (`I`, id): volume u64, sequence u64.
//! By key (`K`, volume u64, key): sequence u64, digest of the request 16 bytes.

use cairn_types::{BranchId, Epoch, SnapshotId, Tag, Timestamp, VolumeId};

use super::branch::{Point, Usage};
use super::codec::{DecodeError, Reader, Writer};

/// The layout that is written.
const LAYOUT: u8 = 2;

/// Why a snapshot was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Somebody asked for it.
    Requested,
    /// A restore saved what it was about to replace.
    Safety,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// Identity.
    pub id: SnapshotId,
    /// The state that it is.
    pub point: Point,
    /// Why it was taken.
    pub origin: Origin,
    /// When it was taken.
    pub created: Timestamp,
    /// What the tree held.
    pub usage: Usage,
    /// The snapshot that the tree was last equal to.
    pub parent: Option<SnapshotId>,
    /// A person's words, at most 65,535 bytes.
    pub note: String,
    /// Labels.
    pub tags: Vec<Tag>,
    /// What people want it kept for, by ascending number.
    pub pins: Vec<PinRecord>,
    /// The idempotency key of the request that it was taken for, at most 65,535 bytes.
    pub key: Option<String>,
}

/// Somebody's word that a snapshot is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinRecord {
    /// Its number: no two pins of a snapshot have the same while both exist.
    pub number: u64,
    /// When it was set.
    pub created: Timestamp,
    /// From when on it keeps nothing; `None`: until somebody removes it.
    pub expires: Option<Timestamp>,
    /// Why, for people, at most 65,535 bytes.
    pub reason: String,
}

impl PinRecord {
    /// Whether it keeps its snapshot at `now`.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// What stands under an idempotency key: which snapshot was taken for it, and a digest of what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyRecord {
    pub sequence: u64,
    pub digest: [u8; 16],
}

impl KeyRecord {
    pub fn encode(&self) -> Vec<u8> {
        [&self.sequence.to_le_bytes()[..], &self.digest].concat()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("idempotency key", bytes);
        let record = KeyRecord {
            sequence: reader.u64()?,
            digest: reader.array()?,
        };
        reader.end()?;
        Ok(record)
    }
}

/// The key of an idempotency key; with no text, the start of all keys of the volume.
pub(crate) fn request_key(volume: VolumeId, text: &str) -> Vec<u8> {
    let mut key = vec![b'K'];
    key.extend_from_slice(&volume.0.to_be_bytes());
    key.extend_from_slice(text.as_bytes());
    key
}

pub(crate) fn snapshot_key(volume: VolumeId, sequence: u64) -> Vec<u8> {
    let mut key = snapshots_prefix(volume);
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

pub(crate) fn snapshots_prefix(volume: VolumeId) -> Vec<u8> {
    let mut key = vec![b'S'];
    key.extend_from_slice(&volume.0.to_be_bytes());
    key
}

/// The volume and the sequence of a snapshot's key.
pub(crate) fn decode_snapshot_key(key: &[u8]) -> Result<(VolumeId, u64), DecodeError> {
    let mut reader = Reader::new("snapshot key", key);
    reader.take(1)?;
    let volume = VolumeId(u64::from_be_bytes(reader.array()?));
    let sequence = u64::from_be_bytes(reader.array()?);
    reader.end()?;
    Ok((volume, sequence))
}

pub(crate) fn id_key(id: SnapshotId) -> Vec<u8> {
    let mut key = vec![b'I'];
    key.extend_from_slice(&id.0);
    key
}

pub(crate) fn encode_place(volume: VolumeId, sequence: u64) -> Vec<u8> {
    [volume.0.to_le_bytes(), sequence.to_le_bytes()].concat()
}

pub(crate) fn decode_place(bytes: &[u8]) -> Result<(VolumeId, u64), DecodeError> {
    let mut reader = Reader::new("snapshot place", bytes);
    let place = (VolumeId(reader.u64()?), reader.u64()?);
    reader.end()?;
    Ok(place)
}

impl SnapshotRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(128 + self.note.len());
        writer.u8(LAYOUT);
        writer.bytes(&self.id.0);
        writer.u64(self.point.branch.0);
        writer.u64(self.point.epoch.0);
        writer.u8(match self.origin {
            Origin::Requested => 1,
            Origin::Safety => 2,
        });
        writer.time(self.created);
        writer.u64(self.usage.inodes);
        writer.u64(self.usage.bytes);
        writer.u8(u8::from(self.parent.is_some()));
        writer.bytes(&self.parent.map_or([0; 16], |id| id.0));
        writer.short_bytes(self.note.as_bytes());
        writer
            .u16(u16::try_from(self.tags.len()).expect("the number of tags is checked before it is stored"));
        self.tags
            .iter()
            .for_each(|tag| writer.short_bytes(tag.as_str().as_bytes()));
        writer
            .u16(u16::try_from(self.pins.len()).expect("the number of pins is checked before it is stored"));
        for pin in &self.pins {
            writer.u64(pin.number);
            writer.time(pin.created);
            writer.u8(u8::from(pin.expires.is_some()));
            writer.time(pin.expires.unwrap_or_default());
            writer.short_bytes(pin.reason.as_bytes());
        }
        writer.u8(u8::from(self.key.is_some()));
        writer.short_bytes(self.key.as_deref().unwrap_or_default().as_bytes());
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("snapshot", bytes);
        let error = reader.error();
        let layout = reader.u8()?;
        if !(1..=LAYOUT).contains(&layout) {
            return Err(error);
        }
        let id = SnapshotId(reader.array()?);
        let point = Point {
            branch: BranchId(reader.u64()?),
            epoch: Epoch(reader.u64()?),
        };
        let error = reader.error();
        let origin = match reader.u8()? {
            1 => Origin::Requested,
            2 => Origin::Safety,
            _ => return Err(error),
        };
        let created = reader.time()?;
        let usage = Usage {
            inodes: reader.u64()?,
            bytes: reader.u64()?,
        };
        let has_parent = reader.flag()?;
        let parent = SnapshotId(reader.array()?);
        let note = reader.short_text()?.to_owned();
        let count = reader.u16()?;
        let mut tags = Vec::new();
        for _ in 0..count {
            let error = reader.error();
            tags.push(Tag::new(reader.short_text()?).map_err(|_| error)?);
        }
        let (pins, key) = match layout {
            1 => (Vec::new(), None),
            _ => (read_pins(&mut reader)?, read_key(&mut reader)?),
        };
        reader.end()?;
        let parent = has_parent.then_some(parent);
        Ok(SnapshotRecord {
            id,
            point,
            origin,
            created,
            usage,
            parent,
            note,
            tags,
            pins,
            key,
        })
    }
}

fn read_pins(reader: &mut Reader<'_>) -> Result<Vec<PinRecord>, DecodeError> {
    let count = reader.u16()?;
    let mut pins = Vec::new();
    for _ in 0..count {
        let number = reader.u64()?;
        let created = reader.time()?;
        let limited = reader.flag()?;
        let expires = reader.time()?;
        pins.push(PinRecord {
            number,
            created,
            expires: limited.then_some(expires),
            reason: reader.short_text()?.to_owned(),
        });
    }
    Ok(pins)
}

fn read_key(reader: &mut Reader<'_>) -> Result<Option<String>, DecodeError> {
    let present = reader.flag()?;
    let text = reader.short_text()?.to_owned();
    Ok(present.then_some(text))
}
