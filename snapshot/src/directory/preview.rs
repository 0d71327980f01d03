//! Which entries of a workspace are not versioned, and by which rule: what somebody wants to see before saving.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;

use cairn_types::FileKind;
use parking_lot::Mutex;

use super::ignore::Reason;
use super::path::RelativePath;
use super::walk::{Walk, WalkError, WalkOptions};

/// An entry that is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it is.
    pub path: RelativePath,
    /// What it is; everything below a directory is left out as well, and not told.
    pub kind: FileKind,
    /// Why.
    pub reason: Reason,
}

/// Walks the tree at `root` and tells what is left out, in path order. A listener and threads in `options` are not used. Errors: as for [`Walk::new`].
pub fn preview(root: impl AsFd, options: WalkOptions) -> Result<Preview, WalkError> {
    // What is left out between two entries that are kept: bounded by the names of one directory.
    let told: Arc<Mutex<VecDeque<LeftOut>>> = Arc::default();
    let listener = told.clone();
    let options = WalkOptions {
        left_out: Some(Arc::new(move |path, kind, reason| {
            listener.lock().push_back(LeftOut {
                path: path.clone(),
                kind,
                reason,
            });
        })),
        threads: 0,
        ..options
    };
    Ok(Preview {
        walk: Walk::new(root, options)?,
        told,
    })
}

/// See [`preview`].
pub struct Preview {
    walk: Walk,
    told: Arc<Mutex<VecDeque<LeftOut>>>,
}

impl Iterator for Preview {
    type Item = Result<LeftOut, WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(left_out) = self.told.lock().pop_front() {
                return Some(Ok(left_out));
            }
            match self.walk.next() {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Some(Err(error)),
                // The last entries may be left out.
                None => return self.told.lock().pop_front().map(Ok),
            }
        }
    }
}
