//! Filling in what is absent.

use serde_json::Value;

use super::Schema;

/// Gives absent fields the defaults of the schema, in `value` and below. A null where null is no value counts as absent
/// if there is a default. Defaults have defaults in them.
pub fn apply(schema: &Schema, value: &mut Value) {
    let node = schema.resolve();
    match value {
        Value::Object(map) => {
            for (name, field) in &node.properties {
                let default = field.default.as_ref().or(field.resolve().default.as_ref());
                let Some(default) = default else { continue };
                let absent = map
                    .get(name)
                    .is_none_or(|value| value.is_null() && !field.resolve().nullable);
                if absent {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in map.iter_mut() {
                if let Some((field, _)) = node.field(name) {
                    apply(field, value);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = node.items.as_deref() {
                for value in list {
                    apply(items, value);
                }
            }
        }
        _ => {}
    }
}

/// Removes nulls where null is no value and there is no default, as the API server does before it validates.
pub fn drop_nulls(schema: &Schema, value: &mut Value) {
    let node = schema.resolve();
    match value {
        Value::Object(map) => {
            map.retain(|name, value| match node.properties.get(name) {
                Some(field) => {
                    let field = field.resolve();
                    !value.is_null() || field.nullable || field.default.is_none()
                }
                None => true,
            });
            for (name, value) in map.iter_mut() {
                if let Some((field, _)) = node.field(name) {
                    drop_nulls(field, value);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = node.items.as_deref() {
                for value in list {
                    drop_nulls(items, value);
                }
            }
        }
        _ => {}
    }
}
