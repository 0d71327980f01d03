//! What can be asked for, as checked values that are also what is written down of accepted work. No protocol is known here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use cairn_snapshot::directory::RelativePath;
use cairn_snapshot::operations::restore::Unsaved;
use cairn_snapshot::repository::{OperationId as PlanId, text};
use cairn_types::{SnapshotId, Tag, Timestamp};
use serde::{Deserialize, Serialize};

use crate::operations::Kind;

/// How long is waited for others who work in a repository, if nothing else is asked for.
pub const WAIT_DEFAULT: Duration = Duration::from_secs(60);
/// Longest wait.
pub const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest name of whom something is done for, in bytes.
pub const ACTOR_BYTES_MAX: usize = 256;

/// Who asks, and how long it waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asker {
    /// On whose behalf; nothing: the daemon's user. At most [`ACTOR_BYTES_MAX`] bytes.
    pub actor: Option<String>,
    /// How many seconds are waited for others who work in the repository; at most [`WAIT_MAX`].
    pub wait_seconds: u32,
}

impl Default for Asker {
    fn default() -> Self {
        Asker {
            actor: None,
            wait_seconds: WAIT_DEFAULT.as_secs() as u32,
        }
    }
}

impl Asker {
    /// How long it waits.
    pub fn wait(&self) -> Duration {
        Duration::from_secs(self.wait_seconds.into()).min(WAIT_MAX)
    }
}

/// A save.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaveRequest {
    /// A person's words; empty: the template's.
    pub note: String,
    /// Labels, besides the template's.
    #[serde(with = "text::list")]
    pub tags: BTreeSet<Tag>,
    /// The template.
    pub template: Option<String>,
    /// The engine; nothing: the template's, or `engine_default`, or the configured one, or the best that can be used.
    pub engine: Option<String>,
    /// See `engine`.
    pub engine_default: Option<String>,
    /// How the data is compressed, in the words of the configuration; nothing: as configured.
    pub compression: Option<String>,
    /// Only these paths; none: those of the template, or everything.
    #[serde(with = "text::list")]
    pub paths: Vec<RelativePath>,
    /// The caller's key: a second request with it is answered by the first one's snapshot.
    pub key: Option<String>,
    /// No snapshot is made of what the newest one holds already.
    pub skip_unchanged: bool,
    /// The schedule that asks.
    pub schedule: Option<Scheduled>,
    /// Remove afterwards what retention does not keep.
    pub collect: bool,
    /// Who asks.
    pub asker: Asker,
}

/// The time of a schedule that a save is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheduled {
    /// The schedule.
    pub name: String,
    /// When it was due.
    #[serde(with = "text")]
    pub due: Timestamp,
}

/// A restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreRequest {
    /// The snapshot.
    #[serde(with = "text")]
    pub snapshot: SnapshotId,
    /// Only these paths; none: everything that the snapshot holds.
    #[serde(with = "text::list")]
    pub paths: Vec<RelativePath>,
    /// What becomes of changes that no snapshot has.
    pub unsaved: UnsavedChanges,
    /// Who asks.
    pub asker: Asker,
}

/// What becomes of changes that no snapshot has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnsavedChanges {
    /// They are saved in a safety snapshot.
    #[default]
    Save,
    /// They are lost.
    Discard,
    /// There must be none.
    Refuse,
}

impl From<UnsavedChanges> for Unsaved {
    fn from(changes: UnsavedChanges) -> Self {
        match changes {
            UnsavedChanges::Save => Unsaved::Save,
            UnsavedChanges::Discard => Unsaved::Discard,
            UnsavedChanges::Refuse => Unsaved::Refuse,
        }
    }
}

/// Reading snapshots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyRequest {
    /// Which; none: all, the newest first.
    #[serde(with = "text::list")]
    pub snapshots: Vec<SnapshotId>,
    /// Most bytes to read each second.
    pub bytes_per_second: Option<u64>,
}

/// A fork.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForkRequest {
    /// The snapshot.
    #[serde(with = "text")]
    pub snapshot: SnapshotId,
    /// The new directory, absolute.
    #[serde(with = "text")]
    pub workspace: Vec<u8>,
    /// Its control directory; nothing: `.jvs` in it.
    #[serde(with = "text::option")]
    pub control: Option<Vec<u8>>,
    /// Who asks.
    pub asker: Asker,
}

/// Carrying out a plan of retention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectRequest {
    /// The plan.
    #[serde(with = "text")]
    pub plan: PlanId,
    /// Who asks.
    pub asker: Asker,
}

/// Removing a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteRequest {
    /// The snapshot.
    #[serde(with = "text")]
    pub snapshot: SnapshotId,
    /// Who asks.
    pub asker: Asker,
}

/// Work on a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Job {
    /// A save.
    Save(SaveRequest),
    /// A restore.
    Restore(RestoreRequest),
    /// Reading snapshots.
    Verify(VerifyRequest),
    /// A fork.
    Fork(ForkRequest),
    /// Carrying out a plan of retention.
    Collect(CollectRequest),
    /// Removing a snapshot.
    Delete(DeleteRequest),
}

impl Job {
    /// What kind of work it is.
    pub fn kind(&self) -> Kind {
        match self {
            Job::Save(_) => Kind::DirectorySave,
            Job::Restore(_) => Kind::DirectoryRestore,
            Job::Verify(_) => Kind::DirectoryVerify,
            Job::Fork(_) => Kind::DirectoryFork,
            Job::Collect(_) => Kind::DirectoryCollect,
            Job::Delete(_) => Kind::DirectoryDelete,
        }
    }

    /// The snapshot, plan or schedule that it is about, if it is about a single one.
    pub fn reference(&self) -> String {
        match self {
            Job::Save(save) => save
                .schedule
                .as_ref()
                .map_or_else(String::new, |schedule| schedule.name.clone()),
            Job::Restore(restore) => restore.snapshot.to_string(),
            Job::Verify(verify) => match verify.snapshots.as_slice() {
                [one] => one.to_string(),
                _ => String::new(),
            },
            Job::Fork(fork) => fork.snapshot.to_string(),
            Job::Collect(collect) => collect.plan.to_string(),
            Job::Delete(delete) => delete.snapshot.to_string(),
        }
    }

    /// On whose behalf.
    pub fn actor(&self) -> Option<&str> {
        let asker = match self {
            Job::Save(save) => &save.asker,
            Job::Restore(restore) => &restore.asker,
            Job::Verify(_) => return None,
            Job::Fork(fork) => &fork.asker,
            Job::Collect(collect) => &collect.asker,
            Job::Delete(delete) => &delete.asker,
        };
        asker.actor.as_deref()
    }

    /// Whether it changes the repository that it is on.
    pub fn changes(&self) -> bool {
        match self {
            Job::Save(_) | Job::Restore(_) | Job::Collect(_) | Job::Delete(_) => true,
            Job::Verify(_) | Job::Fork(_) => false,
        }
    }

    /// Two requests with the same text at the same time are one. A save without a key is like no other: everybody who asks for a
    /// snapshot gets one.
    pub fn sameness(&self, id: crate::operations::OperationId) -> String {
        match self {
            Job::Save(save) if save.key.is_none() => id.to_string(),
            job => format!("{job:?}"),
        }
    }
}

/// Which directory is to be registered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegisterRequest {
    /// The workspace; nothing: that of the repository with the control directory.
    pub workspace: Option<PathBuf>,
    /// The control directory; nothing: `.jvs` in the workspace.
    pub control: Option<PathBuf>,
    /// Put it under version control if it is not.
    pub init: bool,
}

/// What people say of a snapshot, as it shall be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelsRequest {
    /// Another note.
    pub note: Option<String>,
    /// Tags that it gets.
    pub add_tags: Vec<Tag>,
    /// Tags that it loses.
    pub remove_tags: Vec<Tag>,
    /// A new pin: why, and from when on it keeps nothing.
    pub add_pin: Option<(String, Option<Timestamp>)>,
    /// Numbers of pins that go.
    pub remove_pins: Vec<u64>,
    /// All pins go, but the new one.
    pub remove_all_pins: bool,
    /// Who asks.
    pub asker: Asker,
}

impl LabelsRequest {
    /// What the audit log tells of it.
    pub fn details(&self) -> BTreeMap<String, String> {
        let words = |tags: &[Tag]| tags.iter().map(Tag::as_str).collect::<Vec<_>>().join(" ");
        let pins = match self.remove_all_pins {
            true => "all".to_owned(),
            false => {
                let pins: Vec<String> = self.remove_pins.iter().map(ToString::to_string).collect();
                pins.join(" ")
            }
        };
        let reason = self.add_pin.as_ref().map(|(reason, _)| reason.clone());
        let details = [
            ("note", self.note.clone()),
            ("added", Some(words(&self.add_tags))),
            ("removed", Some(words(&self.remove_tags))),
            ("reason", reason),
            ("pins", Some(pins)),
        ];
        let given = details
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        given
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}
