//! Holding a value against its schema. The messages are those of the real server: people know them, and tests that
//! quote them hold against both.
//!
//! On updates, what has not changed is not held against anyone (CRD validation ratcheting, KEP-4008): a schema may have
//! become stricter than objects that exist.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{ListType, Schema, Type, prune::join};
use crate::{ownership::element, status::Cause};

/// Adds what is wrong with `value` to `causes`. `old` is the value that it replaces.
pub fn check(schema: &Schema, value: &Value, old: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
    if old.is_some_and(|old| old == value) {
        return;
    }
    let node = schema.resolve();
    if value.is_null() && (node.nullable || (node.kind.is_none() && !node.int_or_string)) {
        return;
    }
    if node.int_or_string {
        if !(value.is_string() || value.is_i64() || value.is_u64()) {
            causes.push(type_cause(path, value, "integer,string"));
            return;
        }
    } else if let Some(kind) = node.kind
        && !is_of(kind, value)
    {
        causes.push(type_cause(path, value, kind.as_str()));
        return;
    }
    let before = causes.len();
    alternatives(node, value, path, causes);
    match value {
        Value::Object(map) => {
            for name in &node.required {
                if !map.contains_key(name) {
                    causes.push(cause("FieldValueRequired", "Required value", &join(path, name)));
                }
            }
            if node.max_properties.is_some_and(|limit| map.len() > limit) {
                let limit = node.max_properties.unwrap_or_default();
                let message = format!("Too many: {}: must have at most {limit} items", map.len());
                causes.push(cause("FieldValueTooMany", &message, path));
            }
            if node.min_properties.is_some_and(|limit| map.len() < limit) {
                let limit = node.min_properties.unwrap_or_default();
                let message = format!("{path} in body should have at least {limit} properties");
                causes.push(invalid_value(value, &message, path));
            }
            for (name, value) in map {
                if let Some((field, named)) = node.field(name) {
                    let old = old.and_then(|old| old.get(name));
                    let inner = if named {
                        join(path, name)
                    } else if path.is_empty() {
                        name.clone()
                    } else {
                        format!("{path}.{name}")
                    };
                    check(field, value, old, &inner, causes);
                }
            }
        }
        Value::Array(list) => array(schema, node, list, old, path, causes),
        Value::String(text) => string(node, text, path, causes),
        Value::Number(number) => {
            if let Some(number) = number.as_f64() {
                bounds(node, value, number, path, causes);
            }
        }
        _ => {}
    }
    if causes.len() == before
        && let Some(allowed) = &node.allowed
        && !allowed.contains(value)
    {
        let list: Vec<String> = allowed.iter().map(Value::to_string).collect();
        let message = format!(
            "Unsupported value: {value}: supported values: {}",
            list.join(", ")
        );
        causes.push(cause("FieldValueNotSupported", &message, path));
    }
}

fn cause(reason: &'static str, message: &str, path: &str) -> Cause {
    Cause {
        reason,
        message: message.to_owned(),
        field: path.to_owned(),
    }
}

/// A value as messages show it: whole maps and lists by their type.
fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "\"object\"".to_owned(),
        Value::Array(_) => "\"array\"".to_owned(),
        Value::Null => "\"null\"".to_owned(),
        other => other.to_string(),
    }
}

fn invalid_value(value: &Value, message: &str, path: &str) -> Cause {
    cause(
        "FieldValueInvalid",
        &format!("Invalid value: {}: {message}", shown(value)),
        path,
    )
}

fn type_cause(path: &str, value: &Value, expected: &str) -> Cause {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let message =
        format!("Invalid value: \"{found}\": {path} in body must be of type {expected}: \"{found}\"");
    cause("FieldValueTypeInvalid", &message, path)
}

fn is_of(kind: Type, value: &Value) -> bool {
    match kind {
        Type::Object => value.is_object(),
        Type::Array => value.is_array(),
        Type::String => value.is_string(),
        Type::Boolean => value.is_boolean(),
        Type::Number => value.is_number(),
        Type::Integer => {
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
    }
}

fn alternatives(node: &Schema, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let holds = |schema: &Schema| {
        let mut found = Vec::new();
        check(schema, value, None, path, &mut found);
        found
    };
    for schema in &node.all_of {
        causes.extend(holds(schema));
    }
    if !node.any_of.is_empty() && !node.any_of.iter().any(|schema| holds(schema).is_empty()) {
        let message = format!("{path} in body must validate at least one schema (anyOf)");
        causes.push(cause(
            "FieldValueInvalid",
            &format!("Invalid value: {message}"),
            path,
        ));
        if let Some(first) = node.any_of.first() {
            causes.extend(holds(first));
        }
    }
    if !node.one_of.is_empty() {
        let valid = node
            .one_of
            .iter()
            .filter(|schema| holds(schema).is_empty())
            .count();
        if valid != 1 {
            let detail = if valid == 0 {
                "Found none valid"
            } else {
                "Found more than one valid"
            };
            let message = format!(
                "Invalid value: {path} in body must validate one and only one schema (oneOf). {detail}"
            );
            causes.push(cause("FieldValueInvalid", &message, path));
        }
    }
    if node.not.as_ref().is_some_and(|schema| holds(schema).is_empty()) {
        let message = format!("Invalid value: {path} in body must not validate the schema (not)");
        causes.push(cause("FieldValueInvalid", &message, path));
    }
}

fn array(
    schema: &Schema,
    node: &Schema,
    list: &[Value],
    old: Option<&Value>,
    path: &str,
    causes: &mut Vec<Cause>,
) {
    if let Some(limit) = node.max_items
        && list.len() > limit
    {
        let message = format!("Too many: {}: must have at most {limit} items", list.len());
        causes.push(cause("FieldValueTooMany", &message, path));
    }
    if let Some(limit) = node.min_items
        && list.len() < limit
    {
        let message = format!("{path} in body should have at least {limit} items");
        causes.push(invalid_value(&Value::Array(Vec::new()), &message, path));
    }
    let keyed = match &schema.list_type {
        ListType::Atomic => &node.list_type,
        kind => kind,
    };
    let unique = node.unique_items || *keyed != ListType::Atomic;
    let mut seen = BTreeSet::new();
    for (index, value) in list.iter().enumerate() {
        let inner = format!("{path}[{index}]");
        let key = element(node, keyed, value);
        if unique {
            let key = key.clone().unwrap_or_else(|| value.to_string());
            if !seen.insert(key) {
                let text = match keyed {
                    ListType::Map(keys) => {
                        let chosen: serde_json::Map<String, Value> = keys
                            .iter()
                            .filter_map(|name| value.get(name).map(|value| (name.clone(), value.clone())))
                            .collect();
                        Value::Object(chosen).to_string()
                    }
                    _ => value.to_string(),
                };
                causes.push(cause(
                    "FieldValueDuplicate",
                    &format!("Duplicate value: {text}"),
                    &inner,
                ));
            }
        }
        if let Some(items) = node.items.as_deref() {
            let old = match (keyed, &key) {
                (ListType::Map(_), Some(key)) => old.and_then(Value::as_array).and_then(|list| {
                    list.iter()
                        .find(|value| element(node, keyed, value).as_ref() == Some(key))
                }),
                _ => None,
            };
            check(items, value, old, &inner, causes);
        }
    }
}

fn string(node: &Schema, text: &str, path: &str, causes: &mut Vec<Cause>) {
    let length = text.chars().count();
    if let Some(limit) = node.max_length
        && length > limit
    {
        let message = format!("Too long: may not be more than {limit} bytes");
        causes.push(cause("FieldValueTooLong", &message, path));
        return;
    }
    let value = Value::String(text.to_owned());
    if let Some(limit) = node.min_length
        && length < limit
    {
        let message = format!("{path} in body should be at least {limit} chars long");
        causes.push(invalid_value(&value, &message, path));
    }
    if let Some((pattern, compiled)) = &node.pattern
        && !compiled.is_match(text)
    {
        let message = format!("{path} in body should match '{pattern}'");
        causes.push(invalid_value(&value, &message, path));
    }
    if let Some(format) = &node.format
        && !has_format(format, text)
    {
        let message = format!("{path} in body must be of type {format}: {value}");
        let message = format!("Invalid value: {value}: {message}");
        causes.push(cause("FieldValueTypeInvalid", &message, path));
    }
}

fn bounds(node: &Schema, value: &Value, number: f64, path: &str, causes: &mut Vec<Cause>) {
    let whole = |bound: f64| -> String {
        if bound.fract() == 0.0 {
            format!("{bound:.0}")
        } else {
            bound.to_string()
        }
    };
    if let Some((bound, excluded)) = node.minimum
        && (number < bound || (excluded && number == bound))
    {
        let relation = if excluded {
            "greater than"
        } else {
            "greater than or equal to"
        };
        let message = format!("{path} in body should be {relation} {}", whole(bound));
        causes.push(invalid_value(value, &message, path));
    }
    if let Some((bound, excluded)) = node.maximum
        && (number > bound || (excluded && number == bound))
    {
        let relation = if excluded {
            "less than"
        } else {
            "less than or equal to"
        };
        let message = format!("{path} in body should be {relation} {}", whole(bound));
        causes.push(invalid_value(value, &message, path));
    }
    if let Some(factor) = node.multiple_of
        && factor > 0.0
        && (number / factor).fract() != 0.0
    {
        let message = format!("{path} in body should be a multiple of {}", whole(factor));
        causes.push(invalid_value(value, &message, path));
    }
    let fits = match node.format.as_deref() {
        Some("int32") => (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number),
        _ => true,
    };
    if !fits {
        let message = format!("Checked value must be of type integer with format int32 in {path}");
        causes.push(invalid_value(value, &message, path));
    }
}

/// The formats that the API server checks and that are seen in practice; all others are documentation.
fn has_format(format: &str, text: &str) -> bool {
    match format {
        "date-time" | "datetime" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.parse::<jiff::civil::Date>().is_ok(),
        "duration" => is_go_duration(text),
        "byte" => base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).is_ok(),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "uuid" => {
            text.len() == 36
                && text.char_indices().all(|(index, digit)| match index {
                    8 | 13 | 18 | 23 => digit == '-',
                    _ => digit.is_ascii_hexdigit(),
                })
        }
        "hostname" => {
            !text.is_empty()
                && text.len() <= 255
                && text.split('.').all(|label| {
                    !label.is_empty()
                        && label.len() <= 63
                        && !label.starts_with('-')
                        && !label.ends_with('-')
                        && label
                            .chars()
                            .all(|digit| digit.is_ascii_alphanumeric() || digit == '-')
                })
        }
        "cidr" => text.split_once('/').is_some_and(|(address, bits)| {
            match (address.parse::<std::net::IpAddr>(), bits.parse::<u8>()) {
                (Ok(std::net::IpAddr::V4(_)), Ok(bits)) => bits <= 32,
                (Ok(std::net::IpAddr::V6(_)), Ok(bits)) => bits <= 128,
                _ => false,
            }
        }),
        _ => true,
    }
}

/// Whether this is a duration of Go's `time.ParseDuration`, as `1h30m` or `1.5s`.
fn is_go_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|digit: char| !digit.is_ascii_digit() && digit != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        if number.parse::<f64>().is_err() {
            return false;
        }
        let Some(unit) = ["ns", "us", "µs", "ms", "s", "m", "h"]
            .into_iter()
            .filter(|unit| tail.starts_with(unit))
            .max_by_key(|unit| unit.len())
        else {
            return false;
        };
        rest = &tail[unit.len()..];
    }
    true
}
