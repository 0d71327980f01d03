//! Configuration: a TOML file whose every key is known and documented, and flags that win over it.
//!
//! [`file`] is the file as it is written, with the place of every value; [`resolved`] is what holds, checked once. What is
//! wrong is reported with file, line, key and a remedy; nothing is guessed and nothing is ignored.

use std::fmt;
use std::path::PathBuf;

pub mod file;
pub mod resolved;
pub mod size;
pub mod stores;

pub use resolved::Config;

/// The default configuration with an explanation of every key.
pub const DEFAULT_CONFIG: &str = include_str!("config/default.toml");

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A line of the file, counted from 1.
    Line(PathBuf, usize),
    /// The whole file.
    File(PathBuf),
    /// A flag.
    Flag(&'static str),
    /// Nobody gave it: it is a default, or missing.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(path, line) => write!(f, "{}:{line}", path.display()),
            Place::File(path) => write!(f, "{}", path.display()),
            Place::Flag(flag) => f.write_str(flag),
            Place::Default => f.write_str("default configuration"),
        }
    }
}

/// What is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{place}: cannot read the configuration file: {message}")]
    Unreadable {
        /// The file.
        place: Place,
        /// What the operating system says.
        message: String,
    },
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("{place}: {message}")]
    Malformed {
        /// The line.
        place: Place,
        /// What is wrong there.
        message: String,
    },
    /// A value that cannot hold.
    #[error("{place}: {key}: {message}")]
    BadValue {
        /// Where it came from.
        place: Place,
        /// The key.
        key: &'static str,
        /// Why not.
        message: String,
    },
}

impl ConfigError {
    /// What to do.
    pub fn remedy(&self) -> &'static str {
        match self {
            ConfigError::Unreadable { .. } => {
                "give an existing, readable file to --config, or none for the defaults"
            }
            ConfigError::Malformed { .. } | ConfigError::BadValue { .. } => {
                "`cairnd --print-default-config` explains every key; `cairnd --check-config` checks a file"
            }
        }
    }
}
