//! Reading the data of regular files: where it is, without its holes, and whether it changed meanwhile.
//!
//! A file that changes while it is read is *torn*: what was read is perhaps no state that it ever had. It is read again a few times, and
//! then told to be torn.

use std::io;
use std::os::fd::AsFd;

use cairn_types::Timestamp;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::digest::ContentHasher;
use super::entry::{Digest, Hole};
use super::status::Status;

/// Bytes that are read at once.
pub const READ_BYTES: usize = 256 << 10;
/// Attempts to read a file in one state.
pub const ATTEMPTS: usize = 3;
/// Holes begin and end at multiples of this many bytes.
const HOLE_ALIGNMENT: u64 = 4096;

/// Where a file of `size` bytes has holes, as [`Hole`]s of [`super::entry::FileBody`] are told. Nothing if its file system does not tell. Moves the
/// position of `file`. Errors: lseek(2).
pub fn holes(file: impl AsFd, size: u64) -> io::Result<Vec<Hole>> {
    let file = file.as_fd();
    let mut found = Vec::new();
    let mut position = 0;
    while position < size {
        let start = match seek(file, SeekFrom::Hole(position)) {
            Ok(start) => start,
            // Behind the end, which has moved; or not supported.
            Err(Errno::NXIO | Errno::INVAL | Errno::NOTSUP) => break,
            Err(error) => return Err(error.into()),
        };
        if start >= size {
            break;
        }
        let end = match seek(file, SeekFrom::Data(start)) {
            Ok(end) => end.min(size),
            Err(Errno::NXIO) => size,
            Err(error) => return Err(error.into()),
        };
        // A file that changes meanwhile could let us stand still.
        if end <= start {
            position = start + HOLE_ALIGNMENT;
            continue;
        }
        add_hole(&mut found, start, end, size);
        position = end;
    }
    Ok(found)
}

/// Adds the aligned part of a hole.
fn add_hole(holes: &mut Vec<Hole>, start: u64, end: u64, size: u64) {
    let offset = start.next_multiple_of(HOLE_ALIGNMENT);
    let end = if end == size {
        end
    } else {
        end - end % HOLE_ALIGNMENT
    };
    if offset >= end {
        return;
    }
    match holes.last_mut() {
        Some(last) if last.offset + last.length >= offset => last.length = end - last.offset,
        _ => holes.push(Hole {
            offset,
            length: end - offset,
        }),
    }
}

/// Where the data is: what is between holes. Half-open ranges, ascending.
pub fn data_ranges(size: u64, holes: &[Hole]) -> impl Iterator<Item = std::ops::Range<u64>> + '_ {
    let starts = std::iter::once(0).chain(holes.iter().map(|hole| hole.offset.saturating_add(hole.length)));
    let ends = holes.iter().map(|hole| hole.offset).chain(std::iter::once(size));
    starts
        .zip(ends)
        .map(move |(start, end)| start.min(size)..end.min(size))
        .filter(|range| range.start < range.end)
}

/// A part of a file's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes as they stand there: 1 to [`READ_BYTES`].
    Data(&'a [u8]),
    /// So many zeros, which take up no room on disk.
    Zeros(u64),
}

/// Reads `size` bytes from the beginning, without reading `holes`, and hands them out in order. Returns how many there were: fewer than `size` if the file
/// has become shorter. Does not move the position of `file`. Errors: pread(2); what `take` returns.
pub fn read_data<E: From<io::Error>>(
    file: impl AsFd,
    size: u64,
    holes: &[Hole],
    mut take: impl FnMut(Piece<'_>) -> Result<(), E>,
) -> Result<u64, E> {
    let file = file.as_fd();
    let capacity = usize::try_from(size).unwrap_or(READ_BYTES).clamp(1, READ_BYTES);
    let mut buffer = vec![0; capacity];
    let mut position = 0;
    for range in data_ranges(size, holes) {
        if range.start > position {
            take(Piece::Zeros(range.start - position))?;
            position = range.start;
        }
        while position < range.end {
            let wanted = usize::try_from(range.end - position)
                .unwrap_or(capacity)
                .min(capacity);
            let read = match rustix::io::pread(file, &mut buffer[..wanted], position) {
                Ok(read) => read,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(E::from(error.into())),
            };
            if read == 0 {
                return Ok(position);
            }
            take(Piece::Data(&buffer[..read]))?;
            position += read as u64;
        }
    }
    if position < size {
        take(Piece::Zeros(size - position))?;
    }
    Ok(size)
}

/// What must not change while a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileState {
    /// Bytes.
    pub size: u64,
    /// Last change of data.
    pub modified: Timestamp,
    /// Last change of data or attributes.
    pub changed: Timestamp,
}

impl FileState {
    /// Of an open file. Errors: statx(2).
    pub fn of(file: impl AsFd) -> io::Result<FileState> {
        let status = Status::of(file)?;
        Ok(FileState {
            size: status.attributes.size,
            modified: status.attributes.modified,
            changed: status.stamp.changed,
        })
    }
}

/// What was made of one state of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steady<T> {
    /// What was made.
    pub value: T,
    /// The state of the file when reading began.
    pub state: FileState,
    /// The file changed in every attempt: `value` is of the last one, and perhaps of no state that the file ever had.
    pub torn: bool,
}

/// Calls `read`, which reads the whole file, until the file is in the same state before and after it, at most [`ATTEMPTS`] times. A change
/// that does not move the times of the file, because it is within the resolution of their clock, goes unnoticed here: that is what stamps are
/// compared for. Errors: statx(2); what `read` returns.
pub fn read_steadily<T, E: From<io::Error>>(
    file: impl AsFd,
    mut read: impl FnMut(FileState) -> Result<T, E>,
) -> Result<Steady<T>, E> {
    let file = file.as_fd();
    let mut state = FileState::of(file)?;
    let mut attempt = 1;
    loop {
        let value = read(state)?;
        let after = FileState::of(file)?;
        if after == state || attempt == ATTEMPTS {
            return Ok(Steady {
                value,
                state,
                torn: after != state,
            });
        }
        attempt += 1;
        state = after;
    }
}

/// The data of a file, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The hash of its data.
    pub digest: Digest,
    /// Where it has holes.
    pub holes: Vec<Hole>,
    /// Bytes that were read: holes are not.
    pub read_bytes: u64,
}

/// Reads and hashes a file. `tick` hears of each piece and may end it. Errors: lseek(2), pread(2), statx(2); what `tick` returns.
pub fn summarize<E: From<io::Error>>(
    file: impl AsFd,
    mut tick: impl FnMut(Piece<'_>) -> Result<(), E>,
) -> Result<Steady<Summary>, E> {
    let file = file.as_fd();
    read_steadily(file, |state| {
        let holes = holes(file, state.size)?;
        let mut hasher = ContentHasher::new();
        let mut read_bytes = 0;
        read_data(file, state.size, &holes, |piece| {
            match piece {
                Piece::Data(bytes) => {
                    read_bytes += bytes.len() as u64;
                    hasher.update(bytes);
                }
                Piece::Zeros(length) => hasher.zeros(length),
            }
            tick(piece)
        })?;
        Ok(Summary {
            digest: hasher.finish(),
            holes,
            read_bytes,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{Hole, add_hole, data_ranges};

    #[test]
    fn holes_are_aligned_and_joined() {
        let mut holes = Vec::new();
        add_hole(&mut holes, 512, 8192, 20_000);
        add_hole(&mut holes, 8192, 8200, 20_000);
        add_hole(&mut holes, 8192, 12_288, 20_000);
        add_hole(&mut holes, 16_384, 20_000, 20_000);
        let expected = [
            Hole {
                offset: 4096,
                length: 8192,
            },
            Hole {
                offset: 16_384,
                length: 3616,
            },
        ];
        assert_eq!(holes, expected);
        let ranges: Vec<_> = data_ranges(20_000, &holes).collect();
        assert_eq!(ranges, [0..4096, 12_288..16_384]);
        assert_eq!(data_ranges(0, &[]).count(), 0);
        assert_eq!(data_ranges(10, &[]).next(), Some(0..10));
    }
}
