//! Trees that come from elsewhere: they are built object by object in a branch that nobody sees, which then becomes a
//! workspace, or the live tree of one.
//!
//! - Data goes to the log, synced before the metadata that refers to it; small files into the metadata. The log's records say branch
//!   0, which no volume has, so a replay passes over them: what is not in the metadata is brought in again.
//! - Objects are written in batches, each with the record of how far the import is. After a stop, an import of the same
//!   identity goes on behind the last inode that was complete.
//! - Everything is checked, for it comes from a network: the order, names, sizes, counts. That entries and links fit each other is
//!   checked without a second pass and without memory per inode: every link that an inode says it has, and every entry, adds a
//!   number to a sum of its kind, a keyed hash of what is linked (of a directory, also from where), and at the end the sums must be
//!   equal. So every entry leads to an inode of its kind, every inode has as many names as links, and every directory has one name, in
//!   its parent. Nobody without the key, which is drawn for each import, can make other trees fit but by a chance of 2^-96.
//! - Directories that hold each other, away from the root, are found by stepping up from those whose parent has a higher number.

use std::collections::BTreeSet;
use std::hash::Hasher;
use std::sync::Arc;

use cairn_metadata::keyspace::dirent::FIRST_COOKIE;
use cairn_metadata::store::{ImportBatch, NewImport, SnapshotDetails};
use cairn_metadata::{
    CapacityLimits, DirentRecord, ExtentRecord, ImportRecord, InodeRecord, Lineage, Origin, VolumeRecord,
};
use cairn_types::{
    BranchId, ExportPolicy, Extent, FileKind, FileName, InodeId, Node, SegmentId, SnapshotId, Tag, Timestamp,
    WorkspaceName,
};
use siphasher::sip128::{Hasher128, SipHasher24};

use super::Volumes;
use super::control::{failed, limit, require_capacity, snapshot, stopped};
use crate::Error;
use crate::control::{ControlError, Restored, Snapshot, Workspace};
use crate::dirty::{LoggedWrite, next_data_version};
use crate::filesystem::{FILE_BYTES_MAX, LINKS_MAX, SYMLINK_BYTES_MAX};
use crate::volume::names::DIRECTORY_BYTES;
use crate::volume::{INLINE_BYTES_MAX, INLINE_BYTES_USED, log_failed};

mod fault;
mod passing;

pub use fault::{ImportError, ImportFault};
use passing::Passing;

/// Objects written at once.
const BATCH_OBJECTS_MAX: usize = 4096;
/// Bytes of objects written at once, about.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// Bytes of data in the log before the metadata is made to refer to it.
const BATCH_LOGGED_BYTES_MAX: u64 = 256 << 20;
/// Largest payload of one record of the log: as for writes of clients, since a small write later has to rewrite what it cuts.
const EXTENT_BYTES_MAX: usize = 1 << 20;
/// Highest inode number that is taken.
const INODE_MAX: u64 = 1 << 62;
/// An import that has not come further for this many seconds is forgotten.
pub(super) const FORGOTTEN_SECONDS: i64 = 7 * 24 * 3600;

/// What shall be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportRequest {
    /// The workspace that it is for.
    pub workspace: WorkspaceName,
    /// Names what is imported: an import that was stopped goes on if it is the same.
    pub identity: [u8; 32],
    /// Whether the tree comes from a volume that this workspace descends from, or goes on with: then inodes keep their generations, so
    /// that handles of clients stay good for what both have.
    pub same_origin: bool,
    /// Whether the workspace exists and shall become equal to the tree; otherwise it is made.
    pub into_existing: bool,
}

/// The snapshot that is recorded of what was imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedSnapshot {
    /// The identity that it had where it comes from. If this node knows that snapshot, it gets another one.
    pub id: SnapshotId,
    /// When it was taken.
    pub created: Timestamp,
    /// A person's words, at most [`Snapshot::NOTE_BYTES_MAX`].
    pub note: String,
    /// Labels, at most [`Snapshot::TAGS_MAX`].
    pub tags: Vec<Tag>,
}

/// An import that is not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportStatus {
    /// The workspace that it is for.
    pub workspace: WorkspaceName,
    /// Names what is imported.
    pub identity: [u8; 32],
    /// Inodes that are complete.
    pub inodes: u64,
    /// Bytes of their regular files.
    pub bytes: u64,
    /// When it began.
    pub started: Timestamp,
    /// When it last came further.
    pub progressed: Timestamp,
    /// Whether somebody is at it.
    pub running: bool,
}

/// A tree that is being imported, in the order of a tree (`cairn_types::tree`). Nobody sees it before it is finished. If it is
/// dropped, what was written stays, and [`Volumes::begin_import`] goes on with it; after a fault in the tree it is forgotten.
pub struct Import {
    volumes: Arc<Volumes>,
    workspace: WorkspaceName,
    /// How far the batch goes.
    record: ImportRecord,
    /// How far it was when it began.
    resumed: InodeId,
    batch: ImportBatch,
    current: Option<Current>,
    pin: u64,
    /// Segments that the batch refers to.
    segments: BTreeSet<SegmentId>,
    logged_bytes: u64,
    passing: Passing,
    /// An earlier call has failed.
    broken: bool,
    /// The tree is at fault.
    refused: bool,
    /// What the workspace that it goes into could hold when it began.
    limits: Option<CapacityLimits>,
}

/// The inode that began last.
struct Current {
    inode: InodeId,
    record: InodeRecord,
    last_name: Vec<u8>,
    subdirectories: u32,
    entries_sum: u128,
    has_target: bool,
    /// Bytes that are neither in the log nor in the batch, and where they begin.
    buffer: Vec<u8>,
    buffer_start: u64,
    /// Where the last data ended.
    data_end: u64,
    has_extents: bool,
}

impl Volumes {
    /// Begins an import, or goes on with one of the same identity. Errors: [`ImportError::Running`];
    /// [`ControlError::WorkspaceExists`] or [`ControlError::NoWorkspace`] if it is not as `into_existing` says;
    /// [`ControlError::NoSpace`], [`ControlError::Storage`].
    pub fn begin_import(self: &Arc<Self>, request: ImportRequest) -> Result<Import, ImportError> {
        let ImportRequest {
            workspace: name,
            identity,
            same_origin,
            into_existing,
        } = request;
        self.require_room()?;
        let exists = self.shared.store.volume_named(&name).map_err(failed)?.is_some();
        match (exists, into_existing) {
            (true, false) => return Err(ControlError::WorkspaceExists { name }.into()),
            (false, true) => return Err(ControlError::NoWorkspace { name }.into()),
            _ => {}
        }
        let limits = match exists {
            true => Some(self.named(&name)?.state.read().open.record.limits),
            false => None,
        };
        if !self.shared.importing.lock().insert(name.clone()) {
            return Err(ImportError::Running { name });
        }
        let new = NewImport {
            identity,
            same_origin,
            secret: self.shared.random(),
            now: self.shared.now(),
        };
        let record = match self.shared.store.begin_import(&name, new) {
            Ok(record) => record,
            Err(error) => {
                self.shared.importing.lock().remove(&name);
                return Err(failed(error).into());
            }
        };
        Ok(Import {
            pin: self.shared.references.pin(&self.shared.log),
            volumes: self.clone(),
            workspace: name,
            batch: ImportBatch::new(&record),
            resumed: record.last,
            record,
            current: None,
            segments: BTreeSet::new(),
            logged_bytes: 0,
            passing: Passing::default(),
            broken: false,
            refused: false,
            limits,
        })
    }

    /// The imports that are not finished, by name. Errors: [`ControlError::Storage`].
    pub fn imports(&self) -> Result<Vec<ImportStatus>, ControlError> {
        let imports = self.shared.store.imports().map_err(failed)?;
        let running = self.shared.importing.lock();
        let status = |(workspace, record): (WorkspaceName, ImportRecord)| ImportStatus {
            running: running.contains(&workspace),
            workspace,
            identity: record.identity,
            inodes: record.usage.inodes,
            bytes: record.usage.bytes,
            started: record.started,
            progressed: record.progressed,
        };
        Ok(imports.into_iter().map(status).collect())
    }

    /// Forgets an import that was stopped; what it has written is freed in the background. Errors: [`ImportError::Running`],
    /// [`ImportError::None`], [`ControlError::Storage`].
    pub fn abandon_import(&self, name: &WorkspaceName) -> Result<(), ImportError> {
        let running = self.shared.importing.lock();
        if running.contains(name) {
            return Err(ImportError::Running { name: name.clone() });
        }
        match self.shared.store.abandon_import(name).map_err(failed)? {
            true => Ok(()),
            false => Err(ImportError::None { name: name.clone() }),
        }
    }
}

impl Import {
    /// All objects of the inodes up to this one are there from an earlier attempt: the tree goes on behind it. `None`: it begins.
    /// What is there survives a power cut as this answer does.
    pub fn resume_after(&self) -> Option<InodeId> {
        (self.resumed.0 > 0).then_some(self.resumed)
    }

    /// An inode begins. Errors, of this and the next three: [`ImportError::Invalid`], [`ImportError::Broken`],
    /// [`ControlError::NoSpace`], [`ControlError::Storage`].
    pub fn node(&mut self, inode: InodeId, node: &Node) -> Result<(), ImportError> {
        self.guarded(|import| {
            import.complete()?;
            import.begin(inode, node)
        })
    }

    /// An entry of the inode that began last, a directory.
    pub fn entry(&mut self, name: &[u8], inode: InodeId, kind: FileKind) -> Result<(), ImportError> {
        self.guarded(|import| {
            let secret = import.record.secret;
            let current = import.current(FileKind::Directory)?;
            let directory = current.inode;
            let invalid = |fault| ImportError::Invalid {
                inode: directory,
                fault,
            };
            FileName::new(name).map_err(|source| invalid(ImportFault::Name { source }))?;
            if current.last_name.as_slice() >= name {
                return Err(invalid(ImportFault::EntryOrder));
            }
            if inode.0 == 0 {
                return Err(invalid(ImportFault::InodeNumber));
            }
            current.last_name = name.to_vec();
            let from = match kind {
                FileKind::Directory => {
                    current.subdirectories = current.subdirectories.saturating_add(1);
                    directory
                }
                _ => InodeId(0),
            };
            let sum = current.entries_sum;
            current.entries_sum = sum.wrapping_add(link_number(&secret, inode, kind, from));
            let entry = DirentRecord {
                name: name.to_vec(),
                inode,
                kind,
                cookie: current.record.next_cookie,
            };
            current.record.next_cookie += 1;
            current.record.entries += 1;
            import.batch.entry(directory, &entry);
            import.commit_if_full()
        })
    }

    /// The target of the inode that began last, a symbolic link.
    pub fn link_target(&mut self, target: &[u8]) -> Result<(), ImportError> {
        self.guarded(|import| {
            let current = import.current(FileKind::Symlink)?;
            let inode = current.inode;
            let sound = (1..=SYMLINK_BYTES_MAX).contains(&target.len())
                && !target.contains(&0)
                && !current.has_target
                && current.record.size == target.len() as u64;
            if !sound {
                return Err(ImportError::Invalid {
                    inode,
                    fault: ImportFault::Target,
                });
            }
            current.has_target = true;
            import.batch.link_target(inode, target);
            Ok(())
        })
    }

    /// Bytes of the inode that began last, a regular file; offsets ascend. What is not given is zeros.
    pub fn data(&mut self, offset: u64, data: &[u8]) -> Result<(), ImportError> {
        self.guarded(|import| {
            let current = import.current(FileKind::Regular)?;
            let end = offset.checked_add(data.len() as u64);
            let fits = end.filter(|end| offset >= current.data_end && *end <= current.record.size);
            let Some(end) = fits else {
                return Err(ImportError::Invalid {
                    inode: current.inode,
                    fault: ImportFault::DataRange,
                });
            };
            if data.is_empty() {
                return Ok(());
            }
            current.data_end = end;
            import.buffer(offset, data)
        })
    }

    /// Makes the workspace, with what was imported as its tree and as its one snapshot. Durable on return. Errors:
    /// [`ImportError::Invalid`] if parts of the tree are missing or do not fit each other; [`ControlError::WorkspaceExists`];
    /// [`ControlError::LimitExceeded`]; as [`Import::node`].
    pub fn finish_new(
        mut self,
        policy: ExportPolicy,
        imported: ImportedSnapshot,
    ) -> Result<(Workspace, Snapshot), ImportError> {
        limit(
            "number of allowed networks",
            policy.allow.len(),
            ExportPolicy::ALLOW_MAX,
        )?;
        let details = check_snapshot(imported)?;
        self.guarded(Import::verify)?;
        let shared = &self.volumes.shared;
        let _administration = self.volumes.administration.lock();
        let record = VolumeRecord {
            name: self.workspace.clone(),
            head: BranchId(0),
            inodes_reserved: InodeId(InodeId::ROOT.0 + 1),
            next_snapshot: 1,
            snapshots: 0,
            created: shared.now(),
            last_snapshot: None,
            forked_from: None,
            policy,
            limits: CapacityLimits::default(),
        };
        let spare = SnapshotId(shared.random());
        let made = shared
            .store
            .finish_import(record, &self.record, details, spare)
            .map_err(failed)?;
        let (open, taken) = made.unzip();
        let workspace = self.volumes.admit(self.workspace.clone(), open)?;
        let taken = taken.ok_or_else(|| ControlError::WorkspaceExists {
            name: self.workspace.clone(),
        })?;
        Ok((workspace, snapshot(taken)))
    }

    /// Makes the live tree of the workspace equal to what was imported, after a safety snapshot of what it was, and records a
    /// snapshot of it. Mounted clients carry on: the root's handle stays good, and with the same origin those of objects that both
    /// have. Durable on return. Errors: as [`Import::finish_new`], but [`ControlError::NoWorkspace`]; [`ControlError::OverCapacity`] if the
    /// tree is more than the workspace may hold, which is told as soon as it is clear.
    pub fn finish_into(mut self, imported: ImportedSnapshot) -> Result<Restored, ImportError> {
        let details = check_snapshot(imported)?;
        self.guarded(Import::verify)?;
        let shared = &self.volumes.shared;
        let volume = self.volumes.named(&self.workspace)?;
        let safety = SnapshotDetails {
            id: SnapshotId(shared.random()),
            origin: Origin::Safety,
            created: shared.now(),
            note: format!("before importing {}", details.id),
            tags: Vec::new(),
        };
        let spare = SnapshotId(shared.random());
        let mut state = self.volumes.quiesce(&self.workspace, &volume)?;
        require_capacity(&self.workspace, self.record.usage, state.open.record.limits)?;
        let root = volume.load_inode(&state, InodeId::ROOT).map_err(stopped)?;
        let generation = root.ok_or(Error::Stale).map_err(stopped)?.generation;
        // A lineage that cannot be read must not become the head.
        let lineage = Lineage::live(shared.store.engine(), self.record.branch).map_err(failed)?;
        let (taken, safety) = shared
            .store
            .finish_import_into(
                &mut state.open,
                &self.record,
                (details, spare),
                safety,
                generation,
            )
            .map_err(failed)?;
        state.lineage = lineage;
        // Numbers below the reserved ones may be in use now.
        state.next_inode = state.next_inode.max(self.record.last.0 + 1);
        drop(state);
        Ok(Restored {
            snapshot: snapshot(taken),
            safety: snapshot(safety),
        })
    }

    /// Does a step unless an earlier one has failed, and remembers if this one does.
    fn guarded<T>(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<T, ImportError>,
    ) -> Result<T, ImportError> {
        if self.broken {
            return Err(ImportError::Broken);
        }
        let outcome = step(self);
        if let Err(error) = &outcome {
            self.broken = true;
            self.refused = matches!(error, ImportError::Invalid { .. });
        }
        outcome
    }

    /// The inode that began last, which must be of that kind.
    fn current(&mut self, kind: FileKind) -> Result<&mut Current, ImportError> {
        let inode = self
            .current
            .as_ref()
            .map_or(self.record.last, |current| current.inode);
        let current = self
            .current
            .as_mut()
            .filter(|current| current.record.kind == kind);
        current.ok_or(ImportError::Invalid {
            inode,
            fault: ImportFault::WrongKind,
        })
    }

    fn begin(&mut self, inode: InodeId, node: &Node) -> Result<(), ImportError> {
        check_node(inode, node, self.record.last).map_err(|fault| ImportError::Invalid { inode, fault })?;
        let is_directory = node.kind == FileKind::Directory;
        let record = InodeRecord {
            kind: node.kind,
            mode: node.mode,
            links: node.links,
            uid: node.uid,
            gid: node.gid,
            generation: match self.record.same_origin {
                true => node.generation,
                false => new_generation(&self.record.secret, inode, node.generation),
            },
            size: match node.kind {
                FileKind::Directory => DIRECTORY_BYTES,
                FileKind::Regular | FileKind::Symlink => node.size,
                _ => 0,
            },
            device: node.device,
            accessed: node.accessed,
            modified: node.modified,
            changed: node.changed,
            // Of another origin the number may be that of another file here, with the same data version.
            data_version: match self.record.same_origin {
                true => node.data_version.max(1),
                false => next_data_version(0, self.record.started),
            },
            log_sequence: 0,
            used: match node.kind {
                FileKind::Directory | FileKind::Symlink => DIRECTORY_BYTES,
                _ => 0,
            },
            parent: if is_directory { node.parent } else { InodeId(0) },
            next_cookie: FIRST_COOKIE,
            entries: 0,
            inline: node.kind == FileKind::Regular,
            verifier: None,
        };
        self.current = Some(Current {
            inode,
            record,
            last_name: Vec::new(),
            subdirectories: 0,
            entries_sum: 0,
            has_target: false,
            buffer: Vec::new(),
            buffer_start: 0,
            data_end: 0,
            has_extents: false,
        });
        Ok(())
    }

    /// Takes bytes of the current file into the buffer; what is more than an extent goes to the log.
    fn buffer(&mut self, mut offset: u64, mut data: &[u8]) -> Result<(), ImportError> {
        let extent_bytes = self.extent_bytes_max();
        while let Some(current) = self.current.as_mut()
            && !data.is_empty()
        {
            let buffered_end = current.buffer_start + current.buffer.len() as u64;
            if current.buffer.is_empty() {
                current.buffer_start = offset;
            } else if offset != buffered_end {
                let small = !current.has_extents && offset + data.len() as u64 <= INLINE_BYTES_MAX as u64;
                if small {
                    // It may still be a small file, whose data is one piece.
                    let gap = (offset - buffered_end) as usize;
                    current.buffer.resize(current.buffer.len() + gap, 0);
                } else {
                    self.log_buffer()?;
                    continue;
                }
            }
            let room = extent_bytes - current.buffer.len().min(extent_bytes);
            let (now, later) = data.split_at(room.min(data.len()));
            current.buffer.extend_from_slice(now);
            let full = current.buffer.len() >= extent_bytes;
            offset += now.len() as u64;
            data = later;
            if full {
                self.log_buffer()?;
            }
        }
        Ok(())
    }

    /// Bytes that go into one record of the log.
    fn extent_bytes_max(&self) -> usize {
        let logged = self.volumes.shared.settings.log.payload_bytes_max as usize;
        EXTENT_BYTES_MAX.min(logged).max(1)
    }

    /// Appends the buffer to the log.
    fn log_buffer(&mut self) -> Result<(), ImportError> {
        let shared = &self.volumes.shared;
        let Some(current) = self.current.as_mut().filter(|current| !current.buffer.is_empty()) else {
            return Ok(());
        };
        let write = LoggedWrite {
            branch: LoggedWrite::NOBODY,
            inode: current.inode,
            offset: current.buffer_start,
            time: self.record.started,
        };
        let appended = shared.log.append(&write.encode(), &[&current.buffer]);
        let appended = appended.map_err(log_failed).map_err(stopped)?;
        self.segments.insert(appended.slice.segment());
        self.passing.appended(&shared.log, &appended.slice);
        self.logged_bytes += current.buffer.len() as u64;
        let extent = ExtentRecord {
            start: current.buffer_start,
            extent: Extent::Log(appended.slice),
        };
        self.batch.extent(current.inode, &extent);
        current.record.log_sequence = appended.sequence;
        current.record.inline = false;
        current.record.used += current.buffer.len() as u64;
        current.has_extents = true;
        current.buffer.clear();
        self.commit_if_full()
    }

    /// Ends the inode that began last: all its objects are given.
    fn complete(&mut self) -> Result<(), ImportError> {
        if self.current.as_ref().is_some_and(|current| {
            current.has_extents
                || current.buffer_start + current.buffer.len() as u64 > INLINE_BYTES_MAX as u64
        }) {
            self.log_buffer()?;
        }
        let Some(mut current) = self.current.take() else {
            return Ok(());
        };
        let inode = current.inode;
        let invalid = |fault| Err(ImportError::Invalid { inode, fault });
        if !current.buffer.is_empty() {
            let mut data = vec![0; current.buffer_start as usize];
            data.append(&mut current.buffer);
            self.batch.inline_data(inode, &data);
            current.record.used = INLINE_BYTES_USED;
        }
        let (secret, record) = (self.record.secret, &current.record);
        let links = match record.kind {
            FileKind::Directory if record.links != current.subdirectories.saturating_add(2) => {
                return invalid(ImportFault::Links);
            }
            // The root has no name.
            FileKind::Directory if inode == InodeId::ROOT => 0,
            FileKind::Directory => link_number(&secret, inode, record.kind, record.parent),
            FileKind::Symlink if !current.has_target => return invalid(ImportFault::Target),
            _ => {
                let one = link_number(&secret, inode, record.kind, InodeId(0));
                one.wrapping_mul(u128::from(record.links))
            }
        };
        let usage = &mut self.record.usage;
        usage.inodes += 1;
        if record.kind == FileKind::Regular {
            usage.bytes = match usage.bytes.checked_add(record.size) {
                Some(bytes) if bytes <= FILE_BYTES_MAX => bytes,
                _ => return invalid(ImportFault::Size),
            };
        }
        if let Some(limits) = self.limits {
            require_capacity(&self.workspace, self.record.usage, limits)?;
        }
        self.record.links_sum = self.record.links_sum.wrapping_add(links);
        self.record.entries_sum = self.record.entries_sum.wrapping_add(current.entries_sum);
        self.record.last = inode;
        self.batch.inode(inode, record);
        self.commit_if_full()
    }

    fn commit_if_full(&mut self) -> Result<(), ImportError> {
        let full = self.batch.len() >= BATCH_OBJECTS_MAX
            || self.batch.bytes() >= BATCH_BYTES_MAX
            || self.logged_bytes >= BATCH_LOGGED_BYTES_MAX;
        if full { self.commit() } else { Ok(()) }
    }

    /// Writes the batch, with how far the import is. What it refers to is durable before.
    fn commit(&mut self) -> Result<(), ImportError> {
        let shared = self.volumes.shared.clone();
        if shared.metadata_sync.has_failed() || shared.log_sync.has_failed() {
            return Err(ControlError::Storage {
                what: "a sync failed; restart the daemon after repairing the disk".to_owned(),
                kind: cairn_types::ErrorKind::Unavailable,
            }
            .into());
        }
        self.volumes.require_room()?;
        if self.logged_bytes > 0 {
            shared.log.sync().map_err(log_failed).map_err(stopped)?;
            self.passing.finish(&shared.log);
        }
        self.record.progressed = shared.now();
        let batch = std::mem::replace(&mut self.batch, ImportBatch::new(&self.record));
        shared
            .store
            .save_import(&self.workspace, &self.record, batch)
            .map_err(failed)?;
        let segments = std::mem::take(&mut self.segments);
        shared.references.committed(self.pin, &shared.log, segments);
        self.logged_bytes = 0;
        Ok(())
    }

    /// Writes what is left and checks that the tree is whole.
    fn verify(&mut self) -> Result<(), ImportError> {
        self.complete()?;
        self.commit()?;
        let invalid = |fault| ImportError::Invalid {
            inode: InodeId::ROOT,
            fault,
        };
        if self.record.last.0 == 0 {
            return Err(invalid(ImportFault::Root));
        }
        if self.record.links_sum != self.record.entries_sum {
            return Err(invalid(ImportFault::Names));
        }
        let store = &self.volumes.shared.store;
        if !store.import_is_rooted(&self.record).map_err(failed)? {
            return Err(invalid(ImportFault::Circle));
        }
        Ok(())
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        let shared = &self.volumes.shared;
        shared.references.unpin(self.pin);
        // With the same tree it would fail again: nothing of it is of use.
        if self.refused
            && let Err(error) = shared.store.abandon_import(&self.workspace)
        {
            tracing::warn!(workspace = %self.workspace, %error, "cannot forget a refused import");
        }
        shared.importing.lock().remove(&self.workspace);
    }
}

fn check_snapshot(imported: ImportedSnapshot) -> Result<SnapshotDetails, ControlError> {
    limit("note in bytes", imported.note.len(), Snapshot::NOTE_BYTES_MAX)?;
    limit("number of tags", imported.tags.len(), Snapshot::TAGS_MAX)?;
    Ok(SnapshotDetails {
        id: imported.id,
        origin: Origin::Requested,
        created: imported.created,
        note: imported.note,
        tags: imported.tags,
    })
}

/// Checks what can be told of an inode by its attributes.
fn check_node(inode: InodeId, node: &Node, last: InodeId) -> Result<(), ImportFault> {
    if inode.0 == 0 || inode.0 > INODE_MAX {
        return Err(ImportFault::InodeNumber);
    }
    if inode <= last {
        return Err(ImportFault::InodeOrder { last });
    }
    let is_directory = node.kind == FileKind::Directory;
    let is_root = inode == InodeId::ROOT;
    if last.0 == 0 && !(is_root && is_directory) {
        return Err(ImportFault::Root);
    }
    if is_directory && (node.parent == inode) != is_root {
        return Err(ImportFault::Parent);
    }
    if !(1..=LINKS_MAX).contains(&node.links) {
        return Err(ImportFault::Links);
    }
    if node.mode > 0o7777 {
        return Err(ImportFault::Mode);
    }
    let sound = match node.kind {
        FileKind::Regular => node.size <= FILE_BYTES_MAX,
        FileKind::Symlink => (1..=SYMLINK_BYTES_MAX as u64).contains(&node.size),
        FileKind::Directory => true,
        FileKind::BlockDevice | FileKind::CharacterDevice | FileKind::Fifo | FileKind::Socket => {
            node.size == 0
        }
    };
    if sound { Ok(()) } else { Err(ImportFault::Size) }
}

fn keyed(secret: &[u8; 16], purpose: u8) -> SipHasher24 {
    let mut hasher = SipHasher24::new_with_key(secret);
    hasher.write_u8(purpose);
    hasher
}

/// The number that stands for a link to an inode; of a directory, from its parent.
fn link_number(secret: &[u8; 16], inode: InodeId, kind: FileKind, parent: InodeId) -> u128 {
    let mut hasher = keyed(secret, 1);
    hasher.write(&inode.0.to_le_bytes());
    hasher.write(&parent.0.to_le_bytes());
    hasher.write_u8(match kind {
        FileKind::Regular => 1,
        FileKind::Directory => 2,
        FileKind::Symlink => 3,
        FileKind::BlockDevice => 4,
        FileKind::CharacterDevice => 5,
        FileKind::Fifo => 6,
        FileKind::Socket => 7,
    });
    hasher.finish128().as_u128()
}

/// The generation of an inode that was another object elsewhere.
fn new_generation(secret: &[u8; 16], inode: InodeId, generation: u32) -> u32 {
    let mut hasher = keyed(secret, 2);
    hasher.write(&inode.0.to_le_bytes());
    hasher.write(&generation.to_le_bytes());
    hasher.finish128().as_u128() as u32
}
