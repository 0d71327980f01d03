//! Whether two texts of YAML are the same objects, whatever their order and layout.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use serde_json::Value;

/// Objects by what names them: version, kind, namespace, name.
pub type Objects = BTreeMap<String, Value>;

/// The objects of a text. Errors: it is no YAML, a document is no object, two objects have one name.
pub fn objects(text: &str) -> anyhow::Result<Objects> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).context("not YAML")?;
    let mut objects = Objects::new();
    for mut document in documents {
        normalise(&mut document);
        if document.is_null() {
            continue;
        }
        let part = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &document["metadata"];
        let parts = [
            part(&document["apiVersion"]),
            part(&document["kind"]),
            part(&metadata["namespace"]),
            part(&metadata["name"]),
        ];
        let name = parts.join(" ");
        if parts[0].is_empty() || parts[1].is_empty() || parts[3].is_empty() {
            bail!("a document is no object of Kubernetes: {name:?}");
        }
        if objects.insert(name.clone(), document).is_some() {
            bail!("{name} is there twice");
        }
    }
    Ok(objects)
}

/// Takes away what means nothing: nulls, empty maps of metadata, and how a number is written.
fn normalise(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, below| !below.is_null());
            for below in map.values_mut() {
                normalise(below);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(normalise),
        Value::Number(number) => {
            // JSON has one kind of number (RFC 8259, section 6).
            if let Some(float) = number.as_f64()
                && float.fract() == 0.0
                && float.abs() < 9e15
            {
                *value = Value::from(float as i64);
            }
        }
        _ => {}
    }
}

/// What is in one and not in the other, or different, by path; at most ten.
pub fn differences(wanted: &Objects, found: &Objects) -> Vec<String> {
    let mut differences = Vec::new();
    for (name, object) in wanted {
        match found.get(name) {
            Some(other) => compare(object, other, name, &mut differences),
            None => differences.push(format!("{name} is missing in the second")),
        }
    }
    for name in found.keys().filter(|name| !wanted.contains_key(*name)) {
        differences.push(format!("{name} is missing in the first"));
    }
    differences.truncate(10);
    differences
}

fn compare(one: &Value, other: &Value, path: &str, differences: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            for (key, value) in one {
                let below = other.get(key).unwrap_or(&Value::Null);
                compare(value, below, &format!("{path} {key}"), differences);
            }
            for key in other.keys().filter(|key| !one.contains_key(*key)) {
                differences.push(format!("{path} {key} is only in the second"));
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                compare(one, other, &format!("{path} [{index}]"), differences);
            }
        }
        _ if one == other => {}
        _ => differences.push(format!("{path}: {} and {}", shortened(one), shortened(other))),
    }
}

/// A value on at most some characters.
fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
