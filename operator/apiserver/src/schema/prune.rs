//! Dropping what the schema does not know, and what decoding into a Go struct would not keep.

use serde_json::{Map, Value};

use super::{Schema, Type, builtin};
use crate::kinds::limits;

/// Removes unknown fields from `value` and adds their paths to `unknown`, as `spec.ports[0].colour`.
pub fn unknown_fields(schema: &Schema, value: &mut Value, path: &str, unknown: &mut Vec<String>) {
    let node = schema.resolve();
    match value {
        Value::Object(map) => {
            if node.kind.is_none()
                && node.properties.is_empty()
                && !node.int_or_string
                && node.reference.is_none()
            {
                // No schema at all; only what an alternative describes is not known here.
                return;
            }
            if node.embedded {
                embedded(map, path, unknown);
            }
            let names: Vec<String> = map.keys().cloned().collect();
            for name in names {
                let inner = join(path, &name);
                if node.embedded && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                    continue;
                }
                match node.field(&name) {
                    Some((field, _)) => {
                        if let Some(value) = map.get_mut(&name) {
                            unknown_fields(field, value, &inner, unknown);
                        }
                    }
                    None if node.preserve_unknown => {}
                    None => {
                        map.remove(&name);
                        unknown.push(inner);
                    }
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = node.items.as_deref() {
                for (index, value) in list.iter_mut().enumerate() {
                    unknown_fields(items, value, &format!("{path}[{index}]"), unknown);
                }
            }
        }
        _ => {}
    }
}

fn embedded(map: &mut Map<String, Value>, path: &str, unknown: &mut Vec<String>) {
    if let (Some(metadata), Some(schema)) = (map.get_mut("metadata"), builtin::object_meta()) {
        unknown_fields(schema, metadata, &join(path, "metadata"), unknown);
    }
}

pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// What a round trip through the Go structs of built-in types does: null is absent, empty lists and empty maps of
/// strings are absent. Structs stay, even empty ones (`emptyDir: {}` means something).
pub fn normalise(schema: &Schema, value: &mut Value) {
    let node = schema.resolve();
    if schema
        .reference
        .as_deref()
        .is_some_and(|name| name.ends_with(".Quantity"))
    {
        let text = match value {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.clone(),
            _ => return,
        };
        *value = Value::String(limits::canonical_quantity(&text).unwrap_or(text));
        return;
    }
    match value {
        Value::Object(map) => {
            let plain = node.properties.is_empty();
            map.retain(|_, value| !value.is_null() || plain);
            for (name, value) in map.iter_mut() {
                if let Some((field, _)) = node.field(name) {
                    if value.is_null() && field.resolve().kind == Some(Type::String) {
                        *value = Value::String(String::new());
                    }
                    normalise(field, value);
                }
            }
            if node.preserve_unknown {
                return;
            }
            map.retain(|name, value| {
                let Some((field, _)) = node.field(name) else {
                    return true;
                };
                let field = field.resolve();
                match value {
                    Value::Array(list) => !list.is_empty(),
                    Value::Object(fields) => {
                        !fields.is_empty() || field.additional.is_none() || !field.properties.is_empty()
                    }
                    _ => true,
                }
            });
        }
        Value::Array(list) => {
            if let Some(items) = node.items.as_deref() {
                for value in list {
                    normalise(items, value);
                }
            }
        }
        _ => {}
    }
}
