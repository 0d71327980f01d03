//! Every mutable fact of Cairn, in transactions: volumes, branches, snapshots, inodes, entries, extents, replies.
//!
//! The only crate that knows the bytes of keys. [`engine`] is the ordered map beneath; [`keyspace`] the persistent
//! vocabulary; [`view`] reads a branch, live or at a point; [`transaction`] changes a live branch; [`store`] keeps the
//! catalogue of volumes, branches and snapshots.

pub mod engine;
pub mod error;
pub mod keyspace;
pub mod store;
pub mod transaction;
pub mod view;

pub use error::MetadataError;
pub use keyspace::branch::{BranchRecord, Point, Usage};
pub use keyspace::dirent::DirentRecord;
pub use keyspace::extent::ExtentRecord;
pub use keyspace::import::ImportRecord;
pub use keyspace::inode::InodeRecord;
pub use keyspace::ledger::{LEDGER_KEY_BYTES_MAX, LedgerKind, LedgerPhase, LedgerRecord};
pub use keyspace::snapshot::{Origin, PinRecord, SnapshotRecord};
pub use keyspace::volume::{CapacityLimits, VolumeRecord};
pub use store::Store;
pub use transaction::Transaction;
pub use view::{Lineage, View};
