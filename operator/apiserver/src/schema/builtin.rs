//! Definitions of the kinds that every cluster has: the schemas of `k8s-openapi`, and what those do not say: how lists
//! merge, which maps are one value, and the defaults. The tables hold facts of the API of Kubernetes 1.34, as its
//! OpenAPI document and its defaulting functions have them, for the kinds in `crate::kinds::builtin`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock},
};

use k8s_openapi::{
    api::{
        apps::v1 as apps, coordination::v1 as coordination, core::v1 as core, discovery::v1 as discovery,
        events::v1 as events, networking::v1 as networking, policy::v1 as policy, rbac::v1 as rbac,
        storage::v1 as storage,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1 as extensions,
};
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Value, json};

use super::{ListType, Schema};

/// The definitions as OpenAPI has them (`components.schemas`), with the extensions of the tables below.
pub static OPENAPI: LazyLock<BTreeMap<String, Value>> = LazyLock::new(openapi);

static DEFINITIONS: LazyLock<HashMap<String, Arc<Schema>>> = LazyLock::new(|| {
    OPENAPI
        .iter()
        .filter_map(|(name, value)| {
            let mut schema = Schema::parse(value).ok()?;
            complete(name, &mut schema);
            Some((name.clone(), Arc::new(schema)))
        })
        .collect()
});

const PREFIX: &str = "io.k8s.";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The definition of this name, as `io.k8s.api.core.v1.PodSpec`.
pub fn definition(name: &str) -> Option<&'static Schema> {
    DEFINITIONS.get(name).map(Arc::as_ref)
}

/// The definition of metadata.
pub fn object_meta() -> Option<&'static Schema> {
    definition(META)
}

/// The fields that lead to the definition of metadata, for schemas of custom resources.
pub fn object_meta_reference() -> Schema {
    Schema {
        reference: Some(META.to_owned()),
        ..Schema::default()
    }
}

fn generate(generator: &mut SchemaGenerator) {
    macro_rules! kinds {
        ($($kind:ty),* $(,)?) => { $( let _ = generator.subschema_for::<$kind>(); )* };
    }
    kinds!(
        core::Namespace,
        core::Pod,
        core::Service,
        core::Endpoints,
        core::PersistentVolume,
        core::PersistentVolumeClaim,
        core::Secret,
        core::ConfigMap,
        core::ServiceAccount,
        core::Event,
        core::Node,
        events::Event,
        apps::StatefulSet,
        apps::DaemonSet,
        apps::Deployment,
        apps::ReplicaSet,
        apps::ControllerRevision,
        coordination::Lease,
        discovery::EndpointSlice,
        policy::PodDisruptionBudget,
        networking::NetworkPolicy,
        storage::StorageClass,
        rbac::Role,
        rbac::RoleBinding,
        rbac::ClusterRole,
        rbac::ClusterRoleBinding,
        extensions::CustomResourceDefinition,
    );
}

fn openapi() -> BTreeMap<String, Value> {
    let settings = SchemaSettings::draft2019_09().with(|settings| {
        "/components/schemas".clone_into(settings.definitions_path.to_mut());
        settings.meta_schema = None;
        settings.transforms.clear();
    });
    let mut generator = settings.into_generator();
    generate(&mut generator);
    let mut definitions: BTreeMap<String, Value> = generator.take_definitions(false).into_iter().collect();
    for (name, definition) in &mut definitions {
        extend(name, definition);
    }
    definitions
}

/// Writes the facts of the tables into the OpenAPI form.
fn extend(name: &str, definition: &mut Value) {
    let short = name.strip_prefix(PREFIX).unwrap_or(name);
    let Some(map) = definition.as_object_mut() else {
        return;
    };
    if ATOMIC_MAPS.contains(&short) {
        map.insert("x-kubernetes-map-type".to_owned(), json!("atomic"));
    }
    let Some(properties) = map.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    for (property, field) in properties.iter_mut() {
        let Some(field) = field.as_object_mut() else {
            continue;
        };
        // A reference beside other words is read by everybody only if it stands in `allOf`.
        if field.len() > 1
            && let Some(reference) = field.remove("$ref")
        {
            field.insert("allOf".to_owned(), json!([{"$ref": reference}]));
        }
        let is = |(of, name, _): &&(&str, &str, &str)| *of == short && name == property;
        if let Some((_, _, keys)) = LIST_MAPS.iter().find(is) {
            let keys: Vec<&str> = keys.split(',').collect();
            if !PLAIN_PATCHES.contains(&(short, property)) {
                field.insert("x-kubernetes-patch-merge-key".to_owned(), json!(keys[0]));
                field.insert("x-kubernetes-patch-strategy".to_owned(), json!("merge"));
            }
            field.insert("x-kubernetes-list-type".to_owned(), json!("map"));
            field.insert("x-kubernetes-list-map-keys".to_owned(), json!(keys));
        } else if LIST_SETS.contains(&(short, property)) {
            field.insert("x-kubernetes-list-type".to_owned(), json!("set"));
            if property == "finalizers" || property == "podCIDRs" {
                field.insert("x-kubernetes-patch-strategy".to_owned(), json!("merge"));
            }
        } else if field.get("type").and_then(Value::as_str) == Some("array") {
            field.insert("x-kubernetes-list-type".to_owned(), json!("atomic"));
        }
        if ATOMIC_FIELDS.contains(&(short, property)) {
            field.insert("x-kubernetes-map-type".to_owned(), json!("atomic"));
        }
    }
}

/// Puts into the parsed form what OpenAPI cannot say.
fn complete(name: &str, schema: &mut Schema) {
    let short = name.strip_prefix(PREFIX).unwrap_or(name);
    if schema.properties.is_empty() && schema.additional.is_none() {
        schema.preserve_unknown = true;
        if schema.kind == Some(super::Type::Object) {
            // Raw JSON of any shape.
            schema.kind = None;
        }
    }
    if name.ends_with(".Quantity") || name.ends_with(".IntOrString") {
        schema.int_or_string = true;
    }
    let fields: Vec<String> = schema.properties.keys().cloned().collect();
    for field in fields {
        let Some(node) = schema.properties.get_mut(&field).map(Arc::make_mut) else {
            continue;
        };
        if node.reference.is_none()
            && let [only] = node.all_of.as_slice()
        {
            node.reference.clone_from(&only.reference);
            node.all_of.clear();
        }
        if let ListType::Map(keys) = &node.list_type
            && !PLAIN_PATCHES.contains(&(short, field.as_str()))
        {
            node.patch_key = keys.first().cloned();
        }
        if field == "finalizers" && node.list_type == ListType::Set {
            node.patch_key = Some(String::new());
        }
        if short == "api.core.v1.PersistentVolumeSpec" && field == "claimRef" {
            node.granular = true;
        }
        if let Some((_, _, default)) = DEFAULTS
            .iter()
            .find(|(of, name, _)| *of == short && *name == field)
        {
            node.default = serde_json::from_str(default).ok();
        }
    }
    // Go writes what is absent as zero; requiring is left to the rules of kinds.
    schema.required.clear();
}

/// Lists that merge by keys.
const LIST_MAPS: &[(&str, &str, &str)] = &[
    ("api.apps.v1.DaemonSetStatus", "conditions", "type"),
    ("api.apps.v1.DeploymentStatus", "conditions", "type"),
    ("api.apps.v1.ReplicaSetStatus", "conditions", "type"),
    ("api.apps.v1.StatefulSetStatus", "conditions", "type"),
    ("api.core.v1.Container", "env", "name"),
    ("api.core.v1.Container", "ports", "containerPort,protocol"),
    ("api.core.v1.Container", "volumeDevices", "devicePath"),
    ("api.core.v1.Container", "volumeMounts", "mountPath"),
    ("api.core.v1.ContainerStatus", "allocatedResourcesStatus", "name"),
    ("api.core.v1.ContainerStatus", "volumeMounts", "mountPath"),
    ("api.core.v1.EphemeralContainer", "env", "name"),
    (
        "api.core.v1.EphemeralContainer",
        "ports",
        "containerPort,protocol",
    ),
    ("api.core.v1.EphemeralContainer", "volumeDevices", "devicePath"),
    ("api.core.v1.EphemeralContainer", "volumeMounts", "mountPath"),
    ("api.core.v1.NamespaceStatus", "conditions", "type"),
    ("api.core.v1.NodeStatus", "addresses", "type"),
    ("api.core.v1.NodeStatus", "conditions", "type"),
    ("api.core.v1.PersistentVolumeClaimStatus", "conditions", "type"),
    ("api.core.v1.PodSpec", "containers", "name"),
    ("api.core.v1.PodSpec", "ephemeralContainers", "name"),
    ("api.core.v1.PodSpec", "hostAliases", "ip"),
    ("api.core.v1.PodSpec", "imagePullSecrets", "name"),
    ("api.core.v1.PodSpec", "initContainers", "name"),
    ("api.core.v1.PodSpec", "resourceClaims", "name"),
    ("api.core.v1.PodSpec", "schedulingGates", "name"),
    (
        "api.core.v1.PodSpec",
        "topologySpreadConstraints",
        "topologyKey,whenUnsatisfiable",
    ),
    ("api.core.v1.PodSpec", "volumes", "name"),
    ("api.core.v1.PodStatus", "conditions", "type"),
    ("api.core.v1.PodStatus", "podIPs", "ip"),
    ("api.core.v1.PodStatus", "resourceClaimStatuses", "name"),
    ("api.core.v1.ResourceRequirements", "claims", "name"),
    ("api.core.v1.ResourceStatus", "resources", "resourceID"),
    ("api.core.v1.ServiceAccount", "secrets", "name"),
    ("api.core.v1.ServiceSpec", "ports", "port,protocol"),
    ("api.core.v1.ServiceStatus", "conditions", "type"),
    ("api.policy.v1.PodDisruptionBudgetStatus", "conditions", "type"),
    (
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionStatus",
        "conditions",
        "type",
    ),
    (
        "apimachinery.pkg.apis.meta.v1.ObjectMeta",
        "ownerReferences",
        "uid",
    ),
];

/// Lists of these that strategic merge patches replace all the same.
const PLAIN_PATCHES: &[(&str, &str)] = &[
    ("api.core.v1.ResourceRequirements", "claims"),
    ("api.core.v1.ResourceStatus", "resources"),
    (
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionStatus",
        "conditions",
    ),
];

/// Lists of scalars, each once.
const LIST_SETS: &[(&str, &str)] = &[
    ("api.core.v1.NodeSpec", "podCIDRs"),
    ("api.discovery.v1.Endpoint", "addresses"),
    ("apimachinery.pkg.apis.meta.v1.ObjectMeta", "finalizers"),
];

/// Maps that are one value, by definition.
const ATOMIC_MAPS: &[&str] = &[
    "api.core.v1.ConfigMapKeySelector",
    "api.core.v1.EndpointAddress",
    "api.core.v1.EndpointPort",
    "api.core.v1.FileKeySelector",
    "api.core.v1.LocalObjectReference",
    "api.core.v1.NodeSelector",
    "api.core.v1.NodeSelectorTerm",
    "api.core.v1.ObjectFieldSelector",
    "api.core.v1.ObjectReference",
    "api.core.v1.ResourceFieldSelector",
    "api.core.v1.ScopeSelector",
    "api.core.v1.SecretKeySelector",
    "api.core.v1.SecretReference",
    "api.core.v1.TopologySelectorTerm",
    "api.core.v1.TypedLocalObjectReference",
    "api.discovery.v1.EndpointPort",
    "api.rbac.v1.RoleRef",
    "api.rbac.v1.Subject",
    "apimachinery.pkg.apis.meta.v1.LabelSelector",
    "apimachinery.pkg.apis.meta.v1.OwnerReference",
];

/// Maps that are one value, by field.
const ATOMIC_FIELDS: &[(&str, &str)] = &[
    ("api.core.v1.PodSpec", "nodeSelector"),
    ("api.core.v1.ServiceSpec", "selector"),
];

/// What an absent field becomes: definition, field, value as JSON. Defaults that depend on other fields are in
/// `crate::kinds::defaults`.
const DEFAULTS: &[(&str, &str, &str)] = &[
    ("api.core.v1.ContainerPort", "protocol", "\"TCP\""),
    ("api.core.v1.Container", "resources", "{}"),
    (
        "api.core.v1.Container",
        "terminationMessagePath",
        "\"/dev/termination-log\"",
    ),
    ("api.core.v1.Container", "terminationMessagePolicy", "\"File\""),
    ("api.core.v1.ServicePort", "protocol", "\"TCP\""),
    ("api.core.v1.EndpointPort", "protocol", "\"TCP\""),
    ("api.discovery.v1.EndpointPort", "protocol", "\"TCP\""),
    ("api.discovery.v1.EndpointPort", "name", "\"\""),
    ("api.discovery.v1.Endpoint", "conditions", "{}"),
    ("api.networking.v1.NetworkPolicyPort", "protocol", "\"TCP\""),
    ("api.core.v1.PodSpec", "restartPolicy", "\"Always\""),
    ("api.core.v1.PodSpec", "terminationGracePeriodSeconds", "30"),
    ("api.core.v1.PodSpec", "dnsPolicy", "\"ClusterFirst\""),
    ("api.core.v1.PodSpec", "securityContext", "{}"),
    ("api.core.v1.PodSpec", "schedulerName", "\"default-scheduler\""),
    ("api.core.v1.Probe", "timeoutSeconds", "1"),
    ("api.core.v1.Probe", "periodSeconds", "10"),
    ("api.core.v1.Probe", "successThreshold", "1"),
    ("api.core.v1.Probe", "failureThreshold", "3"),
    ("api.core.v1.GRPCAction", "service", "\"\""),
    ("api.core.v1.HTTPGetAction", "scheme", "\"HTTP\""),
    ("api.core.v1.HTTPGetAction", "path", "\"/\""),
    ("api.core.v1.ObjectFieldSelector", "apiVersion", "\"v1\""),
    ("api.core.v1.SecretVolumeSource", "defaultMode", "420"),
    ("api.core.v1.ConfigMapVolumeSource", "defaultMode", "420"),
    ("api.core.v1.DownwardAPIVolumeSource", "defaultMode", "420"),
    ("api.core.v1.ProjectedVolumeSource", "defaultMode", "420"),
    (
        "api.core.v1.ServiceAccountTokenProjection",
        "expirationSeconds",
        "3600",
    ),
    ("api.core.v1.HostPathVolumeSource", "type", "\"\""),
    ("api.core.v1.ServiceSpec", "type", "\"ClusterIP\""),
    ("api.core.v1.ServiceSpec", "sessionAffinity", "\"None\""),
    (
        "api.core.v1.PersistentVolumeClaimSpec",
        "volumeMode",
        "\"Filesystem\"",
    ),
    ("api.core.v1.PersistentVolumeClaimSpec", "resources", "{}"),
    ("api.core.v1.PersistentVolumeSpec", "volumeMode", "\"Filesystem\""),
    (
        "api.core.v1.PersistentVolumeSpec",
        "persistentVolumeReclaimPolicy",
        "\"Retain\"",
    ),
    ("api.core.v1.Secret", "type", "\"Opaque\""),
    ("api.apps.v1.StatefulSetSpec", "replicas", "1"),
    (
        "api.apps.v1.StatefulSetSpec",
        "podManagementPolicy",
        "\"OrderedReady\"",
    ),
    (
        "api.apps.v1.StatefulSetSpec",
        "updateStrategy",
        "{\"type\":\"RollingUpdate\"}",
    ),
    ("api.apps.v1.StatefulSetSpec", "revisionHistoryLimit", "10"),
    (
        "api.apps.v1.StatefulSetSpec",
        "persistentVolumeClaimRetentionPolicy",
        "{\"whenDeleted\":\"Retain\",\"whenScaled\":\"Retain\"}",
    ),
    (
        "api.apps.v1.StatefulSetPersistentVolumeClaimRetentionPolicy",
        "whenDeleted",
        "\"Retain\"",
    ),
    (
        "api.apps.v1.StatefulSetPersistentVolumeClaimRetentionPolicy",
        "whenScaled",
        "\"Retain\"",
    ),
    (
        "api.apps.v1.DaemonSetSpec",
        "updateStrategy",
        "{\"type\":\"RollingUpdate\"}",
    ),
    ("api.apps.v1.DaemonSetSpec", "revisionHistoryLimit", "10"),
    ("api.apps.v1.DeploymentSpec", "replicas", "1"),
    (
        "api.apps.v1.DeploymentSpec",
        "strategy",
        "{\"type\":\"RollingUpdate\"}",
    ),
    ("api.apps.v1.DeploymentSpec", "revisionHistoryLimit", "10"),
    ("api.apps.v1.DeploymentSpec", "progressDeadlineSeconds", "600"),
    ("api.storage.v1.StorageClass", "reclaimPolicy", "\"Delete\""),
    (
        "api.storage.v1.StorageClass",
        "volumeBindingMode",
        "\"Immediate\"",
    ),
    ("api.core.v1.PersistentVolumeClaim", "status", "{}"),
    (
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionSpec",
        "conversion",
        "{\"strategy\":\"None\"}",
    ),
];
