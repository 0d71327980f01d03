//! How pods get at a Workspace: a PersistentVolume of type nfs that is reserved for one claim, and that claim.
//!
//! The claim asks for what the Workspace was made with and never changes: the API server lets no claim of a volume that was not provisioned dynamically grow. The
//! volume tells the present size, and the daemon enforces it.

use cairn_crds::Workspace;
use cairn_crds::names;
use k8s_openapi::api::core::v1::{
    NFSVolumeSource, ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec,
    PersistentVolumeSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;

use crate::runtime::api::metadata;
use crate::runtime::cache::{self, Key};

/// Where a Workspace is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served<'a> {
    /// Address of the server.
    pub server: &'a str,
    /// Path of the export.
    pub path: &'a str,
    /// Mount options of the daemon, in order.
    pub options: &'a [String],
}

/// The name of a Workspace's PersistentVolume.
pub fn volume_name(workspace: &Workspace) -> String {
    format!("cairn-{}", cache::uid(workspace))
}

/// The mount options: the daemon's, then the Workspace's, which replace the daemon's of the same name.
pub fn mount_options(daemon: &[String], own: &[String]) -> Vec<String> {
    let name = |option: &str| option.split('=').next().unwrap_or_default().to_owned();
    let kept = daemon
        .iter()
        .filter(|option| !own.iter().any(|own| name(own) == name(option)));
    kept.chain(own).cloned().collect()
}

fn access_modes(workspace: &Workspace) -> Vec<String> {
    let is_read_only = workspace
        .spec
        .export
        .as_ref()
        .is_some_and(|export| export.read_only);
    vec![
        if is_read_only {
            "ReadOnlyMany"
        } else {
            "ReadWriteMany"
        }
        .to_owned(),
    ]
}

/// The PersistentVolume.
pub fn volume(workspace: &Workspace, served: &Served<'_>) -> PersistentVolume {
    let spec = &workspace.spec;
    let uid = cache::uid(workspace);
    let is_read_only = spec.export.as_ref().is_some_and(|export| export.read_only);
    let labels = [(names::MANAGED_BY, names::MANAGER), (names::WORKSPACE_UID, uid)];
    PersistentVolume {
        metadata: metadata(&Key::cluster(volume_name(workspace)), &labels),
        spec: Some(PersistentVolumeSpec {
            capacity: Some([("storage".to_owned(), Quantity(spec.storage.clone()))].into()),
            access_modes: Some(access_modes(workspace)),
            persistent_volume_reclaim_policy: Some("Retain".to_owned()),
            storage_class_name: Some(spec.storage_class_name.clone().unwrap_or_default()),
            volume_mode: Some("Filesystem".to_owned()),
            claim_ref: Some(ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("PersistentVolumeClaim".to_owned()),
                namespace: workspace.namespace(),
                name: Some(workspace.name_any()),
                ..ObjectReference::default()
            }),
            mount_options: Some(mount_options(served.options, &spec.mount_options)),
            nfs: Some(NFSVolumeSource {
                server: served.server.to_owned(),
                path: served.path.to_owned(),
                read_only: is_read_only.then_some(true),
            }),
            ..PersistentVolumeSpec::default()
        }),
        ..PersistentVolume::default()
    }
}

/// The claim. `known` is the one that is there already, whose request stays.
pub fn claim(workspace: &Workspace, known: Option<&PersistentVolumeClaim>) -> PersistentVolumeClaim {
    let spec = &workspace.spec;
    let uid = cache::uid(workspace);
    let key = Key::new(workspace.namespace().unwrap_or_default(), workspace.name_any());
    let labels = [
        (names::MANAGED_BY, names::MANAGER),
        (names::WORKSPACE_UID, uid),
        (names::WORKSPACE, key.name.as_str()),
    ];
    let known = known.and_then(|known| known.spec.as_ref());
    let request = known
        .and_then(|known| known.resources.as_ref()?.requests.as_ref()?.get("storage"))
        .cloned()
        .unwrap_or_else(|| Quantity(spec.storage.clone()));
    let modes = known
        .and_then(|known| known.access_modes.clone())
        .unwrap_or_else(|| access_modes(workspace));
    let mut metadata = metadata(&key, &labels);
    metadata.owner_references = super::controlled_by(workspace).map(|owner| vec![owner]);
    PersistentVolumeClaim {
        metadata,
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(modes),
            storage_class_name: Some(spec.storage_class_name.clone().unwrap_or_default()),
            volume_mode: Some("Filesystem".to_owned()),
            volume_name: Some(volume_name(workspace)),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), request)].into()),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}

#[cfg(test)]
mod tests {
    use cairn_crds::{Workspace, WorkspaceSpec};
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

    use super::{Served, claim, mount_options, volume};

    fn workspace() -> Workspace {
        let mut workspace = Workspace::new("data", WorkspaceSpec::default());
        workspace.metadata.namespace = Some("team".to_owned());
        workspace.metadata.uid = Some("u-1".to_owned());
        workspace
    }

    #[test]
    fn own_options_replace_those_of_the_same_name() {
        let daemon = ["vers=3", "tcp", "port=12049", "hard"].map(str::to_owned);
        let own = ["nconnect=4", "tcp"].map(str::to_owned);
        assert_eq!(
            mount_options(&daemon, &own),
            ["vers=3", "port=12049", "hard", "nconnect=4", "tcp"]
        );
    }

    #[test]
    fn volume_and_claim_are_for_each_other() {
        let workspace = workspace();
        let served = Served {
            server: "10.96.0.1",
            path: "/team.data",
            options: &[],
        };
        let volume = volume(&workspace, &served).spec.unwrap();
        let mut claim_object = claim(&workspace, None);
        let reference = volume.claim_ref.unwrap();
        assert_eq!(reference.name, claim_object.metadata.name);
        assert_eq!(reference.namespace, claim_object.metadata.namespace);
        assert_eq!(
            claim_object.spec.as_ref().unwrap().volume_name.as_deref(),
            Some("cairn-u-1")
        );
        assert_eq!(volume.storage_class_name.as_deref(), Some(""));
        assert_eq!(volume.nfs.unwrap().path, "/team.data");
        assert_eq!(claim_object.metadata.owner_references.as_ref().unwrap().len(), 1);

        // A Workspace that has grown leaves its claim as it is.
        let mut grown = workspace.clone();
        grown.spec.storage = "20Gi".to_owned();
        let requests = |claim: &super::PersistentVolumeClaim| {
            claim.spec.clone().unwrap().resources.unwrap().requests.unwrap()["storage"].clone()
        };
        assert_eq!(
            requests(&claim(&grown, Some(&claim_object))),
            Quantity("10Gi".to_owned())
        );
        claim_object.metadata.name = Some("other".to_owned());
        assert_eq!(requests(&claim(&grown, None)), Quantity("20Gi".to_owned()));
    }
}
