//! Where the project's sources are, found when a program runs. What was compiled in would name another checkout as soon as
//! two of them share a target directory.

use std::io;
use std::path::{Path, PathBuf};

/// A file that only the project's root has below it.
const MARK: &str = "e2e/guest/build";

/// The project's root: above the package that cargo runs, or else above the current directory.
///
/// # Errors
/// `NotFound` if neither lies in the project.
pub fn directory() -> io::Result<PathBuf> {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let starts = package.into_iter().chain([std::env::current_dir()?]);
    for start in starts {
        if let Some(root) = start.ancestors().find(|path| is_root(path)) {
            return Ok(root.to_path_buf());
        }
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        format!("no directory above this one has {MARK}: run this in the project's checkout"),
    ))
}

fn is_root(path: &Path) -> bool {
    path.join(MARK).is_file()
}
