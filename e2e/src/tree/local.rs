//! Directories of this machine.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::SeekFrom;

use super::{Node, Side, Tree, TreeError, TreePath, join, local_error};
use crate::client::Attributes;
use crate::client::attributes::{Kind, Time};
use crate::client::files::{Run, runs};

/// The place of `path` below `root`.
pub fn place(root: &Path, path: &[u8]) -> PathBuf {
    match path {
        [] => root.to_owned(),
        _ => root.join(OsStr::from_bytes(path)),
    }
}

/// Lists a directory. `keep` says of each path whether it and what is below it belongs to the tree.
pub fn list(root: &Path, keep: &dyn Fn(&[u8]) -> bool) -> Result<Tree, TreeError> {
    let mut nodes = BTreeMap::new();
    let mut waiting: Vec<TreePath> = vec![Vec::new()];
    while let Some(path) = waiting.pop() {
        let here = place(root, &path);
        let metadata = std::fs::symlink_metadata(&here).map_err(local_error(&path))?;
        let target = match metadata.is_symlink() {
            true => Some(
                std::fs::read_link(&here)
                    .map_err(local_error(&path))?
                    .into_os_string()
                    .into_vec(),
            ),
            false => None,
        };
        if metadata.is_dir() {
            for entry in std::fs::read_dir(&here).map_err(local_error(&path))? {
                let name = entry.map_err(local_error(&path))?.file_name();
                let child = join(&path, name.as_bytes());
                if keep(&child) {
                    waiting.push(child);
                }
            }
        }
        nodes.insert(
            path,
            Node {
                attributes: attributes(&metadata),
                target,
                handle: None,
            },
        );
    }
    Ok(Tree {
        side: Side::Local(root.to_owned()),
        nodes,
    })
}

fn attributes(metadata: &Metadata) -> Attributes {
    let time = |seconds: i64, nanoseconds: i64| Time {
        seconds: seconds.clamp(0, i64::from(u32::MAX)) as u32,
        nanoseconds: nanoseconds as u32,
    };
    let kind = metadata.file_type();
    let kind = match () {
        () if kind.is_dir() => Kind::Directory,
        () if kind.is_symlink() => Kind::Symlink,
        () if kind.is_fifo() => Kind::Fifo,
        () if kind.is_socket() => Kind::Socket,
        () if kind.is_block_device() => Kind::BlockDevice,
        () if kind.is_char_device() => Kind::CharacterDevice,
        () => Kind::Regular,
    };
    Attributes {
        kind,
        mode: metadata.mode() & 0o7777,
        links: metadata.nlink() as u32,
        uid: metadata.uid(),
        gid: metadata.gid(),
        size: metadata.size(),
        used: metadata.blocks() * 512,
        device: (
            rustix::fs::major(metadata.rdev()),
            rustix::fs::minor(metadata.rdev()),
        ),
        // Two file systems below one root could use a number twice; mixing in the device keeps them apart.
        fileid: metadata.ino() ^ metadata.dev().rotate_left(40),
        accessed: time(metadata.atime(), metadata.atime_nsec()),
        modified: time(metadata.mtime(), metadata.mtime_nsec()),
        changed: time(metadata.ctime(), metadata.ctime_nsec()),
    }
}

/// Reads a run of a file, all of it.
pub fn read(root: &Path, path: &[u8], run: Run) -> std::io::Result<Vec<u8>> {
    let mut data = vec![0; run.length as usize];
    File::open(place(root, path))?.read_exact_at(&mut data, run.offset)?;
    Ok(data)
}

/// The runs of a file that hold data; the rest are holes.
pub fn data_runs(root: &Path, path: &[u8], size: u64) -> std::io::Result<Vec<Run>> {
    let file = File::open(place(root, path))?;
    let mut found = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(&file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            // A file system that cannot tell has data everywhere.
            Err(rustix::io::Errno::INVAL) => return Ok(runs(0, size)),
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(&file, SeekFrom::Hole(start))?;
        found.extend(runs(start, end.min(size)));
        at = end;
    }
    Ok(found)
}
