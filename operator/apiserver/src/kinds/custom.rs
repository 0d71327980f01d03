//! Kinds from CustomResourceDefinitions: one per served version.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Column, Kind, conversion::Conversion};
use crate::{
    object::{at, text},
    ownership::fields::Fields,
    schema::{Schema, builtin, rules::Rules},
    status::Cause,
};

/// The version that objects are stored in.
pub fn storage_version(definition: &Value) -> String {
    versions(definition)
        .iter()
        .find(|version| version.get("storage") == Some(&Value::Bool(true)))
        .map(|version| text(version, &["name"]).to_owned())
        .unwrap_or_default()
}

fn versions(definition: &Value) -> &[Value] {
    at(definition, &["spec", "versions"])
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The kinds that a definition makes, one per served version.
///
/// # Errors
/// What is wrong with the definition, by field.
pub fn kinds(definition: &Value) -> Result<Vec<Kind>, Vec<Cause>> {
    let group = text(definition, &["spec", "group"]);
    let names = |field: &str| text(definition, &["spec", "names", field]).to_owned();
    let list = |field: &str| -> Vec<String> {
        at(definition, &["spec", "names", field])
            .and_then(Value::as_array)
            .map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            .unwrap_or_default()
    };
    let plural = names("plural");
    let kind = names("kind");
    let mut causes = Vec::new();
    let required = |field: &str, causes: &mut Vec<Cause>| {
        causes.push(Cause {
            reason: "FieldValueRequired",
            message: "Required value".to_owned(),
            field: field.to_owned(),
        });
    };
    for (field, value) in [
        ("spec.group", group),
        ("spec.names.plural", plural.as_str()),
        ("spec.names.kind", kind.as_str()),
        ("spec.scope", text(definition, &["spec", "scope"])),
    ] {
        if value.is_empty() {
            required(field, &mut causes);
        }
    }
    let expected = format!("{plural}.{group}");
    let name = text(definition, &["metadata", "name"]);
    if name != expected {
        causes.push(Cause {
            reason: "FieldValueInvalid",
            message: format!("Invalid value: \"{name}\": must be spec.names.plural+\".\"+spec.group"),
            field: "metadata.name".to_owned(),
        });
    }
    let storage = storage_version(definition);
    if storage.is_empty() {
        causes.push(Cause {
            reason: "FieldValueInvalid",
            message: "Invalid value: must have exactly one version marked as storage version".to_owned(),
            field: "spec.versions".to_owned(),
        });
    }
    let conversion = text(definition, &["spec", "conversion", "strategy"]);
    if !matches!(conversion, "" | "None") {
        causes.push(Cause {
            reason: "FieldValueNotSupported",
            message: format!("Unsupported value: \"{conversion}\": supported values: \"None\""),
            field: "spec.conversion.strategy".to_owned(),
        });
    }
    let mut kinds = Vec::new();
    for (index, version) in versions(definition).iter().enumerate() {
        let path = format!("spec.versions[{index}]");
        let version_name = text(version, &["name"]).to_owned();
        let Some(raw) = at(version, &["schema", "openAPIV3Schema"]) else {
            causes.push(Cause {
                reason: "FieldValueRequired",
                message: "Required value: schemas are required".to_owned(),
                field: format!("{path}.schema.openAPIV3Schema"),
            });
            continue;
        };
        let schema_path = format!("{path}.schema.openAPIV3Schema");
        let mut schema = match Schema::parse(raw) {
            Ok(schema) => schema,
            Err(message) => {
                causes.push(Cause {
                    reason: "FieldValueInvalid",
                    message: format!("Invalid value: {message}"),
                    field: schema_path,
                });
                continue;
            }
        };
        structural(&schema, &schema_path, &mut causes);
        envelope(&mut schema);
        let rules = match Rules::compile(raw, group, &version_name, &kind) {
            Ok(rules) => rules,
            Err(messages) => {
                causes.extend(messages.into_iter().map(|message| Cause {
                    reason: "FieldValueInvalid",
                    message: format!("Invalid value: {message}"),
                    field: format!("{schema_path}.x-kubernetes-validations"),
                }));
                continue;
            }
        };
        if version.get("served") != Some(&Value::Bool(true)) {
            continue;
        }
        let has_status = at(version, &["subresources", "status"]).is_some();
        let mut reset = Fields::default();
        let mut status_reset = Fields::default();
        if has_status {
            reset.insert(&["f:status".to_owned()]);
            status_reset.insert(&["f:spec".to_owned()]);
        }
        kinds.push(Kind {
            group: group.to_owned(),
            version: version_name.clone(),
            api: format!("{group}/{version_name}"),
            kind: kind.clone(),
            list_kind: match names("listKind") {
                empty if empty.is_empty() => format!("{kind}List"),
                name => name,
            },
            plural: plural.clone(),
            singular: match names("singular") {
                empty if empty.is_empty() => kind.to_lowercase(),
                name => name,
            },
            short_names: list("shortNames"),
            categories: list("categories"),
            namespaced: text(definition, &["spec", "scope"]) == "Namespaced",
            custom: true,
            has_status,
            has_generation: true,
            table: format!("{plural}.{group}"),
            schema,
            openapi: raw.clone(),
            rules,
            columns: columns(version),
            selectable: selectable(version),
            blank: json!({"metadata": {"creationTimestamp": null}}),
            reset,
            status_reset,
            conversion: if version_name == storage {
                Conversion::Storage
            } else {
                Conversion::VersionOnly
            },
        });
    }
    if causes.is_empty() { Ok(kinds) } else { Err(causes) }
}

/// Kind, version and metadata are what they are, whatever the definition says of them.
fn envelope(schema: &mut Schema) {
    let string = || {
        Arc::new(Schema {
            kind: Some(crate::schema::Type::String),
            ..Schema::default()
        })
    };
    for name in ["apiVersion", "kind"] {
        schema.properties.insert(name.to_owned(), string());
    }
    schema
        .properties
        .insert("metadata".to_owned(), Arc::new(builtin::object_meta_reference()));
}

/// Every node has a type, and maps are either of known or of any fields.
fn structural(schema: &Schema, path: &str, causes: &mut Vec<Cause>) {
    if schema.kind.is_none() && !schema.int_or_string && !schema.preserve_unknown {
        causes.push(Cause {
            reason: "FieldValueRequired",
            message: "Required value: must not be empty for specified object fields".to_owned(),
            field: format!("{path}.type"),
        });
    }
    if !schema.properties.is_empty() && schema.additional.is_some() {
        causes.push(Cause {
            reason: "FieldValueForbidden",
            message: "Forbidden: additionalProperties and properties are mutual exclusive".to_owned(),
            field: format!("{path}.additionalProperties"),
        });
    }
    for (name, field) in &schema.properties {
        structural(field, &format!("{path}.properties[{name}]"), causes);
    }
    if let Some(items) = &schema.items {
        structural(items, &format!("{path}.items"), causes);
    }
    if let Some(additional) = &schema.additional {
        structural(additional, &format!("{path}.additionalProperties"), causes);
    }
}

fn columns(version: &Value) -> Vec<Column> {
    let given = version
        .get("additionalPrinterColumns")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    if given.is_empty() {
        return vec![Column {
            name: "Age".to_owned(),
            kind: "date".to_owned(),
            format: String::new(),
            description: String::new(),
            priority: 0,
            path: ".metadata.creationTimestamp".to_owned(),
        }];
    }
    given
        .iter()
        .map(|column| Column {
            name: text(column, &["name"]).to_owned(),
            kind: text(column, &["type"]).to_owned(),
            format: text(column, &["format"]).to_owned(),
            description: text(column, &["description"]).to_owned(),
            priority: column.get("priority").and_then(Value::as_i64).unwrap_or(0),
            path: text(column, &["jsonPath"]).to_owned(),
        })
        .collect()
}

fn selectable(version: &Value) -> Vec<String> {
    version
        .get("selectableFields")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|field| text(field, &["jsonPath"]).trim_start_matches('.').to_owned())
        .collect()
}
