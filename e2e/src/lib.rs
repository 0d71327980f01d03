//! End-to-end tests of Cairn with real servers and real clients, and the demo. Nothing here is linked into a product.

pub mod client;
pub mod control;
pub mod crash;
pub mod daemon;
pub mod demo;
pub mod fixture;
pub mod guest;
pub mod kernel;
pub mod node;
pub mod parallel;
pub mod project;
pub mod random;
pub mod rpc;
pub mod sample;
pub mod tree;
