//! The root of an archive: the object that makes it one. It says of which snapshot it is, and where its tree begins.
//!
//! ```text
//! cairn archive <version> <BLAKE3 hash of the second line without its line feed, 64 hexadecimal digits>\n
//! <JSON>\n
//! ```
//!
//! Version 1 is of a volume, version 2 of a plain directory. The first line outlives every change, so that an older Cairn can name the version that it does not know.
//! `docs/formats/archive.md` describes the keys.

use bytes::Bytes;
use cairn_content::objects::{ObjectName, ObjectNameError};
use cairn_types::{ChunkId, SnapshotId, Timestamp, hexadecimal};
use serde::{Deserialize, Serialize};

use super::directory::{DirectoryRoot, IndexPart, tree_counts};
use super::report::{Archive, Description, TreeCounts};
use super::tree::TreeRoot;
use crate::directory::Digest;
use crate::manifest::EntryCounts;

/// The prefix of the names of roots.
pub const ARCHIVES_PREFIX: &str = "archives";
/// The newest version of a root that this code knows.
pub const ROOT_VERSION: u32 = 2;
/// Largest root in bytes.
pub const ROOT_BYTES_MAX: usize = 64 << 10;

const MAGIC: &str = "cairn archive ";
/// The version of the root of a volume's archive.
const TREE_VERSION: u32 = 1;
/// The version of the root of a directory's archive.
const DIRECTORY_VERSION: u32 = 2;

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
    /// Where what it holds begins.
    pub content: Content,
}

/// Where what an archive holds begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A volume's tree.
    Tree(TreeRoot),
    /// The blocks of a plain directory's manifest.
    Directory(DirectoryRoot),
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tree: Option<StoredTree>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    directory: Option<StoredDirectory>,
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

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredDirectory {
    index: Vec<(String, u32)>,
    blocks: u64,
    entries: u64,
    files: u64,
    links: u64,
    directories: u64,
    symlinks: u64,
    special: u64,
    bytes: u64,
    unhashed: u64,
    tree_hash: Option<String>,
}

fn time((seconds, nanoseconds): (i64, u32)) -> Option<Timestamp> {
    (nanoseconds < 1_000_000_000).then(|| Timestamp::new(seconds, nanoseconds))
}

impl ArchiveRoot {
    /// The bytes of the root.
    pub(super) fn encode(&self) -> Result<Bytes, serde_json::Error> {
        let archive = &self.archive;
        let description = &archive.description;
        let pair = |time: Timestamp| (time.seconds(), time.nanoseconds());
        let (version, tree, directory) = match &self.content {
            Content::Tree(tree) => (TREE_VERSION, Some(StoredTree::from(tree)), None),
            Content::Directory(directory) => {
                let directory = StoredDirectory::from(directory);
                (DIRECTORY_VERSION, None, Some(directory))
            }
        };
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
            tree,
            directory,
        };
        let body = serde_json::to_string(&stored)?;
        let checksum = blake3::hash(body.as_bytes()).to_hex();
        Ok(Bytes::from(format!("{MAGIC}{version} {checksum}\n{body}\n")))
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, RootError> {
        let damaged = RootError::Damaged;
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
        let rest = text
            .strip_prefix(MAGIC)
            .ok_or(damaged("it is no archive's root"))?;
        let (line, rest) = rest.split_once('\n').ok_or(damaged("its first line is cut"))?;
        let (version, checksum) = line.split_once(' ').ok_or(damaged("its first line is cut"))?;
        let number: u32 = version.parse().map_err(|_| damaged("its version is no number"))?;
        if number > ROOT_VERSION {
            return Err(RootError::Version(number));
        }
        let body = rest.strip_suffix('\n').ok_or(damaged("it is cut"))?;
        // The number is in one form only: the checksum does not cover it.
        if number.to_string() != version || blake3::hash(body.as_bytes()).to_hex().as_str() != checksum {
            return Err(damaged("its checksum does not fit"));
        }
        let stored: Stored =
            serde_json::from_str(body).map_err(|_| damaged("its keys are not those of a root"))?;
        Self::from_stored(number, stored).ok_or(damaged("a value is out of its bounds"))
    }

    fn from_stored(version: u32, stored: Stored) -> Option<Self> {
        let base = match stored.base {
            Some(base) => Some(SnapshotId::parse(&base)?),
            None => None,
        };
        let content = match (version, stored.tree, stored.directory) {
            (TREE_VERSION, Some(tree), None) => Content::Tree(tree.read()?),
            (DIRECTORY_VERSION, None, Some(directory)) => Content::Directory(directory.read()?),
            _ => return None,
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
                counts: content.counts(),
                base,
                added_bytes: stored.added_bytes,
            },
            content,
        })
    }
}

impl Content {
    /// What is in it.
    pub fn counts(&self) -> TreeCounts {
        match self {
            Content::Tree(tree) => tree.counts,
            Content::Directory(directory) => tree_counts(&directory.counts),
        }
    }
}

impl StoredTree {
    fn from(tree: &TreeRoot) -> Self {
        StoredTree {
            chunk: tree.chunk.to_string(),
            length: tree.length,
            height: tree.height,
            inodes: tree.counts.inodes,
            files: tree.counts.files,
            directories: tree.counts.directories,
            bytes: tree.counts.bytes,
        }
    }

    fn read(self) -> Option<TreeRoot> {
        Some(TreeRoot {
            chunk: ChunkId(hexadecimal::parse(&self.chunk)?),
            length: self.length,
            height: self.height,
            counts: TreeCounts {
                inodes: self.inodes,
                files: self.files,
                directories: self.directories,
                bytes: self.bytes,
            },
        })
    }
}

impl StoredDirectory {
    fn from(directory: &DirectoryRoot) -> Self {
        let counts = &directory.counts;
        let index = directory.index.iter();
        StoredDirectory {
            index: index.map(|part| (part.chunk.to_string(), part.length)).collect(),
            blocks: directory.blocks,
            entries: counts.entries,
            files: counts.files,
            links: counts.links,
            directories: counts.directories,
            symlinks: counts.symlinks,
            special: counts.special,
            bytes: counts.bytes,
            unhashed: counts.unhashed,
            tree_hash: directory.tree_hash.map(|hash| hash.to_string()),
        }
    }

    fn read(self) -> Option<DirectoryRoot> {
        let part = |(chunk, length): &(String, u32)| {
            let chunk = ChunkId(hexadecimal::parse(chunk)?);
            let length = *length;
            Some(IndexPart { chunk, length })
        };
        let index: Option<Vec<IndexPart>> = self.index.iter().map(part).collect();
        let tree_hash = match self.tree_hash {
            Some(hash) => Some(Digest(hexadecimal::parse(&hash)?)),
            None => None,
        };
        Some(DirectoryRoot {
            index: index?,
            blocks: self.blocks,
            counts: EntryCounts {
                entries: self.entries,
                files: self.files,
                links: self.links,
                directories: self.directories,
                symlinks: self.symlinks,
                special: self.special,
                bytes: self.bytes,
                unhashed: self.unhashed,
            },
            tree_hash,
        })
    }
}

#[cfg(test)]
mod tests {
    use cairn_types::{ChunkId, SnapshotId, Timestamp};

    use super::{ArchiveRoot, Content, RootError, root_name, snapshot_of};
    use crate::archive::directory::{DirectoryRoot, IndexPart};
    use crate::archive::report::{Archive, Description, TreeCounts};
    use crate::archive::tree::TreeRoot;
    use crate::directory::Digest;
    use crate::manifest::EntryCounts;

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
            content: Content::Tree(TreeRoot {
                chunk: ChunkId([4; 32]),
                length: 99,
                height: 2,
                counts,
            }),
        }
    }

    fn directory_root() -> ArchiveRoot {
        let content = Content::Directory(DirectoryRoot {
            index: vec![
                IndexPart {
                    chunk: ChunkId([5; 32]),
                    length: 70_000,
                },
                IndexPart {
                    chunk: ChunkId([6; 32]),
                    length: 8,
                },
            ],
            blocks: 901,
            counts: EntryCounts {
                entries: 21,
                files: 6,
                links: 5,
                directories: 4,
                symlinks: 3,
                special: 3,
                bytes: 1_000,
                unhashed: 0,
            },
            tree_hash: Some(Digest([9; 32])),
        });
        let mut root = root();
        root.archive.counts = content.counts();
        ArchiveRoot { content, ..root }
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
    fn a_root_of_a_directory_is_pinned_and_comes_back() {
        let bytes = directory_root().encode().unwrap();
        let text = std::str::from_utf8(&bytes).unwrap();
        let (first, rest) = text.split_once('\n').unwrap();
        let body = rest.strip_suffix('\n').unwrap();
        let directory = concat!(
            r#""added_bytes":12,"directory":{"index":["#,
            r#"["0505050505050505050505050505050505050505050505050505050505050505",70000],"#,
            r#"["0606060606060606060606060606060606060606060606060606060606060606",8]],"#,
            r#""blocks":901,"entries":21,"files":6,"links":5,"directories":4,"symlinks":3,"special":3,"bytes":1000,"unhashed":0,"#,
            r#""tree_hash":"0909090909090909090909090909090909090909090909090909090909090909"}}"#,
        );
        assert!(body.ends_with(directory), "{body}");
        assert_eq!(
            first,
            format!("cairn archive 2 {}", blake3::hash(body.as_bytes()).to_hex())
        );
        let found = ArchiveRoot::decode(&bytes).unwrap();
        assert_eq!(found, directory_root());
        assert_eq!(found.archive.counts.inodes, 16);
        // A version says which of the two it is.
        let other = text.replacen("archive 2", "archive 1", 1);
        assert!(ArchiveRoot::decode(other.as_bytes()).is_err());
    }

    #[test]
    fn every_cut_and_every_flip_is_found() {
        for root in [root(), directory_root()] {
            find_all_damage(&root.encode().unwrap());
        }
    }

    fn find_all_damage(bytes: &[u8]) {
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
            .replacen("archive 1", "archive 7", 1)
            .replacen("archive 2", "archive 7", 1);
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
