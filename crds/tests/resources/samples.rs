//! The manifests of `deploy/samples`: accepted by schema and rules, and the same after a way through the types.

use cairn_crds::{DittoServer, Restore, Snapshot, StorageNode, Workspace, all};
use kube::core::cel::apply_defaults;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cases::{documents, root, schema};
use crate::rules::judge;

/// All documents of all samples, with their file's name.
fn samples() -> Vec<(String, Value)> {
    let directory = root().join("deploy/samples");
    let mut paths: Vec<_> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
        .iter()
        .flat_map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            documents(path)
                .into_iter()
                .map(move |document| (name.clone(), document))
        })
        .collect()
}

fn through<T: Serialize + DeserializeOwned>(value: &Value) -> Value {
    let object: T = serde_json::from_value(value.clone()).unwrap();
    serde_json::to_value(object).unwrap()
}

#[test]
fn every_sample_is_accepted_and_survives_the_types() {
    let definitions = all();
    let mut kinds = std::collections::BTreeMap::new();
    for (file, sample) in samples() {
        let kind = sample["kind"].as_str().unwrap().to_owned();
        let Some(definition) = definitions
            .iter()
            .find(|definition| definition.spec.names.kind == kind)
        else {
            assert_eq!(kind, "Pod", "{file}");
            continue;
        };
        *kinds.entry(kind.clone()).or_insert(0) += 1;
        let version = format!("{}/{}", definition.spec.group, definition.spec.versions[0].name);
        assert_eq!(sample["apiVersion"], version, "{file}");
        let schema = schema(definition);
        assert_eq!(judge(&schema, &sample, None), Vec::<String>::new(), "{file}");
        let defaulted = apply_defaults(&schema, &sample);
        let after = match kind.as_str() {
            "Workspace" => through::<Workspace>(&defaulted),
            "Snapshot" => through::<Snapshot>(&defaulted),
            "Restore" => through::<Restore>(&defaulted),
            "StorageNode" => through::<StorageNode>(&defaulted),
            _ => through::<DittoServer>(&defaulted),
        };
        assert_eq!(after, defaulted, "{file}: {kind}");
        // The types have the same defaults as the schema.
        let typed = match kind.as_str() {
            "Workspace" => through::<Workspace>(&sample),
            "Snapshot" => through::<Snapshot>(&sample),
            "Restore" => through::<Restore>(&sample),
            "StorageNode" => through::<StorageNode>(&sample),
            _ => through::<DittoServer>(&sample),
        };
        assert_eq!(typed, defaulted, "{file}: {kind}");
    }
    assert!(kinds["Workspace"] >= 5 && kinds["Snapshot"] >= 3, "{kinds:?}");
    assert!(kinds["DittoServer"] >= 3 && kinds["Restore"] >= 3, "{kinds:?}");
}
