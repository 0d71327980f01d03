//! POSIX semantics of volumes, live or at a snapshot, over `cairn-metadata` and `cairn-content`.
//!
//! [`FileSystem`] is what the protocol crates see. It speaks of objects, names as bytes, and outcomes as POSIX names
//! them; it knows nothing of wires. A change is handed back as [`Pending`]: it is visible at once and durable when the
//! pending value has been waited for, so that no thread sleeps on a disk and one sync serves everybody who waits.

mod capacity;
pub mod control;
mod dirty;
pub mod error;
mod extent_cache;
pub mod filesystem;
pub mod pending;
mod permission;
mod references;
mod space;
mod sync;
mod volume;
pub mod volumes;

pub use error::Error;
pub use filesystem::FileSystem;
pub use pending::{Barrier, Pending};
pub use volumes::{
    Import, ImportError, ImportFault, ImportRequest, ImportStatus, ImportedSnapshot, OpenError,
    SnapshotReader, UsageCheck, Volumes, VolumesParts, VolumesSettings,
};
