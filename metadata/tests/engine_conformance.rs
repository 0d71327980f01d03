//! The conformance suite on each engine.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;

use cairn_metadata::engine::Engine;
use cairn_metadata::engine::memory::MemoryEngine;
use cairn_metadata::engine::rocks::{RocksEngine, RocksSettings};
use cairn_metadata::engine::testing::conformance;

#[test]
fn memory_engine_conforms() {
    conformance(|| {
        let engine = MemoryEngine::new();
        move || Arc::new(engine.clone()) as Arc<dyn Engine>
    });
}

#[test]
fn rocks_engine_conforms() {
    conformance(|| {
        let directory = tempfile::tempdir().unwrap();
        move || {
            let engine = RocksEngine::open(directory.path(), RocksSettings::default()).unwrap();
            Arc::new(engine) as Arc<dyn Engine>
        }
    });
}

/// Buffers so small that the same checks meet flushes, compactions and changes of the WAL.
#[test]
fn rocks_engine_conforms_with_small_buffers() {
    let settings = RocksSettings {
        block_cache_bytes: 1 << 20,
        write_buffer_bytes: 64 << 10,
        write_buffers: 2,
        ..RocksSettings::default()
    };
    conformance(|| {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings.clone();
        move || Arc::new(RocksEngine::open(directory.path(), settings.clone()).unwrap()) as Arc<dyn Engine>
    });
}
