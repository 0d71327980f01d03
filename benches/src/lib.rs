//! What the benchmarks share: volumes on a real disk, in a directory of their own that goes with them.
//!
//! `CAIRN_BENCH_DIR` names where that directory is made; default is the system's directory for temporary files. What is
//! measured there includes the disk: compare figures of one run with each other, not with those of another machine.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use cairn_content::log::DirectoryStore;
use cairn_metadata::engine::rocks::{RocksEngine, RocksSettings};
use cairn_types::{Clock, ExportPolicy, Randomness, Timestamp, WorkspaceName};
use cairn_vfs::control::NewWorkspace;
use cairn_vfs::filesystem::{Attributes, Caller, CreateMode, ObjectId, SetAttributes, Stability};
use cairn_vfs::{Error, FileSystem, Pending, Volumes, VolumesParts, VolumesSettings};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A clock that moves a microsecond with every look.
#[derive(Default)]
pub struct Ticks(AtomicU64);

impl Clock for Ticks {
    fn now(&self) -> Timestamp {
        let ticks = self.0.fetch_add(1, Ordering::Relaxed);
        let (seconds, micros) = (ticks / 1_000_000, ticks % 1_000_000);
        Timestamp::new(1_800_000_000 + seconds as i64, micros as u32 * 1000)
    }
}

/// A generator that needs to be no better than different each time.
#[derive(Default)]
pub struct Chance(AtomicU64);

impl Randomness for Chance {
    fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let word = self
                .0
                .fetch_add(1, Ordering::Relaxed)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .to_le_bytes();
            chunk.iter_mut().zip(word).for_each(|(to, from)| *to = from);
        }
    }
}

/// The workspace that the benchmarks work in.
pub const WORKSPACE: &str = "bench";

/// Makes a directory that goes when the value goes.
pub fn directory() -> anyhow::Result<TempDir> {
    let base = std::env::var_os("CAIRN_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    Ok(tempfile::Builder::new().prefix("cairn-bench-").tempdir_in(base)?)
}

/// Volumes on disk with one empty workspace.
pub struct Node {
    /// The volumes.
    pub volumes: Arc<Volumes>,
    runtime: Runtime,
    settings: VolumesSettings,
    directory: TempDir,
}

/// Opens volumes in a directory. Random values count from `random`.
fn open(directory: &Path, settings: VolumesSettings, random: u64) -> anyhow::Result<Arc<Volumes>> {
    let engine = RocksEngine::open(directory.join("metadata"), RocksSettings::default())?;
    let parts = VolumesParts {
        engine: Arc::new(engine),
        segments: Arc::new(DirectoryStore::open(&directory.join("log"))?),
        clock: Arc::new(Ticks::default()),
        randomness: Arc::new(Chance(AtomicU64::new(random))),
    };
    Ok(Volumes::open(parts, settings)?)
}

/// root.
pub fn caller() -> Caller {
    Caller {
        uid: 0,
        gid: 0,
        groups: Arc::new([]),
    }
}

/// The name of [`WORKSPACE`].
pub fn workspace() -> WorkspaceName {
    WorkspaceName::new(WORKSPACE).expect("the name is valid")
}

impl Node {
    /// Opens volumes in a fresh directory.
    pub fn new(settings: VolumesSettings) -> anyhow::Result<Node> {
        let directory = directory()?;
        let volumes = open(directory.path(), settings.clone(), 1)?;
        let policy = ExportPolicy {
            privileged_port: false,
            ..ExportPolicy::default()
        };
        volumes.create_workspace(NewWorkspace {
            name: workspace(),
            policy,
            uid: 0,
            gid: 0,
            mode: 0o755,
        })?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        Ok(Node {
            volumes,
            runtime,
            settings,
            directory,
        })
    }

    /// Closes the volumes and opens them again: the database has then written its memory to tables, whatever was done
    /// before.
    pub fn reopen(self) -> anyhow::Result<Node> {
        let Node {
            volumes,
            runtime,
            settings,
            directory,
        } = self;
        volumes.close()?;
        drop(volumes);
        let volumes = open(directory.path(), settings.clone(), 1 << 32)?;
        Ok(Node {
            volumes,
            runtime,
            settings,
            directory,
        })
    }

    /// Waits until a change is durable.
    pub fn wait<T>(&self, pending: Pending<T>) -> Result<T, Error> {
        self.runtime.block_on(pending.durable())
    }

    /// The root of [`WORKSPACE`].
    pub fn root(&self) -> Result<ObjectId, Error> {
        Ok(self.volumes.mount(format!("/{WORKSPACE}").as_bytes())?.object)
    }

    /// Makes a directory, without waiting for it to be durable.
    pub fn mkdir(&self, parent: ObjectId, name: &str) -> Result<ObjectId, Error> {
        let set = SetAttributes::default();
        let made = self
            .volumes
            .mkdir(&caller(), parent, name.as_bytes(), set, &|_| None)?;
        Ok(made.without_durability().attributes.object)
    }

    /// Makes a file. It is durable once the pending value has been waited for.
    pub fn create(&self, parent: ObjectId, name: &str) -> Result<Pending<Attributes>, Error> {
        let mode = CreateMode::Guarded(SetAttributes::default());
        let made = self
            .volumes
            .create(&caller(), parent, name.as_bytes(), mode, &|_| None)?;
        Ok(made.map(|created| created.attributes))
    }

    /// Makes `files` files of 100 bytes in directories of 1,000; gives some of them back to look up.
    pub fn populate(&self, files: usize) -> Result<Vec<(ObjectId, String, ObjectId)>, Error> {
        let root = self.root()?;
        let mut sample = Vec::new();
        let mut directory = root;
        for index in 0..files {
            if index % 1000 == 0 {
                directory = self.mkdir(root, &format!("d{:04}", index / 1000))?;
            }
            let name = format!("file-{index:07}");
            let file = self.create(directory, &name)?.without_durability().object;
            let data = Bytes::from_static(&[b'x'; 100]);
            self.volumes
                .write(&caller(), file, 0, data, Stability::Unstable)?
                .without_durability();
            if index % (files / 1000).max(1) == 0 {
                sample.push((directory, name, file));
            }
        }
        self.volumes.flush()?;
        Ok(sample)
    }

    /// Counts the entries of a directory by listing it.
    pub fn list(&self, directory: ObjectId) -> Result<usize, Error> {
        let mut entries = 0;
        self.volumes.readdir(&caller(), directory, 0, true, &mut |_| {
            entries += 1;
            ControlFlow::Continue(())
        })?;
        Ok(entries)
    }
}
