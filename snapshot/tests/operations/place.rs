//! A workspace with a repository, on any file system.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use cairn_snapshot::archive::Progress;
use cairn_snapshot::directory::{Entry, RelativePath};
use cairn_snapshot::engine::{EngineKind, Tools};
use cairn_snapshot::operations::OperationError;
use cairn_snapshot::operations::restore::{RestoreRequest, Restored, Unsaved, restore};
use cairn_snapshot::operations::save::{SaveRequest, Saved, save};
use cairn_snapshot::repository::{Descriptor, Host, LeaseTimes, Parts, Repository, SystemTicks};
use cairn_types::{Clock, Randomness, SnapshotId, Timestamp};

use crate::replica;

pub struct Chance;

impl Randomness for Chance {
    fn fill(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer).unwrap();
    }
}

/// A clock that moves a second with every look.
#[derive(Default)]
pub struct Seconds(AtomicI64);

impl Clock for Seconds {
    fn now(&self) -> Timestamp {
        Timestamp::new(1_795_000_000 + self.0.fetch_add(1, Ordering::Relaxed), 0)
    }
}

/// Where requests run; it lives as long as the process.
fn runtime() -> tokio::runtime::Handle {
    static RUNTIME: std::sync::OnceLock<tokio::runtime::Runtime> = std::sync::OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().unwrap()
    });
    runtime.handle().clone()
}

pub fn parts() -> Parts {
    Parts {
        clock: Arc::new(Seconds::default()),
        randomness: Arc::new(Chance),
        ticks: Arc::new(SystemTicks::new()),
        host: Host::detect().unwrap(),
        actor: "tester".to_owned(),
        lease_times: LeaseTimes::default(),
        runtime: Some(runtime()),
    }
}

pub struct Place {
    pub workspace: PathBuf,
    pub control: PathBuf,
    pub repository: Repository,
}

impl Place {
    /// Puts `base/workspace`, which is there, under version control.
    pub fn new(base: &Path, inside: bool) -> Place {
        let workspace = base.join("workspace");
        let control = match inside {
            true => workspace.join(".jvs"),
            false => base.join("control"),
        };
        let outside = (!inside).then_some(control.as_path());
        let repository = Repository::init(&workspace, outside, parts()).unwrap();
        Place {
            workspace,
            control,
            repository,
        }
    }

    pub fn open(control: &Path) -> Repository {
        Repository::open(control, parts()).unwrap()
    }

    /// All entries of the workspace but those that are Cairn's.
    pub fn entries(&self) -> Vec<Entry> {
        entries(&self.workspace)
    }

    pub fn try_save(&self, request: &SaveRequest) -> Result<Descriptor, OperationError> {
        let saved = save(&self.repository, &Tools::default(), request, &Progress::new())?;
        match saved.0 {
            Saved::New(descriptor) => Ok(*descriptor),
            other => panic!("{other:?}"),
        }
    }

    pub fn save(&self) -> Descriptor {
        self.try_save(&SaveRequest::new("a note".to_owned())).unwrap()
    }

    pub fn save_with(&self, engine: EngineKind) -> Descriptor {
        let mut request = SaveRequest::new(String::new());
        request.engine = Some(engine);
        self.try_save(&request).unwrap()
    }

    pub fn restore(
        &self,
        snapshot: SnapshotId,
        paths: &[&str],
        unsaved: Unsaved,
    ) -> Result<Restored, OperationError> {
        let request = request(snapshot, paths, unsaved);
        restore(&self.repository, &Tools::default(), &request, &Progress::new())
    }
}

pub fn request(snapshot: SnapshotId, paths: &[&str], unsaved: Unsaved) -> RestoreRequest {
    RestoreRequest {
        snapshot,
        paths: paths
            .iter()
            .map(|path| RelativePath::new(path.as_bytes()).unwrap())
            .collect(),
        unsaved,
        wait: Duration::from_secs(10),
    }
}

/// All entries of a workspace but those that are Cairn's.
pub fn entries(workspace: &Path) -> Vec<Entry> {
    let found = replica::entries(&File::open(workspace).unwrap());
    let ours = |entry: &Entry| entry.path.as_bytes().split(|byte| *byte == b'/').next() == Some(b".jvs");
    found.into_iter().filter(|entry| !ours(entry)).collect()
}

/// The trees are the same, the times of the root aside where `.jvs` is in it.
pub fn assert_same(expected: &[Entry], found: &[Entry]) {
    assert_eq!(replica::differences(expected, found), Vec::<String>::new());
}
