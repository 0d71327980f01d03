//! Stand-ins for the controllers of a real cluster, each switched on by the test that needs it. They do what a healthy
//! cluster does at once: pods of sets run and are ready, claims bind, Services have endpoints.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Cluster, collector::system_options};
use crate::{
    clock,
    kinds::limits::quantity,
    object::{self, at, text},
    selector::Selector,
};

/// Which stand-ins work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Controllers {
    /// StatefulSets, DaemonSets and Deployments have pods, and these are ready on nodes that exist.
    pub workloads: bool,
    /// Claims bind to the volumes that name them or that they name; protection of volumes and claims ends with their use.
    pub volumes: bool,
    /// Services with a selector have an EndpointSlice of their ready pods.
    pub endpoints: bool,
}

impl Controllers {
    /// All of them.
    pub fn all() -> Self {
        Self {
            workloads: true,
            volumes: true,
            endpoints: true,
        }
    }
}

impl Cluster {
    /// One pass; returns how many changes it made.
    pub fn reconcile(&mut self, which: Controllers, now: Timestamp) -> usize {
        let before = self.store.version();
        if which.workloads {
            self.daemon_sets(now);
            self.replicas("statefulsets.apps", now);
            self.replicas("deployments.apps", now);
        }
        if which.volumes {
            self.bind(now);
            self.unprotect();
        }
        if which.endpoints {
            self.endpoint_slices(now);
        }
        usize::try_from(self.store.version() - before).unwrap_or(usize::MAX)
    }

    /// Writes an object for the system if it says anything new; made if it does not exist.
    fn ensure(&mut self, table: &str, object: Value) {
        let current = self
            .store
            .get(table, object::namespace(&object), object::name(&object));
        if current.is_none_or(|current| !object::same_content(&current, &object)) {
            self.store.put(table, object);
        }
    }

    fn set_status(&mut self, table: &str, entry: &Value, status: Value) {
        let mut new = entry.clone();
        new["status"] = status;
        self.ensure(table, new);
    }

    /// A pod of a set, running and ready; made if it does not exist.
    fn run_pod(&mut self, set: &Value, kind: &str, name: &str, node: Option<&str>, now: Timestamp) {
        let namespace = object::namespace(set).to_owned();
        let Some(pods) = self.kinds.get("", "v1", "pods") else {
            return;
        };
        let template = at(set, &["spec", "template"]).cloned().unwrap_or_default();
        if self.store.get("pods", &namespace, name).is_none() {
            let mut pod = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": name, "namespace": namespace,
                    "labels": at(&template, &["metadata", "labels"]).cloned().unwrap_or(json!({})),
                    "ownerReferences": [{
                        "apiVersion": "apps/v1", "kind": kind, "name": object::name(set), "uid": object::uid(set),
                        "controller": true, "blockOwnerDeletion": true,
                    }],
                },
                "spec": template.get("spec").cloned().unwrap_or_default(),
            });
            if let Some(node) = node {
                pod["spec"]["nodeName"] = json!(node);
            }
            if self.create(&pods, &namespace, pod, &system_options(now)).is_err() {
                return;
            }
        }
        let Some(pod) = self.store.get("pods", &namespace, name) else {
            return;
        };
        if text(&pod, &["status", "phase"]) == "Running" || object::is_deleting(&pod) {
            return;
        }
        let time = clock::seconds(now);
        let version = object::version(&pod);
        let address = format!("10.244.{}.{}", (version / 250) % 250, version % 250 + 1);
        let statuses: Vec<Value> = at(&pod, &["spec", "containers"])
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|container| {
                json!({
                    "name": container["name"], "image": container["image"], "imageID": "", "ready": true,
                    "restartCount": 0, "started": true, "state": {"running": {"startedAt": time}},
                })
            })
            .collect();
        let conditions: Vec<Value> = ["PodScheduled", "Initialized", "ContainersReady", "Ready"]
            .into_iter()
            .map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": time}))
            .collect();
        let status = json!({
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "startTime": time,
            "conditions": conditions, "containerStatuses": statuses, "qosClass": "BestEffort",
        });
        self.set_status("pods", &pod, status);
    }

    fn nodes(&self) -> Vec<String> {
        self.store
            .list("nodes", None)
            .iter()
            .map(|node| object::name(node).to_owned())
            .collect()
    }

    fn pods_of(&self, set: &Value) -> Vec<std::sync::Arc<Value>> {
        self.store
            .list("pods", Some(object::namespace(set)))
            .into_iter()
            .filter(|pod| {
                object::owners(pod)
                    .iter()
                    .any(|owner| text(owner, &["uid"]) == object::uid(set))
            })
            .collect()
    }

    fn daemon_sets(&mut self, now: Timestamp) {
        for set in self.store.list("daemonsets.apps", None) {
            if object::is_deleting(&set) {
                continue;
            }
            let wanted = at(&set, &["spec", "template", "spec", "nodeSelector"]).cloned();
            let nodes: Vec<String> = self
                .store
                .list("nodes", None)
                .iter()
                .filter(|node| Selector::match_labels(wanted.as_ref().unwrap_or(&Value::Null)).matches(node))
                .map(|node| object::name(node).to_owned())
                .collect();
            for pod in self.pods_of(&set) {
                if !nodes.iter().any(|node| node == text(&pod, &["spec", "nodeName"])) {
                    self.store
                        .remove("pods", object::namespace(&pod), object::name(&pod));
                }
            }
            for node in &nodes {
                let name = format!("{}-{node}", object::name(&set));
                self.run_pod(&set, "DaemonSet", &name, Some(node), now);
            }
            let count = nodes.len();
            let mut status = json!({
                "currentNumberScheduled": count, "desiredNumberScheduled": count, "numberReady": count,
                "numberMisscheduled": 0, "observedGeneration": set["metadata"]["generation"],
            });
            if count > 0 {
                status["numberAvailable"] = json!(count);
                status["updatedNumberScheduled"] = json!(count);
            }
            self.set_status("daemonsets.apps", &set, status);
        }
    }

    fn replicas(&mut self, table: &str, now: Timestamp) {
        let stateful = table.starts_with("statefulsets");
        let kind = if stateful { "StatefulSet" } else { "Deployment" };
        for set in self.store.list(table, None) {
            if object::is_deleting(&set) {
                continue;
            }
            let wanted = at(&set, &["spec", "replicas"])
                .and_then(Value::as_u64)
                .unwrap_or(1);
            let nodes = self.nodes();
            let names: Vec<String> = (0..wanted)
                .map(|index| format!("{}-{index}", object::name(&set)))
                .collect();
            for pod in self.pods_of(&set) {
                if !names.iter().any(|name| name == object::name(&pod)) {
                    self.store
                        .remove("pods", object::namespace(&pod), object::name(&pod));
                }
            }
            for (index, name) in names.iter().enumerate() {
                if stateful {
                    self.claims_of(&set, name, now);
                }
                let node = if nodes.is_empty() {
                    None
                } else {
                    nodes.get(index % nodes.len()).map(String::as_str)
                };
                self.run_pod(&set, kind, name, node, now);
            }
            let mut status = json!({
                "replicas": wanted, "readyReplicas": wanted, "availableReplicas": wanted, "updatedReplicas": wanted,
                "observedGeneration": set["metadata"]["generation"],
            });
            if stateful {
                let revision = format!("{}-{}", object::name(&set), set["metadata"]["generation"]);
                status["currentReplicas"] = json!(wanted);
                status["currentRevision"] = json!(revision);
                status["updateRevision"] = json!(revision);
                status["collisionCount"] = json!(0);
            } else {
                let since = at(&set, &["status", "conditions", "0", "lastTransitionTime"])
                    .cloned()
                    .or_else(|| {
                        at(&set, &["status", "conditions"])
                            .and_then(Value::as_array)
                            .and_then(|list| list.first())
                            .map(|condition| condition["lastTransitionTime"].clone())
                    })
                    .unwrap_or_else(|| json!(clock::seconds(now)));
                status["conditions"] = json!([{
                    "type": "Available", "status": "True", "reason": "MinimumReplicasAvailable",
                    "message": "Deployment has minimum availability.", "lastTransitionTime": since, "lastUpdateTime": since,
                }]);
            }
            self.set_status(table, &set, status);
        }
    }

    /// The claims of one pod of a StatefulSet.
    fn claims_of(&mut self, set: &Value, pod: &str, now: Timestamp) {
        let Some(kind) = self.kinds.get("", "v1", "persistentvolumeclaims") else {
            return;
        };
        let namespace = object::namespace(set).to_owned();
        let templates = at(set, &["spec", "volumeClaimTemplates"]).and_then(Value::as_array);
        for template in templates.into_iter().flatten() {
            let name = format!("{}-{pod}", object::name(template));
            if self.store.get(&kind.table, &namespace, &name).is_some() {
                continue;
            }
            let claim = json!({
                "metadata": {
                    "name": name,
                    "labels": at(set, &["spec", "selector", "matchLabels"]).cloned().unwrap_or(json!({})),
                },
                "spec": template["spec"],
            });
            let made = self.create(&kind, &namespace, claim, &system_options(now));
            debug_assert!(made.is_ok(), "templates of claims are valid");
        }
    }

    /// Binds claims and volumes that name each other, or one of which names the other and both fit. Claims with a class
    /// that nobody names get a volume made for them.
    fn bind(&mut self, now: Timestamp) {
        let claims = self.store.list("persistentvolumeclaims", None);
        for claim in claims {
            if object::is_deleting(&claim) || text(&claim, &["status", "phase"]) == "Bound" {
                continue;
            }
            let (namespace, name) = (object::namespace(&claim), object::name(&claim));
            let wanted = text(&claim, &["spec", "volumeName"]);
            let size = quantity(text(&claim, &["spec", "resources", "requests", "storage"])).unwrap_or(0.0);
            let class = text(&claim, &["spec", "storageClassName"]);
            let volume = self
                .store
                .list("persistentvolumes", None)
                .into_iter()
                .find(|volume| {
                    let reference = at(volume, &["spec", "claimRef"]);
                    let refers = reference.is_some_and(|reference| {
                        text(reference, &["namespace"]) == namespace
                            && text(reference, &["name"]) == name
                            && (text(reference, &["uid"]).is_empty()
                                || text(reference, &["uid"]) == object::uid(&claim))
                    });
                    let fits = text(volume, &["spec", "storageClassName"]) == class
                        && quantity(text(volume, &["spec", "capacity", "storage"])).unwrap_or(0.0) >= size;
                    let named = if wanted.is_empty() {
                        refers
                    } else {
                        object::name(volume) == wanted
                    };
                    named && fits && (reference.is_none() || refers) && !object::is_deleting(volume)
                });
            let volume = match volume {
                Some(volume) => Value::clone(&volume),
                None if wanted.is_empty() && !class.is_empty() => {
                    let Some(made) = self.provision(&claim, class, now) else {
                        continue;
                    };
                    made
                }
                None => continue,
            };
            self.tie(&claim, volume, now);
        }
        self.volume_phases(now);
    }

    /// A volume for a claim of a class that exists.
    fn provision(&mut self, claim: &Value, class: &str, now: Timestamp) -> Option<Value> {
        let definition = self.store.get("storageclasses.storage.k8s.io", "", class)?;
        let kind = self.kinds.get("", "v1", "persistentvolumes")?;
        let policy = text(&definition, &["reclaimPolicy"]);
        let volume = json!({
            "metadata": {"name": format!("pvc-{}", object::uid(claim))},
            "spec": {
                "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
                "accessModes": claim["spec"]["accessModes"], "storageClassName": class,
                "persistentVolumeReclaimPolicy": policy,
                "hostPath": {"path": format!("/var/lib/provisioned/{}", object::uid(claim))},
            },
        });
        let made = self.create(&kind, "", volume, &system_options(now)).ok()?;
        Some(made.object)
    }

    fn tie(&mut self, claim: &Value, mut volume: Value, now: Timestamp) {
        let time = clock::seconds(now);
        volume["spec"]["claimRef"] = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": object::namespace(claim),
            "name": object::name(claim), "uid": object::uid(claim),
            "resourceVersion": claim["metadata"]["resourceVersion"],
        });
        volume["status"] = json!({"phase": "Bound", "lastPhaseTransitionTime": time});
        let capacity = volume["spec"]["capacity"].clone();
        let modes = volume["spec"]["accessModes"].clone();
        let volume_name = object::name(&volume).to_owned();
        self.store.put("persistentvolumes", volume);
        let mut claim = claim.clone();
        claim["spec"]["volumeName"] = json!(volume_name);
        claim["status"] = json!({"phase": "Bound", "capacity": capacity, "accessModes": modes});
        claim["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] = json!("yes");
        self.store.put("persistentvolumeclaims", claim);
    }

    /// Volumes without their claim are available or released; bound claims that want more get what the volume has.
    fn volume_phases(&mut self, now: Timestamp) {
        for volume in self.store.list("persistentvolumes", None) {
            let reference = at(&volume, &["spec", "claimRef"]);
            let uid = reference.map_or("", |reference| text(reference, &["uid"]));
            let claim = reference.and_then(|reference| {
                self.store.get(
                    "persistentvolumeclaims",
                    text(reference, &["namespace"]),
                    text(reference, &["name"]),
                )
            });
            let phase = if uid.is_empty() {
                "Available"
            } else if claim.as_ref().is_some_and(|claim| object::uid(claim) == uid) {
                "Bound"
            } else {
                "Released"
            };
            if text(&volume, &["status", "phase"]) != phase {
                if phase == "Released"
                    && text(&volume, &["spec", "persistentVolumeReclaimPolicy"]) == "Delete"
                {
                    let Some(kind) = self.kinds.of_table("persistentvolumes") else {
                        continue;
                    };
                    let result = self.delete(
                        &kind,
                        "",
                        object::name(&volume),
                        &super::deletion::DeleteOptions::default(),
                        &system_options(now),
                    );
                    debug_assert!(result.is_ok(), "the volume was listed under the same lock");
                    continue;
                }
                let status = json!({"phase": phase, "lastPhaseTransitionTime": clock::seconds(now)});
                self.set_status("persistentvolumes", &volume, status);
            }
            if let Some(claim) = claim
                && phase == "Bound"
                && at(&claim, &["status", "capacity"]) != at(&volume, &["spec", "capacity"])
            {
                let mut claim = Value::clone(&claim);
                claim["status"]["capacity"] = volume["spec"]["capacity"].clone();
                self.store.put("persistentvolumeclaims", claim);
            }
        }
    }

    /// Protection ends when nothing uses the claim or volume any more.
    fn unprotect(&mut self) {
        for claim in self.store.list("persistentvolumeclaims", None) {
            if !object::is_deleting(&claim) {
                continue;
            }
            let used = self
                .store
                .list("pods", Some(object::namespace(&claim)))
                .iter()
                .any(|pod| {
                    at(pod, &["spec", "volumes"])
                        .and_then(Value::as_array)
                        .into_iter()
                        .flatten()
                        .any(|volume| {
                            text(volume, &["persistentVolumeClaim", "claimName"]) == object::name(&claim)
                        })
                });
            if !used {
                self.drop_finalizer("persistentvolumeclaims", &claim, "kubernetes.io/pvc-protection");
            }
        }
        for volume in self.store.list("persistentvolumes", None) {
            if object::is_deleting(&volume) && text(&volume, &["status", "phase"]) != "Bound" {
                self.drop_finalizer("persistentvolumes", &volume, "kubernetes.io/pv-protection");
            }
        }
    }

    fn endpoint_slices(&mut self, now: Timestamp) {
        let Some(kind) = self.kinds.get("discovery.k8s.io", "v1", "endpointslices") else {
            return;
        };
        for service in self.store.list("services", None) {
            let Some(labels) = at(&service, &["spec", "selector"]) else {
                continue;
            };
            let selector = Selector::match_labels(labels);
            let endpoints: Vec<Value> = self
                .store
                .list("pods", Some(object::namespace(&service)))
                .iter()
                .filter(|pod| selector.matches(pod) && !text(pod, &["status", "podIP"]).is_empty())
                .map(|pod| {
                    let ready = at(pod, &["status", "conditions"])
                        .and_then(Value::as_array)
                        .into_iter()
                        .flatten()
                        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
                    let terminating = object::is_deleting(pod);
                    let mut endpoint = json!({
                        "addresses": [pod["status"]["podIP"]],
                        "conditions": {
                            "ready": ready && !terminating, "serving": ready, "terminating": terminating,
                        },
                        "targetRef": {
                            "kind": "Pod", "namespace": object::namespace(pod), "name": object::name(pod),
                            "uid": object::uid(pod),
                        },
                    });
                    if let Some(node) = at(pod, &["spec", "nodeName"]) {
                        endpoint["nodeName"] = node.clone();
                    }
                    endpoint
                })
                .collect();
            let ports: Vec<Value> = at(&service, &["spec", "ports"])
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(|port| {
                    let number = if port["targetPort"].is_number() {
                        &port["targetPort"]
                    } else {
                        &port["port"]
                    };
                    json!({"name": text(port, &["name"]), "port": number, "protocol": port["protocol"]})
                })
                .collect();
            let namespace = object::namespace(&service).to_owned();
            let name = format!("{}-slice", object::name(&service));
            match self.store.get(&kind.table, &namespace, &name) {
                None => {
                    let slice = json!({
                        "metadata": {
                            "name": name,
                            "labels": {
                                "kubernetes.io/service-name": object::name(&service),
                                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                            },
                            "ownerReferences": [{
                                "apiVersion": "v1", "kind": "Service", "name": object::name(&service),
                                "uid": object::uid(&service), "controller": true, "blockOwnerDeletion": true,
                            }],
                        },
                        "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
                    });
                    let made = self.create(&kind, &namespace, slice, &system_options(now));
                    debug_assert!(made.is_ok(), "slices of Services are valid");
                }
                Some(slice) => {
                    let mut new = Value::clone(&slice);
                    new["endpoints"] = json!(endpoints);
                    new["ports"] = json!(ports);
                    if endpoints.is_empty()
                        && let Some(map) = new.as_object_mut()
                        && !slice
                            .as_object()
                            .is_some_and(|slice| slice.contains_key("endpoints"))
                    {
                        map.remove("endpoints");
                    }
                    self.ensure(&kind.table, new);
                }
            }
        }
    }
}
