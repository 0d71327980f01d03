//! Tables: objects in, steps and conditions out.

use std::collections::BTreeSet;
use std::sync::Arc;

use cairn_api::proto;
use cairn_crds::workspace::{AutoSnapshot, RetentionPolicy, WorkspaceDeletionPolicy, WorkspacePhase};
use cairn_crds::{Snapshot, SnapshotSpec, SnapshotStatus, Workspace, WorkspaceSpec, WorkspaceStatus, names};
use cairn_types::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimStatus};
use kube::ResourceExt;

use super::{Child, Directory, Done, Initial, Observed, Step, WorkspaceDecision, decide};
use crate::plan::placement::Candidate;
use crate::plan::{Again, Failure, FailureKind, NodeView, PlanSettings};
use crate::runtime::clock::time;
use crate::runtime::conditions::Conditions;

const NOW: i64 = 1_795_219_200;

fn workspace() -> Workspace {
    let mut workspace = Workspace::new("data", WorkspaceSpec::default());
    workspace.metadata.namespace = Some("team".to_owned());
    workspace.metadata.uid = Some("uid-1".to_owned());
    workspace.metadata.generation = Some(3);
    workspace.metadata.finalizers = Some(vec![names::WORKSPACE_FINALIZER.to_owned()]);
    workspace
}

fn placed() -> Workspace {
    let mut workspace = workspace();
    workspace.status = Some(WorkspaceStatus {
        node_name: Some("a".to_owned()),
        ..WorkspaceStatus::default()
    });
    workspace
}

fn node(away: Option<&str>) -> NodeView {
    NodeView {
        name: "a".to_owned(),
        away: away.map(str::to_owned),
        service_ip: Some("10.96.0.7".to_owned()),
        features: BTreeSet::new(),
    }
}

fn observed(workspace: Workspace) -> Observed {
    let is_placed = workspace.status.is_some();
    Observed {
        workspace: Arc::new(workspace),
        now: Timestamp::new(NOW, 0),
        settings: PlanSettings::default(),
        candidates: vec![Candidate {
            node: "a".to_owned(),
            away: None,
            cordoned: false,
            is_selected: true,
            free: 1 << 40,
            reserved: 0,
            workspaces: 0,
        }],
        initial: Initial::None,
        directory: Directory::None,
        node: is_placed.then(|| node(None)),
        managed: None,
        volume: Child::Absent,
        claim: Child::Absent,
        snapshots: Vec::new(),
        needed: BTreeSet::new(),
        done: BTreeSet::new(),
        failure: None,
    }
}

fn managed() -> Option<Arc<proto::ManagedWorkspace>> {
    Some(Arc::new(proto::ManagedWorkspace {
        name: "team.data".to_owned(),
        id: "w-1".to_owned(),
        state: proto::ManagedState::Ready.into(),
        export_path: "/team.data".to_owned(),
        export_port: 12049,
        export: Some(proto::ExportPolicy {
            allow: vec!["10.0.0.0/8".to_owned()],
            ..proto::ExportPolicy::default()
        }),
        capacity_bytes: 10 << 30,
        ..proto::ManagedWorkspace::default()
    }))
}

fn claim(phase: &str) -> Child<PersistentVolumeClaim> {
    let mut claim = crate::children::volume::claim(&workspace(), None);
    claim.status = Some(PersistentVolumeClaimStatus {
        phase: Some(phase.to_owned()),
        ..PersistentVolumeClaimStatus::default()
    });
    Child::Ours(Arc::new(claim))
}

fn served() -> Observed {
    Observed {
        managed: managed(),
        claim: claim("Bound"),
        done: [Done::Ensure, Done::Volume, Done::Claim].into(),
        ..observed(placed())
    }
}

fn condition(decision: &WorkspaceDecision, type_: &str) -> (String, String) {
    cairn_crds::conditions::find(&decision.status.conditions, type_)
        .map(|found| (found.status.clone(), found.reason.clone()))
        .unwrap_or_default()
}

fn holds(decision: &WorkspaceDecision, type_: &str, status: &str, reason: &str) {
    assert_eq!(
        condition(decision, type_),
        (status.to_owned(), reason.to_owned()),
        "{type_}"
    );
}

fn snapshot(name: &str, ready: bool) -> Arc<Snapshot> {
    let mut snapshot = Snapshot::new(
        name,
        SnapshotSpec {
            workspace: "data".to_owned(),
            ..SnapshotSpec::default()
        },
    );
    snapshot.metadata.uid = Some(name.to_owned());
    let mut conditions = Conditions::new(&[], 1, Timestamp::new(NOW, 0));
    conditions.set("Ready", ready, "Ready", "");
    snapshot.status = Some(SnapshotStatus {
        snapshot_id: ready.then(|| format!("id-{name}")),
        created_at: Some(time(Timestamp::new(NOW - 864_000, 0))),
        conditions: conditions.finish(),
        ..SnapshotStatus::default()
    });
    Arc::new(snapshot)
}

#[test]
fn the_steps_come_in_order() {
    let mut bare = workspace();
    bare.metadata.finalizers = None;
    assert_eq!(decide(&observed(bare)).step, Some(Step::AddFinalizer));

    let placing = decide(&observed(workspace()));
    assert_eq!(placing.step, Some(Step::RecordStatus));
    assert!(
        placing.record_first,
        "the node stands in the status before a daemon is called"
    );
    assert_eq!(placing.status.node_name.as_deref(), Some("a"));

    let asking = decide(&observed(placed()));
    let Some(Step::Ensure(request)) = asking.step else {
        panic!("{:?}", asking.step);
    };
    assert_eq!(
        (request.key.as_str(), request.name.as_str()),
        ("uid-1", "team.data")
    );
    assert_eq!(request.capacity_bytes, 10 << 30);

    let answered = Observed {
        managed: managed(),
        done: [Done::Ensure].into(),
        ..observed(placed())
    };
    assert!(matches!(decide(&answered).step, Some(Step::ApplyVolume(_))));
    let with_volume = Observed {
        done: [Done::Ensure, Done::Volume].into(),
        ..answered
    };
    assert!(matches!(decide(&with_volume).step, Some(Step::ApplyClaim(_))));

    let ready = decide(&served());
    assert_eq!(ready.step, None);
    assert_eq!(ready.again, Again::OnChange);
    holds(&ready, "Ready", "True", "Ready");
    holds(&ready, "Progressing", "False", "Done");
    holds(&ready, "Degraded", "False", "AsExpected");
    assert_eq!(ready.status.phase, Some(WorkspacePhase::Ready));
    assert_eq!(ready.status.capacity.as_deref(), Some("10Gi"));
    assert_eq!(ready.status.observed_generation, Some(3));
}

#[test]
fn a_decision_that_is_written_is_the_same_again() {
    let mut first = served();
    let decision = decide(&first);
    let mut workspace = first.workspace.as_ref().clone();
    workspace.status = Some(decision.status.clone());
    first.workspace = Arc::new(workspace);
    first.now = Timestamp::new(NOW + 60, 0);
    assert_eq!(decide(&first).status, decision.status);
}

#[test]
fn each_obstacle_is_told_by_its_condition() {
    let mut away = observed(placed());
    away.node = Some(node(Some("connection refused")));
    let decision = decide(&away);
    holds(&decision, "NodeReachable", "False", "NodeAway");
    holds(&decision, "Ready", "Unknown", "NodeAway");
    assert_eq!((decision.step, decision.again), (None, Again::Seconds(60)));

    let refused = |kind| Observed {
        failure: Some((
            Done::Ensure,
            Failure {
                reason: "WorkspaceOwned".to_owned(),
                message: "m".to_owned(),
                kind,
            },
        )),
        ..observed(placed())
    };
    let decision = decide(&refused(FailureKind::Refused));
    holds(&decision, "Provisioned", "False", "WorkspaceOwned");
    holds(&decision, "Ready", "False", "WorkspaceOwned");
    assert_eq!(decision.again, Again::Seconds(300), "no hot loop");
    assert_eq!(decision.status.phase, Some(WorkspacePhase::Failed));
    assert_eq!(decide(&refused(FailureKind::Again)).again, Again::BackOff);

    let mut lost = served();
    lost.claim = claim("Lost");
    holds(&decide(&lost), "Ready", "False", "Lost");

    let mut nobody = served();
    let mut answer = nobody.managed.as_deref().cloned().unwrap();
    answer.export = None;
    nobody.managed = Some(Arc::new(answer));
    holds(&decide(&nobody), "Ready", "False", "NoClients");

    let mut pending = served();
    pending.node.as_mut().unwrap().service_ip = None;
    holds(&decide(&pending), "Ready", "Unknown", "ServicePending");

    let waiting = Observed {
        initial: Initial::Waiting {
            reason: "InitialSnapshotNotFound",
            message: "m".to_owned(),
        },
        ..observed(workspace())
    };
    let decision = decide(&waiting);
    holds(&decision, "Ready", "False", "InitialSnapshotNotFound");
    assert_eq!(decision.status.node_name, None);
}

#[test]
fn what_it_begins_with_is_recorded_before_it_is_asked_for() {
    let mut first = observed(placed());
    first.initial = Initial::Found {
        workspace: "team.other".to_owned(),
        snapshot: "id".to_owned(),
        node: "a".to_owned(),
    };
    assert!(matches!(decide(&first).step, Some(Step::RecordOrigin { .. })));
    let mut workspace = first.workspace.as_ref().clone();
    workspace
        .annotations_mut()
        .insert(super::ORIGIN.to_owned(), "team.other/id".to_owned());
    first.workspace = Arc::new(workspace);
    let Some(Step::Ensure(request)) = decide(&first).step else {
        panic!("it is not asked for");
    };
    assert_eq!(request.source.unwrap().snapshot, "id");
}

#[test]
fn deletion_goes_back_in_order() {
    let terminating = |policy, node: Option<&str>| {
        let mut workspace = placed();
        workspace.metadata.deletion_timestamp = Some(time(Timestamp::new(NOW, 0)));
        workspace.spec.deletion_policy = policy;
        workspace.status.as_mut().unwrap().node_name = node.map(str::to_owned);
        workspace
    };
    let keep = WorkspaceDeletionPolicy::Retain;
    let drop = WorkspaceDeletionPolicy::Delete;

    let never_placed = observed(terminating(keep, None));
    assert_eq!(decide(&never_placed).step, Some(Step::RemoveFinalizer));

    let mut with_claim = observed(terminating(keep, Some("a")));
    with_claim.claim = claim("Bound");
    assert_eq!(decide(&with_claim).step, Some(Step::DeleteClaim));
    with_claim.done = [Done::ClaimGone].into();
    let in_use = decide(&with_claim);
    assert_eq!(in_use.step, None);
    holds(&in_use, "Ready", "False", "ClaimInUse");

    assert_eq!(
        decide(&observed(terminating(keep, Some("a")))).step,
        Some(Step::Release)
    );
    let mut released = observed(terminating(keep, Some("a")));
    released.done = [Done::Daemon].into();
    assert_eq!(decide(&released).step, Some(Step::RemoveFinalizer));

    let mut all = observed(terminating(drop, Some("a")));
    all.snapshots = vec![snapshot("s", true)];
    assert_eq!(
        decide(&all).step,
        Some(Step::DeleteSnapshots(vec!["s".to_owned()]))
    );
    let mut kept = snapshot("s", true).as_ref().clone();
    kept.spec.deletion_policy = cairn_crds::snapshot::SnapshotDeletionPolicy::Retain;
    all.snapshots = vec![Arc::new(kept)];
    let decision = decide(&all);
    assert_eq!(decision.step, None);
    holds(&decision, "Ready", "False", "SnapshotRetained");
    all.snapshots.clear();
    assert_eq!(decide(&all).step, Some(Step::DeleteData));

    // Nothing is given up while the node is away, but by an explicit word about this node.
    let mut away = observed(terminating(drop, Some("a")));
    away.node = Some(node(Some("refused")));
    let decision = decide(&away);
    assert_eq!(decision.step, None);
    holds(&decision, "Ready", "Unknown", "NodeAway");
    assert!(decision.status.message.unwrap().contains("jvs.io/abandon=a"));
    for (word, step) in [
        ("b", None),
        (
            "a",
            Some(Step::Entomb {
                node: "a".to_owned(),
                delete: true,
            }),
        ),
    ] {
        let mut workspace = away.workspace.as_ref().clone();
        workspace
            .annotations_mut()
            .insert(names::ABANDON.to_owned(), word.to_owned());
        away.workspace = Arc::new(workspace);
        assert_eq!(decide(&away).step, step);
    }
    away.done = [Done::Tombstone].into();
    assert_eq!(decide(&away).step, Some(Step::RemoveFinalizer));
}

#[test]
fn a_snapshot_is_made_when_it_is_due_and_once() {
    let mut due = served();
    let mut workspace = due.workspace.as_ref().clone();
    workspace.spec.auto_snapshot = Some(AutoSnapshot {
        enabled: true,
        schedule: Some("@hourly".to_owned()),
        ..AutoSnapshot::default()
    });
    due.workspace = Arc::new(workspace.clone());
    let first = decide(&due);
    assert_eq!(first.step, None);
    assert_eq!(first.again, Again::Seconds(3600));
    holds(&first, "SnapshotsScheduled", "True", "Scheduled");

    workspace.status.as_mut().unwrap().next_snapshot_time = Some(time(Timestamp::new(NOW, 0)));
    due.workspace = Arc::new(workspace);
    let Some(Step::CreateSnapshot(made)) = decide(&due).step else {
        panic!("none is made");
    };
    assert_eq!(made.name_any(), format!("data-{}", NOW / 60));
    assert_eq!(made.labels()[names::SCHEDULED], "true");
    due.done.insert(Done::Snapshot);
    let after = decide(&due);
    assert_eq!(after.step, None);
    assert_eq!(
        after.status.next_snapshot_time,
        Some(time(Timestamp::new(NOW + 3600, 0)))
    );
    // A leader that died before it wrote the time finds the one that was made.
    due.done.remove(&Done::Snapshot);
    due.snapshots = vec![Arc::new(*made)];
    assert_eq!(decide(&due).step, None);
}

#[test]
fn what_goes_is_told_before_it_goes() {
    let mut old = served();
    let mut workspace = old.workspace.as_ref().clone();
    workspace.spec.retention_policy = Some(RetentionPolicy {
        keep_min_snapshots: 1,
        keep_min_age: "0s".to_owned(),
        keep_last: Some(1),
        ..RetentionPolicy::default()
    });
    old.workspace = Arc::new(workspace.clone());
    old.snapshots = vec![snapshot("a", true), snapshot("b", true), snapshot("c", false)];
    let told = decide(&old);
    assert_eq!(told.step, Some(Step::RecordStatus));
    assert!(told.record_first);
    assert_eq!(told.status.snapshot_count, Some(2));
    let prune = &told.status.retention.as_ref().unwrap().prune;
    assert_eq!(prune.len(), 1);
    assert_eq!(prune[0].snapshot, "a");
    workspace.status = Some(told.status);
    old.workspace = Arc::new(workspace);
    assert_eq!(
        decide(&old).step,
        Some(Step::DeleteSnapshots(vec!["a".to_owned()]))
    );
}
