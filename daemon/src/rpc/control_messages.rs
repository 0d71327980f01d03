//! The nouns of [`crate::control`] as messages, and its requests taken out of messages, checked for their form.

use std::path::PathBuf;
use std::sync::Arc;

use cairn_api::convert::{self, policy_message, timestamp_message};
use cairn_api::proto;
use cairn_snapshot::engine::EngineKind;
use cairn_types::{Clock, SnapshotId};
use cairn_vfs::Volumes;
use tonic::Status;

use super::{archive_messages, control_errors, messages, workspaces};
use crate::control::{
    Backing, Capacity, Fence, Key, ManagedRestore, ManagedSnapshot, ManagedState, ManagedWorkspace, Refused,
    RestoreRequest, RestoreTarget, SnapshotRequest, SnapshotWhich, Source, Verified, WorkspaceRequest,
    features,
};
use crate::node::Node;
use crate::operations::Operation;
use crate::system::SystemClock;

/// The versions of the contract that are spoken.
const API_VERSIONS: &[&str] = &["cairn.v1"];

fn refused(error: Refused) -> Status {
    control_errors::api_error(error).into()
}

/// A key in a field of a request.
pub(super) fn key(field: &'static str, text: &str) -> Result<Key, Status> {
    Key::parse(field, text).map_err(refused)
}

fn optional_key(field: &'static str, text: &str) -> Result<Option<Key>, Status> {
    match text.is_empty() {
        true => Ok(None),
        false => key(field, text).map(Some),
    }
}

/// The fence of a request, which must have one.
pub(super) fn fence(fence: Option<proto::Fence>) -> Result<Fence, Status> {
    let fence = fence.ok_or_else(|| refused(Refused::FenceInvalid { field: "fence" }))?;
    Ok(Fence {
        cluster: fence.cluster,
        generation: fence.generation,
        instance: fence.instance,
    })
}

/// Fields, for people and machines.
pub(super) fn names(names: &[&'static str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn path(bytes: Vec<u8>) -> PathBuf {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    PathBuf::from(OsString::from_vec(bytes))
}

pub(super) fn workspace_request(
    request: proto::EnsureWorkspaceRequest,
) -> Result<(Option<proto::Fence>, WorkspaceRequest), Status> {
    use proto::ensure_workspace_request::Backing as Given;
    let backing = match request.backing {
        None | Some(Given::Volume(proto::VolumeBacking {})) => Backing::Volume,
        Some(Given::Directory(directory)) => {
            let (path, control) = (path(directory.path), path(directory.control_directory));
            let relative = |path: &PathBuf| !path.is_absolute();
            if relative(&path) || (!control.as_os_str().is_empty() && relative(&control)) {
                return Err(refused(Refused::BackingInvalid {
                    field: "directory",
                    what: "the path of a directory is not absolute".to_owned(),
                }));
            }
            Backing::Directory { path, control }
        }
    };
    let source = match &request.source {
        None => None,
        Some(source) => Some(Source {
            workspace: convert::workspace_name(&source.workspace)?,
            snapshot: convert::reference(&source.snapshot)?,
        }),
    };
    let wanted = WorkspaceRequest {
        key: key("key", &request.key)?,
        name: convert::workspace_name(&request.name)?,
        backing,
        uid: request.uid,
        gid: request.gid,
        mode: convert::root_mode(request.mode)?,
        capacity: Capacity {
            bytes: request.capacity_bytes,
            inodes: request.capacity_inodes,
        },
        export: convert::export_policy(request.export.as_ref())?,
        labels: request.labels.into_iter().collect(),
        source,
        adopt: request.adopt,
    };
    Ok((request.fence, wanted))
}

pub(super) fn snapshot_request(
    request: proto::EnsureSnapshotRequest,
) -> Result<(Option<proto::Fence>, SnapshotRequest), Status> {
    let wanted = SnapshotRequest {
        key: key("key", &request.key)?,
        workspace: convert::workspace_name(&request.workspace)?,
        owner: optional_key("workspace_key", &request.workspace_key)?,
        tags: convert::tags(&request.tags)?,
        note: request.note,
        engine: request.engine,
        template: request.template,
        paths: request.paths,
        compression: request.compression,
        compression_level: request.compression_level,
        verify: request.verify,
    };
    Ok((request.fence, wanted))
}

pub(super) fn restore_request(
    request: proto::EnsureRestoreRequest,
) -> Result<(Option<proto::Fence>, RestoreRequest), Status> {
    use proto::ensure_restore_request::Into;
    let into = match &request.into {
        None | Some(Into::InPlace(proto::InPlace {})) => RestoreTarget::InPlace,
        Some(Into::NewWorkspace(new)) => RestoreTarget::New {
            name: convert::workspace_name(&new.name)?,
            owner: optional_key("new_workspace.key", &new.key)?,
        },
    };
    let wanted = RestoreRequest {
        key: key("key", &request.key)?,
        workspace: convert::workspace_name(&request.workspace)?,
        owner: optional_key("workspace_key", &request.workspace_key)?,
        snapshot: convert::reference(&request.snapshot)?,
        paths: request.paths,
        into,
        without_safety: request.without_safety,
    };
    Ok((request.fence, wanted))
}

/// The snapshot of a key.
pub(super) fn by_key(text: &str) -> Result<SnapshotWhich, Status> {
    key("key", text).map(SnapshotWhich::Key)
}

/// A snapshot by its identity.
pub(super) fn by_place(place: &proto::SnapshotPlace) -> Result<SnapshotWhich, Status> {
    let workspace = convert::workspace_name(&place.workspace)?;
    let id = SnapshotId::parse(&place.id).ok_or_else(|| {
        let error = cairn_api::ApiError::new(
            cairn_api::Reason::ReferenceInvalid,
            format!("{:?} is no identity of a snapshot", place.id),
        );
        error
            .remedy("give all 32 digits of the identity")
            .detail("reference", &place.id)
    })?;
    Ok(SnapshotWhich::Place { workspace, id })
}

fn state(state: ManagedState) -> i32 {
    let state = match state {
        ManagedState::Running => proto::ManagedState::Running,
        ManagedState::Failed => proto::ManagedState::Failed,
        ManagedState::Ready => proto::ManagedState::Ready,
        ManagedState::Interrupted => proto::ManagedState::Interrupted,
        ManagedState::Deleting => proto::ManagedState::Deleting,
        ManagedState::Deleted => proto::ManagedState::Deleted,
        ManagedState::Lost => proto::ManagedState::Lost,
    };
    state.into()
}

pub(super) fn workspace(managed: &ManagedWorkspace, node: &Node) -> proto::ManagedWorkspace {
    use std::os::unix::ffi::OsStrExt;

    use proto::managed_workspace::Backing as Told;
    let backing = match &managed.backing {
        Backing::Volume => Told::Volume(proto::VolumeBacking {}),
        Backing::Directory { path, control } => Told::Directory(proto::DirectoryBacking {
            path: path.as_os_str().as_bytes().to_vec(),
            control_directory: control.as_os_str().as_bytes().to_vec(),
        }),
    };
    let told = proto::ManagedWorkspace {
        key: managed.key.to_string(),
        name: managed.name.clone(),
        id: match managed.repository.as_str() {
            "" => node.workspace_id(managed.volume),
            repository => repository.to_owned(),
        },
        snapshots: managed.snapshots,
        trouble: managed.trouble.clone(),
        state: state(managed.state),
        backing: Some(backing),
        capacity_bytes: managed.capacity.bytes,
        capacity_inodes: managed.capacity.inodes,
        labels: managed.labels.clone().into_iter().collect(),
        latest_snapshot: managed.latest_snapshot.map(|id| id.to_string()),
        ..proto::ManagedWorkspace::default()
    };
    let Some(workspace) = &managed.workspace else {
        return told;
    };
    let nfs = node.endpoints.nfs;
    proto::ManagedWorkspace {
        name: workspace.name.to_string(),
        export_path: format!("/{}", workspace.name),
        export_port: nfs.port().into(),
        export: Some(policy_message(&workspace.policy)),
        used_bytes: workspace.bytes,
        used_inodes: workspace.inodes,
        created: Some(timestamp_message(workspace.created)),
        forked_from: workspace.forked_from.map(|id| id.to_string()),
        mount_options: workspaces::mount_options(workspaces::reachable(nfs.ip()), nfs.port()),
        ..told
    }
}

pub(super) fn snapshot(managed: &ManagedSnapshot) -> proto::ManagedSnapshot {
    let (operation, progress, failure) = work(managed.operation.as_ref(), managed.state);
    let told = proto::ManagedSnapshot {
        operation,
        progress,
        failure,
        key: managed.key.clone().unwrap_or_default(),
        id: managed.id.map(|id| id.to_string()).unwrap_or_default(),
        workspace: managed.workspace.clone(),
        state: state(managed.state),
        engine: managed.engine.clone(),
        verification: proto::Verification::NotVerified.into(),
        degraded: managed.degraded.clone(),
        ..proto::ManagedSnapshot::default()
    };
    let Some(facts) = &managed.facts else {
        return told;
    };
    let verification = match facts.verified {
        Verified::No => proto::Verification::NotVerified,
        Verified::Yes => proto::Verification::Verified,
        Verified::Damaged => proto::Verification::Damaged,
    };
    proto::ManagedSnapshot {
        safety: facts.safety,
        created: Some(timestamp_message(facts.created)),
        note: facts.note.clone(),
        tags: facts.tags.clone(),
        inodes: facts.inodes,
        bytes: facts.bytes,
        tree_hash: facts.tree_hash.clone().unwrap_or_default(),
        verification: verification.into(),
        pinned_until: facts.pinned_until.map(timestamp_message),
        ..told
    }
}

/// The operation of something that is not done, its progress, and why it failed.
fn work(
    operation: Option<&Arc<Operation>>,
    state: ManagedState,
) -> (String, Option<proto::Progress>, Option<proto::Failure>) {
    let Some(operation) = operation else {
        return (String::new(), None, None);
    };
    let told = archive_messages::operation(operation);
    match state {
        ManagedState::Running => (told.id, told.progress, None),
        ManagedState::Failed => (String::new(), None, told.failure),
        ManagedState::Ready
        | ManagedState::Interrupted
        | ManagedState::Deleting
        | ManagedState::Deleted
        | ManagedState::Lost => (String::new(), None, None),
    }
}

pub(super) fn restore(managed: &ManagedRestore) -> proto::ManagedRestore {
    let (operation, progress, failure) = work(managed.operation.as_ref(), managed.state);
    proto::ManagedRestore {
        operation,
        progress,
        failure,
        key: managed.key.to_string(),
        workspace: managed.workspace.clone(),
        snapshot: managed.snapshot.map(|id| id.to_string()).unwrap_or_default(),
        new_workspace: managed.new_workspace.clone(),
        state: state(managed.state),
        safety: managed.safety.map(|id| id.to_string()),
        ended: (managed.state == ManagedState::Ready).then(|| timestamp_message(managed.ended)),
    }
}

/// What the workspaces may take up together.
fn committed_bytes(volumes: &Volumes) -> u64 {
    let limits = volumes.workspaces().unwrap_or_default();
    limits.iter().fold(0, |sum: u64, workspace| {
        sum.saturating_add(workspace.limits.bytes.unwrap_or(0))
    })
}

/// What the node is and can do. May read from disk.
pub(super) fn info(node: &Arc<Node>) -> proto::GetInfoResponse {
    let (conditions, usage) = node.conditions();
    let disk = rustix::fs::statvfs(&node.config.data_dir).ok();
    let usage = usage.unwrap_or_default();
    proto::GetInfoResponse {
        node: node.name(),
        instance: node.instance.clone(),
        identity: node.identity.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api_versions: names(API_VERSIONS),
        features: names(features::SUPPORTED),
        engines: std::iter::once(crate::control::VOLUME_ENGINE)
            .chain(EngineKind::ALL.iter().map(|engine| engine.text()))
            .map(str::to_owned)
            .collect(),
        capacity_bytes: disk
            .as_ref()
            .map_or(0, |disk| disk.f_blocks.saturating_mul(disk.f_frsize)),
        free_bytes: usage.disk_free_bytes.saturating_sub(usage.disk_reserve_bytes),
        inodes: disk.as_ref().map_or(0, |disk| disk.f_files),
        inodes_free: disk.as_ref().map_or(0, |disk| disk.f_favail),
        nfs_port: node.endpoints.nfs.port().into(),
        clock: Some(timestamp_message(SystemClock.now())),
        workspaces: usage.workspaces,
        conditions: conditions.into_iter().map(messages::condition).collect(),
        draining: node.draining.is_wanted(),
        committed_bytes: node
            .stores()
            .map_or(0, |stores| committed_bytes(stores.volumes())),
    }
}
