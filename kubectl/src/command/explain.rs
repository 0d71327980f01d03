//! `kubectl cairn explain`: an object's conditions, and those of what it depends on, in words, with what to do.
//!
//! Objects are read as plain values: one that this version cannot read is explained, too. What the person may not read is left out.

mod advice;

use cairn_crds::{DittoServer, Restore, Snapshot, StorageNode, Workspace};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use serde::Serialize;
use serde_json::Value;

use self::advice::Finding;
use super::{Session, unless_cancelled};
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::system::{self, Cancellation};
use crate::text;

/// Most events that are told; the newest.
const EVENTS_MAX: usize = 5;
/// Most events that are read of one object.
const EVENTS_READ_MAX: u32 = 500;

/// A kind of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Workspace,
    Snapshot,
    Restore,
    StorageNode,
    DittoServer,
}

impl Kind {
    const ALL: [Kind; 5] = [
        Kind::Workspace,
        Kind::Snapshot,
        Kind::Restore,
        Kind::StorageNode,
        Kind::DittoServer,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Workspace => "Workspace",
            Kind::Snapshot => "Snapshot",
            Kind::Restore => "Restore",
            Kind::StorageNode => "StorageNode",
            Kind::DittoServer => "DittoServer",
        }
    }

    /// Whatever `kubectl get` takes for it, without the group.
    fn words(self) -> &'static [&'static str] {
        match self {
            Kind::Workspace => &["workspace", "workspaces", "jvs"],
            Kind::Snapshot => &["snapshot", "snapshots", "jvssnap"],
            Kind::Restore => &["restore", "restores", "jvsrestore"],
            Kind::StorageNode => &["storagenode", "storagenodes", "sn"],
            Kind::DittoServer => &["dittoserver", "dittoservers", "ditto", "dittofs"],
        }
    }

    fn parse(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        let word = word.split('.').next().unwrap_or_default().to_owned();
        Kind::ALL
            .into_iter()
            .find(|kind| kind.words().contains(&word.as_str()))
    }

    fn resource(self) -> ApiResource {
        match self {
            Kind::Workspace => ApiResource::erase::<Workspace>(&()),
            Kind::Snapshot => ApiResource::erase::<Snapshot>(&()),
            Kind::Restore => ApiResource::erase::<Restore>(&()),
            Kind::StorageNode => ApiResource::erase::<StorageNode>(&()),
            Kind::DittoServer => ApiResource::erase::<DittoServer>(&()),
        }
    }
}

#[derive(Serialize)]
struct Explained {
    kind: &'static str,
    namespace: Option<String>,
    name: String,
    healthy: bool,
    findings: Vec<Finding>,
    events: Vec<Told>,
}

/// A warning about the object.
#[derive(Serialize)]
struct Told {
    time: Option<String>,
    reason: String,
    message: String,
}

pub(super) async fn run(
    session: &mut Session,
    resource: String,
    name: Option<String>,
) -> Result<(), Failure> {
    let (kind, name) = asked(&resource, name)?;
    let mut cancellation = Cancellation::listen()?;
    let cluster = session.cluster().await?;
    let work = explain(&cluster, kind, &name);
    let explained = unless_cancelled(&mut cancellation, work, || "cancelled".to_owned()).await?;
    session.output.put(&explained, || said(&explained))?;
    Ok(())
}

/// What is asked for. Errors: the kind is none of ours.
fn asked(resource: &str, name: Option<String>) -> Result<(Kind, String), Failure> {
    let kind = |word: &str| {
        Kind::parse(word).ok_or_else(|| {
            Failure::usage(
                format!("{word} is no kind of Cairn"),
                "there are workspace, snapshot, restore, storagenode and dittoserver",
            )
        })
    };
    match (resource.split_once('/'), name) {
        (Some((word, name)), None) => Ok((kind(word)?, name.to_owned())),
        (None, Some(name)) => Ok((kind(resource)?, name)),
        (None, None) => Ok((Kind::Workspace, resource.to_owned())),
        (Some(_), Some(_)) => Err(Failure::usage(
            "the name is given twice",
            "give KIND/NAME, or KIND NAME",
        )),
    }
}

async fn get(cluster: &Cluster, kind: Kind, name: &str) -> Result<Value, Failure> {
    let resource = kind.resource();
    let api: Api<DynamicObject> = match kind {
        Kind::StorageNode => Api::all_with(cluster.client.clone(), &resource),
        _ => Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource),
    };
    let found = api.get(name).await;
    let found = found.map_err(Failure::of(format!("get {} {name}", kind.name())))?;
    serde_json::to_value(found).map_err(|error| {
        Failure::told(
            crate::failure::Exit::Internal,
            "INTERNAL",
            format!("cannot read {} {name}: {error}", kind.name()),
            "",
        )
    })
}

/// The same, but what cannot be had is left out: it is only beside the matter.
async fn beside(cluster: &Cluster, kind: Kind, name: Option<&str>) -> Option<Value> {
    get(cluster, kind, name?).await.ok()
}

async fn explain(cluster: &Cluster, kind: Kind, name: &str) -> Result<Explained, Failure> {
    let object = get(cluster, kind, name).await?;
    let mut findings = advice::of(kind, &object);
    let text = |path: &str| object.pointer(path).and_then(Value::as_str);
    match kind {
        Kind::Snapshot | Kind::Restore => {
            let workspace = beside(cluster, Kind::Workspace, text("/spec/workspace")).await;
            if let Some(workspace) = workspace {
                findings.extend(advice::of(Kind::Workspace, &workspace));
                let node = workspace.pointer("/status/nodeName").and_then(Value::as_str);
                findings.extend(node_of(cluster, node).await);
            }
        }
        Kind::Workspace => findings.extend(node_of(cluster, text("/status/nodeName")).await),
        Kind::DittoServer => {
            let pods: Api<Pod> = cluster.api();
            let pod = pods.get(&format!("{name}-0")).await.ok();
            findings.extend(pod.as_ref().map(advice::of_pod).unwrap_or_default());
        }
        Kind::StorageNode => {}
    }
    let namespace = text("/metadata/namespace").map(str::to_owned);
    Ok(Explained {
        kind: kind.name(),
        healthy: findings.iter().all(|finding| !finding.is_wrong),
        events: events(cluster, kind, &object).await,
        namespace,
        name: name.to_owned(),
        findings,
    })
}

async fn node_of(cluster: &Cluster, node: Option<&str>) -> Vec<Finding> {
    let node = beside(cluster, Kind::StorageNode, node).await;
    node.map(|node| advice::of(Kind::StorageNode, &node))
        .unwrap_or_default()
}

/// The newest warnings about the object. Nothing if they may not be read.
async fn events(cluster: &Cluster, kind: Kind, object: &Value) -> Vec<Told> {
    let uid = object
        .pointer("/metadata/uid")
        .and_then(Value::as_str)
        .unwrap_or_default();
    // The operator's events about objects of the cluster are in `default`.
    let namespace = match kind {
        Kind::StorageNode => "default",
        _ => &cluster.namespace,
    };
    let api: Api<Event> = Api::namespaced(cluster.client.clone(), namespace);
    let parameters = ListParams::default().limit(EVENTS_READ_MAX);
    let Ok(list) = api.list(&parameters).await else {
        return Vec::new();
    };
    let mut found: Vec<Event> = list
        .items
        .into_iter()
        .filter(|event| {
            let about = event.regarding.as_ref().and_then(|about| about.uid.as_deref());
            about == Some(uid) && event.type_.as_deref() == Some("Warning")
        })
        .collect();
    found.sort_by_key(|event| event.event_time.as_ref().map(|time| time.0));
    let surplus = found.len().saturating_sub(EVENTS_MAX);
    found
        .into_iter()
        .skip(surplus)
        .map(|event| Told {
            time: event.event_time.map(|time| time.0.to_string()),
            reason: event.reason.unwrap_or_default(),
            message: event.note.unwrap_or_default(),
        })
        .collect()
}

fn said(explained: &Explained) -> String {
    let name = format!("{} {}", explained.kind, explained.name);
    let mut said = match (explained.healthy, explained.findings.is_empty()) {
        (true, true) => format!("{name}: nothing is wrong\n"),
        (true, false) => format!("{name}: nothing is wrong; to know:\n"),
        (false, _) => format!("{name}: something is wrong\n"),
    };
    for finding in &explained.findings {
        let since = finding
            .since
            .as_ref()
            .and_then(|since| since.parse().ok())
            .map(|since| format!(", for {}", text::age(since, system::now())));
        let mark = if finding.is_wrong { '!' } else { '-' };
        said.push_str(&format!(
            "\n{mark} {}: {} {} ({}{})\n    {}\n",
            finding.about,
            finding.condition,
            finding.status,
            finding.reason,
            since.unwrap_or_default(),
            finding.message.replace('\n', "\n    "),
        ));
        for advice in &finding.advice {
            said.push_str(&format!("    > {advice}\n"));
        }
    }
    if !explained.events.is_empty() {
        said.push_str("\nlast warnings:\n");
    }
    for event in &explained.events {
        let ago = event.time.as_ref().and_then(|time| time.parse().ok());
        let ago = ago.map(|time| format!("{} ago, ", text::age(time, system::now())));
        said.push_str(&format!(
            "  {}{}: {}\n",
            ago.unwrap_or_default(),
            event.reason,
            event.message
        ));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::{Kind, asked};

    #[test]
    fn objects_are_named_as_kubectl_names_them() {
        let asked = |resource: &str, name: Option<&str>| asked(resource, name.map(str::to_owned)).ok();
        let named = |kind, name: &str| Some((kind, name.to_owned()));
        assert_eq!(asked("notes", None), named(Kind::Workspace, "notes"));
        assert_eq!(asked("snapshot/s", None), named(Kind::Snapshot, "s"));
        assert_eq!(asked("Snapshots.jvs.io", Some("s")), named(Kind::Snapshot, "s"));
        assert_eq!(asked("ditto", Some("d")), named(Kind::DittoServer, "d"));
        assert_eq!(asked("pod/p", None), None);
        assert_eq!(asked("sn/a", Some("b")), None);
    }
}
