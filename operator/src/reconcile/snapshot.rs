//! Takes the steps that [`crate::plan::snapshot`] decides.

use std::collections::BTreeSet;
use std::sync::Arc;

use cairn_api::proto;
use cairn_crds::{Snapshot, names};
use cairn_types::ErrorKind;
use kube::ResourceExt;

use super::tombstones::{Burial, entomb};
use super::{Context, STEPS_MAX, Taken, next, taken};
use crate::plan::snapshot::{Done, Observed, Step, decide};
use crate::plan::{Failure, snapshot_key};
use crate::runtime::cache::{self, Key};
use crate::runtime::controller::{Next, Reconciler};
use crate::runtime::error::ReconcileError;

/// Reconciles Snapshots.
#[derive(Debug)]
pub struct SnapshotReconciler {
    context: Arc<Context>,
}

#[derive(Default)]
struct Pass {
    managed: Option<Arc<proto::ManagedSnapshot>>,
    done: BTreeSet<Done>,
    failure: Option<(Done, Failure)>,
    error: Option<ReconcileError>,
}

impl SnapshotReconciler {
    /// A reconciler.
    pub fn new(context: Arc<Context>) -> Self {
        SnapshotReconciler { context }
    }

    async fn run(&self, key: &Key) -> Result<Next, ReconcileError> {
        let context = &self.context;
        let mut pass = Pass::default();
        for _ in 0..STEPS_MAX {
            let Some(snapshot) = context.caches.snapshots.get(key) else {
                return Ok(Next::OnChange);
            };
            let observed = self.gather(&snapshot, &pass);
            let decision = decide(&observed);
            if decision.record_first || decision.step.is_none() {
                let empty = Vec::new();
                let old = snapshot.status.as_ref();
                let conditions = old.map(|status| &status.conditions).unwrap_or(&empty);
                context
                    .record(
                        &context.snapshots,
                        &context.caches.snapshots,
                        snapshot.as_ref(),
                        old,
                        &decision.status,
                        (conditions, &decision.status.conditions),
                    )
                    .await?;
            }
            let Some(step) = decision.step else {
                return next(decision.again, pass.error, "Snapshot");
            };
            let done = step.done();
            match taken(self.take(&snapshot, &observed, step, &mut pass).await)? {
                Taken::Done => {
                    pass.done.insert(done);
                }
                Taken::Failed(failure, error) => {
                    pass.failure = Some((done, failure));
                    pass.error = Some(error);
                }
            }
            if done == Done::NoFinalizer {
                return Ok(Next::OnChange);
            }
        }
        Err(ReconcileError::TooManySteps { limit: STEPS_MAX })
    }

    fn gather(&self, snapshot: &Arc<Snapshot>, pass: &Pass) -> Observed {
        let context = &self.context;
        let caches = &context.caches;
        let namespace = snapshot.namespace().unwrap_or_default();
        let workspace = caches
            .workspaces
            .get(&Key::new(&namespace, &snapshot.spec.workspace));
        let node = snapshot
            .status
            .as_ref()
            .and_then(|status| status.node_name.clone())
            .or_else(|| workspace.as_ref()?.status.as_ref()?.node_name.clone());
        let worktree = snapshot.spec.restore_on_create.then(|| {
            let name = snapshot
                .spec
                .restore_worktree
                .clone()
                .unwrap_or_else(|| snapshot.name_any());
            caches.workspaces.get(&Key::new(&namespace, name))
        });
        Observed {
            snapshot: Arc::clone(snapshot),
            now: context.now(),
            workspace,
            node: node.map(|node| context.node_view(&node)),
            managed: pass.managed.clone(),
            worktree: worktree.flatten(),
            done: pass.done.clone(),
            failure: pass.failure.clone(),
        }
    }

    async fn take(
        &self,
        snapshot: &Arc<Snapshot>,
        observed: &Observed,
        step: Step,
        pass: &mut Pass,
    ) -> Result<(), ReconcileError> {
        let context = &self.context;
        let caches = &context.caches;
        let api = &context.snapshots;
        let uid = cache::uid(snapshot.as_ref());
        let node = observed
            .node
            .as_ref()
            .map(|node| node.name.clone())
            .unwrap_or_default();
        match step {
            Step::AddFinalizer => {
                api.set_finalizer(
                    &caches.snapshots,
                    snapshot.as_ref(),
                    names::SNAPSHOT_FINALIZER,
                    true,
                )
                .await
            }
            Step::RecordStatus => Ok(()),
            Step::Ensure(request) => {
                let answer = context.fleet.call(&node, *request).await?;
                pass.managed = Some(Arc::new(answer.snapshot.unwrap_or_default()));
                Ok(())
            }
            Step::Look => {
                let request = proto::GetSnapshotByKeyRequest {
                    key: snapshot_key(uid),
                };
                match context.fleet.call(&node, request).await {
                    Ok(answer) => pass.managed = answer.snapshot.map(Arc::new),
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error.into()),
                }
                Ok(())
            }
            Step::Verify => {
                let which = proto::verify_snapshot_request::Which::Key(snapshot_key(uid));
                let request = proto::VerifySnapshotRequest {
                    which: Some(which),
                    ..Default::default()
                };
                context.fleet.call(&node, request).await?;
                Ok(())
            }
            Step::CreateWorktree(workspace) => api
                .create(Some(&caches.workspaces), workspace.as_ref())
                .await
                .map(drop),
            Step::Delete => {
                let which = proto::delete_managed_snapshot_request::Which::Key(snapshot_key(uid));
                let request = proto::DeleteManagedSnapshotRequest {
                    which: Some(which),
                    ..Default::default()
                };
                context.fleet.call(&node, request).await?;
                Ok(())
            }
            Step::Entomb { node } => entomb(context, &node, uid, Burial::DeleteSnapshot).await,
            Step::RemoveFinalizer => {
                api.set_finalizer(
                    &caches.snapshots,
                    snapshot.as_ref(),
                    names::SNAPSHOT_FINALIZER,
                    false,
                )
                .await
            }
        }
    }
}

impl Reconciler for SnapshotReconciler {
    fn kind(&self) -> &'static str {
        "Snapshot"
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, ReconcileError> {
        Box::pin(self.run(key)).await
    }
}
