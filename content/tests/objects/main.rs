//! Object stores as their callers see them: one suite over a store in memory, a directory, a real S3 server
//! (s3s-fs, in this process: it is in the registry, needs no installation, checks signatures, and does conditional and
//! multipart writes), Microsoft's emulator of Azure, and a server that follows Google's reference.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod azure;
mod conformance;
mod directory;
mod google;
mod s3;
mod server;

use std::sync::Arc;

use bytes::Bytes;
use cairn_content::objects::{ObjectName, ObjectOptions, ObjectStoreUrl, Objects};
use cairn_types::{Clock, Randomness, Timestamp};

const MIB: usize = 1 << 20;

struct Random;

impl Randomness for Random {
    fn fill(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer).unwrap();
    }
}

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::new(1_795_000_000, 0)
    }
}

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

/// Bytes that differ everywhere, and from those of another seed.
fn pattern(length: usize, seed: u64) -> Bytes {
    let byte = |index: usize| ((index as u64 + seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8;
    (0..length).map(byte).collect()
}

/// Small parts, so that the suite need not move much.
fn options() -> ObjectOptions {
    ObjectOptions {
        part_bytes: 5 * MIB as u64,
        whole_put_bytes_max: 5 * MIB as u64,
        ..ObjectOptions::default()
    }
}

fn open(url: &str, options: ObjectOptions) -> Objects {
    Objects::open(&ObjectStoreUrl::parse(url).unwrap(), options, Arc::new(Random)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_conforms() {
    conformance::run(|| open("memory://", options())).await;
}
