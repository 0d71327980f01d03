//! The Kubernetes resources of Cairn as Rust types: what people write (`spec`), what the operator answers (`status`), and the rules that
//! the API server applies before anything is stored.
//!
//! The types are the source. `crdgen` writes the manifests beside this crate from them ([`all`]), and a test fails when the two differ. Every
//! string, list and map of every schema is bounded, so that the cost of the rules (CEL) is bounded too; `schema` sees to that for fields of
//! Kubernetes' own types.
//!
//! What a resource means is decided by the operator, not here: no function of this crate looks at a `status`.

#![allow(
    clippy::duplicated_attributes,
    reason = "several columns of one type in one `kube` attribute are no mistake"
)]

pub mod conditions;
pub mod ditto_server;
pub mod manifests;
pub mod names;
pub mod restore;
pub mod schema;
pub mod snapshot;
pub mod storage_node;
pub mod validation;
pub mod workspace;
pub mod yaml;

pub use ditto_server::{DittoServer, DittoServerSpec, DittoServerStatus};
pub use restore::{Restore, RestoreSpec, RestoreStatus};
pub use schema::{all, definition};
pub use snapshot::{Snapshot, SnapshotSpec, SnapshotStatus};
pub use storage_node::{StorageNode, StorageNodeSpec, StorageNodeStatus};
pub use workspace::{Workspace, WorkspaceSpec, WorkspaceStatus};
