//! What else is killed: removing, verifying, forking, labelling, repairing, beginning. After each kill the next operation finds or makes everything
//! done or undone, and the doctor nothing to say.

use std::fs;
use std::path::Path;
use std::time::Duration;

use cairn_snapshot::archive::Progress;
use cairn_snapshot::directory::Entry;
use cairn_snapshot::engine::{EngineKind, Tools};
use cairn_snapshot::operations::labels::{LabelRequest, change_labels};
use cairn_snapshot::operations::restore::Unsaved;
use cairn_snapshot::operations::verify::VerifyRequest;
use cairn_snapshot::operations::{collect, doctor};
use cairn_snapshot::repository::{AuditEvent, OperationId, Repository, RepositoryError};
use cairn_types::{SnapshotId, Tag, hexadecimal};

use super::{can_kill, check, stride, strike, tree};
use crate::filesystems::{self, Kind};
use crate::place::{Place, assert_same, entries, parts};

const WAIT: Duration = Duration::from_secs(10);

pub fn delete(repository: &Repository, id: SnapshotId) {
    collect::delete(repository, &Tools::default(), id, WAIT, &Progress::new()).unwrap();
}

pub fn collect(repository: &Repository, plan: &str) {
    let plan = OperationId(hexadecimal::parse(plan).unwrap());
    collect::run(repository, &Tools::default(), plan, WAIT, &Progress::new()).unwrap();
}

pub fn verify(repository: &Repository, id: SnapshotId) {
    let found = cairn_snapshot::operations::verify::verify(
        repository,
        id,
        VerifyRequest::default(),
        &Progress::new(),
    );
    assert_eq!(found.unwrap().damaged, 0);
}

pub fn label(repository: &Repository, id: SnapshotId) {
    let request = LabelRequest {
        snapshot: id,
        event: AuditEvent::Label,
        details: Default::default(),
        wait: WAIT,
    };
    let add = |labels: &mut cairn_snapshot::repository::Labels| {
        labels
            .tags
            .insert(Tag::new(&format!("t{}", labels.revision)).unwrap());
    };
    change_labels(repository, &Tools::default(), &request, add, &Progress::new()).unwrap();
}

pub fn repair(repository: &Repository) {
    doctor::examine(repository, &Tools::default(), true, &Progress::new()).unwrap();
}

pub fn fork(repository: &Repository, of: SnapshotId, target: &Path) {
    let forked = cairn_snapshot::operations::fork::fork(
        repository,
        &Tools::default(),
        of,
        target,
        None,
        &Progress::new(),
    );
    forked.unwrap();
}

/// A workspace with a repository, on a disk of its own or beside others.
fn place(directory: &Path) -> Place {
    let workspace = directory.join("workspace");
    fs::create_dir(&workspace).unwrap();
    tree(&workspace, 1);
    Place::new(directory, false)
}

/// Strikes at one call after the other, until the victim lives; gives the kills. `prepare` says what the victim shall do, `after` looks at what
/// became of it. Without `CAIRN_KILLS=all`, only every `step`th call.
fn each_call(control: &Path, step: usize, mut prepare: impl FnMut() -> String, mut after: impl FnMut(bool)) {
    let (mut call, mut kills) = (1, 0);
    loop {
        let order = prepare();
        let lived = strike(control, &order, call);
        kills += u32::from(!lived);
        after(lived);
        if lived {
            break;
        }
        call += step.min(stride());
    }
    assert!(kills > 3, "{kills} kills");
}

/// Removes all snapshots but these, and those that may not go: the more there are, the more calls, and no end.
fn purge(place: &Place, kept: &[SnapshotId]) {
    for id in place.repository.snapshot_ids().unwrap() {
        if !kept.contains(&id) {
            let _ = collect::delete(&place.repository, &Tools::default(), id, WAIT, &Progress::new());
        }
    }
}

#[test]
fn a_removal_that_is_killed_harms_no_other_snapshot() {
    if !can_kill() {
        return;
    }
    for engine in [EngineKind::Copy, EngineKind::Archive] {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path());
        let kept = place.save_with(engine).id;
        let removed = std::cell::Cell::new(kept);
        each_call(
            &place.control,
            11,
            || {
                removed.set(place.save_with(engine).id);
                // The workspace's content must not come from it.
                place.restore(kept, &[], Unsaved::Discard).unwrap();
                label(&place.repository, removed.get());
                format!("delete {}", removed.get())
            },
            |lived| {
                let next = place.save_with(engine).id;
                check(&place, &[kept, next]);
                let there = place.repository.snapshot_ids().unwrap().contains(&removed.get());
                assert!(!(lived && there));
                purge(&place, &[kept]);
            },
        );
    }
}

#[test]
fn a_collection_that_is_killed_harms_no_other_snapshot() {
    if !can_kill() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let place = place(directory.path());
    fs::write(place.control.join("config.toml"), "[retention]\nkeep_last = 1\n").unwrap();
    each_call(
        &place.control,
        11,
        || {
            for engine in [EngineKind::Archive, EngineKind::Copy, EngineKind::Archive] {
                place.save_with(engine);
            }
            let plan = collect::plan(&place.repository, &Tools::default(), WAIT, &Progress::new());
            let plan = plan.unwrap();
            assert!(plan.removed().count() >= 2);
            format!("gc {}", plan.id)
        },
        |lived| {
            let next = place.save_with(EngineKind::Archive).id;
            check(&place, &[next]);
            if lived {
                assert_eq!(place.repository.snapshot_ids().unwrap().len(), 2);
            }
            purge(&place, &[next]);
        },
    );
}

#[test]
fn a_verification_that_is_killed_leaves_the_snapshot_as_good_as_before() {
    if !can_kill() {
        return;
    }
    // There the first verification writes a list of its own.
    let Some(mounted) = filesystems::mount(Kind::Xfs, 512) else {
        return;
    };
    let place = place(mounted.path());
    let first = place.save_with(EngineKind::ReflinkCopy);
    assert!(first.counts.unhashed > 0);
    let verified = std::cell::Cell::new(first.id);
    each_call(
        &place.control,
        4,
        || {
            verified.set(place.save_with(EngineKind::ReflinkCopy).id);
            format!("verify {}", verified.get())
        },
        |_| {
            place.save_with(EngineKind::ReflinkCopy);
            check(&place, &[first.id, verified.get()]);
            delete(&place.repository, verified.get());
        },
    );
}

#[test]
fn labels_that_are_killed_are_the_old_ones_or_the_new_ones() {
    if !can_kill() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let place = place(directory.path());
    let saved = place.save();
    let revision = std::cell::Cell::new(0);
    each_call(
        &place.control,
        4,
        || format!("label {}", saved.id),
        |lived| {
            let labels = Place::open(&place.control).labels(&saved).unwrap();
            assert_eq!(labels.tags.len() as u64, labels.revision);
            assert!(labels.revision == revision.get() + 1 || (!lived && labels.revision == revision.get()));
            revision.set(labels.revision);
            // The next one that is made puts right what is left.
            label(&place.repository, saved.id);
            revision.set(revision.get() + 1);
            check(&place, &[saved.id]);
        },
    );
}

/// The control directory in it changes the time of the root.
fn without_root(workspace: &Path) -> Vec<Entry> {
    let all = entries(workspace);
    all.into_iter().filter(|entry| !entry.path.is_root()).collect()
}

#[test]
fn a_fork_that_is_killed_is_whole_or_not_there() {
    if !can_kill() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let place = place(directory.path());
    let saved = place.save();
    let expected = without_root(&place.workspace);
    let target = directory.path().join("target");
    each_call(
        &place.control,
        9,
        || format!("fork {} {}", saved.id, target.display()),
        |lived| {
            match target.exists() {
                true => {
                    assert_same(&expected, &without_root(&target));
                    let forked = Repository::discover(&target, parts()).unwrap();
                    assert_eq!(forked.snapshot_ids().unwrap().len(), 1);
                    fs::remove_dir_all(&target).unwrap();
                }
                false => assert!(!lived),
            }
            // What is left beside it is in nobody's way, and goes.
            fork(&place.repository, saved.id, &target);
            assert_same(&expected, &without_root(&target));
            fs::remove_dir_all(&target).unwrap();
            let names = fs::read_dir(directory.path()).unwrap();
            let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names.len(), 2, "{names:?}");
            place.save();
            check(&place, &[saved.id]);
        },
    );
}

#[test]
fn a_repair_that_is_killed_can_be_made_again() {
    if !can_kill() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let place = place(directory.path());
    let kept = [place.save().id, place.save_with(EngineKind::Archive).id];
    let no_id = "0123456789abcdef0123456789abcdef";
    each_call(
        &place.control,
        11,
        || {
            let control = |path: String| place.control.join(path);
            fs::create_dir_all(control(format!("staging/{no_id}/tree/in"))).unwrap();
            fs::create_dir_all(control(format!("snapshots/{no_id}/in"))).unwrap();
            fs::create_dir_all(place.workspace.join(".jvs-restore-0123/in")).unwrap();
            for path in [
                format!("manifests/{no_id}"),
                format!("manifests/{no_id}.verified"),
                format!("labels/{no_id}.json"),
                format!("verified/{no_id}.json"),
                "descriptors/.0123.tmp".to_owned(),
                format!("store/archives/{no_id}#1"),
            ] {
                fs::write(control(path), "half").unwrap();
            }
            let found = doctor::examine(&place.repository, &Tools::default(), false, &Progress::new());
            assert_eq!(found.unwrap().findings.len(), 9);
            "doctor".to_owned()
        },
        |_| {
            repair(&place.repository);
            check(&place, &kept);
        },
    );
}

#[test]
fn an_init_that_is_killed_is_done_or_can_be_done_again() {
    if !can_kill() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let workspace = directory.path().join("workspace");
    fs::create_dir(&workspace).unwrap();
    tree(&workspace, 1);
    let control = directory.path().join("control");
    each_call(
        &control,
        3,
        || format!("init {}", workspace.display()),
        |lived| {
            match Repository::init(&workspace, Some(&control), parts()) {
                Ok(_) => assert!(!lived),
                Err(RepositoryError::Exists { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            let place = Place {
                workspace: workspace.clone(),
                control: control.clone(),
                repository: Place::open(&control),
            };
            let saved = place.save().id;
            check(&place, &[saved]);
            fs::remove_dir_all(&control).unwrap();
        },
    );
}
