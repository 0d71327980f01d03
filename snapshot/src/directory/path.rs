//! Paths below the root of a tree, as bytes: any name that the kernel allows, and no way out of the tree.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Longest name in a directory, in bytes (`NAME_MAX` of Linux).
pub const NAME_BYTES_MAX: usize = 255;
/// Longest path of an entry, in bytes. The kernel's `PATH_MAX` bounds one call, not the depth of a tree; files are reached from their directory.
pub const PATH_BYTES_MAX: usize = 1 << 20;

/// A path below the root of a tree: names with `/` between them; the root itself has no name and is the empty path. Never begins or
/// ends with `/`, and no name is empty, `.` or `..`.
///
/// Paths are ordered as a walk meets them: a directory before what is in it, and everything that is in it before the next name of its own
/// directory. Names are ordered by their bytes.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct RelativePath(Box<[u8]>);

/// Why bytes are no path below the root of a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It would lead elsewhere, or has an empty name.
    #[error("{} is no path inside the tree: write one without a leading /, without .. and without empty names", shown(.path))]
    Outside {
        /// What was given.
        path: Vec<u8>,
    },
    /// A name, or the whole, is too long, or has a NUL.
    #[error("{} is no path: names have 1 to {NAME_BYTES_MAX} bytes without NUL, paths at most {PATH_BYTES_MAX}", shown(.path))]
    Name {
        /// What was given.
        path: Vec<u8>,
    },
}

/// A path as text, at most its first 256 bytes.
fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(&path[..path.len().min(256)]).into_owned()
}

/// Checks one name of `path`.
fn check_name(name: &[u8], path: &[u8]) -> Result<(), PathError> {
    if name.is_empty() || name == b"." || name == b".." {
        return Err(PathError::Outside { path: path.to_vec() });
    }
    if name.len() > NAME_BYTES_MAX || name.contains(&0) {
        return Err(PathError::Name { path: path.to_vec() });
    }
    Ok(())
}

impl RelativePath {
    /// The root of the tree.
    pub fn root() -> Self {
        RelativePath::default()
    }

    /// Checks bytes. Errors: [`PathError`].
    pub fn new(path: &[u8]) -> Result<Self, PathError> {
        if path.len() > PATH_BYTES_MAX {
            return Err(PathError::Name { path: path.to_vec() });
        }
        if !path.is_empty() {
            for name in path.split(|byte| *byte == b'/') {
                check_name(name, path)?;
            }
        }
        Ok(RelativePath(path.into()))
    }

    /// The path of the entry `name` of the directory at this path. Errors: [`PathError`] if `name` is not one name.
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        if name.contains(&b'/') {
            return Err(PathError::Outside { path: name.to_vec() });
        }
        check_name(name, name)?;
        let separator = usize::from(!self.0.is_empty());
        if self.0.len() + separator + name.len() > PATH_BYTES_MAX {
            return Err(PathError::Name {
                path: self.0.to_vec(),
            });
        }
        let mut path = Vec::with_capacity(self.0.len() + separator + name.len());
        path.extend_from_slice(&self.0);
        path.extend_from_slice(&b"/"[..separator]);
        path.extend_from_slice(name);
        Ok(RelativePath(path.into_boxed_slice()))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same for calls that take paths.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The path without its first `skip` bytes, for calls that take paths; `skip` is the length of a directory above, and of its separator.
    pub(super) fn below(&self, skip: usize) -> &Path {
        Path::new(OsStr::from_bytes(self.0.get(skip..).unwrap_or_default()))
    }

    /// Whether it is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The last name; empty for the root.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }

    /// The directory that it is in; nothing for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        Some(RelativePath(self.0[..end].into()))
    }

    /// Names in it: 0 for the root.
    pub fn depth(&self) -> usize {
        match self.is_root() {
            true => 0,
            false => 1 + self.0.iter().filter(|byte| **byte == b'/').count(),
        }
    }

    /// Whether it is `other` or below it.
    pub fn is_within(&self, other: &RelativePath) -> bool {
        other.is_root()
            || self
                .0
                .strip_prefix(&*other.0)
                .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }
}

impl Ord for RelativePath {
    fn cmp(&self, other: &Self) -> Ordering {
        // A separator comes before every byte that a name can have.
        let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
        self.0.iter().map(key).cmp(other.0.iter().map(key))
    }
}

impl PartialOrd for RelativePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for RelativePath {
    /// The path as text; bytes that are no UTF-8 are replaced, the root is `.`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_root() {
            true => f.write_str("."),
            false => f.write_str(&String::from_utf8_lossy(&self.0)),
        }
    }
}

impl fmt::Debug for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", OsStr::from_bytes(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::{PathError, RelativePath};

    fn path(text: &str) -> RelativePath {
        RelativePath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn paths_come_in_the_order_of_a_walk() {
        let mut paths = ["a.b", "a/b", "a", "", "a/b/c", "b", "a/b.c", "a b"].map(path);
        paths.sort();
        let found = paths.map(|path| path.to_string());
        assert_eq!(found, [".", "a", "a/b", "a/b/c", "a/b.c", "a b", "a.b", "b"]);
    }

    #[test]
    fn what_leads_out_of_the_tree_is_refused() {
        for wrong in ["/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b"] {
            let error = RelativePath::new(wrong.as_bytes()).unwrap_err();
            assert!(matches!(error, PathError::Outside { .. }), "{wrong}");
        }
        for wrong in [&b"a\0b"[..], &[b'x'; 256]] {
            assert!(matches!(RelativePath::new(wrong), Err(PathError::Name { .. })));
        }
        assert!(RelativePath::new(b"\xff/...").is_ok());
    }

    #[test]
    fn parts_of_a_path() {
        let deep = path("a/b/c");
        assert_eq!((deep.name(), deep.depth()), (&b"c"[..], 3));
        assert_eq!(deep.parent(), Some(path("a/b")));
        assert_eq!(path("a").parent(), Some(RelativePath::root()));
        assert_eq!(RelativePath::root().parent(), None);
        assert!(
            deep.is_within(&path("a/b")) && deep.is_within(&RelativePath::root()) && deep.is_within(&deep)
        );
        assert!(!path("a/bc").is_within(&path("a/b")));
        assert_eq!(path("a").join(b"b").unwrap(), path("a/b"));
        assert_eq!(RelativePath::root().join(b"b").unwrap(), path("b"));
        assert!(path("a").join(b"b/c").is_err() && path("a").join(b"..").is_err());
    }
}
