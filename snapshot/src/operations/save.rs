//! Saving: the workspace, as it is, becomes a snapshot.
//!
//! The tree is captured into the staging area; one sync of the file system makes it durable; then tree and list are moved to their places,
//! and the descriptor is written, with which the snapshot exists. A kill before that leaves residue, which goes with the next operation;
//! a kill after it leaves a state that lacks the snapshot, which the next operation puts right.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cairn_content::codec::Compression;
use cairn_types::{SnapshotId, Tag, Timestamp};
use rustix::fs::{AtFlags, Mode, OFlags, fsync, mkdirat, openat, renameat, statat, syncfs, unlinkat};

use super::live::walk_options;
use super::recover::{Recovered, recover, remove_archive};
use super::restore::{count_unsaved, head_manifest};
use super::store::store;
use super::{OperationError, audit};
use crate::archive::{Description, Phase, Progress};
use crate::directory::{RelativePath, WalkOptions};
use crate::engine::capture::{Capture, Captured, Target, capture};
use crate::engine::chunks::{self, ChunksCapture, Previous};
use crate::engine::{Choice, EngineError, EngineKind, Site, Tools, choose, remove_snapshot, seal_snapshot};
use crate::manifest::{ManifestOptions, ManifestReader, ManifestSummary, ManifestWriter};
use crate::repository::{
    Area, AuditEvent, Counts, DegradedEngine, Descriptor, EngineUse, Intent, Lease, LeaseError, Losses,
    ManifestFile, Origin, Paths, Repository, RepositoryError, RequestKey, Torn,
};

/// Threads that write a tree.
const THREADS: usize = 2;
/// The names of a capture in the staging area.
pub(super) const TREE: &str = "tree";
const MANIFEST: &str = "manifest";

/// What shall be saved.
#[derive(Debug, Clone)]
pub struct SaveRequest {
    /// A person's words.
    pub note: String,
    /// Labels.
    pub tags: BTreeSet<Tag>,
    /// The template that gave them.
    pub template: Option<String>,
    /// The engine; `None`: the best that can be used.
    pub engine: Option<EngineKind>,
    /// How the data is compressed; `None`: as the configuration says. Asks for the engine `archive`, the only one that compresses.
    pub compression: Option<Compression>,
    /// Only these paths, with what is below them; nothing: everything.
    pub paths: Vec<RelativePath>,
    /// The caller's key: a second request with it is answered by the first one's snapshot.
    pub key: Option<RequestKey>,
    /// Why.
    pub origin: Origin,
    /// No snapshot is made of what the newest one holds already.
    pub skip_unchanged: bool,
    /// How long to wait for others.
    pub wait: Duration,
}

impl SaveRequest {
    /// Everything, by the best engine, with a note; waits for a minute.
    pub fn new(note: String) -> Self {
        SaveRequest {
            note,
            tags: BTreeSet::new(),
            template: None,
            engine: None,
            compression: None,
            paths: Vec::new(),
            key: None,
            origin: Origin::Requested,
            skip_unchanged: false,
            wait: Duration::from_secs(60),
        }
    }
}

/// What became of a request.
#[derive(Debug, Clone)]
pub enum Saved {
    /// A snapshot was made.
    New(Box<Descriptor>),
    /// A request with the same key has made it before.
    Existing(Box<Descriptor>),
    /// The newest snapshot holds it already.
    Unchanged(SnapshotId),
}

impl Saved {
    /// The snapshot, if one was made.
    pub fn made(&self) -> Option<SnapshotId> {
        match self {
            Saved::New(descriptor) => Some(descriptor.id),
            Saved::Existing(_) | Saved::Unchanged(_) => None,
        }
    }
}

/// Saves the workspace. On return the snapshot is durable. Also tells what was put right before.
///
/// # Errors
/// The lease; an engine that was asked for and cannot be used; `NoPath`; the workspace cannot be read, the repository cannot be written;
/// `Cancelled`. Then there is no new snapshot.
pub fn save(
    repository: &Repository,
    tools: &Tools,
    request: &SaveRequest,
    progress: &Progress,
) -> Result<(Saved, Vec<Recovered>), OperationError> {
    let lease = repository.lease("save", request.wait, progress.cancel_flag())?;
    let recovered = recover(repository, &lease, tools, progress)?;
    let saved = Saving::new(repository, &lease, tools, progress).run(request)?;
    lease.release()?;
    Ok((saved, recovered))
}

/// What a capture is to be.
struct Wanted<'a> {
    id: SnapshotId,
    /// Only these; nothing: everything.
    scope: &'a [RelativePath],
    compression: Option<Compression>,
    /// The list of the snapshot before.
    previous: Option<Arc<ManifestReader>>,
    /// What an archive in the store is found by.
    tags: &'a BTreeSet<Tag>,
    note: &'a str,
}

/// Bytes of a note that an archive in the store says, at most: its root has to hold everything that leads to the tree.
const ARCHIVE_NOTE_BYTES_MAX: usize = 1024;

/// The beginning of a note.
fn shortened(note: &str) -> &str {
    let mut end = note.len().min(ARCHIVE_NOTE_BYTES_MAX);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    &note[..end]
}

/// A save under a lease.
pub(super) struct Saving<'a> {
    repository: &'a Repository,
    lease: &'a Lease,
    tools: &'a Tools,
    progress: &'a Progress,
}

/// What is captured.
pub(super) struct Source<'s> {
    /// Its root, open for reading.
    pub directory: BorrowedFd<'s>,
    /// Its path, absolute.
    pub path: &'s Path,
    /// What of it is captured. The paths of the request are added.
    pub walk: WalkOptions,
    /// What the snapshot has behind it, if it is not the workspace as it is now.
    pub past: Option<Past>,
}

/// What a snapshot that was taken long ago has behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Past {
    /// When it was taken.
    pub created: Timestamp,
    /// The snapshot before it.
    pub parent: Option<SnapshotId>,
    /// The snapshot that had been restored before, if that was not its parent.
    pub restored_from: Option<SnapshotId>,
}

/// A directory of the staging area, and what is in it.
pub(super) struct Staging {
    area: OwnedFd,
    pub directory: OwnedFd,
    pub path: PathBuf,
    name: String,
}

impl Source<'_> {
    fn walk_within(&self, scope: &[RelativePath]) -> WalkOptions {
        WalkOptions {
            include: (!scope.is_empty()).then(|| scope.to_vec()),
            ..self.walk.clone()
        }
    }
}

impl<'a> Saving<'a> {
    pub fn new(
        repository: &'a Repository,
        lease: &'a Lease,
        tools: &'a Tools,
        progress: &'a Progress,
    ) -> Self {
        Saving {
            repository,
            lease,
            tools,
            progress,
        }
    }

    pub fn run(&self, request: &SaveRequest) -> Result<Saved, OperationError> {
        let repository = self.repository;
        self.progress.enter(Phase::Preparing);
        if let Some(key) = &request.key
            && let Some(known) = repository.known_request(key)?
        {
            return Ok(Saved::Existing(Box::new(repository.descriptor(known)?)));
        }
        if request.skip_unchanged
            && request.paths.is_empty()
            && let Some(same) = self.unchanged()?
        {
            return Ok(Saved::Unchanged(same));
        }
        let source = Source {
            directory: repository.workspace(),
            path: repository.workspace_path(),
            walk: walk_options(repository, &[])?,
            past: None,
        };
        self.take(request, &source)
    }

    /// Makes a snapshot of `source`. The keys of requests are not looked at.
    pub fn take(&self, request: &SaveRequest, source: &Source<'_>) -> Result<Saved, OperationError> {
        let staging = self.stage()?;
        let made = self.make(request, source, &staging);
        // What has its place is not in it any more. A subvolume goes by itself.
        if made.is_err() {
            let tree = staging.path.join(TREE);
            let _ = remove_snapshot(
                self.tools,
                staging.directory.as_fd(),
                TREE.as_ref(),
                &tree,
                2,
                &Progress::new(),
            );
        }
        self.clean(&staging);
        made
    }

    /// Removes a staging directory with what is left in it.
    pub fn clean(&self, staging: &Staging) {
        let removed = remove_snapshot(
            self.tools,
            staging.area.as_fd(),
            staging.name.as_ref(),
            &staging.path,
            1,
            &Progress::new(),
        );
        if let Err(error) = removed {
            tracing::warn!(path = %staging.path.display(), %error, "cannot remove what a save made on the way; the next operation does");
        }
    }

    /// Makes a directory in the staging area.
    pub fn stage(&self) -> Result<Staging, OperationError> {
        let control = self.repository.control();
        let area = control.area(Area::Staging)?;
        let name = self.repository.new_snapshot_id().to_string();
        let failed = |error: rustix::io::Errno| OperationError::staging(error.into());
        mkdirat(&area, name.as_str(), Mode::RWXU).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(&area, name.as_str(), flags, Mode::empty()).map_err(failed)?;
        Ok(Staging {
            area,
            directory,
            path: control.path_of(Area::Staging, &name),
            name,
        })
    }

    /// The time as the file system of the control directory has it, which may be another machine's.
    fn file_system_time(&self, staging: &Staging) -> Result<(File, Timestamp), OperationError> {
        let failed = |error: rustix::io::Errno| OperationError::staging(error.into());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&staging.directory, MANIFEST, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        let status = statat(&staging.directory, MANIFEST, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        let time = Timestamp::new(status.st_mtime, u32::try_from(status.st_mtime_nsec).unwrap_or(0));
        Ok((File::from(file), time))
    }

    fn make(
        &self,
        request: &SaveRequest,
        source: &Source<'_>,
        staging: &Staging,
    ) -> Result<Saved, OperationError> {
        let repository = self.repository;
        let begun = repository.parts().clock.now();
        let mut scope = request.paths.clone();
        scope.sort();
        let all = scope.clone();
        scope.retain(|path| !all.iter().any(|other| other != path && path.is_within(other)));
        scope.dedup();
        let site = Site {
            workspace: source.directory,
            workspace_path: source.path,
            staging: staging.directory.as_fd(),
            staging_path: &staging.path,
        };
        let id = repository.new_snapshot_id();
        // Of files that were never the workspace's, its last snapshot knows nothing.
        let previous = match source.past {
            None => head_manifest(repository),
            Some(_) => None,
        };
        let mut choice = self.choose(&site, request)?;
        self.progress.enter(Phase::Transferring);
        if choice.used == EngineKind::Archive {
            // Nothing is announced to a store that cannot be used.
            store(repository)?.own(false)?;
        }
        // An archive is complete before its descriptor: after a kill it has to go.
        let record = match choice.used {
            EngineKind::Archive => Some(repository.begin(
                self.lease,
                Intent::Save {
                    snapshot: id,
                    engine: choice.used.text().to_owned(),
                    key: request.key.map(|key| key.key),
                },
            )?),
            _ => None,
        };
        let wanted = Wanted {
            id,
            scope: &scope,
            compression: request.compression,
            previous: previous.clone(),
            tags: &request.tags,
            note: &request.note,
        };
        let (captured, summary, length) = loop {
            match self.capture(&choice, source, staging, &wanted) {
                Ok(captured) => break captured,
                Err(OperationError::Engine(error)) => {
                    // Another engine may do.
                    choice = choice.degrade(&error, &site, self.tools).map_err(|_| error)?;
                    tracing::warn!(engine = %choice.used, "the capture is tried with another engine");
                    let path = staging.path.join(TREE);
                    remove_snapshot(
                        self.tools,
                        staging.directory.as_fd(),
                        TREE.as_ref(),
                        &path,
                        2,
                        &Progress::new(),
                    )?;
                    let gone = unlinkat(&staging.directory, MANIFEST, AtFlags::empty());
                    gone.map_err(|error| OperationError::staging(error.into()))?;
                }
                Err(error) => return Err(error),
            }
        };
        self.check_paths(&scope, staging)?;
        self.progress.enter(Phase::Finishing);
        let synced = syncfs(&staging.directory);
        synced.map_err(|error| OperationError::staging(error.into()))?;
        let descriptor = self.describe(
            request,
            source.past,
            &choice,
            &captured,
            &summary,
            (id, begun, length, scope),
        )?;
        if let Some(key) = &request.key {
            repository.remember_request(self.lease, key, descriptor.id)?;
        }
        let published = self.publish(&descriptor, staging);
        if let (Err(OperationError::Repository(RepositoryError::Lease(LeaseError::Lost { .. }))), Some(_)) =
            (&published, &record)
        {
            // Whoever took over has looked for the archive before it was there.
            if matches!(repository.descriptor(id), Err(RepositoryError::NotFound { .. }))
                && let Err(error) = remove_archive(repository, id)
            {
                tracing::warn!(%error, "the archive of what became no snapshot cannot be removed");
            }
        }
        published?;
        if let Some(record) = record {
            repository.finish(self.lease, record.operation)?;
        }
        audit(
            repository,
            self.lease,
            AuditEvent::Save,
            Some(descriptor.id),
            &[
                ("engine", descriptor.engine.used.clone()),
                ("entries", descriptor.counts.entries.to_string()),
                ("bytes", descriptor.counts.bytes.to_string()),
            ],
        );
        Ok(Saved::New(Box::new(descriptor)))
    }

    /// The engine that was asked for, or that of the configuration, or the best. What nobody asked for, as a safety snapshot, is made by
    /// another one if need be.
    fn choose(&self, site: &Site<'_>, request: &SaveRequest) -> Result<Choice, OperationError> {
        let config = self.repository.config()?;
        let asked = match (request.compression, request.engine) {
            (Some(_), None) => Some(EngineKind::Archive),
            (Some(_), Some(engine)) if engine != EngineKind::Archive => {
                return Err(OperationError::Compression { engine });
            }
            (_, engine) => engine,
        };
        let configured = match (asked, config.engine()) {
            (None, Some(word)) => EngineKind::requested(word).ok().flatten(),
            _ => None,
        };
        match choose(site, asked.or(configured), self.tools) {
            Err(EngineError::Unavailable { .. }) if matches!(request.origin, Origin::Safety { .. }) => {
                Ok(choose(site, None, self.tools)?)
            }
            chosen => Ok(chosen?),
        }
    }

    /// What was captured, its list, and the bytes of that.
    fn capture(
        &self,
        choice: &Choice,
        source: &Source<'_>,
        staging: &Staging,
        wanted: &Wanted<'_>,
    ) -> Result<(Captured, ManifestSummary, u64), OperationError> {
        let previous = wanted.previous.as_deref();
        let (file, time) = self.file_system_time(staging)?;
        let options = ManifestOptions {
            previous: wanted.previous.clone(),
            ..ManifestOptions::default()
        };
        let list = file.try_clone().map_err(OperationError::staging)?;
        let mut manifest = ManifestWriter::create(file, options)?;
        if choice.used == EngineKind::Archive {
            return self.archive(source, wanted, (manifest, list, time));
        }
        let path = staging.path.join(TREE);
        let captured = capture(
            choice.used,
            self.tools,
            Capture {
                source: source.directory,
                source_path: source.path,
                walk: source.walk_within(wanted.scope),
                previous,
                target: Target {
                    parent: staging.directory.as_fd(),
                    name: TREE.as_ref(),
                    path: &path,
                },
                manifest: &mut manifest,
                racy_after: time,
                threads: THREADS,
                progress: self.progress,
            },
        )?;
        let summary = manifest.finish()?;
        let length = list.metadata().map_err(OperationError::staging)?.len();
        Ok((captured, summary, length))
    }

    /// Captures into the object store.
    fn archive(
        &self,
        source: &Source<'_>,
        wanted: &Wanted<'_>,
        (manifest, list, time): (ManifestWriter, File, Timestamp),
    ) -> Result<(Captured, ManifestSummary, u64), OperationError> {
        let repository = self.repository;
        let store = store(repository)?;
        let head = repository.state()?.head;
        let captured = chunks::capture(
            store,
            ChunksCapture {
                source: source.directory,
                description: Description {
                    snapshot: wanted.id,
                    workspace: repository.workspace_path().to_string_lossy().into_owned(),
                    origin: *blake3::hash(&repository.identity().id.0).as_bytes(),
                    created: repository.parts().clock.now(),
                    note: shortened(wanted.note).to_owned(),
                    tags: wanted.tags.iter().map(ToString::to_string).collect(),
                },
                compression: wanted.compression,
                walk: source.walk_within(wanted.scope),
                previous: head
                    .zip(wanted.previous.as_deref())
                    .map(|(snapshot, manifest)| Previous { snapshot, manifest }),
                manifest,
                racy_after: time,
                readers: THREADS,
                progress: self.progress,
            },
        )?;
        let length = list.metadata().map_err(OperationError::staging)?.len();
        let told = Captured {
            torn: captured.torn,
            torn_files: captured.torn_files,
            vanished: captured.vanished,
            left_out: captured.left_out,
            other_file_systems: captured.other_file_systems,
            reused_files: captured.reused_files,
            ..Captured::default()
        };
        Ok((told, captured.manifest, length))
    }

    /// Whether what was asked for is there.
    fn check_paths(&self, scope: &[RelativePath], staging: &Staging) -> Result<(), OperationError> {
        if scope.is_empty() {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&staging.directory, MANIFEST, flags, Mode::empty());
        let reader = ManifestReader::open(
            file.map_err(|error| OperationError::staging(error.into()))?
                .into(),
        )?;
        for path in scope {
            if reader.find(path)?.is_none() {
                return Err(OperationError::NoPath { path: path.clone() });
            }
        }
        Ok(())
    }

    /// The newest snapshot, if it holds everything that the workspace does.
    fn unchanged(&self) -> Result<Option<SnapshotId>, OperationError> {
        let state = self.repository.state()?;
        let newest = state
            .head
            .filter(|head| state.newest == Some(*head) && state.parts.is_empty());
        Ok(match newest {
            Some(newest) if count_unsaved(self.repository, &[], self.progress)? == 0 => Some(newest),
            _ => None,
        })
    }

    fn describe(
        &self,
        request: &SaveRequest,
        past: Option<Past>,
        choice: &Choice,
        captured: &Captured,
        summary: &ManifestSummary,
        (id, begun, length, scope): (SnapshotId, Timestamp, u64, Vec<RelativePath>),
    ) -> Result<Descriptor, OperationError> {
        let repository = self.repository;
        let state = repository.state()?;
        let now = match past {
            Some(past) => past.created,
            None => repository.parts().clock.now(),
        };
        let (parent, restored_from) = match past {
            Some(past) => (past.parent, past.restored_from),
            None => (state.last, state.head.filter(|head| state.last != Some(*head))),
        };
        let degraded = choice.degraded.iter().map(|degraded| DegradedEngine {
            from: degraded.from.text().to_owned(),
            reason: degraded.reason.clone(),
        });
        let mut torn = Torn::default();
        captured.torn.iter().for_each(|path| torn.add(path));
        torn.count = captured.torn_files;
        Ok(Descriptor {
            id,
            sequence: state.sequence + 1,
            fence: self.lease.token(),
            parent,
            created: now,
            capture_begun: past.map_or(begun, |past| past.created),
            capture_ended: now,
            note: request.note.clone(),
            tags: request.tags.clone(),
            template: request.template.clone(),
            engine: EngineUse {
                requested: choice.requested.map(|kind| kind.text().to_owned()),
                used: choice.used.text().to_owned(),
                degraded: degraded.collect(),
            },
            counts: Counts::from(summary.counts),
            paths: (!scope.is_empty()).then_some(Paths { paths: scope }),
            tree_hash: summary.tree_hash,
            manifest: ManifestFile {
                hash: summary.file_hash,
                length,
            },
            losses: Losses::from(&captured.losses),
            torn,
            vanished: captured.vanished,
            origin: request.origin.clone(),
            restored_from,
            key: request.key.map(|key| key.key),
            actor: repository.parts().actor.clone(),
            host: repository.parts().host.clone(),
        })
    }

    /// Moves what was captured to its place, and makes it a snapshot.
    fn publish(&self, descriptor: &Descriptor, staging: &Staging) -> Result<(), OperationError> {
        let repository = self.repository;
        let control = repository.control();
        self.lease.check()?;
        let name = descriptor.id.to_string();
        for (from, area) in [(TREE, Area::Snapshots), (MANIFEST, Area::Manifests)] {
            let to = control.area(area)?;
            let failed = |error: rustix::io::Errno| {
                RepositoryError::io("moving a capture to", &control.path_of(area, &name), error.into())
            };
            match renameat(&staging.directory, from, &to, name.as_str()) {
                Ok(()) => {}
                // Engines that keep no tree.
                Err(rustix::io::Errno::NOENT) if from == TREE => continue,
                Err(error) => return Err(failed(error).into()),
            }
            fsync(&to).map_err(failed)?;
            if area == Area::Snapshots
                && let Err(error) = seal_snapshot(
                    self.tools,
                    to.as_fd(),
                    name.as_ref(),
                    &control.path_of(area, &name),
                )
            {
                tracing::warn!(snapshot = name, %error, "the tree of a snapshot stays writable");
            }
        }
        repository.publish(self.lease, descriptor)?;
        let state = repository.state()?.after(descriptor);
        repository.set_state(self.lease, &state)?;
        repository.remember_sequences(&[(descriptor.id, descriptor.sequence)]);
        Ok(())
    }
}
