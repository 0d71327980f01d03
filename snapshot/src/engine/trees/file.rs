//! One entry of a tree, into another tree: a file with its data, a symbolic link, a special file.
//!
//! A file's data and attributes are those of one moment: it is looked at before and after, and tried again if it has changed meanwhile.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use cairn_types::FileKind;
use rustix::fs::ftruncate;
use rustix::io::Errno;

use super::EngineError;
use crate::archive::Progress;
use crate::directory::place::{Before, Copied, Way};
use crate::directory::read::{ATTEMPTS, holes};
use crate::directory::{Attributes, Body, FileBody, Found, Hole, Placer, Record, Stamp, Status, xattr};
use crate::engine::capture::{Captured, Proof, identity};
use crate::engine::describe::{describe, has_vanished, record};

/// What all threads share.
pub(super) struct Files<'a> {
    pub(super) placer: &'a Placer,
    pub(super) way: Way,
    pub(super) proof: Proof,
    pub(super) progress: &'a Progress,
}

/// What became of an entry.
pub(super) struct Outcome {
    /// What tells it from others, if it has several names.
    pub(super) several: Option<(u64, u64)>,
    /// Nothing: it had vanished.
    pub(super) result: Option<Box<Written>>,
}

/// An entry that was written.
pub(super) struct Written {
    pub(super) record: Record,
    /// It is in the tree: not if it is a special file that the file system does not have.
    pub(super) made: bool,
    copied: Option<Copied>,
    torn: bool,
    reused: bool,
}

impl Written {
    pub(super) fn count(&self, captured: &mut Captured) {
        match self.copied {
            Some(Copied::Cloned) => captured.cloned_files += 1,
            Some(Copied::Bytes(bytes)) => {
                captured.copied_files += 1;
                captured.copied_bytes += bytes;
            }
            None => {}
        }
        captured.reused_files += u64::from(self.reused);
        if self.torn {
            captured.torn(&self.record.entry.path);
        }
    }
}

/// What a file is when it was looked at: what must not change while it is copied.
struct Look {
    attributes: Attributes,
    stamp: Stamp,
}

impl Look {
    fn is_same(&self, status: &Status) -> bool {
        self.stamp == status.stamp
            && self.attributes.size == status.attributes.size
            && self.attributes.modified == status.attributes.modified
    }
}

impl Files<'_> {
    /// Writes an entry that is no directory. Errors: [`EngineError::Io`] if it cannot be read, [`EngineError::Place`].
    pub(super) fn write(&self, found: &Found, unchanged: Option<Record>) -> Result<Outcome, EngineError> {
        let several = (found.links > 1).then(|| identity(found));
        let result = match found.kind() {
            FileKind::Regular => self.regular(found, unchanged)?,
            _ => self.other(found, unchanged)?,
        };
        self.progress.add(1, found.attributes.size);
        Ok(Outcome {
            several,
            result: result.map(Box::new),
        })
    }

    fn regular(&self, found: &Found, unchanged: Option<Record>) -> Result<Option<Written>, EngineError> {
        let failed = |error| EngineError::io("read", found.path.as_path(), error);
        let from = match found.open() {
            Ok(from) => from,
            Err(error) if has_vanished(&error) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let to = self.placer.file(&found.path)?;
        let mut look = Look {
            attributes: found.attributes.clone(),
            stamp: found.stamp,
        };
        let mut attempt = 1;
        let mut unchanged = unchanged;
        loop {
            let size = look.attributes.size;
            let known = unchanged.take();
            let (copied, holes) = self.data(found, from.as_fd(), to.as_fd(), size, known.as_ref())?;
            let status = Status::of(&from).map_err(failed)?;
            let steady = look.is_same(&status);
            if steady && let Some(record) = known {
                // Nothing of it has changed since it was described.
                self.placer.file_attributes(
                    &found.path,
                    to.as_fd(),
                    &record.entry.attributes,
                    Before::New,
                )?;
                return Ok(Some(Written {
                    record,
                    made: true,
                    copied,
                    torn: false,
                    reused: true,
                }));
            }
            if !steady && attempt < ATTEMPTS {
                attempt += 1;
                look = Look {
                    attributes: status.attributes,
                    stamp: status.stamp,
                };
                // What was longer must not stay so.
                ftruncate(&to, 0)
                    .map_err(|error| EngineError::io("write", found.path.as_path(), error.into()))?;
                continue;
            }
            let stamp = self.proof.keep(status.stamp);
            let state = Seen {
                attributes: look.attributes,
                stamp,
                copied,
                holes,
                steady,
            };
            return self.describe(found, from.as_fd(), to.as_fd(), state).map(Some);
        }
    }

    /// Writes the data, and tells the holes that it had.
    fn data(
        &self,
        found: &Found,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        size: u64,
        unchanged: Option<&Record>,
    ) -> Result<(Option<Copied>, Vec<Hole>), EngineError> {
        if size == 0 {
            return Ok((None, Vec::new()));
        }
        let holes = match unchanged.map(|record| &record.entry.body) {
            Some(Body::File(body)) => body.holes.clone(),
            _ => holes(from, size).map_err(|error| EngineError::io("read", found.path.as_path(), error))?,
        };
        let copied = self.placer.data(&found.path, from, to, size, &holes, self.way)?;
        Ok((Some(copied), holes))
    }

    fn describe(
        &self,
        found: &Found,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        state: Seen,
    ) -> Result<Written, EngineError> {
        let failed = |error: io::Error| EngineError::io("read", found.path.as_path(), error);
        let Seen {
            mut attributes,
            stamp,
            copied,
            holes: mut known,
            steady,
        } = state;
        attributes.xattrs = xattr::of_file(from).map_err(failed)?;
        // A clone is of one moment even if the file never rests; only its length may be that of another.
        let is_torn = !steady && copied != Some(Copied::Cloned);
        if !steady {
            // Of the copy, which does not change.
            attributes.size = Status::of(to).map_err(failed)?.attributes.size;
            known = holes(to, attributes.size).map_err(failed)?;
        }
        self.placer
            .file_attributes(&found.path, to, &attributes, Before::New)?;
        let body = Body::File(FileBody {
            digest: None,
            holes: known,
            runs: Vec::new(),
        });
        let record = record(found.path.clone(), attributes, body, stamp.filter(|_| steady));
        Ok(Written {
            record,
            made: true,
            copied,
            torn: is_torn,
            reused: false,
        })
    }

    fn other(&self, found: &Found, unchanged: Option<Record>) -> Result<Option<Written>, EngineError> {
        let described = match unchanged {
            Some(record) => Some(record),
            None => describe(found, self.proof)
                .map_err(|error| EngineError::io("read", found.path.as_path(), error))?,
        };
        let Some(record) = described else { return Ok(None) };
        let attributes = &record.entry.attributes;
        let is_made = match &record.entry.body {
            Body::Symlink(target) => {
                self.placer.symlink(&found.path, target)?;
                true
            }
            Body::None | Body::Link(_) | Body::File(_) => self.placer.special(&found.path, attributes)?,
        };
        if is_made {
            self.placer.attributes(&found.path, attributes, Before::New)?;
        }
        Ok(Some(Written {
            record,
            made: is_made,
            copied: None,
            torn: false,
            reused: false,
        }))
    }
}

/// A file as it was when its data was copied.
struct Seen {
    attributes: Attributes,
    stamp: Option<Stamp>,
    copied: Option<Copied>,
    holes: Vec<Hole>,
    /// It did not change meanwhile.
    steady: bool,
}

/// Whether an error says that the file system has no other names for files, or not so many.
pub(super) fn has_no_links(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::PERM | Errno::NOTSUP | Errno::MLINK | Errno::NOSYS)
    )
}
