//! The ways to keep a snapshot's data, by name; which one is used, and why not a better one.
//!
//! Owns the names, which stand in descriptors and configuration and never change. Knows nothing of file systems: `probe` asks these.

use std::fmt;
use std::str::FromStr;

/// How a snapshot's data is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EngineKind {
    /// A tree of files with data of their own. Works everywhere.
    Copy,
    /// A tree of files that share the blocks of their data with the workspace's until one of both changes (`FICLONE`).
    ReflinkCopy,
    /// A tree that JuiceFS made of metadata alone.
    JuicefsClone,
    /// Chunks in an object store.
    Archive,
    /// A Btrfs subvolume that shares everything with the workspace's: atomic, and in constant time.
    BtrfsSubvolume,
}

/// A word that names no engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no engine {word:?}: write auto, btrfs-subvolume, juicefs-clone, reflink-copy, copy or archive"
)]
pub struct UnknownEngine {
    /// What was given, at most 64 characters of it.
    pub word: String,
}

impl EngineKind {
    /// All engines.
    pub const ALL: [EngineKind; 5] = [
        EngineKind::Copy,
        EngineKind::ReflinkCopy,
        EngineKind::JuicefsClone,
        EngineKind::Archive,
        EngineKind::BtrfsSubvolume,
    ];

    /// The engines that are tried if none is asked for, the best first. `archive` is used only if it is asked for: it puts data somewhere else.
    pub const AUTOMATIC: [EngineKind; 4] = [
        EngineKind::BtrfsSubvolume,
        EngineKind::JuicefsClone,
        EngineKind::ReflinkCopy,
        EngineKind::Copy,
    ];

    /// Its name.
    pub fn text(self) -> &'static str {
        match self {
            EngineKind::Copy => "copy",
            EngineKind::ReflinkCopy => "reflink-copy",
            EngineKind::JuicefsClone => "juicefs-clone",
            EngineKind::Archive => "archive",
            EngineKind::BtrfsSubvolume => "btrfs-subvolume",
        }
    }

    /// Whether its snapshots are trees of files below the control directory.
    pub fn is_tree(self) -> bool {
        self != EngineKind::Archive
    }

    /// Reads what a person, a configuration file or the variable `JVS_SNAPSHOT_ENGINE` asks for: a name, or the short forms of the
    /// older tools (`juicefs`, `reflink`, `btrfs`); `auto` and nothing at all ask for no particular engine. Errors: [`UnknownEngine`].
    pub fn requested(word: &str) -> Result<Option<Self>, UnknownEngine> {
        match word {
            "" | "auto" => Ok(None),
            word => word.parse().map(Some),
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl FromStr for EngineKind {
    type Err = UnknownEngine;

    fn from_str(word: &str) -> Result<Self, UnknownEngine> {
        match word {
            "copy" => Ok(EngineKind::Copy),
            "reflink-copy" | "reflink" => Ok(EngineKind::ReflinkCopy),
            "juicefs-clone" | "juicefs" => Ok(EngineKind::JuicefsClone),
            "archive" => Ok(EngineKind::Archive),
            "btrfs-subvolume" | "btrfs" => Ok(EngineKind::BtrfsSubvolume),
            _ => Err(UnknownEngine {
                word: word.chars().take(64).collect(),
            }),
        }
    }
}

/// An engine that was passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Degradation {
    /// Which.
    pub from: EngineKind,
    /// What it lacks or how it failed, for a person.
    pub reason: String,
}

/// Which engine a capture uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What was asked for; `None`: the best that there is.
    pub requested: Option<EngineKind>,
    /// What is used.
    pub used: EngineKind,
    /// What would have been better, the best first. Never of a request: what was asked for is used, or it is an error.
    pub degraded: Vec<Degradation>,
}

impl Choice {
    /// What stays to be tried after the engine in use, the best first; nothing of a request.
    pub(crate) fn alternatives(&self) -> &'static [EngineKind] {
        match (
            self.requested,
            EngineKind::AUTOMATIC.iter().position(|kind| *kind == self.used),
        ) {
            (None, Some(at)) => &EngineKind::AUTOMATIC[at + 1..],
            (Some(_), _) | (None, None) => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::EngineKind;

    #[test]
    fn every_name_is_read_back() {
        for kind in EngineKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
    }

    #[test]
    fn requests_know_the_names_of_the_older_tools() {
        for (word, kind) in [
            ("juicefs", Some(EngineKind::JuicefsClone)),
            ("reflink", Some(EngineKind::ReflinkCopy)),
            ("copy", Some(EngineKind::Copy)),
            ("auto", None),
            ("", None),
        ] {
            assert_eq!(EngineKind::requested(word), Ok(kind));
        }
        let error = EngineKind::requested(&"x".repeat(100)).unwrap_err();
        assert_eq!(error.word.len(), 64);
        assert!(EngineKind::requested("Copy").is_err());
    }
}
