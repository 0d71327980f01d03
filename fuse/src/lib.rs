//! Read-only trees as file systems of this machine, through /dev/fuse.
//!
//! - [`tree`]: what a tree must tell, and how it fails.
//! - `filesystem`: the requests of the kernel, answered from a tree. `errno`: the one table from failures to errno.
//! - [`mount`](mount()): a tree on a mount point, and off it again. [`mounts`]: what is mounted.
//!
//! Invariants: nothing is ever written; what a tree cannot give is an error, never zeros; nothing is remembered of an inode between
//! two requests, so that the memory taken does not depend on how much of a tree was looked at.
//!
//! This crate knows neither snapshots nor repositories.

mod errno;
mod filesystem;
mod mount;
pub mod mounts;
pub mod tree;

pub use mount::{Mount, MountError, MountOptions, THREADS_MAX, Unmounted, check, mount, unmount};
pub use tree::{Attributes, Detail, Listed, Seek, Taken, Totals, Tree, TreeError};
