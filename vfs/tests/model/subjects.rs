//! The real volumes as subjects: on engines in memory, whose power can be cut, and on RocksDB and log files on disk, whose
//! process can be killed.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cairn_content::log::directory::DirectoryStore;
use cairn_content::log::testing::MemoryStore;
use cairn_content::log::{LogSettings, store::SegmentStore};
use cairn_metadata::engine::Engine;
use cairn_metadata::engine::memory::MemoryEngine;
use cairn_metadata::engine::rocks::{RocksEngine, RocksSettings};
use cairn_types::{Randomness, SnapshotReference, WorkspaceName};
use cairn_vfs::control::{
    CapacityLimits, ControlError, Difference, NewSnapshot, NewWorkspace, Restored, Snapshot, Workspace,
};
use cairn_vfs::{FileSystem, Volumes, VolumesParts, VolumesSettings};
use tempfile::TempDir;

use crate::subject::{Stop, Subject, TestClock};

/// xorshift64*: chance enough for tests, and the same each time.
pub struct Chance(AtomicU64);

impl Chance {
    fn next(&self) -> u64 {
        let mut x = self.0.load(Ordering::Relaxed);
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0.store(x, Ordering::Relaxed);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

impl Randomness for Chance {
    fn fill(&self, buffer: &mut [u8]) {
        buffer
            .iter_mut()
            .for_each(|byte| *byte = (self.next() >> 32) as u8);
    }
}

/// Where the volumes keep their data, and how it looks after a stop.
pub trait Home {
    /// Opens the stores.
    fn stores(&self) -> (Arc<dyn Engine>, Arc<dyn SegmentStore>);
    /// Takes, while the volumes run, what they will find after the stop; `false` if they cannot stop so.
    fn stop(&mut self, stop: Stop) -> bool;
}

/// Stores in memory.
#[derive(Default)]
pub struct Memory {
    engine: MemoryEngine,
    segments: MemoryStore,
    cuts: u64,
}

impl Home for Memory {
    fn stores(&self) -> (Arc<dyn Engine>, Arc<dyn SegmentStore>) {
        (Arc::new(self.engine.clone()), Arc::new(self.segments.clone()))
    }

    fn stop(&mut self, stop: Stop) -> bool {
        match stop {
            Stop::Drop => true,
            Stop::Kill => false,
            Stop::PowerCut => {
                self.cuts += 1;
                self.engine = self.engine.power_cut();
                self.segments = self.segments.power_cut(self.cuts);
                true
            }
        }
    }
}

/// Stores on disk.
pub struct Disk {
    directory: TempDir,
}

impl Disk {
    /// Stores in a new directory.
    pub fn new() -> Self {
        Disk {
            directory: tempfile::tempdir().unwrap(),
        }
    }
}

impl Home for Disk {
    fn stores(&self) -> (Arc<dyn Engine>, Arc<dyn SegmentStore>) {
        let settings = RocksSettings {
            write_buffer_bytes: 256 << 10,
            ..RocksSettings::default()
        };
        let engine = RocksEngine::open(self.directory.path().join("metadata"), settings).unwrap();
        let segments = self.directory.path().join("log");
        (
            Arc::new(engine),
            Arc::new(DirectoryStore::open(&segments).unwrap()),
        )
    }

    /// The files as the system has them are those that a killed process leaves.
    fn stop(&mut self, stop: Stop) -> bool {
        match stop {
            Stop::Drop => true,
            Stop::PowerCut => false,
            Stop::Kill => {
                // What works in the background may remove a file meanwhile: then the copy is none of one moment, and is made again.
                self.directory = loop {
                    let copy = tempfile::tempdir().unwrap();
                    match copy_files(self.directory.path(), copy.path()) {
                        Ok(()) => break copy,
                        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}"),
                    }
                };
                true
            }
        }
    }
}

/// Copies a directory without what locks it.
fn copy_files(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy_files(&entry.path(), &target)?;
        } else if entry.file_name() != "LOCK" {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// When the work in the background is done.
#[derive(Debug, Clone, Copy)]
pub enum Background {
    /// At stops only.
    Never,
    /// All the time.
    Always,
}

/// Volumes under test.
pub struct Real<H: Home> {
    home: H,
    volumes: Option<Arc<Volumes>>,
    clock: Arc<TestClock>,
    randomness: Arc<Chance>,
    background: Background,
}

impl<H: Home> Real<H> {
    /// Opens volumes in an empty home.
    pub fn new(home: H, clock: Arc<TestClock>, background: Background) -> Self {
        let randomness = Arc::new(Chance(AtomicU64::new(0x9e37_79b9_7f4a_7c15)));
        let mut real = Real {
            home,
            volumes: None,
            clock,
            randomness,
            background,
        };
        real.open();
        real
    }

    fn open(&mut self) {
        let (engine, segments) = self.home.stores();
        let interval = match self.background {
            Background::Never => Duration::from_secs(86_400),
            Background::Always => Duration::from_millis(2),
        };
        let settings = VolumesSettings {
            // Small, so that a sequence fills several segments.
            log: LogSettings {
                segment_bytes: 5 << 20,
                ..LogSettings::default()
            },
            disk_reserve_bytes: 0,
            flush_interval: interval,
            sweep_interval: interval,
            ..VolumesSettings::default()
        };
        let parts = VolumesParts {
            engine,
            segments,
            clock: self.clock.clone(),
            randomness: self.randomness.clone(),
        };
        self.volumes = Some(Volumes::open(parts, settings).unwrap());
    }

    fn volumes(&self) -> &Volumes {
        self.volumes.as_ref().unwrap()
    }
}

impl<H: Home> Subject for Real<H> {
    fn files(&self) -> &dyn FileSystem {
        self.volumes()
    }

    fn create_workspace(&self, new: NewWorkspace) -> Result<Workspace, ControlError> {
        self.volumes().create_workspace(new)
    }

    fn workspaces(&self) -> Result<Vec<Workspace>, ControlError> {
        self.volumes().workspaces()
    }

    fn workspace(&self, name: &WorkspaceName) -> Result<Workspace, ControlError> {
        self.volumes().workspace(name)
    }

    fn delete_workspace(&self, name: &WorkspaceName, with_snapshots: bool) -> Result<(), ControlError> {
        self.volumes().delete_workspace(name, with_snapshots)
    }

    fn snapshot(&self, name: &WorkspaceName, new: NewSnapshot) -> Result<Snapshot, ControlError> {
        self.volumes().snapshot(name, new)
    }

    fn delete_snapshot(
        &self,
        name: &WorkspaceName,
        reference: &SnapshotReference,
    ) -> Result<Snapshot, ControlError> {
        self.volumes().delete_snapshot(name, reference)
    }

    fn set_capacity(&self, name: &WorkspaceName, limits: CapacityLimits) -> Result<Workspace, ControlError> {
        self.volumes().set_capacity(name, limits)
    }

    fn history(&self, name: &WorkspaceName) -> Result<Vec<Snapshot>, ControlError> {
        self.volumes().history(name)
    }

    fn resolve(&self, name: &WorkspaceName, reference: &SnapshotReference) -> Result<Snapshot, ControlError> {
        self.volumes().resolve(name, reference)
    }

    fn diff(
        &self,
        name: &WorkspaceName,
        from: &SnapshotReference,
        to: Option<&SnapshotReference>,
    ) -> Result<Vec<Difference>, ControlError> {
        let mut differences = Vec::new();
        self.volumes().diff(name, from, to, &mut |difference| {
            differences.push(difference);
            ControlFlow::Continue(())
        })?;
        Ok(differences)
    }

    fn restore(&self, name: &WorkspaceName, reference: &SnapshotReference) -> Result<Restored, ControlError> {
        self.volumes().restore(name, reference)
    }

    fn fork(
        &self,
        name: &WorkspaceName,
        reference: &SnapshotReference,
        new: &WorkspaceName,
    ) -> Result<Workspace, ControlError> {
        self.volumes().fork(name, reference, new)
    }

    fn restart(&mut self, stop: Stop) -> bool {
        let stopped = self.home.stop(stop);
        if stopped {
            self.volumes = None;
            self.open();
        }
        stopped
    }
}
