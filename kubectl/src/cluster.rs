//! The cluster that is talked to, as its API server shows it to the person whom the kubeconfig names.
//!
//! Every object is read on its own: one that has a form that this version does not know is named, and does not keep the others from being listed.

use std::fmt::Debug;

use kube::api::{Api, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::{Client, Config, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::arguments::Connection;
use crate::failure::{Exit, Failure};

/// Objects of one page of a list.
const PAGE: u32 = 500;
/// Most objects that are listed.
pub const OBJECTS_MAX: usize = 100_000;

/// What all kinds of ours are, for the client.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// The cluster, and where in it.
pub struct Cluster {
    pub client: Client,
    /// The namespace that was asked for.
    pub namespace: String,
    /// What `kubectl` must be given to talk to the same cluster as the same person.
    pub flags: Vec<String>,
}

/// An object that cannot be read.
#[derive(Debug, Serialize)]
pub struct Unreadable {
    namespace: String,
    name: String,
    error: String,
}

/// Objects of one kind.
pub struct Listed<K> {
    /// Those that can be read.
    pub objects: Vec<K>,
    /// The others.
    pub unreadable: Vec<Unreadable>,
}

impl Cluster {
    /// Reads the configuration as `kubectl` does. Nothing is asked of the cluster yet. Errors: there is none, or it cannot be used.
    pub async fn of(connection: &Connection) -> Result<Self, Failure> {
        let options = KubeConfigOptions {
            context: connection.context.clone(),
            cluster: connection.cluster.clone(),
            user: connection.user.clone(),
        };
        let is_named = connection.kubeconfig.is_some() || options.context.is_some();
        let config = match &connection.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path)?;
                Config::from_custom_kubeconfig(file, &options).await
            }
            None => Config::from_kubeconfig(&options).await,
        };
        let config = match config {
            Ok(config) => config,
            // In a pod there is no file: its service account is meant.
            Err(error) => match Config::incluster() {
                Ok(config) if !is_named => config,
                _ => return Err(error.into()),
            },
        };
        let namespace = connection
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(Failure::of("use the configuration"))?;
        Ok(Cluster {
            client,
            flags: flags(connection, &namespace),
            namespace,
        })
    }

    /// Objects of a kind in our namespace.
    pub fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// An object of our namespace. Errors: there is none, nobody answers, we may not.
    pub async fn get<K: Kind>(&self, name: &str) -> Result<K, Failure> {
        let what = format!("get {} {name} of namespace {}", K::kind(&()), self.namespace);
        self.api().get(name).await.map_err(Failure::of(what))
    }

    /// The same; nothing if there is none.
    pub async fn find<K: Kind>(&self, name: &str) -> Result<Option<K>, Failure> {
        match self.get(name).await {
            Ok(found) => Ok(Some(found)),
            Err(failure) if failure.code() == 404 => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Makes an object. `is_new`: its name was made up by us, so that one that is there already is the one that we have made, by a request whose answer was lost.
    pub async fn create<K: Kind>(&self, object: &K, is_new: bool) -> Result<K, Failure> {
        let name = object.name_any();
        let what = format!("make {} {name} in namespace {}", K::kind(&()), self.namespace);
        let made = self.api().create(&PostParams::default(), object).await;
        match made.map_err(Failure::of(what)) {
            Err(failure) if failure.code() == 409 && is_new => self.get(&name).await,
            other => other,
        }
    }

    /// Objects of a kind that `parameters` select, in our namespace or in all. Errors: as of `get`; there are more than [`OBJECTS_MAX`].
    pub async fn list<K: Kind>(
        &self,
        all_namespaces: bool,
        mut parameters: ListParams,
    ) -> Result<Listed<K>, Failure> {
        let api: Api<DeserializeGuard<K>> = match all_namespaces {
            true => Api::all(self.client.clone()),
            false => Api::namespaced(self.client.clone(), &self.namespace),
        };
        let mut listed = Listed {
            objects: Vec::new(),
            unreadable: Vec::new(),
        };
        parameters.limit = Some(PAGE);
        loop {
            let page = api
                .list(&parameters)
                .await
                .map_err(Failure::of(format!("list {}", K::plural(&()))))?;
            for object in page.items {
                let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
                match object.0 {
                    Ok(object) => listed.objects.push(object),
                    Err(error) => listed.unreadable.push(Unreadable {
                        namespace,
                        name,
                        error: error.error,
                    }),
                }
            }
            if listed.objects.len() > OBJECTS_MAX {
                return Err(Failure::told(
                    Exit::Invalid,
                    "TOO_MANY",
                    format!("there are more than {OBJECTS_MAX} {}", K::plural(&())),
                    "list one namespace or workspace at a time",
                ));
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters.continue_token = Some(token),
                None => return Ok(listed),
            }
        }
    }

    /// A command of `kubectl` for the same cluster, person and namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> Vec<String> {
        let program = ["kubectl".to_owned()];
        let rest = arguments.iter().map(|&argument| argument.to_owned());
        program
            .into_iter()
            .chain(self.flags.iter().cloned())
            .chain(rest)
            .collect()
    }
}

fn flags(connection: &Connection, namespace: &str) -> Vec<String> {
    let path = connection
        .kubeconfig
        .as_ref()
        .map(|path| path.display().to_string());
    [
        ("--kubeconfig", path.as_ref()),
        ("--context", connection.context.as_ref()),
        ("--cluster", connection.cluster.as_ref()),
        ("--user", connection.user.as_ref()),
        ("--namespace", Some(&namespace.to_owned())),
    ]
    .into_iter()
    .filter_map(|(flag, value)| Some(format!("{flag}={}", value?)))
    .collect()
}

impl<K> Listed<K> {
    /// What to tell of those that cannot be read.
    pub fn warnings(&self) -> Vec<String> {
        let told = |it: &Unreadable| format!("{}/{} cannot be read: {}", it.namespace, it.name, it.error);
        self.unreadable.iter().map(told).collect()
    }
}
