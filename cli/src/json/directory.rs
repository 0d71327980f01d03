//! The objects that commands on plain directories print. Paths are text: bytes that are no UTF-8, control characters and `%` are
//! written as `%` and two hexadecimal digits, as in the files of a repository.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cairn_snapshot::directory::RelativePath;
use cairn_snapshot::directory::place::{LossCount, Losses as PlaceLosses};
use cairn_snapshot::engine::Choice;
use cairn_snapshot::operations::recover::Recovered as WasRecovered;
use cairn_snapshot::operations::restore::RestoreTotals;
use cairn_snapshot::repository::{
    Descriptor, LeaseRecord, Origin, RepositoryError, Snapshot as Listed, text::escape,
};
use cairn_snapshot::repository::{Labels, Loss as DescribedLoss, Losses as DescribedLosses};
use serde::Serialize;

use crate::failure::chain;
use crate::text;

mod daemon;

pub use daemon::{Outcome, Registered, Status, origin_word, recovered_of, save_outcome, totals_of};

/// A path of this machine as text.
pub fn path(path: &Path) -> String {
    escape(path.as_os_str().as_bytes())
}

/// A snapshot of a directory.
#[derive(Debug, Serialize)]
pub struct DirectorySnapshot {
    /// 32 hexadecimal digits.
    pub id: String,
    sequence: u64,
    created: Option<String>,
    origin: &'static str,
    /// What was restored, of a safety snapshot; the schedule's name; what was imported or forked.
    origin_of: Option<String>,
    note: String,
    /// Its tags.
    pub tags: Vec<String>,
    pins: Vec<Pin>,
    template: Option<String>,
    /// How its data is kept.
    pub engine: Engine,
    /// What it consists of.
    pub counts: Counts,
    paths: Option<Vec<String>>,
    parent: Option<String>,
    restored_from: Option<String>,
    tree_hash: Option<String>,
    /// What could not be kept.
    pub losses: Losses,
    /// Files that changed while they were read.
    pub torn: Shown,
    /// Entries that vanished while the directory was read.
    pub vanished: u64,
    actor: String,
    host: String,
}

/// What keeps a snapshot.
#[derive(Debug, Serialize)]
struct Pin {
    number: u64,
    reason: String,
    actor: String,
    created: Option<String>,
    expires: Option<String>,
}

/// How data is kept.
#[derive(Debug, Serialize)]
pub struct Engine {
    #[serde(skip_serializing_if = "Option::is_none")]
    requested: Option<Option<String>>,
    /// The engine.
    pub used: Option<String>,
    /// Better ones that were not used.
    pub degraded: Vec<Degraded>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Option<String>>,
}

/// A better engine, and why it is not used.
#[derive(Debug, Serialize)]
pub struct Degraded {
    /// The engine.
    pub from: String,
    /// Why.
    pub reason: String,
}

/// What a snapshot consists of.
#[derive(Debug, Serialize)]
pub struct Counts {
    entries: u64,
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    symlinks: u64,
    special: u64,
    /// Sum of the sizes of the files.
    pub bytes: u64,
}

/// Entries, and the first of them.
#[derive(Debug, Default, Serialize)]
pub struct Shown {
    /// How many.
    pub count: u64,
    /// The first of them, escaped.
    pub paths: Vec<String>,
}

impl DamagedSnapshot {
    /// The same for people.
    pub fn text(&self) -> String {
        format!("{}  {}", self.id, self.error)
    }

    /// The same with the first digits of its identity only.
    pub fn short(&self) -> String {
        let short = self.id.get(..cairn_types::SnapshotId::SHORT_DIGITS);
        format!("{}  {}", short.unwrap_or(&self.id), self.error)
    }
}

/// What of entries could not be kept.
#[derive(Debug, Default, Serialize)]
pub struct Losses {
    owner: Shown,
    mode: Shown,
    xattrs: Shown,
    special: Shown,
    times: Shown,
}

/// A snapshot whose descriptor cannot be read.
#[derive(Debug, Serialize)]
pub struct DamagedSnapshot {
    id: String,
    error: String,
}

/// Something that was put right before a command did its work.
#[derive(Debug, Serialize)]
pub struct Recovered {
    what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    safety: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<u64>,
}

/// What a restore does.
#[derive(Debug, Serialize)]
pub struct Totals {
    added: u64,
    changed: u64,
    removed: u64,
    bytes: u64,
}

/// Who works in a repository.
#[derive(Debug, Serialize)]
pub struct Holder {
    operation: String,
    host: String,
    process: u32,
    since: Option<String>,
    #[serde(skip)]
    acquired: cairn_types::Timestamp,
}

/// The words of an origin.
pub fn origin(origin: &Origin) -> &'static str {
    match origin {
        Origin::Requested => "requested",
        Origin::Safety { .. } => "safety",
        Origin::Scheduled { .. } => "scheduled",
        Origin::Imported { .. } => "imported",
        Origin::ForkOf { .. } => "fork",
    }
}

impl DirectorySnapshot {
    /// A snapshot with what people say of it.
    pub fn new(descriptor: &Descriptor, labels: &Labels) -> Self {
        let origin_of = match &descriptor.origin {
            Origin::Requested => None,
            Origin::Safety { restoring } => Some(restoring.to_string()),
            Origin::Scheduled { name } => Some(name.clone()),
            Origin::Imported { id, .. } => Some(id.clone()),
            Origin::ForkOf { snapshot, .. } => Some(snapshot.to_string()),
        };
        let engine = &descriptor.engine;
        let counts = &descriptor.counts;
        DirectorySnapshot {
            id: descriptor.id.to_string(),
            sequence: descriptor.sequence,
            created: text::utc_time(descriptor.created),
            origin: origin(&descriptor.origin),
            origin_of,
            note: labels.note.clone(),
            tags: labels.tags.iter().map(ToString::to_string).collect(),
            pins: labels.pins.iter().map(Pin::from).collect(),
            template: descriptor.template.clone(),
            engine: Engine {
                requested: Some(engine.requested.clone()),
                used: Some(engine.used.clone()),
                degraded: engine
                    .degraded
                    .iter()
                    .map(|degraded| Degraded {
                        from: degraded.from.clone(),
                        reason: degraded.reason.clone(),
                    })
                    .collect(),
                error: None,
            },
            counts: Counts {
                entries: counts.entries,
                files: counts.files,
                directories: counts.directories,
                symlinks: counts.symlinks,
                special: counts.special,
                bytes: counts.bytes,
            },
            paths: descriptor
                .paths
                .as_ref()
                .map(|paths| paths.paths.iter().map(|path| escape(path.as_bytes())).collect()),
            parent: descriptor.parent.map(|id| id.to_string()),
            restored_from: descriptor.restored_from.map(|id| id.to_string()),
            tree_hash: descriptor.tree_hash.map(|hash| hash.to_string()),
            losses: Losses::from(&descriptor.losses),
            torn: Shown {
                count: descriptor.torn.count,
                paths: descriptor
                    .torn
                    .paths
                    .iter()
                    .map(|path| escape(path.as_bytes()))
                    .collect(),
            },
            vanished: descriptor.vanished,
            actor: descriptor.actor.clone(),
            host: descriptor.host.name.clone(),
        }
    }
}

impl From<&Listed> for DirectorySnapshot {
    fn from(snapshot: &Listed) -> Self {
        DirectorySnapshot::new(&snapshot.descriptor, &snapshot.labels)
    }
}

impl From<&cairn_snapshot::repository::Pin> for Pin {
    fn from(pin: &cairn_snapshot::repository::Pin) -> Self {
        Pin {
            number: pin.number,
            reason: pin.reason.clone(),
            actor: pin.actor.clone(),
            created: text::utc_time(pin.created),
            expires: pin.expires.and_then(text::utc_time),
        }
    }
}

impl Engine {
    /// The engine that a save would use now.
    pub fn of_choice(choice: &Choice) -> Self {
        Engine {
            requested: None,
            used: Some(choice.used.text().to_owned()),
            degraded: choice
                .degraded
                .iter()
                .map(|degraded| Degraded {
                    from: degraded.from.text().to_owned(),
                    reason: degraded.reason.clone(),
                })
                .collect(),
            error: Some(None),
        }
    }

    /// The same, better engines that are not used on lines of their own, as people read it.
    pub fn text(&self) -> String {
        let mut told = self.used.clone().unwrap_or_default();
        for degraded in &self.degraded {
            told.push_str(&format!(
                "\n  not {}: {}",
                degraded.from,
                text::line(&degraded.reason)
            ));
        }
        told
    }

    /// Why no engine can be told.
    pub fn unknown(error: String) -> Self {
        Engine {
            requested: None,
            used: None,
            degraded: Vec::new(),
            error: Some(Some(error)),
        }
    }
}

fn shown(count: u64, paths: &[RelativePath]) -> Shown {
    let paths = paths.iter().map(|path| escape(path.as_bytes())).collect();
    Shown { count, paths }
}

impl From<&DescribedLosses> for Losses {
    fn from(losses: &DescribedLosses) -> Self {
        let shown = |loss: &DescribedLoss| shown(loss.count, &loss.paths);
        Losses {
            owner: shown(&losses.owner),
            mode: shown(&losses.mode),
            xattrs: shown(&losses.xattrs),
            special: shown(&losses.special),
            times: shown(&losses.times),
        }
    }
}

impl From<&PlaceLosses> for Losses {
    fn from(losses: &PlaceLosses) -> Self {
        let shown = |loss: &LossCount| shown(loss.entries, &loss.paths);
        Losses {
            owner: shown(&losses.owner),
            mode: shown(&losses.mode),
            xattrs: shown(&losses.xattrs),
            special: shown(&losses.special),
            times: shown(&losses.times),
        }
    }
}

impl Losses {
    /// One line for each kind of loss, as people read it.
    pub fn lines(&self) -> Vec<String> {
        let kinds = [
            ("the owner", &self.owner),
            ("the mode", &self.mode),
            ("extended attributes", &self.xattrs),
            ("being special files", &self.special),
            ("times", &self.times),
        ];
        let lost = kinds.into_iter().filter(|(_, shown)| shown.count > 0);
        lost.map(|(what, shown)| {
            let first = shown.paths.first().map_or("", String::as_str);
            let more = if shown.count > 1 { " and others" } else { "" };
            format!("{} entries lost {what}: {first}{more}", shown.count)
        })
        .collect()
    }
}

/// Snapshots that cannot be read, and why.
pub fn damaged(found: &[(cairn_types::SnapshotId, RepositoryError)]) -> Vec<DamagedSnapshot> {
    found
        .iter()
        .map(|(id, error)| DamagedSnapshot {
            id: id.to_string(),
            error: chain(error),
        })
        .collect()
}

impl From<&WasRecovered> for Recovered {
    fn from(recovered: &WasRecovered) -> Self {
        let restore =
            |what, snapshot: &cairn_types::SnapshotId, safety: &Option<cairn_types::SnapshotId>| Recovered {
                what,
                snapshot: Some(snapshot.to_string()),
                safety: safety.map(|id| id.to_string()),
                removed: None,
            };
        match recovered {
            WasRecovered::RestoreUndone(snapshot) => restore("restore_undone", snapshot, &None),
            WasRecovered::RestoreFinished(snapshot, safety) => restore("restore_finished", snapshot, safety),
            WasRecovered::RestoreLost(snapshot, safety) => restore("restore_lost", snapshot, safety),
            WasRecovered::RestoreWaits(snapshot) => restore("restore_waits", snapshot, &None),
            WasRecovered::StateCompleted => Recovered {
                what: "state_completed",
                snapshot: None,
                safety: None,
                removed: None,
            },
            WasRecovered::ResidueRemoved(removed) => Recovered {
                what: "residue_removed",
                snapshot: None,
                safety: None,
                removed: Some(*removed),
            },
        }
    }
}

impl From<&RestoreTotals> for Totals {
    fn from(totals: &RestoreTotals) -> Self {
        Totals {
            added: totals.added,
            changed: totals.changed,
            removed: totals.removed,
            bytes: totals.bytes,
        }
    }
}

impl From<&LeaseRecord> for Holder {
    fn from(record: &LeaseRecord) -> Self {
        Holder {
            operation: record.operation.clone(),
            host: record.holder.name.clone(),
            process: record.holder.pid,
            since: text::utc_time(record.acquired),
            acquired: record.acquired,
        }
    }
}

impl Holder {
    /// The same for people.
    pub fn text(&self) -> String {
        let since = text::local_time(self.acquired, &jiff::tz::TimeZone::system());
        let host = text::line(&self.host);
        format!(
            "{} by process {} on {host} since {since}",
            text::line(&self.operation),
            self.process
        )
    }
}
