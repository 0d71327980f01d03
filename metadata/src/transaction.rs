//! Changing the live objects of a branch.
//!
//! A transaction collects changes and turns them, at commit, into one batch of the engine: for every object that was born
//! in an earlier epoch its old version first goes to the history. The caller excludes other transactions on the same branch
//! from the first read that a change depends on until the commit.
//!
//! The first change of an inode in an epoch also leaves a note ([`crate::keyspace::note`]). That it is the first, the old version
//! of the attributes tells, which come with every change of an inode; for a change without them they are looked up.

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_types::{BranchId, Epoch, InodeId};

use crate::engine::{Batch, Durability, Engine};
use crate::error::MetadataError;
use crate::keyspace::branch::{Usage, orphan_key, usage_key};
use crate::keyspace::dirent::{self, DirentRecord};
use crate::keyspace::extent::ExtentRecord;
use crate::keyspace::inode::{self, InodeRecord};
use crate::keyspace::note::note_key;
use crate::keyspace::{ObjectKind, Version, head_key, history_key, reply};
use crate::view::{Lineage, View};

/// One change of an object.
enum Change {
    /// A new value.
    Put(Vec<u8>),
    /// A value for an object that never existed in the branch or its ancestors.
    Insert(Vec<u8>),
    /// No object any more.
    Remove,
}

/// Epochs of a branch at whose ends nobody sees it, and nobody ever will: those after the first and up to the second, included. Points
/// come only at epochs that are not over, so it stays true whatever happens. The default is no epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unseen {
    /// The newest epoch before them.
    pub after: Epoch,
    /// The last of them.
    pub through: Epoch,
}

impl Default for Unseen {
    fn default() -> Self {
        Unseen {
            after: Epoch(0),
            through: Epoch(0),
        }
    }
}

/// Changes of one branch's live objects that happen together.
pub struct Transaction<'a> {
    engine: &'a dyn Engine,
    lineage: &'a Lineage,
    epoch: Epoch,
    unseen: Unseen,
    changes: BTreeMap<Vec<u8>, Change>,
    batch: Batch,
}

impl<'a> Transaction<'a> {
    /// A transaction on the live state of the lineage's branch in its current epoch.
    pub fn new(engine: &'a dyn Engine, lineage: &'a Lineage, epoch: Epoch) -> Self {
        Transaction {
            engine,
            lineage,
            epoch,
            unseen: Unseen::default(),
            changes: BTreeMap::new(),
            batch: Batch::default(),
        }
    }

    /// The same, which keeps no version that was valid only at the ends of epochs of `unseen`.
    pub fn without(mut self, unseen: Unseen) -> Self {
        self.unseen = unseen;
        self
    }

    /// The branch's live state without this transaction's changes.
    pub fn view(&self) -> View<'a> {
        View::new(self.engine, self.lineage)
    }

    fn branch(&self) -> BranchId {
        self.lineage.branch()
    }

    /// Sets the attributes of an inode.
    pub fn put_inode(&mut self, inode: InodeId, record: &InodeRecord) {
        self.changes
            .insert(InodeRecord::body(inode), Change::Put(record.encode()));
    }

    /// Sets the attributes of an inode that never existed.
    pub fn insert_inode(&mut self, inode: InodeId, record: &InodeRecord) {
        self.changes
            .insert(InodeRecord::body(inode), Change::Insert(record.encode()));
    }

    /// Removes the attributes of an inode, and with them the inode.
    pub fn remove_inode(&mut self, inode: InodeId) {
        self.changes.insert(InodeRecord::body(inode), Change::Remove);
    }

    /// Makes an entry. The directory has no entry of that name and never had one of that cookie.
    pub fn put_entry(&mut self, directory: InodeId, entry: &DirentRecord) {
        let by_name = dirent::name_body(directory, &entry.name);
        self.changes.insert(by_name, Change::Put(entry.encode_by_name()));
        let by_cookie = dirent::cookie_body(directory, entry.cookie);
        self.changes
            .insert(by_cookie, Change::Insert(entry.encode_by_cookie()));
    }

    /// Removes an entry.
    pub fn remove_entry(&mut self, directory: InodeId, entry: &DirentRecord) {
        self.changes
            .insert(dirent::name_body(directory, &entry.name), Change::Remove);
        self.changes
            .insert(dirent::cookie_body(directory, entry.cookie), Change::Remove);
    }

    /// Sets the data of a small file.
    pub fn put_inline_data(&mut self, inode: InodeId, data: &[u8]) {
        self.changes
            .insert(inode::inline_body(inode), Change::Put(data.to_vec()));
    }

    /// Removes the data of a small file.
    pub fn remove_inline_data(&mut self, inode: InodeId) {
        self.changes.insert(inode::inline_body(inode), Change::Remove);
    }

    /// Sets the target of a symbolic link that never existed.
    pub fn insert_link_target(&mut self, inode: InodeId, target: &[u8]) {
        self.changes
            .insert(inode::link_target_body(inode), Change::Insert(target.to_vec()));
    }

    /// Removes the target of a symbolic link.
    pub fn remove_link_target(&mut self, inode: InodeId) {
        self.changes
            .insert(inode::link_target_body(inode), Change::Remove);
    }

    /// Sets an extent. It overlaps no other.
    pub fn put_extent(&mut self, inode: InodeId, record: &ExtentRecord) {
        let body = ExtentRecord::body(inode, record.range().end());
        self.changes.insert(body, Change::Put(record.encode()));
    }

    /// Removes an extent. A later [`Transaction::put_extent`] that ends at the same offset wins.
    pub fn remove_extent(&mut self, inode: InodeId, record: &ExtentRecord) {
        self.changes
            .insert(ExtentRecord::body(inode, record.range().end()), Change::Remove);
    }

    /// Leaves the extents of a removed inode to the sweep.
    pub fn orphan(&mut self, inode: InodeId) {
        self.batch.put(orphan_key(self.branch(), inode), Vec::new());
    }

    /// Says that the sweep is done with an orphan.
    pub fn forget_orphan(&mut self, inode: InodeId) {
        self.batch.delete(orphan_key(self.branch(), inode));
    }

    /// Sets what the branch's live tree holds.
    pub fn put_usage(&mut self, usage: Usage) {
        self.batch.put(usage_key(self.branch()), usage.encode());
    }

    /// Records the reply to the request that this transaction carries out.
    pub fn record_reply(&mut self, seconds: u64, request: &[u8; 16], body: &Bytes) {
        self.batch.put(reply::reply_key(seconds, request), body.to_vec());
    }

    /// Further changes that belong to no branch's objects.
    pub(crate) fn batch(&mut self) -> &mut Batch {
        &mut self.batch
    }

    /// The batch that makes all changes.
    pub(crate) fn into_batch(mut self) -> Result<Batch, MetadataError> {
        let changes = std::mem::take(&mut self.changes);
        // Attributes sort before all else of their inode.
        let mut looked_at = None;
        for (body, change) in changes {
            let key = head_key(self.branch(), &body);
            let (inode, is_attributes) = split_body(&body);
            if !is_attributes && looked_at != Some(inode) {
                self.note_without_attributes(inode)?;
            }
            looked_at = Some(inode);
            let value = match change {
                Change::Insert(value) => {
                    if is_attributes {
                        self.note(inode);
                    }
                    let version = Version {
                        birth: self.epoch,
                        value: Some(&value),
                    };
                    self.batch.put(key, version.encode());
                    continue;
                }
                Change::Put(value) => Some(value),
                Change::Remove => None,
            };
            let old = self.engine.get(&key)?;
            let birth = old
                .as_deref()
                .map(Version::decode)
                .transpose()?
                .map(|old| old.birth);
            if is_attributes && birth != Some(self.epoch) {
                self.note(inode);
            }
            if let (Some(old), Some(birth)) = (&old, birth)
                && birth < self.epoch
                && self.is_seen(birth)
            {
                let last = Epoch(self.epoch.0 - 1);
                self.batch
                    .put(history_key(self.branch(), &body, last), old.to_vec());
            }
            match value {
                Some(value) => {
                    let version = Version {
                        birth: self.epoch,
                        value: Some(&value),
                    };
                    self.batch.put(key, version.encode());
                }
                // The absence must be written down only where an ancestor would otherwise be heard.
                None if self.lineage.inherits() && self.view().get_inherited(&body)?.is_some() => {
                    self.batch.put(
                        key,
                        Version {
                            birth: self.epoch,
                            value: None,
                        }
                        .encode(),
                    );
                }
                None if old.is_some() => self.batch.delete(key),
                None => {}
            }
        }
        Ok(self.batch)
    }

    /// Whether somebody may see a version that was born then and ends with the epoch before this one.
    fn is_seen(&self, birth: Epoch) -> bool {
        birth <= self.unseen.after || self.epoch.0 > self.unseen.through.0 + 1
    }

    /// Notes that the inode changed in this epoch.
    fn note(&mut self, inode: InodeId) {
        // No state that anybody sees is older than the first epoch of a branch that started empty.
        let first = match self.unseen.after {
            Epoch(0) => Epoch(self.unseen.through.0 + 1),
            _ => Epoch::FIRST,
        };
        if self.epoch > first || self.lineage.inherits() {
            self.batch
                .put(note_key(self.branch(), self.epoch, inode), Vec::new());
        }
    }

    /// Notes a change of an inode whose attributes stay as they are, unless it is noted already or the inode is no more: what
    /// is left of a removed inode is in no tree.
    fn note_without_attributes(&mut self, inode: InodeId) -> Result<(), MetadataError> {
        let body = InodeRecord::body(inode);
        let newest = self.engine.get(&head_key(self.branch(), &body))?;
        let birth = newest
            .as_deref()
            .map(Version::decode)
            .transpose()?
            .map(|newest| newest.birth);
        if birth != Some(self.epoch) && self.view().get(&body)?.is_some() {
            self.note(inode);
        }
        Ok(())
    }

    /// Commits. On return the changes are visible and have the durability asked for.
    pub fn commit(self, durability: Durability) -> Result<(), MetadataError> {
        let engine = self.engine;
        let batch = self.into_batch()?;
        Ok(engine.write(batch, durability)?)
    }
}

/// The inode of a body, and whether it is that of its attributes.
fn split_body(body: &[u8]) -> (InodeId, bool) {
    let (inode, rest) = body
        .split_first_chunk::<8>()
        .expect("every body begins with the number of its inode");
    let is_attributes = rest.first() == Some(&(ObjectKind::Attributes as u8));
    (InodeId(u64::from_be_bytes(*inode)), is_attributes)
}
