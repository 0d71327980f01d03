//! Looking into objects. An object is JSON; what is asked of its metadata everywhere has a name here.

use serde_json::{Map, Value, json};

/// The finalizer of a deletion that waits for dependents.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of a deletion that lets dependents go.
pub const ORPHAN: &str = "orphan";

/// The value at `path`, if all of it exists.
pub fn at<'v>(value: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, name| value.get(name))
}

/// The text at `path`, or the empty string.
pub fn text<'v>(value: &'v Value, path: &[&str]) -> &'v str {
    at(value, path).and_then(Value::as_str).unwrap_or_default()
}

/// The object's name.
pub fn name(object: &Value) -> &str {
    text(object, &["metadata", "name"])
}

/// The object's namespace; empty for one of the cluster.
pub fn namespace(object: &Value) -> &str {
    text(object, &["metadata", "namespace"])
}

/// The object's UID.
pub fn uid(object: &Value) -> &str {
    text(object, &["metadata", "uid"])
}

/// The object's resource version; zero if there is none.
pub fn version(object: &Value) -> u64 {
    text(object, &["metadata", "resourceVersion"])
        .parse()
        .unwrap_or(0)
}

/// Whether deletion has begun.
pub fn is_deleting(object: &Value) -> bool {
    at(object, &["metadata", "deletionTimestamp"]).is_some_and(|stamp| !stamp.is_null())
}

/// The finalizers.
pub fn finalizers(object: &Value) -> Vec<&str> {
    at(object, &["metadata", "finalizers"])
        .and_then(Value::as_array)
        .map(|list| list.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}

/// Whether the object has this finalizer.
pub fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    finalizers(object).contains(&finalizer)
}

/// The owner references.
pub fn owners(object: &Value) -> &[Value] {
    at(object, &["metadata", "ownerReferences"])
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The metadata to be changed; made if absent, replaced if it is no map.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    child_mut(object, "metadata")
}

/// The map under `name`; made if absent, replaced if it is no map.
pub fn child_mut<'v>(value: &'v mut Value, name: &str) -> &'v mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    let slot = &mut value[name];
    if !slot.is_object() {
        *slot = json!({});
    }
    slot.as_object_mut().expect("it was made a map on the line above")
}

/// Removes a finalizer; an empty list goes too.
pub fn remove_finalizer(object: &mut Value, finalizer: &str) {
    let metadata = metadata_mut(object);
    if let Some(list) = metadata.get_mut("finalizers").and_then(Value::as_array_mut) {
        list.retain(|entry| entry.as_str() != Some(finalizer));
        if list.is_empty() {
            metadata.remove("finalizers");
        }
    }
}

/// Adds a finalizer if it is not there.
pub fn add_finalizer(object: &mut Value, finalizer: &str) {
    if has_finalizer(object, finalizer) {
        return;
    }
    let metadata = metadata_mut(object);
    match metadata.get_mut("finalizers").and_then(Value::as_array_mut) {
        Some(list) => list.push(json!(finalizer)),
        None => {
            metadata.insert("finalizers".to_owned(), json!([finalizer]));
        }
    }
}

/// Whether the two are equal but for what every write changes: version and times of managers.
pub fn same_content(one: &Value, other: &Value) -> bool {
    fn strip(value: &Value) -> Value {
        let mut value = value.clone();
        let metadata = metadata_mut(&mut value);
        metadata.remove("resourceVersion");
        if let Some(entries) = metadata.get_mut("managedFields").and_then(Value::as_array_mut) {
            for entry in entries {
                if let Some(entry) = entry.as_object_mut() {
                    entry.remove("time");
                }
            }
        }
        value
    }
    one == other || strip(one) == strip(other)
}
