//! The disk is full at changing points of every operation: it fails with an error that says so, nothing is published half-way, what frees room goes on, and
//! afterwards, with room again, everything does.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_snapshot::archive::Progress;
use cairn_snapshot::engine::{EngineKind, Tools};
use cairn_snapshot::operations::collect::{self, CollectError};
use cairn_snapshot::operations::recover::Recovered;
use cairn_snapshot::operations::restore::Unsaved;
use cairn_snapshot::operations::save::SaveRequest;
use cairn_snapshot::operations::verify::{VerifyRequest, verify};
use cairn_snapshot::operations::{OperationError, doctor, fork, labels, materialize};
use cairn_snapshot::repository::import_jvs::JvsRepository;
use cairn_snapshot::repository::{AuditEvent, Intent, Phase, Repository};
use cairn_types::{ErrorKind, SnapshotId};
use rustix::fs::{FallocateFlags, fallocate};

use crate::filesystems::{Kind, Mounted, mount};
use crate::kills::{can_kill, check, strike, tree};
use crate::place::{Place, parts};
use crate::samples;

const WAIT: Duration = Duration::from_secs(10);
const PAGE: u64 = 4096;

/// What takes up a file system.
struct Ballast {
    path: PathBuf,
}

impl Ballast {
    /// Fills the file system of `directory` up to `free` pages.
    fn fill(directory: &Path, free: u64) -> Ballast {
        let path = directory.join("ballast");
        let file = File::create(&path).unwrap();
        let (mut length, mut step) = (0, 64 << 20);
        while step >= PAGE {
            match fallocate(&file, FallocateFlags::empty(), length, step) {
                Ok(()) => length += step,
                Err(_) => step /= 2,
            }
        }
        file.set_len(length.saturating_sub(free * PAGE)).unwrap();
        file.sync_all().unwrap();
        Ballast { path }
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        fs::remove_file(&self.path).unwrap();
    }
}

/// A workspace with some data and a repository, on a file system of its own.
struct Small {
    mounted: Mounted,
    place: Place,
}

impl Small {
    fn new(kind: Kind, mebibytes: u64) -> Option<Small> {
        let mounted = mount(kind, mebibytes)?;
        let workspace = mounted.path().join("workspace");
        fs::create_dir(&workspace).unwrap();
        tree(&workspace, 1);
        fs::create_dir(workspace.join("data")).unwrap();
        for number in 0..12u8 {
            fs::write(workspace.join(format!("data/{number}")), noise(30_000, number)).unwrap();
        }
        let place = Place::new(mounted.path(), false);
        Some(Small { mounted, place })
    }

    fn fill(&self, free: u64) -> Ballast {
        Ballast::fill(self.mounted.path(), free)
    }

    fn reopen(&self) -> Repository {
        Place::open(&self.place.control)
    }

    /// Every data file gets other bytes.
    fn change(&self, seed: u8) {
        for number in 0..12u8 {
            let path = self.place.workspace.join(format!("data/{number}"));
            fs::write(path, noise(30_000, number.wrapping_mul(16) ^ seed)).unwrap();
        }
    }
}

/// Bytes that cannot be compressed.
fn noise(length: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new_derive_key("noise")
        .update(&[seed])
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Does `operation` with ever more free pages until it succeeds; in between, everything must be as before and the next save must work. Gives how often there
/// was no room.
fn until_it_fits(
    small: &Small,
    mut prepare: impl FnMut(u8),
    mut operation: impl FnMut(&Repository) -> Result<(), OperationError>,
) -> usize {
    let (mut free, mut failures) = (0, 0);
    for round in 0..u8::MAX {
        prepare(round);
        let before = small.reopen().snapshot_ids().unwrap();
        let ballast = small.fill(free);
        let outcome = operation(&small.reopen());
        if let Err(error) = &outcome {
            assert_eq!(error.kind(), ErrorKind::NoSpace, "{free} pages: {error:?}");
        }
        let found = small.reopen();
        for id in found.snapshot_ids().unwrap() {
            // What is there is whole, also if it came to be meanwhile.
            found.descriptor(id).unwrap();
        }
        drop(ballast);
        let next = small.place.save();
        check(&small.place, &[&before[..], &[next.id]].concat());
        failures += usize::from(outcome.is_err());
        if outcome.is_ok() {
            assert!(small.place.control.join("reserve").exists());
            return failures;
        }
        free = (free + 1).max(free * 4 / 3);
    }
    panic!("it never fits");
}

const KINDS: [Kind; 2] = [Kind::Tmpfs, Kind::Ext4];

#[test]
fn a_save_that_finds_no_room_makes_no_snapshot() {
    for kind in KINDS {
        for engine in [EngineKind::Copy, EngineKind::Archive] {
            let Some(small) = Small::new(kind, 64) else { return };
            let request = SaveRequest {
                engine: Some(engine),
                ..SaveRequest::new("full".to_owned())
            };
            let save = |repository: &Repository| {
                let before = repository.snapshot_ids()?.len();
                let saved = cairn_snapshot::operations::save::save(
                    repository,
                    &Tools::default(),
                    &request,
                    &Progress::new(),
                );
                if saved.is_err() {
                    assert_eq!(repository.snapshot_ids()?.len(), before);
                }
                saved.map(drop)
            };
            let failures = until_it_fits(&small, |round| small.change(round), save);
            assert!(failures > 5, "{kind:?} {engine}: {failures} failures");
        }
    }
}

#[test]
fn a_restore_that_finds_no_room_leaves_the_workspace_as_it_was() {
    for kind in KINDS {
        let Some(small) = Small::new(kind, 64) else { return };
        let first = small.place.save().id;
        for unsaved in [Unsaved::Save, Unsaved::Discard] {
            let mut expected = Vec::new();
            let failures = until_it_fits(
                &small,
                |round| {
                    small.change(round);
                    if unsaved == Unsaved::Discard {
                        small.place.save();
                    }
                    expected = small.place.entries();
                    fs::write(small.place.workspace.join("unsaved"), [round]).unwrap();
                },
                |repository| {
                    let before = small.place.entries();
                    let request = crate::place::request(first, &[], unsaved);
                    let restored = cairn_snapshot::operations::restore::restore(
                        repository,
                        &Tools::default(),
                        &request,
                        &Progress::new(),
                    );
                    let swapping = repository
                        .journal()?
                        .into_iter()
                        .any(|file| file.record.is_ok_and(|record| record.phase == Phase::Swapping));
                    if restored.is_err() && !swapping {
                        crate::place::assert_same(&before, &small.place.entries());
                    }
                    restored.map(drop)
                },
            );
            assert!(failures > 3, "{kind:?}: {failures} failures");
        }
    }
}

#[test]
fn forks_and_copies_that_find_no_room_leave_nothing() {
    for kind in KINDS {
        let Some(small) = Small::new(kind, 64) else { return };
        let first = small.place.save().id;
        let target = small.mounted.path().join("target");
        let nothing = || {
            let names = fs::read_dir(small.mounted.path()).unwrap();
            let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.filter(|name| name.contains("target")).count()
        };
        let failures = until_it_fits(
            &small,
            |_| {},
            |repository| {
                let forked = fork::fork(
                    repository,
                    &Tools::default(),
                    first,
                    &target,
                    None,
                    &Progress::new(),
                );
                match &forked {
                    Ok(_) => fs::remove_dir_all(&target).unwrap(),
                    Err(_) => assert_eq!(nothing(), 0),
                }
                forked.map(drop)
            },
        );
        assert!(failures > 5, "{kind:?}: {failures} failures");
        let failures = until_it_fits(
            &small,
            |_| {},
            |repository| {
                let written = materialize::materialize(repository, first, &[], &target, &Progress::new());
                match &written {
                    Ok(_) => fs::remove_dir_all(&target).unwrap(),
                    Err(_) => assert_eq!(nothing(), 0),
                }
                written.map(drop)
            },
        );
        assert!(failures > 5, "{kind:?}: {failures} failures");
    }
}

#[test]
fn an_init_or_an_import_that_finds_no_room_can_be_done_again() {
    for kind in KINDS {
        let old = samples::unpack();
        let from = JvsRepository::open(&old.path().join("old/repo")).unwrap();
        let Some(mounted) = mount(kind, 32) else { return };
        let control = mounted.path().join("control");
        let (mut free, mut failures) = (0, 0);
        loop {
            let ballast = Ballast::fill(mounted.path(), free);
            let made = cairn_snapshot::operations::import::prepare(&from, None, &control, parts())
                .and_then(|into| crate::importing::run(&from, &into, None));
            drop(ballast);
            match made {
                Ok(done) => {
                    assert_eq!(done.taken.len() as u64 + done.present, 6);
                    break;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::NoSpace, "{error:?}"),
            }
            failures += 1;
            free = (free + 1).max(free * 4 / 3);
        }
        assert!(failures > 5, "{kind:?}: {failures} failures");
        let place = Place {
            workspace: from.workspaces()[0].directory.clone(),
            repository: Place::open(&control),
            control,
        };
        let ids = place.repository.snapshot_ids().unwrap();
        assert_eq!(ids.len(), 6);
        check(&place, &ids);
    }
}

/// Nothing is free at all. Copies of archives are removed too.
#[test]
fn what_frees_room_needs_none() {
    for kind in KINDS {
        let Some(small) = Small::new(kind, 64) else { return };
        let place = &small.place;
        let saved: Vec<SnapshotId> = [EngineKind::Copy, EngineKind::Archive, EngineKind::Copy]
            .into_iter()
            .enumerate()
            .map(|(round, engine)| {
                small.change(round as u8);
                place.save_with(engine).id
            })
            .collect();
        fs::create_dir_all(place.control.join("staging/0123/tree")).unwrap();
        let ballast = small.fill(0);
        assert!(fs::write(small.mounted.path().join("one more"), noise(9000, 0)).is_err());
        // A save has no room, and does not take the one that is kept.
        assert_eq!(
            place
                .try_save(&SaveRequest::new(String::new()))
                .unwrap_err()
                .kind(),
            ErrorKind::NoSpace
        );
        assert!(place.control.join("reserve").exists());
        let tools = Tools::default();
        let examined = doctor::examine(&small.reopen(), &tools, true, &Progress::new()).unwrap();
        assert!(examined.is_healthy(), "{:?}", examined.findings);
        let request = labels::LabelRequest {
            snapshot: saved[0],
            event: AuditEvent::Label,
            details: Default::default(),
            wait: WAIT,
        };
        let note = |labels: &mut cairn_snapshot::repository::Labels| labels.note = "full".to_owned();
        labels::change_labels(&small.reopen(), &tools, &request, note, &Progress::new()).unwrap();
        for id in &saved[..2] {
            let removed = collect::delete(&small.reopen(), &tools, *id, WAIT, &Progress::new()).unwrap();
            assert_eq!(removed.removed, [*id]);
        }
        drop(ballast);
        check(place, &saved[2..]);
        // The same by a plan.
        fs::write(place.control.join("config.toml"), "[retention]\nkeep_last = 1\n").unwrap();
        small.change(9);
        let last = place.save().id;
        // There is room again: for what is kept, too.
        assert!(place.control.join("reserve").exists());
        let ballast = small.fill(0);
        let plan = collect::plan(&small.reopen(), &tools, WAIT, &Progress::new()).unwrap();
        assert_eq!(plan.removed().collect::<Vec<_>>(), saved[2..]);
        collect::run(&small.reopen(), &tools, plan.id, WAIT, &Progress::new()).unwrap();
        drop(ballast);
        check(place, &[last]);
    }
}

#[test]
fn a_verification_without_room_tells_what_it_finds() {
    // There the first verification writes a list of its own.
    let Some(small) = Small::new(Kind::Xfs, 320) else {
        return;
    };
    let saved = small.place.save_with(EngineKind::ReflinkCopy);
    assert!(saved.counts.unhashed > 0);
    let ballast = small.fill(0);
    let repository = small.reopen();
    let found = verify(&repository, saved.id, VerifyRequest::default(), &Progress::new()).unwrap();
    assert_eq!((found.damaged, found.first_read), (0, saved.counts.files));
    assert!(
        found
            .warnings
            .iter()
            .any(|warning| warning.contains("No space left")),
        "{:?}",
        found.warnings
    );
    drop(ballast);
    let again = verify(&repository, saved.id, VerifyRequest::default(), &Progress::new()).unwrap();
    assert_eq!((again.first_read, again.warnings.len()), (saved.counts.files, 0));
    small.place.save();
    check(&small.place, &[saved.id]);
}

/// A restore that was killed half-way wants room for a snapshot of what is there: where there is none, snapshots can be removed first.
#[test]
fn an_interrupted_restore_waits_for_room() {
    if !can_kill() {
        return;
    }
    let Some(small) = Small::new(Kind::Tmpfs, 768) else {
        return;
    };
    let place = &small.place;
    // More than what is kept for bad times.
    let large = |seed| fs::write(place.workspace.join("data/large"), noise(3 << 20, seed)).unwrap();
    large(1);
    let first = place.save().id;
    let swapping = || {
        let journal = place.repository.journal().unwrap();
        journal.into_iter().any(|file| {
            let record = file.record.unwrap();
            assert!(matches!(record.intent, Intent::Restore { .. }));
            record.phase == Phase::Swapping
        })
    };
    let mut call = 1;
    let (needless, mut needed);
    small.change(100);
    large(2);
    let other = place.save().id;
    loop {
        small.change(101);
        large(3);
        needed = place.save().id;
        fs::remove_file(place.workspace.join("data/3")).unwrap();
        let lived = strike(&place.control, &first.to_string(), call);
        assert!(!lived, "no kill was in the middle of the steps");
        if swapping() {
            needless = other;
            break;
        }
        call += 3;
    }
    // Somebody has worked in it since: that must not be lost.
    fs::write(place.workspace.join("worked"), "since the kill").unwrap();
    let before = place.entries();
    let ballast = small.fill(0);
    let tools = Tools::default();
    assert_eq!(
        place
            .try_save(&SaveRequest::new(String::new()))
            .unwrap_err()
            .kind(),
        ErrorKind::NoSpace
    );
    crate::place::assert_same(&before, &place.entries());
    // What it needs stays, what it does not can go.
    let refused = collect::delete(&small.reopen(), &tools, first, WAIT, &Progress::new());
    assert!(
        matches!(refused, Err(CollectError::Protected { .. })),
        "{refused:?}"
    );
    let repaired = doctor::examine(&small.reopen(), &tools, true, &Progress::new()).unwrap();
    assert!(
        repaired.repaired.contains(&Recovered::RestoreWaits(first)),
        "{:?}",
        repaired.repaired
    );
    let removed = collect::delete(&small.reopen(), &tools, needless, WAIT, &Progress::new()).unwrap();
    assert_eq!(removed.removed, [needless]);
    drop(ballast);
    let (_, recovered) = cairn_snapshot::operations::save::save(
        &small.reopen(),
        &tools,
        &SaveRequest::new(String::new()),
        &Progress::new(),
    )
    .unwrap();
    let finished = recovered
        .iter()
        .any(|what| matches!(what, Recovered::RestoreFinished(id, Some(_)) if *id == first));
    assert!(finished, "{recovered:?}");
    assert!(place.workspace.join("data/3").exists());
    check(place, &[first, needed]);
}
