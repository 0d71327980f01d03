//! Strategic merge patch: merge patch in which lists with a merge key merge by element. What `kubectl` sends is
//! understood: `$patch` (replace, delete, merge), `$setElementOrder/…`, `$deleteFromPrimitiveList/…`, `$retainKeys`.

use serde_json::{Map, Value};

use crate::{schema::Schema, status::Failure};

const DIRECTIVE: &str = "$patch";
const ORDER: &str = "$setElementOrder/";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const RETAIN: &str = "$retainKeys";

/// Applies `patch` to `target`.
///
/// # Errors
/// `Failure::BadRequest` for a directive that is not understood, and for elements without their key.
pub fn apply(schema: &Schema, target: &mut Value, patch: &Value) -> Result<(), Failure> {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    match patch.get(DIRECTIVE).and_then(Value::as_str) {
        Some("replace") => {
            let mut replacement = patch.clone();
            replacement.remove(DIRECTIVE);
            *target = Value::Object(replacement);
            return Ok(());
        }
        Some("delete") => {
            *target = Value::Object(Map::new());
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => {
            return Err(Failure::BadRequest(format!("unknown patch type: {other}")));
        }
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(map) = target.as_object_mut() else {
        return Ok(());
    };
    if let Some(retained) = patch.get(RETAIN).and_then(Value::as_array) {
        map.retain(|name, _| retained.iter().any(|kept| kept.as_str() == Some(name)));
    }
    for (name, value) in patch {
        if name == DIRECTIVE || name == RETAIN || name.starts_with(ORDER) {
            continue;
        }
        if let Some(list) = name.strip_prefix(DELETE_FROM) {
            if let (Some(Value::Array(present)), Some(gone)) = (map.get_mut(list), value.as_array()) {
                present.retain(|value| !gone.contains(value));
            }
            continue;
        }
        if value.is_null() {
            map.remove(name);
            continue;
        }
        let anything = Schema::default();
        let field = schema.field(name).map_or(&anything, |(field, _)| field);
        let order = patch.get(&format!("{ORDER}{name}"));
        match (value, &field.patch_key) {
            (Value::Array(list), Some(key)) => {
                let slot = map
                    .entry(name.clone())
                    .or_insert_with(|| Value::Array(Vec::new()));
                if !slot.is_array() {
                    *slot = Value::Array(Vec::new());
                }
                if let Some(present) = slot.as_array_mut() {
                    merge_list(field, key, present, list)?;
                    reorder(key, present, order);
                }
            }
            (Value::Object(_), _) => {
                apply(field, map.entry(name.clone()).or_insert(Value::Null), value)?;
            }
            _ => {
                map.insert(name.clone(), value.clone());
            }
        }
    }
    // Only the order of a list that the patch does not touch otherwise.
    for (name, order) in patch {
        if let Some(name) = name.strip_prefix(ORDER)
            && !patch.contains_key(name)
            && let Some((field, _)) = schema.field(name)
            && let Some(key) = &field.patch_key
            && let Some(Value::Array(present)) = map.get_mut(name)
        {
            reorder(key, present, Some(order));
        }
    }
    Ok(())
}

fn merge_list(field: &Schema, key: &str, present: &mut Vec<Value>, patch: &[Value]) -> Result<(), Failure> {
    if key.is_empty() {
        for value in patch {
            if !present.contains(value) {
                present.push(value.clone());
            }
        }
        return Ok(());
    }
    let anything = Schema::default();
    let items = field.element().unwrap_or(&anything);
    if patch.iter().any(|value| {
        value.get(DIRECTIVE).and_then(Value::as_str) == Some("replace") && value.get(key).is_none()
    }) {
        *present = patch
            .iter()
            .filter(|value| value.get(DIRECTIVE).is_none())
            .cloned()
            .collect();
        return Ok(());
    }
    for value in patch {
        let Some(identity) = value.get(key) else {
            return Err(Failure::BadRequest(format!(
                "map: {value} does not contain declared merge key: {key}"
            )));
        };
        let position = present
            .iter()
            .position(|element| element.get(key) == Some(identity));
        match (value.get(DIRECTIVE).and_then(Value::as_str), position) {
            (Some("delete"), _) => present.retain(|element| element.get(key) != Some(identity)),
            (_, Some(position)) => apply(items, &mut present[position], value)?,
            (_, None) => {
                let mut fresh = Value::Object(Map::new());
                apply(items, &mut fresh, value)?;
                present.push(fresh);
            }
        }
    }
    Ok(())
}

/// Puts the elements that `order` names into that order; the others keep their place relative to what was before them.
fn reorder(key: &str, present: &mut Vec<Value>, order: Option<&Value>) {
    let Some(order) = order.and_then(Value::as_array) else {
        return;
    };
    let rank = |value: &Value| {
        order.iter().position(|entry| {
            if key.is_empty() {
                entry == value
            } else {
                entry.get(key).is_some() && entry.get(key) == value.get(key)
            }
        })
    };
    let mut last = 0;
    let mut ranked: Vec<((usize, usize), Value)> = Vec::with_capacity(present.len());
    for (index, value) in present.drain(..).enumerate() {
        let place = match rank(&value) {
            Some(rank) => {
                last = rank;
                (rank, 0)
            }
            None => (last, index + 1),
        };
        ranked.push((place, value));
    }
    ranked.sort_by_key(|(place, _)| *place);
    present.extend(ranked.into_iter().map(|(_, value)| value));
}
