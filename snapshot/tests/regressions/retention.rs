//! What is removed, what stays, and what a plan is worth.

use std::fs;
use std::time::Duration;

use cairn_snapshot::archive::Progress;
use cairn_snapshot::engine::Tools;
use cairn_snapshot::operations::collect::{self, CollectError, CollectPlan, Collected, PLANS_MAX};
use cairn_snapshot::operations::labels::{LabelRequest, change_labels};
use cairn_snapshot::operations::restore::Unsaved;
use cairn_snapshot::repository::retention::Verdict;
use cairn_snapshot::repository::{AuditEvent, Labels};
use cairn_types::{SnapshotId, Timestamp};

use crate::place::assert_same;
use crate::site::Site;

const WAIT: Duration = Duration::from_secs(10);

fn retain(site: &Site, rules: &str) {
    fs::write(
        site.place.control.join("config.toml"),
        format!("[retention]\n{rules}\n"),
    )
    .unwrap();
}

fn plan(site: &Site) -> CollectPlan {
    collect::plan(&site.place.repository, &Tools::default(), WAIT, &Progress::new()).unwrap()
}

fn run(site: &Site, plan: &CollectPlan) -> Result<Collected, CollectError> {
    collect::run(
        &site.place.repository,
        &Tools::default(),
        plan.id,
        WAIT,
        &Progress::new(),
    )
}

fn saves(site: &Site, count: usize) -> Vec<SnapshotId> {
    let save = |number| {
        site.write("a", vec![number as u8; 1000 * (number + 1)]);
        site.place.save().id
    };
    (0..count).map(save).collect()
}

#[test]
fn a_linear_history_is_pruned_and_stays_readable() {
    let site = Site::new();
    let saved = saves(&site, 6);
    let before = site.place.entries();
    retain(&site, "keep_last = 2");
    let plan = plan(&site);
    assert_eq!(plan.removed().collect::<Vec<_>>(), saved[..4]);
    // Each that stays has a reason.
    let explained = |verdict: &Verdict| !verdict.keep || !verdict.reasons.is_empty();
    assert!(plan.verdicts.iter().all(explained));
    assert_eq!(run(&site, &plan).unwrap().removed, saved[..4]);
    let listing = site.place.repository.list().unwrap();
    let left: Vec<SnapshotId> = listing.snapshots.iter().map(|one| one.descriptor.id).collect();
    assert_eq!(left, saved[4..]);
    // The parent of the oldest is gone, and nobody minds.
    assert_eq!(listing.snapshots[0].descriptor.parent, Some(saved[3]));
    site.place.restore(saved[4], &[], Unsaved::Refuse).unwrap();
    site.place.restore(saved[5], &[], Unsaved::Refuse).unwrap();
    assert_same(&before, &site.place.entries());
}

#[test]
fn the_newest_and_the_content_are_kept_after_a_restore_of_the_oldest() {
    let site = Site::new();
    let saved = saves(&site, 4);
    site.place.restore(saved[0], &[], Unsaved::Refuse).unwrap();
    retain(&site, "keep_last = 1");
    let plan = plan(&site);
    assert_eq!(plan.removed().collect::<Vec<_>>(), saved[1..3]);
    run(&site, &plan).unwrap();
    site.place.restore(saved[3], &[], Unsaved::Refuse).unwrap();
    assert_eq!(fs::metadata(site.path("a")).unwrap().len(), 4000);
}

#[test]
fn a_plan_tells_real_sizes() {
    let site = Site::new();
    let saved = saves(&site, 3);
    retain(&site, "keep_last = 1");
    let plan = plan(&site);
    let sizes: Vec<(SnapshotId, u64)> = plan.bytes.iter().map(|(id, bytes)| (*id, *bytes)).collect();
    let mut expected = vec![(saved[0], 1000), (saved[1], 2000)];
    expected.sort();
    assert_eq!(sizes, expected);
}

fn change(site: &Site, snapshot: SnapshotId, change: impl FnOnce(&mut Labels)) {
    let request = LabelRequest {
        snapshot,
        event: AuditEvent::Pin,
        details: Default::default(),
        wait: WAIT,
    };
    change_labels(
        &site.place.repository,
        &Tools::default(),
        &request,
        change,
        &Progress::new(),
    )
    .unwrap();
}

#[test]
fn a_plan_is_for_what_it_was_made_of() {
    let site = Site::new();
    let saved = saves(&site, 4);
    retain(&site, "keep_last = 2");
    let stale = |plan: &CollectPlan| assert!(matches!(run(&site, plan), Err(CollectError::Stale { .. })));
    let before = plan(&site);
    change(&site, saved[0], |labels| {
        labels.pin("needed", "somebody", Timestamp::new(0, 0), None);
    });
    stale(&before);
    let before = plan(&site);
    retain(&site, "keep_last = 3");
    stale(&before);
    let before = plan(&site);
    retain(&site, "keep_last = 2");
    site.write("a", "one more");
    site.place.save();
    stale(&before);
    assert_eq!(site.place.repository.snapshot_ids().unwrap().len(), 5);
    run(&site, &plan(&site)).unwrap();
    assert_eq!(site.place.repository.snapshot_ids().unwrap().len(), 3);
}

#[test]
fn only_the_newest_plans_are_kept() {
    let site = Site::new();
    saves(&site, 2);
    retain(&site, "keep_last = 1");
    fs::write(
        site.place.control.join(format!("plans/{}.json", "0".repeat(32))),
        "not ours",
    )
    .unwrap();
    let plans: Vec<CollectPlan> = (0..PLANS_MAX + 3).map(|_| plan(&site)).collect();
    assert_eq!(
        fs::read_dir(site.place.control.join("plans")).unwrap().count(),
        PLANS_MAX + 1
    );
    assert!(matches!(run(&site, &plans[0]), Err(CollectError::NoPlan { .. })));
    run(&site, plans.last().unwrap()).unwrap();
}
