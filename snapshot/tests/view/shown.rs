//! A view on a mount point, for as long as the value lives.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use cairn_fuse::mounts::mounted_at;
use cairn_fuse::{Mount, MountOptions, Unmounted};
use cairn_snapshot::archive::Progress;
use cairn_snapshot::directory::Entry;
use cairn_snapshot::repository::Descriptor;
use cairn_snapshot::view::{View, open_snapshot};
use tempfile::TempDir;

use crate::place::Place;
use crate::replica;

/// A mounted view.
pub struct Shown {
    mount: Option<Mount>,
    pub view: View,
    ended: Receiver<()>,
    directory: TempDir,
}

/// Whether trees can be mounted here; told loudly if not, and a failure where `CI=true`.
pub fn can_mount() -> bool {
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    let why = match device {
        Ok(_) if rustix::process::geteuid().is_root() => return true,
        Ok(_) => "only root can mount here".to_owned(),
        Err(error) => format!("/dev/fuse: {error}"),
    };
    assert_ne!(
        std::env::var("CI").as_deref(),
        Ok("true"),
        "nothing can be mounted: {why}"
    );
    eprintln!("SKIPPED: nothing can be mounted: {why}");
    false
}

impl Shown {
    pub fn new(view: View) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (tell, ended) = sync_channel(1);
        let options = MountOptions {
            name: view.snapshot().to_string(),
            allow_other: true,
            threads: 4,
        };
        let at = directory.path().join("mounted");
        std::fs::create_dir(&at).unwrap();
        let tell = Box::new(move || {
            // A test that failed does not listen any more.
            let _ = tell.try_send(());
        });
        let mount = cairn_fuse::mount(view.tree(), &at, &options, tell).unwrap();
        Shown {
            mount: Some(mount),
            view,
            ended,
            directory,
        }
    }

    /// A snapshot of a place, whose repository is opened once more.
    pub fn of(place: &Place, descriptor: &Descriptor) -> Self {
        let repository = Arc::new(Place::open(&place.control));
        Shown::new(open_snapshot(repository, descriptor.id, &Progress::new()).unwrap())
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }

    /// All entries, with data read and hashed.
    pub fn entries(&self) -> Vec<Entry> {
        replica::entries(&File::open(self.path()).unwrap())
    }

    /// Unmounts; nothing is mounted afterwards, and the end is told.
    pub fn end(mut self) -> Unmounted {
        let at = self.path().canonicalize().unwrap();
        assert!(mounted_at(&at).unwrap().unwrap().is_ours());
        let outcome = self.mount.take().unwrap().unmount().unwrap();
        assert_eq!(mounted_at(&at).unwrap(), None);
        if outcome == Unmounted::Clean {
            self.ended.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        outcome
    }
}
