//! Names and attributes of a volume: create, lookup, getattr, listing; each at no snapshot and at 1,000.
//!
//! The snapshots are of a volume that changes between them, so that its history is as long as it gets; the volume without
//! snapshots gets the same changes.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::hint::black_box;

use bytes::Bytes;
use cairn_benches::{Node, caller, workspace};
use cairn_vfs::control::NewSnapshot;
use cairn_vfs::filesystem::Stability;
use cairn_vfs::{FileSystem, VolumesSettings};
use criterion::{Criterion, criterion_group, criterion_main};

const FILES: usize = 20_000;
/// Changes before the measurement, with a snapshot after each or with none.
const CHANGES: usize = 1000;

fn benches(criterion: &mut Criterion) {
    // A cache of one inode: what is measured is the store, not the memory above it.
    let settings = VolumesSettings {
        cached_inodes_max: 1,
        ..VolumesSettings::default()
    };
    for snapshots in [0, CHANGES] {
        let node = Node::new(settings.clone()).unwrap();
        let sample = node.populate(FILES).unwrap();
        for index in 0..CHANGES {
            let (_, _, file) = sample[index % sample.len()];
            let data = Bytes::from(format!("changed {index}"));
            node.volumes
                .write(&caller(), file, 0, data, Stability::Unstable)
                .unwrap()
                .without_durability();
            if index < snapshots {
                node.volumes
                    .snapshot(&workspace(), NewSnapshot::default())
                    .unwrap();
            }
        }
        let node = node.reopen().unwrap();
        let mut group = criterion.benchmark_group(format!("metadata at {snapshots} snapshots"));
        let mut at = sample.iter().cycle();
        group.bench_function("lookup", |bencher| {
            bencher.iter(|| {
                let (directory, name, _) = at.next().unwrap();
                black_box(
                    node.volumes
                        .lookup(&caller(), *directory, name.as_bytes())
                        .unwrap(),
                )
            });
        });
        group.bench_function("getattr", |bencher| {
            bencher.iter(|| black_box(node.volumes.getattr(at.next().unwrap().2).unwrap()));
        });
        group.bench_function("read 100 bytes", |bencher| {
            bencher.iter(|| {
                black_box(
                    node.volumes
                        .read(&caller(), at.next().unwrap().2, 0, 4096)
                        .unwrap(),
                )
            });
        });
        let directory = sample[0].0;
        group.bench_function("list 1,000 entries with attributes", |bencher| {
            bencher.iter(|| black_box(node.list(directory).unwrap()));
        });
        let fresh = node.mkdir(node.root().unwrap(), "fresh").unwrap();
        let mut made = 0u64;
        group.bench_function("create, visible", |bencher| {
            bencher.iter(|| {
                made += 1;
                node.create(fresh, &format!("n{made}"))
                    .unwrap()
                    .without_durability()
            });
        });
        group.bench_function("create, durable", |bencher| {
            bencher.iter(|| {
                made += 1;
                node.wait(node.create(fresh, &format!("n{made}")).unwrap())
                    .unwrap()
            });
        });
        group.finish();
    }
}

criterion_group!(metadata, benches);
criterion_main!(metadata);
