//! NFS version 3 over TCP for any [`cairn_vfs::FileSystem`]: ONC RPC, MOUNT, port mapper answers, and nothing else.
//!
//! [`Server`] is all there is to it: it accepts connections, decodes requests without copying payloads, executes those of
//! one connection concurrently, answers as they finish, and answers retransmitted requests without executing them
//! again. What a request means is decided by the file system; here it is decided who may ask (the export's rules) and on
//! whose behalf (squashing).
//!
//! Invariants: input from the network never panics and never makes memory grow beyond the bounds of [`ServerSettings`]; load
//! is met by not reading, never by an error; a change is acknowledged when the file system says that it is durable.

mod connection;
mod error;
mod export;
mod file_handle;
mod metrics;
mod mount3;
mod nfs3;
mod portmap;
mod rpc;
mod server;
mod settings;
mod workers;
mod xdr;

pub mod testing;

pub use connection::Endpoints;
pub use error::{ConnectionError, ServerError};
pub use file_handle::HANDLE_BYTES;
pub use metrics::{Counter, LATENCY_BUCKETS, Metrics, ProcedureMetrics};
pub use rpc::message::NoCall;
pub use server::Server;
pub use settings::ServerSettings;
