//! What only the server of this crate has: garbage collection and stand-ins on demand, rights from roles with a note of
//! what was used, faults on purpose, counting, and enough speed for large tests.

use std::time::{Duration, Instant};

use cairn_apiserver::{
    ApiServer, Controllers, Fault, Matcher, Settings, User, Verb,
    clock::{Clock, ManualClock},
    object,
};
use http::Method;
use serde_json::{Value, json};

use crate::backend::{APPLY, Backend, MERGE, widget};

const V1: &str = "rules.cairn.dev/v1";

fn owned_by(name: &str, owner: &Value, block: bool) -> Value {
    let mut object = widget(name, json!({"size": 1}));
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "blockOwnerDeletion": block,
    }]);
    object
}

/// Dependents go after their owner, and theirs after them.
#[tokio::test]
async fn dependents_go_after_their_owner() {
    let backend = Backend::fake().await;
    let server = backend.server.clone().unwrap();
    let owner = backend.widget("owner", json!({"size": 1})).await;
    let child = backend
        .post(&backend.widgets(""), &owned_by("child", &owner, false))
        .await
        .ok();
    backend
        .post(&backend.widgets(""), &owned_by("grandchild", &child, false))
        .await
        .ok();
    assert_eq!(server.settle(), 0);
    backend.delete(&backend.widgets("/owner")).await.ok();
    backend.get(&backend.widgets("/child")).await.ok();
    assert!(server.settle() >= 2);
    for name in ["child", "grandchild"] {
        backend
            .get(&backend.widgets(&format!("/{name}")))
            .await
            .refused(404, "NotFound");
    }
}

/// A reference to an owner of another UID is one to nobody.
#[tokio::test]
async fn an_owner_is_known_by_its_uid() {
    let backend = Backend::fake().await;
    let server = backend.server.clone().unwrap();
    let owner = backend.widget("owner", json!({"size": 1})).await;
    let other = backend.widget("other", json!({"size": 1})).await;
    let mut child = owned_by("child", &owner, false);
    child["metadata"]["ownerReferences"]
        .as_array_mut()
        .unwrap()
        .push(owned_by("x", &other, false)["metadata"]["ownerReferences"][0].clone());
    backend.post(&backend.widgets(""), &child).await.ok();
    backend.delete(&backend.widgets("/owner")).await.ok();
    backend.widget("owner", json!({"size": 1})).await;
    server.settle();
    let child = backend.get(&backend.widgets("/child")).await.ok();
    assert_eq!(child["metadata"]["ownerReferences"].as_array().unwrap().len(), 1);
    backend.delete(&backend.widgets("/other")).await.ok();
    server.settle();
    backend
        .get(&backend.widgets("/child"))
        .await
        .refused(404, "NotFound");
}

/// In the foreground the owner goes last, and waits for those that block.
#[tokio::test]
async fn in_the_foreground_the_owner_goes_last() {
    let backend = Backend::fake().await;
    let server = backend.server.clone().unwrap();
    let owner = backend.widget("owner", json!({"size": 1})).await;
    let mut child = owned_by("child", &owner, true);
    child["metadata"]["finalizers"] = json!(["rules.cairn.dev/hold"]);
    backend.post(&backend.widgets(""), &child).await.ok();
    backend
        .delete(&backend.widgets("/owner?propagationPolicy=Foreground"))
        .await
        .ok();
    server.settle();
    backend.get(&backend.widgets("/owner")).await.ok();
    let child = backend.get(&backend.widgets("/child")).await.ok();
    assert!(object::is_deleting(&child));
    let finalizers = object::finalizers(&child);
    assert!(finalizers.contains(&"rules.cairn.dev/hold"));
    backend
        .patch(
            &backend.widgets("/child"),
            MERGE,
            &json!({"metadata": {"finalizers": null}}),
        )
        .await
        .ok();
    server.settle();
    backend
        .get(&backend.widgets("/owner"))
        .await
        .refused(404, "NotFound");
    backend
        .get(&backend.widgets("/child"))
        .await
        .refused(404, "NotFound");
}

/// Orphans stay and lose the reference.
#[tokio::test]
async fn orphans_stay() {
    let backend = Backend::fake().await;
    let server = backend.server.clone().unwrap();
    let owner = backend.widget("owner", json!({"size": 1})).await;
    backend
        .post(&backend.widgets(""), &owned_by("child", &owner, true))
        .await
        .ok();
    backend
        .delete(&backend.widgets("/owner?propagationPolicy=Orphan"))
        .await
        .ok();
    server.settle();
    backend
        .get(&backend.widgets("/owner"))
        .await
        .refused(404, "NotFound");
    let child = backend.get(&backend.widgets("/child")).await.ok();
    assert!(child["metadata"].get("ownerReferences").is_none());
}

/// A namespace goes with all that it contains; finalizers hold it.
#[tokio::test]
async fn a_namespace_goes_with_its_contents() {
    let backend = Backend::fake().await;
    let server = backend.server.clone().unwrap();
    let mut held = widget("held", json!({"size": 1}));
    held["metadata"]["finalizers"] = json!(["rules.cairn.dev/hold"]);
    backend.post(&backend.widgets(""), &held).await.ok();
    let config = json!({"metadata": {"name": "c"}});
    backend
        .post(&backend.path("/api/v1", "configmaps"), &config)
        .await
        .ok();
    let path = format!("/api/v1/namespaces/{}", backend.namespace);
    backend.delete(&path).await.ok();
    server.settle();
    assert_eq!(backend.get(&path).await.ok()["status"]["phase"], "Terminating");
    backend
        .get(&backend.path("/api/v1", "configmaps/c"))
        .await
        .refused(404, "NotFound");
    backend
        .patch(
            &backend.widgets("/held"),
            MERGE,
            &json!({"metadata": {"finalizers": null}}),
        )
        .await
        .ok();
    server.settle();
    backend.get(&path).await.refused(404, "NotFound");
}

/// A definition goes with its objects, and is served no longer.
#[tokio::test]
async fn a_definition_goes_with_its_objects() {
    let backend = Backend::fake().await;
    let server = backend.server.clone().unwrap();
    backend.widget("a", json!({"size": 1})).await;
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.rules.cairn.dev";
    backend.delete(path).await.ok();
    server.settle();
    backend.get(path).await.refused(404, "NotFound");
    assert_eq!(backend.get(&backend.widgets("")).await.code, 404);
}

const ROLES: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: operator}
rules:
- {apiGroups: [rules.cairn.dev], resources: [widgets], verbs: [get, list, watch, patch]}
- {apiGroups: [rules.cairn.dev], resources: [widgets/status], verbs: [patch]}
- {apiGroups: [""], resources: [secrets], resourceNames: [mine], verbs: [get]}
- {apiGroups: [apps], resources: [daemonsets], verbs: [list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: operator}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: operator}
subjects: [{kind: ServiceAccount, name: operator, namespace: cairn}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: leases, namespace: rules}
rules: [{apiGroups: [coordination.k8s.io], resources: [leases], verbs: ["*"]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: leases, namespace: rules}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: leases}
subjects: [{kind: ServiceAccount, name: operator, namespace: cairn}]
"#;

/// A rule that the library cannot evaluate refuses the object, and the server goes on.
#[tokio::test]
async fn a_rule_that_cannot_be_evaluated_refuses() {
    let backend = Backend::fake().await;
    let server = backend.server.clone().unwrap();
    server
        .put(json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "boxes.rules.cairn.dev"},
            "spec": {"group": "rules.cairn.dev", "scope": "Cluster",
                "names": {"plural": "boxes", "singular": "box", "kind": "Box", "listKind": "BoxList"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                    "type": "object", "properties": {"size": {"type": "string", "maxLength": 64,
                        "x-kubernetes-validations": [{"rule": "quantity(self).compareTo(quantity('1n')) >= 0"}]}}}}}]}}))
        .unwrap();
    let make = |name: &str, size: &str| {
        server.put(json!({"apiVersion": V1, "kind": "Box", "metadata": {"name": name}, "size": size}))
    };
    make("small", "10Gi").unwrap();
    let refused = make("huge", "999999999999999999999999999999E").unwrap_err();
    let message = refused.to_string();
    assert!(
        message.contains("Box.rules.cairn.dev \"huge\" is invalid"),
        "{message}"
    );
    assert!(message.contains("a rule cannot be evaluated"), "{message}");
    make("another", "1Ti").unwrap();
}

/// Roles allow what they say and nothing else, and it is known what they were used for.
#[tokio::test]
async fn roles_allow_what_they_say() {
    let backend = Backend::fake().await;
    let server = backend.server.clone().unwrap();
    assert_eq!(server.load(ROLES).unwrap(), 4);
    backend.widget("a", json!({"size": 1})).await;
    let operator = backend.as_user(User::service_account("cairn", "operator"));
    operator.get(&backend.widgets("/a")).await.ok();
    operator
        .patch(
            &backend.widgets("/a/status"),
            MERGE,
            &json!({"status": {"phase": "x"}}),
        )
        .await
        .ok();
    let refused = operator
        .delete(&backend.widgets("/a"))
        .await
        .refused(403, "Forbidden");
    assert_eq!(
        refused["message"],
        "widgets.rules.cairn.dev \"a\" is forbidden: User \"system:serviceaccount:cairn:operator\" cannot delete resource \"widgets\" in API group \"rules.cairn.dev\" in the namespace \"rules\""
    );
    // An apply that creates needs the right to create.
    operator
        .patch(
            &backend.widgets("/new?fieldManager=x"),
            APPLY,
            &widget("new", json!({"size": 1})),
        )
        .await
        .refused(403, "Forbidden");
    let secrets = backend.path("/api/v1", "secrets");
    operator
        .get(&format!("{secrets}/mine"))
        .await
        .refused(404, "NotFound");
    operator
        .get(&format!("{secrets}/other"))
        .await
        .refused(403, "Forbidden");
    operator.get(&secrets).await.refused(403, "Forbidden");
    let lease = json!({"metadata": {"name": "l"}, "spec": {}});
    let leases = backend.path("/apis/coordination.k8s.io/v1", "leases");
    operator.post(&leases, &lease).await.ok();
    operator
        .get("/apis/coordination.k8s.io/v1/namespaces/default/leases")
        .await
        .refused(403, "Forbidden");
    let nobody = backend.as_user(User::anonymous());
    nobody.get("/healthz").await.ok();
    nobody.get("/apis").await.refused(403, "Forbidden");
    let usage = server.rbac_usage();
    let used: Vec<(&str, usize, &str)> = usage
        .keys()
        .map(|grant| (grant.role.as_str(), grant.rule, grant.verb.as_str()))
        .collect();
    assert!(used.contains(&("ClusterRole/operator", 0, "get")));
    assert!(used.contains(&("ClusterRole/operator", 1, "patch")));
    assert!(used.contains(&("Role/rules/leases", 0, "create")));
    assert!(
        !used
            .iter()
            .any(|(role, rule, _)| *role == "ClusterRole/operator" && *rule == 3)
    );
}

/// Who may do what can be asked.
#[tokio::test]
async fn rights_can_be_asked_for() {
    let backend = Backend::fake().await;
    backend.server.clone().unwrap().load(ROLES).unwrap();
    let operator = backend.as_user(User::service_account("cairn", "operator"));
    let review = |verb: &str| json!({"spec": {"resourceAttributes": {"verb": verb, "group": "rules.cairn.dev", "resource": "widgets"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    assert_eq!(
        operator.post(path, &review("patch")).await.ok()["status"]["allowed"],
        true
    );
    assert_eq!(
        operator.post(path, &review("delete")).await.ok()["status"]["allowed"],
        false
    );
}

/// Faults happen to the requests that they are planned for, as often as planned.
#[tokio::test]
async fn faults_happen_as_planned() {
    let backend = Backend::fake().await;
    let server = backend.server.clone().unwrap();
    let patch = Matcher::verb(Verb::Patch, "widgets");
    backend.widget("a", json!({"size": 1})).await;
    let path = backend.widgets("/a");
    let size = |size: u32| json!({"spec": {"size": size}});
    let stored = || {
        server.get(V1, "Widget", "rules", "a").unwrap()["spec"]["size"]
            .as_u64()
            .unwrap()
    };
    server.fault(patch.clone(), Fault::TooManyRequests(0), 1, Some(1));
    backend.patch(&path, MERGE, &size(2)).await.ok();
    let refused = backend.patch(&path, MERGE, &size(3)).await;
    assert_eq!(refused.headers["retry-after"], "0");
    refused.refused(429, "TooManyRequests");
    assert_eq!(stored(), 2);
    backend.patch(&path, MERGE, &size(3)).await.ok();
    assert_eq!(stored(), 3);
    assert_eq!(server.counters().codes[&429], 1);
    server.fault(patch.clone(), Fault::ErrorBefore(500), 0, Some(1));
    backend
        .patch(&path, MERGE, &size(4))
        .await
        .refused(500, "InternalError");
    assert_eq!(stored(), 3);
    server.fault(patch.clone(), Fault::ErrorAfter(500), 0, Some(1));
    backend
        .patch(&path, MERGE, &size(5))
        .await
        .refused(500, "InternalError");
    assert_eq!(stored(), 5);
    let raw = |fault: Fault| {
        server.fault(patch.clone(), fault, 0, Some(1));
        let service = server.service(User::admin());
        let path = path.clone();
        async move {
            let client = kube::Client::new(service, "default");
            let request = http::Request::builder()
                .method(Method::PATCH)
                .uri(path)
                .header("content-type", MERGE)
                .body(kube::client::Body::from(br#"{"spec":{"size":6}}"#.to_vec()))
                .unwrap();
            client.send(request).await.is_err()
        }
    };
    assert!(raw(Fault::DropBefore).await);
    assert_eq!(stored(), 5);
    assert!(raw(Fault::DropAfter).await);
    assert_eq!(stored(), 6);
    server.fault(Matcher::writes(), Fault::ErrorBefore(503), 0, None);
    backend.patch(&path, MERGE, &size(7)).await;
    server.clear_faults();
    backend.patch(&path, MERGE, &size(8)).await.ok();
    assert_eq!(stored(), 8);
}

/// A stale list is of an earlier state.
#[tokio::test]
async fn a_list_can_be_stale() {
    let backend = Backend::fake().await;
    let server = backend.server.clone().unwrap();
    backend.widget("a", json!({"size": 1})).await;
    let version = server.version();
    backend.widget("b", json!({"size": 1})).await;
    server.fault(
        Matcher::verb(Verb::List, "widgets"),
        Fault::StaleList(version),
        0,
        Some(1),
    );
    let count = |list: &Value| list["items"].as_array().unwrap().len();
    let stale = backend.get(&backend.widgets("")).await.ok();
    assert_eq!(count(&stale), 1);
    assert_eq!(stale["metadata"]["resourceVersion"], version.to_string());
    assert_eq!(count(&backend.get(&backend.widgets("")).await.ok()), 2);
}

/// Watches can be ended, told that they expired, and closed after some events.
#[tokio::test]
async fn watches_can_be_disturbed() {
    let backend = Backend::fake().await;
    let server = backend.server.clone().unwrap();
    let path = backend.widgets("?watch=true");
    backend.widget("a", json!({"size": 1})).await;
    let mut ended = backend.watch(&path).await;
    ended.event().await;
    server.disconnect_watches();
    assert!(ended.next().await.is_none());
    let mut expired = backend.watch(&path).await;
    expired.event().await;
    server.expire_watches();
    let (kind, status) = expired.event().await;
    assert_eq!((kind.as_str(), &status["code"]), ("ERROR", &json!(410)));
    assert!(expired.next().await.is_none());
    server.fault(
        Matcher::verb(Verb::Watch, "widgets"),
        Fault::CloseWatch(1),
        0,
        Some(1),
    );
    let mut closed = backend.watch(&path).await;
    closed.event().await;
    assert!(closed.next().await.is_none());
    // A compaction ends no watch that runs.
    let mut running = backend.watch(&path).await;
    running.event().await;
    server.compact();
    backend.widget("b", json!({"size": 1})).await;
    assert_eq!(running.event().await.0, "ADDED");
}

/// Bookmarks come by themselves.
#[tokio::test]
async fn bookmarks_come_by_themselves() {
    let backend = Backend::of(ApiServer::new(Settings {
        bookmark_interval: Duration::from_millis(20),
        ..Settings::default()
    }))
    .await;
    let server = backend.server.clone().unwrap();
    let version = server.version();
    let mut watch = backend
        .watch(&backend.widgets(&format!(
            "?watch=true&allowWatchBookmarks=true&resourceVersion={version}"
        )))
        .await;
    backend
        .post(
            &backend.path("/api/v1", "configmaps"),
            &json!({"metadata": {"name": "c"}}),
        )
        .await
        .ok();
    // Bookmarks tell of versions that other kinds made, so that a quiet watch does not expire.
    loop {
        let (kind, object) = watch.event().await;
        assert_eq!(kind, "BOOKMARK");
        if crate::backend::version(&object) == server.version() {
            break;
        }
    }
}

/// A log of limited length expires those that are behind.
#[tokio::test]
async fn a_short_log_expires_what_is_behind() {
    let backend = Backend::of(ApiServer::new(Settings {
        log_limit: 3,
        ..Settings::default()
    }))
    .await;
    let first = backend.widget("a", json!({"size": 1})).await;
    let list = backend.get(&backend.widgets("?limit=1")).await.ok();
    for name in ["b", "c", "d", "e"] {
        backend.widget(name, json!({"size": 1})).await;
    }
    assert_eq!(list["metadata"]["continue"].as_str().unwrap_or_default(), "");
    let version = crate::backend::version(&first);
    let exact = format!("?resourceVersion={version}&resourceVersionMatch=Exact");
    backend
        .get(&backend.widgets(&exact))
        .await
        .refused(410, "Expired");
    let page = backend.get(&backend.widgets("?limit=1")).await.ok();
    let token = page["metadata"]["continue"].as_str().unwrap().to_owned();
    for name in ["f", "g", "h", "i"] {
        backend.widget(name, json!({"size": 1})).await;
    }
    let expired = backend
        .get(&backend.widgets(&format!("?limit=1&continue={token}")))
        .await
        .refused(410, "Expired");
    let inconsistent = expired["metadata"]["continue"].as_str().unwrap();
    let rest = backend
        .get(&backend.widgets(&format!("?limit=100&continue={inconsistent}")))
        .await
        .ok();
    assert_eq!(rest["items"].as_array().unwrap().len(), 8);
}

/// Requests are counted by user, verb and resource; changes apart.
#[tokio::test]
async fn requests_and_changes_are_counted() {
    let backend = Backend::fake().await;
    let server = backend.server.clone().unwrap();
    backend.widget("a", json!({"size": 1})).await;
    server.reset_counters();
    for size in [1, 1, 2] {
        backend
            .patch(&backend.widgets("/a"), MERGE, &json!({"spec": {"size": size}}))
            .await
            .ok();
    }
    backend.get(&backend.widgets("/a")).await.ok();
    let counters = server.counters();
    assert_eq!(counters.writes(), 3);
    assert_eq!(counters.changes(), 1);
    assert_eq!(counters.of(Verb::Patch, "widgets.rules.cairn.dev"), 3);
    assert_eq!(counters.of(Verb::Get, "widgets.rules.cairn.dev"), 1);
}

/// Time is that of the clock that was given.
#[tokio::test]
async fn time_is_that_of_the_clock() {
    let clock = std::sync::Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
    let backend = Backend::of(ApiServer::new(Settings {
        clock: clock.clone(),
        ..Settings::default()
    }))
    .await;
    clock.advance(3600);
    let made = backend.widget("a", json!({"size": 1})).await;
    assert_eq!(made["metadata"]["creationTimestamp"], "2026-01-01T01:00:00Z");
    assert_eq!(clock.now().as_second() % 3600, 0);
}

/// The stand-ins do what a healthy cluster does: pods run, claims bind, Services have endpoints.
#[tokio::test]
async fn stand_ins_do_what_a_healthy_cluster_does() {
    let backend = Backend::of(ApiServer::new(Settings {
        controllers: Controllers::all(),
        ..Settings::default()
    }))
    .await;
    let server = backend.server.clone().unwrap();
    let loaded = server
        .load(
            r#"
{apiVersion: v1, kind: Node, metadata: {name: n1}}
---
{apiVersion: v1, kind: Node, metadata: {name: n2}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: d, namespace: rules}
spec:
  selector: {matchLabels: {app: d}}
  template: {metadata: {labels: {app: d}}, spec: {containers: [{name: c, image: x}]}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: s, namespace: rules}
spec:
  serviceName: s
  replicas: 2
  selector: {matchLabels: {app: s}}
  template: {metadata: {labels: {app: s}}, spec: {containers: [{name: c, image: x}]}}
  volumeClaimTemplates:
  - {metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], storageClassName: fast, resources: {requests: {storage: 1Gi}}}}
---
{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: fast}, provisioner: x}
---
apiVersion: v1
kind: Service
metadata: {name: d, namespace: rules}
spec: {selector: {app: d}, ports: [{port: 2049}]}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: v}
spec: {capacity: {storage: 2Gi}, accessModes: [ReadWriteMany], nfs: {server: 10.0.0.1, path: /x}, claimRef: {namespace: rules, name: c}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: c, namespace: rules}
spec: {accessModes: [ReadWriteMany], storageClassName: "", volumeName: v, resources: {requests: {storage: 1Gi}}}
"#,
        )
        .unwrap();
    assert_eq!(loaded, 8);
    server.settle();
    assert_eq!(server.settle(), 0);
    let pods = server.list("v1", "Pod", Some("rules"));
    assert_eq!(pods.len(), 4);
    assert!(pods.iter().all(|pod| pod["status"]["phase"] == "Running"));
    let set = server.get("apps/v1", "DaemonSet", "rules", "d").unwrap();
    assert_eq!(set["status"]["numberReady"], 2);
    assert_eq!(set["status"]["observedGeneration"], 1);
    let slices = server.list("discovery.k8s.io/v1", "EndpointSlice", Some("rules"));
    let endpoints = slices[0]["endpoints"].as_array().unwrap();
    let nodes: Vec<&str> = endpoints
        .iter()
        .map(|endpoint| endpoint["nodeName"].as_str().unwrap())
        .collect();
    assert_eq!(nodes, ["n1", "n2"]);
    assert!(
        endpoints
            .iter()
            .all(|endpoint| endpoint["conditions"]["ready"] == true)
    );
    let claim = server.get("v1", "PersistentVolumeClaim", "rules", "c").unwrap();
    assert_eq!(claim["status"]["phase"], "Bound");
    assert_eq!(claim["status"]["capacity"]["storage"], "2Gi");
    let volume = server.get("v1", "PersistentVolume", "", "v").unwrap();
    assert_eq!(volume["spec"]["claimRef"]["uid"], claim["metadata"]["uid"]);
    let provisioned = server
        .get("v1", "PersistentVolumeClaim", "rules", "data-s-0")
        .unwrap();
    assert_eq!(provisioned["status"]["phase"], "Bound");
    server
        .delete("v1", "PersistentVolumeClaim", "rules", "c")
        .unwrap();
    server.delete("v1", "Node", "", "n2").unwrap();
    server.settle();
    assert!(server.get("v1", "PersistentVolumeClaim", "rules", "c").is_none());
    let volume = server.get("v1", "PersistentVolume", "", "v").unwrap();
    assert_eq!(volume["status"]["phase"], "Released");
    let set = server.get("apps/v1", "DaemonSet", "rules", "d").unwrap();
    assert_eq!(set["status"]["numberReady"], 1);
}

/// The background task settles after changes.
#[tokio::test]
async fn the_background_task_settles_after_changes() {
    let backend = Backend::fake().await;
    let server = backend.server.clone().unwrap();
    let background = server.background();
    let owner = backend.widget("owner", json!({"size": 1})).await;
    let mut watch = backend
        .watch(&backend.widgets("?watch=true&fieldSelector=metadata.name%3Dchild"))
        .await;
    backend
        .post(&backend.widgets(""), &owned_by("child", &owner, false))
        .await
        .ok();
    assert_eq!(watch.event().await.0, "ADDED");
    backend.delete(&backend.widgets("/owner")).await.ok();
    assert_eq!(watch.event().await.0, "DELETED");
    background.stop().await;
}

/// A thousand and ten thousand objects, with watches on all: a second or so, not minutes.
#[tokio::test]
async fn eleven_thousand_objects_are_no_burden() {
    const OBJECTS: usize = 11_000;
    let backend = Backend::of(ApiServer::new(Settings {
        log_limit: 50_000,
        ..Settings::default()
    }))
    .await;
    let server = backend.server.clone().unwrap();
    let mut watches = Vec::new();
    for _ in 0..3 {
        watches.push(backend.watch(&backend.widgets("?watch=true")).await);
    }
    let start = Instant::now();
    for index in 0..OBJECTS {
        let mut object = widget(&format!("w{index}"), json!({"size": 1}));
        object["metadata"]["namespace"] = json!("rules");
        server.put(object).unwrap();
    }
    let written = start.elapsed();
    for watch in &mut watches {
        for _ in 0..OBJECTS {
            assert_eq!(watch.event().await.0, "ADDED");
        }
    }
    let watched = start.elapsed();
    let mut count = 0;
    let mut token = String::new();
    loop {
        let list = backend
            .get(&backend.widgets(&format!("?limit=500&continue={token}")))
            .await
            .ok();
        count += list["items"].as_array().unwrap().len();
        list["metadata"]["continue"]
            .as_str()
            .unwrap_or_default()
            .clone_into(&mut token);
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(count, OBJECTS);
    server.settle();
    let settled = start.elapsed();
    eprintln!("written {written:?}, watched {watched:?}, listed and settled {settled:?}");
    assert!(settled < Duration::from_secs(120), "{settled:?}");
}
