//! The Kubernetes operator: turns resources into requests to the nodes' daemons, and answers into conditions.
//!
//! - [`runtime`] knows no kind of resource: caches, queues, the lease, writes, conditions, events, certificates.
//! - [`daemons`] knows who the nodes' daemons are and how they are asked.
//! - [`plan`] decides; [`children`] builds what is applied. Both are pure.
//! - [`reconcile`] gathers, asks the plan, and takes its steps.
//! - [`assembly`] puts it all together and takes it apart in order; [`arguments`] is the command line.
//!
//! Links no engine: of data it knows what daemons say.

pub mod arguments;
pub mod assembly;
pub mod children;
pub mod daemons;
pub mod plan;
pub mod reconcile;
pub mod run;
pub mod runtime;
pub mod settings;
pub mod statistics;
