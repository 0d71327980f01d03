//! Values under a schema: which fields a value has, how two values differ, merging, and removing fields.

use serde_json::{Map, Value};

use super::{element, fields::Fields};
use crate::schema::{Atom, ListType, Schema};

/// How two values differ.
#[derive(Debug, Clone, Default)]
pub struct Comparison {
    /// Only in the new one.
    pub added: Fields,
    /// Only in the old one.
    pub removed: Fields,
    /// In both, with other values.
    pub modified: Fields,
}

impl Comparison {
    /// Whether the two are the same.
    pub fn is_same(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.modified.is_empty()
    }

    /// Added and modified fields.
    pub fn set(&self) -> Fields {
        self.added.union(&self.modified)
    }

    /// Without fields in or below `ignored`.
    pub fn without(&self, ignored: &Fields) -> Self {
        Self {
            added: self.added.difference_below(ignored),
            removed: self.removed.difference_below(ignored),
            modified: self.modified.difference_below(ignored),
        }
    }
}

/// The schema of anything at all: maps by field, lists as a whole.
fn anything() -> &'static Schema {
    static ANYTHING: std::sync::LazyLock<Schema> = std::sync::LazyLock::new(Schema::default);
    &ANYTHING
}

enum Shape<'s> {
    Leaf,
    Map,
    List(&'s ListType),
}

fn shape<'s>(schema: &'s Schema, value: &Value) -> Shape<'s> {
    match schema.atom() {
        Atom::Leaf => Shape::Leaf,
        Atom::Map if value.is_object() => Shape::Map,
        Atom::List(kind) if value.is_array() => Shape::List(kind),
        Atom::Map | Atom::List(_) => Shape::Leaf,
        Atom::Deduced if value.is_object() => Shape::Map,
        Atom::Deduced => Shape::Leaf,
    }
}

fn child<'s>(schema: &'s Schema, name: &str) -> (&'s Schema, bool) {
    schema.field(name).unwrap_or((anything(), false))
}

fn items(schema: &Schema) -> &Schema {
    schema.element().unwrap_or(anything())
}

fn field_element(name: &str) -> String {
    format!("f:{name}")
}

/// The fields of a value, as the set that an applier owns.
pub fn fields_of(schema: &Schema, value: &Value) -> Fields {
    let mut fields = Fields::default();
    collect(schema, value, &mut Vec::new(), &mut fields);
    fields
}

fn collect(schema: &Schema, value: &Value, path: &mut Vec<String>, fields: &mut Fields) {
    match shape(schema, value) {
        Shape::Leaf => fields.insert(path),
        Shape::Map => {
            for (name, value) in value.as_object().into_iter().flatten() {
                let (field, named) = child(schema, name);
                path.push(field_element(name));
                collect(field, value, path, fields);
                let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                if empty || !named {
                    fields.insert(path);
                }
                path.pop();
            }
        }
        Shape::List(kind) => {
            for value in value.as_array().into_iter().flatten() {
                let Some(name) = element(schema, kind, value) else {
                    continue;
                };
                path.push(name);
                collect(items(schema), value, path, fields);
                fields.insert(path);
                path.pop();
            }
        }
    }
}

/// Compares two values of one schema.
pub fn compare(schema: &Schema, old: &Value, new: &Value) -> Comparison {
    let mut comparison = Comparison::default();
    difference(schema, Some(old), Some(new), &mut Vec::new(), &mut comparison);
    comparison
}

fn difference(
    schema: &Schema,
    old: Option<&Value>,
    new: Option<&Value>,
    path: &mut Vec<String>,
    out: &mut Comparison,
) {
    let sample = match (old, new) {
        (_, Some(new)) if !new.is_null() => new,
        (Some(old), _) => old,
        (None, Some(new)) => new,
        (None, None) => return,
    };
    let length = |value: Option<&Value>| match value {
        Some(Value::Object(map)) => map.len(),
        Some(Value::Array(list)) => list.len(),
        _ => 0,
    };
    let composite = |value: Option<&Value>| {
        value.is_none_or(|value| value.is_object() || value.is_array() || value.is_null())
    };
    let shape = if composite(old) && composite(new) {
        shape(schema, sample)
    } else {
        Shape::Leaf
    };
    let empty = length(old) == 0 && length(new) == 0;
    match shape {
        Shape::Map if !empty => {
            let before = old.and_then(Value::as_object);
            let after = new.and_then(Value::as_object);
            let mut names: Vec<&String> = before.into_iter().chain(after).flat_map(Map::keys).collect();
            names.sort();
            names.dedup();
            for name in names {
                path.push(field_element(name));
                let (field, _) = child(schema, name);
                difference(
                    field,
                    before.and_then(|map| map.get(name)),
                    after.and_then(|map| map.get(name)),
                    path,
                    out,
                );
                path.pop();
            }
        }
        Shape::List(kind) if !empty => {
            let indexed = |value: Option<&'_ Value>| -> Vec<(String, Value)> {
                value
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(|value| Some((element(schema, kind, value)?, value.clone())))
                    .collect()
            };
            let before: std::collections::BTreeMap<String, Value> = indexed(old).into_iter().collect();
            let after: std::collections::BTreeMap<String, Value> = indexed(new).into_iter().collect();
            let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                path.push(name.clone());
                difference(items(schema), before.get(name), after.get(name), path, out);
                path.pop();
            }
        }
        _ => match (old, new) {
            (None, Some(_)) => out.added.insert(path),
            (Some(_), None) => out.removed.insert(path),
            (Some(old), Some(new)) if old != new => out.modified.insert(path),
            _ => {}
        },
    }
    if old.is_none() {
        out.added.insert(path);
    } else if new.is_none() {
        out.removed.insert(path);
    }
}

/// Lays `config` over `live`: fields of `config` win, lists merge as the schema says. Elements of merging lists keep the
/// order of `live`, those that are new come in the order of `config`.
pub fn merge(schema: &Schema, live: &Value, config: &Value) -> Value {
    match (shape(schema, config), live) {
        (Shape::Map, Value::Object(live)) => {
            let mut merged = live.clone();
            for (name, value) in config.as_object().into_iter().flatten() {
                let (field, _) = child(schema, name);
                let value = match live.get(name) {
                    Some(live) => merge(field, live, value),
                    None => value.clone(),
                };
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (Shape::List(kind), Value::Array(live)) => {
            let theirs: Vec<(Option<String>, &Value)> = config
                .as_array()
                .into_iter()
                .flatten()
                .map(|value| (element(schema, kind, value), value))
                .collect();
            Value::Array(merge_lists(schema, kind, live, &theirs))
        }
        _ => config.clone(),
    }
}

/// Elements of both lists once. What both name comes in the order of `config`; what only `live` has keeps its place before
/// what follows it there, and comes before what is new.
fn merge_lists(
    schema: &Schema,
    kind: &ListType,
    live: &[Value],
    config: &[(Option<String>, &Value)],
) -> Vec<Value> {
    let mut merged = Vec::with_capacity(live.len() + config.len());
    let mine: Vec<Option<String>> = live.iter().map(|value| element(schema, kind, value)).collect();
    let place = |name: &Option<String>| {
        name.as_ref()
            .and_then(|name| mine.iter().position(|mine| mine.as_ref() == Some(name)))
    };
    let places: Vec<Option<usize>> = config.iter().map(|(name, _)| place(name)).collect();
    let mut next = 0;
    for (index, (_, value)) in config.iter().enumerate() {
        // The next element that both have: what only the live list has before it goes first.
        let shared = places[index..].iter().flatten().next().copied();
        while next < live.len() && Some(next) != shared {
            if !places.contains(&Some(next)) {
                merged.push(live[next].clone());
            }
            next += 1;
        }
        match places[index] {
            Some(position) => {
                merged.push(merge(items(schema), &live[position], value));
                next = next.max(position + 1);
            }
            None => merged.push((*value).clone()),
        }
    }
    for (index, value) in live.iter().enumerate().skip(next) {
        if !places.contains(&Some(index)) {
            merged.push(value.clone());
        }
    }
    merged
}

/// The value without the fields of `remove`. What becomes empty by it goes too.
pub fn remove(schema: &Schema, value: &Value, remove_fields: &Fields) -> Value {
    removed(schema, value, remove_fields).unwrap_or(Value::Null)
}

fn removed(schema: &Schema, value: &Value, gone: &Fields) -> Option<Value> {
    match shape(schema, value) {
        Shape::Leaf => Some(value.clone()),
        Shape::Map => {
            let map = value.as_object()?;
            let mut kept = Map::new();
            for (name, value) in map {
                let element = field_element(name);
                if gone.has(&element) {
                    continue;
                }
                let value = match gone.below(&element) {
                    Some(below) => removed(child(schema, name).0, value, below),
                    None => Some(value.clone()),
                };
                if let Some(value) = value {
                    kept.insert(name.clone(), value);
                }
            }
            (!kept.is_empty() || map.is_empty()).then_some(Value::Object(kept))
        }
        Shape::List(kind) => {
            let list = value.as_array()?;
            let mut kept = Vec::new();
            for value in list {
                let Some(name) = element(schema, kind, value) else {
                    kept.push(value.clone());
                    continue;
                };
                if gone.has(&name) {
                    continue;
                }
                let value = match gone.below(&name) {
                    Some(below) => removed(items(schema), value, below),
                    None => Some(value.clone()),
                };
                kept.extend(value);
            }
            (!kept.is_empty() || list.is_empty()).then_some(Value::Array(kept))
        }
    }
}

/// Adds to a set the fields with names that lead to its members, as a set that removing takes must have them.
pub fn with_named(schema: &Schema, fields: &Fields) -> Fields {
    let mut all = fields.clone();
    all.mark(&mut Vec::new(), &|path| is_named(schema, path));
    all
}

fn is_named(schema: &Schema, path: &[String]) -> bool {
    let mut node = schema;
    let mut named = false;
    for element in path {
        if let Some(name) = element.strip_prefix("f:") {
            (node, named) = child(node, name);
        } else {
            node = items(node);
            named = false;
        }
    }
    named
}
