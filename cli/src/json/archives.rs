//! The objects about archives and operations that `--json` prints.

use std::collections::BTreeMap;

use cairn_api::{ApiError, proto};
use serde::Serialize;

use super::{path_hex, time};

/// An archive.
#[derive(Debug, Serialize)]
pub struct Archive {
    /// 32 hexadecimal digits.
    pub snapshot: String,
    workspace: String,
    created: String,
    archived: String,
    note: String,
    tags: Vec<String>,
    inodes: u64,
    files: u64,
    directories: u64,
    bytes: u64,
    added_bytes: u64,
    base: Option<String>,
    /// What it takes up, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sizes: Option<ArchiveSizes>,
}

/// What an archive takes up.
#[derive(Debug, Serialize)]
pub struct ArchiveSizes {
    logical_bytes: u64,
    referred_bytes: u64,
    unique_bytes: u64,
    shared_bytes: u64,
    reclaimable_stored_bytes: u64,
}

/// What a store takes up.
#[derive(Debug, Serialize)]
pub struct StoreSizes {
    archives: u64,
    packs: u64,
    stored_bytes: u64,
    live_bytes: u64,
    reclaimable_stored_bytes: u64,
}

/// Long work.
#[derive(Debug, Serialize)]
pub struct Operation {
    /// 32 hexadecimal digits.
    pub id: String,
    kind: &'static str,
    workspace: Option<String>,
    reference: Option<String>,
    store: String,
    state: &'static str,
    cancel_requested: bool,
    started: String,
    ended: Option<String>,
    progress: Progress,
    result: Option<Outcome>,
    failure: Option<Failure>,
    /// The repository of a plain directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: Option<String>,
    /// The daemon was interrupted in it, and has taken it up again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    resumed: bool,
}

#[derive(Debug, Serialize)]
struct Progress {
    phase: &'static str,
    files: u64,
    files_total: u64,
    bytes: u64,
    bytes_total: u64,
    transferred_bytes: u64,
    elapsed_milliseconds: u64,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Outcome {
    Pushed {
        archive: Archive,
        already_there: bool,
        files_read: u64,
        bytes_read: u64,
        bytes_new: u64,
        bytes_stored: u64,
        packs: u64,
    },
    Pulled {
        archive: Archive,
        files: u64,
        bytes: u64,
        resumed: bool,
        snapshot: String,
        safety: Option<String>,
        left_out: u64,
    },
    Verified {
        archives: u64,
        archives_sound: u64,
        packs: u64,
        bytes_read: u64,
        damages: u64,
    },
    Reclaimed {
        dry_run: bool,
        packs: u64,
        removed_packs: u64,
        removed_bytes: u64,
        condemned_packs: u64,
        condemned_bytes: u64,
        rewritten_packs: u64,
        rewritten_bytes: u64,
    },
    Directory(super::directory::Outcome),
}

#[derive(Debug, Serialize)]
struct Failure {
    reason: String,
    message: String,
    remedy: String,
    details: BTreeMap<String, String>,
}

/// Something that an operation has found: an object with one of the two keys.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Finding {
    /// Something that is not as it was written.
    Damage {
        archive: Option<String>,
        path: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        path_hex: Option<String>,
        range_start: Option<u64>,
        range_bytes: Option<u64>,
        object: String,
        offset: Option<u64>,
        what: String,
    },
    /// What becomes of a pack.
    Verdict {
        object: String,
        action: &'static str,
        stored_bytes: u64,
        live_bytes: u64,
    },
}

/// The word for a kind of work.
pub fn kind(operation: &proto::Operation) -> &'static str {
    match operation.kind() {
        proto::OperationKind::Push => "push",
        proto::OperationKind::Pull => "pull",
        proto::OperationKind::Verify => "verify",
        proto::OperationKind::Reclaim => "reclaim",
        proto::OperationKind::DirectorySave => "save",
        proto::OperationKind::DirectoryRestore => "restore",
        proto::OperationKind::DirectoryVerify => "read",
        proto::OperationKind::DirectoryFork => "fork",
        proto::OperationKind::DirectoryCollect => "collect",
        proto::OperationKind::DirectoryDelete => "delete",
        proto::OperationKind::Unspecified => "unknown",
    }
}

/// The word for a state.
pub fn state(operation: &proto::Operation) -> &'static str {
    match operation.state() {
        proto::OperationState::Running => "running",
        proto::OperationState::Succeeded => "succeeded",
        proto::OperationState::Failed => "failed",
        proto::OperationState::Cancelled => "cancelled",
        proto::OperationState::Unspecified => "unknown",
    }
}

fn phase(progress: &proto::Progress) -> &'static str {
    match progress.phase() {
        proto::OperationPhase::Preparing => "preparing",
        proto::OperationPhase::Transferring => "transferring",
        proto::OperationPhase::Marking => "marking",
        proto::OperationPhase::Verifying => "verifying",
        proto::OperationPhase::Removing => "removing",
        proto::OperationPhase::Finishing => "finishing",
        proto::OperationPhase::Waiting => "waiting",
        proto::OperationPhase::Unspecified => "unknown",
    }
}

/// The word for what becomes of a pack.
pub fn action(verdict: &proto::PackVerdict) -> &'static str {
    match verdict.action() {
        proto::PackAction::Keep => "keep",
        proto::PackAction::Condemn => "condemn",
        proto::PackAction::Reinstate => "reinstate",
        proto::PackAction::Wait => "wait",
        proto::PackAction::Rewrite => "rewrite",
        proto::PackAction::Remove => "remove",
        proto::PackAction::Unspecified => "unknown",
    }
}

impl TryFrom<proto::Archive> for Archive {
    type Error = ApiError;

    fn try_from(archive: proto::Archive) -> Result<Self, ApiError> {
        Ok(Archive {
            created: time(archive.created.as_ref())?,
            archived: time(archive.archived.as_ref())?,
            snapshot: archive.snapshot,
            workspace: archive.workspace,
            note: archive.note,
            tags: archive.tags,
            inodes: archive.inodes,
            files: archive.files,
            directories: archive.directories,
            bytes: archive.bytes,
            added_bytes: archive.added_bytes,
            base: archive.base,
            sizes: None,
        })
    }
}

impl From<proto::ArchiveSizes> for ArchiveSizes {
    fn from(sizes: proto::ArchiveSizes) -> Self {
        ArchiveSizes {
            logical_bytes: sizes.logical_bytes,
            referred_bytes: sizes.referred_bytes,
            unique_bytes: sizes.unique_bytes,
            shared_bytes: sizes.shared_bytes,
            reclaimable_stored_bytes: sizes.reclaimable_stored_bytes,
        }
    }
}

impl From<proto::StoreSizes> for StoreSizes {
    fn from(sizes: proto::StoreSizes) -> Self {
        StoreSizes {
            archives: sizes.archives,
            packs: sizes.packs,
            stored_bytes: sizes.stored_bytes,
            live_bytes: sizes.live_bytes,
            reclaimable_stored_bytes: sizes.reclaimable_stored_bytes,
        }
    }
}

fn outcome(result: proto::operation::Result) -> Result<Outcome, ApiError> {
    let received = |archive: Option<proto::Archive>| {
        Archive::try_from(archive.ok_or_else(|| ApiError::missing_field("the archive"))?)
    };
    Ok(match result {
        proto::operation::Result::Pushed(pushed) => Outcome::Pushed {
            archive: received(pushed.archive)?,
            already_there: pushed.already_there,
            files_read: pushed.files_read,
            bytes_read: pushed.bytes_read,
            bytes_new: pushed.bytes_new,
            bytes_stored: pushed.bytes_stored,
            packs: pushed.packs,
        },
        proto::operation::Result::Pulled(pulled) => Outcome::Pulled {
            archive: received(pulled.archive)?,
            files: pulled.files,
            bytes: pulled.bytes,
            resumed: pulled.resumed,
            snapshot: pulled.snapshot,
            safety: pulled.safety,
            left_out: pulled.left_out,
        },
        proto::operation::Result::Verified(verified) => Outcome::Verified {
            archives: verified.archives,
            archives_sound: verified.archives_sound,
            packs: verified.packs,
            bytes_read: verified.bytes_read,
            damages: verified.damages,
        },
        proto::operation::Result::DirectorySaved(_)
        | proto::operation::Result::DirectoryRestored(_)
        | proto::operation::Result::DirectoryVerified(_)
        | proto::operation::Result::DirectoryForked(_)
        | proto::operation::Result::DirectoryCollected(_) => {
            Outcome::Directory(super::directory::Outcome::try_from(result)?)
        }
        proto::operation::Result::Reclaimed(reclaimed) => Outcome::Reclaimed {
            dry_run: reclaimed.dry_run,
            packs: reclaimed.packs,
            removed_packs: reclaimed.removed_packs,
            removed_bytes: reclaimed.removed_bytes,
            condemned_packs: reclaimed.condemned_packs,
            condemned_bytes: reclaimed.condemned_bytes,
            rewritten_packs: reclaimed.rewritten_packs,
            rewritten_bytes: reclaimed.rewritten_bytes,
        },
    })
}

impl TryFrom<proto::Operation> for Operation {
    type Error = ApiError;

    fn try_from(operation: proto::Operation) -> Result<Self, ApiError> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let progress = operation
            .progress
            .ok_or_else(|| ApiError::missing_field("the progress"))?;
        Ok(Operation {
            kind: kind(&operation),
            state: state(&operation),
            workspace: some(&operation.workspace),
            reference: some(&operation.reference),
            repository: some(&operation.repository),
            resumed: operation.resumed,
            started: time(operation.started.as_ref())?,
            ended: operation
                .ended
                .as_ref()
                .map(|ended| time(Some(ended)))
                .transpose()?,
            id: operation.id,
            store: operation.store,
            cancel_requested: operation.cancel_requested,
            progress: Progress {
                phase: phase(&progress),
                files: progress.files,
                files_total: progress.files_total,
                bytes: progress.bytes,
                bytes_total: progress.bytes_total,
                transferred_bytes: progress.transferred_bytes,
                elapsed_milliseconds: progress.elapsed_milliseconds,
            },
            result: operation.result.map(outcome).transpose()?,
            failure: operation.failure.map(|failure| Failure {
                reason: failure.reason,
                message: failure.message,
                remedy: failure.remedy,
                details: failure.details.into_iter().collect(),
            }),
        })
    }
}

/// A finding; nothing for a kind of a later version.
pub fn finding(finding: proto::Finding) -> Option<Finding> {
    Some(match finding.finding? {
        proto::finding::Finding::Damage(damage) => Finding::Damage {
            archive: damage.archive,
            path_hex: damage.path.as_deref().and_then(path_hex),
            path: damage
                .path
                .map(|path| String::from_utf8_lossy(&path).into_owned()),
            range_start: damage.range_start,
            range_bytes: damage.range_bytes,
            object: damage.object,
            offset: damage.offset,
            what: damage.what,
        },
        proto::finding::Finding::Verdict(verdict) => Finding::Verdict {
            action: action(&verdict),
            object: verdict.object,
            stored_bytes: verdict.stored_bytes,
            live_bytes: verdict.live_bytes,
        },
    })
}
