//! The server as tests hold it: made with settings, given definitions and roles, asked for services of users, told what
//! shall go wrong, and asked what happened.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    clock::{Clock, WallClock},
    cluster::{
        Cluster, FieldValidation, Outcome, Patch, WriteOptions,
        controllers::Controllers,
        deletion::{DeleteOptions, Deleted},
    },
    faults::{Counters, Fault, Matcher, Plan},
    object::text,
    rbac::Usage,
    request::User,
    service::ApiService,
    status::Failure,
    watching::Signal,
};

/// Passes of `settle` before it gives up; a cluster that still changes then has controllers that fight.
const PASSES_MAX: usize = 1000;

/// How the server is to be.
#[derive(Clone)]
pub struct Settings {
    /// The time of objects. Timeouts and bookmarks go by the runtime's time.
    pub clock: Arc<dyn Clock>,
    /// Events that each table remembers, for watches and lists of the past.
    pub log_limit: usize,
    /// The time between bookmarks of a watch.
    pub bookmark_interval: Duration,
    /// When watches end that do not ask for a time.
    pub watch_timeout: Duration,
    /// Whether rights are looked at; otherwise everybody may do everything.
    pub rbac: bool,
    /// The stand-ins for controllers that work from the start.
    pub controllers: Controllers,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            clock: Arc::new(WallClock),
            log_limit: 20_000,
            bookmark_interval: Duration::from_secs(60),
            watch_timeout: Duration::from_secs(1800),
            rbac: true,
            controllers: Controllers::default(),
        }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Settings")
            .field("log_limit", &self.log_limit)
            .field("rbac", &self.rbac)
            .field("controllers", &self.controllers)
            .finish_non_exhaustive()
    }
}

/// What all services of one server share.
pub struct Shared {
    pub(crate) cluster: Mutex<Cluster>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: Settings,
    pub(crate) faults: Mutex<Plan>,
    pub(crate) counters: Mutex<Counters>,
    pub(crate) usage: Mutex<Usage>,
    pub(crate) signals: watch::Sender<Signal>,
    controllers: Mutex<Controllers>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// Why something could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The text is no YAML.
    #[error("the text is no YAML: {0}")]
    Yaml(String),
    /// A document is of a kind that is not served.
    #[error("document {document}: no kind {kind:?} in {api_version:?} is served")]
    Kind {
        /// The place of the document, from 1.
        document: usize,
        /// Its kind.
        kind: String,
        /// Its API version.
        api_version: String,
    },
    /// The server refused a document.
    #[error("document {document}: {failure}")]
    Refused {
        /// The place of the document, from 1.
        document: usize,
        /// Why.
        #[source]
        failure: Box<Failure>,
    },
}

/// A Kubernetes API server without sockets. Clones are the same server.
#[derive(Debug, Clone)]
pub struct ApiServer {
    shared: Arc<Shared>,
}

impl ApiServer {
    /// A server with the built-in kinds and the namespaces that every cluster has.
    pub fn new(settings: Settings) -> Self {
        let cluster = Cluster::new(settings.log_limit, settings.clock.now());
        Self {
            shared: Arc::new(Shared {
                cluster: Mutex::new(cluster),
                clock: Arc::clone(&settings.clock),
                controllers: Mutex::new(settings.controllers),
                settings,
                faults: Mutex::default(),
                counters: Mutex::default(),
                usage: Mutex::default(),
                signals: watch::Sender::new(Signal::default()),
            }),
        }
    }

    /// A service that does what `user` may do: for `kube::Client::new`.
    pub fn service(&self, user: User) -> ApiService {
        ApiService::new(Arc::clone(&self.shared), user)
    }

    /// Loads YAML documents of any kinds, definitions and roles among them, as an administrator: what is there is
    /// replaced. Empty documents are passed over. Returns how many there were.
    ///
    /// # Errors
    /// `LoadError`; the documents before the one at fault are loaded.
    pub fn load(&self, yaml: &str) -> Result<usize, LoadError> {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(yaml).map_err(|error| LoadError::Yaml(error.to_string()))?;
        let mut count = 0;
        for (index, document) in documents.into_iter().enumerate() {
            if document.is_null() {
                continue;
            }
            self.put(document).map_err(|error| match error {
                LoadError::Kind {
                    kind, api_version, ..
                } => LoadError::Kind {
                    document: index + 1,
                    kind,
                    api_version,
                },
                LoadError::Refused { failure, .. } => LoadError::Refused {
                    document: index + 1,
                    failure,
                },
                other @ LoadError::Yaml(_) => other,
            })?;
            count += 1;
        }
        Ok(count)
    }

    /// Creates an object or replaces it, with its status if it brings one, as an administrator. Returns it.
    ///
    /// # Errors
    /// `LoadError::Kind` and `LoadError::Refused`.
    pub fn put(&self, mut object: Value) -> Result<Value, LoadError> {
        let mut cluster = self.shared.cluster.lock();
        let (api_version, kind) = (text(&object, &["apiVersion"]), text(&object, &["kind"]));
        let Some(kind) = cluster.kinds.of(api_version, kind) else {
            return Err(LoadError::Kind {
                document: 1,
                kind: kind.to_owned(),
                api_version: api_version.to_owned(),
            });
        };
        let options = self.options("cairn-apiserver");
        let name = crate::object::name(&object).to_owned();
        let namespace = match (kind.namespaced, crate::object::namespace(&object)) {
            (false, _) => String::new(),
            (true, "") => "default".to_owned(),
            (true, namespace) => namespace.to_owned(),
        };
        let status = object.get("status").cloned();
        let refused = |failure| LoadError::Refused {
            document: 1,
            failure: Box::new(failure),
        };
        let written: Outcome = if let Some(current) = cluster.store.get(&kind.table, &namespace, &name) {
            let metadata = crate::object::metadata_mut(&mut object);
            metadata.insert(
                "resourceVersion".to_owned(),
                current["metadata"]["resourceVersion"].clone(),
            );
            cluster
                .update(&kind, &namespace, &name, "", object, &options)
                .map_err(refused)?
        } else {
            cluster
                .create(&kind, &namespace, object, &options)
                .map_err(refused)?
        };
        let Some(status) = status.filter(|_| kind.has_status) else {
            return Ok(written.object);
        };
        let patch = Patch::Merge(serde_json::json!({"status": status}));
        cluster
            .patch(&kind, &namespace, &name, "status", &patch, &options)
            .map(|outcome| outcome.object)
            .map_err(refused)
    }

    /// An object, without counting as a request. The namespace is empty for objects of the cluster.
    pub fn get(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let cluster = self.shared.cluster.lock();
        let kind = cluster.kinds.of(api_version, kind)?;
        cluster.get(&kind, namespace, name).ok()
    }

    /// All objects of a kind, or those of one namespace, without counting as a request.
    pub fn list(&self, api_version: &str, kind: &str, namespace: Option<&str>) -> Vec<Value> {
        let cluster = self.shared.cluster.lock();
        let Some(kind) = cluster.kinds.of(api_version, kind) else {
            return Vec::new();
        };
        cluster
            .store
            .list(&kind.table, namespace)
            .iter()
            .map(|stored| crate::cluster::present(&kind, stored))
            .collect()
    }

    /// Changes an object as a controller of the cluster would: any part of it, without rules. Returns the new object, or
    /// none if there is no such object. A change that changes nothing writes nothing.
    pub fn edit(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> Option<Value> {
        let mut cluster = self.shared.cluster.lock();
        let kind = cluster.kinds.of(api_version, kind)?;
        let current = cluster.store.get(&kind.table, namespace, name)?;
        let mut new = Value::clone(&current);
        change(&mut new);
        if new == *current {
            return Some(new);
        }
        Some(Value::clone(&cluster.store.put(&kind.table, new)))
    }

    /// Deletes an object as an administrator; false if there is none.
    ///
    /// # Errors
    /// `Failure::Forbidden` for the namespaces that every cluster has.
    pub fn delete(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<bool, Failure> {
        let mut cluster = self.shared.cluster.lock();
        let Some(kind) = cluster.kinds.of(api_version, kind) else {
            return Ok(false);
        };
        let options = self.options("cairn-apiserver");
        match cluster.delete(&kind, namespace, name, &DeleteOptions::default(), &options) {
            Ok(Deleted::Gone(_) | Deleted::Waiting { .. }) => Ok(true),
            Err(Failure::NotFound { .. }) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    fn options(&self, manager: &str) -> WriteOptions {
        WriteOptions {
            manager: manager.to_owned(),
            dry_run: false,
            field_validation: FieldValidation::Warn,
            now: self.shared.clock.now(),
        }
    }

    /// Lets garbage collection, deletions of namespaces and the stand-ins work until nothing changes. Returns how many
    /// changes there were.
    pub fn settle(&self) -> usize {
        let which = *self.shared.controllers.lock();
        let mut total = 0;
        for _ in 0..PASSES_MAX {
            // The lock is given back between passes, so that requests get their turn.
            let mut cluster = self.shared.cluster.lock();
            let now = self.shared.clock.now();
            let changes = cluster.collect(now) + cluster.reconcile(which, now);
            drop(cluster);
            if changes == 0 {
                break;
            }
            total += changes;
        }
        total
    }

    /// Switches stand-ins on and off.
    pub fn set_controllers(&self, controllers: Controllers) {
        *self.shared.controllers.lock() = controllers;
    }

    /// Settles after every change, in a task, until `Background::stop`.
    pub fn background(&self) -> Background {
        let (stop, mut stopped) = watch::channel(false);
        let mut changed = self.shared.cluster.lock().store.subscribe_all();
        let server = self.clone();
        let task = tokio::spawn(async move {
            loop {
                server.settle();
                tokio::select! {
                    result = changed.changed() => if result.is_err() { return },
                    _ = stopped.changed() => return,
                }
            }
        });
        Background { stop, task }
    }

    /// Plans a fault for `times` requests (`None`: for all), after `skip` matching requests went well.
    pub fn fault(&self, matcher: Matcher, fault: Fault, skip: u64, times: Option<u64>) {
        self.shared.faults.lock().add(matcher, fault, skip, times);
    }

    /// Takes all planned faults back.
    pub fn clear_faults(&self) {
        self.shared.faults.lock().clear();
    }

    /// Requests since the start, or since the counters were taken back.
    pub fn counters(&self) -> Counters {
        self.shared.counters.lock().clone()
    }

    /// Begins counting anew.
    pub fn reset_counters(&self) {
        *self.shared.counters.lock() = Counters::default();
    }

    /// Which rules of roles allowed something, and how often.
    pub fn rbac_usage(&self) -> Usage {
        self.shared.usage.lock().clone()
    }

    /// The present resource version.
    pub fn version(&self) -> u64 {
        self.shared.cluster.lock().store.version()
    }

    /// Forgets the past: watches and lists from earlier versions get 410. Running watches go on.
    pub fn compact(&self) {
        self.shared.cluster.lock().store.compact();
    }

    /// Ends all running watches, as a server that restarts does.
    pub fn disconnect_watches(&self) {
        self.signal(false);
    }

    /// Tells all running watches that their version has expired (an error event with 410).
    pub fn expire_watches(&self) {
        self.signal(true);
    }

    fn signal(&self, expired: bool) {
        self.shared.signals.send_modify(|signal| {
            signal.number += 1;
            signal.expired = expired;
        });
    }
}

/// The task that settles after changes.
#[derive(Debug)]
pub struct Background {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Background {
    /// Ends the task and waits for it.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}
