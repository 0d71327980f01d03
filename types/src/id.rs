//! Numbers that name things, each a type of its own so that they cannot be mixed up.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A volume: a POSIX tree with its branches and snapshots. Never reused within a data directory.
    VolumeId
}
number! {
    /// A branch: one writable line of a volume's history. Never reused within a data directory.
    BranchId
}
number! {
    /// A point in a branch's life. Every branch starts at [`Epoch::FIRST`]; taking a snapshot ends an epoch.
    Epoch
}
number! {
    /// An inode of a volume. Never reused within a volume or the volumes forked from it.
    InodeId
}

impl Epoch {
    /// The first epoch of a branch.
    pub const FIRST: Epoch = Epoch(1);

    /// The epoch after this one.
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

impl InodeId {
    /// The root directory of every volume.
    pub const ROOT: InodeId = InodeId(1);
}
