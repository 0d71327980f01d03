//! A workspace in a directory that goes away, and processes that do something in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cairn_snapshot::archive::Progress;
use cairn_snapshot::engine::{EngineKind, Tools};
use cairn_snapshot::operations::restore::{Unsaved, restore};
use cairn_snapshot::operations::save::{SaveRequest, save};
use cairn_snapshot::operations::verify::{VerifyRequest, verify};
use cairn_snapshot::repository::Repository;
use cairn_types::SnapshotId;

use crate::place::{Place, assert_same, parts, request};

/// A repository whose control directory is not in the workspace.
pub struct Site {
    pub place: Place,
    pub directory: tempfile::TempDir,
}

impl Site {
    pub fn new() -> Site {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("workspace")).unwrap();
        let place = Place::new(directory.path(), false);
        Site { place, directory }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.place.workspace.join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }
}

/// Saves what is there with each engine that works everywhere, empties the workspace, and restores: everything must be as before.
pub fn comes_back(site: &Site) {
    let place = &site.place;
    let before = place.entries();
    assert!(before.len() > 1);
    for engine in [EngineKind::Copy, EngineKind::Archive] {
        let saved = place.save_with(engine).id;
        empty(&place.workspace);
        place.restore(saved, &[], Unsaved::Discard).unwrap();
        assert_same(&before, &place.entries());
    }
}

/// Removes everything in a directory.
pub fn empty(workspace: &Path) {
    for entry in fs::read_dir(workspace).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => fs::remove_dir_all(entry.path()).unwrap(),
            false => fs::remove_file(entry.path()).unwrap(),
        }
    }
}

const WORKER: &str = "CAIRN_WORKER";

/// What a process of its own does, when this program is one: what the variable says.
#[test]
fn worker() {
    let Ok(order) = std::env::var(WORKER) else {
        return;
    };
    let mut words = order.split(' ');
    let repository = Repository::open(Path::new(words.next().unwrap()), parts()).unwrap();
    match words.next().unwrap() {
        "save" => {
            let wanted = SaveRequest {
                engine: words
                    .next()
                    .map(|word| EngineKind::requested(word).unwrap().unwrap()),
                ..SaveRequest::new("of the worker".to_owned())
            };
            save(&repository, &Tools::default(), &wanted, &Progress::new()).unwrap();
        }
        "restore" => {
            let id = SnapshotId::parse(words.next().unwrap()).unwrap();
            let wanted = request(id, &[], Unsaved::Discard);
            restore(&repository, &Tools::default(), &wanted, &Progress::new()).unwrap();
        }
        "verify" => {
            let id = SnapshotId::parse(words.next().unwrap()).unwrap();
            let found = verify(&repository, id, VerifyRequest::default(), &Progress::new()).unwrap();
            assert_eq!(found.damaged, 0);
        }
        other => panic!("{other}"),
    }
    let told = fs::read_to_string("/proc/self/io").unwrap();
    if let Some(path) = std::env::var_os("CAIRN_WORKER_IO") {
        fs::write(path, told).unwrap();
    }
}

/// A process that does something with a repository, after `before` on its command line.
pub fn work(before: &[&str], control: &Path, order: &str) -> Command {
    let own = std::env::current_exe().unwrap();
    let mut words: Vec<&std::ffi::OsStr> = before.iter().map(|word| word.as_ref()).collect();
    words.push(own.as_os_str());
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .args(["--exact", "site::worker", "--test-threads=1"])
        .env(WORKER, format!("{} {order}", control.display()));
    command
}
