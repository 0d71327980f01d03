//! Who may do what: Roles, ClusterRoles and their bindings, read from the store as everything else. Which rule allowed a
//! request is noted, so that tests can tell which rules nobody needs.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    object::{self, at, text},
    request::{Target, User},
    store::Store,
};

/// One verb of one rule of a role, which allowed something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// `ClusterRole/name` or `Role/namespace/name`.
    pub role: String,
    /// The rule's place in the role.
    pub rule: usize,
    /// The verb of the request.
    pub verb: String,
    /// The resource of the request, as `workspaces.jvs.io/status`.
    pub resource: String,
}

/// Grants and how often each was used.
pub type Usage = BTreeMap<Grant, u64>;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Whether the user may; with the grant, if it was one and not membership in `system:masters`.
pub fn allows(store: &Store, user: &User, target: &Target) -> (bool, Option<Grant>) {
    if user.groups.iter().any(|group| group == "system:masters") {
        return (true, None);
    }
    // Everybody may ask what they may do.
    let asks = target.group == "authorization.k8s.io" && target.resource.starts_with("selfsubject");
    if asks && user.groups.iter().any(|group| group == "system:authenticated") {
        return (true, None);
    }
    for binding in store.list(&format!("clusterrolebindings.{GROUP}"), None) {
        if binds(&binding, user, "")
            && let Some(grant) = role_allows(store, &binding, "", target)
        {
            return (true, Some(grant));
        }
    }
    if !target.namespace.is_empty() {
        for binding in store.list(&format!("rolebindings.{GROUP}"), Some(&target.namespace)) {
            if binds(&binding, user, &target.namespace)
                && let Some(grant) = role_allows(store, &binding, &target.namespace, target)
            {
                return (true, Some(grant));
            }
        }
    }
    (false, None)
}

/// Whether a path that is no resource may be read: discovery, health, version.
pub fn allows_path(user: &User, path: &str) -> bool {
    let public = ["/healthz", "/livez", "/readyz", "/version"]
        .iter()
        .any(|prefix| path.starts_with(prefix));
    public
        || user
            .groups
            .iter()
            .any(|group| group == "system:authenticated" || group == "system:masters")
}

fn binds(binding: &Value, user: &User, namespace: &str) -> bool {
    at(binding, &["subjects"])
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .any(|subject| {
            let name = text(subject, &["name"]);
            match text(subject, &["kind"]) {
                "User" => user.name == name,
                "Group" => user.groups.iter().any(|group| group == name),
                "ServiceAccount" => {
                    let of = match text(subject, &["namespace"]) {
                        "" => namespace,
                        of => of,
                    };
                    user.name == format!("system:serviceaccount:{of}:{name}")
                }
                _ => false,
            }
        })
}

fn role_allows(store: &Store, binding: &Value, namespace: &str, target: &Target) -> Option<Grant> {
    let name = text(binding, &["roleRef", "name"]);
    let (role, label) = if text(binding, &["roleRef", "kind"]) == "Role" {
        (
            store.get(&format!("roles.{GROUP}"), namespace, name)?,
            format!("Role/{namespace}/{name}"),
        )
    } else {
        (
            store.get(&format!("clusterroles.{GROUP}"), "", name)?,
            format!("ClusterRole/{name}"),
        )
    };
    let mut resource = target.qualified();
    if !target.subresource.is_empty() {
        resource = format!("{resource}/{}", target.subresource);
    }
    rules(store, &role)
        .iter()
        .position(|rule| rule_allows(rule, target))
        .map(|rule| Grant {
            role: label,
            rule,
            verb: target.verb.as_str().to_owned(),
            resource,
        })
}

/// The rules of a role; those of roles that it takes in come after its own.
fn rules(store: &Store, role: &Value) -> Vec<Value> {
    let own = |role: &Value| {
        at(role, &["rules"])
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let mut all = own(role);
    let selectors = at(role, &["aggregationRule", "clusterRoleSelectors"]).and_then(Value::as_array);
    for selector in selectors.into_iter().flatten() {
        let selector = crate::selector::Selector::match_labels(&selector["matchLabels"]);
        for other in store.list(&format!("clusterroles.{GROUP}"), None) {
            if object::name(&other) != object::name(role) && selector.matches(&other) {
                all.extend(own(&other));
            }
        }
    }
    all
}

fn rule_allows(rule: &Value, target: &Target) -> bool {
    let list = |name: &str| -> Vec<&str> {
        rule.get(name)
            .and_then(Value::as_array)
            .map(|list| list.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default()
    };
    let has = |name: &str, wanted: &str| list(name).iter().any(|entry| *entry == "*" || *entry == wanted);
    let resource = if target.subresource.is_empty() {
        target.resource.clone()
    } else {
        format!("{}/{}", target.resource, target.subresource)
    };
    let any_subresource = format!("*/{}", target.subresource);
    let names = list("resourceNames");
    has("verbs", target.verb.as_str())
        && has("apiGroups", &target.group)
        && (has("resources", &resource)
            || (!target.subresource.is_empty() && list("resources").contains(&any_subresource.as_str())))
        && (names.is_empty() || names.contains(&target.name.as_str()))
}
