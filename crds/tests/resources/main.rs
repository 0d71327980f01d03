//! The resources as an API server and people meet them: rules, samples, generated manifests. What each rule accepts and refuses stands in
//! `crds/tests/cases`, so that the same list is put to the rules here and to a real API server where there is one.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking"
)]

mod cases;
mod cluster;
mod manifests;
mod rules;
mod samples;
mod structural;
