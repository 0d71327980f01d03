//! Btrfs subvolumes: made, deleted and set read-only by the command line tool `btrfs`; their snapshots as captures.
//!
//! The kernel offers this by ioctls that need `unsafe`, which is denied here. The tool gets the directories that it works on
//! as descriptors (its standard input and its working directory), so nothing that is renamed meanwhile leads it elsewhere.

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{AtFlags, fstat, statat};

use super::EngineError;

mod capture;

/// Number of the inode of every subvolume's root (`BTRFS_FIRST_FREE_OBJECTID`).
pub(crate) const SUBVOLUME_INODE: u64 = 256;
/// Number of the inode that stands for a subvolume in a snapshot of the one that holds it (`BTRFS_EMPTY_SUBVOL_DIR_OBJECTID`).
pub(crate) const ABSENT_SUBVOLUME_INODE: u64 = 2;
/// Type of the file system, as statfs(2) tells it.
pub(crate) const MAGIC: u64 = 0x9123_683E;
/// Most bytes of the tool's words that an error repeats.
const WORDS_MAX: u64 = 4096;

/// The tool `btrfs`.
#[derive(Debug, Clone)]
pub struct Btrfs {
    program: PathBuf,
}

impl Btrfs {
    /// The tool at a path.
    pub fn new(program: PathBuf) -> Self {
        Btrfs { program }
    }

    /// Whether an open directory is the root of a subvolume. Errors: it cannot be asked.
    pub fn is_subvolume(fd: BorrowedFd<'_>) -> std::io::Result<bool> {
        let kind = u64::try_from(rustix::fs::fstatfs(fd)?.f_type).unwrap_or(0);
        Ok(kind == MAGIC && fstat(fd)?.st_ino == SUBVOLUME_INODE)
    }

    /// Makes an empty subvolume `name` in `parent`, whose path is told in errors. For a control directory inside of a workspace that is a
    /// subvolume: as a subvolume of its own it is no part of the snapshots.
    ///
    /// Errors: [`EngineError::Tool`].
    pub fn create(&self, parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<(), EngineError> {
        self.run(
            None,
            parent,
            &["subvolume".as_ref(), "create".as_ref(), &local(name)],
            path,
        )?;
        self.expect_subvolume(parent, name, path)
    }

    /// Makes a writable snapshot `name` in `parent` of the subvolume whose root is `source`; `path` is told in errors. Durable when it returns.
    ///
    /// Errors: [`EngineError::Tool`]: another file system, no subvolume, no right, the name is taken.
    pub fn snapshot(
        &self,
        source: BorrowedFd<'_>,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
    ) -> Result<(), EngineError> {
        // An existing directory would get the snapshot inside.
        if statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Err(EngineError::Exists {
                path: path.to_owned(),
            });
        }
        let arguments = [
            "subvolume".as_ref(),
            "snapshot".as_ref(),
            "/proc/self/fd/0".as_ref(),
            &*local(name),
        ];
        self.run(Some(source), parent, &arguments, path)?;
        self.expect_subvolume(parent, name, path)
    }

    /// Makes a subvolume unchangeable, or changeable again. Errors: [`EngineError::Tool`].
    pub fn set_read_only(
        &self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        read_only: bool,
        path: &Path,
    ) -> Result<(), EngineError> {
        let value = if read_only { "true" } else { "false" };
        let arguments = [
            "property".as_ref(),
            "set".as_ref(),
            "-ts".as_ref(),
            &*local(name),
            "ro".as_ref(),
            value.as_ref(),
        ];
        self.run(None, parent, &arguments, path)
    }

    /// Deletes a subvolume, read-only or not. The file system frees its room later. Errors: [`EngineError::Tool`]: no right (a mount
    /// option decides for those who are not root), subvolumes inside.
    pub fn delete(&self, parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<(), EngineError> {
        self.run(
            None,
            parent,
            &["subvolume".as_ref(), "delete".as_ref(), &*local(name)],
            path,
        )
    }

    fn expect_subvolume(&self, parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<(), EngineError> {
        match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if stat.st_ino == SUBVOLUME_INODE => Ok(()),
            Ok(_) => Err(self.failed(path, "it reported success, but there is no subvolume")),
            Err(error) => Err(self.failed(path, &format!("it reported success, but made nothing: {error}"))),
        }
    }

    fn run(
        &self,
        input: Option<BorrowedFd<'_>>,
        directory: BorrowedFd<'_>,
        arguments: &[&OsStr],
        path: &Path,
    ) -> Result<(), EngineError> {
        let input = match input {
            Some(fd) => Stdio::from(
                fd.try_clone_to_owned()
                    .map_err(|error| EngineError::io("open", path, error))?,
            ),
            None => Stdio::null(),
        };
        // The descriptor is closed on exec; the working directory is changed before.
        let directory = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(directory).stdin(input);
        run_tool(&mut command, &self.program, path)
    }

    fn failed(&self, path: &Path, outcome: &str) -> EngineError {
        EngineError::Tool {
            tool: self.program.clone(),
            path: path.to_owned(),
            outcome: outcome.to_owned(),
        }
    }
}

/// A name that no tool takes for an option.
fn local(name: &OsStr) -> std::ffi::OsString {
    let mut path = std::ffi::OsString::from("./");
    path.push(name);
    path
}

/// Runs a tool to its end; what it says on its error output goes into the error. Its other output is discarded.
pub(super) fn run_tool(command: &mut Command, tool: &Path, path: &Path) -> Result<(), EngineError> {
    let failed = |outcome: String| EngineError::Tool {
        tool: tool.to_owned(),
        path: path.to_owned(),
        outcome,
    };
    command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .env("LC_ALL", "C");
    let mut child = command
        .spawn()
        .map_err(|error| failed(format!("it cannot be started: {error}")))?;
    let mut words = Vec::new();
    if let Some(output) = child.stderr.take() {
        let mut output = output;
        let read = Read::by_ref(&mut output).take(WORDS_MAX).read_to_end(&mut words);
        // The rest must be taken out of the pipe, or the tool waits for ever.
        let drained = std::io::copy(&mut output, &mut std::io::sink());
        if let Err(error) = read.map(|_| 0).and(drained) {
            tracing::debug!(%error, "the words of a tool cannot be read");
        }
    }
    let status = child
        .wait()
        .map_err(|error| failed(format!("it cannot be waited for: {error}")))?;
    if status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&words);
    let words = words.trim();
    Err(failed(match words.is_empty() {
        true => status.to_string(),
        false => format!("{status}: {words}"),
    }))
}
