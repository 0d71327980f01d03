//! Making a Workspace: what is asked of the daemon, the volume, the claim, and the conditions that come of it.

use std::collections::BTreeMap;

use cairn_api::proto;
use cairn_crds::Workspace;
use cairn_crds::conditions as types;
use cairn_crds::names;
use cairn_crds::validation::{mode_bits, quantity_bytes};
use cairn_crds::workspace::{Endpoint, Squash};
use cairn_types::ExportPolicy;
use kube::ResourceExt;

use super::{Directory, Done, Draft, Initial, Step};
use crate::children::volume::{self, Served};
use crate::plan::{Again, PlanSettings, daemon_name, size};
use crate::runtime::cache;
use crate::runtime::conditions::Holds;

/// Which fields of the specification cannot be honoured, and why.
pub fn fields(draft: &mut Draft<'_>) {
    let spec = &draft.observed.workspace.spec;
    let mut unsupported: Vec<String> = Vec::new();
    let is_volume = spec.backing.volume.is_some();
    if spec.juicefs().is_some() && spec.backing.pvc.is_none() {
        unsupported.push(
            "juiceFsConfig is not used with this backing: make a claim of the JuiceFS storage class and name it in backing.pvc"
                .to_owned(),
        );
    } else if spec.juicefs().is_some() {
        unsupported.push(
            "juiceFsConfig is not used: the claim of backing.pvc says which JuiceFS file system it is of"
                .to_owned(),
        );
    }
    if !is_volume && spec.export.is_some() {
        unsupported
            .push("export is not used: only a Workspace with backing.volume is served over NFS".to_owned());
    }
    if !is_volume && !spec.mount_options.is_empty() {
        unsupported.push(
            "mountOptions are not used: pods mount the claim or directory that was there before".to_owned(),
        );
    }
    if spec
        .auto_snapshot
        .as_ref()
        .is_some_and(|auto| auto.enabled && auto.skip_unchanged)
    {
        unsupported.push(
            "autoSnapshot.skipUnchanged is not used: a snapshot is taken each time, and one of an unchanged volume takes no room"
                .to_owned(),
        );
    }
    match unsupported.is_empty() {
        true => draft.conditions.set(
            types::FIELDS_SUPPORTED,
            true,
            "AllSupported",
            "every field is honoured",
        ),
        false => draft.conditions.set(
            types::FIELDS_SUPPORTED,
            false,
            "UnsupportedField",
            unsupported.join("; "),
        ),
    }
}

/// The next step towards a Workspace that is served; nothing once it is, or while something is in the way.
pub fn step(draft: &mut Draft<'_>) -> Option<Step> {
    let observed = draft.observed;
    if let Some((_, failure)) = &observed.failure
        && failure.kind == crate::plan::FailureKind::Away
    {
        away(draft, &failure.message);
        return None;
    }
    match observed.node.as_ref().and_then(|node| node.away.clone()) {
        Some(why) => {
            away(draft, &why);
            return None;
        }
        None => draft.conditions.set(
            types::NODE_REACHABLE,
            true,
            "Answers",
            format!("the daemon of node {} answers", draft.node_name()),
        ),
    }
    let managed = match (&observed.managed, draft.failure(Done::Ensure).cloned()) {
        (_, Some(failure)) => {
            draft.fail(types::PROVISIONED, &failure);
            return None;
        }
        (Some(managed), None) => managed,
        (None, None) => return request_step(draft),
    };
    if managed.state != i32::from(proto::ManagedState::Ready) {
        let state = proto::ManagedState::try_from(managed.state)
            .map(|state| state.as_str_name())
            .unwrap_or("unknown");
        draft.conditions.set(
            types::PROVISIONED,
            false,
            "NotReady",
            format!(
                "the daemon of node {} says that the workspace is in state {}",
                draft.node_name(),
                state.trim_start_matches("MANAGED_STATE_").to_ascii_lowercase()
            ),
        );
        draft.again = draft.again.or(Again::Seconds(10));
        return None;
    }
    draft.status.workspace_id = Some(managed.id.clone());
    draft.status.capacity = (managed.capacity_bytes > 0).then(|| {
        let asked = &observed.workspace.spec.storage;
        match quantity_bytes(asked) == Some(managed.capacity_bytes) {
            true => asked.clone(),
            false => size(managed.capacity_bytes),
        }
    });
    draft.conditions.set(
        types::PROVISIONED,
        true,
        "Provisioned",
        format!("node {} has it as {}", draft.node_name(), managed.name),
    );
    match &observed.directory {
        Directory::None => serve(draft, managed),
        Directory::Found { .. } | Directory::Waiting { .. } => {
            // Pods mount what they mounted before.
            draft.conditions.remove(types::EXPORTED);
            let spec = &observed.workspace.spec;
            draft.status.claim_name = spec.backing.pvc.as_ref().map(|claim| claim.claim_name.clone());
            draft.conditions.remove(types::CLAIM_BOUND);
            None
        }
    }
}

fn away(draft: &mut Draft<'_>, why: &str) {
    draft.conditions.set(
        types::NODE_REACHABLE,
        false,
        "NodeAway",
        format!("{why}. The data stays on node {}", draft.node_name()),
    );
    draft.again = draft.again.or(Again::Seconds(60));
}

fn request_step(draft: &mut Draft<'_>) -> Option<Step> {
    let observed = draft.observed;
    let refused = match (&observed.initial, &observed.directory) {
        (Initial::Waiting { reason, message }, _) | (_, Directory::Waiting { reason, message }) => {
            Some((*reason, message.clone()))
        }
        (_, Directory::Found { node, .. }) if *node != draft.node_name() => Some((
            "ClaimElsewhere",
            format!(
                "the claim is mounted on node {node} only, and the repository of its snapshots is kept by node {}: run a pod that mounts it there",
                draft.node_name()
            ),
        )),
        _ => None,
    };
    if let Some((reason, message)) = refused {
        draft.conditions.set(types::PROVISIONED, false, reason, message);
        draft.again = draft.again.or(Again::Seconds(30));
        return None;
    }
    if let Initial::Found {
        workspace, snapshot, ..
    } = &observed.initial
        && !observed.workspace.annotations().contains_key(super::ORIGIN)
        && !draft.is_done(Done::Origin)
    {
        return Some(Step::RecordOrigin {
            workspace: workspace.clone(),
            snapshot: snapshot.clone(),
        });
    }
    let request = request(
        &observed.workspace,
        &observed.settings,
        &observed.initial,
        &observed.directory,
    );
    match request {
        Ok(request) => Some(Step::Ensure(Box::new(request))),
        Err(message) => {
            draft
                .conditions
                .set(types::PROVISIONED, false, "InvalidField", message);
            None
        }
    }
}

/// What the daemon is asked for. Errors: a field that the schema should have refused.
pub fn request(
    workspace: &Workspace,
    settings: &PlanSettings,
    initial: &Initial,
    directory: &Directory,
) -> Result<proto::EnsureWorkspaceRequest, String> {
    let spec = &workspace.spec;
    let namespace = workspace.namespace().unwrap_or_default();
    let capacity = quantity_bytes(&spec.storage)
        .ok_or_else(|| format!("storage: {:?} is no size: give one such as 10Gi", spec.storage))?;
    let root = spec.root_directory.clone().unwrap_or_default();
    let id = |field: &str, number: i64| {
        u32::try_from(number).map_err(|_| format!("rootDirectory.{field}: {number} is no id"))
    };
    let mode = mode_bits(&root.mode)
        .ok_or_else(|| format!("rootDirectory.mode: {:?} is no octal mode", root.mode))?;
    let mut request = proto::EnsureWorkspaceRequest {
        fence: None,
        key: cache::uid(workspace).to_owned(),
        name: daemon_name(&namespace, &workspace.name_any()),
        uid: id("uid", root.uid)?,
        gid: id("gid", root.gid)?,
        mode: Some(mode),
        labels: BTreeMap::from([
            ("namespace".to_owned(), namespace),
            ("workspace".to_owned(), workspace.name_any()),
        ])
        .into_iter()
        .collect(),
        // Data that an earlier Workspace of the name has left (deletionPolicy Retain) is this one's.
        adopt: true,
        ..proto::EnsureWorkspaceRequest::default()
    };
    match directory {
        Directory::Found { path, .. } => {
            request.backing = Some(proto::ensure_workspace_request::Backing::Directory(
                proto::DirectoryBacking {
                    path: path.clone().into_bytes(),
                    control_directory: Vec::new(),
                },
            ));
            (request.uid, request.gid, request.mode) = (0, 0, None);
        }
        Directory::None | Directory::Waiting { .. } => {
            request.backing = Some(proto::ensure_workspace_request::Backing::Volume(
                proto::VolumeBacking {},
            ));
            request.capacity_bytes = capacity;
            request.export = Some(export(workspace, settings));
        }
    }
    if let Initial::Found {
        workspace, snapshot, ..
    } = initial
    {
        request.source = Some(proto::SourceSnapshot {
            workspace: workspace.clone(),
            snapshot: snapshot.clone(),
        });
    }
    Ok(request)
}

fn export(workspace: &Workspace, settings: &PlanSettings) -> proto::ExportPolicy {
    let export = workspace.spec.export.clone().unwrap_or_default();
    let clients = match export.clients.is_empty() {
        true => &settings.export_clients,
        false => &export.clients,
    };
    // A single address is a network of one.
    let network = |text: &String| match text.parse::<std::net::IpAddr>() {
        Ok(address) => ipnet::IpNet::from(address).to_string(),
        Err(_) => text.clone(),
    };
    let squash = match export.squash {
        Squash::None => proto::Squash::None,
        Squash::Root => proto::Squash::Root,
        Squash::All => proto::Squash::All,
    };
    proto::ExportPolicy {
        squash: squash.into(),
        anonymous_uid: ExportPolicy::NOBODY,
        anonymous_gid: ExportPolicy::NOBODY,
        allow: clients.iter().map(network).collect(),
        read_only: export.read_only,
        // Mounts go to a cluster IP, and whoever translates it (kube-proxy, a node that masquerades) gives the connection a port of its choice. A
        // privileged one would prove nothing anyway: who may mount is a matter of networks.
        privileged_port: false,
    }
}

/// The volume and the claim of a workspace that the daemon serves.
fn serve(draft: &mut Draft<'_>, managed: &proto::ManagedWorkspace) -> Option<Step> {
    let observed = draft.observed;
    let workspace = &observed.workspace;
    let server = observed.node.as_ref().and_then(|node| node.service_ip.as_deref());
    let Some(server) = server else {
        draft.conditions.set(
            types::EXPORTED,
            Holds::Unknown,
            "ServicePending",
            format!("the Service of node {} has no cluster IP yet", draft.node_name()),
        );
        draft.again = draft.again.or(Again::Seconds(30));
        return None;
    };
    let allow = managed
        .export
        .as_ref()
        .map(|export| export.allow.len())
        .unwrap_or(0);
    draft.conditions.set(
        types::EXPORTED,
        allow > 0,
        if allow > 0 { "Exported" } else { "NoClients" },
        match allow {
            0 => "nobody may mount it: name networks in export.clients".to_owned(),
            _ => format!("{server}:{} on port {}", managed.export_path, managed.export_port),
        },
    );
    draft.status.endpoint = Some(Endpoint {
        server: server.to_owned(),
        path: managed.export_path.clone(),
        port: i32::try_from(managed.export_port).unwrap_or(0),
    });
    let served = Served {
        server,
        path: &managed.export_path,
        options: &managed.mount_options,
    };
    for done in [Done::Volume, Done::Claim] {
        if let Some(failure) = draft.failure(done).cloned() {
            draft.fail(types::CLAIM_BOUND, &failure);
            return None;
        }
        if !draft.is_done(done) {
            return Some(match done {
                Done::Volume => Step::ApplyVolume(Box::new(volume::volume(workspace, &served))),
                _ => Step::ApplyClaim(Box::new(volume::claim(workspace, observed.claim.get()))),
            });
        }
    }
    draft.status.volume_name = Some(volume::volume_name(workspace));
    draft.status.claim_name = Some(workspace.name_any());
    claim_bound(draft);
    None
}

fn claim_bound(draft: &mut Draft<'_>) {
    let name = draft.observed.workspace.name_any();
    let phase = draft
        .observed
        .claim
        .get()
        .and_then(|claim| claim.status.as_ref()?.phase.clone())
        .unwrap_or_default();
    let (holds, reason, message) = match phase.as_str() {
        "Bound" => (Holds::True, "Bound", format!("pods can mount the claim {name}")),
        "Lost" => (
            Holds::False,
            "Lost",
            format!(
                "the claim {name} has lost its volume: delete the claim, it is made again (kubectl delete pvc {name})"
            ),
        ),
        _ => (
            Holds::Unknown,
            "Binding",
            format!("the claim {name} is being bound to its volume"),
        ),
    };
    draft.conditions.set(types::CLAIM_BOUND, holds, reason, message);
    if let Some(labels) = draft.observed.claim.get().map(|claim| claim.labels())
        && labels.get(names::WORKSPACE_UID).map(String::as_str)
            != Some(cache::uid(draft.observed.workspace.as_ref()))
    {
        draft.conditions.set(
            types::CLAIM_BOUND,
            false,
            "NameTaken",
            format!("the claim {name} belongs to another Workspace: remove it"),
        );
    }
}
