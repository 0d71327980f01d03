//! The daemon's RPC contract: gRPC, package `cairn.v1` (the files below `proto/` are its definition).
//!
//! [`proto`] holds the generated messages, clients and servers. [`convert`] turns messages into checked values of
//! `cairn-types` and back: it is the boundary where untrusted input is validated. [`ApiError`] is how a request fails on
//! either side, [`Reason`] its machine-readable part with the table of all reasons. [`Client`] connects over the daemon's
//! Unix socket; [`location`] says where that is by default.
//!
//! This crate knows no store and no file system, and it decides nothing about a request beyond its form.

pub mod client;
pub mod convert;
pub mod error;
pub mod location;
pub mod proto;
pub mod reason;

pub use client::Client;
pub use error::ApiError;
pub use prost_types::{Duration as ProtoDuration, Timestamp as ProtoTimestamp};
pub use reason::Reason;
