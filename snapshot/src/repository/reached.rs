//! Repositories whose directories somebody else has opened: a daemon that works for others reaches them from open descriptors, name by name,
//! without following links. No path is resolved here; paths are for messages, and for programs that engines run.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::control::ControlDirectory;
use super::error::RepositoryError;
use super::identity::{self, ControlMode, GoTools, Identity};
use super::layout::CONTROL_NAME;
use super::{Parts, Repository, read_identity};

/// An open directory, and where it is.
#[derive(Debug)]
pub struct Reached {
    /// Open for reading.
    pub directory: OwnedFd,
    /// Its absolute path, without symbolic links.
    pub path: PathBuf,
}

impl Repository {
    /// Who the repository with this control directory is, and where its workspace is. Errors: it is none; it is of the Go tools, or of a
    /// newer Cairn; damage; I/O.
    pub fn look(control: &ControlDirectory) -> Result<(Identity, PathBuf), RepositoryError> {
        let identity = read_identity(control)?;
        let workspace = match &identity.control {
            ControlMode::Inside => control.path().parent().unwrap_or(control.path()).to_owned(),
            ControlMode::Outside { workspace } => {
                PathBuf::from(std::ffi::OsString::from_vec(workspace.clone()))
            }
        };
        Ok((identity, workspace))
    }

    /// Opens the repository with this control directory and this workspace. Errors: as of [`Repository::look`]; the workspace is not the
    /// repository's; workspace and control directory are inside each other.
    pub fn open_reached(
        control: ControlDirectory,
        workspace: Reached,
        parts: Parts,
    ) -> Result<Self, RepositoryError> {
        let (identity, recorded) = Repository::look(&control)?;
        let is_its = match &identity.control {
            ControlMode::Inside => {
                let there = rustix::fs::statat(&workspace.directory, CONTROL_NAME, AtFlags::SYMLINK_NOFOLLOW);
                let own = rustix::fs::fstat(control.as_fd());
                matches!((there, own), (Ok(there), Ok(own))
                    if (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino))
            }
            ControlMode::Outside { .. } => recorded == workspace.path,
        };
        if !is_its {
            return Err(RepositoryError::WorkspaceMissing {
                workspace: recorded,
                control: control.path().to_owned(),
            });
        }
        if identity.control != ControlMode::Inside && identity::overlap(control.path(), &workspace.path) {
            return Err(RepositoryError::Overlap {
                workspace: workspace.path,
                control: control.path().to_owned(),
            });
        }
        Ok(Repository::of(control, identity, workspace, parts))
    }

    /// Puts a directory under version control. The control directory is made in `control`, an open directory, under a name; without it, it is
    /// `.jvs` in the workspace. Durable on return. Errors: as of [`Repository::init`].
    pub fn init_reached(
        workspace: Reached,
        control: Option<(&Reached, &std::ffi::OsStr)>,
        parts: Parts,
    ) -> Result<Self, RepositoryError> {
        let at = workspace.path.clone();
        Repository::init_reached_for(workspace, at, control, parts)
    }

    /// The same for a workspace that will be at `at` once it is complete; with a control directory in it, it is opened anew there.
    pub(crate) fn init_reached_for(
        mut workspace: Reached,
        at: PathBuf,
        control: Option<(&Reached, &std::ffi::OsStr)>,
        parts: Parts,
    ) -> Result<Self, RepositoryError> {
        let inside = workspace.path.join(CONTROL_NAME);
        let there = match rustix::fs::statat(&workspace.directory, CONTROL_NAME, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(FileType::from_raw_mode(stat.st_mode)),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(RepositoryError::io("looking at", &inside, error.into())),
        };
        if there == Some(FileType::RegularFile) {
            return Err(RepositoryError::GoTools { path: inside });
        }
        identity::refuse_nesting(&workspace.path, GoTools::Refused)?;
        let made = match control {
            None => Repository::make_in(workspace.directory.as_fd(), &inside, ControlMode::Inside, &parts)?,
            Some((parent, name)) => {
                workspace.path = at;
                let at = parent.path.join(name);
                if identity::overlap(&at, &workspace.path) {
                    return Err(RepositoryError::Overlap {
                        workspace: workspace.path,
                        control: at,
                    });
                }
                if there.is_some() {
                    let what = "a workspace whose control directory is elsewhere has no .jvs";
                    return Err(RepositoryError::Occupied { path: inside, what });
                }
                let mode = ControlMode::Outside {
                    workspace: workspace.path.as_os_str().as_bytes().to_vec(),
                };
                Repository::make_in(parent.directory.as_fd(), &at, mode, &parts)?
            }
        };
        Repository::open_reached(made, workspace, parts)
    }
}

impl Repository {
    fn of(control: ControlDirectory, identity: Identity, workspace: Reached, parts: Parts) -> Self {
        Repository {
            control: std::sync::Arc::new(control),
            identity,
            workspace: workspace.directory,
            workspace_path: workspace.path,
            parts,
            store: std::sync::OnceLock::new(),
            scratch: std::sync::OnceLock::new(),
        }
    }
}

/// The control directory of a workspace that has one in it. Errors: it is a link, no directory, or cannot be opened.
pub fn control_in(
    workspace: &Reached,
    randomness: std::sync::Arc<dyn cairn_types::Randomness>,
) -> Result<ControlDirectory, RepositoryError> {
    let at: &Path = &workspace.path.join(CONTROL_NAME);
    match ControlDirectory::open_in(workspace.directory.as_fd(), at, randomness) {
        Err(RepositoryError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Err(RepositoryError::NoRepository {
                path: workspace.path.clone(),
            })
        }
        opened => opened,
    }
}

/// The directory that `path` is, or will be, in, and its name there; links on the way are followed. Errors: the directory cannot be opened; nothing for a path
/// without a name.
pub(crate) fn parent_of(path: &Path) -> Result<Option<(Reached, &std::ffi::OsStr)>, RepositoryError> {
    let Some(name) = path.file_name() else {
        return Ok(None);
    };
    let above = match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    let path = super::canonical(above)?;
    let directory = super::open_directory(&path)?;
    Ok(Some((Reached { directory, path }, name)))
}
