//! Deleting: at once, or after the finalizers, which the way of propagation may add to.

use serde_json::{Value, json};

use super::{Cluster, WriteOptions, not_found, present};
use crate::{
    clock,
    kinds::Kind,
    object::{self, FOREGROUND, ORPHAN, at, metadata_mut},
    status::Failure,
};

/// The finalizer that a definition waits with for its objects.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// What becomes of dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They go after the owner.
    Background,
    /// They go before the owner.
    Foreground,
    /// They stay.
    Orphan,
}

/// How something is deleted. The grace period is not kept: there is no kubelet to wait for.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    /// What becomes of dependents; none leaves the finalizers as they are.
    pub propagation: Option<Propagation>,
    /// The UID that the object must have.
    pub uid: Option<String>,
    /// The version that the object must have.
    pub version: Option<String>,
}

impl DeleteOptions {
    /// Reads the body of a request (`DeleteOptions`), and what the query adds.
    ///
    /// # Errors
    /// `Failure::BadRequest` for a way of propagation that there is not.
    pub fn parse(body: &Value, query: &crate::request::Query) -> Result<Self, Failure> {
        let named = |name: &str| match body.get(name).and_then(Value::as_str) {
            Some(text) => text.to_owned(),
            None => query.get(name).to_owned(),
        };
        let propagation = match named("propagationPolicy").as_str() {
            "" => match body.get("orphanDependents").and_then(Value::as_bool) {
                Some(true) => Some(Propagation::Orphan),
                Some(false) => Some(Propagation::Background),
                None => None,
            },
            "Background" => Some(Propagation::Background),
            "Foreground" => Some(Propagation::Foreground),
            "Orphan" => Some(Propagation::Orphan),
            other => {
                return Err(Failure::BadRequest(format!(
                    "invalid propagationPolicy {other}: must be one of Foreground, Background, Orphan"
                )));
            }
        };
        let condition = |name: &str| {
            at(body, &["preconditions", name])
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        Ok(Self {
            propagation,
            uid: condition("uid"),
            version: condition("resourceVersion"),
        })
    }
}

/// What a deletion led to.
#[derive(Debug, Clone)]
pub enum Deleted {
    /// The object is gone.
    Gone(Value),
    /// The object waits for its finalizers.
    Waiting {
        /// The object as it is now.
        object: Value,
        /// Whether this request changed it.
        changed: bool,
    },
}

impl Cluster {
    /// Deletes an object.
    ///
    /// # Errors
    /// `Failure::NotFound`; `Failure::Conflict` when a precondition does not hold; `Failure::Forbidden` for the
    /// namespaces that every cluster has.
    pub fn delete(
        &mut self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        how: &DeleteOptions,
        options: &WriteOptions,
    ) -> Result<Deleted, Failure> {
        let stored = self
            .store
            .get(&kind.table, namespace, name)
            .ok_or_else(|| not_found(kind, name))?;
        if kind.table == "namespaces" && matches!(name, "default" | "kube-system" | "kube-public") {
            return Err(Failure::Forbidden {
                resource: "namespaces".to_owned(),
                name: name.to_owned(),
                message: format!("namespaces \"{name}\" is forbidden: this namespace may not be deleted"),
                causes: Vec::new(),
            });
        }
        let live = present(kind, &stored);
        check(kind, &live, how)?;
        let mut new = live.clone();
        if let Some(propagation) = how.propagation {
            object::remove_finalizer(&mut new, FOREGROUND);
            object::remove_finalizer(&mut new, ORPHAN);
            match propagation {
                Propagation::Foreground => object::add_finalizer(&mut new, FOREGROUND),
                Propagation::Orphan => object::add_finalizer(&mut new, ORPHAN),
                Propagation::Background => {}
            }
        }
        if !kind.custom && kind.kind == "CustomResourceDefinition" && !object::is_deleting(&live) {
            object::add_finalizer(&mut new, CLEANUP);
        }
        let waits = !object::finalizers(&new).is_empty()
            || at(&new, &["spec", "finalizers"])
                .and_then(Value::as_array)
                .is_some_and(|list| kind.table == "namespaces" && !list.is_empty());
        if !waits {
            if options.dry_run {
                return Ok(Deleted::Gone(live));
            }
            let last = self.forget(kind, namespace, name);
            return Ok(Deleted::Gone(last.map_or(live, |last| present(kind, &last))));
        }
        if !object::is_deleting(&live) {
            let metadata = metadata_mut(&mut new);
            metadata.insert("deletionTimestamp".to_owned(), json!(clock::seconds(options.now)));
            metadata.insert("deletionGracePeriodSeconds".to_owned(), json!(0));
            if let Some(generation) = metadata.get("generation").and_then(Value::as_u64) {
                metadata.insert("generation".to_owned(), json!(generation + 1));
            }
            if kind.table == "namespaces" {
                new["status"] = json!({"phase": "Terminating"});
                metadata_mut(&mut new).remove("deletionGracePeriodSeconds");
            }
        }
        if new == live || options.dry_run {
            return Ok(Deleted::Waiting {
                object: new,
                changed: false,
            });
        }
        let object = self.commit(kind, new, options);
        Ok(Deleted::Waiting {
            object,
            changed: true,
        })
    }
}

fn check(kind: &Kind, live: &Value, how: &DeleteOptions) -> Result<(), Failure> {
    let qualified = if kind.group.is_empty() {
        kind.kind.clone()
    } else {
        format!("{}.{}", kind.kind, kind.group)
    };
    let conflict = |message: String| Failure::Conflict {
        resource: qualified.clone(),
        name: object::name(live).to_owned(),
        message,
    };
    if let Some(uid) = &how.uid
        && uid != object::uid(live)
    {
        return Err(conflict(format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted and then recreated",
            object::uid(live)
        )));
    }
    let present = object::text(live, &["metadata", "resourceVersion"]);
    if let Some(version) = &how.version
        && version != present
    {
        return Err(conflict(format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({present}). The object might have been modified"
        )));
    }
    Ok(())
}
