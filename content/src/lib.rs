//! File bytes. This crate has never heard of a file or a snapshot: it stores what it is given, says where, verifies
//! what it reads, and frees what it is told is dead.
//!
//! - [`log`]: the hot append log on local disk, where every write lands first.
//! - [`chunking`]: where data that leaves the log is cut, and what names the pieces.
//! - [`codec`]: how the pieces are compressed.
//! - [`pack`]: the objects that hold the pieces.
//! - [`pipeline`]: all of that, from files to stored packs, on all cores.
//! - [`sealing`]: whether all that is encrypted, and with which keys.
//! - [`store`]: the packs of an object store, what they hold, and reading it.
//! - [`checksum`]: CRC-32C, per block and streaming.
//! - [`write_behind`]: large writes that do not fill the page cache.
//! - [`objects`]: object stores, where packs lie: a directory, S3, Google Cloud Storage, Azure, memory.

pub mod checksum;
pub mod chunking;
pub mod codec;
pub mod log;
pub mod objects;
pub mod pack;
pub mod pipeline;
pub mod sealing;
pub mod store;
pub mod testing;
pub mod write_behind;

pub use log::{Log, LogError, LogSettings};
