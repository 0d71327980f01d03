//! The manifests beside the crate are what the types say.

use std::path::Path;

use cairn_crds::{all, manifests};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use crate::cases::documents;

#[test]
fn the_generated_manifests_are_fresh() {
    manifests::check(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
}

#[test]
fn a_yaml_reader_finds_the_same_definitions() {
    for definition in all() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(manifests::file_name(&definition));
        let [document] = &documents(&path)[..] else {
            panic!("{} has not one document", path.display());
        };
        let found: CustomResourceDefinition = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(found, definition, "{}", path.display());
    }
}

#[test]
fn a_stale_or_missing_manifest_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let missing = manifests::check(directory.path()).unwrap_err();
    assert!(missing.contains("workspaces.jvs.io.yaml"), "{missing}");
    manifests::write(directory.path()).unwrap();
    manifests::check(directory.path()).unwrap();
    let path = directory.path().join("snapshots.jvs.io.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("jvssnap", "other", 1)).unwrap();
    let stale = manifests::check(directory.path()).unwrap_err();
    assert!(stale.contains("snapshots.jvs.io.yaml is stale"), "{stale}");
}
