//! The descriptor: the small immutable record that makes a captured tree a snapshot. Publishing it is the commit of a save.

use std::collections::BTreeSet;

use cairn_types::{SnapshotId, Tag, Timestamp};
use serde::{Deserialize, Serialize};

use super::document::Document;
use super::host::Host;
use super::text;
use crate::directory::{Digest, RelativePath, place};
use crate::manifest::EntryCounts;

/// Longest note, in bytes.
pub const NOTE_BYTES_MAX: usize = 64 << 10;
/// Most tags of one snapshot.
pub const TAGS_MAX: usize = 64;
/// Most paths that a partial snapshot is asked for with.
pub const PATHS_MAX: usize = 1000;
/// Longest path, in bytes, that a descriptor shows among those that lost something or were torn; longer ones are counted only.
pub const SHOWN_PATH_BYTES_MAX: usize = 4096;
/// Most torn paths that are shown.
pub const TORN_SHOWN_MAX: usize = 100;
/// Most paths that are shown of one kind of loss.
pub const LOSSES_SHOWN_MAX: usize = 10;
/// Longest text of a field that has no bound of its own, in bytes.
const TEXT_BYTES_MAX: usize = 4096;
/// Most degradations, as many as there are engines and some more.
const DEGRADATIONS_MAX: usize = 16;

/// `descriptors/ID.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Descriptor {
    /// The snapshot.
    #[serde(with = "text")]
    pub id: SnapshotId,
    /// Its number in the repository: higher than that of every snapshot before it. Wall clocks go back, this does not.
    pub sequence: u64,
    /// The token of the lease under which it was published.
    pub fence: u64,
    /// The snapshot before it, whether that still exists or not.
    #[serde(with = "text::option")]
    pub parent: Option<SnapshotId>,
    /// When it was published.
    #[serde(with = "text")]
    pub created: Timestamp,
    /// When its capture began: nothing that changed before is missing.
    #[serde(with = "text")]
    pub capture_begun: Timestamp,
    /// When its capture ended: nothing that changed later is in it.
    #[serde(with = "text")]
    pub capture_ended: Timestamp,
    /// A person's words, as first given; at most [`NOTE_BYTES_MAX`]. [`Labels`](super::Labels) may replace them.
    pub note: String,
    /// Its tags, as first given; at most [`TAGS_MAX`]. [`Labels`](super::Labels) may replace them.
    #[serde(with = "text::list")]
    pub tags: BTreeSet<Tag>,
    /// The template that it was made with.
    pub template: Option<String>,
    /// How its data is kept.
    pub engine: EngineUse,
    /// What it consists of.
    pub counts: Counts,
    /// The paths that it holds; nothing if it holds everything.
    pub paths: Option<Paths>,
    /// The hash of all entries; nothing if it was not known when the snapshot was published.
    #[serde(with = "text::option")]
    pub tree_hash: Option<Digest>,
    /// The list of its entries, as a file.
    pub manifest: ManifestFile,
    /// What of entries could not be kept.
    pub losses: Losses,
    /// Files that changed while they were read.
    pub torn: Torn,
    /// Entries that vanished while they were captured.
    pub vanished: u64,
    /// Why it was made.
    pub origin: Origin,
    /// The snapshot that the workspace was restored to before, if that is not the parent.
    #[serde(with = "text::option")]
    pub restored_from: Option<SnapshotId>,
    /// The hash of the idempotency key of the request.
    #[serde(with = "text::option")]
    pub key: Option<Digest>,
    /// Who made it: a user, for people.
    pub actor: String,
    /// Which process made it.
    pub host: Host,
}

/// How a snapshot's data is kept. Engines are names here: a descriptor with an engine that this Cairn does not have can be listed,
/// and removed from lists, but not restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineUse {
    /// The engine that was asked for; nothing: the best.
    pub requested: Option<String>,
    /// The engine that was used.
    pub used: String,
    /// Engines that would have been better, and why they were not used.
    pub degraded: Vec<DegradedEngine>,
}

/// An engine that was not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DegradedEngine {
    /// The engine.
    pub from: String,
    /// Why, for people.
    pub reason: String,
}

/// What a snapshot consists of: what its [manifest](crate::manifest) counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// All entries, the root included.
    pub entries: u64,
    /// Regular files, each once.
    pub files: u64,
    /// Directories, the root included.
    pub directories: u64,
    /// Symbolic links, each once.
    pub symlinks: u64,
    /// Fifos, sockets and devices, each once.
    pub special: u64,
    /// Further names of files of any type.
    pub links: u64,
    /// Sum of the sizes of regular files, each file once.
    pub bytes: u64,
    /// Regular files whose data had no hash when the snapshot was published.
    pub unhashed: u64,
}

impl From<EntryCounts> for Counts {
    fn from(counts: EntryCounts) -> Self {
        let EntryCounts {
            entries,
            files,
            directories,
            symlinks,
            special,
            links,
            bytes,
            unhashed,
        } = counts;
        Counts {
            entries,
            files,
            directories,
            symlinks,
            special,
            links,
            bytes,
            unhashed,
        }
    }
}

/// The paths of a partial snapshot: 1 to [`PATHS_MAX`], ascending, none below another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Paths {
    /// The paths.
    #[serde(with = "text::list")]
    pub paths: Vec<RelativePath>,
}

/// A manifest as a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// The hash that names it: [`ManifestSummary::file_hash`](crate::manifest::ManifestSummary).
    #[serde(with = "text")]
    pub hash: Digest,
    /// Bytes of the file.
    pub length: u64,
}

/// What of entries could not be kept, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Losses {
    /// Owners and groups.
    pub owner: Loss,
    /// Mode bits.
    pub mode: Loss,
    /// Extended attributes.
    pub xattrs: Loss,
    /// Fifos, sockets and devices.
    pub special: Loss,
    /// Times.
    pub times: Loss,
}

/// One kind of loss.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loss {
    /// Entries that it hit.
    pub count: u64,
    /// The first of them; at most [`LOSSES_SHOWN_MAX`], each of at most [`SHOWN_PATH_BYTES_MAX`] bytes.
    #[serde(with = "text::list")]
    pub paths: Vec<RelativePath>,
}

impl From<&place::LossCount> for Loss {
    fn from(count: &place::LossCount) -> Self {
        let mut loss = Loss::default();
        count.paths.iter().for_each(|path| loss.add(path));
        // The paths are some of all; one that is not shown counts too.
        loss.count = count.entries;
        loss
    }
}

impl From<&place::Losses> for Losses {
    fn from(losses: &place::Losses) -> Self {
        Losses {
            owner: Loss::from(&losses.owner),
            mode: Loss::from(&losses.mode),
            xattrs: Loss::from(&losses.xattrs),
            special: Loss::from(&losses.special),
            times: Loss::from(&losses.times),
        }
    }
}

/// Files that changed while they were read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Torn {
    /// How many.
    pub count: u64,
    /// The first of them; at most [`TORN_SHOWN_MAX`], each of at most [`SHOWN_PATH_BYTES_MAX`] bytes.
    #[serde(with = "text::list")]
    pub paths: Vec<RelativePath>,
}

impl Loss {
    /// Counts one more entry, and shows it if there is room.
    pub fn add(&mut self, path: &RelativePath) {
        self.count += 1;
        show(&mut self.paths, path, LOSSES_SHOWN_MAX);
    }
}

impl Torn {
    /// Counts one more file, and shows it if there is room.
    pub fn add(&mut self, path: &RelativePath) {
        self.count += 1;
        show(&mut self.paths, path, TORN_SHOWN_MAX);
    }
}

fn show(paths: &mut Vec<RelativePath>, path: &RelativePath, paths_max: usize) {
    if paths.len() < paths_max && path.as_bytes().len() <= SHOWN_PATH_BYTES_MAX {
        paths.push(path.clone());
    }
}

/// Why a snapshot was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Origin {
    /// Somebody asked for it.
    Requested,
    /// A restore took it of what it was about to replace.
    Safety {
        /// The snapshot that was restored.
        #[serde(with = "text")]
        restoring: SnapshotId,
    },
    /// A schedule asked for it.
    Scheduled {
        /// The schedule.
        name: String,
    },
    /// It was taken over from a repository of the Go tools.
    Imported {
        /// Which of their formats.
        line: String,
        /// Its id there.
        id: String,
    },
    /// It is the first snapshot of a fork.
    ForkOf {
        /// The id of the repository that was forked.
        repository: String,
        /// The snapshot there.
        #[serde(with = "text")]
        snapshot: SnapshotId,
    },
}

impl Origin {
    /// Whether such a snapshot can be `latest`: every one but safety snapshots, so that restoring `latest` twice gives the same.
    pub fn is_latest(&self) -> bool {
        !matches!(self, Origin::Safety { .. })
    }
}

impl Document for Descriptor {
    const KIND: &'static str = "descriptor";

    fn check(&self) -> Result<(), String> {
        check_note(&self.note)?;
        check_tags(&self.tags)?;
        self.host.check()?;
        let mut texts = vec![("actor", &self.actor), ("engine.used", &self.engine.used)];
        texts.extend(self.template.as_ref().map(|text| ("template", text)));
        texts.extend(
            self.engine
                .requested
                .as_ref()
                .map(|text| ("engine.requested", text)),
        );
        for degraded in &self.engine.degraded {
            texts.push(("engine.degraded.from", &degraded.from));
            texts.push(("engine.degraded.reason", &degraded.reason));
        }
        match &self.origin {
            Origin::Requested | Origin::Safety { .. } => {}
            Origin::Scheduled { name } => texts.push(("origin.name", name)),
            Origin::Imported { line, id } => texts.extend([("origin.line", line), ("origin.id", id)]),
            Origin::ForkOf { repository, .. } => texts.push(("origin.repository", repository)),
        }
        for (what, text) in texts {
            at_most(what, text.len(), TEXT_BYTES_MAX)?;
        }
        at_most("engine.degraded", self.engine.degraded.len(), DEGRADATIONS_MAX)?;
        if let Some(Paths { paths }) = &self.paths {
            at_most("paths", paths.len(), PATHS_MAX)?;
            let ordered = paths
                .windows(2)
                .all(|pair| pair[0] < pair[1] && !pair[1].is_within(&pair[0]));
            if paths.is_empty() || !ordered {
                return Err("paths are missing, not ascending, or below each other".to_owned());
            }
        }
        at_most("torn.paths", self.torn.paths.len(), TORN_SHOWN_MAX)?;
        let losses = &self.losses;
        for loss in [
            &losses.owner,
            &losses.mode,
            &losses.xattrs,
            &losses.special,
            &losses.times,
        ] {
            at_most("paths of a loss", loss.paths.len(), LOSSES_SHOWN_MAX)?;
        }
        Ok(())
    }
}

/// Looks whether a note is too long. Errors: it is.
pub fn check_note(note: &str) -> Result<(), String> {
    at_most("bytes of note", note.len(), NOTE_BYTES_MAX)
}

/// Looks whether there are too many tags. Errors: there are.
pub fn check_tags(tags: &BTreeSet<Tag>) -> Result<(), String> {
    at_most("tags", tags.len(), TAGS_MAX)
}

fn at_most(what: &str, found: usize, limit: usize) -> Result<(), String> {
    match found <= limit {
        true => Ok(()),
        false => Err(format!("{what}: {found}, at most {limit}")),
    }
}
