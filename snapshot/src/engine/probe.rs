//! Which engine can keep the snapshots of a workspace: asked of the very pair of the workspace and the place where they go.
//!
//! Nothing is ever written into the workspace. What is made in the staging directory has no name, or loses it at once.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, fstat, ioctl_ficlone, openat, unlinkat};
use rustix::io::Errno;

use super::btrfs::Btrfs;
use super::kind::{Choice, Degradation, EngineKind};
use super::{EngineError, Tools};

pub mod mounts;

use mounts::Mounts;

/// Most entries of the workspace that are looked at for a file to try with.
const LOOKED_AT_MAX: usize = 4096;
/// Type of JuiceFS in the table of mounts.
const JUICEFS_KIND: &str = "fuse.juicefs";

/// Where a capture comes from and where it goes.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// The workspace's root directory.
    pub workspace: BorrowedFd<'a>,
    /// Its path, absolute.
    pub workspace_path: &'a Path,
    /// The directory that captures are made in: on the file system of the snapshots.
    pub staging: BorrowedFd<'a>,
    /// Its path, absolute.
    pub staging_path: &'a Path,
}

/// Chooses the engine: the one that is asked for, or the best that there is. What an engine lacks is found out without using it; it can
/// fail nevertheless, and then [`Choice::degrade`] tells what to try next.
///
/// Errors: [`EngineError::Unavailable`] if what is asked for lacks something; [`EngineError::Io`].
pub fn choose(site: &Site<'_>, requested: Option<EngineKind>, tools: &Tools) -> Result<Choice, EngineError> {
    let mounts = Mounts::read().map_err(|error| EngineError::io("read", "/proc/self/mountinfo", error))?;
    if let Some(engine) = requested {
        return match lacking(engine, site, tools, &mounts)? {
            None => Ok(Choice {
                requested,
                used: engine,
                degraded: Vec::new(),
            }),
            Some(reason) => Err(EngineError::Unavailable { engine, reason }),
        };
    }
    first(EngineKind::AUTOMATIC.as_slice(), site, tools, &mounts, Vec::new())
}

impl Choice {
    /// Goes on to the next best engine after the one in use failed for `reason`, which is kept. What it made must have been removed.
    ///
    /// Errors: [`EngineError::Unavailable`] if the engine was asked for, or nothing is left; [`EngineError::Io`].
    pub fn degrade(
        &self,
        reason: &EngineError,
        site: &Site<'_>,
        tools: &Tools,
    ) -> Result<Choice, EngineError> {
        let reason = told(reason);
        let mut degraded = self.degraded.clone();
        degraded.push(Degradation {
            from: self.used,
            reason: reason.clone(),
        });
        match self.alternatives() {
            [] => Err(EngineError::Unavailable {
                engine: self.used,
                reason,
            }),
            rest => {
                let mounts =
                    Mounts::read().map_err(|error| EngineError::io("read", "/proc/self/mountinfo", error))?;
                first(rest, site, tools, &mounts, degraded)
            }
        }
    }
}

fn first(
    candidates: &[EngineKind],
    site: &Site<'_>,
    tools: &Tools,
    mounts: &Mounts,
    mut degraded: Vec<Degradation>,
) -> Result<Choice, EngineError> {
    for engine in candidates {
        match lacking(*engine, site, tools, mounts)? {
            None => {
                return Ok(Choice {
                    requested: None,
                    used: *engine,
                    degraded,
                });
            }
            Some(reason) => degraded.push(Degradation {
                from: *engine,
                reason,
            }),
        }
    }
    // Copying lacks nothing, and is the last of all candidates.
    Ok(Choice {
        requested: None,
        used: EngineKind::Copy,
        degraded,
    })
}

/// What an engine lacks here; nothing if it can be used.
fn lacking(
    engine: EngineKind,
    site: &Site<'_>,
    tools: &Tools,
    mounts: &Mounts,
) -> Result<Option<String>, EngineError> {
    Ok(match engine {
        EngineKind::Copy | EngineKind::Archive => None,
        EngineKind::ReflinkCopy => clone_lacking(site, mounts)?,
        EngineKind::BtrfsSubvolume => btrfs_lacking(site, tools, mounts)?,
        EngineKind::JuicefsClone => juicefs_lacking(site, tools, mounts),
    })
}

fn btrfs_lacking(site: &Site<'_>, tools: &Tools, mounts: &Mounts) -> Result<Option<String>, EngineError> {
    let subvolume = Btrfs::is_subvolume(site.workspace)
        .map_err(|error| EngineError::io("look at", site.workspace_path, error))?;
    if !subvolume {
        return Ok(Some(
            "the workspace is not the root of a Btrfs subvolume".to_owned(),
        ));
    }
    if tools.btrfs.is_none() {
        return Ok(Some("there is no program btrfs (package btrfs-progs)".to_owned()));
    }
    if !same_file_system(site, mounts) {
        return Ok(Some(
            "the snapshots are kept on another file system than the workspace".to_owned(),
        ));
    }
    if let Some(mount) = mounts.below(site.workspace_path).next() {
        return Ok(Some(format!(
            "{} is mounted in the workspace, and would not be in the snapshot",
            mount.point.display()
        )));
    }
    Ok(None)
}

fn juicefs_lacking(site: &Site<'_>, tools: &Tools, mounts: &Mounts) -> Option<String> {
    let workspace = mounts.of(site.workspace, site.workspace_path);
    match workspace {
        Some(mount) if mount.kind == JUICEFS_KIND => {}
        Some(_) | None => return Some("the workspace is not on JuiceFS".to_owned()),
    }
    let staging = mounts.of(site.staging, site.staging_path);
    if staging.map(|mount| mount.id) != workspace.map(|mount| mount.id) {
        return Some("the snapshots are kept on another mount than the workspace".to_owned());
    }
    if tools.juicefs.is_none() {
        return Some("there is no program juicefs".to_owned());
    }
    let below = mounts.below(site.workspace_path).next()?;
    Some(format!(
        "{} is mounted in the workspace, and would not be in the snapshot",
        below.point.display()
    ))
}

/// Whether both are in one file system, on whatever mounts.
fn same_file_system(site: &Site<'_>, mounts: &Mounts) -> bool {
    let device = |fd, path| mounts.of(fd, path).map(|mount| mount.device.clone());
    let workspace = device(site.workspace, site.workspace_path);
    workspace.is_some() && workspace == device(site.staging, site.staging_path)
}

/// Clones a file of the workspace into a nameless one in the staging directory. If the workspace has no file, two nameless ones are
/// tried, if it is the same file system.
fn clone_lacking(site: &Site<'_>, mounts: &Mounts) -> Result<Option<String>, EngineError> {
    let staged =
        || nameless(site.staging).map_err(|error| EngineError::io("write into", site.staging_path, error));
    let source = match any_file(site.workspace) {
        Ok(Some(file)) => file,
        Ok(None) if same_file_system(site, mounts) => staged()?,
        Ok(None) => {
            return Ok(Some(
                "the snapshots are kept on another file system than the workspace".to_owned(),
            ));
        }
        Err(error) => return Err(EngineError::io("read", site.workspace_path, error.into())),
    };
    Ok(match ioctl_ficlone(staged()?, &source) {
        Ok(()) => None,
        Err(Errno::XDEV) => {
            Some("the snapshots are kept on another file system than the workspace".to_owned())
        }
        Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS | Errno::INVAL) => {
            Some("the file system cannot share blocks between files".to_owned())
        }
        Err(error) => Some(format!(
            "sharing blocks between files was tried and failed: {error}"
        )),
    })
}

/// A new file without a name in a directory.
fn nameless(directory: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mode = Mode::RUSR | Mode::WUSR;
    match openat(
        directory,
        c".",
        OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC,
        mode,
    ) {
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {}
        opened => return Ok(opened?),
    }
    // NFS and some others have no such files.
    let name = format!(".probe-{}", std::process::id());
    let create = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = match openat(directory, &name, create, mode) {
        Err(Errno::EXIST) => {
            // Of a process with this number that was killed between the two calls.
            unlinkat(directory, &name, AtFlags::empty())?;
            openat(directory, &name, create, mode)?
        }
        opened => opened?,
    };
    unlinkat(directory, &name, AtFlags::empty())?;
    Ok(file)
}

/// A regular file below a directory that can be read, on the same file system; nothing if the first [`LOOKED_AT_MAX`] entries have none.
fn any_file(root: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Errno> {
    let device = fstat(root)?.st_dev;
    let directory_flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut looked_at = 0;
    let mut level = openat(root, c".", directory_flags, Mode::empty())?;
    // One directory of each level is enough: the aim is any file, not the nearest.
    loop {
        let mut below = None;
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut names = RawDir::new(&level, &mut buffer);
        while let Some(entry) = names.next() {
            let entry = entry?;
            let name = entry.file_name();
            looked_at += 1;
            if looked_at > LOOKED_AT_MAX {
                return Ok(None);
            }
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            match entry.file_type() {
                FileType::RegularFile => {
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                    if let Ok(file) = openat(&level, name, flags, Mode::empty()) {
                        let stat = fstat(&file)?;
                        if FileType::from_raw_mode(stat.st_mode).is_file() && stat.st_dev == device {
                            return Ok(Some(file));
                        }
                    }
                }
                FileType::Directory if below.is_none() && name.to_bytes() != b".jvs" => {
                    if let Ok(directory) = openat(&level, name, directory_flags, Mode::empty())
                        && fstat(&directory)?.st_dev == device
                    {
                        below = Some(directory);
                    }
                }
                _ => {}
            }
        }
        match below {
            Some(directory) => level = directory,
            None => return Ok(None),
        }
    }
}

/// An error with its causes, in one line.
fn told(error: &EngineError) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}

impl Tools {
    /// Looks for the programs in the directories of a `PATH`; `juicefs` is taken where it is given instead.
    pub fn find(search: &OsStr, juicefs: Option<&Path>) -> Self {
        Tools {
            juicefs: juicefs
                .map(Path::to_owned)
                .filter(|path| executable(path))
                .or_else(|| {
                    // A program that is asked for by its path is that one or none.
                    if juicefs.is_some() {
                        None
                    } else {
                        program(search, "juicefs")
                    }
                }),
            btrfs: program(search, "btrfs"),
        }
    }
}

fn program(search: &OsStr, name: &str) -> Option<PathBuf> {
    std::env::split_paths(search)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(|path| executable(path))
}

fn executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// Whether two files are on one mount. Used where moving a name must not fail later.
pub(crate) fn same_mount(one: impl AsFd, other: impl AsFd) -> io::Result<bool> {
    match (
        mounts::mount_number(one.as_fd()),
        mounts::mount_number(other.as_fd()),
    ) {
        (Some(one), Some(other)) => Ok(one == other),
        _ => Ok(fstat(one)?.st_dev == fstat(other)?.st_dev),
    }
}
