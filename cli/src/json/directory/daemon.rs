//! The same objects, of what the daemon tells of plain directories.

use cairn_api::{ApiError, convert, proto};
use cairn_snapshot::operations::recover::Recovered as WasRecovered;
use cairn_snapshot::operations::restore::RestoreTotals;
use cairn_snapshot::repository::text::escape;
use cairn_types::SnapshotId;
use serde::Serialize;

use super::{Counts, DamagedSnapshot, Degraded, DirectorySnapshot, Engine, Holder, Losses, Pin, Shown};
use crate::text;

fn time(message: Option<&cairn_api::ProtoTimestamp>) -> Result<Option<String>, ApiError> {
    match message {
        None => Ok(None),
        Some(time) => Ok(text::utc_time(convert::timestamp(Some(time))?)),
    }
}

fn shown(message: Option<proto::DirectoryShown>) -> Shown {
    let message = message.unwrap_or_default();
    Shown {
        count: message.count,
        paths: message.paths.iter().map(|path| escape(path)).collect(),
    }
}

impl From<proto::DirectoryLosses> for Losses {
    fn from(losses: proto::DirectoryLosses) -> Self {
        Losses {
            owner: shown(losses.owner),
            mode: shown(losses.mode),
            xattrs: shown(losses.xattrs),
            special: shown(losses.special),
            times: shown(losses.times),
        }
    }
}

/// The word for an origin.
pub fn origin_word(origin: proto::DirectoryOrigin) -> &'static str {
    match origin {
        proto::DirectoryOrigin::Requested => "requested",
        proto::DirectoryOrigin::Safety => "safety",
        proto::DirectoryOrigin::Scheduled => "scheduled",
        proto::DirectoryOrigin::Imported => "imported",
        proto::DirectoryOrigin::Fork => "fork",
        proto::DirectoryOrigin::Unspecified => "unknown",
    }
}

impl Engine {
    /// The engine that a save would use now, as the daemon tells it.
    pub fn of_message(engine: proto::DirectoryEngine) -> Self {
        let degraded = engine.degraded.into_iter().map(|degraded| Degraded {
            from: degraded.from,
            reason: degraded.reason,
        });
        Engine {
            requested: None,
            used: Some(engine.used),
            degraded: degraded.collect(),
            error: Some(None),
        }
    }
}

impl From<proto::DamagedDirectorySnapshot> for DamagedSnapshot {
    fn from(message: proto::DamagedDirectorySnapshot) -> Self {
        DamagedSnapshot {
            id: message.snapshot,
            error: text::line(&message.error),
        }
    }
}

impl TryFrom<proto::DirectoryHolder> for Holder {
    type Error = ApiError;

    fn try_from(holder: proto::DirectoryHolder) -> Result<Self, ApiError> {
        Ok(Holder {
            since: time(holder.since.as_ref())?,
            acquired: convert::timestamp(holder.since.as_ref())?,
            operation: holder.operation,
            host: holder.host,
            process: holder.process,
        })
    }
}

impl TryFrom<proto::DirectorySnapshot> for DirectorySnapshot {
    type Error = ApiError;

    /// Fails if the answer lacks what every snapshot has.
    fn try_from(message: proto::DirectorySnapshot) -> Result<Self, ApiError> {
        let origin = origin_word(message.origin());
        let engine = message
            .engine
            .ok_or_else(|| ApiError::missing_field("the engine"))?;
        let counts = message
            .counts
            .ok_or_else(|| ApiError::missing_field("the counts"))?;
        let pin = |pin: &proto::DirectoryPin| {
            Ok(Pin {
                number: pin.number,
                reason: pin.reason.clone(),
                actor: pin.actor.clone(),
                created: time(pin.created.as_ref())?,
                expires: time(pin.expires.as_ref())?,
            })
        };
        Ok(DirectorySnapshot {
            created: time(message.created.as_ref())?,
            pins: message.pins.iter().map(pin).collect::<Result<_, ApiError>>()?,
            id: message.id,
            sequence: message.sequence,
            origin,
            origin_of: message.origin_of,
            note: message.note,
            tags: message.tags,
            template: message.template,
            engine: Engine {
                requested: Some(engine.requested.clone()),
                error: None,
                ..Engine::of_message(engine)
            },
            counts: Counts {
                entries: counts.entries,
                files: counts.files,
                directories: counts.directories,
                symlinks: counts.symlinks,
                special: counts.special,
                bytes: counts.bytes,
            },
            paths: message
                .paths
                .map(|paths| paths.paths.iter().map(|path| escape(path)).collect()),
            parent: message.parent,
            restored_from: message.restored_from,
            tree_hash: message.tree_hash,
            losses: Losses::from(message.losses.unwrap_or_default()),
            torn: shown(message.torn),
            vanished: message.vanished,
            actor: message.actor,
            host: message.host,
        })
    }
}

fn id(text: Option<&String>) -> Result<SnapshotId, ApiError> {
    text.and_then(|text| SnapshotId::parse(text))
        .ok_or_else(|| ApiError::missing_field("the identity of a snapshot"))
}

/// What was put right before. What a later version may put right is left out. Fails if a snapshot is missing.
pub fn recovered_of(messages: &[proto::DirectoryRecovered]) -> Result<Vec<WasRecovered>, ApiError> {
    let one = |message: &proto::DirectoryRecovered| {
        let safety = || match &message.safety {
            None => Ok(None),
            Some(_) => id(message.safety.as_ref()).map(Some),
        };
        Ok(Some(match message.what() {
            proto::DirectoryRecovery::RestoreUndone => {
                WasRecovered::RestoreUndone(id(message.snapshot.as_ref())?)
            }
            proto::DirectoryRecovery::RestoreFinished => {
                WasRecovered::RestoreFinished(id(message.snapshot.as_ref())?, safety()?)
            }
            proto::DirectoryRecovery::RestoreLost => {
                WasRecovered::RestoreLost(id(message.snapshot.as_ref())?, safety()?)
            }
            proto::DirectoryRecovery::RestoreWaits => {
                WasRecovered::RestoreWaits(id(message.snapshot.as_ref())?)
            }
            proto::DirectoryRecovery::StateCompleted => WasRecovered::StateCompleted,
            proto::DirectoryRecovery::ResidueRemoved => {
                WasRecovered::ResidueRemoved(message.removed.unwrap_or_default())
            }
            proto::DirectoryRecovery::Unspecified => return Ok(None),
        }))
    };
    messages
        .iter()
        .filter_map(|message| one(message).transpose())
        .collect()
}

/// What a restore does.
pub fn totals_of(message: Option<proto::DirectoryTotals>) -> RestoreTotals {
    let message = message.unwrap_or_default();
    RestoreTotals {
        added: message.added,
        changed: message.changed,
        removed: message.removed,
        bytes: message.bytes,
    }
}

/// What came of work on a directory, told in short: the snapshots by their identities.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// Of a save.
    Saved {
        outcome: &'static str,
        snapshot: String,
        collected: Vec<String>,
    },
    /// Of a restore.
    Restored {
        snapshot: String,
        safety: Option<String>,
        totals: super::Totals,
    },
    /// Of reading snapshots.
    Verified { snapshots: u64, damaged: u64 },
    /// Of a fork.
    Forked {
        repository: String,
        first: String,
        directory: String,
        entries: u64,
        bytes: u64,
    },
    /// Of removing.
    Collected { removed: Vec<String>, entries: u64 },
}

impl TryFrom<proto::operation::Result> for Outcome {
    type Error = ApiError;

    /// Fails if it is of no work on a directory, or lacks its snapshot.
    fn try_from(result: proto::operation::Result) -> Result<Self, ApiError> {
        let id = |snapshot: Option<proto::DirectorySnapshot>| {
            let snapshot = snapshot.ok_or_else(|| ApiError::missing_field("the snapshot"))?;
            Ok::<_, ApiError>(snapshot.id)
        };
        use proto::operation::Result as Message;
        Ok(match result {
            Message::DirectorySaved(saved) => Outcome::Saved {
                outcome: save_outcome(saved.outcome()).unwrap_or("unknown"),
                snapshot: id(saved.snapshot)?,
                collected: saved.collected,
            },
            Message::DirectoryRestored(restored) => Outcome::Restored {
                snapshot: id(restored.snapshot)?,
                safety: restored.safety.map(|safety| safety.id),
                totals: super::Totals::from(&totals_of(restored.totals)),
            },
            Message::DirectoryVerified(verified) => Outcome::Verified {
                snapshots: verified.verified.len() as u64,
                damaged: verified.damaged,
            },
            Message::DirectoryForked(forked) => Outcome::Forked {
                repository: forked.repository,
                first: forked.first,
                directory: escape(&forked.workspace),
                entries: forked.entries,
                bytes: forked.bytes,
            },
            Message::DirectoryCollected(collected) => Outcome::Collected {
                removed: collected.removed,
                entries: collected.entries,
            },
            Message::Pushed(_) | Message::Pulled(_) | Message::Verified(_) | Message::Reclaimed(_) => {
                return Err(ApiError::missing_field("the result of work on a directory"));
            }
        })
    }
}

/// The word for what became of a save; nothing for one of a later version.
pub fn save_outcome(outcome: proto::DirectorySaveOutcome) -> Option<&'static str> {
    match outcome {
        proto::DirectorySaveOutcome::New => Some("new"),
        proto::DirectorySaveOutcome::Existing => Some("existing"),
        proto::DirectorySaveOutcome::Unchanged => Some("unchanged"),
        proto::DirectorySaveOutcome::Unspecified => None,
    }
}

/// A directory that the daemon looks after.
#[derive(Debug, Serialize)]
pub struct Registered {
    /// The identity of its repository.
    pub repository: String,
    /// Where it is, escaped.
    pub workspace: String,
    control_directory: String,
    registered: Option<String>,
    /// ready, missing or unusable.
    pub condition: &'static str,
    /// Why it cannot be used.
    pub message: String,
    /// Its schedules.
    pub schedules: Vec<Schedule>,
    /// Operations on it that wait or run.
    pub operations: Vec<String>,
}

/// A schedule.
#[derive(Debug, Serialize)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    suspended: bool,
    last_due: Option<String>,
    last_started: Option<String>,
    /// When it is due next.
    pub next_due: Option<String>,
    /// Saves that it has begun.
    pub runs: u64,
    /// Of these, failed.
    pub failures: u64,
    /// Times that passed without a save.
    pub missed: u64,
    /// Why the last one failed.
    pub last_failure: String,
    last_snapshot: Option<String>,
}

/// How a directory is.
#[derive(Debug, Serialize)]
pub struct Status {
    head: Option<String>,
    latest: Option<String>,
    /// Snapshots.
    pub snapshots: u64,
    /// Of these, never read as a whole.
    pub unverified: u64,
    /// Of these, found whole.
    pub verified: u64,
    /// Of these, found damaged.
    pub damaged: u64,
    /// The first of these.
    pub damaged_snapshots: Vec<String>,
    /// The snapshot that is read in the background now.
    pub verifying: Option<String>,
    holder: Option<Holder>,
    /// Changes that no snapshot has.
    pub changes: Option<u64>,
}

impl TryFrom<proto::RegisteredDirectory> for Registered {
    type Error = ApiError;

    fn try_from(message: proto::RegisteredDirectory) -> Result<Self, ApiError> {
        let condition = match message.condition() {
            proto::DirectoryCondition::Ready => "ready",
            proto::DirectoryCondition::Missing => "missing",
            proto::DirectoryCondition::Unusable => "unusable",
            proto::DirectoryCondition::Unspecified => "unknown",
        };
        let schedules = message.schedules.into_iter().map(Schedule::try_from);
        Ok(Registered {
            registered: time(message.registered.as_ref())?,
            repository: message.repository,
            workspace: escape(&message.workspace),
            control_directory: escape(&message.control_directory),
            condition,
            message: message.message,
            schedules: schedules.collect::<Result<_, _>>()?,
            operations: message.operations,
        })
    }
}

impl TryFrom<proto::DirectorySchedule> for Schedule {
    type Error = ApiError;

    fn try_from(message: proto::DirectorySchedule) -> Result<Self, ApiError> {
        Ok(Schedule {
            last_due: time(message.last_due.as_ref())?,
            last_started: time(message.last_started.as_ref())?,
            next_due: time(message.next_due.as_ref())?,
            name: message.name,
            suspended: message.suspended,
            runs: message.runs,
            failures: message.failures,
            missed: message.missed,
            last_failure: message.last_failure,
            last_snapshot: message.last_snapshot,
        })
    }
}

impl TryFrom<proto::DirectoryStatus> for Status {
    type Error = ApiError;

    fn try_from(message: proto::DirectoryStatus) -> Result<Self, ApiError> {
        let holder = message.holder.map(Holder::try_from).transpose()?;
        Ok(Status {
            head: message.head,
            latest: message.latest,
            snapshots: message.snapshots,
            unverified: message.unverified,
            verified: message.verified,
            damaged: message.damaged,
            damaged_snapshots: message.damaged_snapshots,
            verifying: message.verifying,
            holder,
            changes: message.changes,
        })
    }
}
