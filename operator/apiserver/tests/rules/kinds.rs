//! Rules of the kinds that every cluster has: defaults, what the server adds, what cannot be changed.

use serde_json::{Value, json};

use crate::backend::{Backend, MERGE, owned, version};

const CORE: &str = "/api/v1";
const APPS: &str = "/apis/apps/v1";

fn pod_template(container: &Value) -> Value {
    json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}})
}

fn stateful_set(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "serviceName": name, "selector": {"matchLabels": {"a": "b"}},
            "template": pod_template(&json!({"name": "c", "image": "x:1", "ports": [{"containerPort": 80}]})),
            "volumeClaimTemplates": [{
                "metadata": {"name": "d"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }],
        },
    })
}

/// Sets of pods get the defaults that every cluster gives them.
pub async fn sets_of_pods_have_their_defaults(backend: Backend) {
    let made = backend
        .post(&backend.path(APPS, "statefulsets"), &stateful_set("s"))
        .await
        .ok();
    assert_eq!(
        made["spec"],
        json!({
            "replicas": 1, "serviceName": "s", "podManagementPolicy": "OrderedReady", "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"a": "b"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {
                    "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
                    "securityContext": {}, "schedulerName": "default-scheduler",
                    "containers": [{
                        "name": "c", "image": "x:1", "imagePullPolicy": "IfNotPresent", "resources": {},
                        "ports": [{"containerPort": 80, "protocol": "TCP"}],
                        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                    }],
                },
            },
            "volumeClaimTemplates": [{
                "kind": "PersistentVolumeClaim", "apiVersion": "v1", "metadata": {"name": "d"},
                "spec": {
                    "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeMode": "Filesystem",
                },
                "status": {"phase": "Pending"},
            }],
        })
    );
    assert_eq!(made["metadata"]["generation"], 1);
    let set = json!({
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": pod_template(&json!({"name": "c", "image": "x"}))},
    });
    let daemons = backend.post(&backend.path(APPS, "daemonsets"), &set).await.ok();
    assert_eq!(
        daemons["spec"]["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}})
    );
    assert_eq!(
        daemons["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"],
        "Always"
    );
    let deployment = backend.post(&backend.path(APPS, "deployments"), &set).await.ok();
    assert_eq!(deployment["spec"]["progressDeadlineSeconds"], 600);
    assert_eq!(
        deployment["spec"]["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
    );
}

/// What a creation owns of a built-in kind: all but what its empty struct has.
pub async fn a_creation_owns_what_it_sets(backend: Backend) {
    let made = backend
        .post(&backend.path(APPS, "statefulsets"), &stateful_set("s"))
        .await
        .ok();
    assert_eq!(
        owned(&made, "tester"),
        json!({"f:spec": {
            "f:persistentVolumeClaimRetentionPolicy": {".": {}, "f:whenDeleted": {}, "f:whenScaled": {}},
            "f:podManagementPolicy": {}, "f:replicas": {}, "f:revisionHistoryLimit": {}, "f:selector": {},
            "f:serviceName": {}, "f:volumeClaimTemplates": {},
            "f:updateStrategy": {"f:rollingUpdate": {".": {}, "f:partition": {}}, "f:type": {}},
            "f:template": {
                "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
                "f:spec": {
                    "f:dnsPolicy": {}, "f:restartPolicy": {}, "f:schedulerName": {}, "f:securityContext": {},
                    "f:terminationGracePeriodSeconds": {},
                    "f:containers": {"k:{\"name\":\"c\"}": {
                        ".": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {}, "f:resources": {},
                        "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:protocol": {}}},
                        "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {},
                    }},
                },
            },
        }})
    );
    let config = json!({"metadata": {"name": "c", "labels": {"x": "y"}}, "data": {"k": "v"}});
    let made = backend
        .post(&backend.path(CORE, "configmaps"), &config)
        .await
        .ok();
    assert_eq!(
        owned(&made, "tester"),
        json!({"f:data": {".": {}, "f:k": {}}, "f:metadata": {"f:labels": {".": {}, "f:x": {}}}})
    );
    let service =
        json!({"metadata": {"name": "s"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}});
    let made = backend.post(&backend.path(CORE, "services"), &service).await.ok();
    assert_eq!(
        owned(&made, "tester"),
        json!({"f:spec": {
            "f:internalTrafficPolicy": {}, "f:selector": {}, "f:sessionAffinity": {}, "f:type": {},
            "f:ports": {".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}}},
        }})
    );
}

/// Services get an address at once, which stays.
pub async fn services_get_an_address_that_stays(backend: Backend) {
    let services = backend.path(CORE, "services");
    let service =
        json!({"metadata": {"name": "s"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}});
    let made = backend.post(&services, &service).await.ok();
    let address = made["spec"]["clusterIP"].as_str().unwrap();
    assert!(address.starts_with("10.96."), "{address}");
    assert_eq!(made["spec"]["clusterIPs"], json!([address]));
    assert_eq!(
        made["spec"]["ports"],
        json!([{"port": 80, "protocol": "TCP", "targetPort": 80}])
    );
    assert!(made["metadata"].get("generation").is_none());
    let path = format!("{services}/s");
    let mut without = service.clone();
    without["spec"]["ports"][0]["port"] = json!(81);
    let put = backend.put(&path, &without).await.ok();
    assert_eq!(put["spec"]["clusterIP"], address);
    backend
        .patch(&path, MERGE, &json!({"spec": {"clusterIP": "10.96.200.200"}}))
        .await
        .refused(422, "Invalid");
    let headless = json!({"metadata": {"name": "h"}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}});
    let made = backend.post(&services, &headless).await.ok();
    assert_eq!(made["spec"]["clusterIPs"], json!(["None"]));
    let second = json!({"metadata": {"name": "t"}, "spec": {"clusterIP": address, "ports": [{"port": 80}]}});
    backend.post(&services, &second).await.refused(422, "Invalid");
}

/// What cannot be changed is refused.
pub async fn what_is_fixed_cannot_be_changed(backend: Backend) {
    let sets = backend.path(APPS, "statefulsets");
    let made = backend.post(&sets, &stateful_set("s")).await.ok();
    let refused = backend
        .patch(
            &format!("{sets}/s"),
            MERGE,
            &json!({"spec": {"serviceName": "other"}}),
        )
        .await
        .refused(422, "Invalid");
    assert_eq!(refused["details"]["causes"][0]["reason"], "FieldValueForbidden");
    let scaled = backend
        .patch(&format!("{sets}/s"), MERGE, &json!({"spec": {"replicas": 3}}))
        .await
        .ok();
    assert_eq!(scaled["metadata"]["generation"], 2);
    assert!(version(&scaled) > version(&made));
    let mut unfit = stateful_set("t");
    unfit["spec"]["template"]["metadata"]["labels"] = json!({"a": "c"});
    backend.post(&sets, &unfit).await.refused(422, "Invalid");
    let secrets = backend.path(CORE, "secrets");
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"a": "b"}});
    let made = backend.post(&secrets, &secret).await.ok();
    assert_eq!(made["data"], json!({"a": "Yg=="}));
    assert_eq!(made["type"], "Opaque");
    backend
        .patch(&format!("{secrets}/s"), MERGE, &json!({"type": "other"}))
        .await
        .refused(422, "Invalid");
    let configs = backend.path(CORE, "configmaps");
    let config = json!({"metadata": {"name": "c"}, "immutable": true, "data": {"a": "b"}});
    backend.post(&configs, &config).await.ok();
    backend
        .patch(&format!("{configs}/c"), MERGE, &json!({"data": {"a": "c"}}))
        .await
        .refused(422, "Invalid");
    let bindings = backend.path("/apis/rbac.authorization.k8s.io/v1", "rolebindings");
    let binding = json!({
        "metadata": {"name": "b"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "x"},
        "subjects": [{"kind": "User", "name": "y"}],
    });
    let made = backend.post(&bindings, &binding).await.ok();
    assert_eq!(made["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
    let other = json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "z"}});
    backend
        .patch(&format!("{bindings}/b"), MERGE, &other)
        .await
        .refused(422, "Invalid");
}

/// Claims and volumes: defaults, protection, and that only the size may grow.
pub async fn claims_and_volumes_are_protected_and_fixed(backend: Backend) {
    let claims = backend.path(CORE, "persistentvolumeclaims");
    let claim = json!({
        "metadata": {"name": "c"},
        "spec": {
            "accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeName": "v",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    });
    let made = backend.post(&claims, &claim).await.ok();
    assert_eq!(
        made["metadata"]["finalizers"],
        json!(["kubernetes.io/pvc-protection"])
    );
    assert_eq!(made["spec"]["volumeMode"], "Filesystem");
    assert_eq!(made["status"]["phase"], "Pending");
    assert_eq!(
        owned(&made, "tester"),
        json!({"f:spec": {
            "f:accessModes": {}, "f:resources": {"f:requests": {".": {}, "f:storage": {}}}, "f:storageClassName": {},
            "f:volumeMode": {}, "f:volumeName": {},
        }})
    );
    backend
        .patch(
            &format!("{claims}/c"),
            MERGE,
            &json!({"spec": {"accessModes": ["ReadWriteOnce"]}}),
        )
        .await
        .refused(422, "Invalid");
    let name = format!("{}-fixed", backend.namespace);
    let volume = json!({
        "metadata": {"name": name},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"], "nfs": {"server": "10.0.0.1", "path": "/x"}},
    });
    backend.post("/api/v1/persistentvolumes", &volume).await.ok();
    let path = format!("/api/v1/persistentvolumes/{name}");
    backend
        .patch(&path, MERGE, &json!({"spec": {"nfs": {"path": "/y"}}}))
        .await
        .refused(422, "Invalid");
    backend
        .patch(
            &path,
            MERGE,
            &json!({"spec": {"capacity": {"storage": "2Gi"}, "mountOptions": ["hard"]}}),
        )
        .await
        .ok();
    let marked = backend.delete(&path).await.ok();
    assert_eq!(
        marked["metadata"]["finalizers"],
        json!(["kubernetes.io/pv-protection"])
    );
    backend
        .patch(&path, MERGE, &json!({"metadata": {"finalizers": null}}))
        .await
        .ok();
    backend.get(&path).await.refused(404, "NotFound");
}

/// Other kinds that an operator makes: their defaults and generations.
pub async fn other_kinds_have_their_defaults(backend: Backend) {
    let policy = json!({"metadata": {"name": "n"}, "spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]}});
    let made = backend
        .post(
            &backend.path("/apis/networking.k8s.io/v1", "networkpolicies"),
            &policy,
        )
        .await
        .ok();
    assert_eq!(
        made["spec"],
        json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": 80, "protocol": "TCP"}]}]})
    );
    assert_eq!(made["metadata"]["generation"], 1);
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}});
    let made = backend
        .post(&backend.path("/apis/policy/v1", "poddisruptionbudgets"), &budget)
        .await
        .ok();
    assert_eq!(made["status"]["disruptionsAllowed"], 0);
    assert_eq!(
        owned(&made, "tester"),
        json!({"f:spec": {"f:minAvailable": {}, "f:selector": {}}})
    );
    let slice = json!({
        "metadata": {"name": "e"}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}],
    });
    let made = backend
        .post(
            &backend.path("/apis/discovery.k8s.io/v1", "endpointslices"),
            &slice,
        )
        .await
        .ok();
    assert_eq!(
        made["endpoints"],
        json!([{"addresses": ["10.0.0.1"], "conditions": {}}])
    );
    assert_eq!(
        made["ports"],
        json!([{"name": "", "port": 80, "protocol": "TCP"}])
    );
    let lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "x", "leaseTransitions": 0}});
    let made = backend
        .post(&backend.path("/apis/coordination.k8s.io/v1", "leases"), &lease)
        .await
        .ok();
    assert_eq!(
        made["spec"],
        json!({"holderIdentity": "x", "leaseTransitions": 0})
    );
    assert_eq!(
        owned(&made, "tester"),
        json!({"f:spec": {"f:holderIdentity": {}, "f:leaseTransitions": {}}})
    );
    let namespace = backend
        .get(&format!("/api/v1/namespaces/{}", backend.namespace))
        .await
        .ok();
    assert_eq!(
        namespace["metadata"]["labels"]["kubernetes.io/metadata.name"],
        backend.namespace.as_str()
    );
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(namespace["status"]["phase"], "Active");
}

/// A lease is taken by whoever writes first.
pub async fn a_lease_is_taken_by_whoever_writes_first(backend: Backend) {
    let leases = backend.path("/apis/coordination.k8s.io/v1", "leases");
    let lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": ""}});
    let made = backend.post(&leases, &lease).await.ok();
    let take = |holder: &str| {
        let mut lease = made.clone();
        lease["spec"]["holderIdentity"] = json!(holder);
        lease["spec"]["renewTime"] = json!("2026-01-01T00:00:00.000000Z");
        lease
    };
    let path = format!("{leases}/l");
    backend.put(&path, &take("one")).await.ok();
    backend.put(&path, &take("two")).await.refused(409, "Conflict");
}

/// Events of both groups are the same objects.
pub async fn events_of_both_groups_are_the_same(backend: Backend) {
    let event = json!({
        "metadata": {"name": "e"}, "eventTime": "2026-11-21T10:00:00.000000Z", "reportingController": "c.io/x",
        "reportingInstance": "i", "action": "a", "reason": "r", "note": "n", "type": "Normal",
        "regarding": {"kind": "Pod", "name": "x", "namespace": backend.namespace},
    });
    backend
        .post(&backend.path("/apis/events.k8s.io/v1", "events"), &event)
        .await
        .ok();
    let core = backend.get(&backend.path(CORE, "events/e")).await.ok();
    assert_eq!(core["apiVersion"], "v1");
    assert_eq!(core["message"], "n");
    assert_eq!(core["reportingComponent"], "c.io/x");
    assert_eq!(core["involvedObject"]["name"], "x");
    let selected = backend
        .get(&backend.path(
            CORE,
            "events?fieldSelector=involvedObject.name%3Dx,involvedObject.kind%3DPod",
        ))
        .await
        .ok();
    assert_eq!(selected["items"].as_array().unwrap().len(), 1);
    let patched = backend
        .patch(
            &backend.path("/apis/events.k8s.io/v1", "events/e"),
            MERGE,
            &json!({"series": {"count": 2, "lastObservedTime": "2026-11-21T10:01:00.000000Z"}}),
        )
        .await
        .ok();
    assert_eq!(patched["series"]["count"], 2);
    assert_eq!(patched["note"], "n");
}

/// What is incomplete is refused.
pub async fn incomplete_objects_are_refused(backend: Backend) {
    let causes = |refused: Value| -> Vec<String> {
        refused["details"]["causes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|cause| cause["field"].as_str().unwrap().to_owned())
            .collect()
    };
    let volume = json!({
        "metadata": {"name": format!("{}-bad", backend.namespace)},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"]},
    });
    let refused = backend
        .post("/api/v1/persistentvolumes", &volume)
        .await
        .refused(422, "Invalid");
    assert_eq!(causes(refused), ["spec"]);
    let services = backend.path(CORE, "services");
    let portless = json!({"metadata": {"name": "s"}, "spec": {"ports": []}});
    let refused = backend.post(&services, &portless).await.refused(422, "Invalid");
    assert_eq!(causes(refused), ["spec.ports"]);
    let nameless = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 1}, {"port": 2}]}});
    let refused = backend.post(&services, &nameless).await.refused(422, "Invalid");
    assert_eq!(causes(refused), ["spec.ports[0].name", "spec.ports[1].name"]);
    let secret = json!({"metadata": {"name": "s"}, "type": "kubernetes.io/tls", "data": {"tls.crt": "Yg=="}});
    let refused = backend
        .post(&backend.path(CORE, "secrets"), &secret)
        .await
        .refused(422, "Invalid");
    assert_eq!(causes(refused), ["data[tls.key]"]);
    let lease = json!({"metadata": {"name": "l"}, "spec": {"leaseDurationSeconds": 0}});
    let leases = backend.path("/apis/coordination.k8s.io/v1", "leases");
    let refused = backend.post(&leases, &lease).await.refused(422, "Invalid");
    assert_eq!(causes(refused), ["spec.leaseDurationSeconds"]);
}

/// Quantities are kept in one way of writing; an application that writes them otherwise is no change.
pub async fn quantities_are_written_in_one_way(backend: Backend) {
    let name = format!("{}-quantity", backend.namespace);
    let path = format!("/api/v1/persistentvolumes/{name}?fieldManager=one");
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "10240Mi"}, "nfs": {"server": "a", "path": "/b"},
        },
    });
    let made = backend.patch(&path, crate::backend::APPLY, &volume).await.ok();
    assert_eq!(made["spec"]["capacity"]["storage"], "10Gi");
    let again = backend.patch(&path, crate::backend::APPLY, &volume).await.ok();
    assert_eq!(version(&made), version(&again));
}

/// What is no kind, no subresource or no method is refused.
pub async fn what_is_not_served_is_not_found(backend: Backend) {
    let nothing = backend.get("/apis/nothing.dev/v1/things").await;
    assert_eq!((nothing.code, nothing.body), (404, json!("404 page not found\n")));
    backend
        .get(&backend.path(CORE, "things"))
        .await
        .refused(404, "NotFound");
    backend
        .get(&backend.path(CORE, "configmaps/x/status"))
        .await
        .refused(404, "NotFound");
    backend
        .delete("/api/v1/namespaces")
        .await
        .refused(405, "MethodNotAllowed");
}

/// Fields of the wrong type are refused.
pub async fn wrong_types_are_refused(backend: Backend) {
    backend
        .post(
            &backend.path(CORE, "configmaps"),
            &json!({"metadata": {"name": "c"}, "data": {"a": 1}}),
        )
        .await
        .refused(400, "BadRequest");
    let replicas = json!({"spec": {"replicas": "many"}});
    let sets = backend.path(APPS, "statefulsets");
    backend.post(&sets, &stateful_set("s")).await.ok();
    let reply = backend.patch(&format!("{sets}/s"), MERGE, &replicas).await;
    assert!(matches!(reply.code, 400 | 422), "{}", reply.body);
}
