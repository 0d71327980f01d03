//! The hot append log alone: append, commit, read.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::hint::black_box;
use std::sync::Arc;

use cairn_content::log::{DirectoryStore, Log, LogParts, LogSettings, ReplayStart};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

fn open(directory: &std::path::Path) -> Log {
    let parts = LogParts {
        store: Arc::new(DirectoryStore::open(directory).unwrap()),
        settings: LogSettings::default(),
        new_identity: [1; 16],
    };
    Log::open(parts, ReplayStart::default(), &mut |_| {
        Ok::<(), std::io::Error>(())
    })
    .unwrap()
}

/// Segments that hold nothing needed, so that the disk does not fill.
fn forget(log: &Log) {
    let segments = log.segments();
    for segment in segments.iter().rev().skip(4) {
        let _ = log.remove_segment(segment.id);
    }
}

fn benches(criterion: &mut Criterion) {
    let directory = cairn_benches::directory().unwrap();
    let log = open(directory.path());
    let context = [7u8; 37];
    for (name, bytes) in [("4 KiB", 4096usize), ("1 MiB", 1 << 20)] {
        let data: Vec<u8> = (0..bytes).map(|i| (i * 31) as u8).collect();
        let mut group = criterion.benchmark_group("log");
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("append {name}"), |bencher| {
            bencher.iter_batched(
                || forget(&log),
                |()| black_box(log.append(&context, &[&data]).unwrap()),
                BatchSize::NumIterations(64),
            );
        });
        group.bench_function(format!("append {name} and commit"), |bencher| {
            bencher.iter_batched(
                || forget(&log),
                |()| {
                    log.append(&context, &[&data]).unwrap();
                    log.sync().unwrap()
                },
                BatchSize::NumIterations(64),
            );
        });
        let slice = log.append(&context, &[&data]).unwrap().slice;
        group.bench_function(format!("read {name}, cached"), |bencher| {
            bencher.iter(|| log.read(black_box(&slice)).unwrap());
        });
        group.finish();
    }
    let mut group = criterion.benchmark_group("log");
    group.bench_function("commit 8 waiting appends of 4 KiB", |bencher| {
        let data = [3u8; 4096];
        bencher.iter(|| {
            for _ in 0..8 {
                log.append(&context, &[&data]).unwrap();
            }
            log.sync().unwrap()
        });
    });
    group.finish();
}

criterion_group!(log, benches);
criterion_main!(log);
