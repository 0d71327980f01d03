//! Snapshot identifiers and the ways to refer to a snapshot.

use std::fmt;

use crate::{Tag, TagError, hexadecimal};

/// A snapshot's identity: 16 random bytes, written as 32 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(pub [u8; 16]);

impl SnapshotId {
    /// Digits of the short form that tables show.
    pub const SHORT_DIGITS: usize = 12;

    /// Parses the full 32-digit form.
    pub fn parse(text: &str) -> Option<Self> {
        hexadecimal::parse(text).map(SnapshotId)
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal::write(&self.0, f)
    }
}

impl fmt::Debug for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a person names a snapshot. Resolution, in this order: `latest` (the newest that somebody asked for, so that restoring
/// it twice gives the same: safety snapshots are named by id); a tag (the newest snapshot that carries it);
/// an id, or a prefix of at least four hexadecimal digits that fits exactly one snapshot of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotReference {
    /// The newest snapshot that somebody asked for.
    Latest,
    /// A tag, or an id prefix: which of the two is known only against the workspace's snapshots.
    Name(Tag),
}

impl SnapshotReference {
    /// Fewest digits of an id prefix.
    pub const PREFIX_DIGITS_MIN: usize = 4;

    /// Parses what a person typed. Every id and every prefix has the form of a tag, so one check serves all.
    pub fn parse(text: &str) -> Result<Self, TagError> {
        match text {
            "latest" => Ok(SnapshotReference::Latest),
            _ => Tag::new(text).map(SnapshotReference::Name),
        }
    }

    /// Whether `id` starts with what was typed.
    pub fn is_prefix_of(&self, id: SnapshotId) -> bool {
        match self {
            SnapshotReference::Latest => false,
            SnapshotReference::Name(name) => {
                name.as_str().len() >= Self::PREFIX_DIGITS_MIN && id.to_string().starts_with(name.as_str())
            }
        }
    }
}

impl fmt::Display for SnapshotReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotReference::Latest => f.write_str("latest"),
            SnapshotReference::Name(name) => f.write_str(name.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{SnapshotId, SnapshotReference};

    #[test]
    fn ids_round_trip_in_one_form_only() {
        let id = SnapshotId([0xab; 16]);
        assert_eq!(SnapshotId::parse(&id.to_string()), Some(id));
        assert_eq!(SnapshotId::parse(&id.to_string().to_uppercase()), None);
        assert_eq!(SnapshotId::parse("+1"), None);
        assert_eq!(SnapshotId::parse(&"+1".repeat(16)), None);
    }

    #[test]
    fn prefixes_need_four_digits() {
        let id = SnapshotId([0xab; 16]);
        assert!(SnapshotReference::parse("abab").unwrap().is_prefix_of(id));
        assert!(!SnapshotReference::parse("aba").unwrap().is_prefix_of(id));
        assert!(!SnapshotReference::parse("latest").unwrap().is_prefix_of(id));
    }
}
