//! Reads the cases of `crds/tests/cases`, and documents of YAML.

use std::path::{Path, PathBuf};

use cairn_crds::all;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::Deserialize;
use serde_json::{Value, json};

/// A spec, and what becomes of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Case {
    /// What the case is about; unique in its file.
    pub name: String,
    /// The object's name, if it matters.
    pub metadata_name: Option<String>,
    /// The spec that is put.
    pub spec: Value,
    /// The spec that it replaces.
    pub old: Option<Value>,
    /// A part of the message with which it is refused; absent: accepted.
    pub refused: Option<String>,
}

impl Case {
    /// The object of a kind with the spec.
    pub fn object(&self, definition: &CustomResourceDefinition, spec: &Value) -> Value {
        json!({
            "apiVersion": format!("{}/{}", definition.spec.group, definition.spec.versions[0].name),
            "kind": definition.spec.names.kind,
            "metadata": { "name": self.metadata_name.as_deref().unwrap_or("case") },
            "spec": spec,
        })
    }
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Documents of a YAML file.
pub fn documents(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    serde_saphyr::from_multiple::<Value>(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every kind with its cases.
pub fn every() -> Vec<(CustomResourceDefinition, Vec<Case>)> {
    all()
        .into_iter()
        .map(|definition| {
            let file = match definition.spec.names.kind.as_str() {
                "StorageNode" => "storage_node",
                "DittoServer" => "ditto_server",
                kind => &kind.to_lowercase(),
            };
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/cases/{file}.yaml"));
            let text = std::fs::read_to_string(&path).unwrap();
            let cases: Vec<Case> =
                serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(!cases.is_empty());
            (definition, cases)
        })
        .collect()
}

/// The schema of a definition as JSON.
pub fn schema(definition: &CustomResourceDefinition) -> Value {
    let validation = definition.spec.versions[0].schema.as_ref().unwrap();
    json!(validation.open_api_v3_schema.as_ref().unwrap())
}
