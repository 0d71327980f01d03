//! What a view is made of: the pod, and the workspace that it mounts. Pure.

use cairn_crds::workspace::WorkspaceDeletionPolicy;
use cairn_crds::{Workspace, WorkspaceSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, PersistentVolumeClaimVolumeSource, Pod, PodSpec, SeccompProfile,
    SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt;

use crate::arguments::ViewArguments;

/// Where the snapshot is in the pod.
pub const PATH: &str = "/snapshot";
/// Label of both objects; its value is [`COMPONENT`].
const LABEL: &str = "app.kubernetes.io/component";
const COMPONENT: &str = "cairn-view";
/// Annotation of both objects: the Snapshot.
const SNAPSHOT: &str = "jvs.io/view-of";
/// The pod's volume.
const VOLUME: &str = "snapshot";

fn metadata(name: &str, namespace: &str, snapshot: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some([(LABEL.to_owned(), COMPONENT.to_owned())].into()),
        annotations: Some([(SNAPSHOT.to_owned(), snapshot.to_owned())].into()),
        ..ObjectMeta::default()
    }
}

/// A read-only workspace that begins as the snapshot, and goes with its data when it is deleted. `owner`: the pod with which it goes.
pub fn workspace(of: &Workspace, snapshot: &str, name: &str, owner: Option<&Pod>) -> Workspace {
    let mut export = of.spec.export.clone().unwrap_or_default();
    export.read_only = true;
    let spec = WorkspaceSpec {
        storage_class_name: of.spec.storage_class_name.clone(),
        storage: of.spec.storage.clone(),
        mount_options: of.spec.mount_options.clone(),
        initial_snapshot: Some(snapshot.to_owned()),
        export: Some(export),
        deletion_policy: WorkspaceDeletionPolicy::Delete,
        ..WorkspaceSpec::default()
    };
    let mut made = Workspace::new(name, spec);
    made.metadata = metadata(name, &of.namespace().unwrap_or_default(), snapshot);
    made.metadata.owner_references = owner.map(|pod| {
        vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            ..OwnerReference::default()
        }]
    });
    made
}

/// The pod: it sleeps, and ends by itself after its lifetime.
pub fn pod(name: &str, namespace: &str, arguments: &ViewArguments) -> Pod {
    let seconds = arguments.lifetime.as_secs();
    let uid = arguments.uid.map(i64::from);
    let container = Container {
        name: "view".to_owned(),
        image: Some(arguments.image.clone()),
        command: Some(vec!["sleep".to_owned(), seconds.to_string()]),
        working_dir: Some(PATH.to_owned()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: None,
            }),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            run_as_user: uid,
            // What the restricted level of Pod Security asks for.
            run_as_non_root: uid.filter(|uid| *uid != 0).map(|_| true),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![VolumeMount {
            name: VOLUME.to_owned(),
            mount_path: PATH.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    };
    Pod {
        metadata: metadata(name, namespace, &arguments.snapshot),
        spec: Some(PodSpec {
            restart_policy: Some("Never".to_owned()),
            active_deadline_seconds: Some(i64::try_from(seconds).unwrap_or(i64::MAX)),
            // `sleep` as the first process of a pod hears no SIGTERM.
            termination_grace_period_seconds: Some(1),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            containers: vec![container],
            volumes: Some(vec![Volume {
                name: VOLUME.to_owned(),
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: name.to_owned(),
                    read_only: Some(true),
                }),
                ..Volume::default()
            }]),
            ..PodSpec::default()
        }),
        ..Pod::default()
    }
}
