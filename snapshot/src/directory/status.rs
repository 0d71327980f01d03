//! What statx(2) tells of a file, in our terms. Never follows a link, never opens anything.
//!
//! Owns the conversion, so that device and inode numbers compare wherever they come from.

use std::ffi::CStr;
use std::io;
use std::os::fd::AsFd;

use cairn_types::{DeviceNumber, FileKind, Timestamp};
use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, StatxTimestamp, makedev, statx};

use super::entry::{Attributes, Stamp};

/// What a file system tells of a file without opening it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Everything but the extended attributes, which are left empty.
    pub attributes: Attributes,
    /// What the file system knows it by.
    pub stamp: Stamp,
    /// Names that it has (`st_nlink`).
    pub links: u64,
    /// Bytes that it takes up on disk (`st_blocks`), metadata not counted.
    pub allocated_bytes: u64,
}

impl Status {
    /// Of an open file, or of one opened with `O_PATH`. Errors: statx(2).
    pub fn of(file: impl AsFd) -> io::Result<Status> {
        Self::at(file, c"", AtFlags::EMPTY_PATH)
    }

    /// Of `name` in `directory`; of a symbolic link itself. Errors: statx(2).
    pub fn of_name(directory: impl AsFd, name: &CStr) -> io::Result<Status> {
        Self::at(directory, name, AtFlags::empty())
    }

    fn at(directory: impl AsFd, name: &CStr, flags: AtFlags) -> io::Result<Status> {
        let flags = flags | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let found = statx(directory, name, flags, StatxFlags::BASIC_STATS)?;
        Status::from_statx(&found)
    }

    fn from_statx(found: &Statx) -> io::Result<Status> {
        let mode = u32::from(found.stx_mode);
        let kind = match FileType::from_raw_mode(mode) {
            FileType::RegularFile => FileKind::Regular,
            FileType::Directory => FileKind::Directory,
            FileType::Symlink => FileKind::Symlink,
            FileType::BlockDevice => FileKind::BlockDevice,
            FileType::CharacterDevice => FileKind::CharacterDevice,
            FileType::Fifo => FileKind::Fifo,
            FileType::Socket => FileKind::Socket,
            FileType::Unknown => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    format!("the file is of a kind that has no name (mode {mode:o})"),
                ));
            }
        };
        let permissions = found.stx_mode & 0o7777;
        let is_device = matches!(kind, FileKind::BlockDevice | FileKind::CharacterDevice);
        Ok(Status {
            attributes: Attributes {
                kind,
                mode: if kind == FileKind::Symlink {
                    0o777
                } else {
                    permissions
                },
                uid: found.stx_uid,
                gid: found.stx_gid,
                modified: timestamp(found.stx_mtime),
                size: match kind {
                    FileKind::Regular | FileKind::Symlink => found.stx_size,
                    _ => 0,
                },
                device: match is_device {
                    true => DeviceNumber {
                        major: found.stx_rdev_major,
                        minor: found.stx_rdev_minor,
                    },
                    false => DeviceNumber::default(),
                },
                xattrs: Vec::new(),
            },
            stamp: Stamp {
                device: makedev(found.stx_dev_major, found.stx_dev_minor),
                inode: found.stx_ino,
                changed: timestamp(found.stx_ctime),
            },
            links: u64::from(found.stx_nlink),
            allocated_bytes: found.stx_blocks.saturating_mul(512),
        })
    }

    /// Device and inode: the same file as long as one of the two looks holds it open.
    pub fn identity(&self) -> (u64, u64) {
        (self.stamp.device, self.stamp.inode)
    }
}

fn timestamp(time: StatxTimestamp) -> Timestamp {
    Timestamp::new(time.tv_sec, time.tv_nsec)
}
