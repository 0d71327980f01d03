//! Writes to the API server, and the few reads that no cache answers. Nothing else in the operator sends requests to it, but the watches.
//!
//! Invariants: nothing is written by a process that does not hold the lease; every write names its field manager; every answer goes into the cache
//! of its kind, if one is given. Objects of all scopes are treated alike.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ObjectList, Request, Resource};
use kube::{Client, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::cache::{Cache, Key};
use super::error::ReconcileError;
use super::lease::Leadership;
use super::metrics::Metrics;

/// What kinds the client can handle: those that know their name and group by themselves.
pub trait Kind:
    Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
}

/// Writes as one field manager. Cheap to clone.
#[derive(Clone)]
pub struct ApiClient {
    client: Client,
    leadership: Leadership,
    metrics: Metrics,
    manager: String,
}

impl Debug for ApiClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiClient")
            .field("manager", &self.manager)
            .finish_non_exhaustive()
    }
}

impl ApiClient {
    /// Writes as the field manager `cairn-operator/<purpose>`, while `leadership` lasts.
    pub fn new(client: Client, leadership: Leadership, metrics: Metrics, purpose: &str) -> Self {
        ApiClient {
            client,
            leadership,
            metrics,
            manager: format!("{}/{purpose}", cairn_crds::names::MANAGER),
        }
    }

    /// The client below, for watches.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The name under which fields are owned.
    pub fn manager(&self) -> &str {
        &self.manager
    }

    /// An object as it is now; nothing if there is none. Errors: the API server refuses or does not answer.
    pub async fn get<K: Kind>(&self, key: &Key) -> Result<Option<K>, ReconcileError> {
        let request = request::<K>(key).get(&key.name, &Default::default());
        match self.send::<K>("get", key, request).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.code() == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All objects of a namespace (empty: of the cluster) that a label selector fits. Errors: as [`ApiClient::get`].
    pub async fn list<K: Kind>(&self, namespace: &str, labels: &str) -> Result<Vec<K>, ReconcileError> {
        let key = Key::new(namespace, "");
        let request = request::<K>(&key).list(&ListParams::default().labels(labels));
        let list = self.send_as::<K, ObjectList<K>>("list", &key, request).await?;
        Ok(list.items)
    }

    /// Applies an object: the fields of it are the operator's, whoever had them. Errors: not leading; the API server refuses or does not answer.
    pub async fn apply<K: Kind>(&self, cache: Option<&Cache<K>>, object: &K) -> Result<K, ReconcileError> {
        let key = Key::of(object);
        let value = to_value(object, &key)?;
        let params = PatchParams::apply(&self.manager).force();
        let request = request::<K>(&key).patch(&key.name, &params, &Patch::Apply(&value));
        self.write("apply", cache, &key, request).await
    }

    /// Creates an object; nothing if there is one of the name already. Errors: as [`ApiClient::apply`].
    pub async fn create<K: Kind>(
        &self,
        cache: Option<&Cache<K>>,
        object: &K,
    ) -> Result<Option<K>, ReconcileError> {
        let key = Key::of(object);
        let params = PostParams {
            field_manager: Some(self.manager.clone()),
            ..PostParams::default()
        };
        let body = serde_json::to_vec(&to_value(object, &key)?).map_err(|source| internal(&key, source))?;
        let request = request::<K>(&key).create(&params, body);
        match self.write("create", cache, &key, request).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.code() == 409 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Applies the whole status of an object, if it differs from the one that the object has. The write holds only for this version of the object:
    /// whoever has changed it meanwhile wins, and the answer is a conflict. Answers the object with the new status. Errors: as [`ApiClient::apply`].
    pub async fn write_status<K: Kind, S: Serialize>(
        &self,
        cache: &Cache<K>,
        object: &K,
        old: Option<&S>,
        status: &S,
    ) -> Result<Option<K>, ReconcileError> {
        let key = Key::of(object);
        let new = serde_json::to_value(status).map_err(|source| internal(&key, source))?;
        let old = match old {
            Some(old) => serde_json::to_value(old).map_err(|source| internal(&key, source))?,
            None => Value::Null,
        };
        if new == old {
            return Ok(None);
        }
        let mut metadata = json!({ "name": key.name });
        if !key.namespace.is_empty() {
            metadata["namespace"] = json!(key.namespace);
        }
        if let Some(version) = object.resource_version() {
            metadata["resourceVersion"] = json!(version);
        }
        let patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": metadata,
            "status": new,
        });
        let params = PatchParams::apply(&self.manager).force();
        let request =
            request::<K>(&key).patch_subresource("status", &key.name, &params, &Patch::Apply(&patch));
        self.write("apply_status", Some(cache), &key, request)
            .await
            .map(Some)
    }

    /// Adds or removes a finalizer, of this version of the object only. Answers the object. Errors: as [`ApiClient::apply`]; a conflict.
    pub async fn set_finalizer<K: Kind>(
        &self,
        cache: &Cache<K>,
        object: &K,
        finalizer: &str,
        there: bool,
    ) -> Result<(), ReconcileError> {
        let key = Key::of(object);
        let mut finalizers: Vec<&str> = object.finalizers().iter().map(String::as_str).collect();
        finalizers.retain(|found| *found != finalizer);
        if there {
            finalizers.push(finalizer);
        }
        let patch = json!({
            "metadata": {
                "finalizers": finalizers,
                "resourceVersion": object.resource_version(),
            }
        });
        let params = PatchParams {
            field_manager: Some(self.manager.clone()),
            ..PatchParams::default()
        };
        let request = request::<K>(&key).patch(&key.name, &params, &Patch::Merge(&patch));
        let ends = !there && finalizers.is_empty() && object.meta().deletion_timestamp.is_some();
        match self.send_fenced::<K>("patch", &key, request).await {
            // The answer to the removal of the last finalizer is the object as it was: it is gone now.
            Ok(gone) if ends => cache.observe_deleted(&gone),
            Ok(object) => cache.observe(object),
            Err(error) if error.code() == 404 && !there => cache.observe_deleted(object),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Merges fields into an object that is there (RFC 7396). Errors: as [`ApiClient::apply`]; 404 if there is none.
    pub async fn merge<K: Kind>(
        &self,
        cache: Option<&Cache<K>>,
        key: &Key,
        patch: &Value,
    ) -> Result<K, ReconcileError> {
        let params = PatchParams {
            field_manager: Some(self.manager.clone()),
            ..PatchParams::default()
        };
        let request = request::<K>(key).patch(&key.name, &params, &Patch::Merge(patch));
        self.write("patch", cache, key, request).await
    }

    /// Asks for the deletion of this object, not of a later one of the same name. It is no error if it is gone. Errors: as [`ApiClient::apply`].
    pub async fn delete<K: Kind>(&self, object: &K) -> Result<(), ReconcileError> {
        let key = Key::of(object);
        let params = DeleteParams {
            preconditions: object.uid().map(|uid| kube::api::Preconditions {
                uid: Some(uid),
                resource_version: None,
            }),
            ..DeleteParams::background()
        };
        let request = request::<K>(&key).delete(&key.name, &params);
        match self.send_as_fenced::<K, Value>("delete", &key, request).await {
            Ok(_) => Ok(()),
            // A conflict: another object has the name now.
            Err(error) if matches!(error.code(), 404 | 409) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn write<K: Kind>(
        &self,
        verb: &'static str,
        cache: Option<&Cache<K>>,
        key: &Key,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<K, ReconcileError> {
        let object: K = self.send_fenced(verb, key, request).await?;
        if let Some(cache) = cache {
            cache.observe(object.clone());
        }
        Ok(object)
    }

    async fn send_fenced<K: Kind>(
        &self,
        verb: &'static str,
        key: &Key,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<K, ReconcileError> {
        self.send_as_fenced::<K, K>(verb, key, request).await
    }

    async fn send_as_fenced<K: Kind, T: DeserializeOwned>(
        &self,
        verb: &'static str,
        key: &Key,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<T, ReconcileError> {
        if !self.leadership.is_held() {
            return Err(ReconcileError::NotLeading);
        }
        self.send_as::<K, T>(verb, key, request).await
    }

    async fn send<K: Kind>(
        &self,
        verb: &'static str,
        key: &Key,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<K, ReconcileError> {
        self.send_as::<K, K>(verb, key, request).await
    }

    async fn send_as<K: Kind, T: DeserializeOwned>(
        &self,
        verb: &'static str,
        key: &Key,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<T, ReconcileError> {
        let failed = |source: kube::Error| ReconcileError::Api {
            verb,
            what: format!("{} {key}", K::kind(&())),
            source: Box::new(source),
        };
        let request = request.map_err(|error| failed(kube::Error::BuildRequest(error)))?;
        let result = self.client.request::<T>(request).await.map_err(failed);
        let code = result.as_ref().err().map(ReconcileError::code);
        self.metrics.api_request(verb, &K::kind(&()), code);
        result
    }
}

fn request<K: Kind>(key: &Key) -> Request {
    let namespace = match key.namespace.as_str() {
        "" => None,
        namespace => Some(namespace),
    };
    Request::new(K::url_path(&(), namespace))
}

fn to_value<K: Kind>(object: &K, key: &Key) -> Result<Value, ReconcileError> {
    let mut value = serde_json::to_value(object).map_err(|source| internal(key, source))?;
    // Types of k8s-openapi write both; those of kube-derive, too. An apply without them is refused.
    value["apiVersion"] = json!(K::api_version(&()));
    value["kind"] = json!(K::kind(&()));
    Ok(value)
}

fn internal(key: &Key, source: serde_json::Error) -> ReconcileError {
    ReconcileError::Internal {
        what: format!("cannot write {key} as JSON"),
        source: Box::new(source),
    }
}

/// The metadata of an object that is to be applied.
pub fn metadata(key: &Key, labels: &[(&str, &str)]) -> ObjectMeta {
    let labels = labels
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    ObjectMeta {
        name: Some(key.name.clone()),
        namespace: (!key.namespace.is_empty()).then(|| key.namespace.clone()),
        labels: Some(labels.collect()),
        ..ObjectMeta::default()
    }
}
