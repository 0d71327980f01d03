//! Reading the objects of a branch, live or at a point, through its ancestors.
//!
//! Every object's newest version stands under its head key with the epoch of its birth. The first change in a later epoch
//! first saves the old version to the history under the last epoch in which it was valid. So, for the state at the end of
//! epoch `s` of one branch:
//! - the newest version counts if it was born at or before `s` (then no older one was valid at `s`);
//! - else, of the versions in the history, the one with the smallest last epoch at or after `s`, if born at or before `s`;
//! - else this branch says nothing, and its parent is asked, as of the epoch at which the branch left it.
//!
//! A live branch is read by its newest versions alone, one point read each, however many snapshots there are. A version may
//! also say *removed*, which hides the parent's.

use bytes::Bytes;
use cairn_types::{BranchId, ByteRange, Epoch, InodeId};

use crate::engine::Engine;
use crate::error::MetadataError;
use crate::keyspace::branch::{BranchRecord, Point};
use crate::keyspace::codec::DecodeError;
use crate::keyspace::dirent::{self, DirentRecord};
use crate::keyspace::extent::ExtentRecord;
use crate::keyspace::inode::{self, InodeRecord};
use crate::keyspace::{ObjectKind, Version, body, branch, head_key, history_key, prefix_end};

mod scan;
mod tree;

pub(crate) use scan::split_history;

/// Most branches that one may descend from.
pub const LINEAGE_DEPTH_MAX: u32 = 1024;

/// Is called with the body and the value of each object of a scan, until it says no.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&Bytes, &Bytes) -> bool;

/// One branch of a lineage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Level {
    branch: BranchId,
    /// `None`: the newest versions, whatever their birth.
    epoch: Option<Epoch>,
}

/// A branch and its ancestors, each as of the point at which the next one left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    levels: Vec<Level>,
}

impl Lineage {
    /// The lineage of a branch's live state.
    pub fn live(engine: &dyn Engine, branch: BranchId) -> Result<Self, MetadataError> {
        Self::load(engine, branch, None)
    }

    /// The lineage of a point.
    pub fn at(engine: &dyn Engine, point: Point) -> Result<Self, MetadataError> {
        Self::load(engine, point.branch, Some(point.epoch))
    }

    fn load(engine: &dyn Engine, branch: BranchId, epoch: Option<Epoch>) -> Result<Self, MetadataError> {
        let mut levels = vec![Level { branch, epoch }];
        let mut next = load_branch(engine, branch)?.parent;
        while let Some(Point { branch, epoch }) = next {
            if levels.len() > LINEAGE_DEPTH_MAX as usize {
                return Err(MetadataError::Missing {
                    what: format!("the origin of branch {branch}"),
                });
            }
            levels.push(Level {
                branch,
                epoch: Some(epoch),
            });
            next = load_branch(engine, branch)?.parent;
        }
        Ok(Lineage { levels })
    }

    /// The branch itself.
    pub fn branch(&self) -> BranchId {
        self.levels.first().map_or(BranchId(0), |level| level.branch)
    }

    /// The points that it consists of, the branch's own first. A live one counts as the end of the last epoch that there can be.
    pub(crate) fn points(&self) -> impl Iterator<Item = Point> + '_ {
        self.levels.iter().map(|level| Point {
            branch: level.branch,
            epoch: level.epoch.unwrap_or(Epoch(u64::MAX)),
        })
    }

    /// Whether the branch has ancestors.
    pub(crate) fn inherits(&self) -> bool {
        self.levels.len() > 1
    }
}

pub(crate) fn load_branch(engine: &dyn Engine, id: BranchId) -> Result<BranchRecord, MetadataError> {
    let value = engine.get(&branch::branch_key(id))?;
    let value = value.ok_or_else(|| MetadataError::Missing {
        what: format!("branch {id}"),
    })?;
    Ok(BranchRecord::decode(&value)?)
}

/// What one branch says of an object.
enum Answer {
    Value(Bytes),
    Removed,
    Nothing,
}

fn answer(value: &Bytes, version: Version<'_>) -> Answer {
    match version.value {
        Some(_) => Answer::Value(value.slice(Version::HEADER_BYTES..)),
        None => Answer::Removed,
    }
}

/// The objects of a branch, live or at a point.
#[derive(Clone, Copy)]
pub struct View<'a> {
    engine: &'a dyn Engine,
    lineage: &'a Lineage,
}

impl<'a> View<'a> {
    /// A view by a lineage.
    pub fn new(engine: &'a dyn Engine, lineage: &'a Lineage) -> Self {
        View { engine, lineage }
    }

    fn ask(&self, level: Level, body: &[u8]) -> Result<Answer, MetadataError> {
        // Before the history: what a change moves there in between is found there.
        let newest = self.engine.get(&head_key(level.branch, body))?;
        let Some(epoch) = level.epoch else {
            return match newest {
                Some(value) => Ok(answer(&value, Version::decode(&value)?)),
                None => Ok(Answer::Nothing),
            };
        };
        if let Some(value) = newest {
            let version = Version::decode(&value)?;
            if version.birth <= epoch {
                return Ok(answer(&value, version));
            }
        }
        let from = history_key(level.branch, body, epoch);
        let to = prefix_end(&history_key(level.branch, body, Epoch(u64::MAX - 1)));
        for (_, value) in self.engine.scan(&from, &to, 1)? {
            let version = Version::decode(&value)?;
            if version.birth <= epoch {
                return Ok(answer(&value, version));
            }
        }
        Ok(Answer::Nothing)
    }

    /// Whether a branch, live or at an epoch, has nothing of its own to say of a body, so that its parent is asked.
    pub(crate) fn says_nothing(
        engine: &dyn Engine,
        branch: BranchId,
        epoch: Option<Epoch>,
        body: &[u8],
    ) -> Result<bool, MetadataError> {
        let level = Level { branch, epoch };
        let lineage = Lineage { levels: vec![level] };
        let answer = View::new(engine, &lineage).ask(level, body)?;
        Ok(matches!(answer, Answer::Nothing))
    }

    pub(crate) fn get(&self, body: &[u8]) -> Result<Option<Bytes>, MetadataError> {
        for level in &self.lineage.levels {
            match self.ask(*level, body)? {
                Answer::Value(value) => return Ok(Some(value)),
                Answer::Removed => return Ok(None),
                Answer::Nothing => {}
            }
        }
        Ok(None)
    }

    /// As [`View::get`], but only what the ancestors say.
    pub(crate) fn get_inherited(&self, body: &[u8]) -> Result<Option<Bytes>, MetadataError> {
        for level in self.lineage.levels.iter().skip(1) {
            match self.ask(*level, body)? {
                Answer::Value(value) => return Ok(Some(value)),
                Answer::Removed => return Ok(None),
                Answer::Nothing => {}
            }
        }
        Ok(None)
    }

    /// As [`View::get`], from memory or not at all: `None` means that a disk, or an ancestor's history, must be asked.
    fn get_cached(&self, body: &[u8]) -> Result<Option<Option<Bytes>>, MetadataError> {
        let [level] = self.lineage.levels.as_slice() else {
            return Ok(None);
        };
        if level.epoch.is_some() {
            return Ok(None);
        }
        match self.engine.get_cached(&head_key(level.branch, body))? {
            None => Ok(None),
            Some(None) => Ok(Some(None)),
            Some(Some(value)) => {
                let present = Version::decode(&value)?.value.is_some();
                Ok(Some(present.then(|| value.slice(Version::HEADER_BYTES..))))
            }
        }
    }

    /// The attributes of an inode.
    pub fn inode(&self, inode: InodeId) -> Result<Option<InodeRecord>, MetadataError> {
        let value = self.get(&InodeRecord::body(inode))?;
        Ok(value.map(|value| InodeRecord::decode(&value)).transpose()?)
    }

    /// The attributes of an inode, if memory knows.
    pub fn inode_cached(&self, inode: InodeId) -> Result<Option<Option<InodeRecord>>, MetadataError> {
        match self.get_cached(&InodeRecord::body(inode))? {
            None => Ok(None),
            Some(value) => Ok(Some(value.map(|value| InodeRecord::decode(&value)).transpose()?)),
        }
    }

    /// The data of a small file, as stored: missing bytes at its end are zeros.
    pub fn inline_data(&self, inode: InodeId) -> Result<Option<Bytes>, MetadataError> {
        self.get(&inode::inline_body(inode))
    }

    /// As [`View::inline_data`], if memory knows.
    pub fn inline_data_cached(&self, inode: InodeId) -> Result<Option<Option<Bytes>>, MetadataError> {
        self.get_cached(&inode::inline_body(inode))
    }

    /// The target of a symbolic link.
    pub fn link_target(&self, inode: InodeId) -> Result<Option<Bytes>, MetadataError> {
        self.get(&inode::link_target_body(inode))
    }

    /// The entry of that name in a directory.
    pub fn entry(&self, directory: InodeId, name: &[u8]) -> Result<Option<DirentRecord>, MetadataError> {
        let body = dirent::name_body(directory, name);
        let value = self.get(&body)?;
        Ok(value
            .map(|value| DirentRecord::decode_by_name(&body, &value))
            .transpose()?)
    }

    /// The entry of that name in a directory, if memory knows.
    pub fn entry_cached(
        &self,
        directory: InodeId,
        name: &[u8],
    ) -> Result<Option<Option<DirentRecord>>, MetadataError> {
        let body = dirent::name_body(directory, name);
        match self.get_cached(&body)? {
            None => Ok(None),
            Some(value) => Ok(Some(
                value
                    .map(|value| DirentRecord::decode_by_name(&body, &value))
                    .transpose()?,
            )),
        }
    }

    /// At most `limit` entries of a directory with cookies above `cookie`, in the order of cookies.
    pub fn entries_after(
        &self,
        directory: InodeId,
        cookie: u64,
        limit: usize,
    ) -> Result<Vec<DirentRecord>, MetadataError> {
        let Some(first) = cookie.checked_add(1) else {
            return Ok(Vec::new());
        };
        let from = dirent::cookie_body(directory, first);
        let to = prefix_end(&body(directory, ObjectKind::EntryByCookie));
        self.collect(&from, &to, limit, DirentRecord::decode_by_cookie)
    }

    /// At most `limit` entries of a directory with names above `name` (empty: from the first), in byte order.
    pub fn entries_by_name(
        &self,
        directory: InodeId,
        name: &[u8],
        limit: usize,
    ) -> Result<Vec<DirentRecord>, MetadataError> {
        // Past the name's body and all that starts with it, as the keys of its old versions do.
        let from = if name.is_empty() {
            body(directory, ObjectKind::EntryByName)
        } else {
            prefix_end(&dirent::name_body(directory, name))
        };
        let to = prefix_end(&body(directory, ObjectKind::EntryByName));
        self.collect(&from, &to, limit, DirentRecord::decode_by_name)
    }

    /// The extents that hold any byte of `range`, in order, at most `limit`.
    pub fn extents(
        &self,
        inode: InodeId,
        range: ByteRange,
        limit: usize,
    ) -> Result<Vec<ExtentRecord>, MetadataError> {
        let Some(first_end) = range.start().checked_add(1) else {
            return Ok(Vec::new());
        };
        if range.is_empty() || limit == 0 {
            return Ok(Vec::new());
        }
        let from = ExtentRecord::body(inode, first_end);
        let to = prefix_end(&body(inode, ObjectKind::Extent));
        let mut found = Vec::new();
        let mut damage: Option<DecodeError> = None;
        self.scan(&from, &to, &mut |key, value| {
            match ExtentRecord::decode(key, value) {
                Ok(record) if record.start < range.end() => found.push(record),
                Ok(_) => return false,
                Err(error) => {
                    damage = Some(error);
                    return false;
                }
            }
            found.len() < limit
        })?;
        damage.map_or(Ok(found), |error| Err(error.into()))
    }

    fn collect<T>(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
        decode: fn(&[u8], &[u8]) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, MetadataError> {
        let mut found = Vec::new();
        let mut damage = None;
        if limit > 0 {
            self.scan(from, to, &mut |key, value| {
                match decode(key, value) {
                    Ok(record) => found.push(record),
                    Err(error) => damage = Some(error),
                }
                damage.is_none() && found.len() < limit
            })?;
        }
        damage.map_or(Ok(found), |error| Err(error.into()))
    }

    /// Visits the objects whose bodies lie in `from..to`, in order, until `visit` says no.
    pub(crate) fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), MetadataError> {
        scan::scan(self.engine, &self.lineage.levels, from, to, visit)
    }
}
