//! Plain directories: how a tree of files is named, described, walked, read, compared and written.
//!
//! Everything that a file system keeps of a tree and that a person could miss is described by an [`Entry`]: names, types, modes,
//! owners, times, extended attributes (access control lists are among them), links, holes, data. What a target cannot keep is
//! told, never dropped in silence.

pub mod beneath;
pub mod compare;
pub mod digest;
pub mod entry;
pub mod ignore;
pub mod links;
pub mod path;
pub mod place;
pub mod preview;
pub mod read;
pub mod status;
pub mod tree;
pub mod walk;
pub mod xattr;

pub use compare::{Aspect, Aspects, Described, Difference, compare};
pub use digest::ContentHasher;
pub use entry::{Attributes, Body, Digest, Entry, FileBody, Hole, Record, Stamp, Xattr};
pub use ignore::{IgnoreError, IgnoreRules};
pub use links::LinkTable;
pub use path::{PathError, RelativePath};
pub use place::{Losses, PlaceError, PlaceOptions, Placer};
pub use status::Status;
pub use tree::{TreeError, TreeOptions, read_tree};
pub use walk::{Found, Skip, Walk, WalkError, WalkOptions};
