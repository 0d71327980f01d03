//! Takes the steps that [`crate::plan::restore`] decides.

use std::collections::BTreeSet;
use std::sync::Arc;

use cairn_api::proto;
use cairn_crds::{Restore, names};
use kube::ResourceExt;

use super::caches::{SNAPSHOTS_BY_ID, within};
use super::tombstones::{Burial, entomb};
use super::{Context, STEPS_MAX, Taken, next, taken};
use crate::plan::restore::{Done, Observed, Step, decide};
use crate::plan::{Failure, restore_key};
use crate::runtime::cache::{self, Key};
use crate::runtime::controller::{Next, Reconciler};
use crate::runtime::error::ReconcileError;

/// Reconciles Restores.
#[derive(Debug)]
pub struct RestoreReconciler {
    context: Arc<Context>,
}

#[derive(Default)]
struct Pass {
    plan: Option<proto::PlanRestoreResponse>,
    managed: Option<Arc<proto::ManagedRestore>>,
    done: BTreeSet<Done>,
    failure: Option<(Done, Failure)>,
    error: Option<ReconcileError>,
}

impl RestoreReconciler {
    /// A reconciler.
    pub fn new(context: Arc<Context>) -> Self {
        RestoreReconciler { context }
    }

    async fn run(&self, key: &Key) -> Result<Next, ReconcileError> {
        let context = &self.context;
        let mut pass = Pass::default();
        for _ in 0..STEPS_MAX {
            let Some(restore) = context.caches.restores.get(key) else {
                return Ok(Next::OnChange);
            };
            let observed = self.gather(&restore, &pass);
            let decision = decide(&observed);
            if decision.record_first || decision.step.is_none() {
                let empty = Vec::new();
                let old = restore.status.as_ref();
                let conditions = old.map(|status| &status.conditions).unwrap_or(&empty);
                context
                    .record(
                        &context.restores,
                        &context.caches.restores,
                        restore.as_ref(),
                        old,
                        &decision.status,
                        (conditions, &decision.status.conditions),
                    )
                    .await?;
            }
            let Some(step) = decision.step else {
                return next(decision.again, pass.error, "Restore");
            };
            let done = step.done();
            match taken(self.take(&restore, &observed, step, &mut pass).await)? {
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

    fn gather(&self, restore: &Arc<Restore>, pass: &Pass) -> Observed {
        let context = &self.context;
        let caches = &context.caches;
        let spec = &restore.spec;
        let namespace = restore.namespace().unwrap_or_default();
        let workspace = caches.workspaces.get(&Key::new(&namespace, &spec.workspace));
        let snapshot = caches
            .snapshots
            .get(&Key::new(&namespace, &spec.snapshot))
            .or_else(|| {
                let by_id = caches
                    .snapshots
                    .filed(SNAPSHOTS_BY_ID, &within(restore.as_ref(), &spec.snapshot));
                by_id.into_iter().next()
            });
        let target = spec.into.new_workspace.as_ref();
        let node = restore
            .status
            .as_ref()
            .and_then(|status| status.node_name.clone())
            .or_else(|| workspace.as_ref()?.status.as_ref()?.node_name.clone());
        Observed {
            restore: Arc::clone(restore),
            now: context.now(),
            snapshot,
            target: target.and_then(|target| caches.workspaces.get(&Key::new(&namespace, &target.name))),
            node: node.map(|node| context.node_view(&node)),
            workspace,
            plan: pass.plan.clone(),
            managed: pass.managed.clone(),
            done: pass.done.clone(),
            failure: pass.failure.clone(),
        }
    }

    async fn take(
        &self,
        restore: &Arc<Restore>,
        observed: &Observed,
        step: Step,
        pass: &mut Pass,
    ) -> Result<(), ReconcileError> {
        let context = &self.context;
        let caches = &context.caches;
        let api = &context.restores;
        let uid = cache::uid(restore.as_ref());
        let node = observed
            .node
            .as_ref()
            .map(|node| node.name.clone())
            .unwrap_or_default();
        match step {
            Step::AddFinalizer => {
                api.set_finalizer(&caches.restores, restore.as_ref(), names::RESTORE_FINALIZER, true)
                    .await
            }
            Step::RecordStatus => Ok(()),
            Step::Plan(request) => {
                pass.plan = Some(context.fleet.call(&node, *request).await?);
                Ok(())
            }
            Step::Ensure(request) => {
                let answer = context.fleet.call(&node, *request).await?;
                pass.managed = Some(Arc::new(answer.restore.unwrap_or_default()));
                Ok(())
            }
            Step::CreateTarget(workspace) => api
                .create(Some(&caches.workspaces), workspace.as_ref())
                .await
                .map(drop),
            Step::Forget => {
                let request = proto::ForgetRestoreRequest {
                    key: restore_key(uid),
                    ..Default::default()
                };
                context.fleet.call(&node, request).await?;
                Ok(())
            }
            Step::Entomb { node } => entomb(context, &node, uid, Burial::ForgetRestore).await,
            Step::RemoveFinalizer => {
                api.set_finalizer(
                    &caches.restores,
                    restore.as_ref(),
                    names::RESTORE_FINALIZER,
                    false,
                )
                .await
            }
        }
    }
}

impl Reconciler for RestoreReconciler {
    fn kind(&self) -> &'static str {
        "Restore"
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, ReconcileError> {
        Box::pin(self.run(key)).await
    }
}
