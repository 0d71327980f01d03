//! Choosing an engine by trying it on the very pair of directories, without a trace in the workspace.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;

use cairn_snapshot::engine::{EngineError, EngineKind, Site, Tools, choose};

use crate::filesystems::{self, Kind};
use crate::site::{Workspace, executable};

fn reasons(degraded: &[cairn_snapshot::engine::Degradation]) -> Vec<EngineKind> {
    degraded.iter().map(|degradation| degradation.from).collect()
}

#[test]
fn each_file_system_gets_its_best_engine() {
    for mounted in filesystems::every() {
        for filled in [false, true] {
            let workspace = Workspace::new(mounted.path().join(format!("{filled}")));
            if filled {
                fs::create_dir_all(workspace.path.join("a/b")).unwrap();
                fs::write(workspace.path.join("a/b/file"), "data").unwrap();
            }
            let before = workspace.entries();
            let choice = workspace
                .with_site(|site| choose(site, None, &workspace.tools))
                .unwrap();
            let (best, passed) = match mounted.kind.has_reflink() {
                true => (EngineKind::ReflinkCopy, 2),
                false => (EngineKind::Copy, 3),
            };
            assert_eq!(
                (choice.used, choice.requested),
                (best, None),
                "{:?}",
                mounted.kind
            );
            assert_eq!(reasons(&choice.degraded), EngineKind::AUTOMATIC[..passed]);
            assert_eq!(workspace.entries(), before);
            assert_eq!(fs::read_dir(workspace.staging()).unwrap().count(), 0);
        }
    }
}

#[test]
fn what_is_asked_for_is_used_or_refused() {
    let place = tempfile::tempdir_in("/dev/shm").unwrap();
    let workspace = Workspace::new(place.path().join("w"));
    let ask = |engine| workspace.with_site(|site| choose(site, Some(engine), &workspace.tools));
    for engine in [EngineKind::Copy, EngineKind::Archive] {
        let choice = ask(engine).unwrap();
        assert_eq!(
            (choice.used, choice.requested, choice.degraded),
            (engine, Some(engine), vec![])
        );
    }
    for (engine, what) in [
        (EngineKind::ReflinkCopy, "cannot share blocks"),
        (EngineKind::BtrfsSubvolume, "not the root of a Btrfs subvolume"),
        (EngineKind::JuicefsClone, "not on JuiceFS"),
    ] {
        let error = ask(engine).unwrap_err();
        assert!(matches!(error, EngineError::Unavailable { .. }));
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn the_pair_decides_and_not_one_of_both() {
    let Some(mounted) = filesystems::mount(Kind::Xfs, 512) else {
        return;
    };
    let staging_path = tempfile::tempdir().unwrap();
    fs::write(mounted.path().join("file"), "data").unwrap();
    let (workspace, staging) = (
        File::open(mounted.path()).unwrap(),
        File::open(staging_path.path()).unwrap(),
    );
    let site = Site {
        workspace: workspace.as_fd(),
        workspace_path: mounted.path(),
        staging: staging.as_fd(),
        staging_path: staging_path.path(),
    };
    let choice = choose(&site, None, &Tools::default()).unwrap();
    assert_eq!(choice.used, EngineKind::Copy);
    assert!(
        choice.degraded[2].reason.contains("another file system"),
        "{}",
        choice.degraded[2].reason
    );
    fs::remove_file(mounted.path().join("file")).unwrap();
    assert_eq!(
        choose(&site, None, &Tools::default()).unwrap().used,
        EngineKind::Copy
    );
}

#[test]
fn programs_are_found_where_path_says_so() {
    let place = tempfile::tempdir().unwrap();
    let (first, second) = (place.path().join("1"), place.path().join("2"));
    for directory in [&first, &second] {
        fs::create_dir(directory).unwrap();
    }
    fs::write(first.join("juicefs"), "not executable").unwrap();
    executable(&second.join("juicefs"), "#!/bin/sh\n");
    let search = std::env::join_paths([Path::new("."), &first, &second]).unwrap();
    let found = Tools::find(&search, None);
    assert_eq!((found.juicefs, found.btrfs), (Some(second.join("juicefs")), None));
    assert_eq!(Tools::find(&search, Some(&first.join("juicefs"))).juicefs, None);
}
