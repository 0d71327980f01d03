//! The steps that every write goes through, without the store: decoding what came, keeping what an endpoint does not let
//! through, counting the generation.

use serde_json::{Value, json};

use super::{FieldValidation, WriteOptions};
use crate::{
    kinds::{self, Kind},
    object::{at, metadata_mut},
    schema::{Schema, builtin, defaults, prune, validate},
    status::Failure,
};

/// What in an application has no place in the schema, or the wrong type; the first thing found.
pub(super) fn mistyped(kind: &Kind, config: &Value) -> Option<String> {
    let mut config = config.clone();
    let mut unknown = Vec::new();
    prune::unknown_fields(&kind.schema, &mut config, "", &mut unknown);
    if let Some(first) = unknown.first() {
        return Some(format!(".{first}: field not declared in schema"));
    }
    let mut causes = Vec::new();
    validate::check(&kind.schema, &config, None, "", &mut causes);
    causes
        .into_iter()
        .find(|cause| cause.reason == "FieldValueTypeInvalid" && !cause.message.contains("\"null\""))
        .map(|cause| {
            let word = |name: &str| match name {
                "integer" | "number" => "numeric (int or float)",
                "array" => "list",
                "object" => "map",
                "boolean" => "boolean",
                _ => "string",
            };
            let expected = cause
                .message
                .rsplit_once("of type ")
                .and_then(|(_, rest)| rest.split(':').next())
                .unwrap_or_default();
            let found = cause.message.rsplit('"').nth(1).unwrap_or_default();
            let found = match found {
                "integer" => "int",
                "number" => "float",
                other => word(other),
            };
            format!(".{}: expected {}, got {found}", cause.field, word(expected))
        })
}

/// Drops unknown fields, normalises, defaults.
pub(super) fn decode(kind: &Kind, value: &mut Value, options: &WriteOptions) -> Result<Vec<String>, Failure> {
    let mut unknown = Vec::new();
    prune::unknown_fields(&kind.schema, value, "", &mut unknown);
    unknown.sort();
    if options.field_validation == FieldValidation::Strict && !unknown.is_empty() {
        let list: Vec<String> = unknown
            .iter()
            .map(|path| format!("unknown field \"{path}\""))
            .collect();
        return Err(Failure::BadRequest(format!(
            "{} in version \"{}\" cannot be handled as a {}: strict decoding error: {}",
            kind.kind,
            kind.version,
            kind.kind,
            list.join(", ")
        )));
    }
    if kind.custom {
        if let (Some(schema), Some(metadata)) = (builtin::object_meta(), value.get_mut("metadata")) {
            prune::normalise(schema, metadata);
        }
        defaults::drop_nulls(&kind.schema, value);
        defaults::apply(&kind.schema, value);
        drop_plain_nulls(kind, value);
    } else {
        prune::normalise(&kind.schema, value);
        let mut causes = Vec::new();
        validate::check(&kind.schema, value, None, "", &mut causes);
        if let Some(cause) = causes.first() {
            return Err(Failure::BadRequest(format!(
                "{} in version \"{}\" cannot be handled as a {}: json: cannot unmarshal: {}",
                kind.kind,
                kind.version,
                kind.kind,
                cause.sentence()
            )));
        }
        defaults::apply(&kind.schema, value);
        kinds::defaults::apply(kind, value);
    }
    if options.field_validation == FieldValidation::Ignore {
        unknown.clear();
    }
    Ok(unknown)
}

/// Null where null is no value counts as absent in custom resources.
fn drop_plain_nulls(kind: &Kind, value: &mut Value) {
    fn walk(schema: &Schema, value: &mut Value) {
        let node = schema.resolve();
        match value {
            Value::Object(map) => {
                map.retain(|name, value| {
                    !value.is_null()
                        || node
                            .properties
                            .get(name)
                            .is_none_or(|field| field.resolve().nullable || field.resolve().kind.is_none())
                });
                for (name, value) in map.iter_mut() {
                    if let Some((field, _)) = node.field(name) {
                        walk(field, value);
                    }
                }
            }
            Value::Array(list) => {
                if let Some(items) = node.items.as_deref() {
                    for value in list {
                        walk(items, value);
                    }
                }
            }
            _ => {}
        }
    }
    walk(&kind.schema, value);
}

/// What an endpoint does not let through comes from the live object.
pub(super) fn isolate(kind: &Kind, live: &Value, new: &mut Value, subresource: &str) {
    let carry = |new: &mut Value, field: &str| {
        if let Some(map) = new.as_object_mut() {
            match live.get(field) {
                Some(value) => {
                    map.insert(field.to_owned(), value.clone());
                }
                None => {
                    map.remove(field);
                }
            }
        }
    };
    if subresource == "status" {
        let managed = at(new, &["metadata", "managedFields"]).cloned();
        let status = new.get("status").cloned();
        let metadata = new.get("metadata").cloned();
        *new = live.clone();
        if !kind.custom
            && let Some(metadata) = metadata
        {
            new["metadata"] = metadata;
        }
        if let Some(map) = new.as_object_mut() {
            match status {
                Some(status) => {
                    map.insert("status".to_owned(), status);
                }
                None => {
                    map.remove("status");
                }
            }
        }
        match managed {
            Some(managed) => metadata_mut(new).insert("managedFields".to_owned(), managed),
            None => metadata_mut(new).remove("managedFields"),
        };
    } else if subresource == "finalize" {
        let finalizers = at(new, &["spec", "finalizers"]).cloned();
        *new = live.clone();
        if let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) {
            match finalizers {
                Some(finalizers) => {
                    spec.insert("finalizers".to_owned(), finalizers);
                }
                None => {
                    spec.remove("finalizers");
                }
            }
        }
    } else if kind.has_status {
        carry(new, "status");
        if kind.table == "namespaces" {
            carry(new, "spec");
        }
    }
    let before = at(live, &["metadata"]).cloned().unwrap_or_default();
    let metadata = metadata_mut(new);
    for field in [
        "uid",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "resourceVersion",
        "namespace",
        "generateName",
    ] {
        match before.get(field) {
            Some(value) => {
                metadata.insert(field.to_owned(), value.clone());
            }
            None => {
                metadata.remove(field);
            }
        }
    }
}

/// The generation counts changes of what is wanted.
pub(super) fn generation(kind: &Kind, live: &Value, new: &mut Value) {
    if !kind.has_generation {
        return;
    }
    let wanted = |value: &Value| {
        let mut value = value.clone();
        if let Some(map) = value.as_object_mut() {
            map.remove("metadata");
            if kind.has_status {
                map.remove("status");
            }
        }
        value
    };
    if wanted(live) != wanted(new) {
        let before = at(live, &["metadata", "generation"])
            .and_then(Value::as_u64)
            .unwrap_or(0);
        metadata_mut(new).insert("generation".to_owned(), json!(before + 1));
    }
}

/// A namespace also waits for the finalizers of its spec.
pub(super) fn namespace_is_finished(kind: &Kind, object: &Value) -> bool {
    kind.table != "namespaces"
        || at(object, &["spec", "finalizers"])
            .and_then(Value::as_array)
            .is_none_or(Vec::is_empty)
}
