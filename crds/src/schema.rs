//! From the types to the definitions that are shipped.
//!
//! What the derive makes is right for Rust and lacks four things for an API server and its users: it lets optional fields be `null`, names
//! formats that the API server does not know, leaves lists, maps and strings of Kubernetes' own types without a bound, and forgets what the
//! words of an enumeration mean. [`definition`] mends all four.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use kube::CustomResourceExt;
use kube::core::schema::{OptionalEnum, OptionalIntOrString, StructuralSchemaRewriter};
use schemars::generate::SchemaSettings;
use schemars::transform::AddNullable;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use crate::{DittoServer, Restore, Snapshot, StorageNode, Workspace};

/// Longest string of a field that names no bound of its own.
pub const CHARACTERS_MAX: u64 = 1024;
/// Most items of a list that names no bound of its own.
pub const ITEMS_MAX: u64 = 64;
/// Most entries of a map that names no bound of its own.
pub const PROPERTIES_MAX: u64 = 64;

/// Formats that the API server knows (`k8s.io/apiextensions-apiserver/pkg/apiserver/validation/formats.go`) and that are used here.
const FORMATS: [&str; 3] = ["int32", "int64", "date-time"];

/// Where the meaning of an enumeration's words waits until it becomes part of the field's description.
const WORDS: &str = "x-words";

/// All definitions as they are shipped, in the order in which they are best applied.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![
        definition::<Workspace>(),
        definition::<Snapshot>(),
        definition::<Restore>(),
        definition::<StorageNode>(),
        definition::<DittoServer>(),
    ]
}

/// The definition of one kind: its schema takes no `null`, names no unknown format, bounds every string, list and map, and says what the
/// words of its enumerations mean.
pub fn definition<T: CustomResourceExt + JsonSchema>() -> CustomResourceDefinition {
    let mut definition = T::crd();
    let labels = definition.metadata.labels.get_or_insert_default();
    labels.insert("app.kubernetes.io/name".to_owned(), "cairn".to_owned());
    labels.insert("app.kubernetes.io/component".to_owned(), "crds".to_owned());
    let schema = structural::<T>();
    for version in &mut definition.spec.versions {
        version.schema.get_or_insert_default().open_api_v3_schema = Some(schema.clone());
    }
    definition
}

/// The schema of a kind.
fn structural<T: JsonSchema>() -> JSONSchemaProps {
    // As kube's derive does it.
    let generator = SchemaSettings::openapi3()
        .with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        })
        .with_transform(AddNullable::default())
        .with_transform(StructuralSchemaRewriter)
        .with_transform(OptionalEnum)
        .with_transform(OptionalIntOrString)
        .into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    if let Some(root) = schema.as_object_mut() {
        mend(root);
    }
    serde_json::from_value(schema).expect("a structural schema is one of Kubernetes")
}

/// Keeps what the words of an enumeration mean, and takes the enumeration's own description away, so that an optional field of it keeps the
/// field's. For `#[schemars(transform = …)]`.
pub(crate) fn enumeration(schema: &mut Schema) {
    schema.remove("description");
    let Some(variants) = schema.get("oneOf").and_then(Value::as_array) else {
        return;
    };
    let lines: Vec<String> = variants
        .iter()
        .filter_map(|variant| {
            let word = variant.get("const").or_else(|| variant.get("enum")?.get(0))?;
            let meaning = variant.get("description")?.as_str()?;
            Some(format!("- {}: {}", word.as_str()?, meaning.replace('\n', " ")))
        })
        .collect();
    schema.insert(WORDS.to_owned(), json!(lines.join("\n")));
}

/// Mends one schema and everything below it.
fn mend(schema: &mut Map<String, Value>) {
    schema.remove("nullable");
    schema.remove("title");
    if let Some(Value::String(words)) = schema.remove(WORDS) {
        let field = schema
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let description = format!("{field}\n\n{words}");
        schema.insert("description".to_owned(), json!(description.trim_start()));
    } else if let Some(Value::String(description)) = schema.get_mut("description") {
        // Lines end where the source's do, which means nothing; paragraphs stay.
        *description = description
            .split("\n\n")
            .map(|paragraph| paragraph.replace('\n', " "))
            .collect::<Vec<_>>()
            .join("\n\n");
    }
    if let Some(format) = schema.get("format").and_then(Value::as_str)
        && !FORMATS.contains(&format)
    {
        schema.remove("format");
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("string") if !schema.contains_key("enum") && !schema.contains_key("format") => {
            schema.entry("maxLength").or_insert(json!(CHARACTERS_MAX));
        }
        Some("array") => {
            schema.entry("maxItems").or_insert(json!(ITEMS_MAX));
        }
        Some("object") if schema.contains_key("additionalProperties") => {
            schema.entry("maxProperties").or_insert(json!(PROPERTIES_MAX));
        }
        _ => {}
    }
    for key in ["items", "additionalProperties"] {
        if let Some(below) = schema.get_mut(key).and_then(Value::as_object_mut) {
            mend(below);
        }
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for below in properties.values_mut().filter_map(Value::as_object_mut) {
            mend(below);
        }
    }
}
