//! Rules of schemas: what is dropped, filled in, refused.

use serde_json::{Value, json};

use crate::backend::{Backend, MERGE, version, widget};

/// Unknown fields are dropped, and a warning says so.
pub async fn unknown_fields_are_dropped_with_a_warning(backend: Backend) {
    let reply = backend
        .post(
            &backend.widgets(""),
            &widget("a", json!({"size": 1, "zz": 1, "free": {"any": {"thing": 1}}})),
        )
        .await;
    let warning = reply.headers.get("warning").unwrap().to_str().unwrap().to_owned();
    assert_eq!(warning, "299 - \"unknown field \\\"spec.zz\\\"\"");
    let made = reply.ok();
    assert!(made["spec"].get("zz").is_none());
    assert_eq!(made["spec"]["free"], json!({"any": {"thing": 1}}));
}

/// Strict validation refuses unknown fields.
pub async fn strict_validation_refuses_unknown_fields(backend: Backend) {
    let path = backend.widgets("?fieldValidation=Strict");
    let refused = backend
        .post(&path, &widget("a", json!({"size": 1, "zz": 1, "yy": {}})))
        .await
        .refused(400, "BadRequest");
    assert_eq!(
        refused["message"],
        "Widget in version \"v1\" cannot be handled as a Widget: strict decoding error: unknown field \"spec.yy\", unknown field \"spec.zz\""
    );
    let configs = backend.path("/api/v1", "configmaps?fieldValidation=Strict");
    backend
        .post(&configs, &json!({"metadata": {"name": "c"}, "daata": {}}))
        .await
        .refused(400, "BadRequest");
}

/// Defaults are filled in, also within defaults, and for null.
pub async fn defaults_are_filled_in(backend: Backend) {
    let made = backend.widget("a", json!({"size": 1, "colour": null})).await;
    assert_eq!(
        made["spec"],
        json!({"size": 1, "colour": "red", "nested": {"depth": 3}})
    );
}

/// Null where null is no value is absent.
pub async fn null_is_absent(backend: Backend) {
    let made = backend.widget("a", json!({"size": 1, "name": null})).await;
    assert!(made["spec"].get("name").is_none());
    let refused = backend
        .post(&backend.widgets(""), &widget("b", json!({"size": null})))
        .await
        .refused(422, "Invalid");
    assert_eq!(refused["details"]["causes"][0]["reason"], "FieldValueRequired");
}

/// Every violation is told, with field, reason and message.
pub async fn violations_are_told_by_field(backend: Backend) {
    let cases: [(Value, &str, &str, &str); 14] = [
        (json!({}), "spec.size", "FieldValueRequired", "Required value"),
        (
            json!({"size": "x"}),
            "spec.size",
            "FieldValueTypeInvalid",
            "Invalid value: \"string\": spec.size in body must be of type integer: \"string\"",
        ),
        (
            json!({"size": 0}),
            "spec.size",
            "FieldValueInvalid",
            "Invalid value: 0: spec.size in body should be greater than or equal to 1",
        ),
        (
            json!({"size": 101}),
            "spec",
            "FieldValueInvalid",
            "Invalid value: \"object\": at most 100",
        ),
        (
            json!({"size": 1, "colour": "blue"}),
            "spec.colour",
            "FieldValueNotSupported",
            "Unsupported value: \"blue\": supported values: \"red\", \"green\"",
        ),
        (
            json!({"size": 1, "name": "ABC"}),
            "spec.name",
            "FieldValueInvalid",
            "Invalid value: \"ABC\": spec.name in body should match '^[a-z]+$'",
        ),
        (
            json!({"size": 1, "name": "abcdefg"}),
            "spec.name",
            "FieldValueTooLong",
            "Too long: may not be more than 5 bytes",
        ),
        (
            json!({"size": 1, "steps": ["1", "2", "3", "4"]}),
            "spec.steps",
            "FieldValueTooMany",
            "Too many: 4: must have at most 3 items",
        ),
        (
            json!({"size": 1, "parts": [{"count": 1}]}),
            "spec.parts[0].name",
            "FieldValueRequired",
            "Required value",
        ),
        (
            json!({"size": 1, "parts": [{"name": "a"}, {"name": "a"}]}),
            "spec.parts[1]",
            "FieldValueDuplicate",
            "Duplicate value: {\"name\":\"a\"}",
        ),
        (
            json!({"size": 1, "tags": ["a", "a"]}),
            "spec.tags[1]",
            "FieldValueDuplicate",
            "Duplicate value: \"a\"",
        ),
        (
            json!({"size": 1, "port": true}),
            "spec.port",
            "FieldValueTypeInvalid",
            "Invalid value: \"boolean\": spec.port in body must be of type integer,string: \"boolean\"",
        ),
        (
            json!({"size": 1, "labels": {"a": 1}}),
            "spec.labels.a",
            "FieldValueTypeInvalid",
            "Invalid value: \"integer\": spec.labels.a in body must be of type string: \"integer\"",
        ),
        (
            json!({"size": 1, "when": "soon"}),
            "spec.when",
            "FieldValueTypeInvalid",
            "Invalid value: \"soon\": spec.when in body must be of type date-time: \"soon\"",
        ),
    ];
    for (spec, field, reason, message) in cases {
        let refused = backend
            .post(&backend.widgets(""), &widget("a", spec.clone()))
            .await
            .refused(422, "Invalid");
        let causes = refused["details"]["causes"].as_array().unwrap();
        let found = causes
            .iter()
            .any(|cause| cause["field"] == field && cause["reason"] == reason && cause["message"] == message);
        assert!(found, "{spec}: {refused}");
        assert_eq!(refused["details"]["kind"], "Widget");
        assert_eq!(refused["details"]["name"], "a");
    }
}

/// Rules in CEL see the old value on updates.
pub async fn rules_compare_with_the_old_value(backend: Backend) {
    let path = backend.widgets("/a");
    backend.widget("a", json!({"size": 1, "fixed": "x"})).await;
    let refused = backend
        .patch(&path, MERGE, &json!({"spec": {"fixed": "y"}}))
        .await
        .refused(422, "Invalid");
    assert_eq!(
        refused["message"],
        "Widget.rules.cairn.dev \"a\" is invalid: spec: Invalid value: \"object\": fixed is immutable"
    );
    backend
        .patch(&path, MERGE, &json!({"spec": {"size": 2}}))
        .await
        .ok();
}

fn gadgets(spec: &Value, suffix: &str) -> Value {
    let name = format!("gadget{suffix}");
    json!({
        "metadata": {"name": format!("{name}s.rules.cairn.dev")},
        "spec": {
            "group": "rules.cairn.dev", "scope": "Namespaced", "names": {"plural": format!("{name}s"), "kind": format!("Gadget{suffix}")},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": spec},
            }}}],
        },
    })
}

/// What an update does not change is not held against it when the schema has become stricter.
pub async fn unchanged_fields_are_ratcheted(backend: Backend) {
    const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let suffix = backend.namespace.replace('-', "");
    let loose = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}});
    let strict = json!({"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 2}, "b": {"type": "string", "x-kubernetes-validations": [{"rule": "self.startsWith('z')", "message": "not z"}]},
    }});
    let path = backend.path("/apis/rules.cairn.dev/v1", &format!("gadget{suffix}s"));
    backend.post(DEFINITIONS, &gadgets(&loose, &suffix)).await.ok();
    backend.served(&path).await;
    let object = json!({
        "apiVersion": "rules.cairn.dev/v1", "kind": format!("Gadget{suffix}"), "metadata": {"name": "a"},
        "spec": {"a": "long", "b": "y"},
    });
    backend.post(&path, &object).await.ok();
    let definition = format!("{DEFINITIONS}/gadget{suffix}s.rules.cairn.dev");
    let patch = json!({"spec": gadgets(&strict, &suffix)["spec"]});
    backend.patch(&definition, MERGE, &patch).await.ok();
    // A real server takes a moment until the new schema holds.
    let deadline = tokio::time::Instant::now() + crate::backend::PATIENCE;
    let mut trial = object.clone();
    trial["metadata"]["name"] = json!("trial");
    while backend.post(&format!("{path}?dryRun=All"), &trial).await.code != 422 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let labelled = json!({"metadata": {"labels": {"x": "y"}}});
    backend.patch(&format!("{path}/a"), MERGE, &labelled).await.ok();
    for changed in [json!({"spec": {"a": "longer"}}), json!({"spec": {"b": "x"}})] {
        backend
            .patch(&format!("{path}/a"), MERGE, &changed)
            .await
            .refused(422, "Invalid");
    }
    backend.delete(&definition).await.ok();
}

/// A definition that is wrong is refused.
pub async fn a_wrong_definition_is_refused(backend: Backend) {
    const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let good = gadgets(&json!({"type": "object"}), "wrong");
    let mut renamed = good.clone();
    renamed["metadata"]["name"] = json!("other.rules.cairn.dev");
    let mut untyped = good.clone();
    untyped["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] =
        json!({"properties": {}});
    let mut schemaless = good.clone();
    schemaless["spec"]["versions"][0]
        .as_object_mut()
        .unwrap()
        .remove("schema");
    let mut rule = good.clone();
    rule["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] =
        json!([{"rule": "self.(", "message": "x"}]);
    let mut unstored = good.clone();
    unstored["spec"]["versions"][0]["storage"] = json!(false);
    for wrong in [renamed, untyped, schemaless, rule, unstored] {
        backend.post(DEFINITIONS, &wrong).await.refused(422, "Invalid");
    }
}

/// A definition is served, and says so in its conditions and in discovery.
pub async fn a_definition_is_served(backend: Backend) {
    let definition = backend
        .get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.rules.cairn.dev")
        .await
        .ok();
    let conditions = definition["status"]["conditions"].as_array().unwrap();
    for kind in ["Established", "NamesAccepted"] {
        assert!(
            conditions
                .iter()
                .any(|condition| condition["type"] == kind && condition["status"] == "True")
        );
    }
    assert_eq!(definition["status"]["acceptedNames"]["listKind"], "WidgetList");
    assert_eq!(definition["status"]["storedVersions"], json!(["v1"]));
    let resources = backend.get("/apis/rules.cairn.dev/v1").await.ok();
    let names: Vec<&str> = resources["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|resource| resource["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"widgets") && names.contains(&"widgets/status"),
        "{names:?}"
    );
    let widgets = resources["resources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|resource| resource["name"] == "widgets")
        .unwrap();
    assert_eq!(widgets["shortNames"], json!(["wdg"]));
    assert_eq!(widgets["categories"], json!(["storage"]));
    let group = backend.get("/apis/rules.cairn.dev").await.ok();
    assert_eq!(group["preferredVersion"]["groupVersion"], "rules.cairn.dev/v1");
}

/// Two versions of a definition are two views of one object.
pub async fn versions_of_a_definition_share_their_objects(backend: Backend) {
    const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let suffix = format!("two{}", backend.namespace.replace('-', ""));
    let mut definition = gadgets(
        &json!({"type": "object", "properties": {"a": {"type": "string"}}}),
        &suffix,
    );
    let mut second = definition["spec"]["versions"][0].clone();
    second["name"] = json!("v1beta1");
    second["storage"] = json!(false);
    definition["spec"]["versions"]
        .as_array_mut()
        .unwrap()
        .push(second);
    backend.post(DEFINITIONS, &definition).await.ok();
    let new = backend.path("/apis/rules.cairn.dev/v1", &format!("gadget{suffix}s"));
    let old = backend.path("/apis/rules.cairn.dev/v1beta1", &format!("gadget{suffix}s"));
    backend.served(&new).await;
    backend.served(&old).await;
    let object = json!({
        "apiVersion": "rules.cairn.dev/v1beta1", "kind": format!("Gadget{suffix}"), "metadata": {"name": "a"}, "spec": {"a": "x"},
    });
    let made = backend.post(&old, &object).await.ok();
    assert_eq!(made["apiVersion"], "rules.cairn.dev/v1beta1");
    let read = backend.get(&format!("{new}/a")).await.ok();
    assert_eq!(read["apiVersion"], "rules.cairn.dev/v1");
    assert_eq!(version(&read), version(&made));
    assert_eq!(read["metadata"]["uid"], made["metadata"]["uid"]);
    let path = format!("{DEFINITIONS}/gadget{suffix}s.rules.cairn.dev");
    backend.delete(&path).await.ok();
}
