//! The repositories that the daemon looks after: by identity, and by path. Each is opened anew for every piece of work, from the roots,
//! so that one that was away and came back is used again; how it was found last is its [`Condition`].

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_snapshot::repository::reached::control_in;
use cairn_snapshot::repository::{
    ControlDirectory, Parts, Reached, Repository, RepositoryError, RepositoryId,
};
use cairn_types::{ErrorKind, Timestamp};
use parking_lot::{Mutex, RwLock};

use super::DirectoriesError;
use super::records::{Records, Registration};
use super::requests::RegisterRequest;
use super::roots::Roots;
use crate::assembly::with_causes;

/// Most repositories that a daemon looks after.
pub const REGISTERED_MAX: usize = 1024;

/// How a repository was found last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It can be used.
    Ready,
    /// It, or its control directory, is not there.
    Missing(String),
    /// It is there, and cannot be used.
    Unusable(String),
}

/// A repository that the daemon looks after.
#[derive(Debug)]
pub struct Registered {
    /// Its identity.
    pub id: RepositoryId,
    /// Its workspace.
    pub workspace: PathBuf,
    /// Its control directory.
    pub control: PathBuf,
    /// Since when.
    pub since: Timestamp,
    condition: Mutex<Condition>,
}

/// What came of a request to look after a directory.
#[derive(Debug, Clone)]
pub struct Registering {
    /// The repository.
    pub directory: Arc<Registered>,
    /// It was not registered before.
    pub registered: bool,
    /// It was not under version control before.
    pub initialized: bool,
}

/// A repository as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryRef {
    /// By its identity.
    Repository(RepositoryId),
    /// By its workspace, or a path below it.
    Path(PathBuf),
}

impl std::fmt::Display for DirectoryRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DirectoryRef::Repository(id) => id.fmt(f),
            DirectoryRef::Path(path) => path.display().fmt(f),
        }
    }
}

impl Registered {
    fn of(registration: &Registration) -> Self {
        let path = |bytes: &Vec<u8>| PathBuf::from(OsString::from_vec(bytes.clone()));
        Registered {
            id: registration.repository,
            workspace: path(&registration.workspace),
            control: path(&registration.control),
            since: registration.registered,
            condition: Mutex::new(Condition::Ready),
        }
    }

    fn registration(&self) -> Registration {
        Registration {
            repository: self.id,
            workspace: self.workspace.as_os_str().as_bytes().to_vec(),
            control: self.control.as_os_str().as_bytes().to_vec(),
            registered: self.since,
        }
    }

    /// How it was found last.
    pub fn condition(&self) -> Condition {
        self.condition.lock().clone()
    }

    /// Opens it. Errors: it is not there, or cannot be used; another repository is there. How it was found is remembered.
    pub fn open(&self, roots: &Roots, parts: Parts) -> Result<Repository, DirectoriesError> {
        let opened = self.reach(roots, parts);
        let condition = match &opened {
            Ok(_) => Condition::Ready,
            Err(error) if error.kind() == ErrorKind::NotFound => Condition::Missing(with_causes(error)),
            Err(error) => Condition::Unusable(with_causes(error)),
        };
        let mut found = self.condition.lock();
        if *found != condition {
            match &condition {
                Condition::Ready => {
                    tracing::info!(directory = %self.workspace.display(), "a directory can be used again")
                }
                Condition::Missing(error) | Condition::Unusable(error) => {
                    tracing::warn!(directory = %self.workspace.display(), error, "a directory cannot be used");
                }
            }
            *found = condition;
        }
        opened
    }

    fn reach(&self, roots: &Roots, parts: Parts) -> Result<Repository, DirectoriesError> {
        let gone = |error: DirectoriesError| match error {
            DirectoriesError::Repository(RepositoryError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                RepositoryError::WorkspaceMissing {
                    workspace: self.workspace.clone(),
                    control: self.control.clone(),
                }
                .into()
            }
            error => error,
        };
        let workspace = roots.reach(&self.workspace).map_err(gone)?;
        let control = roots.reach(&self.control).map_err(gone)?;
        let control = ControlDirectory::of(control.directory, &control.path, parts.randomness.clone());
        let repository = Repository::open_reached(control, workspace, parts)?;
        match repository.identity().id == self.id {
            true => Ok(repository),
            false => Err(RepositoryError::WorkspaceMissing {
                workspace: self.workspace.clone(),
                control: self.control.clone(),
            }
            .into()),
        }
    }
}

/// All of them.
#[derive(Debug)]
pub struct RegisteredSet {
    records: Arc<Records>,
    all: RwLock<HashMap<RepositoryId, Arc<Registered>>>,
    /// Held while one is added or removed.
    changing: Mutex<()>,
}

impl RegisteredSet {
    /// Those that were registered before. Errors: the records cannot be listed.
    pub fn load(records: Arc<Records>) -> Result<Self, DirectoriesError> {
        let all = records.all::<Registration>()?;
        let all = all
            .iter()
            .map(|registration| (registration.repository, Arc::new(Registered::of(registration))));
        Ok(RegisteredSet {
            all: RwLock::new(all.collect()),
            changing: Mutex::new(()),
            records,
        })
    }

    /// All, by path.
    pub fn list(&self) -> Vec<Arc<Registered>> {
        let mut all: Vec<Arc<Registered>> = self.all.read().values().cloned().collect();
        all.sort_by(|one, other| one.workspace.cmp(&other.workspace));
        all
    }

    /// One by its identity.
    pub fn get(&self, id: RepositoryId) -> Option<Arc<Registered>> {
        self.all.read().get(&id).cloned()
    }

    /// The one that is asked for; by path, the nearest at or above it. Errors: `NotRegistered`.
    pub fn find(&self, asked: &DirectoryRef) -> Result<Arc<Registered>, DirectoriesError> {
        let found = match asked {
            DirectoryRef::Repository(id) => self.get(*id),
            DirectoryRef::Path(path) => {
                let all = self.all.read();
                let above = all
                    .values()
                    .filter(|registered| path.starts_with(&registered.workspace));
                above
                    .max_by_key(|registered| registered.workspace.as_os_str().len())
                    .cloned()
            }
        };
        found.ok_or_else(|| DirectoriesError::NotRegistered {
            asked: asked.to_string(),
        })
    }

    /// Looks after a directory from now on; durable on return. Errors: it may not be touched; it is no repository and shall not become one;
    /// its repository is registered with other directories; too many are registered; I/O.
    pub fn register(
        &self,
        request: &RegisterRequest,
        roots: &Roots,
        parts: &Parts,
    ) -> Result<Registering, DirectoriesError> {
        let _changing = self.changing.lock();
        let (repository, initialized) = reach(request, roots, parts)?;
        let directory = Registered {
            id: repository.identity().id,
            workspace: repository.workspace_path().to_owned(),
            control: repository.control().path().to_owned(),
            since: parts.clock.now(),
            condition: Mutex::new(Condition::Ready),
        };
        if let Some(present) = self.get(directory.id) {
            let is_same =
                (&present.workspace, &present.control) == (&directory.workspace, &directory.control);
            // What has been moved is not there any more; what was copied is there twice.
            if !is_same && present.open(roots, parts.clone()).is_ok() {
                return Err(DirectoriesError::Registered {
                    repository: present.id,
                    path: present.workspace.clone(),
                });
            }
            if is_same {
                return Ok(Registering {
                    directory: present,
                    registered: false,
                    initialized,
                });
            }
        } else if self.all.read().len() >= REGISTERED_MAX {
            return Err(DirectoriesError::TooMany {
                limit: REGISTERED_MAX,
            });
        }
        self.records.store(&directory.registration())?;
        let directory = Arc::new(directory);
        self.all.write().insert(directory.id, Arc::clone(&directory));
        tracing::info!(repository = %directory.id, directory = %directory.workspace.display(), "looking after a directory");
        Ok(Registering {
            directory,
            registered: true,
            initialized,
        })
    }

    /// Looks after it no more; durable on return. Errors: I/O.
    pub fn unregister(&self, directory: &Registered) -> Result<(), DirectoriesError> {
        let _changing = self.changing.lock();
        self.records.remove::<Registration>(&directory.id.to_string())?;
        self.all.write().remove(&directory.id);
        tracing::info!(repository = %directory.id, directory = %directory.workspace.display(), "not looking after a directory any more");
        Ok(())
    }
}

/// Opens the repository that a request names, or makes it; says whether it was made.
fn reach(
    request: &RegisterRequest,
    roots: &Roots,
    parts: &Parts,
) -> Result<(Repository, bool), DirectoriesError> {
    let randomness = parts.randomness.clone();
    match (&request.workspace, &request.control) {
        (None, None) => Err(DirectoriesError::Invalid {
            what: "neither a workspace nor a control directory is given".to_owned(),
        }),
        (Some(workspace), None) => {
            let workspace = roots.reach(workspace)?;
            match control_in(&workspace, randomness) {
                Ok(control) => match Repository::look(&control) {
                    // What an interrupted init has left is no repository yet.
                    Err(RepositoryError::NoRepository { .. }) if request.init => init(workspace, None, parts),
                    _ => Ok((
                        Repository::open_reached(control, workspace, parts.clone())?,
                        false,
                    )),
                },
                Err(RepositoryError::NoRepository { .. }) if request.init => init(workspace, None, parts),
                Err(error) => Err(error.into()),
            }
        }
        (workspace, Some(control)) => {
            let reached = match roots.reach(control) {
                Ok(reached) => Some(reached),
                Err(DirectoriesError::Repository(RepositoryError::Io { source, .. }))
                    if request.init && source.kind() == std::io::ErrorKind::NotFound =>
                {
                    None
                }
                Err(error) => return Err(error),
            };
            if let Some(reached) = reached {
                let control = ControlDirectory::of(reached.directory, &reached.path, randomness);
                match (Repository::look(&control), workspace) {
                    (Ok((_, recorded)), workspace) => {
                        let found = roots.reach(&recorded)?;
                        if let Some(workspace) = workspace
                            && roots.reach(workspace)?.path != found.path
                        {
                            return Err(RepositoryError::Occupied {
                                path: control.path().to_owned(),
                                what: "it is the control directory of another workspace",
                            }
                            .into());
                        }
                        return Ok((Repository::open_reached(control, found, parts.clone())?, false));
                    }
                    (Err(RepositoryError::NoRepository { .. }), Some(_)) if request.init => {}
                    (Err(error), _) => return Err(error.into()),
                }
            }
            let Some(workspace) = workspace else {
                return Err(RepositoryError::NoRepository {
                    path: control.clone(),
                }
                .into());
            };
            init(roots.reach(workspace)?, Some((control, roots)), parts)
        }
    }
}

fn init(
    workspace: Reached,
    control: Option<(&Path, &Roots)>,
    parts: &Parts,
) -> Result<(Repository, bool), DirectoriesError> {
    let made = match control {
        None => Repository::init_reached(workspace, None, parts.clone())?,
        Some((control, roots)) => {
            let (parent, name) = roots.reach_parent(control)?;
            Repository::init_reached(workspace, Some((&parent, name)), parts.clone())?
        }
    };
    Ok((made, true))
}
