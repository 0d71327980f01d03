//! OpenAPI v3, as much as `kubectl` asks for: per group and version the schemas of its kinds, and paths that say which
//! kind they are of, which media types a patch may have, and that fields are validated here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{
    kinds::{Kind, Registry, builtin::definition_name},
    schema::builtin,
};

/// `/openapi/v3`.
pub fn index(kinds: &Registry) -> Value {
    let mut paths = BTreeMap::new();
    for kind in kinds.iter() {
        let path = if kind.group.is_empty() {
            format!("api/{}", kind.version)
        } else {
            format!("apis/{}/{}", kind.group, kind.version)
        };
        paths.insert(
            path.clone(),
            json!({"serverRelativeURL": format!("/openapi/v3/{path}")}),
        );
    }
    json!({"paths": paths})
}

/// `/openapi/v3/…`; none if it is not served.
pub fn document(kinds: &Registry, group: &str, version: &str) -> Option<Value> {
    let mut paths = BTreeMap::new();
    let mut schemas: BTreeMap<String, Value> = BTreeMap::new();
    for kind in kinds
        .iter()
        .filter(|kind| kind.group == group && kind.version == version)
    {
        let name = name_of(kind);
        schemas.insert(name.clone(), schema_of(kind));
        let gvk = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
        let scope = if kind.namespaced {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        let base = if group.is_empty() {
            format!("/api/{version}")
        } else {
            format!("/apis/{group}/{version}")
        };
        let collection = format!("{base}{scope}/{}", kind.plural);
        paths.insert(
            collection.clone(),
            json!({
                "get": operation(&gvk, &name, "list", kind), "post": operation(&gvk, &name, "post", kind),
                "delete": operation(&gvk, &name, "deletecollection", kind),
            }),
        );
        let item = json!({
            "get": operation(&gvk, &name, "get", kind), "put": operation(&gvk, &name, "put", kind),
            "patch": operation(&gvk, &name, "patch", kind), "delete": operation(&gvk, &name, "delete", kind),
        });
        if kind.has_status {
            paths.insert(format!("{collection}/{{name}}/status"), item.clone());
        }
        paths.insert(format!("{collection}/{{name}}"), item);
    }
    if paths.is_empty() {
        return None;
    }
    schemas.entry(META.to_owned()).or_insert(Value::Null);
    complete(&mut schemas);
    Some(json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.34.0"},
        "paths": paths, "components": {"schemas": schemas},
    }))
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The name of a kind's schema: for custom kinds the group backwards, as the real server does.
fn name_of(kind: &Kind) -> String {
    if !kind.custom
        && let Some(name) = definition_name(&kind.group, &kind.kind)
    {
        return name;
    }
    let group: Vec<&str> = kind.group.split('.').rev().collect();
    format!("{}.{}.{}", group.join("."), kind.version, kind.kind)
}

fn schema_of(kind: &Kind) -> Value {
    let mut schema = kind.openapi.clone();
    if kind.custom {
        schema["properties"]["apiVersion"] = json!({
            "type": "string", "description": "APIVersion defines the versioned schema of this representation of an object.",
        });
        schema["properties"]["kind"] = json!({
            "type": "string", "description": "Kind is a string value representing the REST resource this object represents.",
        });
        schema["properties"]["metadata"] = json!({
            "description": "Standard object's metadata.",
            "allOf": [{"$ref": format!("#/components/schemas/{META}")}],
        });
    }
    schema["x-kubernetes-group-version-kind"] =
        json!([{"group": kind.group, "version": kind.version, "kind": kind.kind}]);
    schema
}

fn operation(gvk: &Value, name: &str, action: &str, kind: &Kind) -> Value {
    let reference = json!({"schema": {"$ref": format!("#/components/schemas/{name}")}});
    let mut value = json!({
        "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk,
        "responses": {"200": {"description": "OK", "content": {"application/json": reference}}},
    });
    if matches!(action, "post" | "put" | "patch") {
        let parameter = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
        value["parameters"] = json!([
            parameter("dryRun"),
            parameter("fieldManager"),
            parameter("fieldValidation"),
        ]);
        value["requestBody"] = if action == "patch" {
            let mut content = BTreeMap::from([
                ("application/json-patch+json", json!({})),
                ("application/merge-patch+json", json!({})),
                ("application/apply-patch+yaml", json!({})),
            ]);
            if !kind.custom {
                content.insert("application/strategic-merge-patch+json", json!({}));
            }
            json!({"content": content, "required": true})
        } else {
            json!({"content": {"*/*": reference}, "required": true})
        };
    }
    value
}

/// Adds every definition that the schemas refer to.
fn complete(schemas: &mut BTreeMap<String, Value>) {
    let mut missing: BTreeSet<String> = schemas
        .iter()
        .filter(|(_, value)| value.is_null())
        .map(|(name, _)| name.clone())
        .collect();
    for schema in schemas.values() {
        references(schema, &mut missing);
    }
    while let Some(name) = missing.pop_first() {
        if schemas.get(&name).is_some_and(|schema| !schema.is_null()) {
            continue;
        }
        let definition = builtin::OPENAPI
            .get(&name)
            .cloned()
            .unwrap_or_else(|| json!({"type": "object"}));
        references(&definition, &mut missing);
        schemas.insert(name, definition);
    }
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match value {
                    Value::String(reference) if name == "$ref" => {
                        if let Some(name) = reference.rsplit('/').next() {
                            found.insert(name.to_owned());
                        }
                    }
                    other => references(other, found),
                }
            }
        }
        Value::Array(list) => {
            for value in list {
                references(value, found);
            }
        }
        _ => {}
    }
}
