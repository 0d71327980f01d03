//! The volumes of this node as the ends of archives: a reader of a snapshot as what is pushed, an import as what is pulled
//! into.

use std::sync::Arc;

use bytes::Bytes;
use cairn_snapshot::archive::{ArchiveError, Description, Source, SourceError, Target, TargetError};
use cairn_types::{
    ByteRange, ErrorKind, ExportPolicy, Extent, FileKind, InodeId, Node, SnapshotId, SnapshotReference, Tag,
    TreeCursor, TreeItem, WorkspaceName,
};
use cairn_vfs::control::{ControlError, Snapshot};
use cairn_vfs::{Import, ImportError, ImportRequest, ImportedSnapshot, SnapshotReader, Volumes};

use super::{EndError, Ends, Imported, ImportedTree, Wanted, WorkError, identity};
use crate::assembly::with_causes;
use crate::data_directory::HandleSecret;

/// The volumes of this node.
pub struct NodeEnds {
    volumes: Arc<Volumes>,
    secret: HandleSecret,
}

impl NodeEnds {
    /// The volumes in the data directory with this secret.
    pub fn new(volumes: Arc<Volumes>, secret: HandleSecret) -> Self {
        NodeEnds { volumes, secret }
    }
}

impl Ends for NodeEnds {
    fn source(
        &self,
        workspace: &WorkspaceName,
        snapshot: SnapshotId,
    ) -> Result<(Box<dyn Source>, Description), WorkError> {
        let reader = self
            .volumes
            .open_snapshot(workspace, &by_id(workspace, snapshot)?)?;
        let found = reader.snapshot();
        let description = Description {
            snapshot: found.id,
            workspace: workspace.to_string(),
            origin: identity::origin(&self.secret, reader.volume()),
            created: found.created,
            note: found.note,
            tags: found.tags.iter().map(ToString::to_string).collect(),
        };
        let expected = (found.inodes, found.bytes);
        Ok((Box::new(Pushed { reader, expected }), description))
    }

    fn target(&self, wanted: &Wanted) -> Result<Box<dyn ImportedTree>, WorkError> {
        let description = &wanted.archive.description;
        let same_origin = match wanted.into_existing {
            true => {
                let volume = self.volumes.workspace(&wanted.workspace)?.volume;
                identity::origin(&self.secret, volume) == description.origin
            }
            // A new volume: no client has handles of what is in it.
            false => false,
        };
        let import = self.volumes.begin_import(ImportRequest {
            workspace: wanted.workspace.clone(),
            identity: wanted.identity,
            same_origin,
            into_existing: wanted.into_existing,
        })?;
        Ok(Box::new(Tree {
            target: ImportTarget(import),
            into_existing: wanted.into_existing,
            policy: wanted.policy.clone(),
            snapshot: imported_snapshot(wanted)?,
        }))
    }
}

/// Every identity has the form of a name, by which references are made.
fn by_id(workspace: &WorkspaceName, snapshot: SnapshotId) -> Result<SnapshotReference, ControlError> {
    SnapshotReference::parse(&snapshot.to_string()).map_err(|_| ControlError::NoSnapshot {
        workspace: workspace.clone(),
        reference: snapshot.to_string(),
    })
}

/// What the note of a snapshot ends with that was pulled without files that could not be read.
const INCOMPLETE: &str = " (incomplete: damaged files were left out)";

/// What an archive says of its snapshot. It comes from a store, so it may say anything.
fn imported_snapshot(wanted: &Wanted) -> Result<ImportedSnapshot, WorkError> {
    let description = &wanted.archive.description;
    let tags = description.tags.iter().map(|tag| {
        Tag::new(tag).map_err(|error| {
            let error = EndError {
                kind: ErrorKind::Invalid,
                message: format!("the archive has a tag that is none: {error}"),
            };
            ArchiveError::Target(Box::new(error))
        })
    });
    let (mut id, mut note) = (description.snapshot, description.note.clone());
    if !wanted.whole {
        let (derived, _) = wanted.identity.split_at(id.0.len());
        id.0.copy_from_slice(derived);
        if note.len() + INCOMPLETE.len() <= Snapshot::NOTE_BYTES_MAX {
            note.push_str(INCOMPLETE);
        }
    }
    Ok(ImportedSnapshot {
        id,
        created: description.created,
        note,
        tags: tags.collect::<Result<_, _>>()?,
    })
}

/// A snapshot that is pushed.
struct Pushed {
    reader: SnapshotReader,
    /// Inodes, and bytes of regular files.
    expected: (u64, u64),
}

fn unreadable(error: ControlError) -> SourceError {
    Box::new(EndError {
        kind: error.kind(),
        message: with_causes(&error),
    })
}

impl Source for Pushed {
    fn expected(&self) -> (u64, u64) {
        self.expected
    }

    fn bases(&self) -> Result<Vec<SnapshotId>, SourceError> {
        self.reader.bases().map_err(unreadable)
    }

    fn changed_since(&self, base: SnapshotId) -> Result<Option<Vec<InodeId>>, SourceError> {
        self.reader.changed_since(base).map_err(unreadable)
    }

    fn items(
        &self,
        cursor: &mut TreeCursor,
        limit: usize,
        items: &mut Vec<TreeItem>,
    ) -> Result<(), SourceError> {
        self.reader.items(cursor, limit, items).map_err(unreadable)
    }

    fn same_data(&self, base: SnapshotId, inode: InodeId) -> Result<Vec<ByteRange>, SourceError> {
        self.reader.same_data(base, inode).map_err(unreadable)
    }

    fn read(&self, extent: &Extent) -> Result<Bytes, SourceError> {
        self.reader.read(extent).map_err(unreadable)
    }
}

/// A tree that is pulled.
struct Tree {
    target: ImportTarget,
    into_existing: bool,
    policy: ExportPolicy,
    snapshot: ImportedSnapshot,
}

impl ImportedTree for Tree {
    fn target(&mut self) -> &mut dyn Target {
        &mut self.target
    }

    fn finish(self: Box<Self>) -> Result<Imported, WorkError> {
        let ImportTarget(import) = self.target;
        if self.into_existing {
            let restored = import.finish_into(self.snapshot)?;
            return Ok(Imported {
                snapshot: restored.snapshot.id,
                safety: Some(restored.safety.id),
            });
        }
        let (_, snapshot) = import.finish_new(self.policy, self.snapshot)?;
        Ok(Imported {
            snapshot: snapshot.id,
            safety: None,
        })
    }
}

struct ImportTarget(Import);

fn unwritable(error: ImportError) -> TargetError {
    let kind = match &error {
        // Of what is pulled, not of this node's stores.
        ImportError::Invalid { .. } => ErrorKind::Invalid,
        ImportError::Control(_)
        | ImportError::Running { .. }
        | ImportError::None { .. }
        | ImportError::Broken => error.kind(),
    };
    Box::new(EndError {
        kind,
        message: with_causes(&error),
    })
}

impl Target for ImportTarget {
    fn resume_after(&self) -> Option<InodeId> {
        self.0.resume_after()
    }

    fn node(&mut self, inode: InodeId, node: &Node) -> Result<(), TargetError> {
        self.0.node(inode, node).map_err(unwritable)
    }

    fn entry(&mut self, name: &[u8], inode: InodeId, kind: FileKind) -> Result<(), TargetError> {
        self.0.entry(name, inode, kind).map_err(unwritable)
    }

    fn link_target(&mut self, target: &[u8]) -> Result<(), TargetError> {
        self.0.link_target(target).map_err(unwritable)
    }

    fn data(&mut self, offset: u64, data: &[u8]) -> Result<(), TargetError> {
        self.0.data(offset, data).map_err(unwritable)
    }
}
