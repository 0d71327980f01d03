//! Archiving a snapshot of a volume that has not changed since the last one, with 1,000 and with 1,000,000 files
//! (`CAIRN_BENCH_FILES` sets the larger number), into a directory; and one in which a single file has changed.
//!
//! It prints what the promise is about: the ratio of the medians.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_benches::{Chance, Node, Ticks, caller, workspace};
use cairn_content::objects::{ObjectOptions, ObjectStoreUrl, Objects, Owner, OwnerId};
use cairn_content::sealing::Sealing;
use cairn_snapshot::archive::{Progress, Repository, RepositoryParts, RepositorySettings};
use cairn_vfs::control::NewSnapshot;
use cairn_vfs::filesystem::{ObjectId, Stability};
use cairn_vfs::{FileSystem, VolumesSettings};
use cairnd::archives::Ends;
use cairnd::archives::volumes::NodeEnds;
use cairnd::data_directory::HandleSecret;
use tempfile::TempDir;
use tokio::runtime::Runtime;

struct Subject {
    files: usize,
    node: Node,
    file: ObjectId,
    repository: Repository,
    _runtime: Runtime,
    _directory: TempDir,
}

impl Subject {
    fn new(files: usize) -> Subject {
        let node = Node::new(VolumesSettings::default()).unwrap();
        let file = node.populate(files).unwrap()[0].2;
        let directory = cairn_benches::directory().unwrap();
        let store = directory.path().join("store");
        std::fs::create_dir(&store).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let url = ObjectStoreUrl::from_directory(&store).unwrap();
        let parts = RepositoryParts {
            objects: Objects::open(&url, ObjectOptions::default(), Arc::new(Chance::default())).unwrap(),
            runtime: runtime.handle().clone(),
            cache: directory.path().join("cache"),
            clock: Arc::new(Ticks::default()),
            owner: Owner {
                id: OwnerId::new([1; 16]),
                name: "bench".to_owned(),
            },
            sealing: Sealing::plain(),
        };
        let subject = Subject {
            files,
            node,
            file,
            repository: Repository::open(parts, RepositorySettings::default()).unwrap(),
            _runtime: runtime,
            _directory: directory,
        };
        let first = subject.push();
        println!("first push of {files} files: {first:?}");
        subject
    }

    /// Takes a snapshot and pushes it; the time of the push.
    fn push(&self) -> Duration {
        let taken = self
            .node
            .volumes
            .snapshot(&workspace(), NewSnapshot::default())
            .unwrap();
        let ends = NodeEnds::new(self.node.volumes.clone(), HandleSecret([1; 16]));
        let started = Instant::now();
        let (source, description) = ends.source(&workspace(), taken.id).unwrap();
        let pushed = self
            .repository
            .push(&*source, description, &Progress::new())
            .unwrap();
        assert!(!pushed.already_there);
        started.elapsed()
    }

    fn push_changed(&self) -> Duration {
        let data = Bytes::from(Instant::now().elapsed().as_nanos().to_le_bytes().repeat(100));
        let write = self
            .node
            .volumes
            .write(&caller(), self.file, 0, data, Stability::Unstable);
        write.unwrap().without_durability();
        self.push()
    }
}

fn median(mut measured: Vec<Duration>) -> Duration {
    measured.sort();
    measured[measured.len() / 2]
}

fn main() {
    let large = std::env::var("CAIRN_BENCH_FILES").map_or(1_000_000, |files| files.parse().unwrap());
    let subjects = [1000, large].map(Subject::new);
    let measure = |what: &str, run: &dyn Fn(&Subject) -> Duration| {
        let [small, large] = [0, 1].map(|index| median((0..21).map(|_| run(&subjects[index])).collect()));
        println!(
            "{what}, median of 21: {small:?} with {} files, {large:?} with {} files, ratio {:.2}",
            subjects[0].files,
            subjects[1].files,
            large.as_secs_f64() / small.as_secs_f64()
        );
    };
    measure("unchanged push", &Subject::push);
    measure("push, one file changed", &Subject::push_changed);
}
