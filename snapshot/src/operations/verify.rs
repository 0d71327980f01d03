//! Verifying: every byte of a snapshot is read and compared with what its list says. A snapshot whose files nobody has read yet gets its
//! digests now, from its own data, and is `verified` from then on: later damage is found.
//!
//! Archives have a list of their own in the store ([`own_list`]), which is read and compared, too: it is what other machines know of them.
//!
//! The list with all digests stands beside the first one (`ID.verified`), and the outcome in `verified/ID.json`, which names it. The first list stays what
//! the descriptor says.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_types::{ErrorKind, SnapshotId, Timestamp, with_causes};
use rustix::fs::{AtFlags, Mode, OFlags, fsync, openat, renameat, unlinkat};

use self::own_list::OwnList;
use super::OperationError;
use super::payload::Payload;
use super::snapshots::{open, payload};
use crate::archive::{Phase, Progress};
use crate::directory::{Body, Digest, Record, RelativePath};
use crate::engine::chunks::ChunksError;
use crate::manifest::{ManifestOptions, ManifestReader, ManifestWriter};
use crate::repository::verified::{FAULT_BYTES_MAX, FAULTS_MAX};
use crate::repository::{self, Area, Descriptor, Outcome, Repository, RepositoryError, text};

mod own_list;

/// What the list with all digests is called, behind the id.
pub(super) const VERIFIED_SUFFIX: &str = ".verified";
/// Damaged files that are told.
pub const DAMAGE_SHOWN_MAX: usize = 1000;

/// How long a wait for the rate may hold up somebody who asks for it to stop.
const PACE_STEP: Duration = Duration::from_millis(100);

/// How much of a snapshot is to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integrity {
    /// Nobody has read all of its data since it was captured.
    Unverified,
    /// It was whole at this time.
    Verified(Timestamp),
    /// So many of its files were damaged at this time.
    Damaged(Timestamp, u64),
}

/// How a snapshot is verified.
#[derive(Debug, Clone, Copy, Default)]
pub struct VerifyRequest {
    /// Bytes of files that are read in a second, at most; `None`: as fast as it goes.
    pub bytes_per_second: Option<u64>,
}

/// A file whose data is not what it was, or a part of an archive's own list that cannot be read.
#[derive(Debug)]
pub struct FileDamage {
    /// The file; of a list the entry at which the damage begins.
    pub path: RelativePath,
    /// What is wrong.
    pub what: String,
}

/// What a verification found.
#[derive(Debug)]
pub struct Verification {
    /// Files that were read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files whose digest nobody had known.
    pub first_read: u64,
    /// The hash of the whole tree, if everything is whole.
    pub tree_hash: Option<Digest>,
    /// Damaged files, the first [`DAMAGE_SHOWN_MAX`].
    pub damage: Vec<FileDamage>,
    /// How many there are.
    pub damaged: u64,
    /// What could not be done besides, for people: that nobody knows of this reader, or that the outcome is not written down.
    pub warnings: Vec<String>,
}

impl Verification {
    fn tell(&mut self, path: RelativePath, what: String) {
        self.damaged += 1;
        if self.damage.len() < DAMAGE_SHOWN_MAX {
            self.damage.push(FileDamage { path, what });
        }
    }
}

/// How much of a snapshot is to be believed. Errors: the outcome of its verification cannot be read.
pub fn integrity(repository: &Repository, descriptor: &Descriptor) -> Result<Integrity, RepositoryError> {
    Ok(match repository.verification(descriptor.id)? {
        None => Integrity::Unverified,
        Some(found) => match found.outcome {
            Outcome::Sound => Integrity::Verified(found.verified),
            Outcome::Damaged { count, .. } => Integrity::Damaged(found.verified, count),
        },
    })
}

/// The list with all digests, if the snapshot was verified and it is whole.
pub(super) fn verified_manifest(
    repository: &Repository,
    id: SnapshotId,
) -> Result<Option<Arc<ManifestReader>>, OperationError> {
    let outcome = match repository.verification(id) {
        Ok(outcome) => outcome,
        // The first list is as good a list.
        Err(RepositoryError::Damaged { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let Some(outcome) = outcome else {
        return Ok(None);
    };
    let Ok(file) = open(repository, Area::Manifests, &format!("{id}{VERIFIED_SUFFIX}")) else {
        return Ok(None);
    };
    match ManifestReader::open(file) {
        Ok(reader)
            if reader.summary().tree_hash.is_some() && reader.summary().tree_hash == outcome.tree_hash =>
        {
            Ok(Some(Arc::new(reader)))
        }
        Ok(_) | Err(_) => Ok(None),
    }
}

/// Holds a rate.
struct Pace {
    begun: Instant,
    bytes_per_second: Option<u64>,
}

impl Pace {
    /// Waits until so many bytes may have been read, or somebody asks for it to stop.
    fn wait(&self, bytes: u64, progress: &Progress) {
        let Some(rate) = self.bytes_per_second else {
            return;
        };
        let due = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        loop {
            let left = due.saturating_sub(self.begun.elapsed());
            if left.is_zero() || progress.is_cancelled() {
                return;
            }
            std::thread::sleep(left.min(PACE_STEP));
        }
    }
}

/// A list that is being written; removed unless it is kept.
struct Listing<'a> {
    area: &'a OwnedFd,
    name: String,
    writer: Option<ManifestWriter>,
    file: File,
}

impl<'a> Listing<'a> {
    fn create(repository: &Repository, area: &'a OwnedFd, id: SnapshotId) -> Result<Self, OperationError> {
        let nonce = repository.control().random::<4>();
        let name = format!("{id}{VERIFIED_SUFFIX}.{}", cairn_types::hexadecimal::text(&nonce));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(area, name.as_str(), flags, Mode::RUSR | Mode::WUSR);
        let file = File::from(file.map_err(|error| OperationError::staging(error.into()))?);
        // From here on it is removed if it is not kept.
        let mut list = Listing {
            area,
            name,
            writer: None,
            file,
        };
        let own = list.file.try_clone().map_err(OperationError::staging)?;
        list.writer = Some(ManifestWriter::create(own, ManifestOptions::default())?);
        Ok(list)
    }

    fn push(&mut self, record: &Record) -> Result<(), OperationError> {
        match &mut self.writer {
            Some(writer) => Ok(writer.push(record)?),
            None => Ok(()),
        }
    }

    /// Gives it its place, durably, and the hash of the tree.
    fn keep(mut self, id: SnapshotId) -> Result<Option<Digest>, OperationError> {
        let Some(writer) = self.writer.take() else {
            return Ok(None);
        };
        let summary = writer.finish()?;
        let placed = self.file.sync_all().and_then(|()| {
            let name = format!("{id}{VERIFIED_SUFFIX}");
            renameat(self.area, self.name.as_str(), self.area, name)?;
            Ok(fsync(self.area)?)
        });
        placed.map_err(OperationError::staging)?;
        Ok(summary.tree_hash)
    }
}

impl Drop for Listing<'_> {
    fn drop(&mut self) {
        // What has its place has this name no more.
        let _ = unlinkat(self.area, self.name.as_str(), AtFlags::empty());
    }
}

/// What is left out of a verification because nothing may be written, or nothing fits; everything else fails it.
fn put_up_with<T>(
    outcome: Result<T, OperationError>,
    warnings: &mut Vec<String>,
) -> Result<Option<T>, OperationError> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::Denied | ErrorKind::NoSpace) => {
            let what = format!("the outcome is not written down: {}", with_causes(&error));
            if !warnings.contains(&what) {
                warnings.push(what);
            }
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Reads everything of a snapshot. Needs no lease: snapshots do not change. The outcome is durable on return, unless a warning says that it could not be
/// written.
///
/// # Errors
/// The list is damaged; nothing can be read at all; `Cancelled`. Damage of files is no error, but told.
pub fn verify(
    repository: &Repository,
    id: SnapshotId,
    request: VerifyRequest,
    progress: &Progress,
) -> Result<Verification, OperationError> {
    progress.enter(Phase::Verifying);
    let reading = repository.read_lease("verify", [id].into())?;
    let descriptor = repository.descriptor(id)?;
    let manifest = super::snapshots::manifest(repository, &descriptor)?;
    let data = payload(repository, &descriptor)?;
    let counts = manifest.summary().counts;
    progress.expect(counts.files, counts.bytes);
    let mut found = Verification {
        files: 0,
        bytes: 0,
        first_read: 0,
        tree_hash: manifest.summary().tree_hash,
        damage: Vec::new(),
        damaged: 0,
        warnings: super::unguarded(&reading),
    };
    let area = repository.control().area(Area::Manifests)?;
    let mut own = data.own_list().map(OwnList::new);
    let mut list = match counts.unhashed {
        0 => None,
        _ => put_up_with(Listing::create(repository, &area, id), &mut found.warnings)?,
    };
    let pace = Pace {
        begun: Instant::now(),
        bytes_per_second: request.bytes_per_second,
    };
    for record in manifest.records() {
        if progress.is_cancelled() {
            return Err(OperationError::Cancelled);
        }
        let mut record = record?;
        if let Some(own) = &mut own {
            own.meet(&record.entry, &mut found)?;
        }
        check_file(&mut record, &*data, &mut found)?;
        if let Body::File(_) = &record.entry.body {
            progress.add(1, record.entry.attributes.size);
            pace.wait(found.bytes, progress);
        }
        if let Some(writing) = &mut list
            && put_up_with(writing.push(&record), &mut found.warnings)?.is_none()
        {
            list = None;
        }
    }
    if let Some(own) = own {
        own.end(&mut found)?;
    }
    if let Some(list) = list
        && found.damaged == 0
        && let Some(hash) = put_up_with(list.keep(id), &mut found.warnings)?
    {
        found.tree_hash = hash;
    }
    let outcome = match found.damaged {
        0 => Outcome::Sound,
        count => {
            let told =
                |damage: &FileDamage| format!("{}: {}", text::escape(damage.path.as_bytes()), damage.what);
            let short = |fault: &String| fault.len() <= FAULT_BYTES_MAX;
            let faults = found
                .damage
                .iter()
                .map(told)
                .filter(short)
                .take(FAULTS_MAX)
                .collect();
            Outcome::Damaged { count, faults }
        }
    };
    // It may have been removed meanwhile; then there is nothing to tell of it.
    repository.descriptor(id)?;
    let written = repository.set_verification(&repository::Verification {
        snapshot: id,
        verified: repository.parts().clock.now(),
        // Of damaged data too what it should be: else the next verification would take the damage for the truth.
        tree_hash: found.tree_hash,
        outcome,
    });
    put_up_with(written.map_err(OperationError::from), &mut found.warnings)?;
    if found.damaged > 0 {
        found.tree_hash = None;
    }
    Ok(found)
}

fn check_file(
    record: &mut Record,
    data: &dyn Payload,
    found: &mut Verification,
) -> Result<(), OperationError> {
    let entry = record.entry.clone();
    let Body::File(file) = &mut record.entry.body else {
        return Ok(());
    };
    let what = match data.digest(&entry) {
        Ok(digest) => {
            found.files += 1;
            found.bytes += entry.attributes.size;
            match file.digest {
                None => {
                    found.first_read += 1;
                    file.digest = Some(digest);
                    return Ok(());
                }
                Some(expected) if expected == digest => return Ok(()),
                Some(expected) => format!("its data has the hash {digest} and should have {expected}"),
            }
        }
        Err(OperationError::Payload { source, .. }) => source.to_string(),
        // A pack that is damaged, or that nobody knows any more: so is this file, and others need not be.
        Err(OperationError::Chunks(ChunksError::Data { source, .. }))
            if matches!(source.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) =>
        {
            with_causes(&source)
        }
        Err(error) => return Err(error),
    };
    found.tell(entry.path, what);
    Ok(())
}
