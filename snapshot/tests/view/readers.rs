//! While a view is open its snapshot stays.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cairn_fuse::Unmounted;
use cairn_snapshot::archive::Progress;
use cairn_snapshot::engine::{EngineKind, Tools};
use cairn_snapshot::operations::collect::{delete, plan};
use cairn_snapshot::view::open_snapshot;

use crate::filesystems::{self, Kind};
use crate::place::{Place, assert_same};
use crate::shown::{Shown, can_mount};

const WAIT: Duration = Duration::from_secs(20);

#[test]
fn what_is_viewed_is_not_removed() {
    if !can_mount() {
        return;
    }
    for engine in [EngineKind::Copy, EngineKind::Archive] {
        let directory = tempfile::tempdir().unwrap();
        let workspace = directory.path().join("workspace");
        fs::create_dir(&workspace).unwrap();
        fs::write(workspace.join("a"), "first").unwrap();
        let place = Place::new(directory.path(), false);
        let expected = place.entries();
        let first = place.save_with(engine);
        fs::write(workspace.join("a"), "second").unwrap();
        place.save_with(engine);
        place.save_with(engine);
        let config = place.control.join("config.toml");
        fs::write(&config, "[retention]\nkeep_last = 1\n").unwrap();
        let shown = Shown::of(&place, &first);
        let planned = plan(&place.repository, &Tools::default(), WAIT, &Progress::new()).unwrap();
        assert!(planned.removed().all(|id| id != first.id));
        let deleted = delete(
            &place.repository,
            &Tools::default(),
            first.id,
            WAIT,
            &Progress::new(),
        );
        assert!(deleted.is_err() || deleted.unwrap().read == [first.id]);
        assert_same(&expected, &shown.entries());
        assert_eq!(shown.end(), Unmounted::Clean);
        // And afterwards it can go.
        let deleted = delete(
            &place.repository,
            &Tools::default(),
            first.id,
            WAIT,
            &Progress::new(),
        );
        assert_eq!(deleted.unwrap().removed, [first.id]);
    }
}

#[test]
fn a_repository_that_cannot_be_written_can_be_looked_at() {
    let (true, Some(mounted)) = (can_mount(), filesystems::mount(Kind::Tmpfs, 64)) else {
        return;
    };
    let workspace = mounted.path().join("workspace");
    fs::create_dir(&workspace).unwrap();
    fs::write(workspace.join("a"), "first").unwrap();
    let place = Place::new(mounted.path(), false);
    let expected = place.entries();
    let saved = [EngineKind::Copy, EngineKind::Archive].map(|engine| place.save_with(engine));
    let control = place.control.clone();
    // Nobody may have a file open for writing.
    drop(place);
    let remounted = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(mounted.path())
        .status();
    assert!(remounted.unwrap().success());
    for descriptor in saved {
        let repository = Arc::new(Place::open(&control));
        let view = open_snapshot(repository, descriptor.id, &Progress::new()).unwrap();
        assert!(!view.is_leased() && view.unleased().is_some());
        let shown = Shown::new(view);
        assert_same(&expected, &shown.entries());
        assert_eq!(shown.end(), Unmounted::Clean);
    }
}
