//! For tests and benchmarks only: a file system that does nothing, load for a server, and the fastest answers that a
//! simple program can give, to compare with.

pub mod bare;
pub mod load;
pub mod null;

pub use null::NullFileSystem;
