//! Where the directory of a Workspace is that adopts a claim or a path of a node: looked up now, since pods come and go.
//!
//! A claim is reached by the path at which the kubelet mounts it for a pod that uses it. Of claims that no pod uses nothing is mounted anywhere, and the Workspace
//! waits, and says so. `local` and `hostPath` volumes are reached by their own path.

use cairn_crds::Workspace;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::ResourceExt;

use super::Context;
use crate::plan::workspace::Directory;
use crate::runtime::cache::Key;
use crate::runtime::error::ReconcileError;

/// Finds it. Errors: the API server refuses or does not answer.
pub async fn find(context: &Context, workspace: &Workspace) -> Result<Directory, ReconcileError> {
    let backing = &workspace.spec.backing;
    if let Some(host_path) = &backing.host_path {
        let node = workspace
            .spec
            .placement
            .as_ref()
            .and_then(|placement| placement.node_name.clone());
        return Ok(match node {
            Some(node) => Directory::Found {
                node,
                path: host_path.path.clone(),
            },
            None => waiting(
                "NodeNotNamed",
                "a directory of a node needs placement.nodeName: name the node that has it",
            ),
        });
    }
    let Some(claim) = &backing.pvc else {
        return Ok(Directory::None);
    };
    let namespace = workspace.namespace().unwrap_or_default();
    let name = &claim.claim_name;
    let found: Option<PersistentVolumeClaim> = context.workspaces.get(&Key::new(&namespace, name)).await?;
    let Some(found) = found else {
        return Ok(waiting(
            "ClaimNotFound",
            format!("there is no claim {name} in the namespace {namespace}: make it"),
        ));
    };
    let class = found
        .spec
        .as_ref()
        .and_then(|spec| spec.storage_class_name.clone());
    if let Some(wanted) = &workspace.spec.storage_class_name
        && class.as_deref().is_some_and(|class| class != wanted)
    {
        return Ok(waiting(
            "StorageClassDiffers",
            format!(
                "storageClassName is {wanted}, and the claim {name} has {}: give the claim's, or remove storageClassName",
                class.unwrap_or_default()
            ),
        ));
    }
    let volume = found
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_name.clone())
        .filter(|volume| !volume.is_empty());
    let Some(volume) = volume else {
        return Ok(waiting(
            "ClaimNotBound",
            format!("the claim {name} is not bound to a volume yet: see kubectl describe pvc {name}"),
        ));
    };
    let pods: Vec<Pod> = context.workspaces.list(&namespace, "").await?;
    let chosen = workspace
        .status
        .as_ref()
        .and_then(|status| status.node_name.clone());
    let mut using: Vec<&Pod> = pods.iter().filter(|pod| mounts(pod, name)).collect();
    // The node that was chosen before, then by age, so that the answer is the same as long as the pod runs.
    using.sort_by_key(|pod| {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        (
            chosen.is_some() && node != chosen,
            pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
            pod.name_any(),
        )
    });
    let Some(pod) = using.first() else {
        return Ok(waiting(
            "ClaimNotMounted",
            format!(
                "no running pod mounts the claim {name}, so no node has it: start one (a pod that sleeps is enough)"
            ),
        ));
    };
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let Some(node) = node else {
        return Ok(waiting(
            "ClaimNotMounted",
            format!("the pod {} is not on a node yet", pod.name_any()),
        ));
    };
    let object: Option<PersistentVolume> = context.workspaces.get(&Key::cluster(&volume)).await?;
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let Some(path) = object.and_then(|object| path(&object, &uid, &context.plan.kubelet_directory)) else {
        return Ok(waiting(
            "VolumeNotSupported",
            format!(
                "the volume {volume} of the claim {name} is of a kind whose directory on the node is not known: csi, nfs, local and hostPath volumes with volumeMode Filesystem are"
            ),
        ));
    };
    Ok(Directory::Found { node, path })
}

fn waiting(reason: &'static str, message: impl Into<String>) -> Directory {
    Directory::Waiting {
        reason,
        message: message.into(),
    }
}

/// Whether a pod runs and mounts the claim.
fn mounts(pod: &Pod, claim: &str) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let volumes = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.volumes.as_ref())
        .into_iter()
        .flatten();
    phase == Some("Running")
        && pod.metadata.deletion_timestamp.is_none()
        && volumes
            .filter_map(|volume| volume.persistent_volume_claim.as_ref())
            .any(|source| source.claim_name == claim)
}

/// The directory of a volume on the node of the pod that mounts it.
fn path(volume: &PersistentVolume, pod: &str, kubelet: &str) -> Option<String> {
    let spec = volume.spec.as_ref()?;
    if spec.volume_mode.as_deref().unwrap_or("Filesystem") != "Filesystem" {
        return None;
    }
    if let Some(host_path) = &spec.host_path {
        return Some(host_path.path.clone());
    }
    if let Some(local) = &spec.local {
        return Some(local.path.clone());
    }
    let name = volume.name_any();
    let kubelet = kubelet.trim_end_matches('/');
    if spec.csi.is_some() {
        return Some(format!(
            "{kubelet}/pods/{pod}/volumes/kubernetes.io~csi/{name}/mount"
        ));
    }
    spec.nfs
        .is_some()
        .then(|| format!("{kubelet}/pods/{pod}/volumes/kubernetes.io~nfs/{name}"))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{PersistentVolume, Pod};

    use super::{mounts, path};

    #[test]
    fn the_directory_is_where_the_kubelet_mounts() {
        let volume = |spec: &str| -> PersistentVolume {
            let text = format!(r#"{{"metadata":{{"name":"pv"}},"spec":{spec}}}"#);
            serde_json::from_str(&text).unwrap()
        };
        let of = |spec: &str| path(&volume(spec), "uid", "/var/lib/kubelet/");
        assert_eq!(
            of(r#"{"csi":{"driver":"csi.juicefs.com","volumeHandle":"h"}}"#).unwrap(),
            "/var/lib/kubelet/pods/uid/volumes/kubernetes.io~csi/pv/mount"
        );
        assert_eq!(
            of(r#"{"nfs":{"server":"s","path":"/"}}"#).unwrap(),
            "/var/lib/kubelet/pods/uid/volumes/kubernetes.io~nfs/pv"
        );
        assert_eq!(of(r#"{"local":{"path":"/mnt/d"}}"#).unwrap(), "/mnt/d");
        assert_eq!(of(r#"{"hostPath":{"path":"/srv"}}"#).unwrap(), "/srv");
        assert_eq!(
            of(r#"{"volumeMode":"Block","csi":{"driver":"d","volumeHandle":"h"}}"#),
            None
        );
        assert_eq!(of(r#"{"iscsi":{"targetPortal":"p","iqn":"i","lun":0}}"#), None);
    }

    #[test]
    fn only_running_pods_count() {
        let pod = |phase: &str| -> Pod {
            let text = format!(
                r#"{{"metadata":{{"name":"p"}},"spec":{{"containers":[],"volumes":[{{"name":"v","persistentVolumeClaim":{{"claimName":"c"}}}}]}},"status":{{"phase":"{phase}"}}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        assert!(mounts(&pod("Running"), "c"));
        assert!(!mounts(&pod("Running"), "other"));
        assert!(!mounts(&pod("Succeeded"), "c"));
    }
}
