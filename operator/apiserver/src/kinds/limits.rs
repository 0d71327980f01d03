//! Rules that every object keeps (names, labels, owners, finalizers) and rules of built-in kinds that clients run into:
//! what must be there, and what cannot be changed.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::Kind;
use crate::{
    object::{self, at, text},
    status::Cause,
};

/// What annotations of one object may take together, in bytes.
pub const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const LABEL_KEY: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

fn is_match(pattern: &'static LazyLock<Regex>, text: &str) -> bool {
    pattern.is_match(text)
}

macro_rules! pattern {
    ($name:ident, $text:literal) => {
        static $name: LazyLock<Regex> =
            LazyLock::new(|| Regex::new($text).expect("the pattern is a constant that compiles"));
    };
}
pattern!(
    SUBDOMAIN_PATTERN,
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
);
pattern!(LABEL_PATTERN, r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$");
pattern!(LABEL_1035_PATTERN, r"^[a-z]([-a-z0-9]*[a-z0-9])?$");
pattern!(QUALIFIED_PATTERN, r"^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$");
pattern!(VALUE_PATTERN, r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$");

fn invalid(field: &str, value: &str, message: &str) -> Cause {
    Cause {
        reason: "FieldValueInvalid",
        message: format!("Invalid value: \"{value}\": {message}"),
        field: field.to_owned(),
    }
}

fn required(field: &str, detail: &str) -> Cause {
    let message = if detail.is_empty() {
        "Required value".to_owned()
    } else {
        format!("Required value: {detail}")
    };
    Cause {
        reason: "FieldValueRequired",
        message,
        field: field.to_owned(),
    }
}

fn forbidden(field: &str, message: &str) -> Cause {
    Cause {
        reason: "FieldValueForbidden",
        message: format!("Forbidden: {message}"),
        field: field.to_owned(),
    }
}

/// Holds the metadata of an object against the rules; `old` is what it replaces.
pub fn metadata(kind: &Kind, value: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let name = object::name(value);
    if name.is_empty() {
        causes.push(required("metadata.name", "name or generateName is required"));
    } else if old.is_none() {
        match (kind.group.as_str(), kind.kind.as_str()) {
            ("rbac.authorization.k8s.io", _) if !name.contains('/') && !name.contains('%') => {}
            ("", "Namespace") if name.len() > 63 || !is_match(&LABEL_PATTERN, name) => {
                causes.push(invalid("metadata.name", name, LABEL));
            }
            ("", "Service") if name.len() > 63 || !is_match(&LABEL_1035_PATTERN, name) => {
                causes.push(invalid("metadata.name", name, LABEL_1035));
            }
            _ if name.len() > 253 => {
                causes.push(Cause {
                    reason: "FieldValueInvalid",
                    message: format!("Invalid value: \"{name}\": must be no more than 253 bytes"),
                    field: "metadata.name".to_owned(),
                });
            }
            _ if !is_match(&SUBDOMAIN_PATTERN, name) => {
                causes.push(invalid("metadata.name", name, SUBDOMAIN));
            }
            _ => {}
        }
    }
    labels(value, &mut causes);
    owner_references(value, &mut causes);
    if let Some(old) = old
        && object::is_deleting(old)
    {
        let before = object::finalizers(old);
        let added: Vec<String> = object::finalizers(value)
            .into_iter()
            .filter(|finalizer| !before.contains(finalizer))
            .map(|finalizer| format!("{finalizer:?}"))
            .collect();
        if !added.is_empty() {
            causes.push(forbidden(
                "metadata.finalizers",
                &format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    added.join(", ")
                ),
            ));
        }
    }
    causes
}

fn labels(value: &Value, causes: &mut Vec<Cause>) {
    let qualified = |key: &str| {
        let (prefix, name) = key
            .split_once('/')
            .map_or((None, key), |(prefix, name)| (Some(prefix), name));
        name.len() <= 63
            && is_match(&QUALIFIED_PATTERN, name)
            && prefix.is_none_or(|prefix| is_match(&SUBDOMAIN_PATTERN, prefix))
    };
    for (key, label) in at(value, &["metadata", "labels"])
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if !qualified(key) {
            causes.push(invalid("metadata.labels", key, LABEL_KEY));
        }
        let label = label.as_str().unwrap_or_default();
        if label.len() > 63 || !is_match(&VALUE_PATTERN, label) {
            causes.push(invalid("metadata.labels", label, LABEL_VALUE));
        }
    }
    let annotations = at(value, &["metadata", "annotations"]).and_then(Value::as_object);
    let mut size = 0;
    for (key, annotation) in annotations.into_iter().flatten() {
        size += key.len() + annotation.as_str().map_or(0, str::len);
        if !qualified(&key.to_lowercase()) {
            causes.push(invalid("metadata.annotations", key, LABEL_KEY));
        }
    }
    if size > ANNOTATIONS_BYTES_MAX {
        causes.push(Cause {
            reason: "FieldValueTooLong",
            message: format!("Too long: may not be more than {ANNOTATIONS_BYTES_MAX} bytes"),
            field: "metadata.annotations".to_owned(),
        });
    }
}

fn owner_references(value: &Value, causes: &mut Vec<Cause>) {
    let mut controllers = 0;
    for owner in object::owners(value) {
        for (field, message) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            if text(owner, &[field]).is_empty() {
                causes.push(invalid(&format!("metadata.ownerReferences.{field}"), "", message));
            }
        }
        controllers += u32::from(owner.get("controller") == Some(&Value::Bool(true)));
    }
    if controllers > 1 {
        causes.push(Cause {
            reason: "FieldValueInvalid",
            message: "Invalid value: Only one reference can have Controller set to true".to_owned(),
            field: "metadata.ownerReferences".to_owned(),
        });
    }
}

/// Holds an object of a built-in kind against the rules of its kind.
pub fn builtin(kind: &Kind, value: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let missing = |path: &[&str]| match at(value, path) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(_) => false,
    };
    let mut need = |path: &[&str]| {
        if missing(path) {
            causes.push(required(&path.join("."), ""));
        }
    };
    match kind.kind.as_str() {
        "Pod" => need(&["spec", "containers"]),
        "StatefulSet" | "DaemonSet" | "Deployment" => {
            need(&["spec", "selector"]);
            need(&["spec", "template", "spec", "containers"]);
        }
        "PersistentVolumeClaim" => {
            need(&["spec", "accessModes"]);
            need(&["spec", "resources", "requests", "storage"]);
        }
        "PersistentVolume" => {
            need(&["spec", "accessModes"]);
            need(&["spec", "capacity"]);
        }
        "StorageClass" => need(&["provisioner"]),
        "RoleBinding" | "ClusterRoleBinding" => need(&["roleRef", "name"]),
        "EndpointSlice" => need(&["addressType"]),
        _ => {}
    }
    for (index, container) in containers(kind, value).iter().enumerate() {
        let base = if kind.kind == "Pod" {
            "spec"
        } else {
            "spec.template.spec"
        };
        for field in ["name", "image"] {
            if text(container, &[field]).is_empty() {
                causes.push(required(&format!("{base}.containers[{index}].{field}"), ""));
            }
        }
    }
    if matches!(kind.kind.as_str(), "StatefulSet" | "DaemonSet" | "Deployment") {
        let template = at(value, &["spec", "template", "metadata", "labels"]);
        let wanted = at(value, &["spec", "selector", "matchLabels"]).and_then(Value::as_object);
        let fits = wanted
            .into_iter()
            .flatten()
            .all(|(name, wanted)| template.and_then(|labels| labels.get(name)) == Some(wanted));
        if !fits {
            let labels = template.cloned().unwrap_or_default();
            causes.push(Cause {
                reason: "FieldValueInvalid",
                message: format!("Invalid value: {labels}: `selector` does not match template `labels`"),
                field: "spec.template.metadata.labels".to_owned(),
            });
        }
    }
    match kind.kind.as_str() {
        "Service" => ports(value, &mut causes),
        "PersistentVolume" if source(value).as_object().is_none_or(serde_json::Map::is_empty) => {
            causes.push(required("spec", "must specify a volume type"));
        }
        "Secret" if text(value, &["type"]) == "kubernetes.io/tls" => {
            for name in ["tls.crt", "tls.key"] {
                if at(value, &["data", name]).is_none() {
                    causes.push(required(&format!("data[{name}]"), ""));
                }
            }
        }
        "Lease" => {
            if let Some(seconds) = at(value, &["spec", "leaseDurationSeconds"]).and_then(Value::as_i64)
                && seconds <= 0
            {
                causes.push(Cause {
                    reason: "FieldValueInvalid",
                    message: format!("Invalid value: {seconds}: must be greater than 0"),
                    field: "spec.leaseDurationSeconds".to_owned(),
                });
            }
        }
        "Role" | "ClusterRole" => {
            let rules = at(value, &["rules"]).and_then(Value::as_array);
            for (index, rule) in rules.into_iter().flatten().enumerate() {
                if rule.get("verbs").is_none() {
                    causes.push(required(
                        &format!("rules[{index}].verbs"),
                        "verbs must contain at least one value",
                    ));
                }
                if rule.get("nonResourceURLs").is_none() && rule.get("apiGroups").is_none() {
                    causes.push(required(
                        &format!("rules[{index}].apiGroups"),
                        "resource rules must supply at least one api group",
                    ));
                }
            }
        }
        _ => {}
    }
    if let Some(old) = old {
        immutable(kind, value, old, &mut causes);
    }
    causes
}

/// A Service has ports, unless it is headless or a name; several have names.
fn ports(value: &Value, causes: &mut Vec<Cause>) {
    let ports = at(value, &["spec", "ports"])
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let without =
        text(value, &["spec", "type"]) == "ExternalName" || text(value, &["spec", "clusterIP"]) == "None";
    if ports.is_empty() && !without {
        causes.push(required("spec.ports", ""));
    }
    if ports.len() > 1 {
        for (index, port) in ports.iter().enumerate() {
            if text(port, &["name"]).is_empty() {
                causes.push(required(&format!("spec.ports[{index}].name"), ""));
            }
        }
    }
}

fn containers<'v>(kind: &Kind, value: &'v Value) -> &'v [Value] {
    let path: &[&str] = match kind.kind.as_str() {
        "Pod" => &["spec", "containers"],
        "StatefulSet" | "DaemonSet" | "Deployment" => &["spec", "template", "spec", "containers"],
        _ => return &[],
    };
    at(value, path)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn immutable(kind: &Kind, value: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let same = |path: &[&str]| at(value, path) == at(old, path);
    let fixed = |path: &[&str], causes: &mut Vec<Cause>| {
        if !same(path) {
            let shown = at(value, path).cloned().unwrap_or_default();
            causes.push(Cause {
                reason: "FieldValueInvalid",
                message: format!("Invalid value: {shown}: field is immutable"),
                field: path.join("."),
            });
        }
    };
    match kind.kind.as_str() {
        "Service" => {
            let cluster = |value: &Value| text(value, &["spec", "type"]) != "ExternalName";
            if cluster(value)
                && cluster(old)
                && !text(old, &["spec", "clusterIP"]).is_empty()
                && !same(&["spec", "clusterIP"])
            {
                let shown = at(value, &["spec", "clusterIPs"]).cloned().unwrap_or_default();
                causes.push(Cause {
                    reason: "FieldValueInvalid",
                    message: format!("Invalid value: {shown}: may not change once set"),
                    field: "spec.clusterIPs[0]".to_owned(),
                });
            }
        }
        "Secret" => {
            fixed(&["type"], causes);
            frozen(value, old, causes);
        }
        "ConfigMap" => frozen(value, old, causes),
        "RoleBinding" | "ClusterRoleBinding" if !same(&["roleRef"]) => causes.push(Cause {
            reason: "FieldValueInvalid",
            message: format!("Invalid value: {}: cannot change roleRef", value["roleRef"]),
            field: "roleRef".to_owned(),
        }),
        "StorageClass" => {
            for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
                if !same(&[field]) {
                    causes.push(forbidden(field, "updates to fields are forbidden."));
                }
            }
        }
        "Deployment" | "DaemonSet" => fixed(&["spec", "selector"], causes),
        "StatefulSet" => stateful_set(value, old, causes),
        "PersistentVolumeClaim" => claim(value, old, causes),
        "PersistentVolume" => {
            if source(value) != source(old) {
                causes.push(forbidden(
                    "spec.persistentvolumesource",
                    "spec.persistentvolumesource is immutable after creation",
                ));
            }
            fixed(&["spec", "volumeMode"], causes);
        }
        "CustomResourceDefinition" => {
            fixed(&["spec", "group"], causes);
            fixed(&["spec", "scope"], causes);
            fixed(&["spec", "names", "kind"], causes);
            fixed(&["spec", "names", "plural"], causes);
        }
        _ => {}
    }
}

/// Data of secrets and config maps that were marked immutable.
fn frozen(value: &Value, old: &Value, causes: &mut Vec<Cause>) {
    if old.get("immutable") != Some(&Value::Bool(true)) {
        return;
    }
    if value.get("immutable") != Some(&Value::Bool(true)) {
        causes.push(forbidden(
            "immutable",
            "field is immutable when `immutable` is set",
        ));
    }
    for field in ["data", "binaryData"] {
        if value.get(field) != old.get(field) {
            causes.push(forbidden(field, "field is immutable when `immutable` is set"));
        }
    }
}

fn stateful_set(value: &Value, old: &Value, causes: &mut Vec<Cause>) {
    const MUTABLE: &[&str] = &[
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
        "revisionHistoryLimit",
    ];
    let fixed = |value: &Value| {
        let mut spec = value.get("spec").cloned().unwrap_or_default();
        if let Some(spec) = spec.as_object_mut() {
            spec.retain(|name, _| !MUTABLE.contains(&name.as_str()));
        }
        spec
    };
    if fixed(value) != fixed(old) {
        causes.push(forbidden(
            "spec",
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        ));
    }
}

fn claim(value: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let fixed = |value: &Value, bound: bool| {
        let mut spec = value.get("spec").cloned().unwrap_or_default();
        if let Some(spec) = spec.as_object_mut() {
            spec.remove("resources");
            spec.remove("volumeAttributesClassName");
            // The controller that binds fills it in, once.
            if !bound {
                spec.remove("volumeName");
                if text(old, &["spec", "storageClassName"]).is_empty() {
                    spec.remove("storageClassName");
                }
            }
        }
        spec
    };
    let bound = !text(old, &["spec", "volumeName"]).is_empty();
    if fixed(value, bound) != fixed(old, bound) {
        causes.push(forbidden(
            "spec",
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        ));
    }
    let size = |value: &Value| quantity(text(value, &["spec", "resources", "requests", "storage"]));
    if let (Some(new), Some(before)) = (size(value), size(old)) {
        if new < before {
            causes.push(forbidden(
                "spec.resources.requests.storage",
                "field can not be less than status.capacity",
            ));
        } else if new > before && text(old, &["status", "phase"]) != "Bound" {
            causes.push(forbidden(
                "spec",
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
            ));
        }
    }
}

fn source(value: &Value) -> Value {
    const OTHERS: &[&str] = &[
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    ];
    let mut spec = value.get("spec").cloned().unwrap_or_default();
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|name, _| !OTHERS.contains(&name.as_str()));
    }
    spec
}

/// A quantity as the server writes it: whole, under the largest unit that divides it (`1024Mi` is `1Gi`).
pub fn canonical_quantity(text: &str) -> Option<String> {
    const BINARY: &[&str] = &["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    const DECIMAL: &[&str] = &["", "k", "M", "G", "T", "P", "E"];
    let split = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let mut number: u64 = text[..split].parse().ok()?;
    let (units, base) = if BINARY.contains(&&text[split..]) {
        (BINARY, 1024)
    } else {
        (DECIMAL, 1000)
    };
    let mut unit = units.iter().position(|unit| *unit == &text[split..])?;
    while number != 0 && number.is_multiple_of(base) && unit + 1 < units.len() {
        number /= base;
        unit += 1;
    }
    Some(format!("{number}{}", units[unit]))
}

/// A quantity in its base unit, as `10Gi` or `1.5k`.
pub fn quantity(text: &str) -> Option<f64> {
    let split = text
        .find(|character: char| character.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let number: f64 = text[..split].parse().ok()?;
    let factor = match &text[split..] {
        "" => 1.0,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        "Pi" => 1024.0 * 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    Some(number * factor)
}
