//! Imports: building a branch that nobody sees, and making it the head of a volume.
//!
//! Objects are written with the first epoch as their birth, without looking for older ones: the branch starts empty and every
//! object comes once. The record of the import is written with each batch, so that what it says is there is there. The
//! sweep keeps the branch as long as the record is there.

use std::collections::BTreeSet;

use cairn_types::{BranchId, Epoch, InodeId, SnapshotId, Timestamp, VolumeId, WorkspaceName};

use super::{BATCH, OpenVolume, SnapshotDetails, Store, add_snapshot};
use crate::engine::{Batch, Durability, Precondition};
use crate::error::MetadataError;
use crate::keyspace::branch::{self, BranchRecord, Usage};
use crate::keyspace::cell;
use crate::keyspace::dirent::{self, DirentRecord};
use crate::keyspace::extent::ExtentRecord;
use crate::keyspace::import::{self, ImportRecord};
use crate::keyspace::inode::{self, InodeRecord};
use crate::keyspace::snapshot::SnapshotRecord;
use crate::keyspace::volume::{self, VolumeRecord};
use crate::keyspace::{Version, head_key, prefix_end};
use crate::view::{Lineage, View};

/// What a new import is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewImport {
    /// Names what is imported.
    pub identity: [u8; 32],
    /// Whether the inodes keep their generations.
    pub same_origin: bool,
    /// Random bytes for it.
    pub secret: [u8; 16],
    /// The time.
    pub now: Timestamp,
}

/// Objects of an import that are written together.
pub struct ImportBatch {
    branch: BranchId,
    batch: Batch,
    bytes: usize,
}

impl ImportBatch {
    /// An empty batch for an import.
    pub fn new(record: &ImportRecord) -> Self {
        ImportBatch {
            branch: record.branch,
            batch: Batch::default(),
            bytes: 0,
        }
    }

    /// Objects in it.
    pub fn len(&self) -> usize {
        self.batch.operations.len()
    }

    /// Whether it has no objects.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Bytes of the values in it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn put(&mut self, body: &[u8], value: &[u8]) {
        let version = Version {
            birth: Epoch::FIRST,
            value: Some(value),
        };
        self.bytes += value.len();
        self.batch.put(head_key(self.branch, body), version.encode());
    }

    /// The attributes of an inode. A directory whose parent has a higher number is kept in mind for
    /// [`Store::import_is_rooted`].
    pub fn inode(&mut self, inode: InodeId, record: &InodeRecord) {
        self.put(&InodeRecord::body(inode), &record.encode());
        if record.parent > inode {
            self.batch.put(import::upward_key(self.branch, inode), Vec::new());
        }
    }

    /// An entry of a directory.
    pub fn entry(&mut self, directory: InodeId, entry: &DirentRecord) {
        self.put(
            &dirent::name_body(directory, &entry.name),
            &entry.encode_by_name(),
        );
        self.put(
            &dirent::cookie_body(directory, entry.cookie),
            &entry.encode_by_cookie(),
        );
    }

    /// The data of a small file.
    pub fn inline_data(&mut self, inode: InodeId, data: &[u8]) {
        self.put(&inode::inline_body(inode), data);
    }

    /// The target of a symbolic link.
    pub fn link_target(&mut self, inode: InodeId, target: &[u8]) {
        self.put(&inode::link_target_body(inode), target);
    }

    /// An extent. It overlaps no other.
    pub fn extent(&mut self, inode: InodeId, record: &ExtentRecord) {
        self.put(&ExtentRecord::body(inode, record.range().end()), &record.encode());
    }
}

/// A branch that an import builds; it belongs to no volume yet.
fn unfinished_branch() -> BranchRecord {
    BranchRecord {
        volume: VolumeId(0),
        epoch: Epoch::FIRST,
        depth: 0,
        parent: None,
    }
}

impl Store {
    /// Goes on with the import for `name`, if there is one of the same identity, or begins it. What there is of inodes that are
    /// not complete is removed. Another import for that name is forgotten; its branch is left to the sweep.
    pub fn begin_import(&self, name: &WorkspaceName, new: NewImport) -> Result<ImportRecord, MetadataError> {
        let _catalogue = self.catalogue.lock();
        let key = import::import_key(name);
        let mut batch = Batch::default();
        if let Some(found) = self.engine.get(&key)? {
            let found = ImportRecord::decode(&found)?;
            if found.identity == new.identity && found.same_origin == new.same_origin {
                let incomplete = InodeId(found.last.0 + 1);
                batch.delete_range(
                    head_key(found.branch, &incomplete.0.to_be_bytes()),
                    prefix_end(&head_key(found.branch, &[])),
                );
                batch.delete_range(
                    import::upward_key(found.branch, incomplete),
                    prefix_end(&import::upward_key(found.branch, InodeId(u64::MAX))),
                );
                self.engine.write(batch, Durability::Process)?;
                return Ok(found);
            }
        }
        let mut ids = self.next_ids()?;
        let record = ImportRecord {
            identity: new.identity,
            branch: BranchId(ids.branch),
            same_origin: new.same_origin,
            secret: new.secret,
            started: new.now,
            progressed: new.now,
            last: InodeId(0),
            usage: Usage::default(),
            links_sum: 0,
            entries_sum: 0,
        };
        ids.branch += 1;
        batch.put(cell::NEXT_IDS_KEY.to_vec(), ids.encode());
        batch.put(branch::branch_key(record.branch), unfinished_branch().encode());
        batch.put(key, record.encode());
        self.engine.write(batch, Durability::Process)?;
        Ok(record)
    }

    /// Writes objects of an import, and how far it has come. They survive the process; what survives a power cut is a beginning
    /// of them with the record that belongs to it.
    pub fn save_import(
        &self,
        name: &WorkspaceName,
        record: &ImportRecord,
        objects: ImportBatch,
    ) -> Result<(), MetadataError> {
        let mut batch = objects.batch;
        batch.put(import::import_key(name), record.encode());
        Ok(self.engine.write(batch, Durability::Process)?)
    }

    /// All imports that are not finished, by name.
    pub fn imports(&self) -> Result<Vec<(WorkspaceName, ImportRecord)>, MetadataError> {
        let mut imports = Vec::new();
        self.each(&[import::IMPORTS], &mut |key, value| {
            imports.push((import::decode_import_key(key)?, ImportRecord::decode(value)?));
            Ok(())
        })?;
        Ok(imports)
    }

    /// Forgets an import; `false` if there is none. Its branch is left to the sweep.
    pub fn abandon_import(&self, name: &WorkspaceName) -> Result<bool, MetadataError> {
        let _catalogue = self.catalogue.lock();
        let key = import::import_key(name);
        if self.engine.get(&key)?.is_none() {
            return Ok(false);
        }
        let mut batch = Batch::default();
        batch.delete(key);
        self.engine.write(batch, Durability::Process)?;
        Ok(true)
    }

    /// Whether every directory of an import lies below the root, so that no directories hold each other. Every directory's
    /// parent must be there. Costs a step up for each directory above one whose parent has a higher number than itself: a
    /// circle needs one of these.
    pub fn import_is_rooted(&self, record: &ImportRecord) -> Result<bool, MetadataError> {
        /// Directories that are remembered to lie below the root.
        const ROOTED_MAX: usize = 1 << 20;
        let lineage = Lineage::live(&*self.engine, record.branch)?;
        let view = View::new(&*self.engine, &lineage);
        let mut rooted = BTreeSet::new();
        let mut from = import::upward_key(record.branch, InodeId(0));
        let to = prefix_end(&import::upward_key(record.branch, InodeId(u64::MAX)));
        loop {
            let pairs = self.engine.scan(&from, &to, BATCH)?;
            for (key, _) in &pairs {
                let mut at = import::decode_upward_key(key)?;
                let mut steps = 0;
                while at != InodeId::ROOT && !rooted.contains(&at) {
                    if rooted.len() == ROOTED_MAX {
                        rooted.clear();
                    }
                    let Some(directory) = view.inode(at)? else {
                        return Ok(false);
                    };
                    steps += 1;
                    if steps > record.usage.inodes {
                        return Ok(false);
                    }
                    at = directory.parent;
                }
                // Once more, now that it is known where it leads.
                let mut at = import::decode_upward_key(key)?;
                while at != InodeId::ROOT && rooted.insert(at) {
                    at = view
                        .inode(at)?
                        .map_or(InodeId::ROOT, |directory| directory.parent);
                }
            }
            match pairs.last() {
                Some((last, _)) if pairs.len() == BATCH => from = [last, [0].as_slice()].concat(),
                _ => return Ok(true),
            }
        }
    }

    /// Makes a volume of a complete import; `None` if the name is taken. It has one snapshot, of what was imported: as
    /// `details` says, with `spare` as its id if this store knows that id already. Durable on return.
    pub fn finish_import(
        &self,
        record: VolumeRecord,
        import: &ImportRecord,
        details: SnapshotDetails,
        spare: SnapshotId,
    ) -> Result<Option<(OpenVolume, SnapshotRecord)>, MetadataError> {
        let _catalogue = self.catalogue.lock();
        let name_key = volume::name_key(&record.name);
        if self.engine.get(&name_key)?.is_some() {
            return Ok(None);
        }
        let mut ids = self.next_ids()?;
        let id = VolumeId(ids.volume);
        ids.volume += 1;
        let mut batch = Batch::default();
        batch.preconditions.push(Precondition::Absent(name_key.clone()));
        batch.put(cell::NEXT_IDS_KEY.to_vec(), ids.encode());
        batch.put(name_key, id.0.to_le_bytes().to_vec());
        batch.delete(import::import_key(&record.name));
        let mut open = OpenVolume {
            id,
            branch: unfinished_branch(),
            usage: import.usage,
            record,
        };
        let snapshot = self.adopt(&mut open, import, details, spare, &mut batch)?;
        self.engine.write(batch, Durability::Power)?;
        Ok(Some((open, snapshot)))
    }

    /// Makes a complete import the head of a volume, after a snapshot of what it was. The root directory gets
    /// `root_generation`. Otherwise as [`Store::finish_import`]. One atomic change, durable on return. `volume` is brought up
    /// to date. Tells the snapshots of what was imported, and of what was before.
    pub fn finish_import_into(
        &self,
        volume: &mut OpenVolume,
        import: &ImportRecord,
        details: (SnapshotDetails, SnapshotId),
        safety: SnapshotDetails,
        root_generation: u32,
    ) -> Result<(SnapshotRecord, SnapshotRecord), MetadataError> {
        let _catalogue = self.catalogue.lock();
        let mut after = volume.clone();
        let mut batch = Batch::default();
        let safety = add_snapshot(&mut after, safety, None, &mut batch);
        batch.put(branch::branch_key(after.record.head), after.branch.encode());
        batch.delete(import::import_key(&after.record.name));
        let lineage = Lineage::live(&*self.engine, import.branch)?;
        let root = View::new(&*self.engine, &lineage).inode(InodeId::ROOT)?;
        let root = root.ok_or_else(|| MetadataError::Missing {
            what: "the root of an import".to_owned(),
        })?;
        let mut objects = ImportBatch::new(import);
        let generation = root_generation;
        objects.inode(InodeId::ROOT, &InodeRecord { generation, ..root });
        batch.operations.append(&mut objects.batch.operations);
        after.branch = unfinished_branch();
        after.usage = import.usage;
        let snapshot = self.adopt(&mut after, import, details.0, details.1, &mut batch)?;
        self.engine.write(batch, Durability::Power)?;
        *volume = after;
        Ok((snapshot, safety))
    }

    /// Gives the volume the import's branch, with a snapshot of it.
    fn adopt(
        &self,
        open: &mut OpenVolume,
        import: &ImportRecord,
        mut details: SnapshotDetails,
        spare: SnapshotId,
        batch: &mut Batch,
    ) -> Result<SnapshotRecord, MetadataError> {
        if self.snapshot(details.id)?.is_some() {
            details.id = spare;
        }
        open.record.head = import.branch;
        open.record.inodes_reserved = open.record.inodes_reserved.max(InodeId(import.last.0 + 1));
        // The imported state follows from nothing that the volume was.
        open.record.last_snapshot = None;
        open.branch.volume = open.id;
        let snapshot = add_snapshot(open, details, None, batch);
        batch.put(branch::usage_key(import.branch), open.usage.encode());
        batch.delete_range(
            import::upward_key(import.branch, InodeId(0)),
            prefix_end(&import::upward_key(import.branch, InodeId(u64::MAX))),
        );
        self.put_open(open, batch);
        Ok(snapshot)
    }
}
