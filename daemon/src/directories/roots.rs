//! Where the daemon may touch plain directories: below the roots of its configuration, and nowhere else.
//!
//! Everything is reached from an open descriptor of a root, name by name, and no symbolic link is followed: who can rename things below a
//! root cannot lead the daemon out of it. The path of a root itself is the administrator's: links in it are followed.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use cairn_snapshot::directory::RelativePath;
use cairn_snapshot::directory::beneath;
use cairn_snapshot::repository::{Reached, RepositoryError};
use rustix::fs::{Mode, OFlags};

use super::DirectoriesError;

/// The roots.
#[derive(Debug, Clone, Default)]
pub struct Roots {
    roots: Vec<PathBuf>,
}

impl Roots {
    /// These; absolute paths.
    pub fn new(roots: Vec<PathBuf>) -> Self {
        Roots { roots }
    }

    /// Opens the directory at an absolute path. Errors: `NotAllowed`: it is below no root, is written with `.` or `..`, or a symbolic
    /// link is on the way; it is not there; the operating system refuses it.
    pub fn reach(&self, path: &Path) -> Result<Reached, DirectoriesError> {
        let (root, below) = self.root_of(path)?;
        let failed = |path: &Path, error: std::io::Error| {
            match error.raw_os_error() {
            Some(code) if code == rustix::io::Errno::LOOP.raw_os_error() => self.not_allowed(
                path,
                "a symbolic link is on the way, and none is followed: name the directory by its real path",
            ),
            Some(code) if code == rustix::io::Errno::NOTDIR.raw_os_error() => self.not_allowed(
                path,
                "something on the way is no directory, or a symbolic link, and none is followed: name the directory by its real path",
            ),
            _ => RepositoryError::io("opening", path, error).into(),
        }
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened: OwnedFd =
            rustix::fs::open(&root, flags, Mode::empty()).map_err(|error| failed(&root, error.into()))?;
        let relative = RelativePath::new(below.as_os_str().as_bytes())
            .map_err(|_| self.not_allowed(path, "it is no path of names"))?;
        let directory = beneath::open_directory(&opened, &relative).map_err(|error| failed(path, error))?;
        Ok(Reached {
            directory,
            path: match below.as_os_str().is_empty() {
                true => root,
                false => root.join(below),
            },
        })
    }

    /// Opens the directory that a path is, or will be, in. Gives also its name there. Errors: as of [`Roots::reach`]; it has no name.
    pub fn reach_parent<'p>(&self, path: &'p Path) -> Result<(Reached, &'p OsStr), DirectoriesError> {
        // A root has no parent that may be touched.
        let (_, below) = self.root_of(path)?;
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) if !below.as_os_str().is_empty() => Ok((self.reach(parent)?, name)),
            _ => Err(self.not_allowed(path, "it is itself a root of the daemon's configuration")),
        }
    }

    /// The root that a path is below, with its links followed, and the rest of the path.
    fn root_of(&self, path: &Path) -> Result<(PathBuf, PathBuf), DirectoriesError> {
        let plain = |component: Component<'_>| matches!(component, Component::RootDir | Component::Normal(_));
        let whole: PathBuf = path.components().collect();
        // `components` leaves out single dots: they would hide in a path that is not what it says.
        if !path.is_absolute() || !path.components().all(plain) || whole.as_os_str() != trimmed(path) {
            return Err(self.not_allowed(
                path,
                "give an absolute path without . and .. and without doubled slashes",
            ));
        }
        let mut found: Option<(PathBuf, PathBuf)> = None;
        for root in &self.roots {
            let real = root.canonicalize().unwrap_or_else(|_| root.clone());
            for prefix in [root, &real] {
                let Ok(below) = whole.strip_prefix(prefix) else {
                    continue;
                };
                let is_nearer = found
                    .as_ref()
                    .is_none_or(|(_, other)| below.as_os_str().len() < other.as_os_str().len());
                if is_nearer {
                    found = Some((real.clone(), below.to_owned()));
                }
            }
        }
        found.ok_or_else(|| {
            self.not_allowed(
                path,
                "it is below none of the roots of the daemon's configuration",
            )
        })
    }

    fn not_allowed(&self, path: &Path, what: &'static str) -> DirectoriesError {
        DirectoriesError::NotAllowed {
            path: path.to_owned(),
            what,
            roots: self.roots.clone(),
        }
    }
}

/// A path without slashes at its end.
fn trimmed(path: &Path) -> &OsStr {
    let bytes = path.as_os_str().as_bytes();
    let end = bytes
        .iter()
        .rposition(|byte| *byte != b'/')
        .map_or(1, |last| last + 1);
    OsStr::from_bytes(&bytes[..end.min(bytes.len())])
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::Roots;
    use crate::directories::DirectoriesError;

    fn refused(roots: &Roots, path: impl AsRef<Path>) -> &'static str {
        match roots.reach(path.as_ref()) {
            Err(DirectoriesError::NotAllowed { what, .. }) => what,
            other => panic!("{:?}: {other:?}", path.as_ref()),
        }
    }

    #[test]
    fn nothing_leads_out_of_a_root() {
        let site = tempfile::tempdir().unwrap();
        let at = site.path().canonicalize().unwrap();
        for directory in ["root/a/b", "outside/c", "root2"] {
            std::fs::create_dir_all(at.join(directory)).unwrap();
        }
        symlink(at.join("outside"), at.join("root/link")).unwrap();
        symlink("a", at.join("root/inner")).unwrap();
        let roots = Roots::new(vec![at.join("root")]);
        assert_eq!(
            roots.reach(&at.join("root/a/b")).unwrap().path,
            at.join("root/a/b")
        );
        assert_eq!(roots.reach(&at.join("root")).unwrap().path, at.join("root"));
        assert_eq!(roots.reach(&at.join("root/a/")).unwrap().path, at.join("root/a"));
        for path in ["outside", "outside/c", "root2", ""] {
            assert!(refused(&roots, at.join(path)).contains("below none"), "{path}");
        }
        for path in ["root/link", "root/link/c", "root/inner", "root/inner/b"] {
            assert!(refused(&roots, at.join(path)).contains("symbolic link"), "{path}");
        }
        for path in ["root/a/../../outside", "root/./a", "root//a"] {
            let path = format!("{}/{path}", at.display());
            assert!(refused(&roots, path).contains("absolute path"));
        }
        assert!(refused(&roots, "a").contains("absolute path"));
        assert!(matches!(
            roots.reach(&at.join("root/none")),
            Err(DirectoriesError::Repository(_))
        ));
        assert!(refused(&Roots::default(), &at).contains("below none"));
    }

    #[test]
    fn a_root_that_is_a_link_is_where_it_leads() {
        let site = tempfile::tempdir().unwrap();
        let at = site.path().canonicalize().unwrap();
        std::fs::create_dir_all(at.join("real/a")).unwrap();
        symlink(at.join("real"), at.join("root")).unwrap();
        let roots = Roots::new(vec![at.join("root")]);
        for given in ["root/a", "real/a"] {
            assert_eq!(roots.reach(&at.join(given)).unwrap().path, at.join("real/a"));
        }
        let new = at.join("root/a/new");
        let (parent, name) = roots.reach_parent(&new).unwrap();
        assert_eq!((parent.path, name.to_str()), (at.join("real/a"), Some("new")));
        assert!(roots.reach_parent(&at.join("root")).is_err());
    }
}
