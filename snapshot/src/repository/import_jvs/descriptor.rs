//! Descriptors of the Go tools: what they say of a snapshot, and their checksum.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use cairn_types::{Timestamp, hexadecimal};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::canonical::{self, Escapes};

/// The identity of a snapshot of the Go tools: 13 digits of milliseconds since 1970, a hyphen, and 8 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JvsSnapshotId(String);

impl JvsSnapshotId {
    /// Checks a text; nothing if it has another form.
    pub fn parse(text: &str) -> Option<Self> {
        let (time, random) = text.split_once('-')?;
        let digits = |text: &str, hexadecimal: bool| {
            text.bytes()
                .all(|byte| byte.is_ascii_digit() || hexadecimal && (b'a'..=b'f').contains(&byte))
        };
        let fits = time.len() == 13 && random.len() == 8 && digits(time, false) && digits(random, true);
        fits.then(|| JvsSnapshotId(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JvsSnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for JvsSnapshotId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || serde::de::Error::custom(format!("{text:?} is no id of a snapshot"));
        JvsSnapshotId::parse(&text).ok_or_else(wrong)
    }
}

/// What a descriptor says of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JvsSnapshot {
    /// Its identity.
    pub id: JvsSnapshotId,
    /// The snapshot before it in its workspace's history.
    pub parent: Option<JvsSnapshotId>,
    /// The snapshot that its workspace was made from (new line; of the first snapshot of that workspace).
    pub started_from: Option<JvsSnapshotId>,
    /// The snapshot that had been restored before, if that was not its parent (new line).
    pub restored_from: Option<JvsSnapshotId>,
    /// Paths that had been restored from other snapshots (new line).
    pub restored_paths: Vec<RestoredPath>,
    /// The name of its workspace when it was taken.
    pub workspace: String,
    /// When it was taken.
    pub created: Timestamp,
    /// A person's words.
    pub note: String,
    /// Labels.
    pub tags: Vec<String>,
    /// How it was to be copied, or was: the newest that is said.
    pub engine: String,
    /// Why it was not copied as it was to be (new line).
    pub degraded: Vec<String>,
    /// What of the workspace it holds, as the person gave it; empty: everything.
    pub partial_paths: Vec<String>,
    /// How its files are compressed.
    pub compression: Option<JvsCompression>,
    /// The hash of its tree.
    pub payload_hash: [u8; 32],
    /// The checksum of its descriptor, as it is there.
    pub checksum: String,
    /// Whether the checksum is that of the descriptor.
    pub checksum_matches: bool,
}

/// How a snapshot's files are compressed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct JvsCompression {
    /// `gzip`.
    #[serde(rename = "type")]
    pub kind: String,
    /// 1 to 9.
    #[serde(default)]
    pub level: i64,
}

/// A path that had been restored from another snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RestoredPath {
    /// The path in the workspace.
    pub target_path: String,
    /// The snapshot.
    pub source_snapshot_id: JvsSnapshotId,
    /// The path in it.
    #[serde(default)]
    pub source_path: String,
}

/// The fields as they stand in the file. Others may be there.
#[derive(Deserialize)]
struct Fields {
    snapshot_id: JvsSnapshotId,
    parent_id: Option<JvsSnapshotId>,
    started_from: Option<JvsSnapshotId>,
    restored_from: Option<JvsSnapshotId>,
    restored_paths: Option<Vec<RestoredPath>>,
    worktree_name: String,
    #[serde(deserialize_with = "time")]
    created_at: Timestamp,
    note: Option<String>,
    tags: Option<Vec<String>>,
    engine: String,
    effective_engine: Option<String>,
    degraded_reasons: Option<Vec<String>>,
    partial_paths: Option<Vec<String>>,
    compression: Option<JvsCompression>,
    payload_root_hash: String,
    descriptor_checksum: String,
}

/// Reads a time as Go writes it: RFC 3339 with up to nine decimals.
pub(super) fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_time(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no time")))
}

/// The same where there may be none.
pub(super) fn optional_time<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Timestamp>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    let parsed = |text: String| {
        parse_time(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no time")))
    };
    text.map(parsed).transpose()
}

fn parse_time(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    // Of times before 1970 the library counts nanoseconds backwards.
    let (seconds, nanoseconds) = (time.as_second(), time.subsec_nanosecond());
    Some(match u32::try_from(nanoseconds) {
        Ok(nanoseconds) => Timestamp::new(seconds, nanoseconds),
        Err(_) => Timestamp::new(seconds - 1, (1_000_000_000 + nanoseconds) as u32),
    })
}

/// Reads the descriptor that stands in the file of the snapshot `id`. The answer says what is wrong with it otherwise.
pub(super) fn read(bytes: &[u8], id: &JvsSnapshotId) -> Result<JvsSnapshot, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let fields = Fields::deserialize(&value).map_err(|error| error.to_string())?;
    if fields.snapshot_id != *id {
        return Err(format!("it is the descriptor of snapshot {}", fields.snapshot_id));
    }
    let payload_hash = hexadecimal::parse(&fields.payload_root_hash)
        .ok_or_else(|| format!("{:?} is no hash of a tree", fields.payload_root_hash))?;
    let checksum_matches = checksum_matches(value, &fields.descriptor_checksum);
    Ok(JvsSnapshot {
        id: fields.snapshot_id,
        parent: fields.parent_id,
        started_from: fields.started_from,
        restored_from: fields.restored_from,
        restored_paths: fields.restored_paths.unwrap_or_default(),
        workspace: fields.worktree_name,
        created: fields.created_at,
        note: fields.note.unwrap_or_default(),
        tags: fields.tags.unwrap_or_default(),
        engine: fields.effective_engine.unwrap_or(fields.engine),
        degraded: fields.degraded_reasons.unwrap_or_default(),
        partial_paths: fields.partial_paths.unwrap_or_default(),
        compression: fields.compression,
        payload_hash,
        checksum: fields.descriptor_checksum,
        checksum_matches,
    })
}

/// The checksum is the SHA-256 hash of the canonical form, in which checksum and state of integrity are empty.
fn checksum_matches(mut descriptor: Value, checksum: &str) -> bool {
    if let Value::Object(members) = &mut descriptor {
        for blank in ["descriptor_checksum", "integrity_state"] {
            members.insert(blank.to_owned(), Value::String(String::new()));
        }
    }
    [Escapes::Short, Escapes::Long].into_iter().any(|escapes| {
        let mut form = String::new();
        canonical::put(&mut form, &descriptor, escapes);
        hexadecimal::text(digest(&SHA256, form.as_bytes()).as_ref()) == checksum
    })
}
