//! The names of everything in a control directory, and the largest files that are read there. Owns no access to files.
//!
//! `docs/formats/repository.md` draws the whole.

/// The version of control directories that this code reads and writes. Version 1 is that of the Go tools named JVS.
pub const FORMAT_VERSION: u32 = 2;
pub use crate::directory::ignore::{CONTROL_NAME, RESTORE_PREFIX};

/// The file with the version: decimal digits and a line feed. It is the last to be written by an init: a control directory
/// without it is unfinished.
pub const FORMAT_FILE: &str = "format_version";
/// The file of the [identity](super::Identity).
pub const IDENTITY_FILE: &str = "repository.json";
/// The file of the [configuration](super::Config).
pub const CONFIG_FILE: &str = "config.toml";
/// The file of the [state](super::State).
pub const STATE_FILE: &str = "state.json";
/// The file that keeps room for what is done on a full disk.
pub const RESERVE_FILE: &str = "reserve";
/// What is known of descriptors, in [`Area::Cache`].
pub const SEQUENCES_FILE: &str = "sequences";

/// Largest document that is read, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 16 << 20;
/// Largest configuration that is read, in bytes.
pub const CONFIG_BYTES_MAX: usize = 1 << 20;
/// Most names of one directory that are listed.
pub const NAMES_MAX: usize = 4 << 20;

/// A directory in a control directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Area {
    /// The control directory itself.
    Root,
    /// `ID.json`: descriptors of snapshots; what makes them snapshots.
    Descriptors,
    /// `ID.json`: tags, notes and pins that were changed after the fact.
    Labels,
    /// `ID.json`: outcomes of verifications.
    Verified,
    /// `ID`: lists of all entries.
    Manifests,
    /// `ID/`: trees of snapshots whose engine keeps trees.
    Snapshots,
    /// What is being made.
    Staging,
    /// The object store of the archive engine, unless it is elsewhere.
    Store,
    /// What can be made again.
    Cache,
    /// The audit log and its closed parts.
    Audit,
    /// The lease.
    Lock,
    /// `NONCE.json`: who reads snapshots.
    Readers,
    /// `OPERATION.json`: what is being done.
    Journal,
    /// `ID.json`: plans of restores.
    Plans,
    /// `HASH.json`: idempotency keys.
    Keys,
}

impl Area {
    /// All directories below the control directory.
    pub const ALL: [Area; 14] = [
        Area::Descriptors,
        Area::Labels,
        Area::Verified,
        Area::Manifests,
        Area::Snapshots,
        Area::Staging,
        Area::Store,
        Area::Cache,
        Area::Audit,
        Area::Lock,
        Area::Readers,
        Area::Journal,
        Area::Plans,
        Area::Keys,
    ];

    /// The control directory itself, and all directories below it.
    pub const EVERY: [Area; 15] = {
        let mut every = [Area::Root; 15];
        let mut at = 0;
        while at < Area::ALL.len() {
            every[at + 1] = Area::ALL[at];
            at += 1;
        }
        every
    };

    /// Whether only the holder of the lease writes documents in it.
    pub fn is_guarded(self) -> bool {
        match self {
            Area::Root
            | Area::Descriptors
            | Area::Labels
            | Area::Manifests
            | Area::Snapshots
            | Area::Staging
            | Area::Store
            | Area::Audit
            | Area::Journal
            | Area::Plans
            | Area::Keys => true,
            Area::Verified | Area::Cache | Area::Lock | Area::Readers => false,
        }
    }

    /// Its name; `.` for the control directory itself.
    pub fn name(self) -> &'static str {
        match self {
            Area::Root => ".",
            Area::Descriptors => "descriptors",
            Area::Labels => "labels",
            Area::Verified => "verified",
            Area::Manifests => "manifests",
            Area::Snapshots => "snapshots",
            Area::Staging => "staging",
            Area::Store => "store",
            Area::Cache => "cache",
            Area::Audit => "audit",
            Area::Lock => "lock",
            Area::Readers => "readers",
            Area::Journal => "journal",
            Area::Plans => "plans",
            Area::Keys => "keys",
        }
    }

    /// What a person does about a damaged file in it.
    pub fn remedy(self, name: &str) -> &'static str {
        match (self, name) {
            (Area::Root, STATE_FILE) => "`cairn doctor --repair` makes it again from the descriptors",
            (Area::Root, IDENTITY_FILE) => {
                "`cairn doctor --repair` makes it again; the repository gets a new identity"
            }
            (Area::Root, FORMAT_FILE) => {
                "write `2` and a line feed into it if the files beside it are those of this version"
            }
            (Area::Root, _) => "put it right, or remove it to have the defaults",
            (Area::Descriptors, _) => {
                "this snapshot cannot be used, all others can; restore the file from a copy, or `cairn delete` the snapshot"
            }
            (Area::Labels, _) => {
                "the snapshot shows its first tags and note and is kept until they are set again: `cairn tag`, `cairn note`"
            }
            (Area::Verified, _) => "`cairn verify` the snapshot again",
            (Area::Manifests, _) => {
                "`cairn verify` the snapshot; its engine may have what the list is made again from"
            }
            (Area::Lock, _) => "wait: it is taken over when nobody renews it",
            (Area::Readers, _) => "wait: it is removed when nobody renews it",
            (Area::Journal, _) => "`cairn doctor --repair` finishes or undoes what can still be told",
            (Area::Plans, _) => "make the plan again",
            (Area::Keys, _) => {
                "`cairn doctor --repair` removes it; a repeated request with this key is then a new one"
            }
            (Area::Audit, _) => "`cairn doctor` tells where; saves go on",
            (Area::Snapshots | Area::Staging | Area::Store | Area::Cache, _) => "`cairn doctor --repair`",
        }
    }
}

/// The name of the file of what is called `name`: with `.json`.
pub fn document_name(name: &impl std::fmt::Display) -> String {
    format!("{name}.json")
}
