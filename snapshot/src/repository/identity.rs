//! Who a repository is, where its control directory and its workspace are, and how they are found. Owns the format version.

use std::io::Read;
use std::path::{Path, PathBuf};

use cairn_types::{Timestamp, hexadecimal};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::control::ControlDirectory;
use super::document::Document;
use super::error::RepositoryError;
use super::layout::{Area, CONTROL_NAME, FORMAT_FILE, FORMAT_VERSION};
use super::text;

/// The identity of a repository: 16 random bytes, shown as 32 lowercase hexadecimal digits. Copies of a repository have the same; forks
/// have their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RepositoryId(pub [u8; 16]);

impl std::fmt::Display for RepositoryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        hexadecimal::write(&self.0, f)
    }
}

impl text::Text for RepositoryId {
    const WHAT: &'static str = "id of a repository: 32 lowercase hexadecimal digits";
    fn to_text(&self) -> Option<String> {
        Some(self.to_string())
    }
    fn from_text(text: &str) -> Option<Self> {
        hexadecimal::parse(text).map(RepositoryId)
    }
}

/// `repository.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The identity.
    #[serde(with = "text")]
    pub id: RepositoryId,
    /// When the repository was made.
    #[serde(with = "text")]
    pub created: Timestamp,
    /// Where the control directory is.
    pub control: ControlMode,
}

/// Where a control directory is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ControlMode {
    /// It is `.jvs` in the workspace: both move together.
    Inside,
    /// It is elsewhere.
    Outside {
        /// The absolute path of the workspace.
        #[serde(with = "text")]
        workspace: Vec<u8>,
    },
}

impl Document for Identity {
    const KIND: &'static str = "repository";

    fn check(&self) -> Result<(), String> {
        match &self.control {
            ControlMode::Outside { workspace } if !workspace.starts_with(b"/") => {
                Err("the path of the workspace is not absolute".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// What is at the place of a control directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Directory,
    Symlink,
    /// The Go tools put a small file there into further workspaces.
    File,
}

fn look(path: &Path) -> Result<Found, RepositoryError> {
    match rustix::fs::statat(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Found::Directory,
            FileType::Symlink => Found::Symlink,
            _ => Found::File,
        }),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(Found::Nothing),
        Err(error) => Err(RepositoryError::io("looking at", path, error.into())),
    }
}

/// What is made of a control directory of the Go tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GoTools {
    /// It is in the way.
    Refused,
    /// It is passed over.
    PassedOver,
}

impl GoTools {
    /// Whether what is at the place `candidate` of a control directory is of the Go tools, and is passed over. Errors: I/O.
    pub fn pass_over(self, candidate: &Path) -> Result<bool, RepositoryError> {
        if self == GoTools::Refused {
            return Ok(false);
        }
        match look(candidate)? {
            Found::File => Ok(true),
            Found::Nothing | Found::Symlink => Ok(false),
            Found::Directory => {
                let path = candidate.join(FORMAT_FILE);
                let mut version = String::new();
                let read =
                    std::fs::File::open(&path).and_then(|file| file.take(64).read_to_string(&mut version));
                Ok(read.is_ok() && version.trim() == "1")
            }
        }
    }
}

/// The nearest control directory in `path` or above it. `path` is absolute and has no symbolic links. Nothing if there is none. Errors: what
/// is found is a symbolic link or a file of the Go tools, or I/O.
pub(super) fn discover(path: &Path) -> Result<Option<PathBuf>, RepositoryError> {
    discover_other(path, GoTools::Refused)
}

/// The same where some are perhaps passed over.
fn discover_other(path: &Path, go_tools: GoTools) -> Result<Option<PathBuf>, RepositoryError> {
    for directory in path.ancestors() {
        let candidate = directory.join(CONTROL_NAME);
        if go_tools.pass_over(&candidate)? {
            continue;
        }
        match look(&candidate)? {
            Found::Nothing => {}
            Found::Directory => return Ok(Some(candidate)),
            Found::Symlink => return Err(RepositoryError::SymlinkedControl { path: candidate }),
            Found::File => return Err(RepositoryError::GoTools { path: candidate }),
        }
    }
    Ok(None)
}

/// Reads the format version of a control directory, and refuses what is not of this version. Errors: it is missing (no repository, or an
/// unfinished one), older, newer, or damaged.
pub(super) fn check_format(control: &ControlDirectory) -> Result<(), RepositoryError> {
    let path = control.path_of(Area::Root, FORMAT_FILE);
    let Some(bytes) = control.read(Area::Root, FORMAT_FILE, 64)? else {
        return Err(RepositoryError::NoRepository {
            path: control.path().to_owned(),
        });
    };
    let number = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.strip_suffix('\n'));
    let number = number.filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    match number.and_then(|number| number.parse::<u32>().ok()) {
        Some(FORMAT_VERSION) => Ok(()),
        Some(1) => Err(RepositoryError::GoTools {
            path: control.path().to_owned(),
        }),
        Some(found) if found > FORMAT_VERSION => Err(RepositoryError::Newer {
            path,
            found,
            supported: FORMAT_VERSION,
        }),
        _ => Err(control.damaged(Area::Root, FORMAT_FILE, "it is no version".to_owned())),
    }
}

/// Refuses a workspace that is inside of another repository's, or has one inside. `control` is where the control directory will be. Errors:
/// [`RepositoryError::Nested`], or what [`discover`] says of what it finds above.
pub(super) fn refuse_nesting(workspace: &Path, go_tools: GoTools) -> Result<(), RepositoryError> {
    let nested = |other: &Path| RepositoryError::Nested {
        path: workspace.to_owned(),
        other: other.to_owned(),
    };
    if let Some(parent) = workspace.parent()
        && let Some(found) = discover_other(parent, go_tools)?
    {
        return Err(nested(found.parent().unwrap_or(&found)));
    }
    // Directories only, by the types that the listing tells: quick also for large trees.
    let mut pending = vec![workspace.to_owned()];
    while let Some(directory) = pending.pop() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match rustix::fs::open(&directory, flags, Mode::empty()) {
            Ok(opened) => opened,
            // Removed or replaced meanwhile; or closed to us: a save will say so.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => continue,
            Err(error) => return Err(RepositoryError::io("opening", &directory, error.into())),
        };
        let failed = |error: Errno| RepositoryError::io("listing", &directory, error.into());
        for entry in rustix::fs::Dir::new(opened).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let path = directory.join(std::os::unix::ffi::OsStrExt::from_bytes(name) as &std::ffi::OsStr);
            let is_directory = match entry.file_type() {
                FileType::Directory => true,
                FileType::Unknown => look(&path)? == Found::Directory,
                _ => false,
            };
            if name == CONTROL_NAME.as_bytes() && directory != workspace {
                // A directory of this name that is no repository harms nobody.
                match path.join(FORMAT_FILE).is_file() || !is_directory {
                    true => return Err(nested(&directory)),
                    false => continue,
                }
            }
            if is_directory && name != CONTROL_NAME.as_bytes() {
                pending.push(path);
            }
        }
    }
    Ok(())
}

/// Whether one of two paths without symbolic links is the other or inside of it.
pub(super) fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}
