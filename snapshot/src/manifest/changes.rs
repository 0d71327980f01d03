//! Where two snapshots differ: [`compare`](crate::directory::compare) with what only manifests know.
//!
//! Blocks that both manifests have in common are not read. And a name that has become, or is no more, a further name of a file is followed to the
//! first name, which says what the file holds. A renamed entry is one that is gone and one that is new. What several names of one file
//! have in common is told at the first of them.

use std::collections::HashSet;

use cairn_types::FileKind;

use super::error::ManifestError;
use super::read::ManifestReader;
use crate::directory::compare::{Aspect, CompareError, Difference, aspects, compare};
use crate::directory::{Body, Record};

/// What has become of a path. [`Aspect::Unread`] alone: perhaps nothing.
pub type Change = Difference<Record>;
/// Why changes cannot be told on.
pub type ChangeError = CompareError<ManifestError, ManifestError>;

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
            Difference::Added(record) => {
                self.added += 1;
                self.bytes_after = self.bytes_after.saturating_add(file_bytes(record));
            }
            Difference::Removed(record) => {
                self.removed += 1;
                self.bytes_before = self.bytes_before.saturating_add(file_bytes(record));
            }
            Difference::Changed {
                before,
                after,
                aspects,
            } => {
                match aspects.iter().eq([Aspect::Unread]) {
                    true => self.perhaps += 1,
                    false => self.modified += 1,
                }
                let data = [Aspect::Kind, Aspect::Size, Aspect::Data, Aspect::Unread];
                if data.into_iter().any(|aspect| aspects.contains(aspect)) {
                    self.bytes_before = self.bytes_before.saturating_add(file_bytes(before));
                    self.bytes_after = self.bytes_after.saturating_add(file_bytes(after));
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

/// Whether a change is that of the time of a directory and of nothing else: what every change in a directory does to it.
pub fn is_time_of_directory(change: &Change) -> bool {
    matches!(change, Difference::Changed { after, aspects, .. }
        if after.entry.attributes.kind == FileKind::Directory && aspects.iter().eq([Aspect::Times]))
}

/// The changes between two snapshots, in path order. Ends after the first error: [`ChangeError`], as of [`Records`](super::Records).
pub fn between<'a>(
    before: &'a ManifestReader,
    after: &'a ManifestReader,
) -> impl Iterator<Item = Result<Change, ChangeError>> + 'a {
    let blocks_before: Vec<_> = before.closed_blocks().collect();
    let known: HashSet<&[u8; 32]> = blocks_before.iter().map(|(_, hash)| hash).collect();
    let common: Vec<_> = after
        .closed_blocks()
        .filter(|(_, hash)| known.contains(hash))
        .collect();
    let hashes: HashSet<&[u8; 32]> = common.iter().map(|(_, hash)| hash).collect();
    let passed_before = blocks_before.iter().filter(|(_, hash)| hashes.contains(hash));
    let passed_before = passed_before.map(|(block, _)| *block).collect();
    let passed_after = common.iter().map(|(block, _)| *block).collect();
    let mut changes = compare(
        before.records_without(passed_before),
        after.records_without(passed_after),
    );
    let mut done = false;
    std::iter::from_fn(move || {
        if done {
            return None;
        }
        let change = changes
            .next()?
            .and_then(|change| resolve(change, Some(before), Some(after)));
        // What follows an error would be told as gone or as new.
        done = change.is_err();
        Some(change)
    })
}

/// Completes a change of a name that was, or is, a further name of a file and of another one than is, or was: adds in what the files differ that it names.
/// [`Aspect::Unread`] if there is no manifest to look a first name up in, or it is not in there. Other changes stay what they are.
/// Errors: [`ChangeError`].
pub fn resolve(
    change: Change,
    before: Option<&ManifestReader>,
    after: Option<&ManifestReader>,
) -> Result<Change, ChangeError> {
    let Difference::Changed {
        before: old,
        after: new,
        aspects: mut found,
    } = change
    else {
        return Ok(change);
    };
    if found.contains(Aspect::Links) && new.entry.attributes.kind == FileKind::Regular {
        let first_old = first_name(&old, before).map_err(CompareError::Before)?;
        let first_new = first_name(&new, after).map_err(CompareError::After)?;
        match (first_old, first_new) {
            (Some(old), Some(new)) => {
                let held = aspects(&old, &new);
                let told = [Aspect::Data, Aspect::Unread, Aspect::Holes];
                told.into_iter()
                    .filter(|aspect| held.contains(*aspect))
                    .for_each(|aspect| found.insert(aspect));
            }
            _ => found.insert(Aspect::Unread),
        }
    }
    Ok(Difference::Changed {
        before: old,
        after: new,
        aspects: found,
    })
}

/// The record that says what the file of an entry holds.
fn first_name(record: &Record, manifest: Option<&ManifestReader>) -> Result<Option<Record>, ManifestError> {
    match (&record.entry.body, manifest) {
        (Body::Link(to), Some(manifest)) => manifest.find(to),
        (Body::Link(_), None) => Ok(None),
        _ => Ok(Some(record.clone())),
    }
}
