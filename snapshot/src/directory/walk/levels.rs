//! The walk itself: depth first, one level for each directory on the way down.
//!
//! Invariants: the deepest level is open; of the others at most [`OPEN_LEVELS_MAX`] are, the deepest ones. A level that was closed is
//! opened again from below by `..`, which is believed only if it leads to the very directory that was left.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use cairn_types::FileKind;
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::found::{Budget, Found, Handle};
use super::include::{Include, Stand};
use super::names::{LIST_BUFFER_BYTES, Names};
use super::{Skip, WalkCounts, WalkError, WalkOptions};
use crate::directory::beneath::{LISTED, open_beneath, open_quietly};
use crate::directory::ignore::{IGNORE_FILE, IgnoreStack, Reason};
use crate::directory::path::RelativePath;
use crate::directory::status::Status;

/// Most levels of a tree that are open at once.
pub const OPEN_LEVELS_MAX: usize = 64;

pub(super) struct Levels {
    root: Arc<OwnedFd>,
    options: WalkOptions,
    include: Option<Include>,
    ignore: Option<IgnoreStack>,
    counts: Arc<WalkCounts>,
    budget: Arc<Budget>,
    levels: Vec<Level>,
    /// What is handed out before the walk goes on.
    ready: VecDeque<Result<Found, WalkError>>,
    buffer: Box<[MaybeUninit<u8>]>,
    device: u64,
}

struct Level {
    fd: Option<Arc<OwnedFd>>,
    handle: Arc<Handle>,
    identity: (u64, u64),
    names: Names,
    next: usize,
    /// Everything below is taken.
    whole: bool,
}

/// What a name turned out to be.
enum Look {
    /// Something that is not entered.
    Entry(Status),
    /// A directory, open.
    Directory(OwnedFd, Status),
    /// A directory that cannot be opened.
    Closed(Status, Errno),
    /// Nothing any more.
    Vanished,
}

impl Levels {
    pub(super) fn new(
        root: impl AsFd,
        options: WalkOptions,
        counts: Arc<WalkCounts>,
    ) -> Result<Levels, WalkError> {
        let failed = |source| WalkError::Directory {
            path: RelativePath::root(),
            source,
        };
        // A descriptor of its own: the position in a directory belongs to the open file.
        let fd = open_quietly(&root, c".", LISTED).map_err(|error| failed(error.into()))?;
        let status = Status::of(&fd).map_err(failed)?;
        let fd = Arc::new(fd);
        let mut walk = Levels {
            root: fd.clone(),
            include: options.include.clone().map(Include::new),
            ignore: options.ignore.clone().map(IgnoreStack::new),
            options,
            counts,
            budget: Arc::new(Budget::default()),
            levels: Vec::new(),
            ready: VecDeque::new(),
            buffer: vec![MaybeUninit::uninit(); LIST_BUFFER_BYTES].into_boxed_slice(),
            device: status.stamp.device,
        };
        let whole = match &walk.include {
            None => true,
            Some(include) => include.stand(&RelativePath::root()) == Stand::Inside,
        };
        walk.enter(RelativePath::root(), None, fd, status, whole);
        Ok(walk)
    }

    pub(super) fn next(&mut self) -> Option<Result<Found, WalkError>> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some(item);
            }
            let level = self.levels.last_mut()?;
            if level.next >= level.names.len() {
                self.leave();
                continue;
            }
            if let Some(item) = self.look_at_next() {
                return Some(item);
            }
        }
    }

    /// Looks at the next name of the deepest level. Nothing if it is left out, or is in `ready`.
    fn look_at_next(&mut self) -> Option<Result<Found, WalkError>> {
        let level = self.levels.last_mut()?;
        let index = level.next;
        level.next += 1;
        let (name, told) = level.names.get(index)?;
        let fd = level.fd.clone()?;
        let parent = level.handle.clone();
        let path = match parent.path().join(name.to_bytes()) {
            Ok(path) => path,
            Err(source) => {
                return Some(Err(WalkError::Name {
                    path: parent.path().clone(),
                    source,
                }));
            }
        };
        let stand = match &self.include {
            Some(include) if !level.whole => include.stand(&path),
            _ => Stand::Inside,
        };
        if stand == Stand::Outside {
            return None;
        }
        if let Some(kind) = told
            && self.is_left_out(&path, kind)
        {
            return None;
        }
        let level = self.levels.last()?;
        let (name, _) = level.names.get(index)?;
        let look = match look(&fd, name, told) {
            Ok(look) => look,
            Err(error) => return Some(Err(WalkError::Status { path, source: error })),
        };
        let status = match &look {
            Look::Vanished => {
                WalkCounts::add(&self.counts.vanished);
                return None;
            }
            Look::Entry(status) | Look::Directory(_, status) | Look::Closed(status, _) => status,
        };
        let kind = status.attributes.kind;
        // The directory did not say it, or something else is there by now.
        if told != Some(kind) && self.is_left_out(&path, kind) {
            return None;
        }
        if stand == Stand::Above && kind != FileKind::Directory {
            return None;
        }
        match look {
            Look::Vanished => None,
            Look::Entry(status) => Some(Ok(found(path, status, Some(parent), None))),
            Look::Closed(status, error) => {
                let failed = WalkError::Directory {
                    path: path.clone(),
                    source: error.into(),
                };
                self.ready.push_back(Err(failed));
                Some(Ok(found(path, status, Some(parent), None)))
            }
            Look::Directory(fd, status) => {
                self.enter(path, Some(parent), Arc::new(fd), status, stand == Stand::Inside);
                None
            }
        }
    }

    fn is_left_out(&self, path: &RelativePath, kind: FileKind) -> bool {
        let by_rule = || {
            let skip = self.options.skip.as_ref()?;
            (skip(path, kind) == Skip::LeaveOut).then_some(Reason::Rule)
        };
        let reason = self
            .ignore
            .as_ref()
            .and_then(|rules| rules.judge(path, kind))
            .or_else(by_rule);
        let Some(reason) = reason else { return false };
        WalkCounts::add(&self.counts.left_out);
        if let Some(listener) = &self.options.left_out {
            listener(path, kind, reason);
        }
        true
    }

    /// Hands out an open directory, and goes on in it.
    fn enter(
        &mut self,
        path: RelativePath,
        parent: Option<Arc<Handle>>,
        fd: Arc<OwnedFd>,
        status: Status,
        whole: bool,
    ) {
        let identity = status.identity();
        let handle = Handle::new(
            Some(fd.clone()),
            &self.budget,
            self.root.clone(),
            path.clone(),
            identity,
        );
        let handle = Arc::new(handle);
        self.ready
            .push_back(Ok(found(path.clone(), status, parent, Some(handle.clone()))));
        if self.options.one_file_system && identity.0 != self.device {
            WalkCounts::add(&self.counts.other_file_systems);
            return;
        }
        let names = match Names::read(&fd, &mut self.buffer, |_| true) {
            Ok(names) => names,
            Err(source) => {
                self.ready.push_back(Err(WalkError::Directory { path, source }));
                return;
            }
        };
        if names.len() == 0 {
            return;
        }
        if let Some(rules) = &mut self.ignore
            && names.contains(IGNORE_FILE)
            && let Err(source) = rules.enter(&path, &fd)
        {
            let file = path.join(IGNORE_FILE).unwrap_or_default();
            self.ready
                .push_back(Err(WalkError::Ignore { path: file, source }));
        }
        if let Some(above) = self.levels.len().checked_sub(OPEN_LEVELS_MAX) {
            self.levels[above].fd = None;
        }
        self.levels.push(Level {
            fd: Some(fd),
            handle,
            identity,
            names,
            next: 0,
            whole,
        });
    }

    /// Goes on in the directory above.
    fn leave(&mut self) {
        let Some(left) = self.levels.pop() else { return };
        if let Some(rules) = &mut self.ignore {
            rules.leave(left.handle.path());
        }
        let Some(level) = self.levels.last_mut() else {
            return;
        };
        if level.fd.is_some() {
            return;
        }
        level.fd = level.handle.kept().or_else(|| {
            let above = left
                .fd
                .and_then(|fd| openat(&fd, c"..", LISTED, Mode::empty()).ok());
            let is_it = |fd: &OwnedFd| Status::of(fd).is_ok_and(|status| status.identity() == level.identity);
            above
                .filter(is_it)
                .or_else(|| {
                    open_beneath(&self.root, level.handle.path(), LISTED)
                        .ok()
                        .filter(is_it)
                })
                .map(Arc::new)
        });
        if level.fd.is_none() && level.next < level.names.len() {
            level.next = level.names.len();
            self.ready.push_back(Err(WalkError::Moved {
                path: level.handle.path().clone(),
            }));
        }
    }
}

fn look(fd: &OwnedFd, name: &CStr, told: Option<FileKind>) -> std::io::Result<Look> {
    if told != Some(FileKind::Directory) {
        match Status::of_name(fd, name) {
            Ok(status) if status.attributes.kind != FileKind::Directory => return Ok(Look::Entry(status)),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Look::Vanished),
            Err(error) => return Err(error),
        }
    }
    match open_quietly(fd, name, LISTED | OFlags::NONBLOCK) {
        Ok(opened) => {
            let status = Status::of(&opened)?;
            Ok(Look::Directory(opened, status))
        }
        Err(Errno::NOENT) => Ok(Look::Vanished),
        Err(error) => match Status::of_name(fd, name) {
            Ok(status) if status.attributes.kind == FileKind::Directory => Ok(Look::Closed(status, error)),
            // It was no directory any more.
            Ok(status) => Ok(Look::Entry(status)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Look::Vanished),
            Err(error) => Err(error),
        },
    }
}

fn found(
    path: RelativePath,
    status: Status,
    parent: Option<Arc<Handle>>,
    directory: Option<Arc<Handle>>,
) -> Found {
    Found {
        path,
        attributes: status.attributes,
        stamp: status.stamp,
        links: status.links,
        allocated_bytes: status.allocated_bytes,
        parent,
        directory,
    }
}
