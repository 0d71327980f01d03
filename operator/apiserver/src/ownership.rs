//! Who owns which field: sets of fields (`fields`), what objects say about themselves under a schema (`typed`), and
//! the bookkeeping in `metadata.managedFields` (`managers`). After KEP-555 and its merge rules: a change by others takes
//! a field away from its owners, an apply that would change a field of another manager is a conflict.

use serde_json::{Map, Value};

use crate::schema::{ListType, Schema};

pub mod fields;
pub mod managers;
pub mod typed;

/// How an element of a list is named in a set of fields: `k:{"name":"x"}` or `v:"x"`. Keys that are absent count with
/// their default. None for a list that does not merge, and for an element without its keys.
pub fn element(list: &Schema, kind: &ListType, value: &Value) -> Option<String> {
    match kind {
        ListType::Atomic => None,
        ListType::Set => Some(format!("v:{value}")),
        ListType::Map(keys) => {
            let items = list.element();
            let mut chosen = Map::new();
            for key in keys {
                let present = value.get(key).filter(|value| !value.is_null());
                let default = || {
                    let (field, _) = items?.field(key)?;
                    field.default.as_ref().or(field.resolve().default.as_ref())
                };
                match present.or_else(default) {
                    Some(value) => {
                        chosen.insert(key.clone(), value.clone());
                    }
                    None if value.is_object() => {}
                    None => return None,
                }
            }
            if chosen.is_empty() {
                return None;
            }
            Some(format!("k:{}", sorted(&chosen)))
        }
    }
}

/// The map as JSON with its names in order, whatever order `serde_json` keeps.
fn sorted(map: &Map<String, Value>) -> String {
    let mut names: Vec<&String> = map.keys().collect();
    names.sort();
    let fields: Vec<String> = names
        .into_iter()
        .map(|name| format!("{}:{}", Value::String(name.clone()), map[name]))
        .collect();
    format!("{{{}}}", fields.join(","))
}
