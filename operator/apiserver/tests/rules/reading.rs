//! Rules of lists and watches.

use serde_json::{Value, json};

use crate::backend::{Backend, MERGE, version, widget};

fn names(list: &Value) -> Vec<String> {
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

async fn five(backend: &Backend) {
    for name in ["a", "b", "c", "d", "e"] {
        backend.widget(name, json!({"size": 1})).await;
    }
}

/// Pages of a list are of one state, whatever happens meanwhile.
pub async fn pages_are_of_one_state(backend: Backend) {
    five(&backend).await;
    let first = backend.get(&backend.widgets("?limit=2")).await.ok();
    assert_eq!(first["kind"], "WidgetList");
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    backend.delete(&backend.widgets("/d")).await.ok();
    backend.widget("cc", json!({"size": 1})).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = backend
        .get(&backend.widgets(&format!("?limit=2&continue={token}")))
        .await
        .ok();
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    let token = second["metadata"]["continue"].as_str().unwrap();
    let third = backend
        .get(&backend.widgets(&format!("?limit=2&continue={token}")))
        .await
        .ok();
    assert_eq!(names(&third), ["e"]);
    assert_eq!(third["metadata"]["continue"].as_str().unwrap_or_default(), "");
}

/// Tokens that are none, versions that are gone and versions that are not there yet.
pub async fn lists_of_other_states_are_refused(backend: Backend) {
    backend.widget("a", json!({"size": 1})).await;
    backend
        .get(&backend.widgets("?limit=1&continue=nonsense"))
        .await
        .refused(400, "BadRequest");
    let future = backend
        .get(&backend.widgets("?resourceVersion=99999999999"))
        .await
        .refused(504, "Timeout");
    assert!(
        future["message"]
            .as_str()
            .unwrap()
            .starts_with("Timeout: Too large resource version: 99999999999, current: ")
    );
    assert_eq!(
        future["details"]["causes"][0]["reason"],
        "ResourceVersionTooLarge"
    );
}

/// A list of an exact version is the state of that version.
pub async fn a_list_of_an_exact_version_is_that_state(backend: Backend) {
    let first = backend.widget("a", json!({"size": 1})).await;
    backend.widget("b", json!({"size": 1})).await;
    backend
        .patch(&backend.widgets("/a"), MERGE, &json!({"spec": {"size": 2}}))
        .await
        .ok();
    let path = format!("?resourceVersion={}&resourceVersionMatch=Exact", version(&first));
    let list = backend.get(&backend.widgets(&path)).await.ok();
    assert_eq!(names(&list), ["a"]);
    assert_eq!(list["items"][0]["spec"]["size"], 1);
}

/// Labels select, by all operators.
pub async fn labels_select(backend: Backend) {
    for (name, tier) in [("a", Some("one")), ("b", Some("two")), ("c", None)] {
        let mut object = widget(name, json!({"size": 1}));
        if let Some(tier) = tier {
            object["metadata"]["labels"] = json!({"tier": tier});
        }
        backend.post(&backend.widgets(""), &object).await.ok();
    }
    for (selector, expected) in [
        ("tier%3Done", vec!["a"]),
        ("tier%3D%3Done", vec!["a"]),
        ("tier!%3Done", vec!["b", "c"]),
        ("tier", vec!["a", "b"]),
        ("!tier", vec!["c"]),
        ("tier%20in%20(one,two)", vec!["a", "b"]),
        ("tier%20notin%20(one)", vec!["b", "c"]),
        ("tier%3Done,tier!%3Dtwo", vec!["a"]),
    ] {
        let list = backend
            .get(&backend.widgets(&format!("?labelSelector={selector}")))
            .await
            .ok();
        assert_eq!(names(&list), expected, "{selector}");
    }
    backend
        .get(&backend.widgets("?labelSelector=a%20b%20c"))
        .await
        .refused(400, "BadRequest");
}

/// Fields select, if the definition says so.
pub async fn selectable_fields_select(backend: Backend) {
    backend.widget("a", json!({"size": 1, "colour": "green"})).await;
    backend.widget("b", json!({"size": 1})).await;
    for (selector, expected) in [
        ("spec.colour%3Dgreen", vec!["a"]),
        ("spec.colour!%3Dgreen", vec!["b"]),
        ("metadata.name%3Db", vec!["b"]),
        ("metadata.name%3Db,spec.colour%3Dgreen", vec![]),
    ] {
        let list = backend
            .get(&backend.widgets(&format!("?fieldSelector={selector}")))
            .await
            .ok();
        assert_eq!(names(&list), expected, "{selector}");
    }
    let refused = backend
        .get(&backend.widgets("?fieldSelector=spec.size%3D1"))
        .await
        .refused(400, "BadRequest");
    assert_eq!(refused["message"], "field label not supported: spec.size");
    backend
        .get(&backend.path("/api/v1", "configmaps?fieldSelector=data.x%3D1"))
        .await
        .refused(400, "BadRequest");
    backend
        .get(&backend.path(
            "/api/v1",
            "pods?fieldSelector=spec.nodeName%3Dx,status.phase!%3DRunning",
        ))
        .await
        .ok();
}

/// A watch from a version tells what happened after it.
pub async fn a_watch_tells_what_happened_after_its_version(backend: Backend) {
    let first = backend.widget("a", json!({"size": 1})).await;
    let second = backend.widget("b", json!({"size": 1})).await;
    let mut watch = backend
        .watch(&backend.widgets(&format!("?watch=true&resourceVersion={}", version(&first))))
        .await;
    let (kind, object) = watch.event().await;
    assert_eq!((kind.as_str(), version(&object)), ("ADDED", version(&second)));
    let patched = backend
        .patch(&backend.widgets("/a"), MERGE, &json!({"spec": {"size": 2}}))
        .await
        .ok();
    let (kind, object) = watch.event().await;
    assert_eq!(kind, "MODIFIED");
    assert_eq!(object, patched);
    backend.delete(&backend.widgets("/b")).await.ok();
    let (kind, object) = watch.event().await;
    assert_eq!(kind, "DELETED");
    assert_eq!(object["metadata"]["name"], "b");
    assert!(
        version(&object) > version(&patched),
        "a deletion has a version of its own"
    );
}

/// A watch without a version begins with what there is.
pub async fn a_watch_without_a_version_begins_with_what_there_is(backend: Backend) {
    backend.widget("a", json!({"size": 1})).await;
    for version in ["", "&resourceVersion=0"] {
        let mut watch = backend
            .watch(&backend.widgets(&format!("?watch=true{version}")))
            .await;
        let (kind, object) = watch.event().await;
        assert_eq!(
            (kind.as_str(), &object["metadata"]["name"]),
            ("ADDED", &json!("a"))
        );
    }
}

/// A streaming list: what there is, then a bookmark that says that this was all.
pub async fn a_streaming_list_ends_with_a_bookmark(backend: Backend) {
    five(&backend).await;
    let mut watch = backend
        .watch(&backend.widgets(
            "?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
        ))
        .await;
    let (events, bookmark) = watch.until_bookmark().await;
    assert_eq!(events.len(), 5);
    assert!(events.iter().all(|(kind, _)| kind == "ADDED"));
    assert_eq!(bookmark["kind"], "Widget");
    assert_eq!(
        bookmark["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    let made = backend.widget("f", json!({"size": 1})).await;
    assert!(version(&made) > version(&bookmark));
    let (kind, object) = watch.event().await;
    assert_eq!((kind.as_str(), version(&object)), ("ADDED", version(&made)));
    backend
        .get(&backend.widgets("?watch=true&sendInitialEvents=true"))
        .await
        .refused(422, "Invalid");
}

/// A watch of a version that is long gone is told so, as an event.
pub async fn a_watch_of_a_version_that_is_gone_is_told_so(backend: Backend) {
    backend.widget("a", json!({"size": 1})).await;
    if let Some(server) = &backend.server {
        server.compact();
    }
    let mut watch = backend
        .watch(&backend.widgets("?watch=true&resourceVersion=1"))
        .await;
    let (kind, status) = watch.event().await;
    assert_eq!(kind, "ERROR");
    assert_eq!(status["code"], 410);
    assert_eq!(status["reason"], "Expired");
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .starts_with("too old resource version: 1 (")
    );
    assert!(watch.next().await.is_none());
}

/// What begins to match comes as added, what ceases to match as deleted.
pub async fn a_watch_with_a_selector_tells_of_coming_and_going(backend: Backend) {
    let made = backend.widget("a", json!({"size": 1})).await;
    let mut watch = backend
        .watch(&backend.widgets(&format!(
            "?watch=true&resourceVersion={}&labelSelector=x%3Dy",
            version(&made)
        )))
        .await;
    let path = backend.widgets("/a");
    let label = |value: Value| json!({"metadata": {"labels": {"x": value}}});
    backend.patch(&path, MERGE, &label(json!("y"))).await.ok();
    backend
        .patch(&path, MERGE, &json!({"spec": {"size": 2}}))
        .await
        .ok();
    let left = backend.patch(&path, MERGE, &label(json!("z"))).await.ok();
    backend
        .patch(&path, MERGE, &json!({"spec": {"size": 3}}))
        .await
        .ok();
    backend.patch(&path, MERGE, &label(json!("y"))).await.ok();
    backend.delete(&path).await.ok();
    let mut kinds = Vec::new();
    for _ in 0..5 {
        let (kind, object) = watch.event().await;
        if kinds.len() == 2 {
            assert_eq!(version(&object), version(&left));
            assert_eq!(
                object["metadata"]["labels"]["x"], "y",
                "as it was when it matched"
            );
        }
        kinds.push(kind);
    }
    assert_eq!(kinds, ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"]);
}

/// A watch ends at the time that it asked for.
pub async fn a_watch_ends_at_its_time(backend: Backend) {
    let mut watch = backend
        .watch(&backend.widgets("?watch=true&timeoutSeconds=1&resourceVersion=0"))
        .await;
    assert!(watch.next().await.is_none());
}

/// Metadata alone, and tables.
pub async fn lists_come_as_metadata_and_as_tables(backend: Backend) {
    backend.widget("a", json!({"size": 7})).await;
    let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    backend
        .patch(&backend.widgets("/a/status"), MERGE, &status)
        .await
        .ok();
    let path = backend.widgets("");
    let metadata = backend
        .get_as(
            &path,
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        )
        .await
        .ok();
    assert_eq!(metadata["kind"], "PartialObjectMetadataList");
    assert_eq!(metadata["items"][0]["kind"], "PartialObjectMetadata");
    assert_eq!(metadata["items"][0]["metadata"]["name"], "a");
    assert!(metadata["items"][0].get("spec").is_none());
    let table = backend
        .get_as(
            &path,
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
        )
        .await
        .ok();
    assert_eq!(table["kind"], "Table");
    let columns: Vec<(&str, i64)> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| {
            (
                column["name"].as_str().unwrap(),
                column["priority"].as_i64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        columns,
        [("Name", 0), ("Size", 0), ("Ready", 0), ("Colour", 1), ("Age", 0)]
    );
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(cells[..4], [json!("a"), json!(7), json!("True"), json!("red")]);
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
}

/// Lists of all namespaces have the objects of all.
pub async fn a_list_of_all_namespaces_has_all(backend: Backend) {
    backend.widget("a", json!({"size": 1})).await;
    let other = format!("{}-other", backend.namespace);
    backend
        .post("/api/v1/namespaces", &json!({"metadata": {"name": other}}))
        .await
        .ok();
    let path = format!("/apis/rules.cairn.dev/v1/namespaces/{other}/widgets");
    backend.post(&path, &widget("b", json!({"size": 1}))).await.ok();
    let all = backend
        .get("/apis/rules.cairn.dev/v1/widgets?fieldSelector=metadata.name%3Db")
        .await
        .ok();
    assert!(
        all["items"]
            .as_array()
            .unwrap()
            .iter()
            .any(|item| item["metadata"]["namespace"] == other.as_str())
    );
    assert_eq!(names(&backend.get(&backend.widgets("")).await.ok()), ["a"]);
}
