//! Daemons that are none: they keep workspaces and snapshots in memory as a real one does in its stores, under keys, once. Answers can be lost after the work is
//! done, daemons can be away, restart, be slow, or be those of another node.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_api::proto;
use cairn_api::{ApiError, Reason};
use cairn_operator::daemons::{Address, CallError, Daemons, Outcome, Request, Response};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::real::{Held, HeldSnapshot};

/// What goes wrong with the next calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call never arrives.
    Lost,
    /// The work is done, and the answer never arrives.
    ReplyLost,
    /// The work is done, the daemon restarts, and the answer never arrives.
    Restart,
    /// The daemon has no room.
    NoSpace,
}

#[derive(Debug, Clone)]
pub struct Workspace {
    pub managed: proto::ManagedWorkspace,
    pub request: proto::EnsureWorkspaceRequest,
    pub owner: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Snapshot {
    pub managed: proto::ManagedSnapshot,
    pub request: proto::EnsureSnapshotRequest,
    /// Answers until it is ready.
    pub polls: u32,
}

#[derive(Debug, Default)]
pub struct Node {
    pub address: Option<Address>,
    pub is_up: bool,
    pub says_node: Option<String>,
    pub instance: u64,
    pub free: u64,
    pub workspaces: BTreeMap<String, Workspace>,
    pub snapshots: BTreeMap<String, Snapshot>,
    pub restores: BTreeMap<String, proto::ManagedRestore>,
    /// Keys that were given up: they are used once.
    pub buried: BTreeSet<String>,
    pub greatest: u64,
    pub faults: VecDeque<Fault>,
    pub calls: HashMap<&'static str, u64>,
    /// Polls that a new snapshot takes.
    pub slowness: u32,
    pub without: BTreeSet<&'static str>,
}

/// All daemons.
#[derive(Debug, Default)]
pub struct Double {
    pub nodes: Mutex<BTreeMap<String, Node>>,
    next_id: AtomicU64,
    changes: watch::Sender<u64>,
}

/// Called before and after each call: tests crash the operator there.
pub trait Interposed: Send + Sync + 'static {
    fn before(&self, call: &'static str) -> BoxFuture<'_, ()>;
    fn after(&self) -> BoxFuture<'_, ()>;
}

/// The double, as one operator process sees it.
pub struct Seen {
    pub double: Arc<Double>,
    pub interposed: Option<Arc<dyn Interposed>>,
}

impl Double {
    /// Nodes of these names, each with this much room.
    pub fn new(names: &[&str], free: u64) -> Arc<Self> {
        let double = Double::default();
        for (number, name) in (1u8..).zip(names) {
            let node = Node {
                address: Some(Address {
                    ip: [10, 1, 0, number].into(),
                    port: 7070,
                    is_ready: true,
                }),
                is_up: true,
                instance: 1,
                free,
                ..Node::default()
            };
            double.nodes.lock().insert((*name).to_owned(), node);
        }
        Arc::new(double)
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub fn with<T>(&self, node: &str, change: impl FnOnce(&mut Node) -> T) -> T {
        let mut nodes = self.nodes.lock();
        let result = change(nodes.get_mut(node).unwrap());
        drop(nodes);
        self.changes.send_modify(|number| *number += 1);
        result
    }

    /// Every snapshot that was taken under a key, of all nodes.
    pub fn snapshot_keys(&self) -> Vec<String> {
        let nodes = self.nodes.lock();
        let all = nodes.values().flat_map(|node| node.snapshots.keys().cloned());
        let mut keys: Vec<String> = all.collect();
        keys.sort();
        keys
    }

    /// Every workspace that has an owner, of all nodes.
    pub fn workspace_keys(&self) -> Vec<String> {
        let nodes = self.nodes.lock();
        let all = nodes
            .values()
            .flat_map(|node| node.workspaces.values().filter_map(|it| it.owner.clone()));
        let mut keys: Vec<String> = all.collect();
        keys.sort();
        keys
    }

    /// Every workspace, of all nodes.
    pub fn workspace_names(&self) -> Vec<String> {
        let nodes = self.nodes.lock();
        let mut names: Vec<String> = nodes
            .values()
            .flat_map(|node| node.workspaces.keys().cloned())
            .collect();
        names.sort();
        names
    }

    /// Everything that the daemons hold.
    pub fn held(&self) -> Held {
        let nodes = self.nodes.lock();
        let mut held = Held::default();
        for (name, node) in nodes.iter() {
            for (workspace, it) in &node.workspaces {
                held.workspaces.insert(workspace.clone(), it.owner.clone());
            }
            held.snapshots
                .extend(node.snapshots.iter().map(|(key, it)| HeldSnapshot {
                    node: name.clone(),
                    workspace: it.managed.workspace.clone(),
                    key: key.clone(),
                    id: it.managed.id.clone(),
                }));
        }
        held
    }

    pub fn calls(&self, name: &'static str) -> u64 {
        let nodes = self.nodes.lock();
        nodes
            .values()
            .map(|node| node.calls.get(name).copied().unwrap_or(0))
            .sum()
    }

    fn serve(&self, name: &str, request: Request) -> Result<Response, CallError> {
        let method = request.name();
        let mut nodes = self.nodes.lock();
        let Some(node) = nodes.get_mut(name).filter(|node| node.address.is_some()) else {
            return Err(CallError::away(name, method, "there is no such node"));
        };
        if !node.is_up {
            return Err(CallError::away(name, method, "connection refused"));
        }
        let is_change = request.is_change();
        let fault = match is_change {
            true => node.faults.pop_front(),
            false => None,
        };
        let lost = || CallError::own(name, method, Outcome::Again, "DEADLINE_EXCEEDED", "no answer", "");
        if fault == Some(Fault::Lost) {
            return Err(lost());
        }
        if fault == Some(Fault::NoSpace) {
            return Err(status(
                name,
                method,
                ApiError::new(Reason::NoSpace, "the node is full").remedy("free some space"),
            ));
        }
        *node.calls.entry(method).or_default() += 1;
        let next = |ids: &AtomicU64| ids.fetch_add(1, Ordering::Relaxed) + 1;
        let result = node.execute(name, request, || format!("{:032x}", next(&self.next_id)));
        drop(nodes);
        self.changes.send_modify(|number| *number += 1);
        let result = result.map_err(|error| status(name, method, error));
        match fault {
            Some(Fault::ReplyLost) => Err(lost()),
            Some(Fault::Restart) => {
                self.with(name, |node| node.instance += 1);
                Err(CallError::away(name, method, "the connection broke"))
            }
            _ => result,
        }
    }
}

fn status(node: &str, method: &'static str, error: ApiError) -> CallError {
    CallError::from_status(node, method, &tonic::Status::from(error))
}

impl Node {
    fn execute(
        &mut self,
        name: &str,
        request: Request,
        id: impl Fn() -> String,
    ) -> Result<Response, ApiError> {
        self.admit(&request)?;
        match request {
            Request::GetInfo(_) => Ok(Response::GetInfo(self.info(name))),
            Request::EnsureWorkspace(request) => self.ensure_workspace(request, id()),
            Request::DeleteWorkspace(request) => {
                let found = self.owned(&request.key);
                self.buried.insert(request.key);
                if let Some(found) = &found {
                    self.workspaces.remove(found);
                    self.snapshots
                        .retain(|_, snapshot| snapshot.managed.workspace != *found);
                }
                Ok(Response::DeleteWorkspace(proto::DeleteManagedWorkspaceResponse {
                    already_gone: found.is_none(),
                }))
            }
            Request::ReleaseWorkspace(request) => {
                let found = self.owned(&request.key);
                self.buried.insert(request.key);
                if let Some(workspace) = found.as_ref().and_then(|it| self.workspaces.get_mut(it)) {
                    workspace.owner = None;
                }
                Ok(Response::ReleaseWorkspace(proto::ReleaseWorkspaceResponse {
                    already_released: found.is_none(),
                }))
            }
            Request::EnsureSnapshot(request) => self.ensure_snapshot(request, id()),
            Request::GetSnapshotByKey(request) => {
                let found = self.snapshots.get(&request.key);
                let found = found.ok_or_else(|| {
                    ApiError::new(Reason::SnapshotNotFound, "nothing was asked for under this key")
                })?;
                let mut answer = found.managed.clone();
                answer.state = proto::ManagedState::Ready.into();
                Ok(Response::GetSnapshotByKey(proto::GetSnapshotByKeyResponse {
                    snapshot: Some(answer),
                }))
            }
            Request::DeleteSnapshot(request) => {
                let Some(proto::delete_managed_snapshot_request::Which::Key(key)) = request.which else {
                    return Err(ApiError::new(Reason::KeyInvalid, "no key"));
                };
                let gone = self.snapshots.remove(&key).is_none();
                self.buried.insert(key);
                Ok(Response::DeleteSnapshot(proto::DeleteManagedSnapshotResponse {
                    already_gone: gone,
                }))
            }
            Request::VerifySnapshot(request) => {
                let Some(proto::verify_snapshot_request::Which::Key(key)) = request.which else {
                    return Err(ApiError::new(Reason::KeyInvalid, "no key"));
                };
                if self.without.contains("verify") {
                    return Err(ApiError::new(
                        Reason::FeatureUnsupported,
                        "snapshots of volumes are not read back",
                    ));
                }
                if let Some(snapshot) = self.snapshots.get_mut(&key) {
                    snapshot.managed.verification = proto::Verification::Verified.into();
                }
                Ok(Response::VerifySnapshot(proto::VerifySnapshotResponse {
                    operation: id(),
                }))
            }
            Request::PlanRestore(request) => {
                self.workspaces
                    .get(&request.workspace)
                    .ok_or_else(|| ApiError::new(Reason::WorkspaceNotFound, "there is no such workspace"))?;
                Ok(Response::PlanRestore(proto::PlanRestoreResponse {
                    snapshot: request.snapshot,
                    adds: 3,
                    changes: 2,
                    deletes: 1,
                    bytes: 42,
                }))
            }
            Request::EnsureRestore(request) => {
                let known = self.restores.contains_key(&request.key);
                let restore =
                    self.restores
                        .entry(request.key.clone())
                        .or_insert_with(|| proto::ManagedRestore {
                            key: request.key.clone(),
                            workspace: request.workspace,
                            snapshot: request.snapshot,
                            state: proto::ManagedState::Ready.into(),
                            safety: (!request.without_safety).then(&id),
                            ..proto::ManagedRestore::default()
                        });
                Ok(Response::EnsureRestore(proto::EnsureRestoreResponse {
                    restore: Some(restore.clone()),
                    created: !known,
                }))
            }
            Request::ForgetRestore(request) => {
                let gone = self.restores.remove(&request.key).is_none();
                self.buried.insert(request.key);
                Ok(Response::ForgetRestore(proto::ForgetRestoreResponse {
                    already_forgotten: gone,
                }))
            }
            other => Err(ApiError::new(
                Reason::FeatureUnsupported,
                format!("{} is not played", other.name()),
            )),
        }
    }

    /// The fence: the greatest generation counts, only the process that is meant answers, and what was given up is not made again.
    fn admit(&mut self, request: &Request) -> Result<(), ApiError> {
        let makes = match request {
            Request::EnsureWorkspace(request) => Some(&request.key),
            Request::EnsureSnapshot(request) => Some(&request.key),
            Request::EnsureRestore(request) => Some(&request.key),
            _ => None,
        };
        if makes.is_some_and(|key| self.buried.contains(key)) {
            return Err(ApiError::new(Reason::KeyDeleted, "a key is used once"));
        }
        let Some(fence) = fence(request) else {
            return Ok(());
        };
        if fence.generation < self.greatest {
            return Err(
                ApiError::new(Reason::Fenced, "somebody else leads").detail("greatest", self.greatest)
            );
        }
        if !fence.instance.is_empty() && fence.instance != self.instance.to_string() {
            return Err(ApiError::new(Reason::InstanceChanged, "another process"));
        }
        self.greatest = fence.generation;
        Ok(())
    }

    fn info(&self, name: &str) -> proto::GetInfoResponse {
        proto::GetInfoResponse {
            node: self.says_node.clone().unwrap_or_else(|| name.to_owned()),
            instance: self.instance.to_string(),
            identity: format!("data-{name}"),
            version: "0.1.0".to_owned(),
            api_versions: vec!["cairn.v1".to_owned()],
            capacity_bytes: 1 << 40,
            free_bytes: self.free,
            nfs_port: 12049,
            workspaces: self.workspaces.len() as u64,
            ..proto::GetInfoResponse::default()
        }
    }

    fn owned(&self, key: &str) -> Option<String> {
        let mut all = self.workspaces.iter();
        all.find(|(_, it)| it.owner.as_deref() == Some(key))
            .map(|(name, _)| name.clone())
    }

    fn ensure_workspace(
        &mut self,
        mut request: proto::EnsureWorkspaceRequest,
        id: String,
    ) -> Result<Response, ApiError> {
        request.fence = None;
        let name = request.name.clone();
        let known = self.workspaces.get(&name);
        if let Some(other) = known.and_then(|it| it.owner.clone())
            && other != request.key
        {
            return Err(
                ApiError::new(Reason::WorkspaceOwned, "another object owns the workspace")
                    .remedy("choose another name"),
            );
        }
        if let Some(known) = known
            && known.owner.is_some()
            && known.request.source != request.source
        {
            return Err(ApiError::new(Reason::KeyConflict, "the source differs"));
        }
        let used = known.map(|it| it.managed.used_bytes).unwrap_or(0);
        if request.capacity_bytes > 0 && request.capacity_bytes < used {
            return Err(ApiError::new(
                Reason::OverCapacity,
                format!("{used} bytes are used, {} were asked for", request.capacity_bytes),
            )
            .remedy("delete files, or ask for more"));
        }
        let created = known.is_none();
        let id = known.map(|it| it.managed.id.clone()).unwrap_or(id);
        let is_volume = !matches!(
            request.backing,
            Some(proto::ensure_workspace_request::Backing::Directory(_))
        );
        let managed = proto::ManagedWorkspace {
            key: request.key.clone(),
            name: name.clone(),
            id,
            state: proto::ManagedState::Ready.into(),
            export_path: if is_volume {
                format!("/{name}")
            } else {
                String::new()
            },
            export_port: 12049,
            export: request.export.clone(),
            capacity_bytes: request.capacity_bytes,
            used_bytes: used,
            mount_options: ["vers=3", "tcp", "port=12049", "mountport=12049", "nolock", "hard"]
                .map(str::to_owned)
                .into(),
            ..proto::ManagedWorkspace::default()
        };
        let workspace = Workspace {
            managed: managed.clone(),
            owner: Some(request.key.clone()),
            request,
        };
        self.workspaces.insert(name, workspace);
        Ok(Response::EnsureWorkspace(proto::EnsureWorkspaceResponse {
            workspace: Some(managed),
            created,
            changed: Vec::new(),
        }))
    }

    fn ensure_snapshot(
        &mut self,
        mut request: proto::EnsureSnapshotRequest,
        id: String,
    ) -> Result<Response, ApiError> {
        request.fence = None;
        let Some(workspace) = self.workspaces.get(&request.workspace) else {
            return Err(ApiError::new(
                Reason::WorkspaceNotFound,
                "there is no such workspace",
            ));
        };
        if workspace.owner.as_ref() != Some(&request.workspace_key) {
            return Err(ApiError::new(Reason::WorkspaceOwned, "another object owns it"));
        }
        if !request.paths.is_empty() {
            return Err(
                ApiError::new(Reason::FeatureUnsupported, "a volume is taken as a whole")
                    .remedy("leave partialPaths out"),
            );
        }
        let created = !self.snapshots.contains_key(&request.key);
        let slowness = self.slowness;
        let known = self
            .snapshots
            .entry(request.key.clone())
            .or_insert_with(|| Snapshot {
                managed: proto::ManagedSnapshot {
                    key: request.key.clone(),
                    id,
                    workspace: request.workspace.clone(),
                    engine: "volume".to_owned(),
                    bytes: 1234,
                    created: None,
                    verification: proto::Verification::NotVerified.into(),
                    ..proto::ManagedSnapshot::default()
                },
                request: request.clone(),
                polls: slowness,
            });
        known.managed.note.clone_from(&request.note);
        known.managed.tags.clone_from(&request.tags);
        let mut answer = known.managed.clone();
        match known.polls {
            0 => answer.state = proto::ManagedState::Ready.into(),
            _ => {
                known.polls -= 1;
                answer.state = proto::ManagedState::Running.into();
                answer.operation = "op-1".to_owned();
                answer.progress = Some(proto::Progress {
                    files: 5,
                    bytes: 500,
                    bytes_total: 1234,
                    ..proto::Progress::default()
                });
            }
        }
        Ok(Response::EnsureSnapshot(proto::EnsureSnapshotResponse {
            snapshot: Some(answer),
            created,
            changed: Vec::new(),
        }))
    }
}

fn fence(request: &Request) -> Option<&proto::Fence> {
    match request {
        Request::EnsureWorkspace(request) => request.fence.as_ref(),
        Request::DeleteWorkspace(request) => request.fence.as_ref(),
        Request::ReleaseWorkspace(request) => request.fence.as_ref(),
        Request::EnsureSnapshot(request) => request.fence.as_ref(),
        Request::DeleteSnapshot(request) => request.fence.as_ref(),
        Request::VerifySnapshot(request) => request.fence.as_ref(),
        Request::EnsureRestore(request) => request.fence.as_ref(),
        Request::ForgetRestore(request) => request.fence.as_ref(),
        _ => None,
    }
}

impl Daemons for Seen {
    fn nodes(&self) -> Vec<(String, Address)> {
        let nodes = self.double.nodes.lock();
        nodes
            .iter()
            .filter(|(name, _)| !name.contains('/'))
            .filter_map(|(name, node)| Some((name.clone(), node.address.clone()?)))
            .collect()
    }

    fn address(&self, node: &str) -> Option<Address> {
        self.double.nodes.lock().get(node)?.address.clone()
    }

    // Tests say who is there.
    fn locate(&self, _: &str, _: Option<(Address, String)>) {}

    fn send<'a>(&'a self, node: &'a str, request: Request) -> BoxFuture<'a, Result<Response, CallError>> {
        Box::pin(async move {
            if let Some(interposed) = &self.interposed {
                interposed.before(request.name()).await;
            }
            // A call takes a moment in which others get their turn.
            tokio::task::yield_now().await;
            let result = self.double.serve(node, request);
            if let Some(interposed) = &self.interposed {
                interposed.after().await;
            }
            result
        })
    }
}
