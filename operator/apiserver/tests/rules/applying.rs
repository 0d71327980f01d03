//! Rules of server-side apply and of the ownership of fields.

use serde_json::json;

use crate::backend::{APPLY, Backend, MERGE, owned, version, widget};

/// An applier owns what it applies, no more; defaults belong to nobody.
pub async fn an_applier_owns_what_it_applies(backend: Backend) {
    let spec = json!({"size": 1, "parts": [{"name": "x", "count": 1}], "labels": {"a": "1"}, "tags": ["k"], "steps": ["1"]});
    let reply = backend.apply("one", "a", spec).await;
    assert_eq!(reply.code, 201);
    let made = reply.body;
    assert_eq!(made["spec"]["colour"], "red");
    assert_eq!(
        owned(&made, "one"),
        json!({"f:spec": {
            "f:size": {}, "f:steps": {}, "f:labels": {"f:a": {}}, "f:tags": {"v:\"k\"": {}},
            "f:parts": {"k:{\"name\":\"x\"}": {".": {}, "f:name": {}, "f:count": {}}},
        }})
    );
    let entry = &made["metadata"]["managedFields"][0];
    assert_eq!(entry["operation"], "Apply");
    assert_eq!(entry["apiVersion"], "rules.cairn.dev/v1");
    assert_eq!(entry["fieldsType"], "FieldsV1");
}

/// Lists with keys merge by them, sets by value, maps by field; two appliers may say the same.
pub async fn lists_merge_by_their_keys(backend: Backend) {
    backend
        .apply(
            "one",
            "a",
            json!({"size": 1, "parts": [{"name": "x", "count": 1}], "tags": ["k"], "labels": {"a": "1"}}),
        )
        .await
        .ok();
    let both = backend
        .apply(
            "two",
            "a",
            json!({"size": 1, "parts": [{"name": "y", "count": 2}], "tags": ["j"], "labels": {"b": "1"}}),
        )
        .await
        .ok();
    assert_eq!(
        both["spec"]["parts"],
        json!([{"name": "x", "count": 1}, {"name": "y", "count": 2}])
    );
    assert_eq!(both["spec"]["tags"], json!(["k", "j"]));
    assert_eq!(both["spec"]["labels"], json!({"a": "1", "b": "1"}));
    assert_eq!(owned(&both, "one")["f:spec"]["f:size"], json!({}));
    assert_eq!(owned(&both, "two")["f:spec"]["f:size"], json!({}));
}

/// A field of another manager is not changed without force, and the answer says whose it is.
pub async fn a_field_of_another_manager_is_a_conflict(backend: Backend) {
    backend
        .apply(
            "one",
            "a",
            json!({"size": 1, "parts": [{"name": "x", "count": 1}], "labels": {"a": "1"}}),
        )
        .await
        .ok();
    let refused = backend
        .apply(
            "two",
            "a",
            json!({"size": 1, "parts": [{"name": "x", "count": 2}], "labels": {"a": "2"}}),
        )
        .await
        .refused(409, "Conflict");
    assert_eq!(
        refused["message"],
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.labels.a\n- .spec.parts[name=\"x\"].count"
    );
    assert_eq!(
        refused["details"]["causes"][0],
        json!({"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".spec.labels.a"})
    );
    let single = backend
        .apply("two", "a", json!({"size": 2}))
        .await
        .refused(409, "Conflict");
    assert_eq!(
        single["message"],
        "Apply failed with 1 conflict: conflict with \"one\": .spec.size"
    );
}

/// Updates own fields too.
pub async fn a_field_of_an_updater_is_a_conflict(backend: Backend) {
    backend.widget("a", json!({"size": 1})).await;
    let refused = backend
        .apply("one", "a", json!({"size": 2}))
        .await
        .refused(409, "Conflict");
    assert_eq!(
        refused["details"]["causes"][0]["message"],
        "conflict with \"tester\" using rules.cairn.dev/v1"
    );
}

/// Force takes the field over.
pub async fn force_takes_fields_over(backend: Backend) {
    backend
        .apply(
            "one",
            "a",
            json!({"size": 1, "parts": [{"name": "x", "count": 1}]}),
        )
        .await
        .ok();
    let taken = backend
        .apply(
            "two&force=true",
            "a",
            json!({"size": 1, "parts": [{"name": "x", "count": 2}]}),
        )
        .await
        .ok();
    assert_eq!(taken["spec"]["parts"], json!([{"name": "x", "count": 2}]));
    assert_eq!(
        owned(&taken, "one")["f:spec"]["f:parts"],
        json!({"k:{\"name\":\"x\"}": {".": {}, "f:name": {}}})
    );
    assert_eq!(
        owned(&taken, "two")["f:spec"]["f:parts"]["k:{\"name\":\"x\"}"]["f:count"],
        json!({})
    );
}

/// What the last owner does not apply any more is removed; what others own stays; defaults come back.
pub async fn fields_without_an_owner_are_removed(backend: Backend) {
    backend
        .apply(
            "one",
            "a",
            json!({
                "size": 1, "colour": "green", "parts": [{"name": "x", "count": 1}, {"name": "z"}], "labels": {"a": "1", "b": "2"},
                "steps": ["1"], "tags": ["k", "j"],
            }),
        )
        .await
        .ok();
    backend
        .apply(
            "two",
            "a",
            json!({"size": 1, "parts": [{"name": "x"}], "labels": {"a": "1"}, "tags": ["k"]}),
        )
        .await
        .ok();
    let dropped = backend.apply("one", "a", json!({"size": 1})).await.ok();
    assert_eq!(
        dropped["spec"],
        json!({
            "size": 1, "colour": "red", "parts": [{"name": "x"}], "labels": {"a": "1"}, "tags": ["k"],
            "nested": {"depth": 3},
        })
    );
    assert_eq!(owned(&dropped, "one"), json!({"f:spec": {"f:size": {}}}));
}

/// What nobody applied is not removed by an applier.
pub async fn fields_of_updaters_stay(backend: Backend) {
    backend.apply("one", "a", json!({"size": 1})).await.ok();
    backend
        .patch(
            &backend.widgets("/a"),
            MERGE,
            &json!({"spec": {"labels": {"u": "v"}}}),
        )
        .await
        .ok();
    let again = backend.apply("one", "a", json!({"size": 2})).await.ok();
    assert_eq!(again["spec"]["labels"], json!({"u": "v"}));
    assert_eq!(
        owned(&again, "tester")["f:spec"]["f:labels"],
        json!({".": {}, "f:u": {}})
    );
}

/// The same application twice is no write.
pub async fn applying_the_same_again_writes_nothing(backend: Backend) {
    let spec = json!({"size": 1, "parts": [{"name": "x", "count": 1}]});
    let first = backend.apply("one", "a", spec.clone()).await.ok();
    let second = backend.apply("one", "a", spec).await;
    assert_eq!(second.code, 200);
    assert_eq!(version(&first), version(&second.body));
    assert_eq!(
        first["metadata"]["managedFields"],
        second.body["metadata"]["managedFields"]
    );
}

/// Status and object are owned apart, even by one manager.
pub async fn status_is_applied_and_owned_apart(backend: Backend) {
    backend.apply("one", "a", json!({"size": 1})).await.ok();
    let status = |phase: &str| {
        json!({
            "apiVersion": "rules.cairn.dev/v1", "kind": "Widget", "metadata": {"name": "a"},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": "True"}]},
        })
    };
    let path = backend.widgets("/a/status?fieldManager=one");
    let written = backend.patch(&path, APPLY, &status("x")).await.ok();
    assert_eq!(written["metadata"]["generation"], 1);
    assert_eq!(written["spec"]["size"], 1);
    let entries = written["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    let of_status = entries
        .iter()
        .find(|entry| entry["subresource"] == "status")
        .unwrap();
    assert_eq!(
        of_status["fieldsV1"],
        json!({"f:status": {"f:phase": {}, "f:conditions": {
            "k:{\"type\":\"Ready\"}": {".": {}, "f:type": {}, "f:status": {}},
        }}})
    );
    let other = backend.widgets("/a/status?fieldManager=two");
    let refused = backend
        .patch(&other, APPLY, &status("y"))
        .await
        .refused(409, "Conflict");
    assert_eq!(
        refused["message"],
        "Apply failed with 1 conflict: conflict with \"one\" with subresource \"status\": .status.phase"
    );
    // The object's application does not touch it.
    let again = backend.apply("one", "a", json!({"size": 2})).await.ok();
    assert_eq!(again["status"]["phase"], "x");
}

/// The status of what does not exist is not applied.
pub async fn status_is_not_applied_to_nothing(backend: Backend) {
    let body = json!({"apiVersion": "rules.cairn.dev/v1", "kind": "Widget", "metadata": {"name": "a"}, "status": {}});
    backend
        .patch(&backend.widgets("/a/status?fieldManager=one"), APPLY, &body)
        .await
        .refused(404, "NotFound");
}

/// An application says who applies, names its fields, and brings no ownership of its own.
pub async fn an_application_is_well_formed(backend: Backend) {
    let path = backend.widgets("/a");
    backend
        .patch(&path, APPLY, &widget("a", json!({"size": 1})))
        .await
        .refused(422, "Invalid");
    let unknown = backend.apply("one", "a", json!({"size": 1, "zz": 1})).await;
    assert_eq!(unknown.code, 500);
    assert!(
        unknown.body["message"]
            .as_str()
            .unwrap()
            .ends_with(".spec.zz: field not declared in schema"),
        "{}",
        unknown.body
    );
    let mut managed = widget("a", json!({"size": 1}));
    managed["metadata"]["managedFields"] = json!([{"manager": "x"}]);
    backend
        .patch(&backend.widgets("/a?fieldManager=one"), APPLY, &managed)
        .await
        .refused(400, "BadRequest");
    let mut known = widget("a", json!({"size": 1}));
    known["metadata"]["uid"] = json!("b9b1bd6f-0000-0000-0000-000000000000");
    backend
        .patch(&backend.widgets("/a?fieldManager=one"), APPLY, &known)
        .await
        .refused(409, "Conflict");
}

/// What was there before anybody was known belongs to nobody in particular.
pub async fn fields_from_before_the_first_apply_are_a_conflict(backend: Backend) {
    let configs = backend.path("/api/v1", "configmaps");
    let made = backend
        .post(&configs, &json!({"metadata": {"name": "c"}}))
        .await
        .ok();
    assert!(made["metadata"].get("managedFields").is_none());
    let path = format!("{configs}/c");
    let changed = backend
        .patch(&path, MERGE, &json!({"data": {"a": "b"}}))
        .await
        .ok();
    assert!(changed["metadata"].get("managedFields").is_none());
    let config =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "c"}});
    let refused = backend
        .patch(&format!("{path}?fieldManager=one"), APPLY, &config)
        .await
        .refused(409, "Conflict");
    assert_eq!(
        refused["message"],
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.a"
    );
}

/// Updates own what they change; who had it before loses it.
pub async fn an_update_takes_what_it_changes(backend: Backend) {
    let made = backend
        .widget(
            "a",
            json!({"size": 1, "labels": {"a": "b"}, "parts": [{"name": "x", "count": 1}]}),
        )
        .await;
    assert_eq!(
        owned(&made, "tester"),
        json!({"f:spec": {
            ".": {}, "f:size": {}, "f:colour": {}, "f:labels": {".": {}, "f:a": {}},
            "f:nested": {".": {}, "f:depth": {}},
            "f:parts": {".": {}, "k:{\"name\":\"x\"}": {".": {}, "f:name": {}, "f:count": {}}},
        }})
    );
    let path = backend.widgets("/a?fieldManager=other");
    let changed = backend
        .patch(
            &path,
            MERGE,
            &json!({"spec": {"colour": "green", "labels": {"a": null, "c": "d"}}}),
        )
        .await
        .ok();
    assert_eq!(
        owned(&changed, "other"),
        json!({"f:spec": {"f:colour": {}, "f:labels": {"f:c": {}}}})
    );
    assert_eq!(
        owned(&changed, "tester"),
        json!({"f:spec": {
            ".": {}, "f:size": {}, "f:labels": {},
            "f:nested": {".": {}, "f:depth": {}},
            "f:parts": {".": {}, "k:{\"name\":\"x\"}": {".": {}, "f:name": {}, "f:count": {}}},
        }})
    );
}

/// Built-in lists merge by the keys that Kubernetes gives them.
pub async fn built_in_lists_merge_by_their_keys(backend: Backend) {
    let set = |containers: serde_json::Value| {
        json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s"},
            "spec": {
                "serviceName": "s", "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": containers}},
            },
        })
    };
    let path =
        |manager: &str| backend.path("/apis/apps/v1", &format!("statefulsets/s?fieldManager={manager}"));
    let first = json!([{
        "name": "c", "image": "x:1", "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "1"}],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    }]);
    let mut made = set(first);
    made["spec"]["template"]["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
    let made = backend.patch(&path("one"), APPLY, &made).await.ok();
    assert_eq!(
        owned(&made, "one")["f:spec"]["f:template"]["f:spec"]["f:containers"],
        json!({"k:{\"name\":\"c\"}": {
            ".": {}, "f:name": {}, "f:image": {},
            "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
            "f:env": {"k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}},
            "f:volumeMounts": {"k:{\"mountPath\":\"/v\"}": {".": {}, "f:mountPath": {}, "f:name": {}}},
        }})
    );
    assert_eq!(owned(&made, "one")["f:spec"]["f:selector"], json!({}));
    assert_eq!(
        owned(&made, "one")["f:spec"]["f:template"]["f:spec"]["f:volumes"],
        json!({"k:{\"name\":\"v\"}": {".": {}, "f:name": {}, "f:emptyDir": {}}})
    );
    let second = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s"},
        "spec": {"template": {"spec": {"containers": [{"name": "c", "env": [{"name": "B", "value": "2"}]}, {"name": "d", "image": "y:1"}]}}},
    });
    let both = backend.patch(&path("two"), APPLY, &second).await.ok();
    let containers = &both["spec"]["template"]["spec"]["containers"];
    assert_eq!(
        containers[0]["env"],
        json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}])
    );
    assert_eq!(containers[0]["image"], "x:1");
    assert_eq!(containers[1]["name"], "d");
    assert_eq!(both["metadata"]["generation"], 2);
    let back = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s"}});
    let alone = backend.patch(&path("two"), APPLY, &back).await.ok();
    assert_eq!(alone["spec"], made["spec"]);
}

/// Claims of volumes are fields like any other, although references elsewhere are one value.
pub async fn the_claim_of_a_volume_is_owned_by_field(backend: Backend) {
    let name = format!("{}-pv", backend.namespace);
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"], "nfs": {"server": "10.0.0.1", "path": "/x"},
            "claimRef": {"namespace": backend.namespace, "name": "c"},
        },
    });
    let path = format!("/api/v1/persistentvolumes/{name}?fieldManager=one");
    let made = backend.patch(&path, APPLY, &volume).await.ok();
    assert_eq!(
        owned(&made, "one"),
        json!({"f:spec": {
            "f:accessModes": {}, "f:capacity": {"f:storage": {}}, "f:nfs": {"f:server": {}, "f:path": {}},
            "f:claimRef": {"f:namespace": {}, "f:name": {}},
        }})
    );
    assert_eq!(made["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    assert_eq!(made["status"]["phase"], "Pending");
    assert_eq!(
        made["metadata"]["finalizers"],
        json!(["kubernetes.io/pv-protection"])
    );
    let again = backend.patch(&path, APPLY, &volume).await.ok();
    assert_eq!(version(&made), version(&again));
}
