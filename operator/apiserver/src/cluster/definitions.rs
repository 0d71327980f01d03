//! CustomResourceDefinitions: a stored definition is served at once, and says so in its status.

use serde_json::{Value, json};

use super::{Cluster, WriteOptions};
use crate::{
    clock, kinds,
    object::{self, at, text},
    schema::{defaults, prune},
};

impl Cluster {
    /// Serves what a stored definition says, and writes its status.
    pub(super) fn definition_changed(&mut self, stored: &Value, options: &WriteOptions) {
        if let Ok(kinds) = kinds::custom::kinds(stored) {
            self.kinds.remove_table(object::name(stored));
            let storage = kinds::custom::storage_version(stored);
            for kind in kinds {
                // What is stored is not rewritten, but read by the new schema.
                if kind.version == storage {
                    self.store.reread(&kind.table, |object| {
                        prune::unknown_fields(&kind.schema, object, "", &mut Vec::new());
                        defaults::drop_nulls(&kind.schema, object);
                        defaults::apply(&kind.schema, object);
                    });
                }
                self.kinds.insert(kind);
            }
        }
        let mut definition = stored.clone();
        let names = at(stored, &["spec", "names"]).cloned().unwrap_or_default();
        let now = clock::seconds(options.now);
        let mut versions: Vec<Value> = at(stored, &["status", "storedVersions"])
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let storage = json!(kinds::custom::storage_version(stored));
        if !versions.contains(&storage) {
            versions.push(storage);
        }
        let since = |kind: &str| {
            at(stored, &["status", "conditions"])
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .find(|condition| text(condition, &["type"]) == kind)
                .map_or_else(
                    || now.clone(),
                    |condition| text(condition, &["lastTransitionTime"]).to_owned(),
                )
        };
        let mut conditions = vec![
            json!({
                "type": "NamesAccepted", "status": "True", "lastTransitionTime": since("NamesAccepted"),
                "reason": "NoConflicts", "message": "no conflicts found",
            }),
            json!({
                "type": "Established", "status": "True", "lastTransitionTime": since("Established"),
                "reason": "InitialNamesAccepted", "message": "the initial names have been accepted",
            }),
        ];
        if object::is_deleting(stored) {
            conditions.push(json!({
                "type": "Terminating", "status": "True", "lastTransitionTime": since("Terminating"),
                "reason": "InstanceDeletionInProgress", "message": "CustomResource deletion is in progress",
            }));
        }
        definition["status"] = json!({
            "acceptedNames": names, "conditions": conditions, "storedVersions": versions,
        });
        if !object::same_content(stored, &definition) {
            self.store
                .put("customresourcedefinitions.apiextensions.k8s.io", definition);
        }
    }
}
