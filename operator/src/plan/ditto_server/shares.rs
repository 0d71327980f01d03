//! Shares of a DittoServer as requests to its daemon: made, changed and withdrawn while it runs.
//!
//! A share keeps its key and what it was made with for ever, so that a DittoServer that is made again finds its data. One that is not wanted any more can be
//! mounted by nobody; its data stays, and comes back with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_api::proto;
use cairn_crds::DittoServer;
use cairn_crds::ditto_server::{Share, ShareStatus, mode_bits};
use cairn_types::{ExportPolicy, WorkspaceName};
use kube::ResourceExt;

use super::{Done, Draft, Observed, Step};
use crate::children::ditto::config::{self, Record, Recorded};
use crate::children::ditto::{DittoSettings, network_policy};
use crate::plan::{Again, Failure, FailureKind};

/// The name of a share's workspace, and whether it makes the path that was asked for.
pub(super) fn workspace_name(share: &Share) -> (String, bool) {
    let path = share.export_path.trim_matches('/');
    match WorkspaceName::new(path) {
        Ok(_) => (path.to_owned(), true),
        Err(_) => (share.name.clone(), false),
    }
}

fn wanted(server: &DittoServer) -> &[Share] {
    let config = server.spec.config.as_ref();
    config.map(|config| &config.shares[..]).unwrap_or_default()
}

/// What shares were and are made with: what is recorded stays, what is new is added.
pub(super) fn record(observed: &Observed) -> Record {
    let mut record = observed.config.get().map(config::record).unwrap_or_default();
    for share in wanted(&observed.server) {
        let root = share.root_directory_attributes.clone().unwrap_or_default();
        let id = |id: i64| u32::try_from(id).unwrap_or(ExportPolicy::NOBODY);
        record.entry(share.name.clone()).or_insert_with(|| Recorded {
            workspace: workspace_name(share).0,
            uid: id(root.uid),
            gid: id(root.gid),
            mode: mode_bits(&root.mode).unwrap_or(0o755),
        });
    }
    record
}

/// The policy of a share's export. Errors: its networks cannot be used; why.
fn policy(share: &Share, settings: &DittoSettings) -> Result<proto::ExportPolicy, String> {
    let mapping = share.identity_mapping.clone().unwrap_or_default();
    let squash = match (mapping.map_all_to_anonymous, mapping.map_privileged_to_anonymous) {
        (true, _) => proto::Squash::All,
        (false, true) => proto::Squash::Root,
        (false, false) => proto::Squash::None,
    };
    let id = |id: i64| u32::try_from(id).unwrap_or(ExportPolicy::NOBODY);
    Ok(proto::ExportPolicy {
        squash: squash.into(),
        anonymous_uid: id(mapping.anonymous_uid),
        anonymous_gid: id(mapping.anonymous_gid),
        allow: network_policy::clients(share, settings)?,
        read_only: share.read_only,
        privileged_port: false,
    })
}

fn request(
    server: &DittoServer,
    name: &str,
    recorded: &Recorded,
    export: proto::ExportPolicy,
) -> proto::EnsureWorkspaceRequest {
    let namespace = server.namespace().unwrap_or_default();
    proto::EnsureWorkspaceRequest {
        // Not the uid: a DittoServer that is made again is the same.
        key: format!("ditto/{namespace}/{}/{name}", server.name_any()),
        name: recorded.workspace.clone(),
        backing: Some(proto::ensure_workspace_request::Backing::Volume(
            proto::VolumeBacking {},
        )),
        uid: recorded.uid,
        gid: recorded.gid,
        mode: Some(recorded.mode),
        export: Some(export),
        adopt: true,
        ..proto::EnsureWorkspaceRequest::default()
    }
}

/// What is asked for each share, by name; or why nothing can be. Those that are not wanted any more let nobody in.
fn requests(
    observed: &Observed,
    record: &Record,
) -> BTreeMap<String, Result<proto::EnsureWorkspaceRequest, String>> {
    let server = observed.server.as_ref();
    let shares = wanted(server);
    let told = server
        .status
        .as_ref()
        .map(|status| &status.shares[..])
        .unwrap_or_default();
    let mut all = BTreeMap::new();
    for (name, recorded) in record {
        let share = shares.iter().find(|share| share.name == *name);
        let taken = shares.iter().any(|share| {
            share.name != *name
                && record.get(&share.name).map(|it| &it.workspace) == Some(&recorded.workspace)
        });
        let result = match share {
            Some(_) if taken => Err(format!(
                "another share is served as /{} already: give this one another exportPath, and another name",
                recorded.workspace
            )),
            Some(share) => {
                policy(share, &observed.settings).map(|export| request(server, name, recorded, export))
            }
            // Withdrawn before, and told so: it is in the status no more.
            None if taken || !told.iter().any(|share| share.name == *name) => continue,
            None => Ok(request(server, name, recorded, proto::ExportPolicy::default())),
        };
        all.insert(name.clone(), result);
    }
    all
}

/// The next share to ask for, once the daemon answers.
pub(super) fn step(draft: &mut Draft<'_>, record: &Record) -> Option<Step> {
    let observed = draft.observed;
    let reachable =
        observed.server.spec.replicas > 0 && observed.pod.as_ref().is_some_and(|pod| pod.is_ready);
    if !reachable {
        tell(draft, record, Some("the server does not run"));
        return None;
    }
    if let Some(failure) = draft.failure(&Done::Asked).cloned() {
        draft.again = draft
            .again
            .or(failure.again())
            .or(Again::Seconds(super::LOOK_SECONDS));
        tell(draft, record, Some(&failure.message));
        return None;
    }
    if !draft.is_done(&Done::Asked) {
        return Some(Step::Ask);
    }
    for (name, request) in requests(observed, record) {
        if let Ok(request) = request
            && !observed.answers.contains_key(&name)
        {
            return Some(Step::EnsureShare {
                share: name,
                request: Box::new(request),
            });
        }
    }
    tell(draft, record, None);
    None
}

/// What of a daemon's answer keeps a share from being used.
fn trouble(answer: Option<&Result<Arc<proto::ManagedWorkspace>, Failure>>) -> Option<String> {
    match answer {
        None => Some("the daemon has not been asked yet".to_owned()),
        Some(Err(failure)) => Some(failure.message.clone()),
        Some(Ok(managed)) if managed.state != i32::from(proto::ManagedState::Ready) => {
            Some("the daemon says that its workspace is not there: see its log".to_owned())
        }
        Some(Ok(managed)) => (!managed.trouble.is_empty()).then(|| managed.trouble.clone()),
    }
}

/// Writes the shares into the status. `why`: nobody could be asked, so that what was told stays, but for shares that nobody has told of.
fn tell(draft: &mut Draft<'_>, record: &Record, why: Option<&str>) {
    let observed = draft.observed;
    let requests = requests(observed, record);
    let shares = wanted(&observed.server);
    let mut told = Vec::new();
    let mut used: u64 = 0;
    for (name, recorded) in record {
        let is_wanted = shares.iter().any(|share| share.name == *name);
        let Some(request) = requests.get(name) else {
            continue;
        };
        let answer = observed.answers.get(name);
        let trouble = match (request, why) {
            (Err(refused), _) => Some(refused.clone()),
            (Ok(_), Some(why)) => Some(why.to_owned()),
            (Ok(_), None) => trouble(answer),
        };
        if let Some(Err(failure)) = answer {
            draft.again = draft.again.or(match failure.kind {
                FailureKind::Away => Again::Seconds(super::LOOK_SECONDS),
                FailureKind::Again | FailureKind::Refused => failure.again(),
            });
        }
        // One that is withdrawn is forgotten here once the daemon lets nobody in.
        if !is_wanted && trouble.is_none() {
            continue;
        }
        let managed = answer.and_then(|answer| answer.as_ref().ok());
        used = used.saturating_add(managed.map(|managed| managed.used_bytes).unwrap_or(0));
        told.push(ShareStatus {
            name: name.clone(),
            export_path: managed
                .map(|managed| managed.export_path.clone())
                .unwrap_or_else(|| format!("/{}", recorded.workspace)),
            ready: is_wanted && trouble.is_none(),
            message: match (is_wanted, trouble) {
                (true, trouble) => trouble,
                (false, trouble) => Some(format!("it is withdrawn: {}", trouble.unwrap_or_default())),
            }
            .map(|message| message.chars().take(1024).collect()),
        });
    }
    // The schema's bound: those that are wanted first, which are never more.
    told.sort_by_key(|share| !shares.iter().any(|wanted| wanted.name == share.name));
    told.truncate(32);
    told.sort_by(|a, b| a.name.cmp(&b.name));
    draft.status.shares = told;
    if why.is_none() {
        // No object store has anything, unless somebody pushes; then nobody here can tell.
        let has_stores = !config::stores(&observed.server).0.is_empty();
        draft.status.data_at_risk_bytes = (!has_stores).then(|| crate::plan::signed(used));
    }
}
