//! The chart's values: every key has a comment, and stands in the schema with a description; the schema has no other.

use std::path::Path;

use anyhow::Context;
use serde_json::Value;

/// What is wrong with values.yaml and values.schema.json.
pub fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let read = |name: &str| {
        let path = root.join("deploy/helm/cairn").join(name);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let text = read("values.yaml")?;
    let values: Value = serde_saphyr::from_str(&text).context("values.yaml")?;
    let schema: Value = serde_json::from_str(&read("values.schema.json")?).context("values.schema.json")?;
    let mut findings = Vec::new();
    compare(&values, &schema, "", &mut findings);
    findings.extend(undocumented(&text));
    Ok(findings)
}

/// Keys that only one of the two has, and objects that take any key.
pub fn compare(values: &Value, schema: &Value, path: &str, findings: &mut Vec<String>) {
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    if schema["additionalProperties"] != false {
        findings.push(format!("values.schema.json takes any key in {path:?}"));
    }
    for (key, below) in properties {
        let here = format!("{path}.{key}");
        if below["description"].as_str().is_none_or(str::is_empty) {
            findings.push(format!("values.schema.json does not describe {here}"));
        }
        match values.get(key) {
            Some(value) => compare(value, below, &here, findings),
            // Helm puts it there.
            None if here == ".global" => {}
            None => findings.push(format!("values.yaml has no {here}")),
        }
    }
    for key in values.as_object().into_iter().flat_map(|map| map.keys()) {
        if !properties.contains_key(key) {
            findings.push(format!("values.schema.json has no {path}.{key}"));
        }
    }
}

/// Keys of the first three levels without a comment above them; the keys of values that are maps themselves are left out.
pub fn undocumented(text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let mut before = "";
    let mut free_form: Option<usize> = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if free_form.is_some_and(|outer| indent > outer) {
            before = line;
            continue;
        }
        free_form = None;
        let key = line.trim_start();
        let is_key = key
            .split_once(':')
            .is_some_and(|(name, _)| name.chars().all(char::is_alphanumeric));
        if is_key {
            let name = key.split(':').next().unwrap_or_default();
            if ["resources", "nodeSelector", "metricsNamespaces", "labels"].contains(&name) {
                free_form = Some(indent);
            }
            if indent > 0 && !before.trim_start().starts_with('#') {
                findings.push(format!("values.yaml: {name} has no comment above it"));
            }
        }
        before = line;
    }
    findings
}
