//! Reading the repositories of the Go tools, both lines of which say format version 1: the *old line* (releases up to v8.2: `main` and `worktrees`
//! beside the control directory) and the *new line* (v0.4: the user's folder itself is the workspace).
//!
//! A pure reader: it changes nothing, takes no lock, and follows no symbolic link. What is damaged is told as a [`Finding`] and hides nothing
//! else. Snapshots are verified by their own hashes, as the program that made them would, but for one thing: it would call every snapshot that the
//! old line compressed tampered, because compression itself changed what is hashed; that is told as [`Payload::Unknowable`].
//!
//! How what is read gets into a repository of ours is not decided here.

mod canonical;
mod compressed;
mod control;
mod descriptor;
mod error;
mod order;
mod payload;
mod tree;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use cairn_types::Timestamp;

use crate::archive::Progress;
use crate::directory::{RelativePath, beneath};

pub use compressed::CompressedFile;
pub use descriptor::{JvsCompression, JvsSnapshot, JvsSnapshotId, RestoredPath};
pub use error::ImportError;

use compressed::{guessed, listed};
use control::Control;
use payload::{Hashed, ReadyRule};

/// Most snapshots that a repository may have.
pub const SNAPSHOTS_MAX: usize = 1 << 20;

/// Which of the Go tools made a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JvsLine {
    /// Releases up to v8.2.
    Old,
    /// v0.4 and later.
    New,
}

/// A worktree (old line), or workspace (new line).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JvsWorkspace {
    /// Its name.
    pub name: String,
    /// Where its files should be: below the repository, or where the new line recorded them. Nothing may be there.
    pub directory: PathBuf,
    /// The snapshot that its files come from.
    pub head: Option<JvsSnapshotId>,
    /// The newest snapshot of its history: another one than `head` after a restore.
    pub latest: Option<JvsSnapshotId>,
    /// The snapshot that it was made from.
    pub started_from: Option<JvsSnapshotId>,
    /// When it was made.
    pub created: Timestamp,
    /// Paths whose files come from other snapshots than `head` (new line).
    pub path_sources: Vec<PathSource>,
}

/// A path whose files were restored from another snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathSource {
    /// The path in the workspace.
    pub path: String,
    /// The snapshot.
    pub snapshot: JvsSnapshotId,
    /// The path in the snapshot.
    pub source_path: String,
}

/// Says that a snapshot must be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JvsPin {
    /// Which.
    pub snapshot: JvsSnapshotId,
    /// Why.
    pub reason: String,
    /// Until when; nothing: for ever.
    pub expires: Option<Timestamp>,
}

/// What is wrong with a repository, and hides nothing but what it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A file of the control directory cannot be understood.
    Damaged {
        /// The file, below the control directory.
        file: String,
        /// What is wrong with it.
        what: String,
    },
    /// A descriptor is there, and its tree is not: a save of the new line that was killed, or a loss.
    TreeMissing(JvsSnapshotId),
    /// A tree is there, and its descriptor is not: a save of the old line that was killed, or a loss. It is in no history.
    DescriptorMissing(JvsSnapshotId),
    /// A save that was begun and not ended.
    Unfinished(JvsSnapshotId),
    /// A snapshot's parent is not there.
    ParentMissing {
        /// The snapshot.
        snapshot: JvsSnapshotId,
        /// Its parent.
        parent: JvsSnapshotId,
    },
    /// Snapshots are each other's ancestors; this is the one at which the circle was broken.
    Circle(JvsSnapshotId),
}

/// A repository of the Go tools.
#[derive(Debug)]
pub struct JvsRepository {
    path: PathBuf,
    line: JvsLine,
    id: String,
    control: Control,
    workspaces: Vec<JvsWorkspace>,
    snapshots: Vec<JvsSnapshot>,
    pins: Vec<JvsPin>,
    findings: Vec<Finding>,
}

/// The files of a snapshot.
#[derive(Debug)]
pub struct JvsTree {
    /// The directory that they are in.
    pub directory: OwnedFd,
    /// Names in the directory that are the tools' own and not the user's, if they are there.
    pub reserved: Vec<RelativePath>,
    /// Files that are compressed, by the path at which they are found.
    pub compressed: BTreeMap<RelativePath, CompressedFile>,
    /// Whether the tree is what was saved. The old line's compression made files of symbolic links, and lost modes and times.
    pub faithful: bool,
}

/// What verifying a snapshot came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Whether the descriptor is what was written.
    pub descriptor: bool,
    /// Whether the marker in the tree is there and names the same hashes as the descriptor.
    pub marker: bool,
    /// Whether the tree is what was saved.
    pub payload: Payload,
    /// Files that were read.
    pub files: u64,
    /// Bytes that were read, after decompression.
    pub bytes: u64,
}

/// Whether a tree is what was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// It is, as far as the hash goes: names, types, permissions, sizes, data, targets of symbolic links.
    Matches,
    /// It is not.
    Differs {
        /// The hash in the descriptor.
        expected: [u8; 32],
        /// The hash of the tree.
        found: [u8; 32],
    },
    /// The hash cannot tell.
    Unknowable {
        /// Why.
        why: String,
    },
}

impl JvsRepository {
    /// Opens the repository in the directory `path`, or whose control directory `path` is. Reads what it says of snapshots and workspaces, and no tree.
    ///
    /// Errors: [`ImportError::NotARepository`]; [`ImportError::Ours`] if it is no repository of the Go tools; [`ImportError::Version`];
    /// [`ImportError::Locator`] if `path` is a further workspace of a repository elsewhere; [`ImportError::TooMany`]; [`ImportError::Io`].
    pub fn open(path: &Path) -> Result<Self, ImportError> {
        let (root, control) = Control::find(path)?;
        control.check_version()?;
        let mut findings = Vec::new();
        let mode = control.text("repo_mode")?;
        let mut workspaces = control::workspaces(&control, &mut findings)?;
        let recorded = workspaces.iter().any(|workspace| workspace.recorded);
        let line = match mode.is_some() || recorded {
            true => JvsLine::New,
            false => JvsLine::Old,
        };
        let separated = mode.as_deref() == Some("separated_control");
        workspaces
            .iter_mut()
            .for_each(|workspace| workspace.place(&root, line, separated));
        let mut snapshots = control::snapshots(&control, &mut findings)?;
        control::compare_trees(&control, &snapshots, &mut findings)?;
        order::parents_first(&mut snapshots, &mut findings);
        Ok(JvsRepository {
            path: root,
            line,
            id: control.text("repo_id")?.unwrap_or_default(),
            pins: control::pins(&control, &mut findings)?,
            workspaces: workspaces.into_iter().map(|found| found.workspace).collect(),
            control,
            snapshots,
            findings,
        })
    }

    /// Where it is: the directory that the control directory is in.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which tools made it.
    pub fn line(&self) -> JvsLine {
        self.line
    }

    /// Its identity: a UUID, if it has one.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its workspaces, by name.
    pub fn workspaces(&self) -> &[JvsWorkspace] {
        &self.workspaces
    }

    /// Its snapshots: parents first, and by time as far as that leaves a choice. Trees may be missing: [`Finding::TreeMissing`].
    pub fn snapshots(&self) -> &[JvsSnapshot] {
        &self.snapshots
    }

    /// What must be kept.
    pub fn pins(&self) -> &[JvsPin] {
        &self.pins
    }

    /// What is wrong with it, apart from trees.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The files of a snapshot. Of compressed snapshots it finds out which files are: the new line lists them, in the old line all of the tools' making
    /// are, told by their mode and the header that the Go library writes.
    ///
    /// Errors: [`ImportError::TreeMissing`]; [`ImportError::Damaged`] if the list of compressed files cannot be understood; [`ImportError::Io`].
    pub fn tree(&self, snapshot: &JvsSnapshot) -> Result<JvsTree, ImportError> {
        let directory = self.control.tree(&snapshot.id)?;
        let marker = compressed::marker(&directory, &self.tree_path(snapshot))?;
        let compressed_snapshot = snapshot.compression.is_some() || marker.is_compressed();
        let mut tree = JvsTree {
            directory,
            reserved: compressed::reserved(self.line, &marker),
            compressed: BTreeMap::new(),
            faithful: true,
        };
        if compressed_snapshot {
            match listed(&marker, &self.tree_path(snapshot))? {
                Some(files) => tree.compressed = files,
                None => {
                    tree.compressed = guessed(tree.directory.as_fd(), &self.tree_path(snapshot))?;
                    tree.faithful = false;
                }
            }
        }
        Ok(tree)
    }

    /// A snapshot with the same hash of its tree that is not compressed: the same files, with everything that compression has lost.
    pub fn twin(&self, snapshot: &JvsSnapshot) -> Option<&JvsSnapshot> {
        let same = |other: &&JvsSnapshot| {
            other.id != snapshot.id
                && other.payload_hash == snapshot.payload_hash
                && other.compression.is_none()
                && !self.findings.contains(&Finding::TreeMissing(other.id.clone()))
        };
        self.snapshots.iter().find(same)
    }

    /// Reads all of a snapshot and holds it against its hashes. Compressed files are decompressed, and must be whole, also where no hash can tell more.
    ///
    /// Errors: those of [`JvsRepository::tree`]; [`ImportError::Cancelled`]; [`ImportError::Io`] if a file cannot be read.
    pub fn verify(&self, snapshot: &JvsSnapshot, progress: &Progress) -> Result<Verified, ImportError> {
        let tree = self.tree(snapshot)?;
        let path = self.tree_path(snapshot);
        let marker = compressed::marker(&tree.directory, &path)?;
        let rule = match self.line {
            JvsLine::Old => ReadyRule::Anywhere,
            JvsLine::New => ReadyRule::AtTheRoot,
        };
        let mut hashed = payload::hash(&tree, rule, &path, progress)?;
        if let Hashed::Done {
            hash,
            nested_marker: true,
            ..
        } = &hashed
            && *hash != snapshot.payload_hash
            && self.line == JvsLine::Old
        {
            // The first releases of the new line kept the old layout.
            hashed = payload::hash(&tree, ReadyRule::AtTheRoot, &path, progress)?;
        }
        let (payload, files, bytes) = match hashed {
            Hashed::Done { files, bytes, .. } if !tree.faithful => {
                let why = "compression by the old line has changed what the hash covers; every file can be decompressed";
                let why = why.to_owned();
                (Payload::Unknowable { why }, files, bytes)
            }
            Hashed::Done {
                hash, files, bytes, ..
            } if hash == snapshot.payload_hash => (Payload::Matches, files, bytes),
            Hashed::Done {
                hash, files, bytes, ..
            } => {
                let payload = Payload::Differs {
                    expected: snapshot.payload_hash,
                    found: hash,
                };
                (payload, files, bytes)
            }
            Hashed::Special { path } => {
                let why =
                    format!("{path} is no regular file, directory or symbolic link, and cannot be hashed");
                (Payload::Unknowable { why }, 0, 0)
            }
        };
        Ok(Verified {
            descriptor: snapshot.checksum_matches,
            marker: marker.agrees(snapshot),
            payload,
            files,
            bytes,
        })
    }

    /// Its control directory.
    pub fn control_path(&self) -> &Path {
        self.control.path()
    }

    /// Where the files of a snapshot are, if they are there.
    pub fn tree_path(&self, snapshot: &JvsSnapshot) -> PathBuf {
        self.control.path().join("snapshots").join(snapshot.id.as_str())
    }
}

impl JvsTree {
    /// Opens the data of a regular file for reading, decompressed if it is compressed: then at most as much as its size, and one byte more, and what is
    /// no gzip (RFC 1952) is an error while reading. Errors: openat(2); `InvalidInput` if it is no regular file.
    pub fn open_file(&self, path: &RelativePath) -> io::Result<Box<dyn Read>> {
        let file = std::fs::File::from(beneath::open_file(&self.directory, path)?);
        Ok(match self.compressed.get(path) {
            None => Box::new(file),
            Some(compressed) => {
                let limit = compressed.bytes.map_or(u64::MAX, |bytes| bytes.saturating_add(1));
                Box::new(flate2::read::MultiGzDecoder::new(file).take(limit))
            }
        })
    }
}

#[cfg(test)]
mod tests;
