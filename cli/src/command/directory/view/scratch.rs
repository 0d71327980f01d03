//! Where a view keeps what it knows of the packs of object stores: below the user's cache, or, if there is none, in a directory of its own
//! that is gone with it.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use cairn_types::{Randomness, hexadecimal};

/// A directory that is there.
pub(super) struct Scratch {
    path: PathBuf,
    temporary: bool,
}

impl Scratch {
    /// Makes it. Errors: nothing can be made, not even in the directory for temporary files.
    pub fn new(randomness: &dyn Randomness) -> io::Result<Self> {
        let mut private = DirBuilder::new();
        private.mode(0o700);
        if let Some(path) = cache() {
            let made = private.recursive(true).create(&path);
            if made.is_ok() && rustix::fs::access(&path, rustix::fs::Access::WRITE_OK).is_ok() {
                return Ok(Scratch {
                    path,
                    temporary: false,
                });
            }
        }
        let mut digits = [0; 16];
        randomness.fill(&mut digits);
        let name = format!("cairn-view-{}", hexadecimal::text(&digits));
        let path = std::env::temp_dir().join(name);
        // Fails if it exists: nobody else shall have prepared it.
        private.recursive(false).create(&path)?;
        Ok(Scratch {
            path,
            temporary: true,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The user's cache, as the XDG Base Directory Specification has it.
fn cache() -> Option<PathBuf> {
    let absolute = |name: &str| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(base.join("cairn/views"))
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "a cache is left behind");
        }
    }
}
