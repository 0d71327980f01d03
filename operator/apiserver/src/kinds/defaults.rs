//! Defaults of built-in kinds that depend on other fields, and what the server itself adds on creation.

use serde_json::{Value, json};

use super::Kind;
use crate::object::{at, child_mut, metadata_mut, text};

/// Fills in what follows from other fields. Comes after the defaults of the schema and counts as written by the client.
pub fn apply(kind: &Kind, object: &mut Value) {
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Service") => service(object),
        ("", "Secret") => secret(object),
        ("", "Pod") => {
            pod_spec(&mut object["spec"]);
            let spec = child_mut(object, "spec");
            spec.entry("enableServiceLinks").or_insert(json!(true));
        }
        ("", "Namespace") => {
            let name = text(object, &["metadata", "name"]).to_owned();
            if !name.is_empty() {
                let labels = metadata_mut(object).entry("labels").or_insert(json!({}));
                labels["kubernetes.io/metadata.name"] = json!(name);
            }
        }
        ("apps", "StatefulSet") => {
            rolling(object, "updateStrategy", &json!({"partition": 0}));
            pod_spec(&mut object["spec"]["template"]["spec"]);
            for claim in elements(object, "/spec/volumeClaimTemplates") {
                claim["kind"] = json!("PersistentVolumeClaim");
                claim["apiVersion"] = json!("v1");
                claim["status"] = json!({"phase": "Pending"});
            }
        }
        ("apps", "DaemonSet") => {
            rolling(
                object,
                "updateStrategy",
                &json!({"maxUnavailable": 1, "maxSurge": 0}),
            );
            pod_spec(&mut object["spec"]["template"]["spec"]);
            let annotations = metadata_mut(object).entry("annotations").or_insert(json!({}));
            if annotations
                .get("deprecated.daemonset.template.generation")
                .is_none()
            {
                annotations["deprecated.daemonset.template.generation"] = json!("1");
            }
        }
        ("apps", "Deployment") => {
            rolling(
                object,
                "strategy",
                &json!({"maxUnavailable": "25%", "maxSurge": "25%"}),
            );
            pod_spec(&mut object["spec"]["template"]["spec"]);
        }
        ("networking.k8s.io", "NetworkPolicy") => {
            let spec = child_mut(object, "spec");
            spec.entry("podSelector").or_insert(json!({}));
            if !spec.contains_key("policyTypes") {
                let types = if spec.contains_key("egress") {
                    json!(["Ingress", "Egress"])
                } else {
                    json!(["Ingress"])
                };
                spec.insert("policyTypes".to_owned(), types);
            }
        }
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            const GROUP: &str = "rbac.authorization.k8s.io";
            if text(object, &["roleRef", "apiGroup"]).is_empty() {
                child_mut(object, "roleRef").insert("apiGroup".to_owned(), json!(GROUP));
            }
            for subject in elements(object, "/subjects") {
                if matches!(text(subject, &["kind"]), "User" | "Group")
                    && text(subject, &["apiGroup"]).is_empty()
                {
                    subject["apiGroup"] = json!(GROUP);
                }
            }
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            let kind = text(object, &["spec", "names", "kind"]).to_owned();
            if let Some(names) = object["spec"]["names"].as_object_mut() {
                names.entry("singular").or_insert(json!(kind.to_lowercase()));
                names.entry("listKind").or_insert(json!(format!("{kind}List")));
            }
        }
        _ => {}
    }
    if object.get("spec").is_some_and(Value::is_null)
        && let Some(map) = object.as_object_mut()
    {
        map.remove("spec");
    }
}

/// The elements of the list at a JSON pointer, if there is one.
fn elements<'v>(object: &'v mut Value, pointer: &str) -> impl Iterator<Item = &'v mut Value> {
    object
        .pointer_mut(pointer)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

fn rolling(object: &mut Value, field: &str, default: &Value) {
    let strategy = &mut object["spec"][field];
    if strategy["type"].is_null() {
        strategy["type"] = json!("RollingUpdate");
    }
    if strategy["type"] == "RollingUpdate" {
        if strategy["rollingUpdate"].is_null() {
            strategy["rollingUpdate"] = json!({});
        }
        for (name, value) in default.as_object().into_iter().flatten() {
            if strategy["rollingUpdate"][name].is_null() {
                strategy["rollingUpdate"][name] = value.clone();
            }
        }
    }
}

fn pod_spec(spec: &mut Value) {
    for list in ["/containers", "/initContainers"] {
        for container in elements(spec, list) {
            if container.get("imagePullPolicy").is_none() {
                let image = text(container, &["image"]);
                let name = image.rsplit('/').next().unwrap_or_default();
                let latest = !name.contains('@') && (!name.contains(':') || name.ends_with(":latest"));
                container["imagePullPolicy"] = json!(if latest { "Always" } else { "IfNotPresent" });
            }
            for variable in elements(container, "/env") {
                // Go leaves an empty value out.
                if text(variable, &["value"]).is_empty()
                    && let Some(variable) = variable.as_object_mut()
                {
                    variable.remove("value");
                }
            }
        }
    }
    if let Some(account) = spec.get("serviceAccountName").cloned()
        && spec.get("serviceAccount").is_none()
    {
        spec["serviceAccount"] = account;
    }
}

fn service(object: &mut Value) {
    let spec = child_mut(object, "spec");
    if spec.get("type").and_then(Value::as_str) != Some("ExternalName") {
        spec.entry("internalTrafficPolicy").or_insert(json!("Cluster"));
    }
    for port in spec
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if port["targetPort"].is_null() {
            port["targetPort"] = port["port"].clone();
        }
    }
}

fn secret(object: &mut Value) {
    let Some(map) = object.as_object_mut() else {
        return;
    };
    if let Some(Value::Object(plain)) = map.remove("stringData") {
        let data = map.entry("data").or_insert(json!({}));
        for (name, value) in plain {
            let text = value.as_str().unwrap_or_default();
            let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
            data[name] = json!(encoded);
        }
    }
}

/// Priority, and for how long a pod stays on a node that is away.
fn pod_admission(spec: &mut serde_json::Map<String, Value>) {
    spec.entry("priority").or_insert(json!(0));
    spec.entry("preemptionPolicy")
        .or_insert(json!("PreemptLowerPriority"));
    let Some(tolerations) = spec.entry("tolerations").or_insert(json!([])).as_array_mut() else {
        return;
    };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = tolerations.iter().any(|toleration| {
            let of = text(toleration, &["key"]);
            (of.is_empty() || of == key) && matches!(text(toleration, &["effect"]), "" | "NoExecute")
        });
        if !tolerated {
            tolerations.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300,
            }));
        }
    }
}

/// What the server adds to a new object, which belongs to no manager.
pub fn admit(kind: &Kind, object: &mut Value, now: &str) {
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "PersistentVolumeClaim") => {
            crate::object::add_finalizer(object, "kubernetes.io/pvc-protection");
            object["status"] = json!({"phase": "Pending"});
        }
        ("", "PersistentVolume") => {
            crate::object::add_finalizer(object, "kubernetes.io/pv-protection");
            object["status"] = json!({"phase": "Pending", "lastPhaseTransitionTime": now});
        }
        ("", "Namespace") => {
            object["spec"] = json!({"finalizers": ["kubernetes"]});
            object["status"] = json!({"phase": "Active"});
        }
        ("", "Pod") => {
            object["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"});
            pod_admission(child_mut(object, "spec"));
        }
        ("", "Service") => object["status"] = json!({"loadBalancer": {}}),
        ("apps", "StatefulSet") => object["status"] = json!({"replicas": 0, "availableReplicas": 0}),
        ("apps", "DaemonSet") => {
            object["status"] = json!({
                "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0,
            });
        }
        ("apps", "ReplicaSet") => object["status"] = json!({"replicas": 0}),
        ("apps", "Deployment") => object["status"] = json!({}),
        ("policy", "PodDisruptionBudget") => {
            object["status"] = json!({
                "currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0,
            });
        }
        ("", "Node") => {
            let spec = child_mut(object, "spec");
            if !spec.contains_key("taints") {
                spec.insert(
                    "taints".to_owned(),
                    json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]),
                );
            }
        }
        _ => {}
    }
    if at(object, &["metadata", "annotations"]).is_some_and(Value::is_null) {
        metadata_mut(object).remove("annotations");
    }
}
