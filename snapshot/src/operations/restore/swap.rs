//! The second half of a restore: the steps are taken. Each can be taken twice, and after a kill all are taken again: so a
//! restore that has begun to change the workspace is finished, whatever happens.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_types::ErrorKind;
use rustix::fs::{AtFlags, linkat, renameat, unlinkat};
use rustix::io::Errno;

use super::staged_name;
use super::steps::{Action, StepReader};
use crate::archive::Progress;
use crate::directory::RelativePath;
use crate::directory::beneath::{c_name, open_directory};
use crate::directory::place::{Before, Losses, PlaceError, PlaceOptions, Placer};
use crate::operations::OperationError;
use crate::repository::{Lease, Repository};

/// What directories that were in the way are called, behind their name.
const ASIDE: &[u8] = b".jvs-kept";

/// What came of the steps.
pub(super) struct Swapped {
    /// Directories that were to go and hold what no snapshot holds: they stay.
    pub kept: Vec<RelativePath>,
    /// What could not be kept.
    pub losses: Losses,
    /// Steps that the workspace does not allow: how many, and the first failure.
    pub refused: u64,
    /// The first of these.
    pub first_refused: Option<PlaceError>,
}

/// How long steps are taken between two looks at the lease.
const LEASE_LOOK: Duration = Duration::from_millis(50);

/// Whether what something is in is not there, or no directory.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Whether the workspace does not allow something, now and later: rights, mount points, what stands in the way.
fn is_refusal(error: &io::Error) -> bool {
    is_gone(error)
        || matches!(
            error.kind(),
            io::ErrorKind::PermissionDenied
                | io::ErrorKind::CrossesDevices
                | io::ErrorKind::ResourceBusy
                | io::ErrorKind::IsADirectory
                | io::ErrorKind::DirectoryNotEmpty
                | io::ErrorKind::AlreadyExists
                | io::ErrorKind::TooManyLinks
        )
        || Errno::from_io_error(error) == Some(Errno::LOOP)
}

/// Takes steps in a workspace.
pub(super) struct Swapper<'a> {
    repository: &'a Repository,
    root: BorrowedFd<'a>,
    staging: BorrowedFd<'a>,
    placer: Placer,
    /// The directory that was last worked in.
    open: Option<(RelativePath, Arc<OwnedFd>)>,
    kept: Vec<RelativePath>,
    /// Some of the steps have been taken before.
    again: bool,
}

impl<'a> Swapper<'a> {
    pub fn new(
        repository: &'a Repository,
        staging: BorrowedFd<'a>,
        again: bool,
    ) -> Result<Self, OperationError> {
        let root = repository.workspace();
        let own = root.try_clone_to_owned().map_err(OperationError::staging)?;
        Ok(Swapper {
            repository,
            root,
            staging,
            placer: Placer::new(own, PlaceOptions::default()).map_err(OperationError::staging)?,
            open: None,
            kept: Vec::new(),
            again,
        })
    }

    /// Takes all steps. What was asked to stop goes on: a half is worse.
    /// One that the workspace does not allow is left out and told: nobody could ever take it. What another attempt may bring (room, a working disk) ends
    /// this one.
    pub fn run(
        mut self,
        steps: StepReader,
        lease: &Lease,
        progress: &Progress,
    ) -> Result<Swapped, OperationError> {
        let (mut refused, mut first_refused) = (0, None);
        lease.check()?;
        let mut looked = Instant::now();
        for step in steps {
            let step = step.map_err(OperationError::staging)?;
            // Whoever has lost the lease must not touch the workspace any more.
            if looked.elapsed() >= LEASE_LOOK {
                lease.check()?;
                looked = Instant::now();
            }
            let taken = match self.take(&step.path, &step.action) {
                Err(error)
                    if error.kind() == ErrorKind::NoSpace && self.repository.control().spend_reserve() =>
                {
                    self.take(&step.path, &step.action)
                }
                taken => taken,
            };
            match taken {
                Ok(()) => {}
                Err(error) if is_refusal(&error.source) => {
                    tracing::warn!(path = %step.path, error = %error.source, "a step of a restore is left out");
                    refused += 1;
                    first_refused.get_or_insert(error);
                }
                Err(error) => return Err(error.into()),
            }
            progress.transferred(1);
        }
        Ok(Swapped {
            kept: self.kept,
            losses: self.placer.losses(),
            refused,
            first_refused,
        })
    }

    fn take(&mut self, path: &RelativePath, action: &Action) -> Result<(), PlaceError> {
        let failed = |action| {
            move |source: io::Error| PlaceError {
                path: path.clone(),
                action,
                source,
            }
        };
        match action {
            Action::MakeDirectory => match self.placer.directory(path) {
                Err(error) if error.source.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            },
            Action::Put(number) => {
                let staged = c_name(staged_name(*number).as_bytes()).map_err(failed("put in place"))?;
                let (parent, name) = self.named(path).map_err(failed("put in place"))?;
                match renameat(self.staging, &staged, &*parent, &name) {
                    Ok(()) => {}
                    // It is in its place since the attempt before.
                    Err(Errno::NOENT) if self.again => {}
                    Err(errno) => return Err(failed("put in place")(errno.into())),
                }
            }
            Action::Link(to) => {
                let link = failed("make the hard link");
                self.link(path, to).map_err(link)?;
            }
            Action::Attributes(attributes) => self.placer.attributes(path, attributes, Before::Old)?,
            Action::Unlink => {
                let (parent, name) = match self.named(path) {
                    Ok(named) => named,
                    // What it was in has gone, too.
                    Err(error) if is_gone(&error) => return Ok(()),
                    Err(error) => return Err(failed("remove")(error)),
                };
                match unlinkat(&*parent, &name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    // A directory has taken its place in the attempt before.
                    Err(Errno::ISDIR | Errno::PERM) if self.again => {}
                    Err(errno) => return Err(failed("remove")(errno.into())),
                }
            }
            Action::RemoveDirectory => {
                if !self.remove(path).map_err(failed("remove the directory"))? {
                    self.kept.push(path.clone());
                }
            }
            Action::ClearDirectory => {
                if !self.remove(path).map_err(failed("remove the directory"))? {
                    let aside = self
                        .move_aside(path)
                        .map_err(failed("move the directory aside"))?;
                    self.kept.push(aside);
                }
            }
        }
        Ok(())
    }

    /// Removes a directory; `false` if something is in it.
    fn remove(&mut self, path: &RelativePath) -> io::Result<bool> {
        let (parent, name) = match self.named(path) {
            Ok(named) => named,
            Err(error) if is_gone(&error) => return Ok(true),
            Err(error) => return Err(error),
        };
        match unlinkat(&*parent, &name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(Errno::NOTDIR) if self.again => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn link(&mut self, path: &RelativePath, to: &RelativePath) -> io::Result<()> {
        let (from, first) = self.named(to)?;
        let link = CString::from(c"link");
        match unlinkat(self.staging, &link, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        linkat(&*from, &first, self.staging, &link, AtFlags::empty())?;
        let (parent, name) = self.named(path)?;
        Ok(renameat(self.staging, &link, &*parent, &name)?)
    }

    fn move_aside(&mut self, path: &RelativePath) -> io::Result<RelativePath> {
        let parent_path = path.parent().unwrap_or_default();
        let (parent, name) = self.named(path)?;
        for attempt in 0..1000u32 {
            let mut aside = path.name().to_vec();
            aside.truncate(crate::directory::path::NAME_BYTES_MAX - ASIDE.len() - 4);
            aside.extend_from_slice(ASIDE);
            if attempt > 0 {
                aside.extend_from_slice(attempt.to_string().as_bytes());
            }
            let free = rustix::fs::renameat_with(
                &*parent,
                &name,
                &*parent,
                &c_name(&aside)?,
                rustix::fs::RenameFlags::NOREPLACE,
            );
            match free {
                Ok(()) => return parent_path.join(&aside).map_err(io::Error::other),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a thousand names are taken",
        ))
    }

    /// The directory that `path` is in, and its name there.
    fn named(&mut self, path: &RelativePath) -> io::Result<(Arc<OwnedFd>, CString)> {
        let parent = path.parent().unwrap_or_default();
        let name = c_name(path.name())?;
        if let Some((open, directory)) = &self.open
            && *open == parent
        {
            return Ok((directory.clone(), name));
        }
        let directory = Arc::new(open_directory(self.root.as_fd(), &parent)?);
        self.open = Some((parent, directory.clone()));
        Ok((directory, name))
    }
}
