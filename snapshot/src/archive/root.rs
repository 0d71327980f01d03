//! The root of an archive: the object that makes it one. It says of which snapshot it is, and where its tree begins.
//!
//! ```text
//! cairn archive 1 <BLAKE3 hash of the second line without its line feed, 64 hexadecimal digits>\n
//! <JSON>\n
//! ```
//!
//! The first line outlives every change, so that an older Cairn can name the version that it does not know.
//! `docs/formats/archive.md` describes the keys.

use bytes::Bytes;
use cairn_content::objects::{ObjectName, ObjectNameError};
use cairn_types::{ChunkId, SnapshotId, Timestamp, hexadecimal};
use serde::{Deserialize, Serialize};

use super::report::{Archive, Description, TreeCounts};
use super::tree::TreeRoot;

/// The prefix of the names of roots.
pub const ARCHIVES_PREFIX: &str = "archives";
/// The version of the root that this code writes.
pub const ROOT_VERSION: u32 = 1;
/// Largest root in bytes.
pub const ROOT_BYTES_MAX: usize = 64 << 10;

const MAGIC: &str = "cairn archive ";

/// The name of the root of a snapshot's archive.
pub fn root_name(snapshot: SnapshotId) -> Result<ObjectName, ObjectNameError> {
    ObjectName::new(format!("{ARCHIVES_PREFIX}/{snapshot}"))
}

/// The snapshot whose root has this name.
pub fn snapshot_of(name: &ObjectName) -> Option<SnapshotId> {
    SnapshotId::parse(name.as_str().strip_prefix(ARCHIVES_PREFIX)?.strip_prefix('/')?)
}

/// What a root holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveRoot {
    /// What is told of the archive.
    pub archive: Archive,
    /// Its tree.
    pub tree: TreeRoot,
}

/// Why the bytes of a root make no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RootError {
    Damaged(&'static str),
    Version(u32),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    snapshot: String,
    workspace: String,
    origin: String,
    created: (i64, u32),
    note: String,
    tags: Vec<String>,
    archived: (i64, u32),
    base: Option<String>,
    added_bytes: u64,
    tree: StoredTree,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredTree {
    chunk: String,
    length: u32,
    height: u8,
    inodes: u64,
    files: u64,
    directories: u64,
    bytes: u64,
}

fn time((seconds, nanoseconds): (i64, u32)) -> Option<Timestamp> {
    (nanoseconds < 1_000_000_000).then(|| Timestamp::new(seconds, nanoseconds))
}

impl ArchiveRoot {
    /// The bytes of the root.
    pub(super) fn encode(&self) -> Result<Bytes, serde_json::Error> {
        let (archive, tree) = (&self.archive, &self.tree);
        let description = &archive.description;
        let pair = |time: Timestamp| (time.seconds(), time.nanoseconds());
        let stored = Stored {
            snapshot: description.snapshot.to_string(),
            workspace: description.workspace.clone(),
            origin: hexadecimal::text(&description.origin),
            created: pair(description.created),
            note: description.note.clone(),
            tags: description.tags.clone(),
            archived: pair(archive.archived),
            base: archive.base.map(|base| base.to_string()),
            added_bytes: archive.added_bytes,
            tree: StoredTree {
                chunk: tree.chunk.to_string(),
                length: tree.length,
                height: tree.height,
                inodes: tree.counts.inodes,
                files: tree.counts.files,
                directories: tree.counts.directories,
                bytes: tree.counts.bytes,
            },
        };
        let body = serde_json::to_string(&stored)?;
        let checksum = blake3::hash(body.as_bytes()).to_hex();
        Ok(Bytes::from(format!("{MAGIC}{ROOT_VERSION} {checksum}\n{body}\n")))
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, RootError> {
        let damaged = RootError::Damaged;
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
        let rest = text
            .strip_prefix(MAGIC)
            .ok_or(damaged("it is no archive's root"))?;
        let (line, rest) = rest.split_once('\n').ok_or(damaged("its first line is cut"))?;
        let (version, checksum) = line.split_once(' ').ok_or(damaged("its first line is cut"))?;
        let version: u32 = version.parse().map_err(|_| damaged("its version is no number"))?;
        if version > ROOT_VERSION {
            return Err(RootError::Version(version));
        }
        let body = rest.strip_suffix('\n').ok_or(damaged("it is cut"))?;
        if version != ROOT_VERSION || blake3::hash(body.as_bytes()).to_hex().as_str() != checksum {
            return Err(damaged("its checksum does not fit"));
        }
        let stored: Stored =
            serde_json::from_str(body).map_err(|_| damaged("its keys are not those of a root"))?;
        Self::from_stored(stored).ok_or(damaged("a value is out of its bounds"))
    }

    fn from_stored(stored: Stored) -> Option<Self> {
        let counts = TreeCounts {
            inodes: stored.tree.inodes,
            files: stored.tree.files,
            directories: stored.tree.directories,
            bytes: stored.tree.bytes,
        };
        let base = match stored.base {
            Some(base) => Some(SnapshotId::parse(&base)?),
            None => None,
        };
        Some(ArchiveRoot {
            archive: Archive {
                description: Description {
                    snapshot: SnapshotId::parse(&stored.snapshot)?,
                    workspace: stored.workspace,
                    origin: hexadecimal::parse(&stored.origin)?,
                    created: time(stored.created)?,
                    note: stored.note,
                    tags: stored.tags,
                },
                archived: time(stored.archived)?,
                counts,
                base,
                added_bytes: stored.added_bytes,
            },
            tree: TreeRoot {
                chunk: ChunkId(hexadecimal::parse(&stored.tree.chunk)?),
                length: stored.tree.length,
                height: stored.tree.height,
                counts,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use cairn_types::{ChunkId, SnapshotId, Timestamp};

    use super::{ArchiveRoot, RootError, root_name, snapshot_of};
    use crate::archive::report::{Archive, Description, TreeCounts};
    use crate::archive::tree::TreeRoot;

    fn root() -> ArchiveRoot {
        let counts = TreeCounts {
            inodes: 4,
            files: 2,
            directories: 1,
            bytes: 77,
        };
        ArchiveRoot {
            archive: Archive {
                description: Description {
                    snapshot: SnapshotId([1; 16]),
                    workspace: "experiment".to_owned(),
                    origin: [2; 32],
                    created: Timestamp::new(1_795_000_000, 5),
                    note: "before the \"change\"\n".to_owned(),
                    tags: vec!["good".to_owned()],
                },
                archived: Timestamp::new(1_795_000_100, 999_999_999),
                counts,
                base: Some(SnapshotId([3; 16])),
                added_bytes: 12,
            },
            tree: TreeRoot {
                chunk: ChunkId([4; 32]),
                length: 99,
                height: 2,
                counts,
            },
        }
    }

    #[test]
    fn a_root_is_pinned_and_comes_back() {
        let bytes = root().encode().unwrap();
        let text = std::str::from_utf8(&bytes).unwrap();
        let body = concat!(
            r#"{"snapshot":"01010101010101010101010101010101","workspace":"experiment","#,
            r#""origin":"0202020202020202020202020202020202020202020202020202020202020202","#,
            r#""created":[1795000000,5],"note":"before the \"change\"\n","tags":["good"],"#,
            r#""archived":[1795000100,999999999],"base":"03030303030303030303030303030303","added_bytes":12,"#,
            r#""tree":{"chunk":"0404040404040404040404040404040404040404040404040404040404040404","#,
            r#""length":99,"height":2,"inodes":4,"files":2,"directories":1,"bytes":77}}"#,
        );
        let (first, rest) = text.split_once('\n').unwrap();
        assert_eq!(rest.strip_suffix('\n').unwrap(), body);
        assert_eq!(
            first,
            format!("cairn archive 1 {}", blake3::hash(body.as_bytes()).to_hex())
        );
        assert_eq!(ArchiveRoot::decode(&bytes).unwrap(), root());
    }

    #[test]
    fn every_cut_and_every_flip_is_found() {
        let bytes = root().encode().unwrap();
        for end in 0..bytes.len() {
            assert!(ArchiveRoot::decode(&bytes[..end]).is_err(), "cut to {end}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(ArchiveRoot::decode(&changed).is_err(), "bit {bit}");
        }
        let newer = bytes
            .escape_ascii()
            .to_string()
            .replacen("archive 1", "archive 7", 1);
        assert_eq!(
            ArchiveRoot::decode(newer.replace("\\n", "\n").as_bytes()),
            Err(RootError::Version(7))
        );
    }

    #[test]
    fn names_say_the_snapshot() {
        let name = root_name(SnapshotId([0xab; 16])).unwrap();
        assert_eq!(name.as_str(), "archives/abababababababababababababababab");
        assert_eq!(snapshot_of(&name), Some(SnapshotId([0xab; 16])));
    }
}
