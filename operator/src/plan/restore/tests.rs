//! Tables: objects in, steps and conditions out.

use std::collections::BTreeSet;
use std::sync::Arc;

use cairn_api::proto;
use cairn_crds::restore::{InPlace, NewWorkspace, RestoreMode, RestorePhase, RestoreTarget};
use cairn_crds::{Restore, RestoreSpec, Workspace, WorkspaceSpec, WorkspaceStatus, names};
use cairn_types::Timestamp;

use super::{Done, Observed, Step, decide};
use crate::plan::NodeView;
use crate::runtime::clock::time;

const ID: &str = "0123456789abcdef0123456789abcdef";

fn observed(mode: RestoreMode, into: RestoreTarget) -> Observed {
    let mut workspace = Workspace::new("data", WorkspaceSpec::default());
    workspace.metadata.uid = Some("w-uid".to_owned());
    workspace.status = Some(WorkspaceStatus {
        node_name: Some("a".to_owned()),
        workspace_id: Some("w".to_owned()),
        ..WorkspaceStatus::default()
    });
    let mut restore = Restore::new(
        "r",
        RestoreSpec {
            snapshot: ID.to_owned(),
            workspace: "data".to_owned(),
            into,
            paths: Vec::new(),
            mode,
            safety_snapshot: true,
        },
    );
    restore.metadata.uid = Some("r-uid".to_owned());
    restore.metadata.namespace = Some("team".to_owned());
    restore.metadata.finalizers = Some(vec![names::RESTORE_FINALIZER.to_owned()]);
    Observed {
        restore: Arc::new(restore),
        now: Timestamp::new(1_795_219_200, 0),
        workspace: Some(Arc::new(workspace)),
        snapshot: None,
        target: None,
        node: Some(NodeView {
            name: "a".to_owned(),
            away: None,
            service_ip: None,
            features: BTreeSet::new(),
        }),
        plan: None,
        managed: None,
        done: BTreeSet::new(),
        failure: None,
    }
}

fn in_place() -> RestoreTarget {
    RestoreTarget {
        in_place: Some(InPlace {}),
        new_workspace: None,
    }
}

fn told() -> Option<proto::PlanRestoreResponse> {
    Some(proto::PlanRestoreResponse {
        snapshot: ID.to_owned(),
        adds: 1,
        ..proto::PlanRestoreResponse::default()
    })
}

#[test]
fn a_plan_changes_nothing() {
    let mut seen = observed(RestoreMode::Plan, in_place());
    assert!(matches!(decide(&seen).step, Some(Step::Plan(_))));
    seen.plan = told();
    let decision = decide(&seen);
    assert_eq!(decision.step, None);
    assert_eq!(decision.status.phase, Some(RestorePhase::Planned));
    assert_eq!(decision.status.plan.unwrap().adds, 1);
}

#[test]
fn a_run_is_recorded_asked_for_once_and_over() {
    let mut seen = observed(RestoreMode::Run, in_place());
    seen.plan = told();
    let begun = decide(&seen);
    assert_eq!((begun.step, begun.record_first), (Some(Step::RecordStatus), true));
    let mut restore = seen.restore.as_ref().clone();
    restore.status = Some(begun.status);
    seen.restore = Arc::new(restore.clone());
    let Some(Step::Ensure(request)) = decide(&seen).step else {
        panic!("it is not asked for");
    };
    assert_eq!(request.key, "restore/r-uid");
    assert_eq!(request.workspace_key, "w-uid");
    assert!(!request.without_safety);
    seen.managed = Some(Arc::new(proto::ManagedRestore {
        state: proto::ManagedState::Ready.into(),
        snapshot: ID.to_owned(),
        safety: Some("safety".to_owned()),
        ..proto::ManagedRestore::default()
    }));
    let over = decide(&seen);
    assert_eq!(over.step, None);
    assert_eq!(over.status.phase, Some(RestorePhase::Completed));
    assert_eq!(over.status.safety_snapshot.as_deref(), Some("safety"));
    assert_eq!(over.status.history.len(), 3);
    // Whatever becomes of the Workspace: done is done.
    restore.status = Some(over.status.clone());
    let mut later = observed(RestoreMode::Run, in_place());
    later.restore = Arc::new(restore.clone());
    later.workspace = None;
    let again = decide(&later);
    assert_eq!((again.step, again.status), (None, over.status));
    // The daemon is told that nobody asks again.
    restore.metadata.deletion_timestamp = Some(time(Timestamp::new(1_795_219_300, 0)));
    later.restore = Arc::new(restore);
    assert_eq!(decide(&later).step, Some(Step::Forget));
    later.done.insert(Done::Forget);
    assert_eq!(decide(&later).step, Some(Step::RemoveFinalizer));
}

#[test]
fn a_new_workspace_needs_a_snapshot_resource() {
    let into = RestoreTarget {
        in_place: None,
        new_workspace: Some(NewWorkspace {
            name: "copy".to_owned(),
        }),
    };
    let planned = decide(&observed(RestoreMode::Plan, into.clone()));
    assert_eq!(planned.status.phase, Some(RestorePhase::Planned));
    let seen = observed(RestoreMode::Run, into);
    let decision = decide(&seen);
    assert_eq!(decision.step, None);
    let message = decision.status.message.unwrap();
    assert!(message.contains("begins with a Snapshot resource"), "{message}");
}
