//! Labels that people put on snapshots.

use std::fmt;

/// A snapshot's tag: 1 to 64 of `A-Z a-z 0-9 . _ - : =`, starting with a letter or digit, and not the word `latest`.
/// Several snapshots of a workspace may carry the same tag; the tag then refers to the newest of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

/// Why a text is no [`Tag`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// Empty or too long.
    #[error("tag of {found} characters: give 1 to {limit}", limit = Tag::LENGTH_MAX)]
    Length {
        /// Characters that were given.
        found: usize,
    },
    /// A character outside the set, or a bad first one.
    #[error(
        "tag {tag:?} has {character:?}: use letters, digits, '.', '_', '-', ':' and '=', a letter or digit first"
    )]
    ForbiddenCharacter {
        /// The tag that was given.
        tag: String,
        /// The offending character.
        character: char,
    },
    /// The word `latest`.
    #[error("'latest' always means the newest snapshot and cannot be used as a tag")]
    Reserved,
}

impl Tag {
    /// Longest tag in characters.
    pub const LENGTH_MAX: usize = 64;

    /// Checks `tag` and keeps it.
    pub fn new(tag: &str) -> Result<Self, TagError> {
        let found = tag.chars().count();
        if found == 0 || found > Self::LENGTH_MAX {
            return Err(TagError::Length { found });
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':' | '=');
        let bad_start = |c: &char| !c.is_ascii_alphanumeric();
        if let Some(character) = tag
            .chars()
            .find(|c| !allowed(*c))
            .or(tag.chars().next().filter(bad_start))
        {
            return Err(TagError::ForbiddenCharacter {
                tag: tag.to_owned(),
                character,
            });
        }
        if tag == "latest" {
            return Err(TagError::Reserved);
        }
        Ok(Tag(tag.to_owned()))
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Tag, TagError};

    #[test]
    fn tags_are_checked() {
        assert!(Tag::new("v1.2-rc_1").is_ok());
        assert_eq!(Tag::new("latest"), Err(TagError::Reserved));
        assert_eq!(Tag::new(""), Err(TagError::Length { found: 0 }));
        assert_eq!(
            Tag::new("-x"),
            Err(TagError::ForbiddenCharacter {
                tag: "-x".to_owned(),
                character: '-'
            })
        );
    }
}
