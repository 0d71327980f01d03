//! Snapshot, restore and fork of volumes with 1,000 and with 1,000,000 files (`CAIRN_BENCH_FILES` sets the larger number).
//!
//! After the figures it prints what the promise is about: the ratio of the medians.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_benches::{Node, caller, workspace};
use cairn_types::{SnapshotReference, WorkspaceName};
use cairn_vfs::control::NewSnapshot;
use cairn_vfs::filesystem::{ObjectId, Stability};
use cairn_vfs::{FileSystem, VolumesSettings};
use criterion::{Criterion, criterion_group, criterion_main};

struct Subject {
    files: usize,
    node: Node,
    file: ObjectId,
}

impl Subject {
    fn new(files: usize) -> Subject {
        let node = Node::new(VolumesSettings::default()).unwrap();
        let file = node.populate(files).unwrap()[0].2;
        Subject { files, node, file }
    }

    /// A snapshot of a volume in which something has changed.
    fn snapshot(&self) -> Duration {
        let data = Bytes::from_static(&[b'y'; 20_000]);
        let write = self
            .node
            .volumes
            .write(&caller(), self.file, 0, data, Stability::Unstable);
        write.unwrap().without_durability();
        let started = Instant::now();
        self.node
            .volumes
            .snapshot(&workspace(), NewSnapshot::default())
            .unwrap();
        started.elapsed()
    }

    fn restore(&self) -> Duration {
        let started = Instant::now();
        self.node
            .volumes
            .restore(&workspace(), &SnapshotReference::Latest)
            .unwrap();
        started.elapsed()
    }

    fn fork(&self, index: u64) -> Duration {
        let name = WorkspaceName::new(&format!("fork-{index}")).unwrap();
        let started = Instant::now();
        self.node
            .volumes
            .fork(&workspace(), &SnapshotReference::Latest, &name)
            .unwrap();
        started.elapsed()
    }
}

fn median(mut measured: Vec<Duration>) -> Duration {
    measured.sort();
    measured[measured.len() / 2]
}

fn benches(criterion: &mut Criterion) {
    let large = std::env::var("CAIRN_BENCH_FILES").map_or(1_000_000, |files| files.parse().unwrap());
    let subjects = [1000, large].map(Subject::new);
    let mut forks = 0;
    for subject in &subjects {
        let mut group = criterion.benchmark_group(format!("volume of {} files", subject.files));
        group.sample_size(20);
        group.bench_function("snapshot", |bencher| {
            bencher.iter_custom(|count| (0..count).map(|_| subject.snapshot()).sum());
        });
        group.bench_function("fork", |bencher| {
            bencher.iter_custom(|count| {
                let mut one = |_| {
                    forks += 1;
                    subject.fork(forks)
                };
                (0..count).map(&mut one).sum()
            });
        });
        group.finish();
    }
    let measure = |what: &str, run: &dyn Fn(&Subject) -> Duration| {
        let [small, large] = [0, 1].map(|index| median((0..21).map(|_| run(&subjects[index])).collect()));
        let ratio = large.as_secs_f64() / small.as_secs_f64();
        println!(
            "{what}: {small:?} with {} files, {large:?} with {} files, ratio {ratio:.2}",
            subjects[0].files, subjects[1].files
        );
    };
    measure("snapshot, median of 21", &Subject::snapshot);
    measure("restore, median of 21", &Subject::restore);
}

criterion_group!(snapshot, benches);
criterion_main!(snapshot);
