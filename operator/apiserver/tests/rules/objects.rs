//! Rules of single objects: identity, versions, generations, status, conflicts.

use serde_json::json;

use crate::backend::{Backend, JSON_PATCH, MERGE, STRATEGIC, version, widget};

/// The server gives every object an identity, and takes none from clients.
pub async fn a_new_object_gets_uid_time_version_and_generation(backend: Backend) {
    let mut given = widget("a", json!({"size": 1}));
    given["metadata"]["uid"] = json!("mine");
    given["metadata"]["creationTimestamp"] = json!("2001-01-01T00:00:00Z");
    given["metadata"]["generation"] = json!(7);
    given["metadata"]["deletionTimestamp"] = json!("2001-01-01T00:00:00Z");
    let made = backend.post(&backend.widgets(""), &given).await;
    assert_eq!(made.code, 201);
    let made = made.body;
    assert_eq!(made["metadata"]["uid"].as_str().unwrap().len(), 36);
    assert_ne!(made["metadata"]["creationTimestamp"], "2001-01-01T00:00:00Z");
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["metadata"]["namespace"], backend.namespace.as_str());
    assert!(made["metadata"].get("deletionTimestamp").is_none());
    assert!(version(&made) > 0);
}

/// Versions are of one counter for all objects.
pub async fn versions_grow_across_all_kinds(backend: Backend) {
    let first = backend.widget("a", json!({"size": 1})).await;
    let config = backend
        .post(
            &backend.path("/api/v1", "configmaps"),
            &json!({"metadata": {"name": "c"}}),
        )
        .await
        .ok();
    let second = backend.widget("b", json!({"size": 1})).await;
    assert!(version(&first) < version(&config) && version(&config) < version(&second));
    let patched = backend
        .patch(&backend.widgets("/a"), MERGE, &json!({"spec": {"size": 2}}))
        .await
        .ok();
    assert!(version(&patched) > version(&second));
}

/// A write that changes nothing is no write.
pub async fn a_write_that_changes_nothing_keeps_the_version(backend: Backend) {
    let made = backend.widget("a", json!({"size": 1})).await;
    let patched = backend
        .patch(
            &backend.widgets("/a"),
            MERGE,
            &json!({"spec": {"size": 1, "colour": "red"}}),
        )
        .await
        .ok();
    let put = backend.put(&backend.widgets("/a"), &made).await.ok();
    assert_eq!(version(&made), version(&patched));
    assert_eq!(version(&made), version(&put));
    assert_eq!(
        made["metadata"]["managedFields"],
        put["metadata"]["managedFields"]
    );
}

/// The generation is that of what is wanted.
pub async fn generation_counts_changes_of_spec_only(backend: Backend) {
    let path = backend.widgets("/a");
    backend.widget("a", json!({"size": 1})).await;
    let generation = |object: &serde_json::Value| object["metadata"]["generation"].as_u64().unwrap();
    let labelled = backend
        .patch(&path, MERGE, &json!({"metadata": {"labels": {"x": "y"}}}))
        .await
        .ok();
    assert_eq!(generation(&labelled), 1);
    let status = backend
        .patch(
            &format!("{path}/status"),
            MERGE,
            &json!({"status": {"phase": "Ready"}}),
        )
        .await
        .ok();
    assert_eq!(generation(&status), 1);
    let changed = backend
        .patch(&path, MERGE, &json!({"spec": {"size": 2}}))
        .await
        .ok();
    assert_eq!(generation(&changed), 2);
}

/// The first mark of deletion counts as a change of what is wanted; the second does not.
pub async fn generation_counts_the_first_deletion_mark(backend: Backend) {
    let path = backend.widgets("/a");
    backend.widget("a", json!({"size": 1})).await;
    backend
        .patch(
            &path,
            MERGE,
            &json!({"metadata": {"finalizers": ["rules.cairn.dev/hold"]}}),
        )
        .await
        .ok();
    let first = backend.delete(&path).await.ok();
    assert_eq!(first["metadata"]["generation"], 2);
    assert_eq!(first["metadata"]["deletionGracePeriodSeconds"], 0);
    let second = backend.delete(&path).await.ok();
    assert_eq!(version(&first), version(&second));
}

/// Status is not written through the object, nor anything else through the status.
pub async fn status_and_spec_are_written_apart(backend: Backend) {
    let path = backend.widgets("/a");
    let mut given = widget("a", json!({"size": 1}));
    given["status"] = json!({"phase": "no"});
    let made = backend.post(&backend.widgets(""), &given).await.ok();
    assert!(made.get("status").is_none());
    let ignored = backend
        .patch(
            &path,
            MERGE,
            &json!({"spec": {"size": 2}, "status": {"phase": "no"}}),
        )
        .await
        .ok();
    assert!(ignored.get("status").is_none());
    let status = backend
        .patch(
            &format!("{path}/status"),
            MERGE,
            &json!({"metadata": {"labels": {"x": "y"}}, "spec": {"size": 9}, "status": {"phase": "yes"}}),
        )
        .await
        .ok();
    assert_eq!(status["status"]["phase"], "yes");
    assert_eq!(status["spec"]["size"], 2);
    assert!(status["metadata"].get("labels").is_none());
    let read = backend.get(&format!("{path}/status")).await.ok();
    assert_eq!(read["status"]["phase"], "yes");
}

/// Who writes on an old version is told so.
pub async fn an_old_version_is_a_conflict(backend: Backend) {
    let path = backend.widgets("/a");
    let old = backend.widget("a", json!({"size": 1})).await;
    backend
        .patch(&path, MERGE, &json!({"spec": {"size": 2}}))
        .await
        .ok();
    let refused = backend.put(&path, &old).await.refused(409, "Conflict");
    assert_eq!(
        refused["message"],
        "Operation cannot be fulfilled on widgets.rules.cairn.dev \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
    assert_eq!(refused["details"]["kind"], "widgets");
    assert_eq!(refused["details"]["group"], "rules.cairn.dev");
    let version = old["metadata"]["resourceVersion"].clone();
    backend
        .patch(
            &path,
            MERGE,
            &json!({"metadata": {"resourceVersion": version}, "spec": {"size": 3}}),
        )
        .await
        .refused(409, "Conflict");
}

/// Custom resources are replaced only on a known version; objects of most built-in kinds on any.
pub async fn a_custom_resource_is_replaced_only_on_a_version(backend: Backend) {
    let path = backend.widgets("/a");
    let mut object = backend.widget("a", json!({"size": 1})).await;
    object["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("resourceVersion");
    let refused = backend.put(&path, &object).await.refused(422, "Invalid");
    assert_eq!(
        refused["details"]["causes"][0]["field"],
        "metadata.resourceVersion"
    );
    let configs = backend.path("/api/v1", "configmaps");
    backend
        .post(&configs, &json!({"metadata": {"name": "c"}}))
        .await
        .ok();
    let put = backend
        .put(
            &format!("{configs}/c"),
            &json!({"metadata": {"name": "c"}, "data": {"x": "y"}}),
        )
        .await
        .ok();
    assert_eq!(put["data"]["x"], "y");
}

/// A UID in an update is a condition.
pub async fn another_uid_is_a_conflict(backend: Backend) {
    let mut object = backend.widget("a", json!({"size": 1})).await;
    object["metadata"]["uid"] = json!("another");
    backend
        .put(&backend.widgets("/a"), &object)
        .await
        .refused(409, "Conflict");
}

/// Names are taken once, and must be names.
pub async fn names_are_unique_and_valid(backend: Backend) {
    let path = backend.widgets("");
    backend.widget("a", json!({"size": 1})).await;
    let again = backend
        .post(&path, &widget("a", json!({"size": 1})))
        .await
        .refused(409, "AlreadyExists");
    assert_eq!(again["message"], "widgets.rules.cairn.dev \"a\" already exists");
    let bad = backend
        .post(&path, &widget("A_b", json!({"size": 1})))
        .await
        .refused(422, "Invalid");
    assert_eq!(bad["details"]["causes"][0]["field"], "metadata.name");
    let none = backend
        .post(&path, &json!({"metadata": {}, "apiVersion": "rules.cairn.dev/v1", "kind": "Widget", "spec": {"size": 1}}))
        .await
        .refused(422, "Invalid");
    assert_eq!(none["details"]["causes"][0]["field"], "metadata.name");
    let missing = backend
        .get(&backend.widgets("/none"))
        .await
        .refused(404, "NotFound");
    assert_eq!(missing["message"], "widgets.rules.cairn.dev \"none\" not found");
}

/// `generateName` gets a suffix of five characters.
pub async fn a_name_is_generated_from_a_prefix(backend: Backend) {
    let mut given = widget("", json!({"size": 1}));
    given["metadata"] = json!({"generateName": "prefix-"});
    let made = backend.post(&backend.widgets(""), &given).await.ok();
    let name = made["metadata"]["name"].as_str().unwrap();
    assert_eq!(name.len(), "prefix-".len() + 5);
    assert!(name.starts_with("prefix-"));
}

/// Kind, version, name and namespace are those of the path.
pub async fn body_and_path_name_the_same_object(backend: Backend) {
    let path = backend.widgets("");
    let object = widget("a", json!({"size": 1}));
    let with = |field: &str, value: &str| {
        let mut object = object.clone();
        object[field] = json!(value);
        object
    };
    backend
        .post(&path, &with("apiVersion", "rules.cairn.dev/v9"))
        .await
        .refused(400, "BadRequest");
    backend
        .post(&path, &with("kind", "Other"))
        .await
        .refused(422, "Invalid");
    let mut elsewhere = object.clone();
    elsewhere["metadata"]["namespace"] = json!("elsewhere");
    backend.post(&path, &elsewhere).await.refused(400, "BadRequest");
    let mut versioned = object.clone();
    versioned["metadata"]["resourceVersion"] = json!("1");
    assert_eq!(backend.post(&path, &versioned).await.code, 500);
    let made = backend.post(&path, &object).await.ok();
    let mut renamed = made.clone();
    renamed["metadata"]["name"] = json!("b");
    backend
        .put(&backend.widgets("/a"), &renamed)
        .await
        .refused(400, "BadRequest");
}

/// What lies in a namespace needs the namespace.
pub async fn namespaces_must_exist(backend: Backend) {
    let refused = backend
        .post(
            "/apis/rules.cairn.dev/v1/namespaces/nowhere/widgets",
            &widget("a", json!({"size": 1})),
        )
        .await
        .refused(404, "NotFound");
    assert_eq!(refused["message"], "namespaces \"nowhere\" not found");
}

/// JSON patch: what `kube` does to finalizers, which tests an absent path against null.
pub async fn a_json_patch_tests_an_absent_path_against_null(backend: Backend) {
    let path = backend.widgets("/a");
    backend.widget("a", json!({"size": 1})).await;
    let patched = backend
        .patch(
            &path,
            JSON_PATCH,
            &json!([
                {"op": "test", "path": "/metadata/finalizers", "value": null},
                {"op": "add", "path": "/metadata/finalizers", "value": ["rules.cairn.dev/hold"]},
            ]),
        )
        .await
        .ok();
    assert_eq!(patched["metadata"]["finalizers"], json!(["rules.cairn.dev/hold"]));
    let again = json!([{"op": "test", "path": "/metadata/finalizers", "value": null}]);
    backend
        .patch(&path, JSON_PATCH, &again)
        .await
        .refused(422, "Invalid");
    let missing = json!([{"op": "remove", "path": "/metadata/nothing"}]);
    backend
        .patch(&path, JSON_PATCH, &missing)
        .await
        .refused(422, "Invalid");
    let moved = json!([
        {"op": "add", "path": "/spec/steps", "value": ["a", "c"]},
        {"op": "add", "path": "/spec/steps/1", "value": "b"},
        {"op": "copy", "from": "/spec/size", "path": "/spec/port"},
        {"op": "replace", "path": "/spec/size", "value": 5},
        {"op": "remove", "path": "/metadata/finalizers/0"},
    ]);
    let patched = backend.patch(&path, JSON_PATCH, &moved).await.ok();
    assert_eq!(patched["spec"]["steps"], json!(["a", "b", "c"]));
    assert_eq!(patched["spec"]["port"], 1);
    assert_eq!(patched["spec"]["size"], 5);
    assert!(patched["metadata"].get("finalizers").is_none());
}

/// Merge patch: null removes, lists are replaced.
pub async fn a_merge_patch_removes_by_null_and_replaces_lists(backend: Backend) {
    let path = backend.widgets("/a");
    backend
        .widget(
            "a",
            json!({"size": 1, "labels": {"a": "1", "b": "2"}, "steps": ["x", "y"]}),
        )
        .await;
    let patched = backend
        .patch(
            &path,
            MERGE,
            &json!({"spec": {"labels": {"a": null, "c": "3"}, "steps": ["z"]}}),
        )
        .await
        .ok();
    assert_eq!(patched["spec"]["labels"], json!({"b": "2", "c": "3"}));
    assert_eq!(patched["spec"]["steps"], json!(["z"]));
    backend
        .patch(&backend.widgets("/none"), MERGE, &json!({"spec": {"size": 1}}))
        .await
        .refused(404, "NotFound");
}

/// Strategic merge patch is for built-in kinds.
pub async fn a_strategic_patch_merges_lists_of_built_in_kinds_only(backend: Backend) {
    backend.widget("a", json!({"size": 1})).await;
    backend
        .patch(&backend.widgets("/a"), STRATEGIC, &json!({"spec": {"size": 2}}))
        .await
        .refused(415, "UnsupportedMediaType");
    let services = backend.path("/api/v1", "services");
    let service = json!({
        "metadata": {"name": "s"},
        "spec": {"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}], "selector": {"x": "y"}},
    });
    backend.post(&services, &service).await.ok();
    let patch = json!({"spec": {"ports": [
        {"port": 81, "name": "renamed"}, {"port": 82, "name": "c"}, {"$patch": "delete", "port": 80},
    ]}});
    let patched = backend
        .patch(&format!("{services}/s"), STRATEGIC, &patch)
        .await
        .ok();
    let ports: Vec<(u64, &str)> = patched["spec"]["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| (port["port"].as_u64().unwrap(), port["name"].as_str().unwrap()))
        .collect();
    let mut sorted = ports.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [(81, "renamed"), (82, "c")]);
    let finalizers = json!({"metadata": {"finalizers": ["rules.cairn.dev/b"]}});
    let first = json!({"metadata": {"finalizers": ["rules.cairn.dev/a"]}});
    backend
        .patch(&format!("{services}/s"), STRATEGIC, &first)
        .await
        .ok();
    let both = backend
        .patch(&format!("{services}/s"), STRATEGIC, &finalizers)
        .await
        .ok();
    assert_eq!(both["metadata"]["finalizers"].as_array().unwrap().len(), 2);
    let gone = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["rules.cairn.dev/a", "rules.cairn.dev/b"]}});
    let freed = backend
        .patch(&format!("{services}/s"), STRATEGIC, &gone)
        .await
        .ok();
    assert!(freed["metadata"].get("finalizers").is_none());
}

/// A trial run answers as the real run would, and stores nothing.
pub async fn a_dry_run_stores_nothing(backend: Backend) {
    let path = backend.widgets("?dryRun=All");
    let trial = backend.post(&path, &widget("a", json!({"size": 1}))).await;
    assert_eq!(trial.code, 201);
    assert_eq!(trial.body["spec"]["colour"], "red");
    backend.get(&backend.widgets("/a")).await.refused(404, "NotFound");
    let made = backend.widget("a", json!({"size": 1})).await;
    let patched = backend
        .patch(
            &backend.widgets("/a?dryRun=All"),
            MERGE,
            &json!({"spec": {"size": 2}}),
        )
        .await
        .ok();
    assert_eq!(patched["spec"]["size"], 2);
    backend.delete(&backend.widgets("/a?dryRun=All")).await.ok();
    let read = backend.get(&backend.widgets("/a")).await.ok();
    assert_eq!(version(&read), version(&made));
}

/// Labels, owners and the like are checked on every object.
pub async fn metadata_is_checked(backend: Backend) {
    let path = backend.widgets("");
    let mut object = widget("a", json!({"size": 1}));
    object["metadata"]["labels"] = json!({"a b": "c d"});
    let refused = backend.post(&path, &object).await.refused(422, "Invalid");
    assert_eq!(refused["details"]["causes"].as_array().unwrap().len(), 2);
    let mut object = widget("a", json!({"size": 1}));
    object["metadata"]["ownerReferences"] = json!([{"name": "x"}]);
    let refused = backend.post(&path, &object).await.refused(422, "Invalid");
    assert_eq!(
        refused["details"]["causes"][0]["field"],
        "metadata.ownerReferences.apiVersion"
    );
}
