//! A file that is fed as it is read: large ones, and those with holes.
//!
//! Between two holes data is fed as a file of its own, so that the pipeline neither sees a hole nor makes a chunk across one.

use std::io;
use std::os::fd::AsFd;

use cairn_content::pipeline::{Feeder, PipelineError, RunSink};

use super::ChunksError;
use super::load::{Rules, is_same, proof, unreadable};
use crate::archive::{ArchiveError, Progress};
use crate::directory::read::{ATTEMPTS, Piece, holes, read_data};
use crate::directory::walk::Found;
use crate::directory::{Body, ContentHasher, FileBody, Record, Status, xattr};

/// Longest hole, in bytes: every 2 GiB of a hole are a run of zeros in the manifest.
pub const HOLE_BYTES_MAX: u64 = 1 << 46;

/// What was fed of a file.
pub(super) struct Streamed {
    /// Everything but the runs.
    pub record: Record,
    /// Runs of data that the pipeline says nothing about that is of use: those of attempts that failed.
    pub passed: usize,
    /// Runs of data of the file: so many files of the pipeline.
    pub fed: usize,
    /// Bytes that were read.
    pub bytes: u64,
    pub torn: bool,
}

enum Stop {
    Io(io::Error),
    Pipeline(PipelineError),
    Cancelled,
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Io(error)
    }
}

/// Reads and feeds a file. Nothing if it is not there any more.
pub(super) fn stream<S: RunSink>(
    found: &Found,
    mut record: Record,
    rules: Rules,
    feeder: &mut Feeder<'_, S>,
    progress: &Progress,
) -> Result<Option<Streamed>, ChunksError> {
    let unreadable = unreadable(&found.path);
    let file = match found.open() {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let mut status = Status::of(&file).map_err(&unreadable)?;
    let (mut passed, mut bytes, mut attempt) = (0, 0, 1);
    loop {
        let fed = feed(&file, &status, feeder, progress).map_err(|stop| match stop {
            Stop::Io(error) => unreadable(error),
            Stop::Pipeline(error) => ArchiveError::from(error).into(),
            Stop::Cancelled => ChunksError::Cancelled,
        })?;
        bytes += fed.bytes;
        let xattrs = xattr::of_file(&file).map_err(&unreadable)?;
        let after = Status::of(&file).map_err(&unreadable)?;
        let torn = !is_same(&status, &after) || fed.size != status.attributes.size;
        if torn && attempt < ATTEMPTS {
            attempt += 1;
            passed += fed.runs;
            status = after;
            continue;
        }
        record.entry.attributes = status.attributes;
        record.entry.attributes.xattrs = xattrs;
        record.entry.attributes.size = fed.size;
        record.entry.body = Body::File(fed.body);
        record.stamp = proof(status.stamp, rules).filter(|_| !torn);
        return Ok(Some(Streamed {
            record,
            passed,
            fed: fed.runs,
            bytes,
            torn,
        }));
    }
}

struct Fed {
    body: FileBody,
    runs: usize,
    /// Bytes of the file, holes too.
    size: u64,
    bytes: u64,
}

fn feed<S: RunSink>(
    file: impl AsFd,
    status: &Status,
    feeder: &mut Feeder<'_, S>,
    progress: &Progress,
) -> Result<Fed, Stop> {
    let size = status.attributes.size;
    let mut holes = holes(&file, size)?;
    if holes.iter().any(|hole| hole.length > HOLE_BYTES_MAX) {
        return Err(Stop::Io(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it has a hole of more than {HOLE_BYTES_MAX} bytes"),
        )));
    }
    let mut hasher = ContentHasher::new();
    let (mut open, mut runs, mut bytes) = (false, 0, 0);
    let end = read_data(&file, size, &holes, |piece| {
        if progress.is_cancelled() {
            return Err(Stop::Cancelled);
        }
        match piece {
            Piece::Data(data) => {
                hasher.update(data);
                feeder.write(data).map_err(Stop::Pipeline)?;
                bytes += data.len() as u64;
                progress.add(0, data.len() as u64);
                open = true;
            }
            Piece::Zeros(length) => {
                hasher.zeros(length);
                if std::mem::take(&mut open) {
                    runs += 1;
                    feeder.end_file().map_err(Stop::Pipeline)?;
                }
            }
        }
        Ok(())
    })?;
    if open {
        runs += 1;
        feeder.end_file().map_err(Stop::Pipeline)?;
    }
    // A file that has become shorter has fewer holes.
    holes.retain(|hole| hole.offset < end);
    if let Some(last) = holes.last_mut() {
        last.length = last.length.min(end - last.offset);
    }
    Ok(Fed {
        body: FileBody {
            digest: Some(hasher.finish()),
            holes,
            runs: Vec::new(),
        },
        runs,
        size: end,
        bytes,
    })
}
