//! `kubectl cairn list`: workspaces, or the snapshots of one.

use std::cmp::Reverse;

use cairn_crds::{Snapshot, Workspace};
use kube::ResourceExt;
use kube::api::ListParams;
use serde::Serialize;

use super::Session;
use crate::cluster::Unreadable;
use crate::failure::Failure;
use crate::json::{ShownSnapshot, ShownWorkspace, taken};
use crate::output::tell;
use crate::{system, text};

#[derive(Serialize)]
struct Workspaces {
    workspaces: Vec<ShownWorkspace>,
    unreadable: Vec<Unreadable>,
}

#[derive(Serialize)]
struct Snapshots {
    workspace: String,
    snapshots: Vec<ShownSnapshot>,
    unreadable: Vec<Unreadable>,
}

pub(super) async fn run(
    session: &mut Session,
    workspace: Option<String>,
    all_namespaces: bool,
) -> Result<(), Failure> {
    match workspace {
        Some(workspace) => snapshots(session, workspace).await,
        None => workspaces(session, all_namespaces).await,
    }
}

async fn workspaces(session: &mut Session, all_namespaces: bool) -> Result<(), Failure> {
    let cluster = session.cluster().await?;
    let mut listed = cluster
        .list::<Workspace>(all_namespaces, ListParams::default())
        .await?;
    listed
        .objects
        .sort_by_key(|workspace| (workspace.namespace(), workspace.name_any()));
    warn(session, listed.warnings());
    let found = Workspaces {
        workspaces: listed.objects.iter().map(ShownWorkspace::from).collect(),
        unreadable: listed.unreadable,
    };
    let namespace = cluster.namespace;
    session.output.put(&found, || {
        workspaces_text(&found.workspaces, all_namespaces, &namespace)
    })?;
    Ok(())
}

fn warn(session: &Session, warnings: Vec<String>) {
    // Programs find them in the object.
    if !session.output.is_json() {
        warnings.iter().for_each(|warning| tell(warning));
    }
}

/// How long ago or until a time that was made by us; nothing for none.
fn ago(time: Option<&String>) -> String {
    let time = time.and_then(|time| time.parse().ok());
    time.map(|time| text::age(time, system::now()))
        .unwrap_or_default()
}

/// Why something is not ready; nothing if it is.
fn why(ready: &str, reason: &str, message: &str) -> String {
    match ready {
        "True" => String::new(),
        _ => text::line(&format!("{reason}: {message}")),
    }
}

fn workspaces_text(workspaces: &[ShownWorkspace], all_namespaces: bool, namespace: &str) -> String {
    if workspaces.is_empty() {
        let place = match all_namespaces {
            true => "in this cluster".to_owned(),
            false => format!("in namespace {namespace}"),
        };
        return format!(
            "there is no workspace {place}; deploy/samples/cairn-workspaces.yaml has some to begin with\n"
        );
    }
    let rows: Vec<Vec<String>> = workspaces
        .iter()
        .map(|it| {
            let mut row = vec![
                it.name.clone(),
                it.ready.clone(),
                it.node.clone().unwrap_or_default(),
                it.capacity.clone(),
                it.snapshots.to_string(),
                ago(it.last_snapshot.as_ref()),
                ago(it.next_snapshot.as_ref()),
                ago(it.created.as_ref()),
                why(&it.ready, &it.reason, &it.message),
            ];
            if all_namespaces {
                row.insert(0, it.namespace.clone());
            }
            row
        })
        .collect();
    let mut headers = vec![
        "NAME",
        "READY",
        "NODE",
        "CAPACITY",
        "SNAPSHOTS",
        "LAST",
        "NEXT",
        "AGE",
        "WHY",
    ];
    if all_namespaces {
        headers.insert(0, "NAMESPACE");
    }
    text::table(&headers, &rows)
}

async fn snapshots(session: &mut Session, workspace: String) -> Result<(), Failure> {
    let cluster = session.cluster().await?;
    let parameters = ListParams::default().fields(&format!("spec.workspace={workspace}"));
    let mut listed = cluster.list::<Snapshot>(false, parameters).await?;
    if listed.objects.is_empty() && listed.unreadable.is_empty() {
        // A workspace that is not there is another matter than one without snapshots.
        cluster.get::<Workspace>(&workspace).await?;
    }
    listed.objects.sort_by_key(|snapshot| {
        let time = taken(snapshot).map(|time| time.0);
        (Reverse(time), snapshot.name_any())
    });
    warn(session, listed.warnings());
    let found = Snapshots {
        snapshots: listed.objects.iter().map(ShownSnapshot::from).collect(),
        unreadable: listed.unreadable,
        workspace,
    };
    session.output.put(&found, || snapshots_text(&found))?;
    Ok(())
}

fn snapshots_text(found: &Snapshots) -> String {
    if found.snapshots.is_empty() {
        return format!(
            "{0} has no snapshots; take one: kubectl cairn snapshot {0}\n",
            found.workspace
        );
    }
    let rows: Vec<Vec<String>> = found
        .snapshots
        .iter()
        .map(|it| {
            let size = it.bytes.and_then(|bytes| u64::try_from(bytes).ok());
            vec![
                it.name.clone(),
                it.ready.clone(),
                size.map(text::size).unwrap_or_default(),
                match it.verified.as_str() {
                    "True" => "yes".to_owned(),
                    "False" => "DAMAGED".to_owned(),
                    _ => "no".to_owned(),
                },
                ago(it.created.as_ref()),
                it.engine.clone().unwrap_or_default(),
                it.tags.join(","),
                text::line(it.note.as_deref().unwrap_or_default()),
                why(&it.ready, &it.reason, &it.message),
            ]
        })
        .collect();
    let headers = [
        "NAME", "READY", "SIZE", "VERIFIED", "AGE", "ENGINE", "TAGS", "NOTE", "WHY",
    ];
    text::table(&headers, &rows)
}
