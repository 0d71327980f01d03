//! Putting a tree on a mount point, and taking it off again.
//!
//! Root mounts by itself; others need the program fusermount3, which Debian has in the package fuse3. What is mounted here is read-only,
//! nosuid and nodev, and permissions are those of the tree: the kernel checks them.
//!
//! A mount that ends while files in it are open is taken out of the sight of others at once; who has them open gets errors when this process ends.

use std::fs::OpenOptions;
use std::io;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use cairn_types::ErrorKind;
use fuser::{BackgroundSession, Config, MountOption, SessionACL};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use crate::filesystem::ReadOnly;
use crate::mounts::{mounted_at, resolved};
use crate::tree::Tree;

/// What every source of a mount of this crate begins with.
pub(crate) const SOURCE_PREFIX: &str = "cairn:";
/// The programs that mount and unmount for those who are not root, the newer first.
const HELPERS: [&str; 2] = ["fusermount3", "fusermount"];
/// How long the threads of a mount that nobody uses are waited for: they end at once.
const FINISH_MAX: Duration = Duration::from_secs(30);
/// Most threads that answer requests.
pub const THREADS_MAX: usize = 256;

/// How a tree is mounted.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// What is mounted, for mount(8): letters, digits, `-`, `_` and `.`; what else is in it is left out.
    pub name: String,
    /// Others than the user who mounts may look at it. Permissions count all the same.
    pub allow_other: bool,
    /// Threads that answer requests: so many files are read at once. 1 to [`THREADS_MAX`].
    pub threads: usize,
}

/// Why a tree cannot be mounted, or not be taken off.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The mount point is not there.
    #[error("{} cannot be mounted on", path.display())]
    MountPoint {
        /// The mount point.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The mount point is no directory.
    #[error("{} cannot be mounted on: it is no directory", path.display())]
    NotADirectory {
        /// The mount point.
        path: PathBuf,
    },
    /// The mount point has something in it, which could not be seen any more.
    #[error("{} cannot be mounted on: it is not empty", path.display())]
    NotEmpty {
        /// The mount point.
        path: PathBuf,
    },
    /// A view whose process has ended is still mounted there.
    #[error("{} has a mount on it whose process has ended", path.display())]
    Dead {
        /// The mount point.
        path: PathBuf,
    },
    /// The kernel has no FUSE, or this process may not use it.
    #[error(
        "/dev/fuse cannot be opened: the kernel module is not loaded, or a container was started without the device"
    )]
    NoDevice(#[source] io::Error),
    /// Only root can mount without the helper.
    #[error("fusermount3 is missing, which mounts for users other than root: install the package fuse3")]
    NoHelper,
    /// The kernel or the helper says no.
    #[error("{} cannot be mounted on: {message}", path.display())]
    Refused {
        /// The mount point.
        path: PathBuf,
        /// Why, in their words.
        message: String,
    },
    /// Nothing of ours is mounted there.
    #[error("no snapshot is mounted on {}", path.display())]
    NotMounted {
        /// The mount point.
        path: PathBuf,
    },
    /// Somebody has files open in it, or stands in it.
    #[error("{} is in use", path.display())]
    Busy {
        /// The mount point.
        path: PathBuf,
    },
}

impl MountError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            MountError::MountPoint { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                _ => ErrorKind::Unavailable,
            },
            MountError::NotADirectory { .. } => ErrorKind::Invalid,
            MountError::NotEmpty { .. } | MountError::Dead { .. } | MountError::Busy { .. } => {
                ErrorKind::Conflict
            }
            MountError::NoDevice(_) | MountError::NoHelper => ErrorKind::Unavailable,
            MountError::Refused { .. } => ErrorKind::Denied,
            MountError::NotMounted { .. } => ErrorKind::NotFound,
        }
    }
}

/// How a mount was taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmounted {
    /// Nobody used it.
    Clean,
    /// Somebody had files open in it; they get errors once this process has ended.
    InUse,
}

/// A mounted tree. Taken off when it is dropped.
#[derive(Debug)]
pub struct Mount {
    session: Option<BackgroundSession>,
    /// Hears of the end of all threads.
    finished: Receiver<()>,
    mount_point: PathBuf,
}

/// Mounts a tree. On return it can be used. `ended` is called once, when the mount has ended: by [`Mount::unmount`], or because somebody
/// else has taken it off; from a thread of the mount, which must not be waited for there.
///
/// # Errors
/// All of [`MountError`] but `NotMounted` and `Busy`.
pub fn mount<T: Tree>(
    tree: Arc<T>,
    mount_point: &Path,
    options: &MountOptions,
    ended: Box<dyn FnOnce() + Send + Sync>,
) -> Result<Mount, MountError> {
    let mount_point = check(mount_point)?;
    let named = |byte: &char| byte.is_ascii_alphanumeric() || matches!(byte, '-' | '_' | '.');
    let name: String = options.name.chars().filter(named).collect();
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::RO,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::NoAtime,
        MountOption::DefaultPermissions,
        MountOption::FSName(format!("{SOURCE_PREFIX}{name}")),
        MountOption::Subtype("cairn".to_owned()),
    ];
    config.acl = match options.allow_other {
        true => SessionACL::All,
        false => SessionACL::Owner,
    };
    config.n_threads = Some(options.threads.clamp(1, THREADS_MAX));
    config.clone_fd = true;
    let (finish, finished) = sync_channel(1);
    let ended = Box::new(move || {
        // The mount may have been let go of.
        let _ = finish.try_send(());
        ended();
    });
    let mounted = fuser::spawn_mount(ReadOnly::new(tree, ended), &mount_point, &config);
    match mounted {
        Ok(session) => Ok(Mount {
            session: Some(session),
            finished,
            mount_point,
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound && helper().is_none() => {
            Err(MountError::NoHelper)
        }
        Err(error) => Err(MountError::Refused {
            path: mount_point,
            message: error.to_string().trim().to_owned(),
        }),
    }
}

/// Looks whether a tree can be mounted there: on an empty directory that is no dead mount, where there is FUSE. Gives its path without symbolic links.
///
/// # Errors
/// `MountPoint`, `NotADirectory`, `NotEmpty`, `Dead`, `NoDevice`.
pub fn check(mount_point: &Path) -> Result<PathBuf, MountError> {
    let failed = |source: io::Error| match source.raw_os_error() {
        Some(code) if code == Errno::ENOTCONN as i32 => MountError::Dead {
            path: mount_point.to_owned(),
        },
        _ => MountError::MountPoint {
            path: mount_point.to_owned(),
            source,
        },
    };
    let path = mount_point.canonicalize().map_err(failed)?;
    if !path.metadata().map_err(failed)?.is_dir() {
        return Err(MountError::NotADirectory { path });
    }
    match path.read_dir().map_err(failed)?.next() {
        None => {}
        Some(_) => return Err(MountError::NotEmpty { path }),
    }
    // The errors of what follows would not tell.
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    device.map(|_| path).map_err(MountError::NoDevice)
}

impl Mount {
    /// Where it is mounted: without symbolic links.
    pub fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    /// Takes it off, and waits for its threads if nobody uses it.
    ///
    /// # Errors
    /// `Refused`: it is still mounted.
    pub fn unmount(mut self) -> Result<Unmounted, MountError> {
        let Some(session) = self.session.take() else {
            return Ok(Unmounted::Clean);
        };
        self.take_off(session)
    }

    /// The session is never dropped: its own end would unmount whatever is mounted on the mount point by then, once more. What that costs is a
    /// descriptor, until the process ends.
    fn take_off(&self, session: BackgroundSession) -> Result<Unmounted, MountError> {
        let session = ManuallyDrop::new(session);
        if session.guard.is_finished() {
            // Somebody has taken it off.
            return Ok(Unmounted::Clean);
        }
        match detach(&self.mount_point, MntFlags::empty()) {
            // Nothing is mounted there any more: it is on its way.
            Ok(()) | Err(Stop::NotMounted) => {
                if self.finished.recv_timeout(FINISH_MAX).is_err() {
                    tracing::warn!("the threads of a mount take long to end");
                }
                Ok(Unmounted::Clean)
            }
            // Its threads serve who has files open, until the process ends.
            Err(Stop::Busy) => match detach(&self.mount_point, MntFlags::MNT_DETACH) {
                Ok(()) | Err(Stop::NotMounted) => Ok(Unmounted::InUse),
                Err(stop) => Err(stop.told(&self.mount_point)),
            },
            Err(stop) => Err(stop.told(&self.mount_point)),
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && let Err(error) = self.take_off(session)
        {
            tracing::error!(%error, "a mount is left behind");
        }
    }
}

/// Takes off what is mounted on a path by this crate, by whatever process; that one then ends. Also of a process that has ended without doing so.
///
/// # Errors
/// `MountPoint`: there is no such path; `NotMounted`; `Busy`; `NoHelper`; `Refused`.
pub fn unmount(mount_point: &Path) -> Result<PathBuf, MountError> {
    let failed = |source| MountError::MountPoint {
        path: mount_point.to_owned(),
        source,
    };
    let mut path = resolved(mount_point).map_err(failed)?;
    let mut mounted = mounted_at(&path).map_err(failed)?;
    if mounted.is_none()
        && let Ok(followed) = path.canonicalize()
        && followed != path
    {
        // A symbolic link to it.
        mounted = mounted_at(&followed).map_err(failed)?;
        path = followed;
    }
    match mounted {
        Some(mounted) if mounted.is_ours() => {}
        Some(_) => return Err(MountError::NotMounted { path }),
        None if path
            .symlink_metadata()
            .is_err_and(|error| error.kind() == io::ErrorKind::NotFound) =>
        {
            return Err(failed(io::ErrorKind::NotFound.into()));
        }
        None => return Err(MountError::NotMounted { path }),
    }
    match detach(&path, MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => Ok(path),
        Err(stop) => Err(stop.told(&path)),
    }
}

/// Why something is still mounted.
enum Stop {
    NotMounted,
    Busy,
    NoHelper,
    Other(String),
}

impl Stop {
    fn told(self, path: &Path) -> MountError {
        let path = path.to_owned();
        match self {
            Stop::NotMounted => MountError::NotMounted { path },
            Stop::Busy => MountError::Busy { path },
            Stop::NoHelper => MountError::NoHelper,
            Stop::Other(message) => MountError::Refused { path, message },
        }
    }
}

/// umount2(2), or the helper for those who may not.
fn detach(path: &Path, flags: MntFlags) -> Result<(), Stop> {
    match umount2(path, flags) {
        Ok(()) => Ok(()),
        Err(Errno::EBUSY) => Err(Stop::Busy),
        Err(Errno::EINVAL | Errno::ENOENT) => Err(Stop::NotMounted),
        Err(Errno::EPERM) => detach_by_helper(path, flags.contains(MntFlags::MNT_DETACH)),
        Err(error) => Err(Stop::Other(error.to_string())),
    }
}

fn detach_by_helper(path: &Path, lazily: bool) -> Result<(), Stop> {
    let helper = helper().ok_or(Stop::NoHelper)?;
    let mut command = Command::new(helper);
    command.arg("-u");
    if lazily {
        command.arg("-z");
    }
    let output = command
        .arg("--")
        .arg(path)
        .stdin(Stdio::null())
        .env("LC_ALL", "C")
        .output()
        .map_err(|error| Stop::Other(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match told {
        told if told.contains("busy") => Err(Stop::Busy),
        told if told.contains("not found in /etc/mtab") => Err(Stop::NotMounted),
        told => Err(Stop::Other(told)),
    }
}

/// The helper, if there is one in PATH.
fn helper() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    HELPERS.iter().find_map(|helper| {
        std::env::split_paths(&path)
            .map(|directory| directory.join(helper))
            .find(|program| program.is_file())
    })
}
