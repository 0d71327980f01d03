//! The data directory: that there is exactly one daemon in it, and that it is ours to use.
//!
//! Opening it changes nothing before everything has been found in order: a directory with other things in it stays as it
//! was. docs/formats/data-directory.md describes what is in it.
//!
//! Invariant: while a [`DataDirectory`] lives, this process holds an exclusive flock(2) on `lock`, and `format` exists,
//! durably.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cairn_types::Randomness;
use rustix::fs::FlockOperation;

use crate::exit::Exit;

pub mod format;

pub use format::{Format, FormatError, HandleSecret};

/// The file whose flock(2) is the daemon's claim to the directory. It holds the process id of the holder.
pub const LOCK_NAME: &str = "lock";
/// The file that says what the directory is.
pub const FORMAT_NAME: &str = "format";
/// The file that becomes [`FORMAT_NAME`] once it is complete and durable.
const FORMAT_NEW_NAME: &str = "format.new";
/// The directory of the metadata store.
pub const METADATA_NAME: &str = "metadata";
/// The directory of the content log.
pub const LOG_NAME: &str = "log";
/// The directory of what is known of object stores: caches that can be made again.
pub const STORES_NAME: &str = "stores";
/// The directory of what is known of plain directories, and of work on them that was accepted.
pub const DIRECTORIES_NAME: &str = "directories";
/// Longest [`FORMAT_NAME`] that is read, in bytes.
const FORMAT_BYTES_MAX: u64 = 4096;

/// What may be in a directory that no daemon has completed the first start in: the lock, an unfinished format file, and
/// what mkfs(8) leaves on a fresh file system.
const HARMLESS_NAMES: [&str; 3] = [LOCK_NAME, FORMAT_NEW_NAME, "lost+found"];

/// A data directory that this process holds.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    format: Format,
    /// Holds the lock; closing it gives it up.
    _lock: File,
}

/// Why the data directory cannot be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum DataDirectoryError {
    /// The operating system refused something.
    #[error("data directory {}: cannot {operation}: {source}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// The answer.
        source: io::Error,
    },
    /// It is something else.
    #[error("data directory {} is not a directory", path.display())]
    NotDirectory {
        /// The path.
        path: PathBuf,
    },
    /// It has no format file, but other things are in it.
    #[error("data directory {} is not empty and not a data directory of cairnd: it holds {found:?}", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// One of the things in it.
        found: String,
    },
    /// It held volumes once: the stores are there and the format file is not.
    #[error("data directory {} holds {found:?} but its file 'format' is missing", path.display())]
    FormatMissing {
        /// The directory.
        path: PathBuf,
        /// The store that is there.
        found: String,
    },
    /// Another process holds it.
    #[error("data directory {} is in use by another cairnd ({})", path.display(), holder_text(*holder))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process that holds it, as it wrote itself down.
        holder: Option<u32>,
    },
    /// A later version wrote it.
    #[error("data directory {} has format version {found}; this cairnd knows versions up to {supported}", path.display())]
    Newer {
        /// The directory.
        path: PathBuf,
        /// The version in it.
        found: u64,
        /// The newest version known here.
        supported: u64,
    },
    /// The format file is damaged.
    #[error("data directory {}: the file 'format' is damaged: {reason}", path.display())]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

fn holder_text(holder: Option<u32>) -> String {
    match holder {
        Some(process) => format!("process {process}"),
        None => "it has not written down its process id".to_owned(),
    }
}

impl DataDirectoryError {
    /// How the process ends.
    pub fn exit(&self) -> Exit {
        match self {
            DataDirectoryError::Io { .. }
            | DataDirectoryError::NotDirectory { .. }
            | DataDirectoryError::Foreign { .. }
            | DataDirectoryError::FormatMissing { .. }
            | DataDirectoryError::Damaged { .. } => Exit::DataDirectory,
            DataDirectoryError::Locked { .. } => Exit::Locked,
            DataDirectoryError::Newer { .. } => Exit::NewerFormat,
        }
    }

    /// What to do.
    pub fn remedy(&self) -> &'static str {
        match self {
            DataDirectoryError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run cairnd as the owner of the directory, or choose another one with --data-dir"
            }
            DataDirectoryError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "make the parent directory, or choose another data directory with --data-dir"
            }
            DataDirectoryError::Io { .. } => {
                "repair the file system, or choose another directory with --data-dir"
            }
            DataDirectoryError::NotDirectory { .. } | DataDirectoryError::Foreign { .. } => {
                "choose an empty or a new directory with --data-dir or the key data_dir"
            }
            DataDirectoryError::FormatMissing { .. } | DataDirectoryError::Damaged { .. } => {
                "restore the file 'format' from a copy of the directory; do not write one by hand, because it holds the \
                 key of all file handles"
            }
            DataDirectoryError::Locked { .. } => {
                "stop that daemon first, or choose another directory with --data-dir"
            }
            DataDirectoryError::Newer { .. } => "use the cairnd that wrote it, or a later one",
        }
    }
}

impl DataDirectory {
    /// Opens the directory at `path` for this process alone, making it (with mode 0700, in an existing parent) if it does
    /// not exist. On return everything in it is durable.
    pub fn open(path: &Path, randomness: &dyn Randomness) -> Result<Self, DataDirectoryError> {
        let failed = |operation| {
            move |source| DataDirectoryError::Io {
                path: path.to_owned(),
                operation,
                source,
            }
        };
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                return Err(DataDirectoryError::NotDirectory {
                    path: path.to_owned(),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new()
                    .mode(0o700)
                    .create(path)
                    .map_err(failed("make it"))?;
                let parent = path.parent().unwrap_or(Path::new("/"));
                sync_directory(parent).map_err(failed("sync its parent"))?;
            }
            Err(error) => return Err(failed("look at it")(error)),
        }
        let known = path
            .join(FORMAT_NAME)
            .try_exists()
            .map_err(failed("look into it"))?;
        if !known {
            refuse_foreign(path)?;
        }
        let lock = take_lock(path)?;
        let format = match read_format(path)? {
            Some(format) => format,
            None => {
                // Somebody may have put something there before the lock was ours.
                refuse_foreign(path)?;
                let format = Format::generate(randomness);
                write_format(path, &format).map_err(failed("write 'format'"))?;
                format
            }
        };
        Ok(DataDirectory {
            path: path.to_owned(),
            format,
            _lock: lock,
        })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the metadata store is.
    pub fn metadata(&self) -> PathBuf {
        self.path.join(METADATA_NAME)
    }

    /// Where the content log is.
    pub fn log(&self) -> PathBuf {
        self.path.join(LOG_NAME)
    }

    /// Where the caches of object stores are; made when the first is needed.
    pub fn stores(&self) -> PathBuf {
        self.path.join(STORES_NAME)
    }

    /// Where plain directories are remembered; made when the first is.
    pub fn directories(&self) -> PathBuf {
        self.path.join(DIRECTORIES_NAME)
    }

    /// What it is.
    pub fn format(&self) -> &Format {
        &self.format
    }
}

fn refuse_foreign(path: &Path) -> Result<(), DataDirectoryError> {
    let failed = |source| DataDirectoryError::Io {
        path: path.to_owned(),
        operation: "list it",
        source,
    };
    for entry in fs::read_dir(path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let found = name.to_string_lossy().into_owned();
        if found == METADATA_NAME || found == LOG_NAME {
            return Err(DataDirectoryError::FormatMissing {
                path: path.to_owned(),
                found,
            });
        }
        if !HARMLESS_NAMES.iter().any(|harmless| name == *harmless) {
            return Err(DataDirectoryError::Foreign {
                path: path.to_owned(),
                found,
            });
        }
    }
    Ok(())
}

fn take_lock(path: &Path) -> Result<File, DataDirectoryError> {
    let failed = |operation| {
        move |source| DataDirectoryError::Io {
            path: path.to_owned(),
            operation,
            source,
        }
    };
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path.join(LOCK_NAME))
        .map_err(failed("open 'lock'"))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // Without the number the message is poorer, not wrong.
            let _ = lock.take(32).read_to_string(&mut text);
            return Err(DataDirectoryError::Locked {
                path: path.to_owned(),
                holder: text.trim().parse().ok(),
            });
        }
        Err(errno) => return Err(failed("lock it")(errno.into())),
    }
    lock.set_len(0).map_err(failed("write 'lock'"))?;
    writeln!(lock, "{}", std::process::id()).map_err(failed("write 'lock'"))?;
    Ok(lock)
}

fn read_format(path: &Path) -> Result<Option<Format>, DataDirectoryError> {
    let failed = |source| DataDirectoryError::Io {
        path: path.to_owned(),
        operation: "read 'format'",
        source,
    };
    let file = match File::open(path.join(FORMAT_NAME)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(FORMAT_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Format::parse(&bytes).map(Some).map_err(|error| match error {
        FormatError::Newer { found } => DataDirectoryError::Newer {
            path: path.to_owned(),
            found,
            supported: format::VERSION,
        },
        FormatError::Damaged { reason } => DataDirectoryError::Damaged {
            path: path.to_owned(),
            reason,
        },
    })
}

/// Complete and durable under another name first: a format file is there wholly or not at all.
fn write_format(path: &Path, format: &Format) -> io::Result<()> {
    let new = path.join(FORMAT_NEW_NAME);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(format.encode().as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path.join(FORMAT_NAME))?;
    sync_directory(path)
}

/// Makes the names in a directory durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests;
