//! What is on disk around the snapshots of a plain directory.
//!
//! A *repository* is a *workspace* (the user's directory) and its *control directory*: `.jvs` in the workspace, or a directory
//! elsewhere, out of the reach of what works in the workspace. `docs/formats/repository.md` draws the control directory.
//!
//! - Everything that is JSON is a [`document`] with a checksum. A damaged file is an error that names it and says what to do; it does
//!   not touch the others.
//! - A snapshot exists when its [`descriptor`](Descriptor) does. Descriptors never change; [`Labels`] hold what people change later.
//! - Whoever changes anything holds the [`Lease`], and checks it right before it publishes.
//! - No wall clock and no randomness but those of the [`Parts`].
//!
//! This module does not capture, restore or remove trees.

pub mod audit;
pub mod config;
pub mod control;
pub mod descriptor;
pub mod document;
pub mod error;
pub mod host;
pub mod idempotency;
pub mod identity;
pub mod import_jvs;
pub mod journal;
pub mod labels;
pub mod layout;
pub mod lease;
pub mod reached;
pub mod readers;
pub mod references;
pub mod retention;
pub mod schedule;
pub mod sequences;
pub mod state;
pub mod templates;
pub mod text;
pub mod verified;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cairn_types::{Clock, Randomness, SnapshotId};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

pub use audit::{AuditEntry, AuditEvent, AuditRecord, AuditReport};
pub use config::Config;
pub use control::{ControlDirectory, Creation, Spending, Survival};
pub use descriptor::{
    Counts, DegradedEngine, Descriptor, EngineUse, Loss, Losses, ManifestFile, Origin, Paths, Torn,
};
pub use error::RepositoryError;
pub use host::Host;
pub use idempotency::RequestKey;
pub use identity::{ControlMode, Identity, RepositoryId};
pub use journal::{Intent, JournalFile, JournalRecord, OperationId, Phase};
pub use labels::{Labels, Listing, Pin, Snapshot};
pub use layout::Area;
pub use lease::{Lease, LeaseError, LeaseRecord, LeaseTimes, SystemTicks, Ticks};
pub use reached::Reached;
pub use readers::{Reader, ReaderRecord, Readers};
pub use references::Reference;
pub use state::{AuditAnchor, PartSource, State};
pub use templates::Template;
pub use verified::{Outcome, Verification};

use identity::GoTools;
use layout::{
    CONFIG_FILE, CONTROL_NAME, DOCUMENT_BYTES_MAX, FORMAT_FILE, FORMAT_VERSION, IDENTITY_FILE, RESERVE_FILE,
    STATE_FILE, document_name,
};

/// A file that is not written to its end after so long never will be.
pub const UNFINISHED_AGE: Duration = Duration::from_secs(60 * 60);

/// What a repository works with.
#[derive(Clone)]
pub struct Parts {
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness for names and identities.
    pub randomness: Arc<dyn Randomness>,
    /// Monotonic clock of leases.
    pub ticks: Arc<dyn Ticks>,
    /// This process.
    pub host: Host,
    /// On whose behalf things are done: a user, for people. At most 1,024 bytes.
    pub actor: String,
    /// Times of leases.
    pub lease_times: LeaseTimes,
    /// Where requests to object stores run; `None`: archives cannot be used.
    pub runtime: Option<tokio::runtime::Handle>,
}

/// An open repository.
pub struct Repository {
    control: Arc<ControlDirectory>,
    identity: Identity,
    workspace: OwnedFd,
    workspace_path: PathBuf,
    parts: Parts,
    store: OnceLock<crate::archive::Repository>,
    /// After the store, which works in it: fields are dropped in their order.
    scratch: OnceLock<Scratch>,
}

/// A directory among the temporary files of the machine; removed when it is dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "temporary files cannot be removed");
        }
    }
}

impl Repository {
    /// Puts the directory `workspace` under version control. `control` is where the control directory will be: a directory that does not exist or
    /// is empty, outside of the workspace; nothing: `.jvs` in the workspace. What an interrupted init left is taken over. Durable on return.
    ///
    /// Errors: there is a repository already, of this version or of the Go tools; nested repositories; workspace and control directory inside
    /// each other; a control directory that is a symbolic link or has something in it; I/O.
    pub fn init(workspace: &Path, control: Option<&Path>, parts: Parts) -> Result<Self, RepositoryError> {
        Repository::make(workspace, control, GoTools::Refused, parts)
    }

    /// The same for a workspace of the Go tools, whose control directory may be in it or above it, and stays as it is.
    ///
    /// Errors: those of [`Repository::init`].
    pub fn init_beside_go_tools(
        workspace: &Path,
        control: &Path,
        parts: Parts,
    ) -> Result<Self, RepositoryError> {
        Repository::make(workspace, Some(control), GoTools::PassedOver, parts)
    }

    fn make(
        workspace: &Path,
        control: Option<&Path>,
        go_tools: GoTools,
        parts: Parts,
    ) -> Result<Self, RepositoryError> {
        let workspace = canonical(workspace)?;
        let inside = workspace.join(CONTROL_NAME);
        let at = match control {
            None => inside.clone(),
            Some(control) => {
                let control = future_canonical(control)?;
                if identity::overlap(&control, &workspace) {
                    return Err(RepositoryError::Overlap { workspace, control });
                }
                if inside.symlink_metadata().is_ok() && !go_tools.pass_over(&inside)? {
                    let what = "a workspace whose control directory is elsewhere has no .jvs";
                    return Err(RepositoryError::Occupied { path: inside, what });
                }
                control
            }
        };
        if at.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Err(RepositoryError::GoTools { path: at });
        }
        identity::refuse_nesting(&workspace, go_tools)?;
        let parent = open_directory(at.parent().unwrap_or(&at))?;
        let mode = match control {
            None => ControlMode::Inside,
            Some(_) => ControlMode::Outside {
                workspace: workspace.as_os_str().as_bytes().to_vec(),
            },
        };
        let directory = Repository::make_in(parent.as_fd(), &at, mode, &parts)?;
        Repository::open_at(directory, parts)
    }

    /// Makes the control directory `at`, whose parent is open. Durable on return. Errors: it is no unfinished one; it is a link; I/O.
    fn make_in(
        parent: BorrowedFd<'_>,
        at: &Path,
        mode: ControlMode,
        parts: &Parts,
    ) -> Result<ControlDirectory, RepositoryError> {
        let name = at.file_name().unwrap_or_default();
        let made = match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(RepositoryError::io("making", at, error.into())),
        };
        let directory = ControlDirectory::open_in(parent, at, parts.randomness.clone())?;
        if !made {
            refuse_occupied(&directory)?;
        }
        directory.make_areas()?;
        let identity = Identity {
            id: RepositoryId(directory.random()),
            created: parts.clock.now(),
            control: mode,
        };
        directory.store(Area::Root, IDENTITY_FILE, &identity)?;
        let settings = config::DEFAULT_TEXT.as_bytes();
        directory.replace(Area::Root, CONFIG_FILE, settings, Survival::Durable)?;
        directory.store(Area::Root, STATE_FILE, &State::default())?;
        match rustix::fs::fsync(parent) {
            Ok(()) | Err(Errno::INVAL | Errno::NOSYS) => {}
            Err(error) => {
                let shown = at.parent().unwrap_or(at);
                return Err(RepositoryError::io("syncing", shown, error.into()));
            }
        }
        directory.keep_reserve();
        // Last: what makes it a repository.
        let version = format!("{FORMAT_VERSION}\n");
        directory.replace(Area::Root, FORMAT_FILE, version.as_bytes(), Survival::Durable)?;
        Ok(directory)
    }

    /// Opens the repository that `path` is in: the nearest directory, from `path` upwards, that has a control directory `.jvs`.
    ///
    /// Errors: there is none; it is a symbolic link; it is of the Go tools, or of a newer Cairn; damage; I/O.
    pub fn discover(path: &Path, parts: Parts) -> Result<Self, RepositoryError> {
        let path = canonical(path)?;
        match identity::discover(&path)? {
            Some(control) => Repository::open(&control, parts),
            None => Err(RepositoryError::NoRepository { path }),
        }
    }

    /// Opens the repository with this control directory. Errors: as of [`Repository::discover`]; its workspace is not there; workspace
    /// and control directory are inside each other now.
    pub fn open(control: &Path, parts: Parts) -> Result<Self, RepositoryError> {
        Repository::open_at(ControlDirectory::open(control, parts.randomness.clone())?, parts)
    }

    fn open_at(control: ControlDirectory, parts: Parts) -> Result<Self, RepositoryError> {
        let identity = read_identity(&control)?;
        let at = canonical(control.path())?;
        let missing = |workspace: PathBuf| RepositoryError::WorkspaceMissing {
            workspace,
            control: at.clone(),
        };
        let workspace_path = match &identity.control {
            ControlMode::Inside => at.parent().unwrap_or(&at).to_owned(),
            ControlMode::Outside { workspace } => {
                let recorded = PathBuf::from(std::ffi::OsString::from_vec(workspace.clone()));
                let found = match recorded.canonicalize() {
                    Ok(found) => found,
                    Err(_) => return Err(missing(recorded)),
                };
                if identity::overlap(&found, &at) {
                    return Err(RepositoryError::Overlap {
                        workspace: found,
                        control: at,
                    });
                }
                found
            }
        };
        let workspace = match open_directory(&workspace_path) {
            Ok(workspace) => workspace,
            Err(RepositoryError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Err(missing(workspace_path));
            }
            Err(error) => return Err(error),
        };
        Ok(Repository {
            control: Arc::new(control),
            identity,
            workspace,
            workspace_path,
            parts,
            store: OnceLock::new(),
            scratch: OnceLock::new(),
        })
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What it works with.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Where its object store is kept once it is open.
    pub(crate) fn store_cell(&self) -> &OnceLock<crate::archive::Repository> {
        &self.store
    }

    /// Where caches are kept: in the control directory; if that cannot be written, or has no room, in a directory that goes with this value. Errors: there
    /// is no such directory either.
    pub(crate) fn cache_directory(&self) -> Result<PathBuf, RepositoryError> {
        let own = self.control.path_of(Area::Cache, "");
        if self.control.has_room() {
            return Ok(own);
        }
        if let Some(Scratch(path)) = self.scratch.get() {
            return Ok(path.clone());
        }
        let name = format!(
            "cairn-{}",
            cairn_types::hexadecimal::text(&self.control.random::<16>())
        );
        let path = std::env::temp_dir().join(name);
        rustix::fs::mkdir(&path, Mode::RWXU)
            .map_err(|error| RepositoryError::io("making", &path, error.into()))?;
        let Scratch(path) = self.scratch.get_or_init(|| Scratch(path));
        Ok(path.clone())
    }

    /// Its control directory.
    pub fn control(&self) -> &Arc<ControlDirectory> {
        &self.control
    }

    /// The workspace, as a directory that stays the same whatever happens to its path.
    pub fn workspace(&self) -> BorrowedFd<'_> {
        self.workspace.as_fd()
    }

    /// Where the workspace was when it was opened.
    pub fn workspace_path(&self) -> &Path {
        &self.workspace_path
    }

    /// Whether the control directory is in the workspace, where walks must leave it out.
    pub fn is_inside(&self) -> bool {
        self.identity.control == ControlMode::Inside
    }

    /// Takes the lease, waiting at most `wait` for another holder. The token is higher than any that the state knows. Errors: [`LeaseError`].
    pub fn lease(
        &self,
        operation: &str,
        wait: Duration,
        cancelled: &AtomicBool,
    ) -> Result<Lease, LeaseError> {
        let request = lease::LeaseRequest {
            operation,
            wait,
            host: &self.parts.host,
            now: self.parts.clock.now(),
            times: self.parts.lease_times,
        };
        let lease = Lease::acquire(&self.control, &self.parts.ticks, &request, cancelled)?;
        match self.state() {
            Ok(state) => lease.raise_above(state.fence)?,
            // A damaged state is made again under this very lease.
            Err(error) => tracing::warn!(%error, "the lease is taken without a state to compare it with"),
        }
        self.control.keep_reserve();
        Ok(lease)
    }

    /// Who holds the lease now; nothing if nobody does. Errors: the lease cannot be read.
    pub fn lease_holder(&self) -> Result<Option<LeaseRecord>, RepositoryError> {
        lease::holder(&self.control, &self.parts.host)
    }

    /// The state. Errors: missing, damaged, I/O.
    pub fn state(&self) -> Result<State, RepositoryError> {
        let state = self.control.load(Area::Root, STATE_FILE)?;
        state.ok_or_else(|| {
            self.control
                .damaged(Area::Root, STATE_FILE, "it is missing".to_owned())
        })
    }

    /// Replaces the state; durable on return. Its fence becomes the lease's token, and it notes the end of the audit log. A state that is damaged is
    /// replaced too. Errors: the lease is lost, or the state has a higher token; I/O.
    pub fn set_state(&self, lease: &Lease, state: &State) -> Result<(), RepositoryError> {
        if let Ok(Some(present)) = self.control.load::<State>(Area::Root, STATE_FILE)
            && present.fence > lease.token()
        {
            return Err(RepositoryError::Lease(LeaseError::Lost {
                token: lease.token(),
                found: present.fence,
            }));
        }
        // A log that has lost its end tells less than the state does: that stays known.
        let known = state.audit;
        let last = self.last_audited().unwrap_or_else(|error| {
            tracing::warn!(%error, "the end of the audit log cannot be read");
            None
        });
        let state = State {
            fence: lease.token(),
            audit: last
                .filter(|last| known.is_none_or(|known| known.sequence <= last.sequence))
                .or(known),
            ..state.clone()
        };
        let bytes = document::encode(&state)?;
        self.control
            .replace_if(Area::Root, STATE_FILE, &bytes, Survival::Durable, || {
                Ok(lease.check()?)
            })
    }

    /// The descriptor of a snapshot. Errors: there is none, it is damaged or of a newer Cairn, I/O.
    pub fn descriptor(&self, id: SnapshotId) -> Result<Descriptor, RepositoryError> {
        let name = document_name(&id);
        let descriptor: Option<Descriptor> = self.control.load(Area::Descriptors, &name)?;
        let descriptor = descriptor.ok_or_else(|| RepositoryError::NotFound {
            reference: id.to_string(),
        })?;
        match descriptor.id == id {
            true => Ok(descriptor),
            false => {
                let what = format!("it is the descriptor of snapshot {}", descriptor.id);
                Err(self.control.damaged(Area::Descriptors, &name, what))
            }
        }
    }

    /// Publishes a snapshot: with this it exists, durably. Its data and its manifest must be in place and durable. Errors: the lease is lost, and there is
    /// no such snapshot; there is a snapshot of this id; a value out of its bounds; I/O, after which it may exist or not.
    pub fn publish(&self, lease: &Lease, descriptor: &Descriptor) -> Result<(), RepositoryError> {
        let bytes = document::encode(descriptor)?;
        let name = document_name(&descriptor.id);
        let created = self
            .control
            .create_if(Area::Descriptors, &name, &bytes, Survival::Durable, || {
                Ok(lease.check()?)
            })?;
        if created == Creation::Existed {
            return Err(RepositoryError::SnapshotExists { id: descriptor.id });
        }
        // Who was stopped between the look and the name, for long enough, has published what another one has removed as residue.
        if let Err(lost @ LeaseError::Lost { .. }) = lease.check() {
            self.control.remove(Area::Descriptors, &name)?;
            return Err(lost.into());
        }
        Ok(())
    }

    /// Makes a snapshot one no more: removes its descriptor, durably. Its data is then nobody's. Says whether there was one. Errors: the lease is
    /// lost, and the snapshot is what it was; I/O.
    pub fn unpublish(&self, lease: &Lease, id: SnapshotId) -> Result<bool, RepositoryError> {
        let name = document_name(&id);
        let bytes = self
            .control
            .read(Area::Descriptors, &name, DOCUMENT_BYTES_MAX)
            .ok()
            .flatten();
        lease.check()?;
        let removed = self.control.remove(Area::Descriptors, &name)?;
        if let (Err(lost @ LeaseError::Lost { .. }), Some(bytes)) = (lease.check(), bytes) {
            // Who took over, meanwhile, counts on it; its data is untouched.
            self.control
                .create(Area::Descriptors, &name, &bytes, Survival::Durable)?;
            return Err(lost.into());
        }
        Ok(removed)
    }

    /// The ids of all snapshots, ascending; their descriptors may be damaged. Errors: I/O.
    pub fn snapshot_ids(&self) -> Result<Vec<SnapshotId>, RepositoryError> {
        let names = self.control.list(Area::Descriptors)?;
        let ids = names.iter().filter_map(|name| name.strip_suffix(".json"));
        Ok(ids.filter_map(SnapshotId::parse).collect())
    }

    /// Removes files that were being written when something ended: at once where only the holder of the lease writes, elsewhere when they
    /// are [old](UNFINISHED_AGE). Gives how many. Errors: the lease is lost, I/O.
    pub fn remove_unfinished(&self, lease: &Lease) -> Result<u64, RepositoryError> {
        let mut removed = 0;
        for area in Area::EVERY {
            if area.is_guarded() {
                lease.check()?;
                removed += self.control.remove_unfinished(area)?;
                continue;
            }
            for name in self.control.unfinished(area)? {
                lease.check()?;
                if self.is_left_over(area, &name)? {
                    removed += u64::from(self.control.unlink(area, &name, Survival::Volatile)?);
                }
            }
        }
        Ok(removed)
    }

    /// Whether a file that is being written is so no more. Where others than the holder of the lease write, only its age tells, by the clock of the
    /// file system. Errors: I/O.
    pub(crate) fn is_left_over(&self, area: Area, name: &str) -> Result<bool, RepositoryError> {
        if area.is_guarded() {
            return Ok(true);
        }
        let Some(modified) = self.control.modified(area, name)? else {
            return Ok(false);
        };
        let now = readers::file_system_now(&self.control)?;
        Ok(now.saturating_sub(modified) > UNFINISHED_AGE)
    }

    /// A new id for a snapshot.
    pub fn new_snapshot_id(&self) -> SnapshotId {
        SnapshotId(self.control.random())
    }
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Repository({} at {:?})", self.identity.id, self.control.path())
    }
}

/// Who the repository with this control directory is. Errors: it is none; it is of the Go tools, or of a newer Cairn; damage; I/O.
fn read_identity(control: &ControlDirectory) -> Result<Identity, RepositoryError> {
    identity::check_format(control)?;
    let identity = control.load(Area::Root, IDENTITY_FILE)?;
    identity.ok_or_else(|| control.damaged(Area::Root, IDENTITY_FILE, "it is missing".to_owned()))
}

/// Refuses a directory that is no unfinished control directory: only what an init makes may be in it.
fn refuse_occupied(control: &ControlDirectory) -> Result<(), RepositoryError> {
    match identity::check_format(control) {
        Ok(()) => {
            return Err(RepositoryError::Exists {
                path: control.path().to_owned(),
            });
        }
        Err(RepositoryError::NoRepository { .. }) => {}
        Err(error) => return Err(error),
    }
    let ours = |name: &String| {
        let files = [IDENTITY_FILE, CONFIG_FILE, STATE_FILE, RESERVE_FILE];
        files.contains(&name.as_str()) || Area::ALL.iter().any(|area| area.name() == name)
    };
    match control.list(Area::Root)?.iter().all(ours) {
        true => Ok(()),
        false => Err(RepositoryError::Occupied {
            path: control.path().to_owned(),
            what: "it has something in it that no init makes",
        }),
    }
}

fn canonical(path: &Path) -> Result<PathBuf, RepositoryError> {
    path.canonicalize()
        .map_err(|error| RepositoryError::io("looking for", path, error))
}

/// The path without symbolic links of what need not exist yet; its parent must. The last name itself is not followed.
fn future_canonical(path: &Path) -> Result<PathBuf, RepositoryError> {
    let Some(name) = path.file_name() else {
        return canonical(path);
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    Ok(canonical(parent)?.join(name))
}

fn open_directory(path: &Path) -> Result<OwnedFd, RepositoryError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|error| RepositoryError::io("opening", path, error.into()))
}
