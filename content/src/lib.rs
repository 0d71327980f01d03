//! File bytes. This crate has never heard of a file or a snapshot: it stores what it is given, says where, verifies
//! what it reads, and frees what it is told is dead.
//!
//! - [`log`]: the hot append log on local disk, where every write lands first.
//! - [`checksum`]: CRC-32C, per block and streaming.

pub mod checksum;
pub mod log;

pub use log::{Log, LogError, LogSettings};
