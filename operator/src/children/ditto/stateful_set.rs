//! The StatefulSet of a DittoServer: one daemon and its claim.
//!
//! The template of the claim is immutable: the one that is there is repeated as it is, and the claim itself grows. The pod's template has nothing but what a
//! restart is needed for; everything else is in Services, policies and RPCs.

use std::collections::BTreeMap;

use cairn_crds::DittoServer;
use cairn_crds::validation::quantity_bytes;
use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction,
    KeyToPath, Lifecycle, LifecycleHandler, PersistentVolumeClaim, PersistentVolumeClaimSpec,
    PodSecurityContext, PodSpec, PodTemplateSpec, Probe, SeccompProfile, SecretKeySelector,
    SecretVolumeSource, SecurityContext, SleepAction, Volume, VolumeMount, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::config::{
    CREDENTIALS, DATA_DIRECTORY, FILE, STORES_DIRECTORY, TLS_DIRECTORY, shutdown_seconds, stores,
};
use super::{
    CONFIG_HASH, DittoSettings, HTTP_PORT, NFS_PORT, RPC_PORT, USER, certificate, child, config_name, daemon,
    headless_name, match_labels, selector,
};

/// The claim's template.
pub const VOLUME: &str = "data";
/// The container.
pub const CONTAINER: &str = "cairnd";
/// Where the claim is mounted.
const VOLUME_PATH: &str = "/var/lib/cairn";
/// Seconds before the daemon is told to end: until nobody sends it new clients.
const LEAVE_SECONDS: i64 = 5;
/// Seconds in which stores are closed, beyond the daemon's own bound for requests.
const CLOSE_SECONDS: i64 = 40;
/// For the group, which is the daemon's, to read.
const GROUP_READS: i32 = 0o440;

/// The image that is run, and whether it is not the one that was asked for.
pub fn image<'a>(server: &'a DittoServer, settings: &'a DittoSettings) -> (&'a str, bool) {
    let Some(asked) = server.spec.image.as_deref() else {
        return (&settings.image, false);
    };
    let last = asked.rsplit('/').next().unwrap_or_default();
    let name = last.split([':', '@']).next().unwrap_or_default();
    match name.contains("dittofs") {
        true => (&settings.image, true),
        false => (asked, false),
    }
}

/// The size that the claim shall have, as a quantity and in bytes: the sum of both sizes, because the daemon keeps metadata and contents in one directory.
pub fn wanted_size(server: &DittoServer) -> Option<(String, u64)> {
    let storage = &server.spec.storage;
    let metadata = quantity_bytes(&storage.metadata_size)?;
    let Some(content) = &storage.content_size else {
        return Some((storage.metadata_size.clone(), metadata));
    };
    let sum = metadata.checked_add(quantity_bytes(content)?)?;
    let text = match sum % (1 << 30) {
        0 => format!("{}Gi", sum >> 30),
        _ => sum.to_string(),
    };
    Some((text, sum))
}

fn template(server: &DittoServer, size: &str) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(VOLUME.to_owned()),
            labels: Some(selector(&server.name_any())),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: server.spec.storage.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), Quantity(size.to_owned()))].into()),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}

/// What a template asks for.
pub fn template_size(set: &StatefulSet) -> Option<String> {
    let template = set.spec.as_ref()?.volume_claim_templates.as_ref()?.first()?;
    let requests = template.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    requests.get("storage").map(|size| size.0.clone())
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(i32::from(HTTP_PORT)),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn port(name: &str, port: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(port),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

fn environment(server: &DittoServer) -> Vec<EnvVar> {
    let plain = |name: &str, value: String| EnvVar {
        name: name.to_owned(),
        value: Some(value),
        ..EnvVar::default()
    };
    let mut all = vec![
        // Under this name the operator knows the daemon.
        plain("CAIRN_NODE_NAME", daemon(server)),
        // For `kubectl exec NAME-0 -- cairn status`.
        plain("CAIRN_SOCKET", format!("{DATA_DIRECTORY}/cairnd.sock")),
    ];
    for backend in stores(server).0 {
        for (reference, variable) in [
            ("access_key_id", "AWS_ACCESS_KEY_ID"),
            ("secret_access_key", "AWS_SECRET_ACCESS_KEY"),
        ] {
            let Some(secret) = backend.secret_refs.get(reference) else {
                continue;
            };
            all.push(EnvVar {
                name: variable.to_owned(),
                value_from: Some(EnvVarSource {
                    secret_key_ref: Some(SecretKeySelector {
                        name: secret.name.clone(),
                        key: secret.key.clone(),
                        optional: None,
                    }),
                    ..EnvVarSource::default()
                }),
                ..EnvVar::default()
            });
        }
    }
    all
}

/// Volumes with where they are mounted.
fn volumes(server: &DittoServer, settings: &DittoSettings) -> (Vec<Volume>, Vec<VolumeMount>) {
    let name = server.name_any();
    let item = |key: &str, path: &str| KeyToPath {
        key: key.to_owned(),
        path: path.to_owned(),
        mode: None,
    };
    let secret = |volume: &str, secret: String, items: Option<Vec<KeyToPath>>| Volume {
        name: volume.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            default_mode: Some(GROUP_READS),
            items,
            optional: None,
        }),
        ..Volume::default()
    };
    let mut volumes = vec![
        Volume {
            name: "config".to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: config_name(&name),
                items: Some(vec![item(FILE, FILE)]),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        // Read again by the daemon when it changes.
        secret("tls", certificate(server, settings), None),
    ];
    let mut mounts = vec![
        mount(VOLUME, VOLUME_PATH, false),
        mount("config", "/etc/cairn", true),
        mount("tls", TLS_DIRECTORY, true),
    ];
    for (number, backend) in stores(server).0.into_iter().enumerate() {
        if let Some(reference) = backend.secret_refs.get(CREDENTIALS) {
            let volume = format!("store-{number}");
            let items = vec![item(&reference.key, CREDENTIALS)];
            volumes.push(secret(&volume, reference.name.clone(), Some(items)));
            mounts.push(mount(
                &volume,
                &format!("{STORES_DIRECTORY}/{}", backend.name),
                true,
            ));
        }
    }
    (volumes, mounts)
}

fn container(server: &DittoServer, settings: &DittoSettings, mounts: Vec<VolumeMount>) -> Container {
    let spec = &server.spec;
    let security = SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: None,
        }),
        ..SecurityContext::default()
    };
    Container {
        name: CONTAINER.to_owned(),
        image: Some(image(server, settings).0.to_owned()),
        args: Some(vec![format!("--config=/etc/cairn/{FILE}")]),
        env: Some(environment(server)),
        ports: Some(vec![
            port("nfs", NFS_PORT),
            port("rpc", RPC_PORT),
            port("http", HTTP_PORT),
        ]),
        resources: spec.resources.clone(),
        security_context: Some(spec.security_context.clone().unwrap_or(security)),
        // A start after a crash replays the rest of the log: minutes at most.
        startup_probe: Some(probe("/healthz", 2, 300)),
        liveness_probe: Some(probe("/healthz", 10, 6)),
        readiness_probe: Some(probe("/readyz", 5, 3)),
        lifecycle: Some(Lifecycle {
            // Then SIGTERM: the daemon finishes running requests, brings everything onto the disk, and ends.
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction {
                    seconds: LEAVE_SECONDS,
                }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

fn pod(server: &DittoServer, settings: &DittoSettings, config_hash: &str) -> PodTemplateSpec {
    let spec = &server.spec;
    let (volumes, mounts) = volumes(server, settings);
    let security = PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        // Not again at every start: the daemon's files are its own.
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    };
    let grace = spec
        .termination_grace_period_seconds
        .unwrap_or_else(|| LEAVE_SECONDS + shutdown_seconds(server) + CLOSE_SECONDS);
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(selector(&server.name_any())),
            annotations: Some([(CONFIG_HASH.to_owned(), config_hash.to_owned())].into()),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            service_account_name: spec.service_account_name.clone(),
            image_pull_secrets: (!spec.image_pull_secrets.is_empty())
                .then(|| spec.image_pull_secrets.clone()),
            node_selector: (!spec.node_selector.is_empty())
                .then(|| spec.node_selector.clone().into_iter().collect::<BTreeMap<_, _>>()),
            tolerations: (!spec.tolerations.is_empty()).then(|| spec.tolerations.clone()),
            termination_grace_period_seconds: Some(grace),
            security_context: Some(spec.pod_security_context.clone().unwrap_or(security)),
            containers: vec![container(server, settings, mounts)],
            volumes: Some(volumes),
            ..PodSpec::default()
        }),
    }
}

/// The StatefulSet. `known` is the one that is there, whose template of the claim is repeated. Nothing if the sizes cannot be read.
pub fn stateful_set(
    server: &DittoServer,
    settings: &DittoSettings,
    known: Option<&StatefulSet>,
    config_hash: &str,
) -> Option<StatefulSet> {
    let name = server.name_any();
    let size = match known.and_then(template_size) {
        Some(size) => size,
        None => wanted_size(server)?.0,
    };
    let keep = || Some("Retain".to_owned());
    Some(StatefulSet {
        metadata: child(server, name.clone()),
        spec: Some(StatefulSetSpec {
            replicas: Some(server.spec.replicas),
            service_name: Some(headless_name(&name)),
            selector: match_labels(&name),
            // A pod that cannot start would otherwise keep its own repair from being rolled out.
            pod_management_policy: Some("Parallel".to_owned()),
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: keep(),
                when_scaled: keep(),
            }),
            template: pod(server, settings, config_hash),
            volume_claim_templates: Some(vec![template(server, &size)]),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    })
}
