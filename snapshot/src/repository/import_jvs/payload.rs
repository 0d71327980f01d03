//! The hash of a snapshot's tree, as the Go tools compute it.
//!
//! One line for every entry but the root, `type:path:metadata:hash`, all of them sorted by their bytes, each ended by a line feed, and the SHA-256 hash
//! of that. The tools hold all lines in memory. Here one directory's are: the type comes first in a line, so that the tree is gone through once for
//! each type; and of two names in a directory it is clear which comes first if what is below a directory is told from the directory itself.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256, digest};
use cairn_types::{FileKind, hexadecimal};

use super::JvsTree;
use super::error::ImportError;
use super::tree::list;
use crate::archive::Progress;
use crate::directory::{RelativePath, Status};

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 256 << 10;
/// Permissions, which are all of the mode that is hashed.
const PERMISSIONS: u16 = 0o777;

/// Which markers are not hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadyRule {
    /// Every entry of that name, wherever it is: the old line. What is below a directory of that name is hashed all the same.
    Anywhere,
    /// The one at the root.
    AtTheRoot,
}

/// What came of hashing a tree.
#[derive(Debug)]
pub(super) enum Hashed {
    /// The hash, and what was read.
    Done {
        hash: [u8; 32],
        files: u64,
        bytes: u64,
        /// Whether there is an entry with the marker's name below the root.
        nested_marker: bool,
    },
    /// There is something that cannot be read.
    Special { path: RelativePath },
}

/// What is to be done in a directory, in the order of the lines.
enum Step {
    Line(Vec<u8>),
    Enter(RelativePath),
}

/// Hashes a tree. Errors: [`ImportError::Io`], [`ImportError::Cancelled`].
pub(super) fn hash(
    tree: &JvsTree,
    rule: ReadyRule,
    path: &Path,
    progress: &Progress,
) -> Result<Hashed, ImportError> {
    let mut work = Work {
        tree,
        rule,
        path,
        progress,
        buffer: vec![0; BUFFER_BYTES],
        files: 0,
        bytes: 0,
        nested_marker: false,
        special: None,
    };
    let mut hash = Context::new(&SHA256);
    for kind in [FileKind::Directory, FileKind::Regular, FileKind::Symlink] {
        let mut stack = vec![Step::Enter(RelativePath::root())];
        while let Some(step) = stack.pop() {
            match step {
                Step::Line(line) => {
                    hash.update(&line);
                    hash.update(b"\n");
                }
                Step::Enter(directory) => stack.extend(work.steps(&directory, kind)?.into_iter().rev()),
            }
            if let Some(path) = work.special.take() {
                return Ok(Hashed::Special { path });
            }
        }
    }
    let mut found = [0; 32];
    found.copy_from_slice(hash.finish().as_ref());
    Ok(Hashed::Done {
        hash: found,
        files: work.files,
        bytes: work.bytes,
        nested_marker: work.nested_marker,
    })
}

struct Work<'a> {
    tree: &'a JvsTree,
    rule: ReadyRule,
    path: &'a Path,
    progress: &'a Progress,
    buffer: Vec<u8>,
    files: u64,
    bytes: u64,
    nested_marker: bool,
    special: Option<RelativePath>,
}

impl Work<'_> {
    /// The lines of one kind in a directory, and the directories in it, sorted.
    fn steps(&mut self, directory: &RelativePath, kind: FileKind) -> Result<Vec<Step>, ImportError> {
        let entries = list(self.tree.directory.as_fd(), directory).map_err(self.failed(directory))?;
        let mut steps: Vec<(Vec<u8>, Step)> = Vec::new();
        for (path, status) in entries {
            if self.progress.is_cancelled() {
                return Err(ImportError::Cancelled);
            }
            let at_root = directory.is_root();
            if at_root && self.tree.reserved.contains(&path) && path.name() != b".READY" {
                continue;
            }
            let is_directory = status.attributes.kind == FileKind::Directory;
            if is_directory {
                steps.push(([path.as_bytes(), b"/"].concat(), Step::Enter(path.clone())));
            }
            let marker = path.name() == b".READY";
            self.nested_marker |= marker && !at_root;
            if marker && (at_root || self.rule == ReadyRule::Anywhere) {
                continue;
            }
            match status.attributes.kind {
                FileKind::Regular | FileKind::Directory | FileKind::Symlink => {}
                FileKind::BlockDevice | FileKind::CharacterDevice | FileKind::Fifo | FileKind::Socket => {
                    self.special = Some(path);
                    return Ok(Vec::new());
                }
            }
            if status.attributes.kind == kind {
                let line = self.line(&path, &status)?;
                let key = line.iter().position(|byte| *byte == b':').map_or(0, |at| at + 1);
                steps.push((line[key..].to_vec(), Step::Line(line)));
            }
        }
        steps.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(steps.into_iter().map(|(_, step)| step).collect())
    }

    fn line(&mut self, path: &RelativePath, status: &Status) -> Result<Vec<u8>, ImportError> {
        let attributes = &status.attributes;
        let mode = attributes.mode & PERMISSIONS;
        let line = |kind: &str, path: &RelativePath, metadata: String, hash: &[u8]| {
            let hash = hexadecimal::text(hash);
            let parts: [&[u8]; 7] = [
                kind.as_bytes(),
                b":",
                path.as_bytes(),
                b":",
                metadata.as_bytes(),
                b":",
                hash.as_bytes(),
            ];
            parts.concat()
        };
        Ok(match attributes.kind {
            FileKind::Directory => {
                let hash = digest(&SHA256, path.name());
                line("dir", path, format!("mode={mode:04o}"), hash.as_ref())
            }
            FileKind::Symlink => {
                let target = self.target(path).map_err(self.failed(path))?;
                line(
                    "symlink",
                    path,
                    format!("mode={mode:04o}"),
                    digest(&SHA256, &target).as_ref(),
                )
            }
            _ => {
                let (hash, size) = self.content(path)?;
                let original = self.tree.compressed.get(path).map_or(path, |file| &file.original);
                line("file", original, format!("mode={mode:04o},size={size}"), &hash)
            }
        })
    }

    fn target(&self, path: &RelativePath) -> io::Result<Vec<u8>> {
        let entry = crate::directory::beneath::open_entry(&self.tree.directory, path)?;
        Ok(rustix::fs::readlinkat(entry, c"", Vec::new())?.into_bytes())
    }

    /// The hash of a file's data, decompressed, and its bytes.
    fn content(&mut self, path: &RelativePath) -> Result<([u8; 32], u64), ImportError> {
        let mut file = self.tree.open_file(path).map_err(self.failed(path))?;
        let mut hash = Context::new(&SHA256);
        let mut size = 0;
        loop {
            if self.progress.is_cancelled() {
                return Err(ImportError::Cancelled);
            }
            let read = match file.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.failed(path)(error)),
            };
            hash.update(&self.buffer[..read]);
            size += read as u64;
            self.progress.add(0, read as u64);
        }
        self.progress.add(1, 0);
        (self.files, self.bytes) = (self.files + 1, self.bytes + size);
        let mut found = [0; 32];
        found.copy_from_slice(hash.finish().as_ref());
        Ok((found, size))
    }

    fn failed(&self, path: &RelativePath) -> impl Fn(io::Error) -> ImportError + use<> {
        let path = self.path.join(path.as_path());
        move |error| ImportError::io("reading", &path, error)
    }
}
