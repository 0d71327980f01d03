//! The Kubernetes operator: turns resources into requests to the nodes' daemons, and answers into conditions.
//!
//! - [`runtime`] knows no kind of resource: caches, queues, the lease, writes, conditions, events, certificates.
//! - [`daemons`] knows who the nodes' daemons are and how they are asked.

pub mod daemons;
pub mod runtime;
