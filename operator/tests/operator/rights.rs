//! The rights that are shipped are those that the operator needs: with fewer it is refused something, and none is left over.
//!
//! One life of everything under the shipped roles, with every request written down. A right that a ClusterRole gives counts as needed only if it is used outside of the
//! operator's namespace: there, a Role could give it.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use cairn_apiserver::request::{Query, Target};
use cairn_apiserver::{ApiService, User};
use cairn_operator::daemons::Address;
use cairn_operator::runtime::lease::LeaseSettings;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::bench::{Bench, JVS, NAMESPACE, Start, TEAM, condition};
use super::double::Node;

const DITTO: &str = "dittofs.dittofs.com/v1alpha1";
const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// Rights that no request of the operator is decided by, and which are needed all the same.
const INDIRECT: [(&str, &str); 4] = [
    // The admission plugin OwnerReferencesPermissionEnforcement asks for them when an owner reference blocks the owner's deletion.
    ("workspaces/finalizers", "update"),
    ("snapshots/finalizers", "update"),
    ("restores/finalizers", "update"),
    ("dittoservers/finalizers", "update"),
];

/// One right, as it was used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Used {
    verb: String,
    group: String,
    /// With the subresource.
    resource: String,
    namespace: String,
    name: String,
}

/// The API server; every request is written down.
#[derive(Clone)]
struct Recorded {
    inner: ApiService,
    uses: Arc<Mutex<BTreeSet<Used>>>,
}

type Answer = <ApiService as tower::Service<http::Request<Body>>>::Response;
type Failure = <ApiService as tower::Service<http::Request<Body>>>::Error;

impl tower::Service<http::Request<Body>> for Recorded {
    type Response = Answer;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        tower::Service::<http::Request<Body>>::poll_ready(&mut self.inner, context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let target = Target::parse(request.method(), request.uri().path(), &query).unwrap();
        let (mut inner, uses) = (self.inner.clone(), Arc::clone(&self.uses));
        Box::pin(async move {
            let answer = inner.call(request).await;
            if let Some(target) = target {
                let mut used = Used {
                    verb: target.verb.as_str().to_owned(),
                    group: target.group,
                    resource: target.resource,
                    namespace: target.namespace,
                    name: target.name,
                };
                if !target.subresource.is_empty() {
                    used.resource = format!("{}/{}", used.resource, target.subresource);
                }
                // An apply that makes an object needs the right to create it, too.
                let is_made = answer.as_ref().is_ok_and(|answer| answer.status() == 201);
                if is_made && used.verb == "patch" {
                    let made = Used {
                        verb: "create".to_owned(),
                        ..used.clone()
                    };
                    uses.lock().insert(made);
                }
                uses.lock().insert(used);
            }
            answer
        })
    }
}

fn texts(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

/// Roles of a kind that are bound to the operator, with the namespaces in which they hold (none: everywhere).
fn roles(bench: &Bench) -> Vec<(Value, Option<String>)> {
    let is_operator = |binding: &Value| {
        let subjects = binding["subjects"].as_array().into_iter().flatten();
        let mut all = subjects.map(|subject| (&subject["kind"], &subject["name"]));
        all.any(|(kind, name)| kind == "ServiceAccount" && name == "cairn-operator")
    };
    let server = &bench.server;
    let mut found = Vec::new();
    for binding in server.list(RBAC, "ClusterRoleBinding", None) {
        if is_operator(&binding) {
            let name = binding["roleRef"]["name"].as_str().unwrap();
            found.push((server.get(RBAC, "ClusterRole", "", name).unwrap(), None));
        }
    }
    for binding in server.list(RBAC, "RoleBinding", None) {
        if is_operator(&binding) {
            let namespace = binding["metadata"]["namespace"].as_str().unwrap();
            let name = binding["roleRef"]["name"].as_str().unwrap();
            let role = server.get(RBAC, "Role", namespace, name).unwrap();
            found.push((role, Some(namespace.to_owned())));
        }
    }
    found
}

/// Every right of the shipped roles that nothing has used.
fn unused(bench: &Bench, uses: &BTreeSet<Used>) -> Vec<String> {
    let mut left = Vec::new();
    for (role, namespace) in roles(bench) {
        for rule in role["rules"].as_array().unwrap() {
            let names = texts(&rule["resourceNames"]);
            let names: Vec<Option<&str>> = match names.is_empty() {
                true => vec![None],
                false => names.iter().map(|name| Some(name.as_str())).collect(),
            };
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    for verb in texts(&rule["verbs"]) {
                        for name in &names {
                            let is_used = uses.iter().any(|used| {
                                let is_there = match &namespace {
                                    Some(namespace) => used.namespace == *namespace,
                                    None => used.namespace != NAMESPACE,
                                };
                                is_there
                                    && (&used.verb, &used.group, &used.resource) == (&verb, &group, &resource)
                                    && name.is_none_or(|name| used.name == name)
                            });
                            if !is_used && !INDIRECT.contains(&(resource.as_str(), verb.as_str())) {
                                left.push(format!(
                                    "{} {}: {verb} {resource}.{group} {}",
                                    role["kind"].as_str().unwrap(),
                                    role["metadata"]["name"].as_str().unwrap(),
                                    name.unwrap_or_default()
                                ));
                            }
                        }
                    }
                }
            }
        }
    }
    left
}

/// Workspaces of all backings, with everything that makes the operator look something up or make something.
async fn workspaces(bench: &Bench) {
    bench.make_workspace(
        "data",
        json!({"placement": {"nodeSelector": {"disk": "a"}}, "deletionPolicy": "Delete",
            "autoSnapshot": {"enabled": true, "schedule": "0 * * * *", "maxSnapshots": 1},
            "retentionPolicy": {"keepMinSnapshots": 1, "keepMinAge": "1s"}}),
    );
    bench.ready("Workspace", "data").await;
    bench.make_snapshot(
        "s",
        json!({"workspace": "data", "restoreOnCreate": true, "restoreWorktree": "copy"}),
    );
    bench.ready("Snapshot", "s").await;
    bench.ready("Workspace", "copy").await;
    bench.make_restore(
        "back",
        json!({"workspace": "data", "snapshot": "s", "mode": "Run", "into": {"inPlace": {}}}),
    );
    bench.reason("Restore", "back", "Completed").await;
    bench.apply(
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv-old"},
        "spec": {"accessModes": ["ReadWriteMany"], "capacity": {"storage": "1Gi"},
            "csi": {"driver": "csi.example.com", "volumeHandle": "h"}}}),
    );
    bench.apply(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "old", "namespace": TEAM},
        "spec": {"accessModes": ["ReadWriteMany"], "volumeName": "pv-old",
            "resources": {"requests": {"storage": "1Gi"}}}}));
    bench.apply(
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "user", "namespace": TEAM},
        "spec": {"nodeName": "b", "containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "old"}}]},
        "status": {"phase": "Running"}}),
    );
    bench.make_workspace("adopted", json!({"backing": {"pvc": {"claimName": "old"}}}));
    bench.ready("Workspace", "adopted").await;
}

fn ditto(bench: &Bench) -> Value {
    bench
        .server
        .get(DITTO, "DittoServer", TEAM, "my")
        .unwrap_or_default()
}

fn change(bench: &Bench, change: impl FnOnce(&mut Value)) {
    let mut object = ditto(bench);
    change(&mut object["spec"]);
    bench.apply(object);
}

/// A DittoServer with every child, without them, grown, and removed with its data.
async fn ditto_servers(bench: &Bench) {
    let exists =
        |bench: &Bench, api: &str, kind: &str, name: &str| bench.server.get(api, kind, TEAM, name).is_some();
    let daemon = Node {
        address: Some(Address {
            ip: [10, 244, 0, 9].into(),
            port: 12443,
            is_ready: true,
        }),
        is_up: true,
        instance: 1,
        free: 1 << 30,
        ..Node::default()
    };
    bench.double.nodes.lock().insert(format!("{TEAM}/my"), daemon);
    // Its class comes later: as long as the claim waits, the operator sees whether there is one.
    bench.apply(
        json!({"apiVersion": DITTO, "kind": "DittoServer", "metadata": {"name": "my", "namespace": TEAM},
        "spec": {"storage": {"metadataSize": "10Gi", "storageClassName": "later"}, "deletionPolicy": "Delete",
            "metrics": {"enabled": true, "serviceMonitor": {"enabled": true}},
            "networkPolicy": {"enabled": true},
            "config": {"shares": [{"name": "export", "exportPath": "/export"}]}}}),
    );
    bench
        .until("the missing class is told", |bench| {
            let conditions = ditto(bench)["status"]["conditions"].to_string();
            conditions.contains("later")
        })
        .await;
    bench.apply(json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": "later"}, "provisioner": "example.com/none", "reclaimPolicy": "Delete",
        "allowVolumeExpansion": true}));
    bench
        .until("it is Ready, with a monitor", |bench| {
            condition(&ditto(bench), "Ready").0 == "True"
                && exists(bench, "monitoring.coreos.com/v1", "ServiceMonitor", "my")
        })
        .await;
    change(bench, |spec| {
        spec["metrics"] = json!({"enabled": false});
        spec["networkPolicy"] = json!({"enabled": false});
        spec["storage"]["metadataSize"] = json!("20Gi");
    });
    bench
        .until("what is not wanted any more is gone", |bench| {
            !exists(bench, "monitoring.coreos.com/v1", "ServiceMonitor", "my")
                && !exists(bench, "v1", "Service", "my-metrics")
                && !exists(bench, "networking.k8s.io/v1", "NetworkPolicy", "my")
        })
        .await;
    bench
        .until("the claim has grown", |bench| {
            let claim = bench
                .server
                .get("v1", "PersistentVolumeClaim", TEAM, "data-my-0")
                .unwrap();
            claim["spec"]["resources"]["requests"]["storage"] == "20Gi"
        })
        .await;
    assert!(bench.server.delete(DITTO, "DittoServer", TEAM, "my").unwrap());
    bench
        .until("it is gone with its claim", |bench| {
            ditto(bench).is_null() && !exists(bench, "v1", "PersistentVolumeClaim", "data-my-0")
        })
        .await;
}

/// A node is given up, comes back, and goes for good.
async fn nodes(bench: &Bench, look: impl Fn()) {
    bench.make_workspace(
        "lost",
        json!({"placement": {"nodeName": "c"}, "deletionPolicy": "Delete"}),
    );
    bench.make_workspace(
        "lost-too",
        json!({"placement": {"nodeName": "c"}, "deletionPolicy": "Delete"}),
    );
    bench.ready("Workspace", "lost").await;
    bench.ready("Workspace", "lost-too").await;
    bench.double.with("c", |node| node.is_up = false);
    for name in ["lost", "lost-too"] {
        bench.delete("Workspace", name);
        bench.reason("Workspace", name, "NodeAway").await;
        bench.server.edit(JVS, "Workspace", TEAM, name, |object| {
            object["metadata"]["annotations"]["jvs.io/abandon"] = json!("c");
        });
        bench.gone("Workspace", name).await;
    }
    bench.double.with("c", |node| node.is_up = true);
    look();
    bench
        .until("the node has been told", |bench| {
            bench.server.list("v1", "ConfigMap", Some(NAMESPACE)).is_empty()
        })
        .await;
    bench.double.with("c", |node| node.address = None);
    look();
    let own = |bench: &Bench, kind: &str, api: &str| {
        let all = bench.server.list(api, kind, Some(NAMESPACE));
        all.iter().any(|object| {
            object["metadata"]["name"]
                .as_str()
                .unwrap()
                .starts_with("cairn-node-c")
        })
    };
    bench
        .until("its address leads nowhere", |bench| {
            let slices = bench
                .server
                .list("discovery.k8s.io/v1", "EndpointSlice", Some(NAMESPACE));
            slices.iter().any(|slice| {
                slice["metadata"]["name"]
                    .as_str()
                    .unwrap()
                    .starts_with("cairn-node-c")
                    && slice["endpoints"].as_array().is_none_or(Vec::is_empty)
            })
        })
        .await;
    assert!(bench.server.delete(JVS, "StorageNode", "", "c").unwrap());
    bench
        .until("nothing of the node is left", |bench| {
            !own(bench, "Service", "v1") && !own(bench, "EndpointSlice", "discovery.k8s.io/v1")
        })
        .await;
}

/// Monitoring is there, as the prometheus operator installs it.
const MONITORS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: servicemonitors.monitoring.coreos.com
spec:
  group: monitoring.coreos.com
  scope: Namespaced
  names:
    plural: servicemonitors
    singular: servicemonitor
    kind: ServiceMonitor
    listKind: ServiceMonitorList
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          x-kubernetes-preserve-unknown-fields: true
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shipped_rights_are_those_that_are_needed() {
    let bench = Bench::new(&["a", "b", "c"]).await;
    bench.server.load(MONITORS).unwrap();
    let uses: Arc<Mutex<BTreeSet<Used>>> = Arc::default();
    let start = |identity: &str| Start {
        lease: Some(LeaseSettings {
            // Long: nobody dies here, and a machine that is busy is not to cost the lease.
            duration: Duration::from_secs(60),
            renew_deadline: Duration::from_secs(40),
            retry: Duration::from_millis(100),
            ..LeaseSettings::new(NAMESPACE, "cairn-operator", identity)
        }),
        client: Some(kube::Client::new(
            Recorded {
                inner: bench
                    .server
                    .service(User::service_account(NAMESPACE, "cairn-operator")),
                uses: Arc::clone(&uses),
            },
            NAMESPACE,
        )),
        keeps_certificates: true,
        ..Start::default()
    };
    let first = bench.start_with(start("first"));
    workspaces(&bench).await;
    let handle = first.handle.clone();
    nodes(&bench, || handle.look_at_everything()).await;
    ditto_servers(&bench).await;
    // Snapshots by the clock, one of which retention removes.
    for _ in 0..2 {
        bench.clock.advance(3600);
        handle.look_at_everything();
        let name = format!("data-{}", bench.clock.seconds() / 60);
        bench.ready("Snapshot", &name).await;
    }
    bench
        .until("retention has removed one", |bench| {
            bench.double.calls("DeleteSnapshot") > 0
        })
        .await;
    first.stop().await;
    // Roots and certificates are replaced after two thirds of their life, by the next leader.
    bench.clock.advance(731 * 86_400);
    let second = bench.start_with(start("second"));
    bench
        .until("the certificates are new", |bench| {
            let secret = bench.server.get("v1", "Secret", NAMESPACE, "cairnd-tls").unwrap();
            let made = secret["metadata"]["annotations"]["jvs.io/made"].as_str();
            made.and_then(|made| made.parse().ok()) == Some(bench.clock.seconds())
        })
        .await;
    for name in ["data", "copy", "adopted"] {
        bench.delete("Workspace", name);
        bench.gone("Workspace", name).await;
    }
    second.stop().await;

    let refused = bench.server.counters().codes.get(&403).copied();
    assert_eq!(refused, None, "something that is needed is not allowed");
    let left = unused(&bench, &uses.lock());
    assert!(
        left.is_empty(),
        "no request needs these rights:\n{}",
        left.join("\n")
    );
    bench.end().await;
}
