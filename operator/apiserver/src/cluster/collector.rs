//! What the controllers of every cluster do about things that belong together: dependents of owners that are gone
//! (garbage collection), contents of namespaces and of definitions that are being deleted.
//!
//! `collect` is one pass; whoever calls it repeats until a pass does nothing. A pass looks at every object once.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Cluster, FieldValidation, WriteOptions,
    deletion::{CLEANUP, DeleteOptions, Propagation},
};
use crate::object::{self, FOREGROUND, ORPHAN, at, metadata_mut, text};

/// What is known of an owner.
#[derive(Debug, Clone, Copy)]
struct Owner {
    foreground: bool,
    orphaning: bool,
}

pub(super) fn system_options(now: Timestamp) -> WriteOptions {
    WriteOptions {
        manager: "kube-controller-manager".to_owned(),
        dry_run: false,
        field_validation: FieldValidation::Ignore,
        now,
    }
}

impl Cluster {
    /// One pass; returns how many changes it made.
    pub fn collect(&mut self, now: Timestamp) -> usize {
        self.collect_dependents(now) + self.empty_definitions(now) + self.empty_namespaces(now)
    }

    fn collect_dependents(&mut self, now: Timestamp) -> usize {
        let mut owners: HashMap<String, Owner> = HashMap::new();
        let mut dependents: Vec<(String, std::sync::Arc<Value>)> = Vec::new();
        let mut deleting: Vec<(String, std::sync::Arc<Value>)> = Vec::new();
        for table in self.store.tables() {
            for entry in self.store.list(&table, None) {
                let is_deleting = object::is_deleting(&entry);
                let owner = Owner {
                    foreground: is_deleting && object::has_finalizer(&entry, FOREGROUND),
                    orphaning: is_deleting && object::has_finalizer(&entry, ORPHAN),
                };
                owners.insert(object::uid(&entry).to_owned(), owner);
                if owner.foreground || owner.orphaning {
                    deleting.push((table.clone(), std::sync::Arc::clone(&entry)));
                }
                if !object::owners(&entry).is_empty() {
                    dependents.push((table.clone(), entry));
                }
            }
        }
        let mut changes = 0;
        let mut blocked: HashSet<String> = HashSet::new();
        let mut referenced: HashSet<String> = HashSet::new();
        for (table, entry) in dependents {
            let references = object::owners(&entry);
            let mut kept = Vec::new();
            let mut solid = 0;
            let mut waiting = false;
            for reference in references {
                let uid = text(reference, &["uid"]);
                match owners.get(uid) {
                    None => continue,
                    Some(owner) if owner.orphaning => continue,
                    Some(owner) => {
                        kept.push(reference.clone());
                        if owner.foreground {
                            waiting = true;
                            if reference.get("blockOwnerDeletion") == Some(&Value::Bool(true)) {
                                blocked.insert(uid.to_owned());
                            }
                        } else {
                            solid += 1;
                        }
                    }
                }
                referenced.insert(uid.to_owned());
            }
            let orphaned = references.iter().any(|reference| {
                owners
                    .get(text(reference, &["uid"]))
                    .is_some_and(|owner| owner.orphaning)
            });
            if solid == 0 && !orphaned && (waiting || kept.is_empty()) {
                // Nobody is left who wants it. Dependents of one that goes in the foreground go so themselves.
                let propagation = if waiting {
                    Propagation::Foreground
                } else {
                    Propagation::Background
                };
                if !object::is_deleting(&entry) {
                    changes += usize::from(self.remove_as_system(&table, &entry, propagation, now));
                }
            } else if kept.len() != references.len() {
                let mut new = Value::clone(&entry);
                let metadata = metadata_mut(&mut new);
                if kept.is_empty() {
                    metadata.remove("ownerReferences");
                } else {
                    metadata.insert("ownerReferences".to_owned(), Value::Array(kept));
                }
                self.store.put(&table, new);
                changes += 1;
            }
        }
        for (table, entry) in deleting {
            let uid = object::uid(&entry).to_owned();
            if object::has_finalizer(&entry, ORPHAN) && !referenced.contains(&uid) {
                changes += usize::from(self.drop_finalizer(&table, &entry, ORPHAN));
            } else if object::has_finalizer(&entry, FOREGROUND) && !blocked.contains(&uid) {
                changes += usize::from(self.drop_finalizer(&table, &entry, FOREGROUND));
            }
        }
        changes
    }

    /// Deletes an object for the system. False if nothing changed.
    fn remove_as_system(
        &mut self,
        table: &str,
        entry: &Value,
        propagation: Propagation,
        now: Timestamp,
    ) -> bool {
        let Some(kind) = self.kinds.of_table(table) else {
            return false;
        };
        let how = DeleteOptions {
            propagation: Some(propagation),
            ..DeleteOptions::default()
        };
        let before = self.store.version();
        let result = self.delete(
            &kind,
            object::namespace(entry),
            object::name(entry),
            &how,
            &system_options(now),
        );
        result.is_ok() && self.store.version() != before
    }

    /// Takes a finalizer off, and the object out if it was the last. The object may have changed since it was read.
    pub(super) fn drop_finalizer(&mut self, table: &str, entry: &Value, finalizer: &str) -> bool {
        let Some(current) = self
            .store
            .get(table, object::namespace(entry), object::name(entry))
        else {
            return false;
        };
        if object::uid(&current) != object::uid(entry) || !object::has_finalizer(&current, finalizer) {
            return false;
        }
        let mut new = Value::clone(&current);
        object::remove_finalizer(&mut new, finalizer);
        let finished = object::is_deleting(&new)
            && object::finalizers(&new).is_empty()
            && (table != "namespaces" || at(&new, &["spec", "finalizers"]).is_none());
        match self.kinds.of_table(table) {
            Some(kind) if finished => {
                self.forget(&kind, object::namespace(&new), object::name(&new));
            }
            _ => {
                self.store.put(table, new);
            }
        }
        true
    }

    /// Objects of definitions that are being deleted go; then the definitions.
    fn empty_definitions(&mut self, now: Timestamp) -> usize {
        const TABLE: &str = "customresourcedefinitions.apiextensions.k8s.io";
        let mut changes = 0;
        for definition in self.store.list(TABLE, None) {
            if !object::is_deleting(&definition) || !object::has_finalizer(&definition, CLEANUP) {
                continue;
            }
            let table = object::name(&definition).to_owned();
            for entry in self.store.list(&table, None) {
                if !object::is_deleting(&entry) {
                    changes +=
                        usize::from(self.remove_as_system(&table, &entry, Propagation::Background, now));
                }
            }
            if self.store.count(&table) == 0 {
                changes += usize::from(self.drop_finalizer(TABLE, &definition, CLEANUP));
            }
        }
        changes
    }

    /// Contents of namespaces that are being deleted go; then the namespaces.
    fn empty_namespaces(&mut self, now: Timestamp) -> usize {
        let mut changes = 0;
        for namespace in self.store.list("namespaces", None) {
            if !object::is_deleting(&namespace) {
                continue;
            }
            let name = object::name(&namespace).to_owned();
            let mut left = 0;
            for table in self.store.tables() {
                for entry in self.store.list(&table, Some(&name)) {
                    left += 1;
                    if !object::is_deleting(&entry) {
                        changes +=
                            usize::from(self.remove_as_system(&table, &entry, Propagation::Background, now));
                    }
                }
            }
            if left == 0 && at(&namespace, &["spec", "finalizers"]).is_some() {
                changes += 1;
                if object::finalizers(&namespace).is_empty() {
                    if let Some(kind) = self.kinds.of_table("namespaces") {
                        self.forget(&kind, "", &name);
                    }
                } else {
                    let mut new = Value::clone(&namespace);
                    new["spec"] = json!({});
                    self.store.put("namespaces", new);
                }
            }
        }
        changes
    }
}
