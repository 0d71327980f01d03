//! Scanning a range of objects through a lineage: a merge of one ordered cursor per branch.

use std::cmp::Ordering;

use bytes::Bytes;
use cairn_types::Epoch;

use super::{Level, Visit};
use crate::engine::{Engine, Pair};
use crate::error::MetadataError;
use crate::keyspace::codec::DecodeError;
use crate::keyspace::{HEAD_KEY_PREFIX, Version, head_key, history_key, history_prefix, prefix_end};

/// Entries fetched at once: few at first, since most scans want few.
const BATCH_FIRST: usize = 32;
const BATCH_MAX: usize = 1024;
/// Bytes of an epoch at the end of a history key.
const EPOCH_BYTES: usize = 8;

/// Entries of a key range of the engine, fetched in batches.
struct Entries<'a> {
    engine: &'a dyn Engine,
    from: Vec<u8>,
    to: Vec<u8>,
    batch: std::vec::IntoIter<Pair>,
    size: usize,
    more: bool,
}

impl<'a> Entries<'a> {
    fn new(engine: &'a dyn Engine, from: Vec<u8>, to: Vec<u8>, size: usize) -> Self {
        Entries {
            engine,
            from,
            to,
            batch: Vec::new().into_iter(),
            size,
            more: true,
        }
    }

    fn peek(&mut self) -> Result<Option<&Pair>, MetadataError> {
        if self.batch.as_slice().is_empty() && self.more {
            let pairs = self.engine.scan(&self.from, &self.to, self.size)?;
            self.more = pairs.len() == self.size;
            if let Some((key, _)) = pairs.last() {
                self.from.clear();
                self.from.extend_from_slice(key);
                self.from.push(0);
            }
            self.size = (self.size * 2).min(BATCH_MAX);
            self.batch = pairs.into_iter();
        }
        Ok(self.batch.as_slice().first())
    }

    fn next(&mut self) -> Result<Option<Pair>, MetadataError> {
        self.peek()?;
        Ok(self.batch.next())
    }

    /// Passes over everything before `key`, without fetching what lies between.
    fn seek(&mut self, key: &[u8]) {
        while self
            .batch
            .as_slice()
            .first()
            .is_some_and(|(found, _)| found.as_ref() < key)
        {
            self.batch.next();
        }
        if self.batch.as_slice().is_empty() && self.from.as_slice() < key {
            self.from = key.to_vec();
        }
    }
}

/// An object as one branch has it: body, and value or `None` for a removed one.
type Found = (Bytes, Option<Bytes>);

fn value_of(value: &Bytes) -> Result<(Epoch, Option<Bytes>), MetadataError> {
    let version = Version::decode(value)?;
    Ok((
        version.birth,
        version.value.map(|_| value.slice(Version::HEADER_BYTES..)),
    ))
}

/// The objects of one branch at its level, in the order of bodies.
///
/// A branch changes while its points are read, and a change moves a version from the newest ones to the history in one step.
/// So a point is read window by window: a batch of newest versions first, then the history of the bodies that the batch spans.
/// What had changed before the first read is in the history by then; what changes between the two is found in both, as the
/// same version, and counts once. The other order would miss what moves in between.
struct Cursor<'a> {
    engine: &'a dyn Engine,
    level: Level,
    /// Newest versions that are not read yet: a range of head keys, and how many to read at once.
    from: Vec<u8>,
    to: Vec<u8>,
    size: usize,
    more: bool,
    /// The window.
    newest: std::vec::IntoIter<Pair>,
    older: Option<Entries<'a>>,
    /// Candidates that were read ahead, one from each source.
    newest_found: Option<Found>,
    older_found: Option<Found>,
}

impl<'a> Cursor<'a> {
    fn new(engine: &'a dyn Engine, level: Level, from: &[u8], to: &[u8]) -> Result<Self, MetadataError> {
        let mut cursor = Cursor {
            engine,
            level,
            from: head_key(level.branch, from),
            to: head_key(level.branch, to),
            size: BATCH_FIRST,
            more: true,
            newest: Vec::new().into_iter(),
            older: None,
            newest_found: None,
            older_found: None,
        };
        cursor.fill()?;
        Ok(cursor)
    }

    fn open_window(&mut self) -> Result<(), MetadataError> {
        let pairs = self.engine.scan(&self.from, &self.to, self.size)?;
        self.more = pairs.len() == self.size;
        // A full batch spans up to its last body, whose versions in the history start with it.
        let end = match pairs.last() {
            Some((last, _)) if self.more => prefix_end(last),
            _ => self.to.clone(),
        };
        if self.level.epoch.is_some() {
            let history = |key: &[u8]| {
                let body = key.get(HEAD_KEY_PREFIX..).unwrap_or_default();
                history_prefix(self.level.branch, body)
            };
            let (from, to) = (history(&self.from), history(&end));
            self.older = Some(Entries::new(self.engine, from, to, self.size));
        }
        self.from = end;
        self.size = (self.size * 2).min(BATCH_MAX);
        self.newest = pairs.into_iter();
        Ok(())
    }

    /// Reads ahead until there is a candidate, if any is left.
    fn fill(&mut self) -> Result<(), MetadataError> {
        loop {
            if self.newest_found.is_none() {
                self.newest_found = self.next_newest()?;
            }
            if self.older_found.is_none() {
                self.older_found = self.next_older()?;
            }
            if self.peek().is_some() || !self.more {
                return Ok(());
            }
            self.open_window()?;
        }
    }

    fn next_newest(&mut self) -> Result<Option<Found>, MetadataError> {
        for (key, value) in self.newest.by_ref() {
            let (birth, value) = value_of(&value)?;
            if self.level.epoch.is_none_or(|epoch| birth <= epoch) {
                return Ok(Some((key.slice(HEAD_KEY_PREFIX..), value)));
            }
        }
        Ok(None)
    }

    fn next_older(&mut self) -> Result<Option<Found>, MetadataError> {
        let (Some(older), Some(epoch)) = (self.older.as_mut(), self.level.epoch) else {
            return Ok(None);
        };
        while let Some((key, value)) = older.next()? {
            let (body, last) = split_history(&key)?;
            if last < epoch {
                older.seek(&history_key(self.level.branch, &body, epoch));
                continue;
            }
            // The smallest last epoch at or after ours decides; later ones of the same object are of no interest.
            older.seek(&prefix_end(&history_prefix(self.level.branch, &body)));
            let (birth, value) = value_of(&value)?;
            if birth <= epoch {
                return Ok(Some((body, value)));
            }
        }
        Ok(None)
    }

    fn peek(&self) -> Option<&Bytes> {
        match (&self.newest_found, &self.older_found) {
            (Some((newest, _)), Some((older, _))) => Some(newest.min(older)),
            (Some((body, _)), None) | (None, Some((body, _))) => Some(body),
            (None, None) => None,
        }
    }

    /// Takes the object of the smallest body.
    fn next(&mut self) -> Result<Option<Found>, MetadataError> {
        let order = match (&self.newest_found, &self.older_found) {
            (Some((newest, _)), Some((older, _))) => newest.cmp(older),
            (Some(_), None) => Ordering::Less,
            _ => Ordering::Greater,
        };
        let found = match order {
            Ordering::Less => self.newest_found.take(),
            Ordering::Greater => self.older_found.take(),
            Ordering::Equal => {
                self.older_found = None;
                self.newest_found.take()
            }
        };
        self.fill()?;
        Ok(found)
    }
}

/// The body and the last epoch of a history key.
pub(crate) fn split_history(key: &Bytes) -> Result<(Bytes, Epoch), MetadataError> {
    let malformed = DecodeError {
        what: "history key",
        offset: key.len(),
    };
    let end = key
        .len()
        .checked_sub(EPOCH_BYTES)
        .filter(|end| *end > HEAD_KEY_PREFIX)
        .ok_or(malformed)?;
    let epoch = key
        .get(end..)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(malformed)?;
    Ok((key.slice(HEAD_KEY_PREFIX..end), Epoch(u64::from_be_bytes(epoch))))
}

pub(super) fn scan(
    engine: &dyn Engine,
    levels: &[Level],
    from: &[u8],
    to: &[u8],
    visit: Visit<'_>,
) -> Result<(), MetadataError> {
    let mut cursors = Vec::with_capacity(levels.len());
    for level in levels {
        cursors.push(Cursor::new(engine, *level, from, to)?);
    }
    loop {
        let Some(smallest) = cursors.iter().filter_map(Cursor::peek).min().cloned() else {
            return Ok(());
        };
        // The first branch that has the object decides; the others' versions are passed over.
        let mut decided = None;
        for cursor in &mut cursors {
            if cursor.peek() == Some(&smallest) {
                let found = cursor.next()?;
                decided = decided.or(found);
            }
        }
        if let Some((body, Some(value))) = decided
            && !visit(&body, &value)
        {
            return Ok(());
        }
    }
}
