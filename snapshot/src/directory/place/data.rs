//! The data of one file from another: shared if the file system can, else copied, holes left as holes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use cairn_content::write_behind::{WINDOW_BYTES, WriteBehind, leave};
use rustix::fs::{copy_file_range, ftruncate, ioctl_ficlone};
use rustix::io::Errno;

use crate::directory::entry::Hole;
use crate::directory::read::{READ_BYTES, data_ranges};

/// How data gets from one file into another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Shared (FICLONE), and copied where that is not possible.
    Clone,
    /// Copied; by the kernel if it can, which may share as well.
    Copy,
}

/// How it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// The two files share their data on disk.
    Cloned,
    /// So many bytes were copied; holes do not count.
    Bytes(u64),
}

/// Makes the data of the empty file `to`, open for writing, that of `from`, which has `size` bytes and these holes. If `from` became shorter
/// meanwhile, zeros are there instead; if it was cloned, `to` is as long as `from` was at that moment. Errors: ioctl_ficlone(2) but for those that say that it is not
/// possible, copy_file_range(2), pread(2), pwrite(2), ftruncate(2).
pub fn clone_or_copy(
    from: impl AsFd,
    to: impl AsFd,
    size: u64,
    holes: &[Hole],
    way: Way,
) -> io::Result<Copied> {
    let (from, to) = (from.as_fd(), to.as_fd());
    if way == Way::Clone {
        match ioctl_ficlone(to, from) {
            Ok(()) => return Ok(Copied::Cloned),
            Err(Errno::NOTSUP | Errno::NOTTY | Errno::NOSYS | Errno::XDEV | Errno::INVAL) => {}
            // A file that is too fragmented to be shared once more (XFS), or immutable.
            Err(Errno::PERM | Errno::TXTBSY) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut copied = 0;
    let mut by_kernel = true;
    for range in data_ranges(size, holes) {
        let mut position = range.start;
        if by_kernel {
            by_kernel = copy_by_kernel(from, to, &mut position, range.end)?;
        }
        if !by_kernel {
            copy_by_hand(from, to, &mut position, range.end)?;
        }
        copied += position - range.start;
        if position < range.end {
            break;
        }
    }
    ftruncate(to, size)?;
    Ok(Copied::Bytes(copied))
}

/// Copies until `end`, the end of `from`, or until the kernel does not do it: then false is returned.
fn copy_by_kernel(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    position: &mut u64,
    end: u64,
) -> io::Result<bool> {
    let start = *position;
    let mut behind = WriteBehind::new(start);
    while *position < end {
        let (mut at, mut target) = (*position, *position);
        let wanted = usize::try_from(end - *position)
            .unwrap_or(usize::MAX)
            .min(WINDOW_BYTES as usize);
        match copy_file_range(from, Some(&mut at), to, Some(&mut target), wanted) {
            // Some file systems say so of files that have data.
            Ok(0) if *position == start => return Ok(false),
            Ok(0) => break,
            Ok(copied) => {
                *position += copied as u64;
                behind.advance(*position, |range| leave(to, range));
            }
            Err(Errno::INTR) => {}
            Err(Errno::NOTSUP | Errno::NOSYS | Errno::XDEV | Errno::INVAL | Errno::PERM | Errno::TXTBSY) => {
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
    }
    behind.finish(|range| leave(to, range));
    Ok(true)
}

fn copy_by_hand(from: BorrowedFd<'_>, to: BorrowedFd<'_>, position: &mut u64, end: u64) -> io::Result<()> {
    let wanted = usize::try_from(end - *position)
        .unwrap_or(READ_BYTES)
        .min(READ_BYTES);
    let mut buffer = vec![0; wanted];
    let mut behind = WriteBehind::new(*position);
    while *position < end {
        let wanted = usize::try_from(end - *position)
            .unwrap_or(READ_BYTES)
            .min(buffer.len());
        let read = match rustix::io::pread(from, &mut buffer[..wanted], *position) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        write_at(to, &buffer[..read], *position)?;
        *position += read as u64;
        behind.advance(*position, |range| leave(to, range));
    }
    behind.finish(|range| leave(to, range));
    Ok(())
}

/// Writes all bytes at a position. Errors: pwrite(2).
pub fn write_at(to: impl AsFd, mut bytes: &[u8], mut position: u64) -> io::Result<()> {
    let to = to.as_fd();
    while !bytes.is_empty() {
        match rustix::io::pwrite(to, bytes, position) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                position += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
