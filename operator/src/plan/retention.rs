//! Which Snapshots of a Workspace go, by its `retentionPolicy` and `autoSnapshot.maxSnapshots`. The rules are those of `cairn_types::retention`, so that they mean
//! the same as for plain directories; here the resources are made its facts, and its reasons the status.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cairn_crds::conditions::READY;
use cairn_crds::names;
use cairn_crds::snapshot::SnapshotDeletionPolicy;
use cairn_crds::validation::{duration_seconds, quantity_bytes};
use cairn_crds::workspace::{RETENTION_ENTRIES_MAX, RetentionEntry, RetentionPolicy, RetentionStatus};
use cairn_crds::{Snapshot, WorkspaceSpec};
use cairn_types::retention::{Facts, Policy, Protection, decide};
use cairn_types::{SnapshotId, Tag, Timestamp};
use jiff::tz::TimeZone;
use kube::ResourceExt;

use super::templates;
use crate::runtime::clock;

/// The schedule's name in the facts.
const AUTO: &str = "autoSnapshot";
/// Most reasons of one entry.
const REASONS_MAX: usize = 16;

/// What retention decides; nothing if there are no rules. `needed` names Snapshots that something is being made from.
pub fn retention(
    spec: &WorkspaceSpec,
    snapshots: &[Arc<Snapshot>],
    needed: &BTreeSet<String>,
    now: Timestamp,
    zone: &TimeZone,
) -> Option<RetentionStatus> {
    let auto = spec.auto_snapshot.as_ref().filter(|auto| auto.enabled);
    if spec.retention_policy.is_none() && auto.is_none() {
        return None;
    }
    let mut policy = spec.retention_policy.as_ref().map(policy).unwrap_or_default();
    if let Some(auto) = auto {
        let most = u64::try_from(auto.max_snapshots).unwrap_or(0);
        policy.schedule_counts.insert(AUTO.to_owned(), most);
    }
    let mut there: Vec<(&Snapshot, Timestamp)> = snapshots
        .iter()
        .map(AsRef::as_ref)
        .filter(|snapshot| snapshot.metadata.deletion_timestamp.is_none())
        .filter_map(|snapshot| Some((snapshot, taken(snapshot)?)))
        .collect();
    there.sort_by(|(a, at), (b, bt)| (at, &a.metadata.name).cmp(&(bt, &b.metadata.name)));
    let newest = there.last().map(|(snapshot, _)| snapshot.name_any());

    // What stays whatever the rules say takes no part in them.
    let retained = |snapshot: &Snapshot| snapshot.spec.deletion_policy == SnapshotDeletionPolicy::Retain;
    let mut facts = Vec::new();
    let mut of = BTreeMap::new();
    for (sequence, (snapshot, at)) in (0..).zip(&there) {
        if retained(snapshot) {
            continue;
        }
        let name = snapshot.name_any();
        let mut protections = BTreeSet::new();
        if newest.as_ref() == Some(&name) {
            protections.insert(Protection::Newest);
        }
        if needed.contains(&name) {
            protections.insert(Protection::Operation);
        }
        let fact = fact(snapshot, sequence, *at, protections);
        of.insert(fact.id, *snapshot);
        facts.push(fact);
    }
    let decision = decide(&facts, &policy, now, zone);

    let mut status = RetentionStatus::default();
    let (mut keep, mut prune) = (Vec::new(), Vec::new());
    for verdict in decision.verdicts.iter().rev() {
        let Some(snapshot) = of.get(&verdict.id) else {
            continue;
        };
        let reasons = verdict.reasons.iter().take(REASONS_MAX);
        let entry = RetentionEntry {
            snapshot: snapshot.name_any(),
            reasons: reasons.map(ToString::to_string).collect(),
        };
        match verdict.keep {
            true => keep.push(entry),
            false => prune.push(entry),
        }
    }
    for (snapshot, _) in there.iter().rev().filter(|(snapshot, _)| retained(snapshot)) {
        keep.push(RetentionEntry {
            snapshot: snapshot.name_any(),
            reasons: vec!["its deletionPolicy is Retain".to_owned()],
        });
    }
    status.keep_count = Some(i32::try_from(keep.len()).unwrap_or(i32::MAX));
    status.prune_count = Some(i32::try_from(prune.len()).unwrap_or(i32::MAX));
    keep.truncate(RETENTION_ENTRIES_MAX);
    prune.truncate(RETENTION_ENTRIES_MAX);
    (status.keep, status.prune) = (keep, prune);
    Some(status)
}

/// When the snapshot was taken, if it has been.
pub fn taken(snapshot: &Snapshot) -> Option<Timestamp> {
    let status = snapshot.status.as_ref()?;
    status.snapshot_id.as_ref()?;
    if !super::is_true(&status.conditions, READY) {
        return None;
    }
    let created = status
        .created_at
        .as_ref()
        .or(snapshot.metadata.creation_timestamp.as_ref())?;
    Some(clock::timestamp(created))
}

fn fact(snapshot: &Snapshot, sequence: u64, created: Timestamp, protections: BTreeSet<Protection>) -> Facts {
    let spec = &snapshot.spec;
    let (_, tags) = templates::fill(None, &spec.tags, spec.template);
    let size = snapshot.status.as_ref().and_then(|status| status.size);
    // A hash of the uid: identities here only tell snapshots apart.
    let mut id = [0; 16];
    let hash = blake3::hash(snapshot.metadata.uid.as_deref().unwrap_or_default().as_bytes());
    id.copy_from_slice(&hash.as_bytes()[..16]);
    let is_scheduled = snapshot
        .labels()
        .get(names::SCHEDULED)
        .is_some_and(|value| value == "true");
    Facts {
        id: SnapshotId(id),
        sequence,
        created,
        bytes: u64::try_from(size.unwrap_or(0)).unwrap_or(0),
        tags: tags.iter().filter_map(|tag| Tag::new(tag).ok()).collect(),
        pins: Vec::new(),
        schedule: is_scheduled.then(|| AUTO.to_owned()),
        protections,
    }
}

/// The policy as the rules know it.
fn policy(policy: &RetentionPolicy) -> Policy {
    let count = |number: Option<i32>| number.and_then(|number| u32::try_from(number).ok()).unwrap_or(0);
    Policy {
        keep_last: count(policy.keep_last),
        hourly: count(policy.keep_hourly),
        daily: count(policy.keep_daily),
        weekly: count(policy.keep_weekly),
        monthly: count(policy.keep_monthly),
        yearly: count(policy.keep_yearly),
        within: policy
            .keep_within
            .as_deref()
            .and_then(duration_seconds)
            .unwrap_or(0),
        minimum_age: duration_seconds(&policy.keep_min_age).unwrap_or(0),
        minimum_count: count(Some(policy.keep_min_snapshots)),
        maximum_count: u64::from(count(policy.max_snapshots)),
        maximum_bytes: policy.max_bytes.as_deref().and_then(quantity_bytes).unwrap_or(0),
        schedule_counts: BTreeMap::new(),
        keep_tags: policy.keep_tags.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use cairn_crds::snapshot::SnapshotDeletionPolicy;
    use cairn_crds::workspace::{AutoSnapshot, RetentionPolicy};
    use cairn_crds::{Snapshot, SnapshotSpec, SnapshotStatus, WorkspaceSpec};
    use cairn_types::Timestamp;
    use jiff::tz::TimeZone;

    use super::retention;
    use crate::runtime::clock::time;
    use crate::runtime::conditions::Conditions;

    const NOW: i64 = 1_795_219_200;
    const DAY: i64 = 86_400;

    fn snapshot(name: &str, days_ago: i64) -> Snapshot {
        let at = Timestamp::new(NOW - days_ago * DAY, 0);
        let mut snapshot = Snapshot::new(name, SnapshotSpec::default());
        snapshot.metadata.uid = Some(name.to_owned());
        let mut conditions = Conditions::new(&[], 1, at);
        conditions.set("Ready", true, "Ready", "");
        snapshot.status = Some(SnapshotStatus {
            snapshot_id: Some(format!("id-{name}")),
            created_at: Some(time(at)),
            size: Some(100),
            conditions: conditions.finish(),
            ..SnapshotStatus::default()
        });
        snapshot
    }

    fn spec(policy: RetentionPolicy) -> WorkspaceSpec {
        WorkspaceSpec {
            retention_policy: Some(policy),
            ..WorkspaceSpec::default()
        }
    }

    fn pruned(spec: &WorkspaceSpec, snapshots: Vec<Snapshot>) -> Vec<String> {
        let snapshots: Vec<Arc<Snapshot>> = snapshots.into_iter().map(Arc::new).collect();
        let now = Timestamp::new(NOW, 0);
        let status = retention(spec, &snapshots, &BTreeSet::new(), now, &TimeZone::UTC);
        let prune = status.unwrap().prune;
        prune.into_iter().map(|entry| entry.snapshot).collect()
    }

    #[test]
    fn count_age_and_tags_protect() {
        let policy = RetentionPolicy {
            keep_min_snapshots: 2,
            keep_min_age: "3d".to_owned(),
            keep_tags: vec!["release*".to_owned()],
            max_snapshots: Some(2),
            ..RetentionPolicy::default()
        };
        let mut released = snapshot("released", 50);
        released.spec.tags = vec!["release-1".to_owned()];
        let all = vec![
            released,
            snapshot("a", 40),
            snapshot("b", 30),
            snapshot("c", 2),
            snapshot("d", 1),
        ];
        assert_eq!(pruned(&spec(policy), all), ["b", "a"]);
    }

    #[test]
    fn schedules_have_a_maximum_of_their_own() {
        let spec = WorkspaceSpec {
            auto_snapshot: Some(AutoSnapshot {
                enabled: true,
                max_snapshots: 2,
                ..AutoSnapshot::default()
            }),
            ..WorkspaceSpec::default()
        };
        let all: Vec<Snapshot> = [("m", 9), ("s1", 5), ("s2", 4), ("s3", 3)]
            .into_iter()
            .map(|(name, ago)| {
                let mut snapshot = snapshot(name, ago);
                if name.starts_with('s') {
                    snapshot.metadata.labels =
                        Some([(super::names::SCHEDULED.to_owned(), "true".to_owned())].into());
                }
                snapshot
            })
            .collect();
        assert_eq!(pruned(&spec, all), ["s1"]);
    }

    #[test]
    fn what_is_not_there_yet_or_is_to_stay_takes_no_part() {
        let policy = RetentionPolicy {
            keep_min_snapshots: 0,
            keep_min_age: "0s".to_owned(),
            keep_last: Some(1),
            ..RetentionPolicy::default()
        };
        let mut pending = snapshot("pending", 0);
        pending.status = None;
        let mut retained = snapshot("retained", 90);
        retained.spec.deletion_policy = SnapshotDeletionPolicy::Retain;
        let mut going = snapshot("going", 80);
        going.metadata.deletion_timestamp = Some(time(Timestamp::new(NOW, 0)));
        let all = vec![pending, retained, going, snapshot("old", 70), snapshot("new", 1)];
        assert_eq!(pruned(&spec(policy.clone()), all), ["old"]);
        let none = retention(
            &WorkspaceSpec::default(),
            &[],
            &BTreeSet::new(),
            Timestamp::new(NOW, 0),
            &TimeZone::UTC,
        );
        assert_eq!(none, None);
    }

    #[test]
    fn what_something_is_made_from_stays() {
        let policy = RetentionPolicy {
            keep_min_snapshots: 0,
            keep_min_age: "0s".to_owned(),
            keep_last: Some(1),
            ..RetentionPolicy::default()
        };
        let all: Vec<Arc<Snapshot>> = [snapshot("a", 9), snapshot("b", 8), snapshot("c", 1)]
            .into_iter()
            .map(Arc::new)
            .collect();
        let needed = BTreeSet::from(["a".to_owned()]);
        let status = retention(
            &spec(policy),
            &all,
            &needed,
            Timestamp::new(NOW, 0),
            &TimeZone::UTC,
        )
        .unwrap();
        assert_eq!(status.prune.len(), 1);
        assert_eq!(status.prune[0].snapshot, "b");
        assert_eq!(status.prune[0].reasons, ["no rule keeps it"]);
        assert_eq!((status.keep_count, status.prune_count), (Some(2), Some(1)));
        assert_eq!(status.keep[1].reasons, ["an operation needs it"]);
    }
}
