//! The cluster's state and all changes of it: what a create, an update, an apply or a delete does to the store. No
//! sockets, no users, no faults: those are around it.
//!
//! The order within a write is that of the real server, because clients can tell: decode (drop unknown fields, defaults),
//! field ownership, what the endpoint does not let through, generation, validation, and nothing at all if nothing changed.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    clock,
    kinds::{self, Kind, Registry, limits},
    object::{self, at, metadata_mut, text},
    ownership::managers::{self, Writer},
    patch,
    schema::{prune, validate},
    status::{Cause, Failure},
    store::Store,
};

pub mod addresses;
mod admission;
pub mod collector;
pub mod controllers;
pub mod definitions;
pub mod deletion;
mod steps;

use steps::{decode, generation, isolate, namespace_is_finished};

/// What is done with fields that the schema does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Dropped in silence.
    Ignore,
    /// Dropped with a warning.
    #[default]
    Warn,
    /// Refused.
    Strict,
}

/// How a write is done.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// The field manager.
    pub manager: String,
    /// Everything but storing.
    pub dry_run: bool,
    /// What is done with unknown fields.
    pub field_validation: FieldValidation,
    /// The present time.
    pub now: Timestamp,
}

/// How the ownership of fields follows from an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ownership {
    /// From the difference to the live object.
    Follows,
    /// It is settled in the new object.
    Settled,
}

/// What a write led to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The object, in the version of the request.
    pub object: Value,
    /// Whether it is new.
    pub created: bool,
    /// Whether anything was stored.
    pub changed: bool,
    /// Unknown fields that were dropped, for warnings.
    pub dropped: Vec<String>,
}

/// A patch as it came.
#[derive(Debug, Clone)]
pub enum Patch {
    /// RFC 6902.
    Json(Value),
    /// RFC 7396.
    Merge(Value),
    /// Strategic merge patch.
    Strategic(Value),
    /// Server-side apply, and whether conflicts are overridden.
    Apply(Value, bool),
}

/// Everything that is stored, and what is served of it.
#[derive(Debug)]
pub struct Cluster {
    /// The objects.
    pub store: Store,
    /// The kinds.
    pub kinds: Registry,
    addresses: addresses::Addresses,
}

impl Cluster {
    /// An empty cluster with the built-in kinds and the namespaces that every cluster has.
    pub fn new(log_limit: usize, now: Timestamp) -> Self {
        let mut kinds = Registry::default();
        kinds::builtin::register(&mut kinds);
        let mut cluster = Self {
            store: Store::new(log_limit),
            kinds,
            addresses: addresses::Addresses::default(),
        };
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            let options = WriteOptions {
                manager: "kube-apiserver".to_owned(),
                dry_run: false,
                field_validation: FieldValidation::Ignore,
                now,
            };
            if let Some(kind) = cluster.kinds.get("", "v1", "namespaces") {
                let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
                let made = cluster.create(&kind, "", object, &options);
                debug_assert!(made.is_ok(), "the first namespaces are valid");
            }
        }
        cluster
    }

    /// An object in the version of `kind`.
    ///
    /// # Errors
    /// `Failure::NotFound`.
    pub fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Value, Failure> {
        self.store
            .get(&kind.table, namespace, name)
            .map(|object| present(kind, &object))
            .ok_or_else(|| not_found(kind, name))
    }

    /// Creates an object. `given` may be without kind and version, as `kubectl` never sends it but clients in Go do.
    ///
    /// # Errors
    /// What the real server answers: bad envelope, unknown fields, invalid, exists already, no such namespace.
    pub fn create(
        &mut self,
        kind: &Kind,
        namespace: &str,
        mut given: Value,
        options: &WriteOptions,
    ) -> Result<Outcome, Failure> {
        self.check_envelope(kind, namespace, &mut given)?;
        self.check_namespace(kind, namespace)?;
        if !text(&given, &["metadata", "resourceVersion"]).is_empty() {
            return Err(Failure::Unexplained(
                "resourceVersion should not be set on objects to be created".to_owned(),
            ));
        }
        let dropped = decode(kind, &mut given, options)?;
        let name = object::name(&given).to_owned();
        if name.is_empty() {
            let prefix = text(&given, &["metadata", "generateName"]).to_owned();
            if !prefix.is_empty() {
                let name = format!("{prefix}{}", clock::name_suffix());
                metadata_mut(&mut given).insert("name".to_owned(), json!(name));
            }
        }
        let time = clock::seconds(options.now);
        let blank = envelope_of(kind, kind.blank.clone());
        managers::update(
            &kind.schema,
            &blank,
            &mut given,
            self.writer(kind, "", options, &time),
        );
        self.insert(kind, given, dropped, options)
    }

    /// Everything of a creation after the ownership of fields is settled.
    fn insert(
        &mut self,
        kind: &Kind,
        mut object: Value,
        dropped: Vec<String>,
        options: &WriteOptions,
    ) -> Result<Outcome, Failure> {
        let time = clock::seconds(options.now);
        if kind.has_status
            && let Some(map) = object.as_object_mut()
        {
            map.remove("status");
        }
        let metadata = metadata_mut(&mut object);
        for field in [
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
            "resourceVersion",
        ] {
            metadata.remove(field);
        }
        metadata.insert("uid".to_owned(), json!(clock::new_uid()));
        metadata.insert("creationTimestamp".to_owned(), json!(time));
        if kind.has_generation {
            metadata.insert("generation".to_owned(), json!(1));
        } else {
            metadata.remove("generation");
        }
        if !kind.custom {
            kinds::defaults::admit(kind, &mut object, &time);
            self.admit(kind, &mut object)?;
        }
        self.validate(kind, &object, None)?;
        let (namespace, name) = (
            object::namespace(&object).to_owned(),
            object::name(&object).to_owned(),
        );
        if self.store.get(&kind.table, &namespace, &name).is_some() {
            return Err(Failure::AlreadyExists {
                resource: kind.resource(),
                name,
            });
        }
        if !options.dry_run {
            object = self.commit(kind, object, options);
        }
        Ok(Outcome {
            object,
            created: true,
            changed: !options.dry_run,
            dropped,
        })
    }

    /// Replaces an object, or with `subresource` its status.
    ///
    /// # Errors
    /// As `create`, and conflicts.
    pub fn update(
        &mut self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        subresource: &str,
        mut given: Value,
        options: &WriteOptions,
    ) -> Result<Outcome, Failure> {
        let url_name = name;
        let given_name = object::name(&given).to_owned();
        if given_name != url_name {
            return Err(Failure::BadRequest(if given_name.is_empty() {
                "name must be provided".to_owned()
            } else {
                format!(
                    "the name of the object ({given_name}) does not match the name on the URL ({url_name})"
                )
            }));
        }
        self.check_envelope(kind, namespace, &mut given)?;
        let Some(stored) = self.store.get(&kind.table, namespace, name) else {
            // Leases, events and a few more could be created by an update once; nobody relies on it.
            return Err(not_found(kind, name));
        };
        let live = present(kind, &stored);
        if kind.custom && text(&given, &["metadata", "resourceVersion"]).is_empty() {
            let message = "Invalid value: 0: must be specified for an update".to_owned();
            let cause = Cause {
                reason: "FieldValueInvalid",
                message,
                field: "metadata.resourceVersion".to_owned(),
            };
            return Err(Failure::Invalid {
                group: kind.group.clone(),
                kind: kind.plural.clone(),
                name: name.to_owned(),
                message: format!("{} \"{name}\" is invalid: {}", kind.resource(), cause.sentence()),
                causes: vec![cause],
            });
        }
        let dropped = decode(kind, &mut given, options)?;
        self.replace(
            kind,
            &live,
            given,
            subresource,
            Ownership::Follows,
            dropped,
            options,
        )
    }

    /// Applies a patch to an object, or with `subresource` to its status. Server-side apply creates what is not there.
    ///
    /// # Errors
    /// As `update`; `Failure::ApplyConflict`.
    pub fn patch(
        &mut self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch: &Patch,
        options: &WriteOptions,
    ) -> Result<Outcome, Failure> {
        let stored = self.store.get(&kind.table, namespace, name);
        if let Patch::Apply(config, force) = patch {
            let live = stored.map(|stored| present(kind, &stored));
            return self.apply(
                kind,
                (namespace, name),
                subresource,
                live,
                config,
                *force,
                options,
            );
        }
        let stored = stored.ok_or_else(|| not_found(kind, name))?;
        let live = present(kind, &stored);
        let mut patched = live.clone();
        match patch {
            Patch::Json(operations) => patch::json(&mut patched, operations)?,
            Patch::Merge(value) => patch::merge(&mut patched, value),
            Patch::Strategic(value) => patch::strategic(&kind.schema, &mut patched, value)?,
            Patch::Apply(..) => {}
        }
        self.check_envelope(kind, namespace, &mut patched)?;
        if object::name(&patched) != name {
            return Err(Failure::BadRequest(format!(
                "the name of the object ({}) does not match the name on the URL ({name})",
                object::name(&patched)
            )));
        }
        let dropped = decode(kind, &mut patched, options)?;
        self.replace(
            kind,
            &live,
            patched,
            subresource,
            Ownership::Follows,
            dropped,
            options,
        )
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "one call site; the parts of one request"
    )]
    fn apply(
        &mut self,
        kind: &Kind,
        (namespace, name): (&str, &str),
        subresource: &str,
        live: Option<Value>,
        config: &Value,
        force: bool,
        options: &WriteOptions,
    ) -> Result<Outcome, Failure> {
        if at(config, &["metadata", "managedFields"]).is_some_and(|entries| !entries.is_null()) {
            return Err(Failure::BadRequest(
                "metadata.managedFields must be nil".to_owned(),
            ));
        }
        let mut config = config.clone();
        if text(&config, &["apiVersion"]).is_empty() || text(&config, &["kind"]).is_empty() {
            return Err(Failure::BadRequest("invalid object type: /, Kind=".to_owned()));
        }
        if object::name(&config).is_empty() {
            metadata_mut(&mut config).insert("name".to_owned(), json!(name));
        } else if object::name(&config) != name {
            return Err(Failure::BadRequest(format!(
                "the name of the object ({}) does not match the name on the URL ({name})",
                object::name(&config)
            )));
        }
        let given_namespace = object::namespace(&config).to_owned();
        self.check_envelope(kind, namespace, &mut config)?;
        if let Some(message) = steps::mistyped(kind, &config) {
            return Err(Failure::Unexplained(format!(
                "failed to create typed patch object ({given_namespace}/{name}; {}, Kind={}): {message}",
                kind.api, kind.kind
            )));
        }
        let time = clock::seconds(options.now);
        let writer = self.writer(kind, subresource, options, &time);
        if !kind.custom {
            prune::normalise(&kind.schema, &mut config);
        }
        match live {
            Some(live) => {
                let mut merged = managers::apply(&kind.schema, &live, &config, writer, force)?;
                let version = text(&config, &["metadata", "resourceVersion"]);
                let uid = text(&config, &["metadata", "uid"]);
                for (field, value) in [("resourceVersion", version), ("uid", uid)] {
                    if !value.is_empty() {
                        metadata_mut(&mut merged).insert(field.to_owned(), json!(value));
                    }
                }
                let dropped = decode(kind, &mut merged, options)?;
                self.replace(
                    kind,
                    &live,
                    merged,
                    subresource,
                    Ownership::Settled,
                    dropped,
                    options,
                )
            }
            None => {
                if !subresource.is_empty() {
                    return Err(not_found(kind, name));
                }
                let uid = text(&config, &["metadata", "uid"]);
                if !uid.is_empty() {
                    return Err(Failure::Conflict {
                        resource: kind.resource(),
                        name: name.to_owned(),
                        message: format!(
                            "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                        ),
                    });
                }
                self.check_namespace(kind, namespace)?;
                let blank = envelope_of(kind, json!({"metadata": {}}));
                let mut created = managers::apply(&kind.schema, &blank, &config, writer, force)?;
                let dropped = decode(kind, &mut created, options)?;
                self.insert(kind, created, dropped, options)
            }
        }
    }

    /// Everything of an update after the new object is known.
    #[allow(
        clippy::too_many_arguments,
        reason = "two call sites; the parts of one request"
    )]
    fn replace(
        &mut self,
        kind: &Kind,
        live: &Value,
        mut new: Value,
        subresource: &str,
        ownership: Ownership,
        dropped: Vec<String>,
        options: &WriteOptions,
    ) -> Result<Outcome, Failure> {
        let name = object::name(live).to_owned();
        let conflict = |message: String| Failure::Conflict {
            resource: kind.resource(),
            name: name.clone(),
            message,
        };
        let given = text(&new, &["metadata", "resourceVersion"]).to_owned();
        if !given.is_empty() && given != text(live, &["metadata", "resourceVersion"]) {
            return Err(conflict(
                "the object has been modified; please apply your changes to the latest version and try again"
                    .to_owned(),
            ));
        }
        let uid = text(&new, &["metadata", "uid"]).to_owned();
        if !uid.is_empty() && uid != object::uid(live) {
            return Err(conflict(format!(
                "StorageError: invalid object, Code: 4, Key: /registry/{}/{}/{}/{}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                kind.group,
                kind.plural,
                object::namespace(live),
                name,
                object::uid(live)
            )));
        }
        let time = clock::seconds(options.now);
        if ownership == Ownership::Follows {
            managers::update(
                &kind.schema,
                live,
                &mut new,
                self.writer(kind, subresource, options, &time),
            );
        }
        isolate(kind, live, &mut new, subresource);
        if !kind.custom && subresource.is_empty() {
            self.admit_update(kind, live, &mut new);
        }
        generation(kind, live, &mut new);
        self.validate(kind, &new, Some(live))?;
        if object::same_content(live, &new) {
            return Ok(Outcome {
                object: live.clone(),
                created: false,
                changed: false,
                dropped,
            });
        }
        if !options.dry_run {
            let finished = object::is_deleting(&new)
                && object::finalizers(&new).is_empty()
                && namespace_is_finished(kind, &new);
            if finished {
                self.forget(kind, object::namespace(live), &name);
            } else {
                new = self.commit(kind, new, options);
            }
        }
        Ok(Outcome {
            object: new,
            created: false,
            changed: !options.dry_run,
            dropped,
        })
    }

    /// Stores an object and draws the conclusions; returns it in the version of the kind.
    fn commit(&mut self, kind: &Kind, mut object: Value, options: &WriteOptions) -> Value {
        let storage = self
            .kinds
            .of_table(&kind.table)
            .map_or_else(|| kind.api_version(), |kind| kind.api_version());
        kind.conversion.to_storage(&mut object, &storage);
        let stored = self.store.put(&kind.table, object);
        if kind.kind == "CustomResourceDefinition" && !kind.custom {
            self.definition_changed(&stored, options);
            let current = self.store.get(&kind.table, "", object::name(&stored));
            return current.map_or_else(|| Value::clone(&stored), |object| Value::clone(&object));
        }
        present(kind, &stored)
    }

    /// Removes an object and draws the conclusions.
    fn forget(&mut self, kind: &Kind, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let last = self.store.remove(&kind.table, namespace, name)?;
        if !kind.custom {
            match kind.kind.as_str() {
                "CustomResourceDefinition" => self.kinds.remove_table(name),
                "Service" => self.addresses.release(&last),
                _ => {}
            }
        }
        Some(last)
    }

    fn writer<'w>(
        &self,
        kind: &'w Kind,
        subresource: &'w str,
        options: &'w WriteOptions,
        time: &'w str,
    ) -> Writer<'w> {
        Writer {
            name: &options.manager,
            api_version: &kind.api,
            subresource,
            time,
            ignored: if subresource == "status" {
                &kind.status_reset
            } else {
                &kind.reset
            },
        }
    }

    /// Kind, version and namespace must be those of the request.
    fn check_envelope(&self, kind: &Kind, namespace: &str, given: &mut Value) -> Result<(), Failure> {
        if !given.is_object() {
            return Err(Failure::BadRequest(format!(
                "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse error",
                kind.kind
            )));
        }
        let expected = kind.api_version();
        let version = text(given, &["apiVersion"]).to_owned();
        if !version.is_empty() && version != expected {
            return Err(Failure::BadRequest(format!(
                "the API version in the data ({version}) does not match the expected API version ({expected})"
            )));
        }
        let name = text(given, &["kind"]).to_owned();
        if !name.is_empty() && name != kind.kind {
            if kind.custom {
                let cause = Cause {
                    reason: "FieldValueInvalid",
                    message: format!("Invalid value: \"{name}\": must be {}", kind.kind),
                    field: "kind".to_owned(),
                };
                return Err(Failure::invalid(
                    &kind.group,
                    &name,
                    object::name(given),
                    vec![cause],
                ));
            }
            return Err(Failure::BadRequest(format!(
                "{name} in version \"{}\" cannot be handled as a {}: converting ({name}) to ({}): unknown conversion",
                kind.version, kind.kind, kind.kind
            )));
        }
        given["apiVersion"] = json!(expected);
        given["kind"] = json!(kind.kind);
        let metadata = metadata_mut(given);
        if kind.namespaced {
            let given_namespace = metadata
                .get("namespace")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if !given_namespace.is_empty() && given_namespace != namespace {
                return Err(Failure::BadRequest(
                    "the namespace of the provided object does not match the namespace sent on the request"
                        .to_owned(),
                ));
            }
            metadata.insert("namespace".to_owned(), json!(namespace));
        } else {
            metadata.remove("namespace");
        }
        Ok(())
    }

    /// What is created in a namespace needs one that exists and stays.
    fn check_namespace(&self, kind: &Kind, namespace: &str) -> Result<(), Failure> {
        if !kind.namespaced {
            return Ok(());
        }
        let Some(found) = self.store.get("namespaces", "", namespace) else {
            return Err(Failure::NotFound {
                resource: "namespaces".to_owned(),
                name: namespace.to_owned(),
            });
        };
        if object::is_deleting(&found) {
            let message = format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            );
            return Err(Failure::Forbidden {
                resource: kind.resource(),
                name: String::new(),
                message: format!("{} is forbidden: {message}", kind.resource()),
                causes: vec![Cause {
                    reason: "NamespaceTerminating",
                    message: format!("namespace {namespace} is being terminated"),
                    field: "metadata.namespace".to_owned(),
                }],
            });
        }
        Ok(())
    }

    fn validate(&self, kind: &Kind, object: &Value, old: Option<&Value>) -> Result<(), Failure> {
        let mut causes = limits::metadata(kind, object, old);
        if kind.custom {
            validate::check(&kind.schema, object, old, "", &mut causes);
            let blocked = causes.iter().any(|cause| {
                matches!(
                    cause.reason,
                    "FieldValueRequired"
                        | "FieldValueTypeInvalid"
                        | "FieldValueNotSupported"
                        | "FieldValueTooLong"
                        | "FieldValueTooMany"
                )
            });
            if blocked {
                causes.push(Cause {
                    reason: "FieldValueInvalid",
                    message: "Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation".to_owned(),
                    field: "<nil>".to_owned(),
                });
            } else if let Some(rules) = &kind.rules {
                causes.extend(rules.check(object, old));
            }
        } else {
            causes.extend(limits::builtin(kind, object, old));
            if kind.kind == "CustomResourceDefinition"
                && let Err(found) = kinds::custom::kinds(object)
            {
                causes.extend(found);
            }
        }
        if causes.is_empty() {
            return Ok(());
        }
        Err(Failure::invalid(
            &kind.group,
            &kind.kind,
            object::name(object),
            causes,
        ))
    }
}

/// The object of the store in the version of the kind.
pub fn present(kind: &Kind, stored: &Value) -> Value {
    kind.conversion.from_storage(stored, &kind.api_version())
}

/// No object of this name.
pub fn not_found(kind: &Kind, name: &str) -> Failure {
    Failure::NotFound {
        resource: kind.resource(),
        name: name.to_owned(),
    }
}

fn envelope_of(kind: &Kind, mut value: Value) -> Value {
    value["apiVersion"] = json!(kind.api_version());
    value["kind"] = json!(kind.kind);
    value
}
