//! Names of objects and the rule that they keep. A name is checked once, here; whoever holds an [`ObjectName`] may
//! send it to any store.
//!
//! The alphabet is the part that every store, every file system and every URL takes without quoting, so that a name
//! reads the same in a bucket listing, in a directory and in a message.

use std::fmt;

/// Longest name, in bytes. S3 takes 1024 for prefix and name together.
pub const NAME_BYTES_MAX: usize = 512;

/// Longest segment, in bytes: what Linux file systems take, less room for the suffix of an unfinished file.
pub const SEGMENT_BYTES_MAX: usize = 240;

/// The name of an object relative to its store: one or more segments of `A-Z a-z 0-9 . _ -`, separated by `/`.
/// No segment is empty, `.` or `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

/// Why a text cannot name an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectNameError {
    /// Nothing to name.
    #[error("the name of an object is empty")]
    Empty,
    /// Longer than [`NAME_BYTES_MAX`], or a segment than [`SEGMENT_BYTES_MAX`].
    #[error("the name of an object has {bytes} bytes where at most {bytes_max} are possible")]
    TooLong {
        /// Length of the name, or of its longest segment.
        bytes: usize,
        /// The limit that it exceeds.
        bytes_max: usize,
    },
    /// A leading, trailing or doubled `/`, or a segment that is `.` or `..`.
    #[error("the object name {name:?} has the segment {segment:?}, which would leave its place")]
    Segment {
        /// The name.
        name: String,
        /// The segment.
        segment: String,
    },
    /// A character outside the alphabet.
    #[error(
        "the object name {name:?} has the character {found:?}; letters, digits, '.', '_', '-' and '/' are possible"
    )]
    Character {
        /// The name.
        name: String,
        /// The first character that is not in the alphabet.
        found: char,
    },
}

impl ObjectName {
    /// Checks a name.
    ///
    /// # Errors
    /// The name breaks the rule that stands on the type.
    pub fn new(name: impl Into<String>) -> Result<Self, ObjectNameError> {
        let name = name.into();
        check_segments(&name, NAME_BYTES_MAX)?;
        Ok(ObjectName(name))
    }

    /// The name as it is sent to the store, without the store's prefix.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The rule for names, which a store's prefix keeps too.
pub(super) fn check_segments(name: &str, bytes_max: usize) -> Result<(), ObjectNameError> {
    if name.is_empty() {
        return Err(ObjectNameError::Empty);
    }
    if name.len() > bytes_max {
        return Err(ObjectNameError::TooLong {
            bytes: name.len(),
            bytes_max,
        });
    }
    for segment in name.split('/') {
        if matches!(segment, "" | "." | "..") {
            return Err(ObjectNameError::Segment {
                name: name.to_owned(),
                segment: segment.to_owned(),
            });
        }
        if segment.len() > SEGMENT_BYTES_MAX {
            return Err(ObjectNameError::TooLong {
                bytes: segment.len(),
                bytes_max: SEGMENT_BYTES_MAX,
            });
        }
        let outside = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
        if let Some(found) = segment.chars().find(outside) {
            return Err(ObjectNameError::Character {
                name: name.to_owned(),
                found,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{NAME_BYTES_MAX, ObjectName, ObjectNameError, SEGMENT_BYTES_MAX};

    #[test]
    fn ordinary_names_pass() {
        for name in [
            "fence",
            "packs/ab/ab12.pack",
            "a/...b",
            "x_-.y",
            &"a".repeat(SEGMENT_BYTES_MAX),
        ] {
            assert_eq!(ObjectName::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_that_leave_their_place_are_refused() {
        for name in ["/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a/."] {
            let error = ObjectName::new(name).unwrap_err();
            assert!(
                matches!(error, ObjectNameError::Segment { .. }),
                "{name}: {error}"
            );
        }
        for name in ["a b", "a#1", "ä", "a\\b", "a%2fb", "a\0", "a\nb"] {
            let error = ObjectName::new(name).unwrap_err();
            assert!(
                matches!(error, ObjectNameError::Character { .. }),
                "{name}: {error}"
            );
        }
        assert_eq!(ObjectName::new("").unwrap_err(), ObjectNameError::Empty);
        let long = ["a".repeat(200), "b".repeat(200), "c".repeat(200)].join("/");
        assert!(long.len() > NAME_BYTES_MAX);
        assert!(matches!(
            ObjectName::new(long),
            Err(ObjectNameError::TooLong { .. })
        ));
        let segment = "a".repeat(SEGMENT_BYTES_MAX + 1);
        assert!(matches!(
            ObjectName::new(segment),
            Err(ObjectNameError::TooLong { .. })
        ));
    }
}
