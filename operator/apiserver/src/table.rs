//! Objects as tables for people (`meta/v1.Table`), as `kubectl get` asks for them: columns of definitions by their
//! JSON paths, columns of built-in kinds by path or by a function here.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    kinds::{Column, Kind},
    object::{self, at, text},
};

/// A table of objects; `version` and `proceed` are those of the list.
pub fn table(kind: &Kind, objects: &[Value], metadata: Value, include: &str, now: Timestamp) -> Value {
    let mut definitions = vec![json!({
        "name": "Name", "type": "string", "format": "name",
        "description": "Name must be unique within a namespace.", "priority": 0,
    })];
    for column in &kind.columns {
        definitions.push(json!({
            "name": column.name, "type": column.kind, "format": column.format,
            "description": column.description, "priority": column.priority,
        }));
    }
    let rows: Vec<Value> = objects
        .iter()
        .map(|entry| {
            let mut cells = vec![json!(object::name(entry))];
            cells.extend(kind.columns.iter().map(|column| cell(column, entry, now)));
            let mut row = json!({"cells": cells});
            match include {
                "None" => {}
                "Object" => row["object"] = entry.clone(),
                _ => row["object"] = partial(entry),
            }
            row
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": definitions, "rows": rows,
    })
}

/// The metadata of an object alone (`PartialObjectMetadata`).
pub fn partial(entry: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": entry.get("metadata").cloned().unwrap_or_default(),
    })
}

fn cell(column: &Column, entry: &Value, now: Timestamp) -> Value {
    if let Some(function) = column.path.strip_prefix('=') {
        return json!(computed(function, entry, now));
    }
    let found = json_path(entry, &column.path);
    match (column.kind.as_str(), found) {
        (_, None | Some(Value::Null)) => match column.kind.as_str() {
            "date" => json!("<unknown>"),
            _ if column.path.starts_with('.') => Value::Null,
            _ => json!(""),
        },
        ("date", Some(Value::String(stamp))) => json!(stamp.parse::<Timestamp>().map_or_else(
            |_| "<invalid>".to_owned(),
            |since| duration(now.as_second() - since.as_second())
        )),
        ("integer", Some(Value::Number(number))) => match number.as_i64() {
            Some(number) => json!(number),
            None => json!(number),
        },
        ("string", Some(value)) => match value {
            Value::String(text) => json!(text),
            other => json!(other.to_string()),
        },
        (_, Some(value)) => value,
    }
}

/// The first value at a JSON path of the simple kind: `.status.conditions[?(@.type=="Ready")].status`, `.spec.a[0]`,
/// `.metadata.labels.a\.b`.
pub fn json_path(value: &Value, path: &str) -> Option<Value> {
    let mut current = value.clone();
    let mut rest = path.trim().trim_start_matches('{').trim_end_matches('}');
    rest = rest.strip_prefix('$').unwrap_or(rest);
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix('[') {
            let end = tail.find(']')?;
            let inside = &tail[..end];
            rest = &tail[end + 1..];
            current = index(&current, inside)?;
            continue;
        }
        let tail = rest.strip_prefix('.').unwrap_or(rest);
        let mut name = String::new();
        let mut characters = tail.char_indices().peekable();
        let mut end = tail.len();
        while let Some((position, character)) = characters.next() {
            match character {
                '\\' => {
                    if let Some((_, escaped)) = characters.next() {
                        name.push(escaped);
                    }
                }
                '.' | '[' => {
                    end = position;
                    break;
                }
                other => name.push(other),
            }
        }
        rest = &tail[end..];
        if !name.is_empty() {
            current = current.get(&name)?.clone();
        }
    }
    Some(current)
}

fn index(value: &Value, inside: &str) -> Option<Value> {
    if let Some(filter) = inside.strip_prefix("?(").and_then(|text| text.strip_suffix(')')) {
        let (left, right) = filter.split_once("==")?;
        let field = left.trim().strip_prefix("@.")?;
        let wanted = right.trim().trim_matches(['"', '\'']);
        return value
            .as_array()?
            .iter()
            .find(|entry| match entry.get(field) {
                Some(Value::String(text)) => text == wanted,
                Some(other) => wanted == format!("{other}"),
                None => false,
            })
            .cloned();
    }
    if inside == "*" {
        return value.as_array()?.first().cloned();
    }
    if let Ok(position) = inside.parse::<usize>() {
        return value.get(position).cloned();
    }
    value.get(inside.trim_matches(['"', '\''])).cloned()
}

/// A time span as `kubectl` shows it: two units at most.
pub fn duration(seconds: i64) -> String {
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if seconds % 60 == 0 => format!("{minutes}m"),
        120..600 => format!("{minutes}m{}s", seconds % 60),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 if minutes % 60 == 0 => format!("{hours}h"),
        10_800..28_800 => format!("{hours}h{}m", minutes % 60),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 if hours % 24 == 0 => format!("{days}d"),
        172_800..691_200 => format!("{days}d{}h", hours % 24),
        _ if days < 730 => format!("{days}d"),
        _ => format!("{}y{}d", days / 365, days % 365),
    }
}

fn computed(function: &str, entry: &Value, now: Timestamp) -> String {
    let list = |path: &[&str]| {
        at(entry, path)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let since = |path: &[&str]| {
        text(entry, path).parse::<Timestamp>().map_or_else(
            |_| "<unknown>".to_owned(),
            |then| duration(now.as_second() - then.as_second()),
        )
    };
    let number = |path: &[&str]| at(entry, path).and_then(Value::as_i64).unwrap_or(0);
    match function {
        "age" => since(&["metadata", "creationTimestamp"]),
        "last_seen" => {
            for path in [
                "lastTimestamp",
                "deprecatedLastTimestamp",
                "eventTime",
                "firstTimestamp",
            ] {
                if !text(entry, &[path]).is_empty() {
                    return since(&[path]);
                }
            }
            since(&["metadata", "creationTimestamp"])
        }
        "none" => "<none>".to_owned(),
        "ready_containers" => {
            let statuses = list(&["status", "containerStatuses"]);
            let ready = statuses.iter().filter(|status| status["ready"] == true).count();
            format!("{ready}/{}", list(&["spec", "containers"]).len())
        }
        "pod_status" if object::is_deleting(entry) => "Terminating".to_owned(),
        "pod_status" => text(entry, &["status", "phase"]).to_owned(),
        "restarts" => {
            let restarts: i64 = list(&["status", "containerStatuses"])
                .iter()
                .filter_map(|status| status["restartCount"].as_i64())
                .sum();
            restarts.to_string()
        }
        "service_ports" => {
            let ports: Vec<String> = list(&["spec", "ports"])
                .iter()
                .map(|port| format!("{}/{}", port["port"], text(port, &["protocol"])))
                .collect();
            ports.join(",")
        }
        "selector" => {
            let labels: Vec<String> = at(entry, &["spec", "selector"])
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
                .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
                .collect();
            if labels.is_empty() {
                "<none>".to_owned()
            } else {
                labels.join(",")
            }
        }
        "access_modes" => {
            let modes: Vec<&str> = at(entry, &["spec", "accessModes"])
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(|mode| match mode {
                    "ReadWriteOnce" => "RWO",
                    "ReadOnlyMany" => "ROX",
                    "ReadWriteMany" => "RWX",
                    "ReadWriteOncePod" => "RWOP",
                    other => other,
                })
                .collect();
            modes.join(",")
        }
        "claim" => at(entry, &["spec", "claimRef"]).map_or_else(String::new, |claim| {
            format!("{}/{}", text(claim, &["namespace"]), text(claim, &["name"]))
        }),
        "data_size" => {
            let size = |field: &str| {
                entry
                    .get(field)
                    .and_then(Value::as_object)
                    .map_or(0, |data| data.len())
            };
            (size("data") + size("binaryData")).to_string()
        }
        "node_status" => {
            let ready = list(&["status", "conditions"])
                .iter()
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
            let cordoned = at(entry, &["spec", "unschedulable"]) == Some(&json!(true));
            let mut status = if ready { "Ready" } else { "NotReady" }.to_owned();
            if cordoned {
                status.push_str(",SchedulingDisabled");
            }
            status
        }
        "involved" => {
            let of = entry.get("involvedObject").or_else(|| entry.get("regarding"));
            of.map_or_else(String::new, |of| {
                format!("{}/{}", text(of, &["kind"]).to_lowercase(), text(of, &["name"]))
            })
        }
        "ready_replicas" => {
            format!(
                "{}/{}",
                number(&["status", "readyReplicas"]),
                number(&["spec", "replicas"])
            )
        }
        "role" => format!(
            "{}/{}",
            text(entry, &["roleRef", "kind"]),
            text(entry, &["roleRef", "name"])
        ),
        _ => String::new(),
    }
}
