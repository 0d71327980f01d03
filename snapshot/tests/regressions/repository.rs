//! What is left, damaged or under way, and the doctor.

use std::fs;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use cairn_snapshot::archive::Progress;
use cairn_snapshot::engine::Tools;
use cairn_snapshot::operations::doctor::{Severity, examine};
use cairn_snapshot::operations::recover::Recovered;
use cairn_snapshot::operations::restore::Unsaved;
use cairn_snapshot::operations::save::{SaveRequest, save};
use cairn_snapshot::operations::{OperationError, collect};
use cairn_snapshot::repository::{LeaseError, RepositoryError, State};

use crate::place::{Place, assert_same};
use crate::site::Site;

const WAIT: Duration = Duration::from_secs(10);

fn next(place: &Place) -> Vec<Recovered> {
    let request = SaveRequest::new("next".to_owned());
    save(&place.repository, &Tools::default(), &request, &Progress::new())
        .unwrap()
        .1
}

#[test]
fn what_is_published_and_not_in_the_state_is_adopted() {
    let site = Site::new();
    site.write("a", "one");
    let first = site.place.save();
    let before = site.place.repository.state().unwrap();
    site.write("a", "two");
    let second = site.place.save();
    // As a kill between the two leaves it.
    let lease = site
        .place
        .repository
        .lease("test", WAIT, &AtomicBool::new(false))
        .unwrap();
    site.place.repository.set_state(&lease, &before).unwrap();
    lease.release().unwrap();
    assert!(next(&site.place).contains(&Recovered::StateCompleted));
    let listing = site.place.repository.list().unwrap();
    let sequences: Vec<u64> = listing
        .snapshots
        .iter()
        .map(|one| one.descriptor.sequence)
        .collect();
    assert_eq!(sequences, [1, 2, 3]);
    assert_eq!(listing.snapshots[2].descriptor.parent, Some(second.id));
    assert_eq!(listing.snapshots[1].descriptor.parent, Some(first.id));
    // The same without anything that was known, and with a state that says nothing.
    fs::write(site.place.control.join("cache/sequences"), "garbage").unwrap();
    fs::write(site.place.control.join("state.json"), "garbage").unwrap();
    assert!(next(&site.place).contains(&Recovered::StateCompleted));
    assert_eq!(site.place.repository.state().unwrap().sequence, 4);
    assert_eq!(next(&site.place), []);
}

#[test]
fn one_damaged_snapshot_blocks_nothing() {
    let site = Site::new();
    let control = &site.place.control;
    let mut saved = Vec::new();
    for number in 0..5 {
        site.write("a", format!("number {number}"));
        saved.push((site.place.save(), site.place.entries()));
    }
    let id = |number: usize| saved[number].0.id;
    // A descriptor, a list and a tree that are gone or garbage.
    fs::write(control.join(format!("descriptors/{}.json", id(0))), "garbage").unwrap();
    fs::remove_file(control.join(format!("manifests/{}", id(1)))).unwrap();
    fs::remove_dir_all(control.join(format!("snapshots/{}", id(1)))).unwrap();
    fs::write(control.join(format!("labels/{}.json", id(2))), "garbage").unwrap();
    assert_eq!(next(&site.place), []);
    site.place.restore(id(3), &[], Unsaved::Save).unwrap();
    assert_same(&saved[3].1, &site.place.entries());
    fs::write(control.join("config.toml"), "[retention]\nkeep_last = 1\n").unwrap();
    let tools = Tools::default();
    let plan = collect::plan(&site.place.repository, &tools, WAIT, &Progress::new()).unwrap();
    assert_eq!(plan.damaged, [id(0)]);
    assert!(
        plan.removed().any(|removed| removed == id(1)) && !plan.removed().any(|removed| removed == id(2))
    );
    collect::run(&site.place.repository, &tools, plan.id, WAIT, &Progress::new()).unwrap();
    let found = examine(&site.place.repository, &tools, false, &Progress::new()).unwrap();
    let damage =
        |finding: &&cairn_snapshot::operations::doctor::Finding| finding.severity == Severity::Damage;
    assert_eq!(
        found.findings.iter().filter(damage).count(),
        2,
        "{:?}",
        found.findings
    );
    // Each can be got rid of by name.
    collect::delete(&site.place.repository, &tools, id(0), WAIT, &Progress::new()).unwrap();
    let request = cairn_snapshot::operations::labels::LabelRequest {
        snapshot: id(2),
        event: cairn_snapshot::repository::AuditEvent::Label,
        details: Default::default(),
        wait: WAIT,
    };
    cairn_snapshot::operations::labels::change_labels(
        &site.place.repository,
        &tools,
        &request,
        |labels| labels.note = "set again".to_owned(),
        &Progress::new(),
    )
    .unwrap();
    let found = examine(&site.place.repository, &tools, false, &Progress::new()).unwrap();
    assert!(found.is_healthy(), "{:?}", found.findings);
}

#[test]
fn the_doctor_leaves_files_of_the_user_alone() {
    let site = Site::new();
    for name in [
        ".jvs-tmp-x",
        ".abc.tmp",
        "x.tmp",
        "sub/.jvs-tmp-y",
        "object#1",
        "sub/.jvs-restore-x",
        "a.READY",
    ] {
        site.write(name, "of the user");
    }
    let before = site.place.entries();
    site.place.save();
    let examined = examine(&site.place.repository, &Tools::default(), true, &Progress::new()).unwrap();
    assert!(
        examined.is_healthy() && examined.repaired.is_empty(),
        "{examined:?}"
    );
    assert_same(&before, &site.place.entries());
}

#[test]
fn the_doctor_waits_for_who_works() {
    let site = Site::new();
    site.write("a", "one");
    site.place.save();
    let working = Place::open(&site.place.control);
    let lease = working.lease("working", WAIT, &AtomicBool::new(false)).unwrap();
    let staged = site.place.control.join("staging/0123/tree");
    fs::create_dir_all(&staged).unwrap();
    let told = examine(&site.place.repository, &Tools::default(), false, &Progress::new()).unwrap();
    assert!(told.is_healthy(), "{:?}", told.findings);
    let progress = Progress::new();
    progress.cancel();
    let refused = examine(&site.place.repository, &Tools::default(), true, &progress);
    assert!(
        matches!(
            refused,
            Err(OperationError::Repository(RepositoryError::Lease(
                LeaseError::Cancelled
            )))
        ),
        "{refused:?}"
    );
    assert!(staged.exists());
    lease.release().unwrap();
    examine(&site.place.repository, &Tools::default(), true, &Progress::new()).unwrap();
    assert!(!staged.exists());
}

#[test]
fn the_doctor_leaves_the_head_where_it_is() {
    let site = Site::new();
    site.write("a", "one");
    let first = site.place.save().id;
    site.write("a", "two");
    let second = site.place.save().id;
    site.place.restore(first, &[], Unsaved::Refuse).unwrap();
    let before: State = site.place.repository.state().unwrap();
    assert_eq!((before.head, before.newest), (Some(first), Some(second)));
    examine(&site.place.repository, &Tools::default(), true, &Progress::new()).unwrap();
    let after = site.place.repository.state().unwrap();
    assert_eq!(
        (after.head, after.newest, after.last),
        (before.head, before.newest, before.last)
    );
}
