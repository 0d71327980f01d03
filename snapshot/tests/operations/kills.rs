//! Killed at every call to the kernel that changes something: no snapshot is harmed, the workspace is what it was or what it
//! shall be after the next start, and nothing is left over.
//!
//! The operation runs in a process of its own, this program again, under strace(1), which kills it before its Nth such call.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use cairn_snapshot::archive::Progress;
use cairn_snapshot::engine::{EngineKind, Tools};
use cairn_snapshot::operations::doctor::{Severity, examine};
use cairn_snapshot::operations::restore::{Unsaved, restore};
use cairn_snapshot::operations::save::{SaveRequest, Saved, save};
use cairn_snapshot::operations::verify::{VerifyRequest, verify};
use cairn_types::SnapshotId;

use crate::place::{Place, assert_same, entries, parts, request};
use cairn_snapshot::repository::Repository;

pub mod others;

/// Tells this program that it is the one to be killed: the control directory, and what to do.
const VICTIM: &str = "CAIRN_VICTIM";
const CALLS: &str = "renameat,renameat2,mkdirat,mknodat,linkat,symlinkat,unlinkat,openat,write,pwrite64,fsync,fdatasync,syncfs,\
                     ftruncate,fchmod,fchmodat,fchown,fchownat,utimensat,fsetxattr,copy_file_range,ioctl";

/// What the victim does, when this program is the victim.
#[test]
fn victim() {
    let Ok(order) = std::env::var(VICTIM) else {
        return;
    };
    let mut words = order.split(' ');
    let control = words.next().unwrap();
    let what = words.next().unwrap();
    if what == "init" {
        let workspace = Path::new(words.next().unwrap());
        Repository::init(workspace, Some(Path::new(control)), parts()).unwrap();
        return;
    }
    let repository = Repository::open(Path::new(control), parts()).unwrap();
    let id = |words: &mut std::str::Split<'_, char>| SnapshotId::parse(words.next().unwrap()).unwrap();
    match what {
        "delete" => others::delete(&repository, id(&mut words)),
        "verify" => others::verify(&repository, id(&mut words)),
        "label" => others::label(&repository, id(&mut words)),
        "gc" => others::collect(&repository, words.next().unwrap()),
        "doctor" => others::repair(&repository),
        "fork" => {
            let of = id(&mut words);
            others::fork(&repository, of, Path::new(words.next().unwrap()));
        }
        engine @ ("copy" | "archive") => {
            let mut wanted = SaveRequest::new("of the victim".to_owned());
            wanted.engine = EngineKind::requested(engine).unwrap();
            save(&repository, &Tools::default(), &wanted, &Progress::new()).unwrap();
        }
        "import" => {
            let from = Path::new(words.next().unwrap());
            crate::importing::run_from(from, &repository);
        }
        id => {
            let id = SnapshotId::parse(id).unwrap();
            let wanted = request(id, &[], Unsaved::Save);
            restore(&repository, &Tools::default(), &wanted, &Progress::new()).unwrap();
        }
    }
}

/// Runs the victim, killed before its `call`th call; whether it lived.
pub fn strike(control: &Path, order: &str, call: usize) -> bool {
    let status = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={CALLS}")])
        .args(["-e", &format!("inject={CALLS}:signal=KILL:when={call}")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "kills::victim", "--test-threads=1"])
        .env(VICTIM, format!("{} {order}", control.display()))
        // Cargo sets it: the dynamic linker would look for each library in a hundred places, and most kills would fall there.
        .env_remove("LD_LIBRARY_PATH")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    status.success()
}

/// Whether strace is there.
pub fn can_kill() -> bool {
    let there = Command::new("strace")
        .arg("-V")
        .stdout(Stdio::null())
        .status()
        .is_ok();
    if !there {
        eprintln!("SKIPPED: there is no strace; `apt-get install strace`");
        assert!(std::env::var("CI").is_err(), "strace must be there");
    }
    there
}

/// One of two trees that differ in everything.
pub fn tree(workspace: &Path, generation: u8) {
    for name in ["same", "changed", "gone", "kind"] {
        let _ = fs::remove_file(workspace.join(name));
    }
    let _ = fs::remove_dir_all(workspace.join("kind"));
    let _ = fs::remove_dir_all(workspace.join("sub"));
    fs::create_dir_all(workspace.join("sub/deep")).unwrap();
    fs::write(workspace.join("same"), "same").unwrap();
    fs::write(workspace.join("changed"), vec![generation; 9000]).unwrap();
    match generation {
        1 => {
            fs::write(workspace.join("gone"), "gone").unwrap();
            fs::create_dir(workspace.join("kind")).unwrap();
            fs::write(workspace.join("kind/in"), "in").unwrap();
            fs::write(workspace.join("sub/deep/a"), "a").unwrap();
            fs::hard_link(workspace.join("sub/deep/a"), workspace.join("sub/b")).unwrap();
        }
        _ => {
            fs::write(workspace.join("kind"), "a file").unwrap();
            std::os::unix::fs::symlink("x", workspace.join("sub/deep/a")).unwrap();
            fs::write(workspace.join("sub/c"), "c").unwrap();
        }
    }
}

/// After a kill: every snapshot is whole, and nothing belongs to none.
pub fn check(place: &Place, before: &[SnapshotId]) {
    let repository = Place::open(&place.control);
    let ids = repository.snapshot_ids().unwrap();
    for id in before {
        assert!(ids.contains(id), "snapshot {id} is there");
    }
    let found = examine(&repository, &Tools::default(), false, &Progress::new()).unwrap();
    let wrong: Vec<_> = found
        .findings
        .iter()
        .filter(|finding| finding.severity > Severity::Note)
        .collect();
    assert!(wrong.is_empty(), "the doctor finds {wrong:?}");
    for id in &ids {
        let found = verify(&repository, *id, VerifyRequest::default(), &Progress::new()).unwrap();
        assert_eq!(found.damaged, 0, "{:?}", found.damage);
    }
    let names = |area: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(place.control.join(area)).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    let (trees, archives): (Vec<&SnapshotId>, Vec<&SnapshotId>) = ids
        .iter()
        .partition(|id| repository.descriptor(**id).unwrap().engine.used != EngineKind::Archive.text());
    let wanted: BTreeSet<String> = trees.iter().map(ToString::to_string).collect();
    assert_eq!(names("snapshots"), wanted);
    if !archives.is_empty() {
        let wanted: BTreeSet<String> = archives.iter().map(ToString::to_string).collect();
        assert_eq!(names("store/archives"), wanted);
    }
    assert_eq!(names("staging"), BTreeSet::new());
    assert_eq!(names("journal"), BTreeSet::new());
    let left = fs::read_dir(&place.workspace).unwrap();
    for name in left.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
        assert!(
            !name.starts_with(".jvs-restore-"),
            "{name} is left in the workspace"
        );
    }
}

/// Every so many calls one is killed at: every one with `CAIRN_KILLS=all`.
pub fn stride() -> usize {
    match std::env::var("CAIRN_KILLS").as_deref() {
        Ok("all") => 1,
        _ => 11,
    }
}

#[test]
fn a_save_that_is_killed_makes_a_whole_snapshot_or_none() {
    if can_kill() {
        saves_that_are_killed("copy");
    }
}

#[test]
fn an_archive_that_is_killed_is_whole_or_gone() {
    if can_kill() {
        saves_that_are_killed("archive");
    }
}

fn saves_that_are_killed(engine: &str) {
    let kind = EngineKind::requested(engine).unwrap().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let workspace = directory.path().join("workspace");
    fs::create_dir(&workspace).unwrap();
    tree(&workspace, 1);
    let place = Place::new(directory.path(), false);
    let mut known = vec![place.save_with(kind).id];
    let (mut call, mut kills) = (1, 0);
    loop {
        let lived = strike(&place.control, engine, call);
        kills += u32::from(!lived);
        let saved = place.save_with(kind);
        known.push(saved.id);
        check(&place, &known);
        if lived {
            break;
        }
        call += stride();
    }
    assert!(kills > 5, "{kills} kills");
    // What was published is in the history, in order.
    let repository = Place::open(&place.control);
    let mut sequences: Vec<u64> = repository
        .snapshot_ids()
        .unwrap()
        .into_iter()
        .map(|id| repository.descriptor(id).unwrap().sequence)
        .collect();
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>());
}

#[test]
fn a_restore_that_is_killed_is_undone_or_finished() {
    if !can_kill() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let workspace = directory.path().join("workspace");
    fs::create_dir(&workspace).unwrap();
    tree(&workspace, 1);
    let place = Place::new(directory.path(), false);
    let first = (place.save_with(EngineKind::Copy).id, place.entries());
    tree(&workspace, 2);
    let second = (place.save_with(EngineKind::Copy).id, place.entries());
    let (mut call, mut kills) = (1, 0);
    loop {
        // Something that no snapshot has, so that the restore has to save it first.
        fs::write(workspace.join("unsaved"), format!("unsaved {call}")).unwrap();
        fs::create_dir_all(workspace.join("z/deep")).unwrap();
        fs::write(workspace.join("z/deep/z"), "goes with what it is in").unwrap();
        let unsaved = place.entries();
        let lived = strike(&place.control, &first.0.to_string(), call);
        kills += u32::from(!lived);
        // The next start, whatever it does.
        let repository = Place::open(&place.control);
        let next = save(
            &repository,
            &Tools::default(),
            &SaveRequest::new("next".to_owned()),
            &Progress::new(),
        );
        let (saved, recovered) = next.unwrap();
        assert!(matches!(saved, Saved::New(_)));
        let found = entries(&workspace);
        let undone = crate::replica::differences(&unsaved, &found).is_empty();
        let finished = crate::replica::differences(&first.1, &found).is_empty();
        assert!(
            undone || finished,
            "killed at call {call}, half-way: {recovered:?}"
        );
        check(&place, &[first.0, second.0]);
        if lived {
            assert!(finished);
            break;
        }
        let back = place.restore(second.0, &[], Unsaved::Discard).unwrap();
        assert_eq!(back.kept, []);
        assert_same(&second.1, &place.entries());
        call += stride();
    }
    assert!(kills > 10, "{kills} kills");
}
