//! Every case against the schemas and their rules, evaluated here; and what must hold of every schema.

use cairn_crds::{all, validation};
use kube::core::cel::{Validator, apply_defaults};
use serde_json::Value;

use crate::cases::{Case, every, schema};
use crate::structural;

/// Defaults, structure, rules: everything that is wrong with an object.
pub fn judge(schema: &Value, object: &Value, old: Option<&Value>) -> Vec<String> {
    let object = apply_defaults(schema, object);
    let mut wrong = structural::check(schema, &object);
    if wrong.is_empty() {
        let old = old.map(|old| apply_defaults(schema, old));
        if let Err(errors) = Validator::new().validate(schema, &object, old.as_ref()) {
            wrong.extend(
                errors
                    .as_slice()
                    .iter()
                    .map(|error| format!("{}: {}", error.field_path, error.message)),
            );
        }
    }
    wrong
}

#[test]
fn every_case_is_judged_as_it_says() {
    let mut failures = Vec::new();
    let mut count = 0;
    for (definition, cases) in every() {
        let schema = schema(&definition);
        for case in &cases {
            count += 1;
            let old = case.old.as_ref().map(|old| case.object(&definition, old));
            if let Some(old) = &old {
                let wrong = judge(&schema, old, None);
                assert_eq!(wrong, Vec::<String>::new(), "the old object of {case:?}");
            }
            let wrong = judge(&schema, &case.object(&definition, &case.spec), old.as_ref()).join("; ");
            let as_said = match &case.refused {
                Some(text) => wrong.contains(text),
                None => wrong.is_empty(),
            };
            if !as_said {
                let kind = &definition.spec.names.kind;
                failures.push(format!(
                    "{kind}: {}: {:?}: got {wrong:?}",
                    case.name, case.refused
                ));
            }
        }
    }
    assert!(count > 100, "only {count} cases");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn what_the_rules_let_through_can_be_read() {
    let definition = all()
        .into_iter()
        .find(|found| found.spec.names.kind == "Workspace")
        .unwrap();
    let schema = schema(&definition);
    let case: Case = serde_json::from_value(serde_json::json!({"name": "text", "spec": {}})).unwrap();
    let accepts = |spec: Value| judge(&schema, &case.object(&definition, &spec), None).is_empty();
    let numbers = [
        "",
        "0",
        "1",
        "007",
        "1.5",
        ".5",
        "5.",
        "999999999",
        "1234567890",
        "-1",
        "+1",
        "1e3",
        "1e19",
        "1e-3",
    ];
    let units = [
        "", "s", "m", "h", "d", "w", "ms", "1", "h30m", "d1h1m1s", "h h", "n", "u", "k", "M", "G", "T", "P",
        "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "KB", "gi",
    ];
    let (mut durations, mut quantities, mut modes) = (0, 0, 0);
    for text in numbers
        .iter()
        .flat_map(|number| units.iter().map(move |unit| format!("{number}{unit}")))
    {
        if accepts(serde_json::json!({"autoSnapshot": {"jitter": text}})) {
            durations += 1;
            assert!(validation::duration_seconds(&text).is_some(), "{text}");
        }
        if accepts(serde_json::json!({"storage": text})) {
            quantities += 1;
            assert!(
                validation::quantity_bytes(&text).is_some_and(|bytes| bytes > 0),
                "{text}"
            );
        }
    }
    for text in ["755", "0755", "02775", "7777", "77777", "0o755", "08", "", "rwx"] {
        if accepts(serde_json::json!({"rootDirectory": {"mode": text}})) {
            modes += 1;
            assert!(validation::mode_bits(text).is_some(), "{text}");
        }
    }
    assert!(
        durations > 20 && quantities > 40 && modes == 4,
        "{durations} {quantities} {modes}"
    );
}

/// Paths below `schema` whose schema satisfies `test`.
fn find(schema: &Value, path: &str, test: &dyn Fn(&Value) -> bool, found: &mut Vec<String>) {
    if test(schema) {
        found.push(path.to_owned());
    }
    for key in ["items", "additionalProperties"] {
        if schema[key].is_object() {
            find(&schema[key], &format!("{path}[]"), test, found);
        }
    }
    for (key, below) in schema["properties"].as_object().into_iter().flatten() {
        find(below, &format!("{path}.{key}"), test, found);
    }
}

#[test]
fn every_string_list_and_map_is_bounded() {
    let unbounded = |schema: &Value| match schema["type"].as_str() {
        Some("string") => {
            schema.get("maxLength").is_none()
                && schema.get("enum").is_none()
                && schema["format"] != "date-time"
        }
        Some("array") => schema.get("maxItems").is_none(),
        Some("object") => {
            schema.get("additionalProperties").is_some() && schema.get("maxProperties").is_none()
        }
        _ => false,
    };
    for definition in all() {
        let mut found = Vec::new();
        find(&schema(&definition), "", &unbounded, &mut found);
        assert_eq!(found, Vec::<String>::new(), "{}", definition.spec.names.kind);
    }
}

#[test]
fn every_field_is_described_and_none_is_nullable() {
    for definition in all() {
        let schema = schema(&definition);
        let mut found = Vec::new();
        find(&schema, "", &|schema| schema["nullable"] == true, &mut found);
        for part in ["spec", "status"] {
            let mut undescribed = Vec::new();
            find(
                &schema["properties"][part],
                part,
                &|schema| schema.get("description").is_none(),
                &mut undescribed,
            );
            // Items of lists and values of maps are told by their list or map.
            undescribed.retain(|path| !path.ends_with("[]"));
            found.extend(undescribed);
        }
        assert_eq!(found, Vec::<String>::new(), "{}", definition.spec.names.kind);
    }
}

#[test]
fn every_rule_has_a_message_and_a_case_that_it_refuses() {
    let mut untested = Vec::new();
    for (definition, cases) in every() {
        let mut messages = Vec::new();
        collect_messages(&schema(&definition), &mut messages);
        for message in messages {
            let tested = cases
                .iter()
                .filter_map(|case| case.refused.as_deref())
                .any(|refused| message.contains(refused));
            if !tested {
                untested.push(format!("{}: {message}", definition.spec.names.kind));
            }
        }
    }
    assert!(untested.is_empty(), "{}", untested.join("\n"));
}

fn collect_messages(schema: &Value, messages: &mut Vec<String>) {
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let message = rule["message"]
            .as_str()
            .unwrap_or_else(|| panic!("{rule} has no message"));
        messages.push(message.to_owned());
    }
    for key in ["items", "additionalProperties"] {
        if schema[key].is_object() {
            collect_messages(&schema[key], messages);
        }
    }
    for below in schema["properties"]
        .as_object()
        .into_iter()
        .flat_map(|map| map.values())
    {
        collect_messages(below, messages);
    }
}

#[test]
fn conditions_are_maps_by_type_and_columns_show_ready() {
    for definition in all() {
        let kind = definition.spec.names.kind.clone();
        let schema = schema(&definition);
        let conditions = &schema["properties"]["status"]["properties"]["conditions"];
        assert_eq!(conditions["x-kubernetes-list-type"], "map", "{kind}");
        assert_eq!(conditions["x-kubernetes-list-map-keys"][0], "type", "{kind}");
        assert!(
            schema["properties"]["status"]["properties"]["observedGeneration"].is_object(),
            "{kind}"
        );
        let version = &definition.spec.versions[0];
        assert!(
            version
                .subresources
                .as_ref()
                .is_some_and(|sub| sub.status.is_some()),
            "{kind}"
        );
        let columns = version.additional_printer_columns.as_ref().unwrap();
        assert!(
            columns
                .iter()
                .any(|column| column.name == "Ready" && column.json_path.contains("Ready")),
            "{kind}"
        );
        assert!(columns.iter().any(|column| column.name == "Age"), "{kind}");
        assert_eq!(
            definition.spec.names.categories,
            Some(vec!["storage".to_owned()]),
            "{kind}"
        );
        assert!(definition.spec.names.short_names.is_some(), "{kind}");
    }
}
