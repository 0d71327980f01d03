//! A Kubernetes API server in one process, for tests. It behaves as the real one where clients can tell: resource
//! versions and conflicts, watches with bookmarks and expiry, server-side apply with field ownership, status as a
//! subresource, finalizers, schemas with defaults and rules, rights from roles, discovery that satisfies `kubectl`.
//!
//! It knows no kinds but those that every cluster has; all others come as CustomResourceDefinitions. It does not persist,
//! does not run pods, and has no webhooks, quotas or API aggregation. What is refused is refused with a clear failure.
//!
//! - `server`: the server as tests hold it; `service`: requests in, answers out; `serve`: on loopback sockets
//! - `cluster`: all changes of state; `store`: objects and what happened to them; `watching`, `listing`: reading
//! - `kinds`, `schema`, `ownership`, `patch`: what objects are and how they are changed
//! - `rbac`, `faults`: who may, and what goes wrong on purpose
//! - `real`: a real server, to hold the same rules against
//! - `discovery`, `openapi`, `table`: what `kubectl` asks for

pub mod body;
pub mod clock;
pub mod cluster;
pub mod discovery;
mod dispatch;
pub mod faults;
pub mod kinds;
pub mod listing;
pub mod object;
pub mod openapi;
pub mod ownership;
pub mod patch;
pub mod rbac;
pub mod real;
pub mod request;
pub mod schema;
pub mod selector;
pub mod serve;
pub mod server;
pub mod service;
pub mod status;
pub mod store;
pub mod table;
pub mod watching;

pub use cluster::controllers::Controllers;
pub use faults::{Fault, Matcher};
pub use request::{User, Verb};
pub use server::{ApiServer, Settings};
pub use service::ApiService;
