//! Snapshots as trees that are read: every object in order, what changed since another snapshot, the bytes of extents.
//!
//! A reader pins what it reads. A workspace that is deleted meanwhile, and a sweep, take nothing from under it: what can be seen at its
//! point stays, so the extents stay, and so the segments of the log. A single snapshot that is read is not deleted. The storage is freed by the
//! first sweep after the reader is gone.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use cairn_metadata::store::{PinUse, PointPin};
use cairn_metadata::{ExtentRecord, InodeRecord, Lineage, MetadataError, SnapshotRecord, View};
use cairn_types::{
    ByteRange, ErrorKind, Extent, FileKind, InodeId, SnapshotId, SnapshotReference, TreeCursor, TreeItem,
    VolumeId, WorkspaceName,
};
use parking_lot::Mutex;

use super::Volumes;
use super::control::{failed, snapshot, stopped};
use crate::control::{ControlError, Snapshot};
use crate::volume::{EXTENTS_BATCH, Shared, log_failed};

/// Most snapshots that [`SnapshotReader::bases`] names.
pub const BASES_MAX: usize = 256;

/// A snapshot that can be read as long as the reader is there, whatever becomes of its workspace.
pub struct SnapshotReader {
    shared: Arc<Shared>,
    workspace: WorkspaceName,
    state: State,
    /// The snapshot that was compared with last.
    base: Mutex<Option<Arc<State>>>,
}

/// A snapshot with what it takes to read it.
struct State {
    volume: VolumeId,
    record: SnapshotRecord,
    lineage: Lineage,
    _pin: PointPin,
}

impl State {
    /// `None` if no workspace of this node has the snapshot.
    fn open(shared: &Shared, id: SnapshotId) -> Result<Option<State>, MetadataError> {
        let Some((volume, record, pin)) = shared.store.pin_snapshot(id, PinUse::Reading)? else {
            return Ok(None);
        };
        let lineage = Lineage::at(shared.store.engine(), record.point)?;
        Ok(Some(State {
            volume,
            record,
            lineage,
            _pin: pin,
        }))
    }
}

impl Volumes {
    /// Opens a snapshot for reading. Errors: as [`Volumes::resolve`].
    pub fn open_snapshot(
        &self,
        name: &WorkspaceName,
        reference: &SnapshotReference,
    ) -> Result<SnapshotReader, ControlError> {
        let volume = self.named(name)?;
        let record = self.find(name, &volume, reference)?;
        let state = State::open(&self.shared, record.id).map_err(failed)?;
        Ok(SnapshotReader {
            shared: self.shared.clone(),
            workspace: name.clone(),
            // It may have been deleted since it was found.
            state: state.ok_or_else(|| self.not_found(name, reference))?,
            base: Mutex::new(None),
        })
    }
}

impl SnapshotReader {
    /// The snapshot.
    pub fn snapshot(&self) -> Snapshot {
        snapshot(self.state.record.clone())
    }

    /// The name that its workspace had when it was opened.
    pub fn workspace(&self) -> &WorkspaceName {
        &self.workspace
    }

    /// The volume that it is of.
    pub fn volume(&self) -> VolumeId {
        self.state.volume
    }

    /// Snapshots that this one may differ little from, at most [`BASES_MAX`]: those that it descends from, itself first, across
    /// forks; then the others of its volume, newest first. Errors: [`ControlError::Storage`].
    pub fn bases(&self) -> Result<Vec<SnapshotId>, ControlError> {
        let store = &self.shared.store;
        store
            .near_snapshots(self.state.volume, &self.state.record, BASES_MAX)
            .map_err(failed)
    }

    /// The inodes of which anything may differ from `base` (made, changed or removed), ascending, each once. `None` if that cannot
    /// be told: no workspace of this node has that snapshot, the two have nothing in common, the changes were not noted yet
    /// when they were made, or there are more than four million. Errors: [`ControlError::Storage`].
    pub fn changed_since(&self, base: SnapshotId) -> Result<Option<Vec<InodeId>>, ControlError> {
        let Some(base) = self.base(base)? else {
            return Ok(None);
        };
        let store = &self.shared.store;
        store
            .changed_between(base.record.point, self.state.record.point)
            .map_err(failed)
    }

    /// Adds to `items` the next objects at `cursor`, in the order of a tree, about `limit` of them, and moves the cursor behind
    /// them. Nothing is added when there are no more before the cursor's end. Errors: [`ControlError::Storage`].
    pub fn items(
        &self,
        cursor: &mut TreeCursor,
        limit: usize,
        items: &mut Vec<TreeItem>,
    ) -> Result<(), ControlError> {
        self.view(&self.state)
            .tree_items(cursor, limit, items)
            .map_err(failed)
    }

    /// The ranges of a regular file whose bytes are the same as in `base`, ascending, as far as the metadata tells: the same place in
    /// the log, a hole in both, or equal inline data. None reaches beyond the file's size in either. Errors:
    /// [`ControlError::Storage`].
    pub fn same_data(&self, base: SnapshotId, inode: InodeId) -> Result<Vec<ByteRange>, ControlError> {
        match self.base(base)? {
            Some(base) => self.compare_data(&base, inode).map_err(failed),
            None => Ok(Vec::new()),
        }
    }

    /// The bytes of an extent, verified. Errors: [`ControlError::Storage`].
    pub fn read(&self, extent: &Extent) -> Result<Bytes, ControlError> {
        match extent {
            Extent::Log(slice) => self.shared.log.read(slice).map_err(log_failed).map_err(stopped),
            Extent::Chunk(slice) => Err(ControlError::Storage {
                what: format!(
                    "chunk {} is sealed and this version has no sealed store",
                    slice.chunk
                ),
                kind: ErrorKind::Unavailable,
            }),
        }
    }

    fn view<'a>(&'a self, state: &'a State) -> View<'a> {
        View::new(self.shared.store.engine(), &state.lineage)
    }

    fn base(&self, id: SnapshotId) -> Result<Option<Arc<State>>, ControlError> {
        let mut known = self.base.lock();
        match known.as_ref().filter(|base| base.record.id == id) {
            Some(base) => Ok(Some(base.clone())),
            None => {
                let opened = State::open(&self.shared, id).map_err(failed)?;
                *known = opened.map(Arc::new);
                Ok(known.clone())
            }
        }
    }

    fn compare_data(&self, base: &State, inode: InodeId) -> Result<Vec<ByteRange>, MetadataError> {
        let (one, other) = (self.view(&self.state), self.view(base));
        let (Some(ours), Some(theirs)) = (one.inode(inode)?, other.inode(inode)?) else {
            return Ok(Vec::new());
        };
        let regular = |record: &InodeRecord| record.kind == FileKind::Regular;
        let size = ours.size.min(theirs.size);
        if !regular(&ours) || !regular(&theirs) || size == 0 {
            return Ok(Vec::new());
        }
        if ours.inline != theirs.inline {
            return Ok(Vec::new());
        }
        if ours.inline {
            let (ours, theirs) = (one.inline_data(inode)?, other.inline_data(inode)?);
            let same = without_zeros(&ours) == without_zeros(&theirs);
            return Ok(same.then(|| ByteRange::at(0, size)).into_iter().collect());
        }
        let mut same: Vec<ByteRange> = Vec::new();
        let mut at = 0;
        let (mut one, mut other) = (Extents::new(one, inode), Extents::new(other, inode));
        while at < size {
            let (ours, ours_end) = one.place(at)?;
            let (theirs, theirs_end) = other.place(at)?;
            let end = ours_end.min(theirs_end).min(size);
            if ours == theirs {
                match same.last_mut() {
                    Some(last) if last.end() == at => *last = ByteRange::at(last.start(), end - last.start()),
                    _ => same.push(ByteRange::at(at, end - at)),
                }
            }
            at = end;
        }
        Ok(same)
    }
}

/// Small data without the zeros at its end, which need not be stored.
fn without_zeros(data: &Option<Bytes>) -> &[u8] {
    let data = data.as_deref().unwrap_or_default();
    let end = data
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    data.get(..end).unwrap_or_default()
}

/// Where a byte is.
#[derive(PartialEq, Eq)]
enum Place {
    Hole,
    Log { segment: u64, offset: u64 },
    Chunk { chunk: [u8; 32], offset: u64 },
}

/// The extents of a file from front to back, a batch at a time.
struct Extents<'a> {
    view: View<'a>,
    inode: InodeId,
    batch: VecDeque<ExtentRecord>,
    next: u64,
    more: bool,
}

impl<'a> Extents<'a> {
    fn new(view: View<'a>, inode: InodeId) -> Self {
        Extents {
            view,
            inode,
            batch: VecDeque::new(),
            next: 0,
            more: true,
        }
    }

    /// Where the byte at `at` is, and up to where the bytes after it are in the same run. Offsets must ascend.
    fn place(&mut self, at: u64) -> Result<(Place, u64), MetadataError> {
        while self
            .batch
            .front()
            .is_some_and(|record| record.range().end() <= at)
        {
            self.batch.pop_front();
        }
        if self.batch.is_empty() && self.more {
            let rest = ByteRange::new(at.max(self.next), u64::MAX).unwrap_or(ByteRange::at(u64::MAX, 0));
            let found = self.view.extents(self.inode, rest, EXTENTS_BATCH)?;
            self.more = found.len() == EXTENTS_BATCH;
            self.next = found.last().map_or(u64::MAX, |last| last.range().end());
            self.batch = found.into();
        }
        let Some(record) = self.batch.front() else {
            return Ok((Place::Hole, u64::MAX));
        };
        if record.start > at {
            return Ok((Place::Hole, record.start));
        }
        let within = at - record.start;
        let place = match &record.extent {
            Extent::Log(slice) => Place::Log {
                segment: slice.segment().0,
                offset: slice.offset() + u64::from(slice.skip()) + within,
            },
            Extent::Chunk(slice) => Place::Chunk {
                chunk: slice.chunk.0,
                offset: u64::from(slice.offset) + within,
            },
        };
        Ok((place, record.range().end()))
    }
}
