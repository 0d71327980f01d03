//! What is asked of the daemon for a Snapshot, what of it could not be honoured.

use cairn_api::proto;
use cairn_crds::workspace::Engine;
use cairn_crds::{Snapshot, Workspace};
use kube::ResourceExt;

use crate::plan::{daemon_name, snapshot_key, templates};
use crate::runtime::cache;

/// Longest entry of `status.degraded` in bytes, and how many there are.
const DEGRADED_BYTES_MAX: usize = 1024;
const DEGRADED_MAX: usize = 32;

fn is_volume(workspace: &Workspace) -> bool {
    workspace.spec.backing.volume.is_some()
}

/// The request.
pub fn request(snapshot: &Snapshot, workspace: &Workspace) -> proto::EnsureSnapshotRequest {
    let spec = &snapshot.spec;
    let namespace = snapshot.namespace().unwrap_or_default();
    let (note, tags) = templates::fill(spec.note.as_deref(), &spec.tags, spec.template);
    let mut request = proto::EnsureSnapshotRequest {
        key: snapshot_key(cache::uid(snapshot)),
        workspace: daemon_name(&namespace, &spec.workspace),
        workspace_key: cache::uid(workspace).to_owned(),
        note,
        tags,
        paths: spec
            .partial_paths
            .iter()
            .map(|path| path.clone().into_bytes())
            .collect(),
        ..proto::EnsureSnapshotRequest::default()
    };
    if !is_volume(workspace) {
        request.engine = match spec.engine.unwrap_or(workspace.spec.default_engine) {
            Engine::Auto => String::new(),
            engine => engine.name().to_owned(),
        };
        if let Some(compression) = &spec.compression {
            request.compression = compression.type_.name().to_owned();
            request.compression_level = compression.level.unwrap_or(0);
        }
    }
    request
}

/// What could not be done as it was asked for.
pub fn degraded(
    snapshot: &Snapshot,
    workspace: Option<&Workspace>,
    managed: &proto::ManagedSnapshot,
) -> Vec<String> {
    let mut told = managed.degraded.clone();
    let asked = snapshot.spec.engine.filter(|engine| *engine != Engine::Auto);
    if let (Some(false), Some(asked)) = (workspace.map(is_volume), asked)
        && !managed.engine.is_empty()
        && managed.engine != asked.name()
    {
        told.push(format!(
            "engine: {} was asked for, {} was used",
            asked.name(),
            managed.engine
        ));
    }
    told.truncate(DEGRADED_MAX);
    for text in &mut told {
        text.truncate(text.floor_char_boundary(DEGRADED_BYTES_MAX));
    }
    told
}

/// Fields that are not used for such a Workspace.
pub fn unsupported(snapshot: &Snapshot, workspace: &Workspace) -> Vec<String> {
    let mut fields = Vec::new();
    if is_volume(workspace) {
        if let Some(engine) = snapshot.spec.engine.filter(|engine| *engine != Engine::Auto) {
            fields.push(format!(
                "engine {} is not used: a volume takes snapshots within itself, at no cost",
                engine.name()
            ));
        }
        if snapshot.spec.compression.is_some() {
            fields.push("compression is not used: snapshots of a volume share its data".to_owned());
        }
    }
    fields
}
