//! A Workspace that begins with a Snapshot, as `restoreOnCreate` and Restores make it. Who made it stands in an annotation, so that nobody takes another's Workspace
//! for its own.

use cairn_crds::names;
use cairn_crds::{Workspace, WorkspaceSpec};
use kube::ResourceExt;

use crate::runtime::api::metadata;
use crate::runtime::cache::Key;

/// Annotation: the uid of the Snapshot or Restore that made the Workspace.
pub const MADE_BY: &str = "jvs.io/made-by";

/// Whether the Workspace was made by the object with this uid.
pub fn is_made_from(workspace: &Workspace, uid: &str) -> bool {
    workspace.annotations().get(MADE_BY).map(String::as_str) == Some(uid)
}

/// A Workspace like `of`, without its schedule and rules, that begins with `snapshot`; made by the object with the uid `by`.
pub fn worktree(of: &Workspace, snapshot: &str, name: &str, by: &str) -> Workspace {
    let spec = WorkspaceSpec {
        replicas: of.spec.replicas,
        storage_class_name: of.spec.storage_class_name.clone(),
        storage: of.spec.storage.clone(),
        mount_options: of.spec.mount_options.clone(),
        export: of.spec.export.clone(),
        initial_snapshot: Some(snapshot.to_owned()),
        ..WorkspaceSpec::default()
    };
    let mut workspace = Workspace::new(name, spec);
    let key = Key::new(of.namespace().unwrap_or_default(), name);
    workspace.metadata = metadata(&key, &[(names::MANAGED_BY, names::MANAGER)]);
    workspace
        .annotations_mut()
        .insert(MADE_BY.to_owned(), by.to_owned());
    workspace
}
