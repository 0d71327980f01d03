//! What manifests tell programs is what the programs understand: flags and environment variables of the operator and the daemon, keys of the daemon's
//! configuration.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use super::compare::Objects;

/// The workloads with the sources of their command lines.
const PROGRAMS: [(&str, &str, &[&str]); 2] = [
    ("Deployment", "cairn-operator", &["operator/src/arguments.rs"]),
    // Within the daemon's pod, people run cairn.
    (
        "DaemonSet",
        "cairnd",
        &["daemon/src/arguments.rs", "cli/src/arguments.rs"],
    ),
];
const CONFIGURATION: &str = "daemon/src/config/default.toml";

/// What of the objects no program understands.
pub fn check(root: &Path, objects: &Objects) -> anyhow::Result<Vec<String>> {
    let read = |name: &str| {
        let path = root.join(name);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let mut findings = Vec::new();
    for object in objects.values() {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        for (kind, program, sources) in PROGRAMS {
            if object["kind"] == kind && name == program {
                let mut text = String::new();
                for source in sources {
                    text += &read(source)?;
                }
                findings.extend(unknown(program, object, &text));
            }
        }
        if let Some(configuration) = object["data"]["cairnd.toml"].as_str() {
            let known = keys(&read(CONFIGURATION)?);
            for key in keys(configuration).difference(&known) {
                findings.push(format!("cairnd.toml: the daemon knows no {key}"));
            }
        }
    }
    Ok(findings)
}

/// Flags and variables of a workload that the source of its command line does not have.
pub fn unknown(program: &str, object: &Value, source: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let containers = object["spec"]["template"]["spec"]["containers"].as_array();
    for container in containers.into_iter().flatten() {
        for argument in container["args"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            let Some(flag) = argument.strip_prefix("--") else {
                continue;
            };
            let flag = flag.split('=').next().unwrap_or_default();
            // A flag is the name of its field, with `-` for `_`.
            if !source.contains(&format!("pub {}: ", flag.replace('-', "_"))) {
                findings.push(format!("{program} knows no --{flag}"));
            }
        }
        for variable in container["env"].as_array().into_iter().flatten() {
            let name = variable["name"].as_str().unwrap_or_default();
            let is_ours = name.starts_with("CAIRN_") || name.starts_with("POD_");
            if is_ours && !source.contains(&format!("\"{name}\"")) {
                findings.push(format!("{program} knows no {name}"));
            }
        }
    }
    findings
}

/// The keys of a configuration with their tables, also those that are commented out; as `table.key`.
pub fn keys(text: &str) -> BTreeSet<String> {
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .chars()
                .all(|character| character.is_ascii_lowercase() || "_.".contains(character))
    };
    let mut table = String::new();
    let mut keys = BTreeSet::new();
    for line in text.lines() {
        let line = line.trim().trim_start_matches('#');
        let in_brackets = line.trim_start_matches('[').trim_end_matches(']');
        if line.starts_with('[') && line.ends_with(']') && is_name(in_brackets) {
            table = in_brackets.to_owned();
        } else if let Some((key, _)) = line.split_once(" = ")
            && is_name(key)
        {
            keys.insert(format!("{table}.{key}"));
        }
    }
    keys
}
