//! Every mutable fact of Cairn, in transactions.

pub mod engine;
