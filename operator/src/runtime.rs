//! What every controller of the operator needs and no kind of resource knows: caches of watched objects, a queue of keys, the lease,
//! writes to the API server, conditions, events, health, metrics and certificates.
//!
//! Rules that hold here for everybody:
//!
//! - Only the holder of the lease writes ([`api::ApiClient`] refuses otherwise).
//! - What was written is in the cache before the next decision is taken ([`cache::Cache::observe`]), so that no decision is taken on what is
//!   older than our own last word, and a write that changes nothing is not made.
//! - One key is worked on by one worker at a time ([`queue`]).

pub mod api;
pub mod apply;
pub mod backoff;
pub mod cache;
pub mod clock;
pub mod conditions;
pub mod controller;
pub mod error;
pub mod events;
pub mod health;
pub mod lease;
pub mod metrics;
pub mod queue;
pub mod tls;
