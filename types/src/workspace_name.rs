//! Names of workspaces.

use std::fmt;

/// A workspace's name: 1 to 128 of `A-Z a-z 0-9 . _ -`, starting with a letter or digit, without `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkspaceName(String);

/// Why a text is no [`WorkspaceName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkspaceNameError {
    /// Nothing was given.
    #[error("a workspace name must not be empty: give 1 to {limit} characters", limit = WorkspaceName::LENGTH_MAX)]
    Empty,
    /// Too many characters.
    #[error("workspace name of {found} characters is too long: at most {limit}", limit = WorkspaceName::LENGTH_MAX)]
    TooLong {
        /// Characters that were given.
        found: usize,
    },
    /// A character outside the set.
    #[error("workspace name {name:?} has {character:?}: use letters, digits, '.', '_' and '-'")]
    ForbiddenCharacter {
        /// The name that was given.
        name: String,
        /// Its first forbidden character.
        character: char,
    },
    /// Starts with `.`, `_` or `-`.
    #[error("workspace name {name:?} must start with a letter or a digit")]
    BadStart {
        /// The name that was given.
        name: String,
    },
    /// Contains `..`.
    #[error("workspace name {name:?} must not contain '..'")]
    DotDot {
        /// The name that was given.
        name: String,
    },
}

impl WorkspaceName {
    /// Longest name in characters (all are ASCII, so bytes too).
    pub const LENGTH_MAX: usize = 128;

    /// Checks `name` and keeps it.
    pub fn new(name: &str) -> Result<Self, WorkspaceNameError> {
        let length = name.chars().count();
        if length == 0 {
            return Err(WorkspaceNameError::Empty);
        }
        if length > Self::LENGTH_MAX {
            return Err(WorkspaceNameError::TooLong { found: length });
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if let Some(character) = name.chars().find(|c| !allowed(*c)) {
            return Err(WorkspaceNameError::ForbiddenCharacter {
                name: name.to_owned(),
                character,
            });
        }
        if name.contains("..") {
            return Err(WorkspaceNameError::DotDot {
                name: name.to_owned(),
            });
        }
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(WorkspaceNameError::BadStart {
                name: name.to_owned(),
            });
        }
        Ok(WorkspaceName(name.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkspaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{WorkspaceName, WorkspaceNameError};

    #[test]
    fn names_that_are_refused_say_why() {
        assert_eq!(WorkspaceName::new(""), Err(WorkspaceNameError::Empty));
        assert_eq!(
            WorkspaceName::new(&"a".repeat(129)),
            Err(WorkspaceNameError::TooLong { found: 129 })
        );
        for (name, character) in [("a/b", '/'), ("a\u{7}b", '\u{7}'), ("a b", ' '), ("é", 'é')] {
            assert_eq!(
                WorkspaceName::new(name),
                Err(WorkspaceNameError::ForbiddenCharacter {
                    name: name.to_owned(),
                    character
                })
            );
        }
        assert_eq!(
            WorkspaceName::new(".."),
            Err(WorkspaceNameError::DotDot {
                name: "..".to_owned()
            })
        );
        assert_eq!(
            WorkspaceName::new("a..b"),
            Err(WorkspaceNameError::DotDot {
                name: "a..b".to_owned()
            })
        );
        assert_eq!(
            WorkspaceName::new("-a"),
            Err(WorkspaceNameError::BadStart {
                name: "-a".to_owned()
            })
        );
    }

    #[test]
    fn ordinary_names_pass() {
        for name in ["w", "team-a.model_7", "0"] {
            assert_eq!(WorkspaceName::new(name).unwrap().as_str(), name);
        }
        assert!(WorkspaceName::new(&"a".repeat(128)).is_ok());
    }
}
