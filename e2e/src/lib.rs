//! End-to-end tests of Cairn with real servers and real clients, and the demo. Nothing here is linked into a product.

pub mod client;
pub mod parallel;
pub mod random;
pub mod rpc;
pub mod tree;
