//! Rules of deletion: finalizers, preconditions, collections.

use serde_json::json;

use crate::backend::{Backend, MERGE, version, widget};

const HOLD: &str = "rules.cairn.dev/hold";

/// Without finalizers an object is gone at once, and the answer says which it was.
pub async fn without_finalizers_an_object_is_gone_at_once(backend: Backend) {
    let made = backend.widget("a", json!({"size": 1})).await;
    let answer = backend.delete(&backend.widgets("/a")).await.ok();
    assert_eq!(answer["kind"], "Status");
    assert_eq!(answer["status"], "Success");
    assert_eq!(answer["details"]["uid"], made["metadata"]["uid"]);
    assert_eq!(answer["details"]["kind"], "widgets");
    backend.get(&backend.widgets("/a")).await.refused(404, "NotFound");
    backend
        .delete(&backend.widgets("/a"))
        .await
        .refused(404, "NotFound");
}

/// With finalizers it is marked, and gone with the last of them.
pub async fn with_finalizers_it_is_marked_and_goes_with_the_last(backend: Backend) {
    let path = backend.widgets("/a");
    let mut object = widget("a", json!({"size": 1}));
    object["metadata"]["finalizers"] = json!([HOLD, "rules.cairn.dev/other"]);
    backend.post(&backend.widgets(""), &object).await.ok();
    let marked = backend.delete(&path).await.ok();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let one = backend
        .patch(&path, MERGE, &json!({"metadata": {"finalizers": [HOLD]}}))
        .await
        .ok();
    assert_eq!(one["metadata"]["finalizers"], json!([HOLD]));
    let last = backend
        .patch(&path, MERGE, &json!({"metadata": {"finalizers": null}}))
        .await
        .ok();
    assert!(last["metadata"]["deletionTimestamp"].is_string());
    backend.get(&path).await.refused(404, "NotFound");
}

/// No finalizer is added to what is being deleted; its mark cannot be taken off.
pub async fn no_finalizer_is_added_to_what_is_being_deleted(backend: Backend) {
    let path = backend.widgets("/a");
    let mut object = widget("a", json!({"size": 1}));
    object["metadata"]["finalizers"] = json!([HOLD]);
    backend.post(&backend.widgets(""), &object).await.ok();
    backend.delete(&path).await.ok();
    let refused = backend
        .patch(
            &path,
            MERGE,
            &json!({"metadata": {"finalizers": [HOLD, "rules.cairn.dev/new"]}}),
        )
        .await
        .refused(422, "Invalid");
    assert_eq!(refused["details"]["causes"][0]["field"], "metadata.finalizers");
    let unmarked = backend
        .patch(&path, MERGE, &json!({"metadata": {"deletionTimestamp": null}}))
        .await
        .ok();
    assert!(unmarked["metadata"]["deletionTimestamp"].is_string());
    let changed = backend
        .patch(&path, MERGE, &json!({"spec": {"size": 2}}))
        .await
        .ok();
    assert_eq!(changed["spec"]["size"], 2);
    backend
        .patch(&path, MERGE, &json!({"metadata": {"finalizers": []}}))
        .await
        .ok();
}

/// A deletion can be bound to a UID and a version.
pub async fn a_deletion_can_be_bound_to_uid_and_version(backend: Backend) {
    let path = backend.widgets("/a");
    let made = backend.widget("a", json!({"size": 1})).await;
    backend
        .delete_with(&path, &json!({"preconditions": {"uid": "another"}}))
        .await
        .refused(409, "Conflict");
    backend
        .delete_with(&path, &json!({"preconditions": {"resourceVersion": "1"}}))
        .await
        .refused(409, "Conflict");
    let right = json!({"preconditions": {
        "uid": made["metadata"]["uid"], "resourceVersion": version(&made).to_string(),
    }});
    backend.delete_with(&path, &right).await.ok();
}

/// The way of propagation is kept as a finalizer, and can be changed.
pub async fn propagation_is_kept_as_a_finalizer(backend: Backend) {
    let path = backend.widgets("/a");
    backend.widget("a", json!({"size": 1})).await;
    let foreground = backend
        .delete_with(&path, &json!({"propagationPolicy": "Foreground"}))
        .await
        .ok();
    assert_eq!(
        foreground["metadata"]["finalizers"],
        json!(["foregroundDeletion"])
    );
    let orphan = backend
        .delete_with(&path, &json!({"propagationPolicy": "Orphan"}))
        .await
        .ok();
    assert_eq!(orphan["metadata"]["finalizers"], json!(["orphan"]));
    let background = backend
        .delete_with(&path, &json!({"propagationPolicy": "Background"}))
        .await
        .ok();
    assert_eq!(background["kind"], "Status");
    backend.get(&path).await.refused(404, "NotFound");
}

/// A collection goes by selector.
pub async fn a_collection_goes_by_selector(backend: Backend) {
    for (name, tier) in [("a", "one"), ("b", "two")] {
        let mut object = widget(name, json!({"size": 1}));
        object["metadata"]["labels"] = json!({"tier": tier});
        backend.post(&backend.widgets(""), &object).await.ok();
    }
    backend
        .delete(&backend.widgets("?labelSelector=tier%3Done"))
        .await
        .ok();
    backend.get(&backend.widgets("/a")).await.refused(404, "NotFound");
    backend.get(&backend.widgets("/b")).await.ok();
}

/// A namespace that is being deleted takes nothing new.
pub async fn a_namespace_that_is_being_deleted_takes_nothing_new(backend: Backend) {
    let name = format!("{}-end", backend.namespace);
    backend
        .post("/api/v1/namespaces", &json!({"metadata": {"name": name}}))
        .await
        .ok();
    let marked = backend.delete(&format!("/api/v1/namespaces/{name}")).await.ok();
    assert_eq!(marked["status"]["phase"], "Terminating");
    assert_eq!(marked["spec"]["finalizers"], json!(["kubernetes"]));
    let refused = backend
        .post(
            &format!("/apis/rules.cairn.dev/v1/namespaces/{name}/widgets"),
            &widget("a", json!({"size": 1})),
        )
        .await
        .refused(403, "Forbidden");
    assert_eq!(refused["details"]["causes"][0]["reason"], "NamespaceTerminating");
}
