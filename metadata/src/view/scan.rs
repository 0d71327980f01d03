//! Scanning a range of objects through a lineage: a merge of one ordered cursor per branch.

use bytes::Bytes;
use cairn_types::Epoch;

use super::Level;
use crate::engine::{Engine, Pair};
use crate::error::MetadataError;
use crate::keyspace::codec::DecodeError;
use crate::keyspace::{HEAD_KEY_PREFIX, Version, head_key, history_key, history_prefix};

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
    fn new(engine: &'a dyn Engine, from: Vec<u8>, to: Vec<u8>) -> Self {
        Entries {
            engine,
            from,
            to,
            batch: Vec::new().into_iter(),
            size: BATCH_FIRST,
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
struct Cursor<'a> {
    level: Level,
    newest: Entries<'a>,
    older: Option<Entries<'a>>,
    /// Candidates that were read ahead, one from each source.
    newest_found: Option<Found>,
    older_found: Option<Found>,
}

impl<'a> Cursor<'a> {
    fn new(engine: &'a dyn Engine, level: Level, from: &[u8], to: &[u8]) -> Result<Self, MetadataError> {
        let newest = Entries::new(engine, head_key(level.branch, from), head_key(level.branch, to));
        let older = level.epoch.map(|_| {
            Entries::new(
                engine,
                history_prefix(level.branch, from),
                history_prefix(level.branch, to),
            )
        });
        let mut cursor = Cursor {
            level,
            newest,
            older,
            newest_found: None,
            older_found: None,
        };
        cursor.fill_newest()?;
        cursor.fill_older()?;
        Ok(cursor)
    }

    fn fill_newest(&mut self) -> Result<(), MetadataError> {
        self.newest_found = None;
        while let Some((key, value)) = self.newest.next()? {
            let (birth, value) = value_of(&value)?;
            if self.level.epoch.is_none_or(|epoch| birth <= epoch) {
                self.newest_found = Some((key.slice(HEAD_KEY_PREFIX..), value));
                break;
            }
        }
        Ok(())
    }

    fn fill_older(&mut self) -> Result<(), MetadataError> {
        self.older_found = None;
        let (Some(older), Some(epoch)) = (self.older.as_mut(), self.level.epoch) else {
            return Ok(());
        };
        while let Some((key, value)) = older.next()? {
            let (body, last) = split_history(&key)?;
            if last < epoch {
                older.seek(&history_key(self.level.branch, &body, epoch));
                continue;
            }
            // The smallest last epoch at or after ours decides; later ones of the same object are of no interest.
            older.seek(
                &[
                    history_key(self.level.branch, &body, Epoch(u64::MAX)).as_slice(),
                    &[0],
                ]
                .concat(),
            );
            let (birth, value) = value_of(&value)?;
            if birth <= epoch {
                self.older_found = Some((body, value));
                break;
            }
        }
        Ok(())
    }

    fn peek(&self) -> Option<&Bytes> {
        match (&self.newest_found, &self.older_found) {
            (Some((newest, _)), Some((older, _))) => Some(newest.min(older)),
            (Some((body, _)), None) | (None, Some((body, _))) => Some(body),
            (None, None) => None,
        }
    }

    /// Takes the object of the smallest body. An object is found in one source only: its newest version was born at or
    /// before the epoch, or it was not.
    fn next(&mut self) -> Result<Option<Found>, MetadataError> {
        let newest_first = match (&self.newest_found, &self.older_found) {
            (Some((newest, _)), Some((older, _))) => newest <= older,
            (Some(_), None) => true,
            _ => false,
        };
        if newest_first {
            let found = self.newest_found.take();
            self.fill_newest()?;
            Ok(found)
        } else {
            let found = self.older_found.take();
            self.fill_older()?;
            Ok(found)
        }
    }
}

fn split_history(key: &Bytes) -> Result<(Bytes, Epoch), MetadataError> {
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
    visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
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
