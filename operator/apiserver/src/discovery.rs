//! What is served, as clients ask for it before anything else: groups, resources, versions, aggregated and one by one.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::kinds::{Kind, Registry};

const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
const STATUS_VERBS: [&str; 3] = ["get", "patch", "update"];

/// The version that is told: that of the API types.
pub fn version() -> Value {
    json!({
        "major": "1", "minor": "34", "gitVersion": "v1.34.0+cairn", "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc", "platform": "linux/amd64",
    })
}

/// `/api`.
pub fn core_versions() -> Value {
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1:443"}],
    })
}

/// Versions by group, the preferred first, without the core.
fn groups(kinds: &Registry) -> BTreeMap<&str, Vec<&str>> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for kind in kinds.iter().filter(|kind| !kind.group.is_empty()) {
        let versions = groups.entry(&kind.group).or_default();
        if !versions.contains(&kind.version.as_str()) {
            versions.push(&kind.version);
        }
    }
    groups.entry("authorization.k8s.io").or_insert_with(|| vec!["v1"]);
    for versions in groups.values_mut() {
        versions.sort_by_key(|version| std::cmp::Reverse(rank(version)));
    }
    groups
}

/// The order of versions: stable before beta before alpha, greater numbers first.
fn rank(version: &str) -> (u8, u32, u32) {
    let digits = |text: &str| -> (u32, usize) {
        let end = text
            .find(|character: char| !character.is_ascii_digit())
            .unwrap_or(text.len());
        (text[..end].parse().unwrap_or(0), end)
    };
    let Some(rest) = version.strip_prefix('v') else {
        return (0, 0, 0);
    };
    let (major, end) = digits(rest);
    let (stage, minor) = match &rest[end..] {
        "" => (3, 0),
        tail if tail.starts_with("beta") => (2, digits(&tail[4..]).0),
        tail if tail.starts_with("alpha") => (1, digits(&tail[5..]).0),
        _ => (0, 0),
    };
    (stage, major, minor)
}

fn group(name: &str, versions: &[&str]) -> Value {
    let entry = |version: &str| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    json!({
        "name": name, "versions": versions.iter().map(|version| entry(version)).collect::<Vec<_>>(),
        "preferredVersion": entry(versions.first().copied().unwrap_or("v1")),
    })
}

/// `/apis`.
pub fn group_list(kinds: &Registry) -> Value {
    let groups: Vec<Value> = groups(kinds)
        .into_iter()
        .map(|(name, versions)| group(name, &versions))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/<group>`; none if it is not served.
pub fn one_group(kinds: &Registry, name: &str) -> Option<Value> {
    let groups = groups(kinds);
    let mut value = group(name, groups.get(name)?);
    value["kind"] = json!("APIGroup");
    value["apiVersion"] = json!("v1");
    Some(value)
}

fn verbs(kind: &Kind) -> Vec<&'static str> {
    VERBS
        .into_iter()
        .filter(|verb| kind.table != "namespaces" || *verb != "deletecollection")
        .collect()
}

/// `/api/v1` and `/apis/<group>/<version>`; none if it is not served.
pub fn resources(kinds: &Registry, of_group: &str, version: &str) -> Option<Value> {
    let mut entries = Vec::new();
    for kind in kinds
        .iter()
        .filter(|kind| kind.group == of_group && kind.version == version)
    {
        let mut entry = json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind,
            "verbs": verbs(kind),
        });
        if !kind.short_names.is_empty() {
            entry["shortNames"] = json!(kind.short_names);
        }
        if !kind.categories.is_empty() {
            entry["categories"] = json!(kind.categories);
        }
        entries.push(entry);
        if kind.has_status {
            entries.push(json!({
                "name": format!("{}/status", kind.plural), "singularName": "", "namespaced": kind.namespaced,
                "kind": kind.kind, "verbs": STATUS_VERBS,
            }));
        }
    }
    if of_group == "authorization.k8s.io" && version == "v1" {
        for (name, kind) in REVIEWS {
            entries.push(json!({
                "name": name, "singularName": kind.to_lowercase(), "namespaced": false, "kind": kind, "verbs": ["create"],
            }));
        }
    }
    if entries.is_empty() {
        return None;
    }
    let group_version = if of_group.is_empty() {
        version.to_owned()
    } else {
        format!("{of_group}/{version}")
    };
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": entries,
    }))
}

/// Questions about rights, which are created but not stored.
pub const REVIEWS: [(&str, &str); 2] = [
    ("selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    ("subjectaccessreviews", "SubjectAccessReview"),
];

/// Aggregated discovery (`apidiscovery.k8s.io/v2`), of the core or of all groups.
pub fn aggregated(kinds: &Registry, core: bool) -> Value {
    let mut by_group = groups(kinds);
    if core {
        by_group = BTreeMap::from([("", vec!["v1"])]);
    }
    let items: Vec<Value> = by_group
        .into_iter()
        .map(|(name, versions)| {
            let versions: Vec<Value> = versions
                .into_iter()
                .map(|version| {
                    json!({
                        "version": version, "freshness": "Current",
                        "resources": aggregated_resources(kinds, name, version),
                    })
                })
                .collect();
            let metadata = if name.is_empty() {
                json!({})
            } else {
                json!({"name": name})
            };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
    })
}

fn aggregated_resources(kinds: &Registry, of_group: &str, version: &str) -> Vec<Value> {
    let mut entries = Vec::new();
    for kind in kinds
        .iter()
        .filter(|kind| kind.group == of_group && kind.version == version)
    {
        let response = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
        let mut entry = json!({
            "resource": kind.plural, "responseKind": response, "singularResource": kind.singular,
            "scope": if kind.namespaced { "Namespaced" } else { "Cluster" }, "verbs": verbs(kind),
        });
        if !kind.short_names.is_empty() {
            entry["shortNames"] = json!(kind.short_names);
        }
        if !kind.categories.is_empty() {
            entry["categories"] = json!(kind.categories);
        }
        if kind.has_status {
            entry["subresources"] = json!([
                {"subresource": "status", "responseKind": response, "verbs": STATUS_VERBS},
            ]);
        }
        entries.push(entry);
    }
    if of_group == "authorization.k8s.io" {
        for (name, kind) in REVIEWS {
            entries.push(json!({
                "resource": name, "singularResource": kind.to_lowercase(), "scope": "Cluster", "verbs": ["create"],
                "responseKind": {"group": of_group, "version": version, "kind": kind},
            }));
        }
    }
    entries
}
