//! READ, WRITE, COMMIT: the bytes of files.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use cairn_metadata::{ExtentRecord, InodeRecord};
use cairn_types::{ByteRange, ErrorKind, Extent, FileKind, LogPosition};

use super::{EXTENTS_BATCH, INLINE_BYTES_MAX, State, Volume, Work, log_failed, metadata_failed};
use crate::capacity::Reservation;
use crate::dirty::{LoggedWrite, Piece, lay_over, next_change, next_data_version};
use crate::extent_cache::{Known, WINDOW_EXTENTS_MAX, windows};
use crate::filesystem::{Caller, Change, FILE_BYTES_MAX, ObjectId, ReadData, Stability, Written};
use crate::{Error, Pending, permission};

/// Largest payload of one record of the log; a longer write becomes several.
const LOGGED_BYTES_MAX: usize = 1 << 20;
/// Zeros for holes are handed out in pieces of this many bytes.
static ZEROS: [u8; 65_536] = [0; 65_536];

/// A write that the log has taken and the file has not noted yet.
struct Logged {
    write: LoggedWrite,
    extent: Extent,
    sequence: u64,
    end: LogPosition,
}

/// What a read found under the lock; the bytes are fetched without it.
enum Found {
    Inline(Bytes),
    Pieces(Vec<Piece>),
}

/// Whether the extents, which do not overlap, hold every byte of `range`.
fn covers(extents: &[ExtentRecord], range: ByteRange) -> bool {
    let parts = extents
        .iter()
        .map(|new| new.range().intersection(range).map_or(0, |part| part.length()));
    parts.sum::<u64>() >= range.length()
}

fn zeros(length: u64, pieces: &mut Vec<Bytes>) {
    let mut left = length;
    while left > 0 {
        let count = left.min(ZEROS.len() as u64);
        pieces.push(Bytes::from_static(&ZEROS[..count as usize]));
        left -= count;
    }
}

/// What a read of so many bytes from `offset` on may and will read of a file.
fn readable(caller: &Caller, record: &InodeRecord, offset: u64, count: u32) -> Result<ByteRange, Error> {
    match record.kind {
        FileKind::Regular => {}
        FileKind::Directory => return Err(Error::IsDirectory),
        _ => return Err(Error::WrongType),
    }
    // Who may run a program may have it read (RFC 1813 section 4.4).
    if !permission::allows(caller, record, permission::EXECUTE) {
        permission::require_or_owner(caller, record, permission::READ)?;
    }
    let end = offset.saturating_add(u64::from(count)).min(record.size);
    Ok(ByteRange::new(offset.min(end), end).unwrap_or(ByteRange::at(end, 0)))
}

/// A part of a small file, whose missing bytes are zeros.
fn inline_pieces(data: &Bytes, range: ByteRange) -> Vec<Bytes> {
    let start = (range.start() as usize).min(data.len());
    let end = (range.end() as usize).min(data.len());
    let mut pieces = vec![data.slice(start..end)];
    zeros(range.length() - (end - start) as u64, &mut pieces);
    pieces
}

impl Volume {
    pub(crate) fn read(
        &self,
        caller: &Caller,
        object: ObjectId,
        offset: u64,
        count: u32,
    ) -> Result<ReadData, Error> {
        // A segment may be reclaimed between looking and reading, after its bytes have moved: look again then.
        match self.read_once(caller, object, offset, count, true) {
            Err(Error::Io {
                kind: ErrorKind::NotFound,
                ..
            }) => self.read_once(caller, object, offset, count, false),
            outcome => outcome,
        }
    }

    fn read_once(
        &self,
        caller: &Caller,
        object: ObjectId,
        offset: u64,
        count: u32,
        remembered: bool,
    ) -> Result<ReadData, Error> {
        let (record, range, found) = {
            let state = self.state.read();
            let record = self.load(&state, object)?;
            let range = readable(caller, &record, offset, count)?;
            let found = self.find(&state, object, &record, range, remembered)?;
            (record, range, found)
        };
        let pieces = match found {
            Found::Inline(data) => inline_pieces(&data, range),
            Found::Pieces(found) => self.fetch(&found)?,
        };
        Ok(self.read_data(object, offset, &record, range, pieces))
    }

    /// As [`Volume::read`], without waiting for a disk or a lock, or not at all.
    pub(crate) fn read_cached(
        &self,
        caller: &Caller,
        object: ObjectId,
        offset: u64,
        count: u32,
    ) -> Option<Result<ReadData, Error>> {
        let (record, range, found) = {
            let state = self.state.try_read()?;
            let record = self.load_inode_cached(&state, object.inode)?;
            if record.generation != object.generation {
                return None;
            }
            let range = match readable(caller, &record, offset, count) {
                Ok(range) => range,
                Err(error) => return Some(Err(error)),
            };
            (record, range, self.find_cached(&state, object, &record, range)?)
        };
        let pieces = match found {
            Found::Inline(data) => inline_pieces(&data, range),
            Found::Pieces(found) => self.fetch_cached(&found)?,
        };
        Some(Ok(self.read_data(object, offset, &record, range, pieces)))
    }

    fn read_data(
        &self,
        object: ObjectId,
        offset: u64,
        record: &InodeRecord,
        range: ByteRange,
        pieces: Vec<Bytes>,
    ) -> ReadData {
        ReadData {
            pieces,
            end_of_file: range.end() == record.size || offset >= record.size,
            attributes: self.attributes(object.inode, record),
        }
    }

    fn find(
        &self,
        state: &State,
        object: ObjectId,
        record: &InodeRecord,
        range: ByteRange,
        remembered: bool,
    ) -> Result<Found, Error> {
        if range.is_empty() {
            return Ok(Found::Pieces(Vec::new()));
        }
        let view = self.view(state);
        if record.inline {
            let data = view.inline_data(object.inode).map_err(metadata_failed)?;
            return Ok(Found::Inline(data.unwrap_or_default()));
        }
        let Some(file) = state.dirty.get(&object.inode) else {
            return self.find_settled(state, object, record, range, remembered);
        };
        let above = file.overlay.overlapping(range);
        let below = if !file.stored.inline && !covers(&above, range) {
            view.extents(object.inode, range, usize::MAX)
                .map_err(metadata_failed)?
        } else {
            Vec::new()
        };
        Ok(Found::Pieces(lay_over(range, &below, &above)))
    }

    /// Finds bytes of a file that has no unsettled writes, and remembers where they and their neighbours are.
    fn find_settled(
        &self,
        state: &State,
        object: ObjectId,
        record: &InodeRecord,
        range: ByteRange,
        remembered: bool,
    ) -> Result<Found, Error> {
        let (branch, inode) = (state.lineage.branch(), object.inode);
        let extents = &self.shared.extents;
        let view = self.view(state);
        let exact = |part| {
            let below = view.extents(inode, part, usize::MAX);
            below
                .map(|below| lay_over(part, &below, &[]))
                .map_err(metadata_failed)
        };
        if remembered {
            match extents.get(branch, inode, record.data_version, range) {
                Known::Pieces(pieces) => return Ok(Found::Pieces(pieces)),
                Known::Dense => return Ok(Found::Pieces(exact(range)?)),
                Known::Nothing => {}
            }
        }
        let mut found = Vec::new();
        for window in windows(range) {
            let below = view.extents(inode, window, WINDOW_EXTENTS_MAX + 1);
            let below = below.map_err(metadata_failed)?;
            let kept = below.len() <= WINDOW_EXTENTS_MAX;
            let pieces = kept.then(|| lay_over(window, &below, &[]));
            extents.insert(branch, inode, record.data_version, window.start(), pieces);
            let part = window.intersection(range).unwrap_or(range);
            found.extend(match kept {
                true => lay_over(part, &below, &[]),
                false => exact(part)?,
            });
        }
        Ok(Found::Pieces(found))
    }

    /// As [`Volume::find`], from memory or not at all.
    fn find_cached(
        &self,
        state: &State,
        object: ObjectId,
        record: &InodeRecord,
        range: ByteRange,
    ) -> Option<Found> {
        if range.is_empty() {
            return Some(Found::Pieces(Vec::new()));
        }
        if record.inline {
            let data = self.view(state).inline_data_cached(object.inode).ok()??;
            return Some(Found::Inline(data.unwrap_or_default()));
        }
        if let Some(file) = state.dirty.get(&object.inode) {
            let above = file.overlay.overlapping(range);
            let known = file.stored.inline || covers(&above, range);
            return known.then(|| Found::Pieces(lay_over(range, &[], &above)));
        }
        let branch = state.lineage.branch();
        let extents = &self.shared.extents;
        match extents.get(branch, object.inode, record.data_version, range) {
            Known::Pieces(pieces) => Some(Found::Pieces(pieces)),
            Known::Dense | Known::Nothing => None,
        }
    }

    fn fetch_cached(&self, found: &[Piece]) -> Option<Vec<Bytes>> {
        let mut pieces = Vec::with_capacity(found.len());
        for piece in found {
            match &piece.extent {
                None => zeros(piece.range.length(), &mut pieces),
                Some(Extent::Log(slice)) => pieces.push(self.shared.log.read_cached(slice)?),
                Some(Extent::Chunk(_)) => return None,
            }
        }
        Some(pieces)
    }

    fn fetch(&self, found: &[Piece]) -> Result<Vec<Bytes>, Error> {
        let mut pieces = Vec::with_capacity(found.len());
        for piece in found {
            match &piece.extent {
                None => zeros(piece.range.length(), &mut pieces),
                Some(Extent::Log(slice)) => pieces.push(self.shared.log.read(slice).map_err(log_failed)?),
                Some(Extent::Chunk(slice)) => {
                    let what = format!(
                        "chunk {:02x?} is sealed and this version has no sealed store",
                        slice.chunk.0
                    );
                    return Err(Error::Io {
                        what,
                        kind: ErrorKind::Unavailable,
                    });
                }
            }
        }
        Ok(pieces)
    }

    pub(crate) fn write(
        &self,
        caller: &Caller,
        object: ObjectId,
        offset: u64,
        data: Bytes,
        stability: Stability,
    ) -> Result<Pending<Written>, Error> {
        self.require_healthy()?;
        let length = data.len() as u64;
        let end = offset
            .checked_add(length)
            .filter(|end| *end <= FILE_BYTES_MAX)
            .ok_or(Error::FileTooLarge)?;
        if length > 0 {
            self.require_space()?;
        }
        let _applying = self.shared.applying.read();
        let _serial = self.write_lock(object.inode);
        loop {
            let (branch, record, room) = {
                let state = self.state.read();
                let record = self.writable(&state, caller, object)?;
                // The file's size stays while its write lock is held. A small file's write is checked when it is committed.
                let growth = match record.inline && end <= INLINE_BYTES_MAX as u64 || length == 0 {
                    true => 0,
                    false => end.saturating_sub(record.size),
                };
                let room = self.reserved.reserve(&state.open, &state.dirty, growth)?;
                (state.lineage.branch(), record, room)
            };
            if length == 0 {
                let change = self.change(object.inode, &record, &record);
                return Ok(Pending::ready(Written {
                    count: 0,
                    stability: Stability::File,
                    change,
                }));
            }
            if record.inline && end <= INLINE_BYTES_MAX as u64 {
                match self.write_inline(caller, object, offset, &data, stability)? {
                    Some(written) => return Ok(written),
                    None => continue,
                }
            }
            let mut logged = Vec::with_capacity(2);
            if record.inline {
                self.spill(object, branch, &record, &mut logged)?;
            }
            let mut at = offset;
            let mut time = logged.last().map_or(record.changed, |part| part.write.time);
            for part in data.chunks(self.logged_bytes_max()) {
                // As the file will note it, so that a replay gives the same time.
                time = next_change(time, self.shared.now());
                let write = LoggedWrite {
                    branch,
                    inode: object.inode,
                    offset: at,
                    time,
                };
                logged.push(self.append(write, part)?);
                at += part.len() as u64;
            }
            if let Some(written) =
                self.note(caller, object, branch, (logged, room), length as u32, stability)?
            {
                return Ok(written);
            }
        }
    }

    /// The attributes of a file that the caller may write.
    fn writable(&self, state: &State, caller: &Caller, object: ObjectId) -> Result<InodeRecord, Error> {
        let record = self.load(state, object)?;
        match record.kind {
            FileKind::Regular => {}
            FileKind::Directory => return Err(Error::IsDirectory),
            _ => return Err(Error::WrongType),
        }
        permission::require_or_owner(caller, &record, permission::WRITE)?;
        Ok(record)
    }

    /// Bytes of a write that go into one record of the log.
    fn logged_bytes_max(&self) -> usize {
        LOGGED_BYTES_MAX
            .min(self.shared.settings.log.payload_bytes_max as usize)
            .max(1)
    }

    fn append(&self, write: LoggedWrite, data: &[u8]) -> Result<Logged, Error> {
        let appended = self
            .shared
            .log
            .append(&write.encode(), &[data])
            .map_err(log_failed)?;
        let extent = Extent::Log(appended.slice);
        Ok(Logged {
            write,
            extent,
            sequence: appended.sequence,
            end: appended.end,
        })
    }

    /// Brings the data of a small file that is about to grow into the log.
    fn spill(
        &self,
        object: ObjectId,
        branch: cairn_types::BranchId,
        record: &InodeRecord,
        logged: &mut Vec<Logged>,
    ) -> Result<(), Error> {
        let data = {
            let state = self.state.read();
            self.view(&state)
                .inline_data(object.inode)
                .map_err(metadata_failed)?
                .unwrap_or_default()
        };
        let length = (data.len() as u64).min(record.size) as usize;
        if let Some(data) = data.get(..length).filter(|data| !data.is_empty()) {
            let write = LoggedWrite {
                branch,
                inode: object.inode,
                offset: 0,
                time: next_change(record.changed, self.shared.now()),
            };
            logged.push(self.append(write, data)?);
        }
        Ok(())
    }

    /// Notes what the log has taken; `None` if the volume was restored meanwhile and the write must start over.
    fn note(
        &self,
        caller: &Caller,
        object: ObjectId,
        branch: cairn_types::BranchId,
        (logged, room): (Vec<Logged>, Reservation<'_>),
        count: u32,
        stability: Stability,
    ) -> Result<Option<Pending<Written>>, Error> {
        let mut state = self.state.write();
        let before = self.writable(&state, caller, object)?;
        if state.lineage.branch() != branch {
            return Ok(None);
        }
        let State {
            open, lineage, dirty, ..
        } = &mut *state;
        let mut end = LogPosition(0);
        let (extents_before, extents_after, mut after) = dirty.change(object.inode, before, |file| {
            let extents_before = file.overlay.len() as u64;
            for part in logged {
                file.note(&part.write, part.extent, part.sequence, part.end);
                end = end.max(part.end);
            }
            (extents_before, file.overlay.len() as u64, file.record)
        });
        // Counted now.
        drop(room);
        let total = self
            .shared
            .overlay_extents
            .fetch_add(extents_after, Ordering::Relaxed)
            + extents_after;
        self.shared
            .overlay_extents
            .fetch_sub(extents_before, Ordering::Relaxed);
        if total > self.shared.settings.overlay_extents_max {
            self.shared.flush_early.ask();
        }
        let mode = permission::mode_after_write(caller, &before);
        let mut commit = None;
        if mode != before.mode {
            after.mode = mode;
            let mut work = Work::new(self, lineage, open.branch.epoch);
            work.put(dirty, object.inode, &after);
            commit = Some(work.commit(open, dirty)?);
        }
        let change = self.change(object.inode, &before, &after);
        drop(state);
        if stability == Stability::Unstable {
            self.shared
                .unstable_bytes
                .fetch_add(u64::from(count), Ordering::Relaxed);
            let written = Written {
                count,
                stability,
                change,
            };
            // Set-id bits that went are no data: no COMMIT asks for them, and the log does not bring them back.
            return Ok(Some(match commit {
                None => Pending::ready(written),
                Some(commit) => self.after_commit(written, commit),
            }));
        }
        let written = Written {
            count,
            stability: Stability::File,
            change,
        };
        Ok(Some(self.after_log(written, end.0, commit)))
    }

    /// Writes into the metadata; `None` if the file has outgrown it meanwhile.
    fn write_inline(
        &self,
        caller: &Caller,
        object: ObjectId,
        offset: u64,
        data: &[u8],
        stability: Stability,
    ) -> Result<Option<Pending<Written>>, Error> {
        let mut state = self.state.write();
        let before = self.writable(&state, caller, object)?;
        if !before.inline {
            return Ok(None);
        }
        let old = self
            .view(&state)
            .inline_data(object.inode)
            .map_err(metadata_failed)?
            .unwrap_or_default();
        let (start, end) = (offset as usize, offset as usize + data.len());
        let mut content = old.to_vec();
        content.truncate(usize::try_from(before.size).unwrap_or(usize::MAX));
        content.resize(content.len().max(end), 0);
        content[start..end].copy_from_slice(data);
        let mut after = before;
        after.size = before.size.max(end as u64);
        after.used = Self::inline_used(after.size);
        after.mode = permission::mode_after_write(caller, &before);
        after.changed = next_change(before.changed, self.shared.now());
        after.modified = after.changed;
        after.data_version = next_data_version(before.data_version, after.changed);
        let State {
            open, lineage, dirty, ..
        } = &mut *state;
        let mut work = Work::new(self, lineage, open.branch.epoch);
        work.transaction.put_inline_data(object.inode, &content);
        work.resized(before.size, after.size);
        work.put_whole(object.inode, &after);
        let commit = work.commit(open, dirty)?;
        drop(state);
        let change = self.change(object.inode, &before, &after);
        let count = data.len() as u32;
        // Set-id bits that went must stay gone, whatever becomes of the data.
        if stability == Stability::Unstable && after.mode == before.mode {
            return Ok(Some(Pending::ready(Written {
                count,
                stability,
                change,
            })));
        }
        Ok(Some(self.after_commit(
            Written {
                count,
                stability: Stability::File,
                change,
            },
            commit,
        )))
    }

    pub(crate) fn commit(&self, caller: &Caller, object: ObjectId) -> Result<Pending<Change>, Error> {
        self.require_healthy()?;
        let state = self.state.read();
        let record = self.load(&state, object)?;
        if record.kind != FileKind::Regular {
            return Err(Error::Invalid("only regular files are committed"));
        }
        let may_read = permission::require_or_owner(caller, &record, permission::READ);
        may_read.or_else(|_| permission::require_or_owner(caller, &record, permission::WRITE))?;
        let change = self.change(object.inode, &record, &record);
        // Data is in the log if the file is dirty, in the metadata if it is small, and durable if it was flushed. What was
        // committed to the metadata, and not synced, is at or below the newest commit.
        let commits = self.shared.commits.load(Ordering::SeqCst);
        match state.dirty.get(&object.inode) {
            Some(file) => Ok(self.after_log(change, file.log_end.0, None)),
            None if !record.inline || self.shared.metadata_sync.covers(commits) => Ok(Pending::ready(change)),
            None => Ok(self.after_commit(change, commits)),
        }
    }

    /// Removes the extents of a removed inode from the metadata, at most a batch of them; `true` when none is left.
    pub(crate) fn sweep_orphan(
        &self,
        branch: cairn_types::BranchId,
        inode: cairn_types::InodeId,
    ) -> Result<bool, Error> {
        let mut state = self.state.write();
        if state.deleted || state.lineage.branch() != branch {
            return Ok(true);
        }
        let State {
            open, lineage, dirty, ..
        } = &mut *state;
        let mut work = Work::new(self, lineage, open.branch.epoch);
        let view = work.transaction.view();
        let everything = ByteRange::at(0, u64::MAX);
        let extents = view
            .extents(inode, everything, EXTENTS_BATCH)
            .map_err(metadata_failed)?;
        let last = extents.len() < EXTENTS_BATCH;
        extents
            .iter()
            .for_each(|extent| work.transaction.remove_extent(inode, extent));
        if last {
            work.transaction.forget_orphan(inode);
        }
        work.commit(open, dirty)?;
        Ok(last)
    }
}
