//! From the derived schemas to those that are shipped.
//!
//! What the derive makes is right for Rust and has three things that are not right for an API server: optional fields that also take `null`,
//! formats that it does not know, and lists, maps and strings without a bound (fields of Kubernetes' own types). [`bounded`] mends all three.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use crate::{DittoServer, Restore, Snapshot, StorageNode, Workspace};

/// Longest string of a field that names no bound of its own.
pub const CHARACTERS_MAX: u64 = 1024;
/// Most items of a list that names no bound of its own.
pub const ITEMS_MAX: u64 = 64;
/// Most entries of a map that names no bound of its own.
pub const PROPERTIES_MAX: u64 = 64;

/// Formats that the API server knows (`k8s.io/apiextensions-apiserver/pkg/apiserver/validation/formats.go`) and that are used here.
const FORMATS: [&str; 3] = ["int32", "int64", "date-time"];

/// All definitions as they are shipped, in the order in which they are best applied.
pub fn all() -> Vec<CustomResourceDefinition> {
    [
        Workspace::crd(),
        Snapshot::crd(),
        Restore::crd(),
        StorageNode::crd(),
        DittoServer::crd(),
    ]
    .into_iter()
    .map(bounded)
    .collect()
}

/// A definition whose schemas take no `null`, name no unknown format, and bound every string, list and map.
pub fn bounded(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    let recommended = [
        ("app.kubernetes.io/name", "cairn"),
        ("app.kubernetes.io/component", "crds"),
    ];
    let labels = definition.metadata.labels.get_or_insert_default();
    for (key, value) in recommended {
        labels.insert(key.to_owned(), value.to_owned());
    }
    for version in &mut definition.spec.versions {
        let schema = version.schema.as_mut();
        let Some(schema) = schema.and_then(|schema| schema.open_api_v3_schema.as_mut()) else {
            continue;
        };
        let mut value = json!(schema);
        if let Some(root) = value.as_object_mut() {
            // The API server describes metadata itself, and takes a bound of nothing in it.
            let metadata = root
                .get_mut("properties")
                .and_then(Value::as_object_mut)
                .and_then(|properties| properties.remove("metadata"));
            mend(root);
            if let (Some(properties), Some(_)) = (root.get_mut("properties"), metadata) {
                properties["metadata"] = json!({ "type": "object" });
            }
        }
        *schema = serde_json::from_value(value).expect("what came from a schema, with bounds, is a schema");
    }
    definition
}

/// Mends one schema and everything below it.
fn mend(schema: &mut Map<String, Value>) {
    schema.remove("nullable");
    schema.remove("title");
    if let Some(format) = schema.get("format").and_then(Value::as_str)
        && !FORMATS.contains(&format)
    {
        schema.remove("format");
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("string") if !schema.contains_key("enum") && !schema.contains_key("format") => {
            schema.entry("maxLength").or_insert(json!(CHARACTERS_MAX));
        }
        Some("array") => {
            schema.entry("maxItems").or_insert(json!(ITEMS_MAX));
        }
        Some("object") if schema.contains_key("additionalProperties") => {
            schema.entry("maxProperties").or_insert(json!(PROPERTIES_MAX));
        }
        _ => {}
    }
    for key in ["items", "additionalProperties"] {
        if let Some(below) = schema.get_mut(key).and_then(Value::as_object_mut) {
            mend(below);
        }
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for below in properties.values_mut().filter_map(Value::as_object_mut) {
            mend(below);
        }
    }
}
