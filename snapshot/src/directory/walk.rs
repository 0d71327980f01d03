//! Walking a tree: every entry once, in path order, with what the file system tells of it.
//!
//! - Nothing but directories is opened, and no link is followed: a directory that a workload swaps for a link is found as a link, or as
//!   nothing.
//! - Memory is bounded by the names of the directories on the way down, not by the tree. Open descriptors are bounded as well
//!   ([`OPEN_LEVELS_MAX`], [`OPEN_HANDLES_MAX`]).
//! - A tree that changes meanwhile is walked all the same: what vanishes is left out and counted.
//!
//! Does not read data, targets or extended attributes by itself; [`Found`] does, when asked.

mod ahead;
mod found;
mod include;
mod levels;
mod names;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_types::{ErrorKind, FileKind};

pub use found::{Found, Handle, OPEN_HANDLES_MAX};
pub use levels::OPEN_LEVELS_MAX;

use super::ignore::{IgnoreError, IgnoreRules, Reason};
use super::path::{PathError, RelativePath};

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// It is walked.
    Keep,
    /// It is left out; a directory with everything below.
    LeaveOut,
}

/// Decides what is left out. Asked once for each entry but the root, in path order, on the thread that walks.
pub type SkipRule = Arc<dyn Fn(&RelativePath, FileKind) -> Skip + Send + Sync>;

/// Hears of what is left out, and why.
pub type LeftOutListener = Arc<dyn Fn(&RelativePath, FileKind, Reason) + Send + Sync>;

/// What is walked, and how.
#[derive(Clone, Default)]
pub struct WalkOptions {
    /// What is left out; nothing if `None`.
    pub skip: Option<SkipRule>,
    /// Rules of the workspace, and those in its files of rules; no file of rules is read if `None`.
    pub ignore: Option<Arc<IgnoreRules>>,
    /// Hears of everything that is left out, on the thread that walks.
    pub left_out: Option<LeftOutListener>,
    /// Only these paths, what is below them, and the directories that lead to them. What does not exist is no error: compare with what
    /// was found.
    pub include: Option<Vec<RelativePath>>,
    /// Other file systems that are mounted below are not entered: the directory that one is mounted on is found, as if it were empty.
    pub one_file_system: bool,
    /// Threads that run ahead of the caller: 0 (everything happens in `next`) or 1; more count as 1.
    pub threads: usize,
}

impl std::fmt::Debug for WalkOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WalkOptions")
            .field("skip", &self.skip.is_some())
            .field("ignore", &self.ignore)
            .field("include", &self.include)
            .field("one_file_system", &self.one_file_system)
            .field("threads", &self.threads)
            .finish()
    }
}

/// What a walk could not look at. The walk goes on behind it.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// A directory was not opened, or not read to its end: what is in it is missing.
    #[error("the directory {path} cannot be read")]
    Directory {
        /// The directory.
        path: RelativePath,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Nothing is known of an entry but its name.
    #[error("nothing can be learnt of {path}")]
    Status {
        /// The entry.
        path: RelativePath,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A directory was moved elsewhere while it was walked: what is in it is missing, or a part of it.
    #[error("the directory {path} was moved while it was read")]
    Moved {
        /// Where it was.
        path: RelativePath,
    },
    /// A name that no path can have, or a path that is too long.
    #[error("the directory {path} has an entry that cannot be named")]
    Name {
        /// The directory.
        path: RelativePath,
        /// Why.
        #[source]
        source: PathError,
    },
    /// Rules of what is left out cannot be followed. The walk goes on without the rules of this file.
    #[error("the rules in {path} cannot be followed")]
    Ignore {
        /// The file.
        path: RelativePath,
        /// Why.
        #[source]
        source: IgnoreError,
    },
    /// The thread that walks did not start, or ended early.
    #[error("the thread that walks ended early")]
    Thread {
        /// Why, if it did not start.
        #[source]
        source: std::io::Error,
    },
}

impl WalkError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            WalkError::Directory { source, .. } | WalkError::Status { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                _ => ErrorKind::Unavailable,
            },
            WalkError::Moved { .. } => ErrorKind::Conflict,
            WalkError::Name { .. } | WalkError::Ignore { .. } => ErrorKind::Invalid,
            WalkError::Thread { .. } => ErrorKind::Internal,
        }
    }

    /// The path that it concerns; the root if it concerns the whole walk.
    pub fn path(&self) -> RelativePath {
        match self {
            WalkError::Directory { path, .. }
            | WalkError::Status { path, .. }
            | WalkError::Moved { path }
            | WalkError::Name { path, .. }
            | WalkError::Ignore { path, .. } => path.clone(),
            WalkError::Thread { .. } => RelativePath::root(),
        }
    }
}

/// What a walk met and did not hand out. Final once the walk has ended.
#[derive(Debug, Default)]
pub struct WalkCounts {
    vanished: AtomicU64,
    left_out: AtomicU64,
    other_file_systems: AtomicU64,
}

impl WalkCounts {
    /// Entries that were gone when they were looked at.
    pub fn vanished(&self) -> u64 {
        self.vanished.load(Ordering::Relaxed)
    }

    /// Entries that were left out because the options say so; what is below a directory is not counted.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Directories that were not entered because another file system is mounted there.
    pub fn other_file_systems(&self) -> u64 {
        self.other_file_systems.load(Ordering::Relaxed)
    }

    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A walk. Yields the root first, then everything below in path order; an error takes the place of what could not be looked at.
pub struct Walk {
    way: Way,
    counts: Arc<WalkCounts>,
}

enum Way {
    Here(Box<levels::Levels>),
    Ahead(ahead::Ahead),
}

impl Walk {
    /// Walks the tree at `root`, which must be a directory; opened with `O_PATH` is enough. Errors: [`WalkError::Directory`] if it
    /// cannot be opened, [`WalkError::Thread`].
    pub fn new(root: impl AsFd, options: WalkOptions) -> Result<Walk, WalkError> {
        let counts = Arc::new(WalkCounts::default());
        let threads = options.threads;
        let levels = levels::Levels::new(root, options, counts.clone())?;
        let way = match threads {
            0 => Way::Here(Box::new(levels)),
            _ => Way::Ahead(ahead::Ahead::start(levels)?),
        };
        Ok(Walk { way, counts })
    }

    /// What was met and not handed out.
    pub fn counts(&self) -> Arc<WalkCounts> {
        self.counts.clone()
    }
}

impl Iterator for Walk {
    type Item = Result<Found, WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.way {
            Way::Here(levels) => levels.next(),
            Way::Ahead(ahead) => ahead.next(),
        }
    }
}
