//! A workspace and a place for its snapshots, and what was captured there.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_snapshot::archive::Progress;
use cairn_snapshot::directory::{Body, Entry, Record, RelativePath, Skip, WalkOptions};
use cairn_snapshot::engine::{
    Capture, Captured, EngineError, EngineKind, Site, Target, Tools, capture, remove_snapshot, seal_snapshot,
};
use cairn_snapshot::manifest::{ManifestOptions, ManifestReader, ManifestWriter};
use cairn_types::Timestamp;
use rustix::time::{ClockId, clock_gettime};

use crate::replica;

/// A workspace at `path`, with a control directory `.jvs` in it.
pub struct Workspace {
    pub path: PathBuf,
    pub tools: Tools,
}

/// What was captured.
#[derive(Debug)]
pub struct Taken {
    pub captured: Captured,
    pub manifest: ManifestReader,
    pub path: PathBuf,
}

impl Workspace {
    pub fn new(path: PathBuf) -> Self {
        fs::create_dir_all(path.join(".jvs/staging")).unwrap();
        let tools = Tools::find(&std::env::var_os("PATH").unwrap(), None);
        Workspace { path, tools }
    }

    pub fn staging(&self) -> PathBuf {
        self.path.join(".jvs/staging")
    }

    /// Everything but the control directory.
    pub fn walk() -> WalkOptions {
        WalkOptions {
            skip: Some(Arc::new(|path, _| match path.as_bytes() == b".jvs" {
                true => Skip::LeaveOut,
                false => Skip::Keep,
            })),
            threads: 1,
            ..WalkOptions::default()
        }
    }

    pub fn take(&self, engine: EngineKind, name: &str) -> Result<Taken, EngineError> {
        self.take_by(engine, name, None, now(), Self::walk())
    }

    pub fn take_by(
        &self,
        engine: EngineKind,
        name: &str,
        previous: Option<&ManifestReader>,
        racy_after: Timestamp,
        walk: WalkOptions,
    ) -> Result<Taken, EngineError> {
        let staging = self.staging();
        let (source, parent) = (File::open(&self.path).unwrap(), File::open(&staging).unwrap());
        let path = staging.join(name);
        let listed = tempfile::tempfile().unwrap();
        let mut manifest =
            ManifestWriter::create(listed.try_clone().unwrap(), ManifestOptions::default()).unwrap();
        let captured = capture(
            engine,
            &self.tools,
            Capture {
                source: source.as_fd(),
                source_path: &self.path,
                walk,
                previous,
                target: Target {
                    parent: parent.as_fd(),
                    name: OsStr::new(name),
                    path: &path,
                },
                manifest: &mut manifest,
                racy_after,
                threads: 2,
                progress: &Progress::new(),
            },
        )?;
        manifest.finish().unwrap();
        Ok(Taken {
            captured,
            manifest: ManifestReader::open(listed).unwrap(),
            path,
        })
    }

    pub fn seal(&self, name: &str) {
        let staging = File::open(self.staging()).unwrap();
        seal_snapshot(
            &self.tools,
            staging.as_fd(),
            OsStr::new(name),
            &self.staging().join(name),
        )
        .unwrap();
    }

    pub fn remove(&self, name: &str) {
        let staging = File::open(self.staging()).unwrap();
        let path = self.staging().join(name);
        remove_snapshot(
            &self.tools,
            staging.as_fd(),
            OsStr::new(name),
            &path,
            2,
            &Progress::new(),
        )
        .unwrap();
        assert!(fs::symlink_metadata(path).is_err());
    }

    pub fn with_site<T>(&self, ask: impl FnOnce(&Site<'_>) -> T) -> T {
        let staging_path = self.staging();
        let (workspace, staging) = (
            File::open(&self.path).unwrap(),
            File::open(&staging_path).unwrap(),
        );
        ask(&Site {
            workspace: workspace.as_fd(),
            workspace_path: &self.path,
            staging: staging.as_fd(),
            staging_path: &staging_path,
        })
    }

    /// What is in the workspace, without the control directory.
    pub fn entries(&self) -> Vec<Entry> {
        let control = RelativePath::new(b".jvs").unwrap();
        let mut entries = replica::entries(&File::open(&self.path).unwrap());
        entries.retain(|entry| !entry.path.is_within(&control));
        entries
    }
}

impl Taken {
    pub fn records(&self) -> Vec<Record> {
        self.manifest.records().map(|record| record.unwrap()).collect()
    }

    /// What the tree on disk has.
    pub fn entries(&self) -> Vec<Entry> {
        replica::entries(&File::open(&self.path).unwrap())
    }

    /// Holds the tree and the manifest against what was there.
    pub fn expect(&self, there: &[Entry]) {
        assert_eq!(
            replica::differences(there, &self.entries()),
            Vec::<String>::new(),
            "in the tree"
        );
        self.expect_listed(there);
    }

    pub fn expect_listed(&self, there: &[Entry]) {
        let listed: Vec<Entry> = self.records().into_iter().map(|record| record.entry).collect();
        // Nobody has read the data yet.
        let unread: Vec<Entry> = there.iter().cloned().map(unread).collect();
        let listed: Vec<Entry> = listed.into_iter().map(unread_entry).collect();
        assert_eq!(unread.len(), listed.len());
        for (there, listed) in unread.iter().zip(&listed) {
            assert_eq!(there, listed);
        }
    }
}

fn unread(mut entry: Entry) -> Entry {
    if let Body::File(body) = &mut entry.body {
        body.digest = None;
    }
    entry
}

fn unread_entry(entry: Entry) -> Entry {
    unread(entry)
}

/// Now, by the clock that file systems use.
pub fn now() -> Timestamp {
    let now = clock_gettime(ClockId::Realtime);
    Timestamp::new(now.tv_sec, u32::try_from(now.tv_nsec).unwrap())
}

/// A time when everything that was done so far is long past.
pub fn later() -> Timestamp {
    Timestamp::new(now().seconds() + 10, 0)
}

pub fn path(text: &str) -> RelativePath {
    RelativePath::new(text.as_bytes()).unwrap()
}

pub fn executable(path: &Path, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, script).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
