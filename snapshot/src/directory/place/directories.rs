//! The directories that are kept open while entries are written: a bounded number, those used last.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::directory::path::RelativePath;

/// Most directories that one [`super::Placer`] keeps open.
pub const OPEN_DIRECTORIES_MAX: usize = 128;

#[derive(Debug)]
pub(super) struct Directories {
    root: Arc<OwnedFd>,
    open: HashMap<RelativePath, (Arc<OwnedFd>, u64)>,
    /// Counts uses.
    now: u64,
}

impl Directories {
    pub(super) fn new(root: Arc<OwnedFd>) -> Directories {
        Directories {
            root,
            open: HashMap::new(),
            now: 0,
        }
    }

    /// The nearest open directory on the way to `path`, and how many bytes of the path are left from there.
    pub(super) fn nearest(&mut self, path: &RelativePath) -> (Arc<OwnedFd>, usize) {
        self.now += 1;
        let mut at = path.clone();
        loop {
            if at.is_root() {
                return (self.root.clone(), path.as_bytes().len());
            }
            if let Some((fd, used)) = self.open.get_mut(&at) {
                *used = self.now;
                return (fd.clone(), path.as_bytes().len() - at.as_bytes().len());
            }
            at = at.parent().unwrap_or_default();
        }
    }

    pub(super) fn keep(&mut self, path: RelativePath, fd: Arc<OwnedFd>) {
        if self.open.len() >= OPEN_DIRECTORIES_MAX {
            // The older half goes at once, so that the search is seldom.
            let mut uses: Vec<u64> = self.open.values().map(|(_, used)| *used).collect();
            let (_, middle, _) = uses.select_nth_unstable(OPEN_DIRECTORIES_MAX / 2);
            let middle = *middle;
            self.open.retain(|_, (_, used)| *used >= middle);
        }
        self.now += 1;
        self.open.insert(path, (fd, self.now));
    }

    pub(super) fn forget(&mut self, path: &RelativePath) {
        self.open.remove(path);
    }
}
