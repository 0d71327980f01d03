//! A Workspace's Snapshots: how many there are, which is due, which go.

use cairn_crds::conditions as types;
use cairn_crds::names;
use cairn_crds::workspace::Template;
use cairn_crds::{Snapshot, SnapshotSpec};
use cairn_types::Timestamp;
use jiff::tz::TimeZone;
use kube::ResourceExt;

use super::{DELETIONS_MAX, Done, Draft, Step};
use crate::plan::retention::{retention, taken};
use crate::plan::schedule::Schedule;
use crate::plan::{Again, is_true};
use crate::runtime::api::metadata;
use crate::runtime::cache::Key;
use crate::runtime::clock::{time, timestamp};
use crate::runtime::conditions::Holds;

/// Longest name of a Snapshot.
const NAME_MAX: usize = 253;
/// Most snapshots that a schedule has under way: more are not begun while so many wait.
const PENDING_MAX: usize = 3;

/// How many there are, which is the newest.
pub fn count(draft: &mut Draft<'_>) {
    let snapshots = &draft.observed.snapshots;
    let there = snapshots
        .iter()
        .filter_map(|snapshot| Some((taken(snapshot)?, snapshot)));
    let newest = there
        .clone()
        .max_by_key(|(at, snapshot)| (*at, snapshot.name_any()));
    draft.status.snapshot_count = Some(i32::try_from(there.count()).unwrap_or(i32::MAX));
    draft.status.last_snapshot_time = newest.as_ref().map(|(at, _)| time(*at));
    draft.status.current_snapshot = newest
        .and_then(|(_, snapshot)| snapshot.status.as_ref())
        .and_then(|status| status.snapshot_id.clone());
}

/// The next step for the Snapshots, and whether the status must be written before it.
pub fn step(draft: &mut Draft<'_>) -> Option<(Step, bool)> {
    let spec = &draft.observed.workspace.spec;
    let uid = crate::runtime::cache::uid(draft.observed.workspace.as_ref());
    let schedule = match &spec.auto_snapshot {
        Some(auto) => Schedule::new(auto, uid),
        None => Ok(None),
    };
    let zone = match &schedule {
        Ok(Some(schedule)) => schedule.zone().clone(),
        Ok(None) | Err(_) => TimeZone::UTC,
    };
    match schedule {
        Ok(Some(schedule)) => {
            if let Some(step) = scheduled(draft, &schedule) {
                return Some((step, false));
            }
        }
        Ok(None) => {
            draft.conditions.remove(types::SNAPSHOTS_SCHEDULED);
            draft.status.next_snapshot_time = None;
        }
        Err(why) => {
            draft
                .conditions
                .set(types::SNAPSHOTS_SCHEDULED, false, "InvalidSchedule", why);
            draft.status.next_snapshot_time = None;
        }
    }
    prune(draft, &zone)
}

/// A snapshot that is due.
fn scheduled(draft: &mut Draft<'_>, schedule: &Schedule) -> Option<Step> {
    let observed = draft.observed;
    let recorded = draft.status.next_snapshot_time.as_ref().map(timestamp);
    let due = schedule.due(recorded, observed.now);
    let (mut reason, mut message) = ("Scheduled", String::new());
    if let Some(missed) = due.missed {
        reason = "Missed";
        message = format!(
            "the snapshot of {} was missed for longer than autoSnapshot.startingDeadline and is left out; ",
            shown(missed)
        );
    }
    if let Some(now) = due.now {
        let pending = observed.snapshots.iter().filter(|snapshot| is_pending(snapshot));
        let is_known = |name: &str| observed.snapshots.iter().any(|known| known.name_any() == name);
        let name = name(draft, now);
        if is_known(&name) || draft.is_done(Done::Snapshot) {
            // It is there; the next time counts from here.
        } else if pending.count() >= PENDING_MAX {
            reason = "Behind";
            message = format!(
                "{PENDING_MAX} snapshots of the schedule are not ready yet, and the one of {} is left out; ",
                shown(now)
            );
        } else if let Some(failure) = draft.failure(Done::Snapshot).cloned() {
            draft.fail(types::SNAPSHOTS_SCHEDULED, &failure);
            return None;
        } else {
            return Some(Step::CreateSnapshot(Box::new(snapshot(draft, &name, now))));
        }
    }
    draft.status.next_snapshot_time = due.next.map(time);
    match due.next {
        Some(next) => {
            message.push_str(&format!("the next one is due at {}", shown(next)));
            let seconds = schedule.seconds_until(next, observed.now);
            draft.again = draft.again.or(Again::Seconds(seconds.max(1)));
        }
        None => message.push_str("none is due within nine years"),
    }
    let holds = match reason {
        "Behind" => Holds::False,
        _ => Holds::True,
    };
    draft
        .conditions
        .set(types::SNAPSHOTS_SCHEDULED, holds, reason, message);
    None
}

fn is_pending(snapshot: &Snapshot) -> bool {
    let is_scheduled = snapshot.labels().contains_key(names::SCHEDULED);
    let conditions = snapshot
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice());
    is_scheduled
        && snapshot.metadata.deletion_timestamp.is_none()
        && !is_true(conditions.unwrap_or_default(), types::READY)
}

/// `<workspace>-<unix minute>`: the same for the same time, whoever asks.
fn name(draft: &Draft<'_>, due: Timestamp) -> String {
    let suffix = format!("-{}", due.seconds().div_euclid(60));
    let mut name = draft.observed.workspace.name_any();
    name.truncate(name.floor_char_boundary(NAME_MAX - suffix.len()));
    name + &suffix
}

fn snapshot(draft: &Draft<'_>, name: &str, due: Timestamp) -> Snapshot {
    let workspace = &draft.observed.workspace;
    let auto = workspace.spec.auto_snapshot.clone().unwrap_or_default();
    let own = workspace.name_any();
    let key = Key::new(workspace.namespace().unwrap_or_default(), name);
    let labels = [
        (names::MANAGED_BY, names::MANAGER),
        (names::WORKSPACE, own.as_str()),
        (names::SCHEDULED, "true"),
    ];
    let mut snapshot = Snapshot::new(
        name,
        SnapshotSpec {
            workspace: own.clone(),
            note: Some(format!("Scheduled for {}", shown(due))),
            template: Some(auto.template.unwrap_or(Template::Checkpoint)),
            ..SnapshotSpec::default()
        },
    );
    snapshot.metadata = metadata(&key, &labels);
    snapshot
}

/// Snapshots that retention removes: first the status names them, then they go.
fn prune(draft: &mut Draft<'_>, zone: &TimeZone) -> Option<(Step, bool)> {
    let observed = draft.observed;
    let recorded = draft.status.retention.clone().unwrap_or_default();
    let status = retention(
        &observed.workspace.spec,
        &observed.snapshots,
        &observed.needed,
        observed.now,
        zone,
    );
    draft.status.retention = status.clone();
    let prune = status?.prune;
    let told: Vec<String> = prune
        .iter()
        .filter(|entry| recorded.prune.iter().any(|old| old.snapshot == entry.snapshot))
        .map(|entry| entry.snapshot.clone())
        .take(DELETIONS_MAX)
        .collect();
    if prune.is_empty() || draft.is_done(Done::Snapshots) || draft.failure(Done::Snapshots).is_some() {
        return None;
    }
    match told.is_empty() {
        // The rest of this pass sees what was written.
        true if draft.is_done(Done::Status) => None,
        true => Some((Step::RecordStatus, true)),
        false => Some((Step::DeleteSnapshots(told), false)),
    }
}

/// A time for people.
fn shown(time: Timestamp) -> String {
    Timestamp::new(time.seconds(), 0)
        .to_instant()
        .map(|instant| instant.to_string())
        .unwrap_or_default()
}
