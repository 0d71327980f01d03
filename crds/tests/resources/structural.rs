//! What an API server checks of an object before the rules: unknown fields, types, bounds, words, patterns, lists that are maps or sets
//! (Kubernetes, "Specifying a structural schema"). As strict as `kubectl` asks it to be.

use regex::Regex;
use serde_json::Value;

/// Everything that is wrong with an object.
pub fn check(schema: &Value, object: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let known = ["apiVersion", "kind", "metadata"];
    for (key, value) in object.as_object().unwrap() {
        if known.contains(&key.as_str()) {
            continue;
        }
        match schema["properties"].get(key) {
            Some(below) => value_fits(below, value, key, &mut wrong),
            None => wrong.push(format!("unknown field {key}")),
        }
    }
    wrong
}

fn value_fits(schema: &Value, value: &Value, path: &str, wrong: &mut Vec<String>) {
    let type_fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some(other) => panic!("{path}: the schema has the type {other}"),
        None => {
            assert_eq!(
                schema["x-kubernetes-int-or-string"], true,
                "{path}: a schema without a type"
            );
            value.is_i64() || value.is_string()
        }
    };
    if !type_fits {
        wrong.push(format!("{path}: {value} is no {}", schema["type"]));
        return;
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        wrong.push(format!("{path}: {value} is none of {words:?}"));
    }
    match value {
        Value::String(text) => {
            let length = text.chars().count() as f64;
            let too_short = schema["minLength"].as_f64().is_some_and(|least| length < least);
            let too_long = schema["maxLength"].as_f64().is_some_and(|most| length > most);
            if too_short || too_long {
                wrong.push(format!("{path}: {text:?} is too short or too long"));
            }
            if let Some(pattern) = schema["pattern"].as_str()
                && !Regex::new(pattern).unwrap().is_match(text)
            {
                wrong.push(format!("{path}: {text:?} does not match {pattern}"));
            }
        }
        Value::Number(number) => {
            let number = number.as_f64().unwrap();
            let too_small = schema["minimum"].as_f64().is_some_and(|least| number < least);
            let too_large = schema["maximum"].as_f64().is_some_and(|most| number > most);
            if too_small || too_large {
                wrong.push(format!("{path}: {number} is too small or too large"));
            }
        }
        Value::Array(items) => list_fits(schema, items, path, wrong),
        Value::Object(map) => {
            for required in schema["required"].as_array().into_iter().flatten() {
                if !map.contains_key(required.as_str().unwrap()) {
                    wrong.push(format!("{path}: {required} is missing"));
                }
            }
            for (key, value) in map {
                let below = schema["properties"].get(key);
                match below.or_else(|| schema.get("additionalProperties")) {
                    Some(below) => value_fits(below, value, &format!("{path}.{key}"), wrong),
                    None => wrong.push(format!("{path}: unknown field {key}")),
                }
            }
        }
        _ => {}
    }
}

fn list_fits(schema: &Value, items: &[Value], path: &str, wrong: &mut Vec<String>) {
    let most = schema["maxItems"].as_u64().unwrap();
    if items.len() as u64 > most {
        wrong.push(format!("{path}: {} items, at most {most}", items.len()));
    }
    let identity = |item: &Value| -> Vec<Value> {
        match schema["x-kubernetes-list-map-keys"].as_array() {
            Some(keys) => keys
                .iter()
                .map(|key| item[key.as_str().unwrap()].clone())
                .collect(),
            None => vec![item.clone()],
        }
    };
    if matches!(schema["x-kubernetes-list-type"].as_str(), Some("set" | "map")) {
        let mut seen = Vec::new();
        for item in items {
            let identity = identity(item);
            if seen.contains(&identity) {
                wrong.push(format!("{path}: Duplicate value {identity:?}"));
            }
            seen.push(identity);
        }
    }
    for (index, item) in items.iter().enumerate() {
        value_fits(&schema["items"], item, &format!("{path}[{index}]"), wrong);
    }
}
