//! Reading entries ahead: threads that open, read and close small files, and read what else an entry has, batch by batch, while the batches
//! before are fed to the pipeline. For small files, that is what a capture spends its time with.
//!
//! Memory: what a batch announces is bounded ([`BATCH_ENTRIES`], [`BATCH_BYTES`]); how many are on their way is for who makes them to bound.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender};

use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use super::ChunksError;
use crate::directory::digest::ContentHasher;
use crate::directory::read::{ATTEMPTS, holes};
use crate::directory::status::Status;
use crate::directory::walk::Found;
use crate::directory::xattr;
use crate::directory::{Body, Entry, FileBody, Record, RelativePath, Stamp};
use cairn_types::{FileKind, Timestamp};

/// Entries of a batch.
pub(super) const BATCH_ENTRIES: usize = 256;
/// Bytes of files of a batch.
pub(super) const BATCH_BYTES: usize = 1 << 20;
/// Larger files, and those with holes, are read as they are fed.
pub(super) const SMALL_BYTES: u64 = 256 << 10;

/// An entry that is to be had.
pub(super) enum Item {
    /// It is as it was.
    Kept(Record, u64),
    /// It is to be read.
    Read(Found),
    /// Perhaps another name of a file before it: its data is not read yet.
    Link(Found),
}

/// What became of an entry.
pub(super) enum Loaded {
    /// Everything is known but, of a regular file, its chunks: its data are the next bytes of the batch.
    Whole {
        record: Record,
        links: u64,
        /// Device and inode.
        identity: (u64, u64),
        bytes: usize,
        torn: bool,
    },
    /// As it was.
    Kept(Record, u64),
    /// Everything is known but the data.
    WithoutData(Box<(Found, Record)>),
    /// It is not there any more.
    Vanished,
}

/// Entries in order.
#[derive(Default)]
pub(super) struct Batch {
    pub items: Vec<Item>,
    /// Bytes of the files to be read, as far as is known.
    pub announced: usize,
}

/// Entries in order, and their data.
#[derive(Default)]
pub(super) struct LoadedBatch {
    pub items: Vec<Loaded>,
    pub data: Vec<u8>,
    /// Why there are no more.
    pub error: Option<ChunksError>,
}

/// A batch, and where what became of it is told.
pub(super) type Job = (Batch, SyncSender<LoadedBatch>);

/// What is the same for all entries.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    /// Stamps from here on prove nothing.
    pub racy_from: Timestamp,
    /// Files up to so many bytes need no digest: their chunk's name is it.
    pub undigested_bytes: u64,
}

impl Batch {
    pub fn is_full(&self) -> bool {
        self.items.len() >= BATCH_ENTRIES || self.announced >= BATCH_BYTES
    }

    /// Adds an entry.
    pub fn push(&mut self, item: Item) {
        if let Item::Read(found) = &item {
            let size = found.attributes.size;
            if found.kind() == FileKind::Regular && size <= SMALL_BYTES {
                self.announced += size as usize;
            }
        }
        self.items.push(item);
    }

    /// Whether nothing of it has to be read.
    pub fn is_known(&self) -> bool {
        self.items.iter().all(|item| matches!(item, Item::Kept(..)))
    }

    /// What becomes of a batch of which nothing has to be read.
    pub fn known(self) -> LoadedBatch {
        let kept = |item| match item {
            Item::Kept(record, links) => Some(Loaded::Kept(record, links)),
            _ => None,
        };
        LoadedBatch {
            items: self.items.into_iter().filter_map(kept).collect(),
            ..LoadedBatch::default()
        }
    }
}

/// A thread that reads. Ends when no more batches come.
pub(super) fn read_batches(jobs: &Mutex<Receiver<Job>>, rules: Rules) {
    loop {
        let next = jobs.lock().recv();
        let Ok((batch, told)) = next else { return };
        // Who made the batch may have gone.
        let _ = told.send(load(batch, rules));
    }
}

fn load(batch: Batch, rules: Rules) -> LoadedBatch {
    let mut loaded = LoadedBatch {
        items: Vec::with_capacity(batch.items.len()),
        data: Vec::with_capacity(batch.announced),
        error: None,
    };
    for item in batch.items {
        let became = match item {
            Item::Kept(record, links) => Ok(Loaded::Kept(record, links)),
            Item::Read(found) => load_entry(found, rules, &mut loaded.data),
            Item::Link(found) => load_link(found, rules),
        };
        match became {
            Ok(became) => loaded.items.push(became),
            Err(error) => {
                loaded.error = Some(error);
                break;
            }
        }
    }
    loaded
}

/// An error about an entry.
pub(super) fn unreadable(path: &RelativePath) -> impl Fn(io::Error) -> ChunksError + '_ {
    |source| ChunksError::Read {
        path: path.clone(),
        source,
    }
}

/// The stamp, if it proves something.
pub(super) fn proof(stamp: Stamp, rules: Rules) -> Option<Stamp> {
    (stamp.changed < rules.racy_from).then_some(stamp)
}

fn load_entry(found: Found, rules: Rules, data: &mut Vec<u8>) -> Result<Loaded, ChunksError> {
    if found.kind() == FileKind::Regular {
        if found.attributes.size > SMALL_BYTES {
            let record = record_of(&found, Body::File(FileBody::default()), rules);
            return Ok(Loaded::WithoutData(Box::new((found, record))));
        }
        return load_small(found, rules, data);
    }
    let mut torn = false;
    let body = match found.kind() {
        FileKind::Symlink => match found.read_link() {
            Ok(target) => Body::Symlink(target),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Vanished),
            // Something else has taken its place.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(Loaded::Vanished),
            Err(error) => return Err(unreadable(&found.path)(error)),
        },
        _ => Body::None,
    };
    let xattrs = match found.xattrs() {
        Ok(xattrs) => xattrs,
        // What is in a directory may have been found all the same.
        Err(error) if error.kind() == io::ErrorKind::NotFound && found.kind() == FileKind::Directory => {
            torn = true;
            Vec::new()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Vanished),
        Err(error) => return Err(unreadable(&found.path)(error)),
    };
    let mut record = record_of(&found, body, rules);
    record.entry.attributes.xattrs = xattrs;
    if let Body::Symlink(target) = &record.entry.body {
        record.entry.attributes.size = target.len() as u64;
    }
    if torn {
        record.stamp = None;
    }
    Ok(Loaded::Whole {
        record,
        links: found.links,
        identity: (found.stamp.device, found.stamp.inode),
        bytes: 0,
        torn,
    })
}

fn load_link(found: Found, rules: Rules) -> Result<Loaded, ChunksError> {
    let xattrs = match found.xattrs() {
        Ok(xattrs) => xattrs,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Vanished),
        Err(error) => return Err(unreadable(&found.path)(error)),
    };
    let mut record = record_of(&found, Body::File(FileBody::default()), rules);
    record.entry.attributes.xattrs = xattrs;
    Ok(Loaded::WithoutData(Box::new((found, record))))
}

/// What the walk knows.
fn record_of(found: &Found, body: Body, rules: Rules) -> Record {
    Record {
        entry: Entry {
            path: found.path.clone(),
            attributes: found.attributes.clone(),
            body,
        },
        stamp: proof(found.stamp, rules),
    }
}

/// Reads a file as a whole into `data`, unless it has become large, or has holes.
fn load_small(found: Found, rules: Rules, data: &mut Vec<u8>) -> Result<Loaded, ChunksError> {
    let path = found.path.clone();
    let unreadable = unreadable(&path);
    let file = match found.open() {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Vanished),
        Err(error) => return Err(unreadable(error)),
    };
    let start = data.len();
    // What the walk has found is the state before: that the file still has it afterwards says that it had it all the time.
    let mut status = Status {
        attributes: found.attributes.clone(),
        stamp: found.stamp,
        links: found.links,
        allocated_bytes: found.allocated_bytes,
    };
    for attempt in 1..=ATTEMPTS {
        let size = status.attributes.size;
        data.truncate(start);
        // What a file takes up on disk does not tell: it may have holes, and room behind its end.
        if size > SMALL_BYTES || !holes(&file, size).map_err(&unreadable)?.is_empty() {
            let record = record_of(&found, Body::File(FileBody::default()), rules);
            drop(file);
            return Ok(Loaded::WithoutData(Box::new((found, record))));
        }
        let read = read_up_to(&file, data, size as usize).map_err(&unreadable)?;
        let xattrs = xattr::of_file(&file).map_err(&unreadable)?;
        let after = Status::of(&file).map_err(&unreadable)?;
        let torn = !is_same(&status, &after) || read as u64 != size;
        if torn && attempt < ATTEMPTS {
            status = after;
            continue;
        }
        let mut record = record_of(&found, Body::File(FileBody::default()), rules);
        record.entry.attributes = status.attributes;
        record.entry.attributes.xattrs = xattrs;
        record.entry.attributes.size = read as u64;
        record.stamp = proof(status.stamp, rules).filter(|_| !torn);
        if read as u64 > rules.undigested_bytes {
            let mut hasher = ContentHasher::new();
            hasher.update(&data[start..]);
            if let Body::File(body) = &mut record.entry.body {
                body.digest = Some(hasher.finish());
            }
        }
        return Ok(Loaded::Whole {
            record,
            links: found.links,
            identity: (found.stamp.device, found.stamp.inode),
            bytes: read,
            torn,
        });
    }
    Ok(Loaded::Vanished)
}

/// Adds the bytes of a file to `data`, `size` and perhaps more, and returns how many these are: fewer if there are no more.
fn read_up_to(file: &OwnedFd, data: &mut Vec<u8>, size: usize) -> io::Result<usize> {
    let mut read = 0;
    while read < size {
        data.reserve(size - read);
        match rustix::io::pread(file, spare_capacity(data), read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(read)
}

/// Whether a file is as it was.
pub(super) fn is_same(before: &Status, after: &Status) -> bool {
    let of = |status: &Status| {
        let attributes = &status.attributes;
        (attributes.size, attributes.modified, status.stamp.changed)
    };
    of(before) == of(after)
}
