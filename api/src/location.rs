//! Where a daemon is found when nobody says: one answer for the daemon and for its clients.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The socket's name in the data directory.
pub const SOCKET_NAME: &str = "cairnd.sock";
/// The data directory of a daemon that root runs.
pub const SYSTEM_DATA_DIRECTORY: &str = "/var/lib/cairn";

/// What the default data directory depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Whether the effective user is root.
    pub root: bool,
    /// The environment variable `XDG_DATA_HOME`.
    pub xdg_data_home: Option<OsString>,
    /// The environment variable `HOME`.
    pub home: Option<OsString>,
}

/// The data directory if none is given: [`SYSTEM_DATA_DIRECTORY`] for root; for others `$XDG_DATA_HOME/cairn`, which
/// without that variable is `$HOME/.local/share/cairn` (XDG Base Directory Specification, which also has relative values
/// ignored). `None` if neither variable helps.
pub fn default_data_directory(surroundings: &Surroundings) -> Option<PathBuf> {
    if surroundings.root {
        return Some(SYSTEM_DATA_DIRECTORY.into());
    }
    let absolute = |value: &Option<OsString>| {
        value
            .as_ref()
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute(&surroundings.xdg_data_home)
        .or_else(|| absolute(&surroundings.home).map(|home| home.join(".local/share")))
        .map(|base| base.join("cairn"))
}

/// The socket of the daemon that uses a data directory, if its configuration does not move it.
pub fn default_socket(data_directory: &Path) -> PathBuf {
    data_directory.join(SOCKET_NAME)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Surroundings, default_data_directory, default_socket};

    fn user(xdg_data_home: &str, home: &str) -> Surroundings {
        let value = |text: &str| (!text.is_empty()).then(|| text.into());
        Surroundings {
            root: false,
            xdg_data_home: value(xdg_data_home),
            home: value(home),
        }
    }

    #[test]
    fn the_default_follows_the_user() {
        let root = Surroundings {
            root: true,
            ..user("/xdg", "/home/u")
        };
        assert_eq!(
            default_data_directory(&root).as_deref(),
            Some(Path::new("/var/lib/cairn"))
        );
        let cases = [
            (user("/xdg", "/home/u"), Some("/xdg/cairn")),
            (user("", "/home/u"), Some("/home/u/.local/share/cairn")),
            (user("relative", "/home/u"), Some("/home/u/.local/share/cairn")),
            (user("", ""), None),
        ];
        for (surroundings, expected) in cases {
            assert_eq!(
                default_data_directory(&surroundings).as_deref(),
                expected.map(Path::new)
            );
        }
    }

    #[test]
    fn the_socket_is_in_the_data_directory() {
        assert_eq!(default_socket(Path::new("/d")), Path::new("/d/cairnd.sock"));
    }
}
