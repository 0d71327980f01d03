//! Takes the steps that [`crate::plan::workspace`] decides.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use cairn_api::proto;
use cairn_crds::{Snapshot, Workspace, names};
use cairn_types::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use parking_lot::Mutex;
use serde_json::json;

use super::caches::{
    RESTORES_BY_SNAPSHOT, SNAPSHOTS_BY_ID, SNAPSHOTS_BY_WORKSPACE, WORKSPACES_BY_INITIAL, WORKSPACES_BY_NODE,
    within,
};
use super::tombstones::{Burial, entomb};
use super::{Context, STEPS_MAX, Taken, directory, next, taken};
use crate::children::volume::volume_name;
use crate::plan::placement::Candidate;
use crate::plan::workspace::{Directory, Done, Initial, ORIGIN, Observed, Step, decide};
use crate::plan::{Child, Failure, daemon_name};
use crate::runtime::apply::{self, Knows};
use crate::runtime::cache::{self, Key};
use crate::runtime::controller::{Next, Reconciler};
use crate::runtime::error::ReconcileError;

/// How long what a daemon has said of a workspace is believed without asking again, in seconds.
const REMEMBERED_SECONDS: i64 = 600;

/// Reconciles Workspaces.
#[derive(Debug)]
pub struct WorkspaceReconciler {
    context: Arc<Context>,
    /// By uid: what was asked, of whom, when, and the answer. As many as there are Workspaces.
    remembered: Mutex<HashMap<String, Remembered>>,
}

#[derive(Debug, Clone)]
struct Remembered {
    request: proto::EnsureWorkspaceRequest,
    instance: String,
    at: Timestamp,
    managed: Arc<proto::ManagedWorkspace>,
}

/// What one pass has learned.
#[derive(Default)]
struct Pass {
    managed: Option<Arc<proto::ManagedWorkspace>>,
    done: BTreeSet<Done>,
    failure: Option<(Done, Failure)>,
    error: Option<ReconcileError>,
    directory: Option<Directory>,
}

impl WorkspaceReconciler {
    /// Nothing is remembered yet.
    pub fn new(context: Arc<Context>) -> Self {
        WorkspaceReconciler {
            context,
            remembered: Mutex::default(),
        }
    }

    async fn run(&self, key: &Key) -> Result<Next, ReconcileError> {
        let context = &self.context;
        let mut pass = Pass::default();
        for _ in 0..STEPS_MAX {
            let Some(workspace) = context.caches.workspaces.get(key) else {
                return Ok(Next::OnChange);
            };
            let is_placed = workspace
                .status
                .as_ref()
                .is_some_and(|status| status.node_name.is_some());
            // Held until the choice is in the cache.
            let _turn = match is_placed {
                true => None,
                false => context.placing.acquire().await.ok(),
            };
            let observed = self.gather(&workspace, &mut pass, !is_placed).await?;
            let decision = decide(&observed);
            if decision.record_first || decision.step.is_none() {
                let empty = Vec::new();
                let old = workspace.status.as_ref();
                let conditions = old.map(|status| &status.conditions).unwrap_or(&empty);
                context
                    .record(
                        &context.workspaces,
                        &context.caches.workspaces,
                        workspace.as_ref(),
                        old,
                        &decision.status,
                        (conditions, &decision.status.conditions),
                    )
                    .await?;
            }
            let Some(step) = decision.step else {
                return next(decision.again, pass.error, "Workspace");
            };
            let done = step.done();
            match taken(self.take(&workspace, step, &mut pass).await)? {
                Taken::Done => {
                    pass.done.insert(done);
                }
                Taken::Failed(failure, error) => {
                    pass.failure = Some((done, failure));
                    pass.error = Some(error);
                }
            }
            if done == Done::NoFinalizer {
                self.remembered.lock().remove(cache::uid(workspace.as_ref()));
                return Ok(Next::OnChange);
            }
        }
        Err(ReconcileError::TooManySteps { limit: STEPS_MAX })
    }

    async fn gather(
        &self,
        workspace: &Arc<Workspace>,
        pass: &mut Pass,
        with_candidates: bool,
    ) -> Result<Observed, ReconcileError> {
        let context = &self.context;
        let caches = &context.caches;
        let own = within(workspace.as_ref(), &workspace.name_any());
        let snapshots = caches.snapshots.filed(SNAPSHOTS_BY_WORKSPACE, &own);
        let directory = match (&pass.directory, workspace.spec.backing.volume.is_some()) {
            (_, true) => Directory::None,
            (Some(found), false) => found.clone(),
            (None, false) => directory::find(context, workspace).await?,
        };
        pass.directory = Some(directory.clone());
        let needed = snapshots.iter().filter(|snapshot| self.is_needed(snapshot));
        let needed = needed.map(|snapshot| snapshot.name_any()).collect();
        let candidates = match with_candidates && !cache::is_terminating(workspace.as_ref()) {
            true => self.candidates(workspace).await?,
            false => Vec::new(),
        };
        let node = workspace
            .status
            .as_ref()
            .and_then(|status| status.node_name.as_deref());
        let child = |found: Option<_>| found.map(Child::Ours);
        let volume = caches.volumes.get(&Key::cluster(volume_name(workspace)));
        let claim = caches.claims.get(&Key::of(workspace.as_ref())).filter(|claim| {
            claim.labels().get(names::WORKSPACE_UID).map(String::as_str)
                == Some(cache::uid(workspace.as_ref()))
        });
        Ok(Observed {
            workspace: Arc::clone(workspace),
            now: context.now(),
            settings: context.plan.clone(),
            candidates,
            initial: self.initial(workspace),
            directory,
            node: node.map(|node| context.node_view(node)),
            managed: pass.managed.clone(),
            volume: child(volume).unwrap_or(Child::Absent),
            claim: claim.map(Child::Ours).unwrap_or(Child::Absent),
            snapshots,
            needed,
            done: pass.done.clone(),
            failure: pass.failure.clone(),
        })
    }

    /// Whether something is being made from a Snapshot.
    fn is_needed(&self, snapshot: &Snapshot) -> bool {
        let caches = &self.context.caches;
        let id = snapshot
            .status
            .as_ref()
            .and_then(|status| status.snapshot_id.clone());
        let names = [Some(snapshot.name_any()), id];
        names
            .into_iter()
            .flatten()
            .map(|name| within(snapshot, &name))
            .any(|name| {
                let made = caches.workspaces.filed(WORKSPACES_BY_INITIAL, &name);
                let is_making = |workspace: &Arc<Workspace>| {
                    workspace
                        .status
                        .as_ref()
                        .is_none_or(|status| status.workspace_id.is_none())
                };
                let restores = caches.restores.filed(RESTORES_BY_SNAPSHOT, &name);
                made.iter().any(is_making)
                    || restores.iter().any(|restore| {
                        let status = restore.status.as_ref();
                        status.is_none_or(|status| status.completed_at.is_none())
                    })
            })
    }

    fn initial(&self, workspace: &Workspace) -> Initial {
        let Some(wanted) = &workspace.spec.initial_snapshot else {
            return Initial::None;
        };
        let node = workspace
            .status
            .as_ref()
            .and_then(|status| status.node_name.clone());
        let origin = workspace
            .annotations()
            .get(ORIGIN)
            .and_then(|origin| origin.split_once('/'));
        if let (Some((of, id)), Some(node)) = (origin, node) {
            return Initial::Found {
                workspace: of.to_owned(),
                snapshot: id.to_owned(),
                node,
            };
        }
        let snapshots = &self.context.caches.snapshots;
        let namespace = workspace.namespace().unwrap_or_default();
        let found = snapshots.get(&Key::new(&namespace, wanted)).or_else(|| {
            let by_id = snapshots.filed(SNAPSHOTS_BY_ID, &within(workspace, wanted));
            by_id.into_iter().next()
        });
        let Some(found) = found else {
            return Initial::Waiting {
                reason: "InitialSnapshotNotFound",
                message: format!(
                    "there is no Snapshot {wanted} in the namespace {namespace}, neither by name nor by id: make it, or delete this Workspace"
                ),
            };
        };
        let status = found.status.clone().unwrap_or_default();
        match (status.snapshot_id, status.node_name) {
            (Some(snapshot), Some(node)) => Initial::Found {
                workspace: daemon_name(&namespace, &found.spec.workspace),
                snapshot,
                node,
            },
            _ => Initial::Waiting {
                reason: "InitialSnapshotNotReady",
                message: format!(
                    "the Snapshot {wanted} has not been taken yet: see kubectl describe snapshot.jvs.io {wanted}"
                ),
            },
        }
    }

    async fn candidates(&self, workspace: &Workspace) -> Result<Vec<Candidate>, ReconcileError> {
        let context = &self.context;
        let caches = &context.caches;
        let selector = workspace
            .spec
            .placement
            .as_ref()
            .map(|placement| &placement.node_selector)
            .filter(|selector| !selector.is_empty());
        let selected: Option<BTreeSet<String>> = match selector {
            None => None,
            Some(selector) => {
                let text: Vec<String> = selector
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                let nodes: Vec<Node> = context.workspaces.list("", &text.join(",")).await?;
                Some(nodes.iter().map(ResourceExt::name_any).collect())
            }
        };
        let reserved = |node: &str| -> u64 {
            let there = caches.workspaces.filed(WORKSPACES_BY_NODE, node);
            there
                .iter()
                .filter(|other| {
                    let status = other.status.as_ref();
                    status.is_none_or(|status| status.workspace_id.is_none())
                })
                .filter_map(|other| cairn_crds::validation::quantity_bytes(&other.spec.storage))
                .fold(0, u64::saturating_add)
        };
        let candidates = context.fleet.nodes().into_iter().map(|(node, _)| {
            let state = context.fleet.state(&node);
            let info = state.as_ref().and_then(|state| state.info.clone());
            let resource = caches.nodes.get(&Key::cluster(&node));
            let away = match (&info, state.and_then(|state| state.failure)) {
                (Some(info), _) if info.draining => Some("it is drained".to_owned()),
                (Some(_), _) => None,
                (None, Some(failure)) => Some(failure.message.clone()),
                (None, None) => Some("it has not been asked yet".to_owned()),
            };
            Candidate {
                away,
                cordoned: resource.is_some_and(|resource| resource.spec.cordoned),
                is_selected: selected.as_ref().is_none_or(|selected| selected.contains(&node)),
                free: info.as_ref().map(|info| info.free_bytes).unwrap_or(0),
                reserved: reserved(&node),
                // Those that were put there, also the ones that the daemon does not know yet.
                workspaces: caches.workspaces.filed_keys(WORKSPACES_BY_NODE, &node).len() as u64,
                node,
            }
        });
        Ok(candidates.collect())
    }

    async fn take(
        &self,
        workspace: &Arc<Workspace>,
        step: Step,
        pass: &mut Pass,
    ) -> Result<(), ReconcileError> {
        let context = &self.context;
        let caches = &context.caches;
        let api = &context.workspaces;
        let uid = cache::uid(workspace.as_ref());
        let node = workspace
            .status
            .as_ref()
            .and_then(|status| status.node_name.clone())
            .unwrap_or_default();
        let is_ours = |labels: &std::collections::BTreeMap<String, String>| {
            labels.get(names::WORKSPACE_UID).map(String::as_str) == Some(uid)
        };
        match step {
            Step::AddFinalizer => {
                api.set_finalizer(
                    &caches.workspaces,
                    workspace.as_ref(),
                    names::WORKSPACE_FINALIZER,
                    true,
                )
                .await
            }
            Step::RecordStatus => Ok(()),
            Step::RecordOrigin {
                workspace: of,
                snapshot,
            } => {
                let patch = json!({ "metadata": {
                    "annotations": { ORIGIN: format!("{of}/{snapshot}") },
                    "resourceVersion": workspace.resource_version(),
                } });
                let key = Key::of(workspace.as_ref());
                api.merge(Some(&caches.workspaces), &key, &patch).await.map(drop)
            }
            Step::Ensure(request) => {
                pass.managed = Some(self.ensure(&node, uid, *request).await?);
                Ok(())
            }
            Step::ApplyVolume(volume) => apply::ensure(api, &caches.volumes, Knows::Ours, *volume, |found| {
                is_ours(found.labels())
            })
            .await
            .map(drop),
            Step::ApplyClaim(claim) => apply::ensure(api, &caches.claims, Knows::Ours, *claim, |found| {
                is_ours(found.labels())
            })
            .await
            .map(drop),
            Step::CreateSnapshot(snapshot) => api
                .create(Some(&caches.snapshots), snapshot.as_ref())
                .await
                .map(drop),
            Step::DeleteSnapshots(names) => {
                let namespace = workspace.namespace().unwrap_or_default();
                for name in names {
                    if let Some(snapshot) = caches.snapshots.get(&Key::new(&namespace, name)) {
                        api.delete(snapshot.as_ref()).await?;
                    }
                }
                Ok(())
            }
            Step::DeleteClaim => match caches.claims.get(&Key::of(workspace.as_ref())) {
                Some(claim) => api.delete(claim.as_ref()).await,
                None => Ok(()),
            },
            Step::DeleteVolume => match caches.volumes.get(&Key::cluster(volume_name(workspace))) {
                Some(volume) => api.delete(volume.as_ref()).await,
                None => Ok(()),
            },
            Step::Release => {
                let request = proto::ReleaseWorkspaceRequest {
                    key: uid.to_owned(),
                    ..Default::default()
                };
                context.fleet.call(&node, request).await?;
                Ok(())
            }
            Step::DeleteData => {
                let request = proto::DeleteManagedWorkspaceRequest {
                    key: uid.to_owned(),
                    with_snapshots: true,
                    ..Default::default()
                };
                context.fleet.call(&node, request).await?;
                Ok(())
            }
            Step::Entomb { node, delete } => {
                let burial = match delete {
                    true => Burial::DeleteWorkspace,
                    false => Burial::ReleaseWorkspace,
                };
                entomb(context, &node, uid, burial).await
            }
            Step::RemoveFinalizer => {
                api.set_finalizer(
                    &caches.workspaces,
                    workspace.as_ref(),
                    names::WORKSPACE_FINALIZER,
                    false,
                )
                .await
            }
        }
    }

    /// Asks the daemon, unless the same process of it has answered the same not long ago.
    async fn ensure(
        &self,
        node: &str,
        uid: &str,
        request: proto::EnsureWorkspaceRequest,
    ) -> Result<Arc<proto::ManagedWorkspace>, ReconcileError> {
        let context = &self.context;
        let now = context.now();
        let info = match context.fleet.info(node) {
            Some(info) => info,
            None => context.fleet.refresh(node).await?,
        };
        if let Some(known) = self.remembered.lock().get(uid)
            && known.request == request
            && known.instance == info.instance
            && (0..REMEMBERED_SECONDS).contains(&(now.seconds() - known.at.seconds()))
        {
            return Ok(Arc::clone(&known.managed));
        }
        let answer = context.fleet.call(node, request.clone()).await?;
        let managed = Arc::new(answer.workspace.unwrap_or_default());
        let remembered = Remembered {
            request,
            instance: info.instance.clone(),
            at: now,
            managed: Arc::clone(&managed),
        };
        self.remembered.lock().insert(uid.to_owned(), remembered);
        Ok(managed)
    }
}

impl Reconciler for WorkspaceReconciler {
    fn kind(&self) -> &'static str {
        "Workspace"
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, ReconcileError> {
        Box::pin(self.run(key)).await
    }
}
