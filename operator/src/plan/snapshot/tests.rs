//! Tables: objects in, steps and conditions out.

use std::collections::BTreeSet;
use std::sync::Arc;

use cairn_api::proto;
use cairn_crds::snapshot::{SnapshotDeletionPolicy, SnapshotPhase};
use cairn_crds::workspace::{Backing, ClaimBacking, Engine, Template};
use cairn_crds::{Snapshot, SnapshotSpec, SnapshotStatus, Workspace, WorkspaceSpec, WorkspaceStatus, names};
use cairn_types::Timestamp;
use kube::ResourceExt;

use super::{Done, Observed, SnapshotDecision, Step, decide};
use crate::plan::{Again, Failure, FailureKind, NodeView};
use crate::runtime::clock::time;

const NOW: i64 = 1_795_219_200;

fn workspace() -> Workspace {
    let mut workspace = Workspace::new("data", WorkspaceSpec::default());
    workspace.metadata.uid = Some("w-uid".to_owned());
    workspace.metadata.namespace = Some("team".to_owned());
    workspace.status = Some(WorkspaceStatus {
        node_name: Some("a".to_owned()),
        workspace_id: Some("w".to_owned()),
        ..WorkspaceStatus::default()
    });
    workspace
}

fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::new(
        "s",
        SnapshotSpec {
            workspace: "data".to_owned(),
            ..SnapshotSpec::default()
        },
    );
    snapshot.metadata.uid = Some("s-uid".to_owned());
    snapshot.metadata.namespace = Some("team".to_owned());
    snapshot.metadata.generation = Some(1);
    snapshot.metadata.finalizers = Some(vec![names::SNAPSHOT_FINALIZER.to_owned()]);
    snapshot
}

fn on_node() -> Snapshot {
    let mut snapshot = snapshot();
    snapshot.status = Some(SnapshotStatus {
        node_name: Some("a".to_owned()),
        ..SnapshotStatus::default()
    });
    snapshot
}

fn observed(snapshot: Snapshot, workspace: Option<Workspace>) -> Observed {
    Observed {
        snapshot: Arc::new(snapshot),
        now: Timestamp::new(NOW, 0),
        workspace: workspace.map(Arc::new),
        node: Some(NodeView {
            name: "a".to_owned(),
            away: None,
            service_ip: None,
            features: BTreeSet::new(),
        }),
        managed: None,
        worktree: None,
        done: BTreeSet::new(),
        failure: None,
    }
}

fn managed(state: proto::ManagedState) -> Option<Arc<proto::ManagedSnapshot>> {
    Some(Arc::new(proto::ManagedSnapshot {
        id: "snap-1".to_owned(),
        state: state.into(),
        operation: "op".to_owned(),
        engine: "copy".to_owned(),
        failure: Some(proto::Failure {
            reason: "NO_SPACE".to_owned(),
            message: "full".to_owned(),
            remedy: "free some".to_owned(),
            ..proto::Failure::default()
        }),
        ..proto::ManagedSnapshot::default()
    }))
}

fn ready(decision: &SnapshotDecision) -> (String, String) {
    let found = cairn_crds::conditions::find(&decision.status.conditions, "Ready").unwrap();
    (found.status.clone(), found.reason.clone())
}

#[test]
fn the_node_is_recorded_before_the_daemon_is_asked() {
    let mut bare = snapshot();
    bare.metadata.finalizers = None;
    assert_eq!(
        decide(&observed(bare, Some(workspace()))).step,
        Some(Step::AddFinalizer)
    );
    let first = decide(&observed(snapshot(), Some(workspace())));
    assert_eq!((first.step, first.record_first), (Some(Step::RecordStatus), true));
    assert_eq!(first.status.node_name.as_deref(), Some("a"));
    let Some(Step::Ensure(request)) = decide(&observed(on_node(), Some(workspace()))).step else {
        panic!("it is not asked for");
    };
    assert_eq!(request.key, "snapshot/s-uid");
    assert_eq!(request.workspace, "team.data");
    assert_eq!(request.workspace_key, "w-uid");
}

#[test]
fn what_is_in_the_way_is_told() {
    let table: Vec<(Option<Workspace>, &str)> = vec![
        (None, "WorkspaceNotFound"),
        (
            Some(Workspace {
                status: None,
                ..workspace()
            }),
            "WorkspaceNotReady",
        ),
        (
            Some({
                let mut workspace = workspace();
                workspace.metadata.deletion_timestamp = Some(time(Timestamp::new(NOW, 0)));
                workspace
            }),
            "WorkspaceDeleting",
        ),
        (
            Some({
                let mut workspace = workspace();
                workspace.spec.paused = true;
                workspace
            }),
            "WorkspacePaused",
        ),
    ];
    for (workspace, reason) in table {
        let decision = decide(&observed(snapshot(), workspace));
        assert_eq!(decision.step, None);
        assert_eq!(ready(&decision).1, reason);
    }
}

#[test]
fn what_was_taken_before_its_workspace_went_is_found() {
    let mut seen = observed(on_node(), None);
    assert_eq!(decide(&seen).step, Some(Step::Look));
    seen.done.insert(Done::Look);
    assert_eq!(ready(&decide(&seen)).1, "WorkspaceNotFound");
    seen.managed = managed(proto::ManagedState::Ready);
    let decision = decide(&seen);
    assert_eq!(ready(&decision).0, "True");
    assert_eq!(decision.status.snapshot_id.as_deref(), Some("snap-1"));
}

#[test]
fn each_state_of_the_daemon_has_its_conditions() {
    use proto::ManagedState as State;
    for (state, status, reason, phase, again) in [
        (
            State::Ready,
            "True",
            "Ready",
            SnapshotPhase::Ready,
            Again::OnChange,
        ),
        (
            State::Running,
            "Unknown",
            "Taking",
            SnapshotPhase::InProgress,
            Again::Seconds(2),
        ),
        (
            State::Interrupted,
            "Unknown",
            "Interrupted",
            SnapshotPhase::InProgress,
            Again::BackOff,
        ),
        (
            State::Failed,
            "False",
            "NoSpace",
            SnapshotPhase::Failed,
            Again::Seconds(300),
        ),
        (
            State::Lost,
            "False",
            "Gone",
            SnapshotPhase::Failed,
            Again::OnChange,
        ),
    ] {
        let mut seen = observed(on_node(), Some(workspace()));
        seen.managed = managed(state);
        seen.done.insert(Done::Ensure);
        let decision = decide(&seen);
        assert_eq!(decision.step, None, "{state:?}");
        assert_eq!(
            ready(&decision),
            (status.to_owned(), reason.to_owned()),
            "{state:?}"
        );
        assert_eq!(decision.status.phase, Some(phase), "{state:?}");
        assert_eq!(decision.again, again, "{state:?}");
    }
}

#[test]
fn what_is_there_is_not_asked_for_again_until_it_changes() {
    let mut seen = observed(on_node(), Some(workspace()));
    seen.managed = managed(proto::ManagedState::Ready);
    let mut taken = on_node();
    taken.status = Some(decide(&seen).status);
    let settled = decide(&observed(taken.clone(), Some(workspace())));
    assert_eq!(settled.step, None);
    assert_eq!(Some(&settled.status), taken.status.as_ref());
    // Also without its Workspace.
    assert_eq!(decide(&observed(taken.clone(), None)).status, settled.status);
    taken.metadata.generation = Some(2);
    assert!(matches!(
        decide(&observed(taken, Some(workspace()))).step,
        Some(Step::Ensure(_))
    ));
}

#[test]
fn engines_and_templates_are_what_was_asked_for() {
    let mut adopted = workspace();
    adopted.spec.backing = Backing {
        volume: None,
        pvc: Some(ClaimBacking::default()),
        host_path: None,
    };
    adopted.spec.default_engine = Engine::ReflinkCopy;
    let mut asked = on_node();
    asked.spec.template = Some(Template::Release);
    let request = |snapshot: &Snapshot, workspace: &Workspace| {
        let decision = decide(&observed(snapshot.clone(), Some(workspace.clone())));
        let Some(Step::Ensure(request)) = decision.step else {
            panic!("it is not asked for");
        };
        request
    };
    let by_default = request(&asked, &adopted);
    assert_eq!(by_default.engine, "reflink-copy");
    assert_eq!(by_default.tags, ["release", "stable"]);
    asked.spec.engine = Some(Engine::Copy);
    assert_eq!(request(&asked, &adopted).engine, "copy");
    assert_eq!(request(&asked, &workspace()).engine, "");
    // Another engine than the one that was asked for is told.
    asked.spec.engine = Some(Engine::JuicefsClone);
    let mut seen = observed(asked, Some(adopted));
    seen.managed = managed(proto::ManagedState::Ready);
    let decision = decide(&seen);
    assert!(decision.status.degraded[0].contains("juicefs-clone"));
}

#[test]
fn deletion_waits_for_the_daemon() {
    let terminating = |policy| {
        let mut snapshot = on_node();
        snapshot.metadata.deletion_timestamp = Some(time(Timestamp::new(NOW, 0)));
        snapshot.spec.deletion_policy = policy;
        snapshot
    };
    let drop = SnapshotDeletionPolicy::Delete;
    assert_eq!(
        decide(&observed(terminating(drop), None)).step,
        Some(Step::Delete)
    );
    assert_eq!(
        decide(&observed(terminating(SnapshotDeletionPolicy::Retain), None)).step,
        Some(Step::RemoveFinalizer)
    );
    let mut done = observed(terminating(drop), None);
    done.done.insert(Done::Daemon);
    assert_eq!(decide(&done).step, Some(Step::RemoveFinalizer));

    let mut away = observed(terminating(drop), None);
    away.failure = Some((
        Done::Daemon,
        Failure {
            reason: "NodeAway".to_owned(),
            message: "m".to_owned(),
            kind: FailureKind::Away,
        },
    ));
    let decision = decide(&away);
    assert_eq!(decision.step, None);
    assert_eq!(ready(&decision), ("Unknown".to_owned(), "NodeAway".to_owned()));
    let mut word = away.snapshot.as_ref().clone();
    word.annotations_mut()
        .insert(names::ABANDON.to_owned(), "a".to_owned());
    away.snapshot = Arc::new(word);
    assert!(matches!(decide(&away).step, Some(Step::Entomb { .. })));

    let mut nowhere = terminating(drop);
    nowhere.status = None;
    assert_eq!(decide(&observed(nowhere, None)).step, Some(Step::RemoveFinalizer));
}
