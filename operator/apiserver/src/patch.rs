//! The three older kinds of patches: JSON patch (RFC 6902), merge patch (RFC 7396) and strategic merge patch (built-in
//! kinds only). Server-side apply is in `crate::ownership`.

use serde_json::{Map, Value};

use crate::{schema::Schema, status::Failure};

pub mod strategic;

/// Operations that one JSON patch may have; the real server's limit.
pub const OPERATIONS_MAX: usize = 10_000;

/// Merge patch: null removes, maps merge, all else replaces.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Some(map) = target.as_object_mut() {
        for (name, value) in patch {
            if value.is_null() {
                map.remove(name);
            } else {
                merge(map.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
    }
}

/// Strategic merge patch.
///
/// # Errors
/// `Failure::BadRequest` for a directive that is not understood.
pub fn strategic(schema: &Schema, target: &mut Value, patch: &Value) -> Result<(), Failure> {
    strategic::apply(schema, target, patch)
}

/// JSON patch. As the Go library that Kubernetes uses: testing an absent path against null succeeds, and so does
/// replacing nothing by `add` of an existing field.
///
/// # Errors
/// `Failure::BadRequest` for what is no JSON patch, `Failure::PatchDoesNotFit` for one that does not fit the object.
pub fn json(target: &mut Value, patch: &Value) -> Result<(), Failure> {
    let Some(operations) = patch.as_array() else {
        return Err(Failure::BadRequest(
            "error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch"
                .to_owned(),
        ));
    };
    if operations.len() > OPERATIONS_MAX {
        return Err(Failure::TooLarge(OPERATIONS_MAX));
    }
    for operation in operations {
        // The real server keeps the reason to itself.
        step(target, operation).map_err(|_| Failure::PatchDoesNotFit)?;
    }
    Ok(())
}

fn step(target: &mut Value, operation: &Value) -> Result<(), String> {
    let text = |name: &str| operation.get(name).and_then(Value::as_str);
    let path = pointer(text("path").ok_or("an operation without a path")?)?;
    let value = || operation.get("value").cloned().unwrap_or(Value::Null);
    match text("op").unwrap_or_default() {
        "add" => add(target, &path, value()),
        "replace" => {
            let slot = find_mut(target, &path).ok_or_else(|| {
                format!(
                    "replace operation does not apply: doc is missing key: {}",
                    shown(&path)
                )
            })?;
            *slot = value();
            Ok(())
        }
        "remove" => take(target, &path).map(|_| ()),
        "test" => {
            let expected = value();
            let found = find(target, &path);
            match found {
                Some(found) if *found == expected => Ok(()),
                None if expected.is_null() => Ok(()),
                _ => Err(format!("testing path {} value failed", shown(&path))),
            }
        }
        "move" => {
            let from = pointer(text("from").ok_or("a move without a source")?)?;
            let value = take(target, &from)?;
            add(target, &path, value)
        }
        "copy" => {
            let from = pointer(text("from").ok_or("a copy without a source")?)?;
            let value = find(target, &from).cloned().ok_or_else(|| {
                format!(
                    "copy operation does not apply: doc is missing from path: {}",
                    shown(&from)
                )
            })?;
            add(target, &path, value)
        }
        other => Err(format!("Unexpected kind: {other}")),
    }
}

/// The parts of a JSON pointer (RFC 6901).
fn pointer(text: &str) -> Result<Vec<String>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let rest = text
        .strip_prefix('/')
        .ok_or_else(|| format!("path {text} does not start with a slash"))?;
    Ok(rest
        .split('/')
        .map(|part| part.replace("~1", "/").replace("~0", "~"))
        .collect())
}

fn shown(path: &[String]) -> String {
    path.iter().map(|part| format!("/{part}")).collect()
}

fn find<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, part| match value {
        Value::Object(map) => map.get(part),
        Value::Array(list) => list.get(part.parse::<usize>().ok()?),
        _ => None,
    })
}

fn find_mut<'v>(value: &'v mut Value, path: &[String]) -> Option<&'v mut Value> {
    path.iter().try_fold(value, |value, part| match value {
        Value::Object(map) => map.get_mut(part),
        Value::Array(list) => list.get_mut(part.parse::<usize>().ok()?),
        _ => None,
    })
}

fn add(target: &mut Value, path: &[String], value: Value) -> Result<(), String> {
    let Some((last, parents)) = path.split_last() else {
        *target = value;
        return Ok(());
    };
    let missing = || {
        format!(
            "add operation does not apply: doc is missing path: \"{}\"",
            shown(path)
        )
    };
    match find_mut(target, parents).ok_or_else(missing)? {
        Value::Object(map) => {
            map.insert(last.clone(), value);
            Ok(())
        }
        Value::Array(list) => {
            let index = if last == "-" {
                list.len()
            } else {
                last.parse::<usize>().map_err(|_| missing())?
            };
            if index > list.len() {
                return Err(format!("Unable to access invalid index: {index}"));
            }
            list.insert(index, value);
            Ok(())
        }
        _ => Err(missing()),
    }
}

fn take(target: &mut Value, path: &[String]) -> Result<Value, String> {
    let missing = || {
        format!(
            "remove operation does not apply: doc is missing path: {}",
            shown(path)
        )
    };
    let (last, parents) = path.split_last().ok_or_else(missing)?;
    match find_mut(target, parents).ok_or_else(missing)? {
        Value::Object(map) => map.remove(last).ok_or_else(missing),
        Value::Array(list) => {
            let index = last.parse::<usize>().map_err(|_| missing())?;
            if index >= list.len() {
                return Err(missing());
            }
            Ok(list.remove(index))
        }
        _ => Err(missing()),
    }
}
