//! Where two trees differ: both are read once, side by side, in path order.
//!
//! A renamed entry is one that is gone and one that is new. What two names of one file have in common is told at the first of them: a further name
//! differs if its attributes do, or if it is a name of something else.
//!
//! Whether data differs is told by digests. Without them a file is the same if its size, its time of modification and its stamp are, and
//! otherwise *perhaps* another, which is an answer of its own: whoever wants to know must read the data.

use std::collections::HashSet;
use std::fmt;
use std::iter::Peekable;

use cairn_types::FileKind;

use super::error::ManifestError;
use super::read::{ManifestReader, Records};
use crate::directory::{Body, FileBody, Record, RelativePath};

/// In what two entries at the same path differ: a set.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Differences(u16);

impl Differences {
    /// In nothing.
    pub const NONE: Differences = Differences(0);
    /// They are of other types; whatever else differs is not told.
    pub const KIND: Differences = Differences(1);
    /// Mode.
    pub const MODE: Differences = Differences(1 << 1);
    /// Owner or group.
    pub const OWNER: Differences = Differences(1 << 2);
    /// Time of modification.
    pub const TIME: Differences = Differences(1 << 3);
    /// Size of a regular file.
    pub const SIZE: Differences = Differences(1 << 4);
    /// Data of a regular file, certainly.
    pub const DATA: Differences = Differences(1 << 5);
    /// Data of a regular file, perhaps: nobody has read it on one of the sides.
    pub const DATA_PERHAPS: Differences = Differences(1 << 6);
    /// Extended attributes, access control lists among them.
    pub const XATTRS: Differences = Differences(1 << 7);
    /// Of which file it is a name: of one of its own, or of one that has an earlier name.
    pub const LINKS: Differences = Differences(1 << 8);
    /// Which zeros take up no room on disk; the data may be the same.
    pub const HOLES: Differences = Differences(1 << 9);
    /// Target of a symbolic link.
    pub const TARGET: Differences = Differences(1 << 10);
    /// Number of a device.
    pub const DEVICE: Differences = Differences(1 << 11);

    /// In the order in which they are shown.
    const NAMES: [(Differences, &str); 12] = [
        (Differences::KIND, "type"),
        (Differences::DATA, "data"),
        (Differences::DATA_PERHAPS, "perhaps data"),
        (Differences::SIZE, "size"),
        (Differences::TARGET, "target"),
        (Differences::LINKS, "links"),
        (Differences::MODE, "mode"),
        (Differences::OWNER, "owner"),
        (Differences::XATTRS, "xattrs"),
        (Differences::DEVICE, "device"),
        (Differences::HOLES, "holes"),
        (Differences::TIME, "time"),
    ];

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self == Differences::NONE
    }

    /// Whether one of `others` is among them.
    pub fn has(self, others: Differences) -> bool {
        self.0 & others.0 != 0
    }

    /// Both together.
    pub fn with(self, others: Differences) -> Differences {
        Differences(self.0 | others.0)
    }

    /// These without `others`.
    pub fn without(self, others: Differences) -> Differences {
        Differences(self.0 & !others.0)
    }

    /// Their names, in a fixed order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let names = Differences::NAMES.into_iter();
        names
            .filter(move |(difference, _)| self.has(*difference))
            .map(|(_, name)| name)
    }
}

impl fmt::Debug for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// What has become of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// There is something where nothing was.
    Added(Record),
    /// There is nothing where something was.
    Removed(Record),
    /// There is something else, or something with other attributes.
    Modified {
        /// In what they differ: at least one. [`Differences::DATA_PERHAPS`] alone: perhaps in nothing.
        differences: Differences,
        /// What was there.
        before: Box<Record>,
        /// What is there.
        after: Box<Record>,
    },
}

impl Change {
    /// The path.
    pub fn path(&self) -> &RelativePath {
        match self {
            Change::Added(record) | Change::Removed(record) => &record.entry.path,
            Change::Modified { after, .. } => &after.entry.path,
        }
    }

    /// Whether it is a directory in which nothing has changed but its time: what every change in a directory does to it.
    pub fn is_time_of_directory(&self) -> bool {
        matches!(self, Change::Modified { differences, after, .. }
            if *differences == Differences::TIME && after.entry.attributes.kind == FileKind::Directory)
    }
}

/// How much has changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChangeTotals {
    /// Entries that are new.
    pub added: u64,
    /// Entries that are gone.
    pub removed: u64,
    /// Entries that certainly differ.
    pub modified: u64,
    /// Files whose data perhaps differs, and nothing else.
    pub perhaps: u64,
    /// Bytes of the files that are new or have, perhaps, other data: as they are afterwards.
    pub bytes_after: u64,
    /// Bytes of the files that are gone or have, perhaps, other data: as they were before.
    pub bytes_before: u64,
}

impl ChangeTotals {
    /// Counts a change.
    pub fn add(&mut self, change: &Change) {
        match change {
            Change::Added(record) => {
                self.added += 1;
                self.bytes_after += file_bytes(record);
            }
            Change::Removed(record) => {
                self.removed += 1;
                self.bytes_before += file_bytes(record);
            }
            Change::Modified {
                differences,
                before,
                after,
            } => {
                match *differences == Differences::DATA_PERHAPS {
                    true => self.perhaps += 1,
                    false => self.modified += 1,
                }
                let data = [Differences::KIND, Differences::DATA, Differences::DATA_PERHAPS];
                if data.into_iter().any(|difference| differences.has(difference)) {
                    self.bytes_before += file_bytes(before);
                    self.bytes_after += file_bytes(after);
                }
            }
        }
    }
}

/// Bytes of a regular file under its first name.
fn file_bytes(record: &Record) -> u64 {
    match record.entry.body {
        Body::File(_) => record.entry.attributes.size,
        Body::None | Body::Symlink(_) | Body::Link(_) => 0,
    }
}

/// The changes from one tree to another, in path order. Ends after the first error of either side.
pub struct Changes<'a, B, A, E>
where
    B: Iterator<Item = Result<Record, E>>,
    A: Iterator<Item = Result<Record, E>>,
{
    before: Peekable<B>,
    after: Peekable<A>,
    /// Where the first names of files are found.
    manifests: [Option<&'a ManifestReader>; 2],
    done: bool,
}

/// The changes between two snapshots. Blocks that both manifests have in common are not read.
/// Errors: those of [`Records`].
pub fn between<'a>(
    before: &'a ManifestReader,
    after: &'a ManifestReader,
) -> Changes<'a, Records<'a>, Records<'a>, ManifestError> {
    let passable = |manifest: &ManifestReader| manifest.closed_blocks().collect::<Vec<_>>();
    let (blocks_before, blocks_after) = (passable(before), passable(after));
    let known: HashSet<&[u8; 32]> = blocks_before.iter().map(|(_, hash)| hash).collect();
    let common: HashSet<[u8; 32]> = blocks_after
        .iter()
        .filter_map(|(_, hash)| known.contains(hash).then_some(*hash))
        .collect();
    let chosen = |blocks: &[(usize, [u8; 32])]| {
        let common = blocks.iter().filter(|(_, hash)| common.contains(hash));
        common.map(|(block, _)| *block).collect::<HashSet<usize>>()
    };
    Changes::new(
        before.records_without(chosen(&blocks_before)),
        after.records_without(chosen(&blocks_after)),
    )
    .with_manifests(Some(before), Some(after))
}

impl<'a, B, A, E> Changes<'a, B, A, E>
where
    B: Iterator<Item = Result<Record, E>>,
    A: Iterator<Item = Result<Record, E>>,
    E: From<ManifestError>,
{
    /// The changes between two streams of records, each in path order.
    pub fn new(before: B, after: A) -> Self {
        Changes {
            before: before.peekable(),
            after: after.peekable(),
            manifests: [None, None],
            done: false,
        }
    }

    /// Says where the first names of files can be looked up. Needed for names that have become names of something else; without it their data is
    /// *perhaps* another.
    pub fn with_manifests(
        mut self,
        before: Option<&'a ManifestReader>,
        after: Option<&'a ManifestReader>,
    ) -> Self {
        self.manifests = [before, after];
        self
    }

    fn step(&mut self) -> Result<Option<Change>, E> {
        loop {
            let order = match (self.before.peek(), self.after.peek()) {
                (Some(Ok(before)), Some(Ok(after))) => before.entry.path.cmp(&after.entry.path),
                // An error comes out before what the other side has.
                (Some(_), None) | (Some(Err(_)), _) => std::cmp::Ordering::Less,
                (None, Some(_)) | (_, Some(Err(_))) => std::cmp::Ordering::Greater,
                (None, None) => return Ok(None),
            };
            let before = match order.is_le() {
                true => self.before.next().transpose()?,
                false => None,
            };
            let after = match order.is_ge() {
                true => self.after.next().transpose()?,
                false => None,
            };
            match (before, after) {
                (Some(before), Some(after)) => {
                    let differences = self.differences(&before, &after)?;
                    if !differences.is_empty() {
                        return Ok(Some(Change::Modified {
                            differences,
                            before: Box::new(before),
                            after: Box::new(after),
                        }));
                    }
                }
                (Some(before), None) => return Ok(Some(Change::Removed(before))),
                (None, Some(after)) => return Ok(Some(Change::Added(after))),
                (None, None) => return Ok(None),
            }
        }
    }

    /// As [`differences`], with the data of first names where an entry has become, or is no more, a further one.
    fn differences(&self, before: &Record, after: &Record) -> Result<Differences, E> {
        let found = differences(before, after);
        if !found.has(Differences::LINKS) || !found.has(Differences::DATA_PERHAPS) {
            return Ok(found);
        }
        let [before_manifest, after_manifest] = self.manifests;
        let (Some(first_before), Some(first_after)) = (
            first_name(before, before_manifest)?,
            first_name(after, after_manifest)?,
        ) else {
            return Ok(found);
        };
        // What a name holds is what the first name of its file holds.
        let held = differences(&first_before, &first_after);
        let told = Differences::DATA
            .with(Differences::DATA_PERHAPS)
            .with(Differences::HOLES);
        let held = held.without(held.without(told));
        Ok(found.without(Differences::DATA_PERHAPS).with(held))
    }
}

/// The record that says what the file of an entry holds.
fn first_name(record: &Record, manifest: Option<&ManifestReader>) -> Result<Option<Record>, ManifestError> {
    match (&record.entry.body, manifest) {
        (Body::Link(to), Some(manifest)) => manifest.find(to),
        (Body::Link(_), None) => Ok(None),
        _ => Ok(Some(record.clone())),
    }
}

/// In what two entries at the same path differ. [`Differences::DATA_PERHAPS`] if digests are missing, or if one is a further name of something else than the
/// other.
pub fn differences(before: &Record, after: &Record) -> Differences {
    let (old, new) = (&before.entry.attributes, &after.entry.attributes);
    if old.kind != new.kind {
        return Differences::KIND;
    }
    let flag = |differ: bool, difference| match differ {
        true => difference,
        false => Differences::NONE,
    };
    let regular = old.kind == FileKind::Regular;
    flag(old.mode != new.mode, Differences::MODE)
        .with(flag((old.uid, old.gid) != (new.uid, new.gid), Differences::OWNER))
        .with(flag(old.modified != new.modified, Differences::TIME))
        .with(flag(regular && old.size != new.size, Differences::SIZE))
        .with(flag(old.device != new.device, Differences::DEVICE))
        .with(flag(old.xattrs != new.xattrs, Differences::XATTRS))
        .with(body_differences(before, after))
}

fn body_differences(before: &Record, after: &Record) -> Differences {
    let resized = before.entry.attributes.size != after.entry.attributes.size;
    match (&before.entry.body, &after.entry.body) {
        (Body::File(old), Body::File(new)) => {
            let holes = match old.holes == new.holes {
                true => Differences::NONE,
                false => Differences::HOLES,
            };
            holes.with(data_difference(before, old, after, new))
        }
        (Body::Symlink(old), Body::Symlink(new)) if old != new => Differences::TARGET,
        (Body::Link(old), Body::Link(new)) if old == new => Differences::NONE,
        (Body::Link(_), _) | (_, Body::Link(_)) => match before.entry.attributes.kind {
            FileKind::Regular if resized => Differences::LINKS.with(Differences::DATA),
            FileKind::Regular => Differences::LINKS.with(Differences::DATA_PERHAPS),
            _ => Differences::LINKS,
        },
        _ => Differences::NONE,
    }
}

fn data_difference(before: &Record, old: &FileBody, after: &Record, new: &FileBody) -> Differences {
    let (size, size_after) = (before.entry.attributes.size, after.entry.attributes.size);
    match (old.digest, new.digest) {
        _ if size != size_after => Differences::DATA,
        (Some(old), Some(new)) if old != new => Differences::DATA,
        (Some(_), Some(_)) => Differences::NONE,
        _ if size == 0 => Differences::NONE,
        _ if !old.runs.is_empty() && old.runs == new.runs => Differences::NONE,
        _ if is_same_file(before, after) => Differences::NONE,
        _ => Differences::DATA_PERHAPS,
    }
}

/// Whether both are the same state of the same file, as far as its file system tells.
fn is_same_file(before: &Record, after: &Record) -> bool {
    before.stamp.is_some()
        && before.stamp == after.stamp
        && before.entry.attributes.modified == after.entry.attributes.modified
}

impl<B, A, E> Iterator for Changes<'_, B, A, E>
where
    B: Iterator<Item = Result<Record, E>>,
    A: Iterator<Item = Result<Record, E>>,
    E: From<ManifestError>,
{
    type Item = Result<Change, E>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.step().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}
