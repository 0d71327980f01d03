//! The kinds that every cluster has and an operator needs, as a table.

use serde_json::{Value, json};

use super::{Column, Kind, Registry, conversion::Conversion};
use crate::{
    ownership::fields::Fields,
    schema::{Schema, builtin},
};

/// One row: what Kubernetes calls it and what it has.
struct Row {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    categories: &'static [&'static str],
    /// `n`amespaced, `s`tatus, `g`eneration.
    has: &'static str,
    definition: &'static str,
    /// The object before a creation, as JSON: what Go writes of an empty struct.
    blank: &'static str,
    /// Field selectors beside name and namespace.
    selectable: &'static [&'static str],
    /// Columns as `Name:type:path`, or `Name:type:=function` (`crate::table`); a trailing `+` for wide ones.
    columns: &'static [&'static str],
}

const APPS_BLANK: &str = r#"{"spec":{"selector":null,"template":{"metadata":{},"spec":{"containers":null}},"updateStrategy":{}},"status":{}}"#;

const ROWS: &[Row] = &[
    Row {
        group: "",
        version: "v1",
        kind: "Namespace",
        plural: "namespaces",
        short: &["ns"],
        categories: &[],
        has: "s",
        definition: "api.core.v1.Namespace",
        blank: r#"{"spec":{},"status":{}}"#,
        selectable: &["status.phase"],
        columns: &["Status:string:.status.phase"],
    },
    Row {
        group: "",
        version: "v1",
        kind: "Pod",
        plural: "pods",
        short: &["po"],
        categories: &["all"],
        has: "nsg",
        definition: "api.core.v1.Pod",
        blank: r#"{"spec":{"containers":null},"status":{}}"#,
        selectable: &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        columns: &[
            "Ready:string:=ready_containers",
            "Status:string:=pod_status",
            "Restarts:string:=restarts",
            "Age:string:=age",
            "IP:string:.status.podIP+",
            "Node:string:.spec.nodeName+",
        ],
    },
    Row {
        group: "",
        version: "v1",
        kind: "Service",
        plural: "services",
        short: &["svc"],
        categories: &["all"],
        has: "ns",
        definition: "api.core.v1.Service",
        blank: r#"{"spec":{},"status":{"loadBalancer":{}}}"#,
        selectable: &["spec.clusterIP", "spec.type"],
        columns: &[
            "Type:string:.spec.type",
            "Cluster-IP:string:.spec.clusterIP",
            "External-IP:string:=none",
            "Port(s):string:=service_ports",
            "Age:string:=age",
            "Selector:string:=selector+",
        ],
    },
    Row {
        group: "",
        version: "v1",
        kind: "Endpoints",
        plural: "endpoints",
        short: &["ep"],
        categories: &[],
        has: "n",
        definition: "api.core.v1.Endpoints",
        blank: "{}",
        selectable: &[],
        columns: &[],
    },
    Row {
        group: "",
        version: "v1",
        kind: "PersistentVolume",
        plural: "persistentvolumes",
        short: &["pv"],
        categories: &[],
        has: "s",
        definition: "api.core.v1.PersistentVolume",
        blank: r#"{"spec":{},"status":{}}"#,
        selectable: &[],
        columns: &[
            "Capacity:string:.spec.capacity.storage",
            "Access Modes:string:=access_modes",
            "Reclaim Policy:string:.spec.persistentVolumeReclaimPolicy",
            "Status:string:.status.phase",
            "Claim:string:=claim",
            "StorageClass:string:.spec.storageClassName",
            "Reason:string:.status.reason",
            "Age:string:=age",
            "VolumeMode:string:.spec.volumeMode+",
        ],
    },
    Row {
        group: "",
        version: "v1",
        kind: "PersistentVolumeClaim",
        plural: "persistentvolumeclaims",
        short: &["pvc"],
        categories: &[],
        has: "ns",
        definition: "api.core.v1.PersistentVolumeClaim",
        blank: r#"{"spec":{"resources":{}},"status":{}}"#,
        selectable: &[],
        columns: &[
            "Status:string:.status.phase",
            "Volume:string:.spec.volumeName",
            "Capacity:string:.status.capacity.storage",
            "Access Modes:string:=access_modes",
            "StorageClass:string:.spec.storageClassName",
            "Age:string:=age",
            "VolumeMode:string:.spec.volumeMode+",
        ],
    },
    Row {
        group: "",
        version: "v1",
        kind: "Secret",
        plural: "secrets",
        short: &[],
        categories: &[],
        has: "n",
        definition: "api.core.v1.Secret",
        blank: "{}",
        selectable: &["type"],
        columns: &["Type:string:.type", "Data:integer:=data_size", "Age:string:=age"],
    },
    Row {
        group: "",
        version: "v1",
        kind: "ConfigMap",
        plural: "configmaps",
        short: &["cm"],
        categories: &[],
        has: "n",
        definition: "api.core.v1.ConfigMap",
        blank: "{}",
        selectable: &[],
        columns: &["Data:integer:=data_size", "Age:string:=age"],
    },
    Row {
        group: "",
        version: "v1",
        kind: "ServiceAccount",
        plural: "serviceaccounts",
        short: &["sa"],
        categories: &[],
        has: "n",
        definition: "api.core.v1.ServiceAccount",
        blank: "{}",
        selectable: &[],
        columns: &[],
    },
    Row {
        group: "",
        version: "v1",
        kind: "Node",
        plural: "nodes",
        short: &["no"],
        categories: &[],
        has: "s",
        definition: "api.core.v1.Node",
        blank: r#"{"spec":{},"status":{"daemonEndpoints":{"kubeletEndpoint":{"Port":0}},"nodeInfo":{}}}"#,
        selectable: &["spec.unschedulable"],
        columns: &[
            "Status:string:=node_status",
            "Roles:string:=none",
            "Age:string:=age",
            "Version:string:.status.nodeInfo.kubeletVersion",
        ],
    },
    Row {
        group: "",
        version: "v1",
        kind: "Event",
        plural: "events",
        short: &["ev"],
        categories: &[],
        has: "n",
        definition: "api.core.v1.Event",
        blank: r#"{"involvedObject":{},"source":{},"firstTimestamp":null,"lastTimestamp":null,"eventTime":null}"#,
        selectable: &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        columns: &[
            "Last Seen:string:=last_seen",
            "Type:string:.type",
            "Reason:string:.reason",
            "Object:string:=involved",
            "Message:string:.message",
        ],
    },
    Row {
        group: "events.k8s.io",
        version: "v1",
        kind: "Event",
        plural: "events",
        short: &["ev"],
        categories: &[],
        has: "n",
        definition: "api.events.v1.Event",
        blank: r#"{"regarding":{},"deprecatedSource":{},"deprecatedFirstTimestamp":null,"deprecatedLastTimestamp":null,"eventTime":null}"#,
        selectable: &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "reason",
            "reportingController",
            "type",
        ],
        columns: &[
            "Last Seen:string:=last_seen",
            "Type:string:.type",
            "Reason:string:.reason",
            "Object:string:=involved",
            "Message:string:.note",
        ],
    },
    Row {
        group: "apps",
        version: "v1",
        kind: "StatefulSet",
        plural: "statefulsets",
        short: &["sts"],
        categories: &["all"],
        has: "nsg",
        definition: "api.apps.v1.StatefulSet",
        blank: APPS_BLANK,
        selectable: &[],
        columns: &["Ready:string:=ready_replicas", "Age:string:=age"],
    },
    Row {
        group: "apps",
        version: "v1",
        kind: "DaemonSet",
        plural: "daemonsets",
        short: &["ds"],
        categories: &["all"],
        has: "nsg",
        definition: "api.apps.v1.DaemonSet",
        blank: APPS_BLANK,
        selectable: &[],
        columns: &[
            "Desired:integer:.status.desiredNumberScheduled",
            "Current:integer:.status.currentNumberScheduled",
            "Ready:integer:.status.numberReady",
            "Up-to-date:integer:.status.updatedNumberScheduled",
            "Available:integer:.status.numberAvailable",
            "Age:string:=age",
        ],
    },
    Row {
        group: "apps",
        version: "v1",
        kind: "Deployment",
        plural: "deployments",
        short: &["deploy"],
        categories: &["all"],
        has: "nsg",
        definition: "api.apps.v1.Deployment",
        blank: r#"{"spec":{"selector":null,"template":{"metadata":{},"spec":{"containers":null}},"strategy":{}},"status":{}}"#,
        selectable: &[],
        columns: &[
            "Ready:string:=ready_replicas",
            "Up-to-date:integer:.status.updatedReplicas",
            "Available:integer:.status.availableReplicas",
            "Age:string:=age",
        ],
    },
    Row {
        group: "apps",
        version: "v1",
        kind: "ReplicaSet",
        plural: "replicasets",
        short: &["rs"],
        categories: &["all"],
        has: "nsg",
        definition: "api.apps.v1.ReplicaSet",
        blank: r#"{"spec":{"selector":null,"template":{"metadata":{},"spec":{"containers":null}}},"status":{}}"#,
        selectable: &[],
        columns: &["Ready:string:=ready_replicas", "Age:string:=age"],
    },
    Row {
        group: "apps",
        version: "v1",
        kind: "ControllerRevision",
        plural: "controllerrevisions",
        short: &[],
        categories: &[],
        has: "n",
        definition: "api.apps.v1.ControllerRevision",
        blank: "{}",
        selectable: &[],
        columns: &["Revision:integer:.revision", "Age:string:=age"],
    },
    Row {
        group: "coordination.k8s.io",
        version: "v1",
        kind: "Lease",
        plural: "leases",
        short: &[],
        categories: &[],
        has: "n",
        definition: "api.coordination.v1.Lease",
        blank: r#"{"spec":{}}"#,
        selectable: &[],
        columns: &["Holder:string:.spec.holderIdentity", "Age:string:=age"],
    },
    Row {
        group: "discovery.k8s.io",
        version: "v1",
        kind: "EndpointSlice",
        plural: "endpointslices",
        short: &[],
        categories: &[],
        has: "ng",
        definition: "api.discovery.v1.EndpointSlice",
        blank: r#"{"endpoints":null,"ports":null}"#,
        selectable: &[],
        columns: &["AddressType:string:.addressType", "Age:string:=age"],
    },
    Row {
        group: "policy",
        version: "v1",
        kind: "PodDisruptionBudget",
        plural: "poddisruptionbudgets",
        short: &["pdb"],
        categories: &[],
        has: "nsg",
        definition: "api.policy.v1.PodDisruptionBudget",
        blank: r#"{"spec":{},"status":{}}"#,
        selectable: &[],
        columns: &[
            "Min Available:string:.spec.minAvailable",
            "Max Unavailable:string:.spec.maxUnavailable",
            "Allowed Disruptions:integer:.status.disruptionsAllowed",
            "Age:string:=age",
        ],
    },
    Row {
        group: "networking.k8s.io",
        version: "v1",
        kind: "NetworkPolicy",
        plural: "networkpolicies",
        short: &["netpol"],
        categories: &[],
        has: "ng",
        definition: "api.networking.v1.NetworkPolicy",
        blank: r#"{"spec":{"podSelector":{}}}"#,
        selectable: &[],
        columns: &["Age:string:=age"],
    },
    Row {
        group: "storage.k8s.io",
        version: "v1",
        kind: "StorageClass",
        plural: "storageclasses",
        short: &["sc"],
        categories: &[],
        has: "",
        definition: "api.storage.v1.StorageClass",
        blank: "{}",
        selectable: &[],
        columns: &[
            "Provisioner:string:.provisioner",
            "ReclaimPolicy:string:.reclaimPolicy",
            "VolumeBindingMode:string:.volumeBindingMode",
            "AllowVolumeExpansion:boolean:.allowVolumeExpansion",
            "Age:string:=age",
        ],
    },
    Row {
        group: "rbac.authorization.k8s.io",
        version: "v1",
        kind: "Role",
        plural: "roles",
        short: &[],
        categories: &[],
        has: "n",
        definition: "api.rbac.v1.Role",
        blank: r#"{"rules":null}"#,
        selectable: &[],
        columns: &["Created At:date:.metadata.creationTimestamp"],
    },
    Row {
        group: "rbac.authorization.k8s.io",
        version: "v1",
        kind: "RoleBinding",
        plural: "rolebindings",
        short: &[],
        categories: &[],
        has: "n",
        definition: "api.rbac.v1.RoleBinding",
        blank: r#"{"roleRef":{}}"#,
        selectable: &[],
        columns: &["Role:string:=role", "Age:string:=age"],
    },
    Row {
        group: "rbac.authorization.k8s.io",
        version: "v1",
        kind: "ClusterRole",
        plural: "clusterroles",
        short: &[],
        categories: &[],
        has: "",
        definition: "api.rbac.v1.ClusterRole",
        blank: r#"{"rules":null}"#,
        selectable: &[],
        columns: &["Created At:date:.metadata.creationTimestamp"],
    },
    Row {
        group: "rbac.authorization.k8s.io",
        version: "v1",
        kind: "ClusterRoleBinding",
        plural: "clusterrolebindings",
        short: &[],
        categories: &[],
        has: "",
        definition: "api.rbac.v1.ClusterRoleBinding",
        blank: r#"{"roleRef":{}}"#,
        selectable: &[],
        columns: &["Role:string:=role", "Age:string:=age"],
    },
    Row {
        group: "apiextensions.k8s.io",
        version: "v1",
        kind: "CustomResourceDefinition",
        plural: "customresourcedefinitions",
        short: &["crd", "crds"],
        categories: &["api-extensions"],
        has: "sg",
        definition: "apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
        blank: r#"{"spec":{"names":{},"versions":null},"status":{}}"#,
        selectable: &[],
        columns: &["Created At:date:.metadata.creationTimestamp"],
    },
];

/// Serves all of them.
pub fn register(registry: &mut Registry) {
    for row in ROWS {
        registry.insert(row.kind());
    }
}

/// The name in OpenAPI of the definition of a built-in kind.
pub fn definition_name(group: &str, kind: &str) -> Option<String> {
    ROWS.iter()
        .find(|row| row.group == group && row.kind == kind)
        .map(|row| format!("io.k8s.{}", row.definition))
}

impl Row {
    fn kind(&self) -> Kind {
        let name = format!("io.k8s.{}", self.definition);
        let has = |what: char| self.has.contains(what);
        let mut blank: Value = serde_json::from_str(self.blank).unwrap_or_else(|_| json!({}));
        blank["metadata"] = json!({"creationTimestamp": null});
        let mut reset = Fields::default();
        let mut status_reset = Fields::default();
        if has('s') {
            reset.insert(&["f:status".to_owned()]);
            status_reset.insert(&["f:spec".to_owned()]);
        }
        let events = self.group == "events.k8s.io";
        let mut columns: Vec<Column> = self.columns.iter().map(|text| column(text)).collect();
        if columns
            .iter()
            .all(|column| !matches!(column.name.as_str(), "Age" | "Created At" | "Last Seen"))
        {
            columns.push(column("Age:string:=age"));
        }
        Kind {
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            api: match self.group {
                "" => self.version.to_owned(),
                group => format!("{group}/{}", self.version),
            },
            kind: self.kind.to_owned(),
            list_kind: format!("{}List", self.kind),
            plural: self.plural.to_owned(),
            singular: self.kind.to_lowercase(),
            short_names: self.short.iter().map(|name| (*name).to_owned()).collect(),
            categories: self.categories.iter().map(|name| (*name).to_owned()).collect(),
            namespaced: has('n'),
            custom: false,
            has_status: has('s'),
            has_generation: has('g'),
            table: match self.group {
                "" | "events.k8s.io" => self.plural.to_owned(),
                group => format!("{}.{group}", self.plural),
            },
            schema: Schema {
                reference: Some(name.clone()),
                ..Schema::default()
            },
            openapi: builtin::OPENAPI.get(&name).cloned().unwrap_or_default(),
            rules: None,
            columns,
            selectable: self.selectable.iter().map(|path| (*path).to_owned()).collect(),
            blank,
            reset,
            status_reset,
            conversion: if events {
                Conversion::Events
            } else {
                Conversion::Storage
            },
        }
    }
}

fn column(text: &str) -> Column {
    let (text, priority) = text.strip_suffix('+').map_or((text, 0), |text| (text, 1));
    let mut parts = text.splitn(3, ':');
    let mut next = || parts.next().unwrap_or_default().to_owned();
    Column {
        name: next(),
        kind: next(),
        path: next(),
        format: String::new(),
        description: String::new(),
        priority,
    }
}
