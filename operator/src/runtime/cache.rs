//! What the API server is known to hold of one kind: filled by a watch, and by the answers to our own writes.
//!
//! Invariants: of each object the newest version that anybody told is kept, by resource version; what was deleted does not come back through
//! an answer that was on its way. Listeners hear each change once: the echo of an own write is none. Objects that cannot be read as their kind are
//! told apart and stop nobody ([`Cache::invalid`]). `managedFields` are dropped on arrival: nobody here reads them, and they are half of the memory.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;

use futures_util::StreamExt;
use kube::core::{DeserializeGuard, Resource};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::metrics::Metrics;

/// Deletions that are remembered, so that what is older does not come back.
const DELETIONS_MAX: usize = 4096;

/// The name of an object in its kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Empty for kinds that have none.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// A name in a namespace.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Key {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// A name of a kind without namespaces.
    pub fn cluster(name: impl Into<String>) -> Self {
        Key::new("", name)
    }

    /// The key of an object.
    pub fn of<K: Resource>(object: &K) -> Self {
        Key {
            namespace: object.meta().namespace.clone().unwrap_or_default(),
            name: object.meta().name.clone().unwrap_or_default(),
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.namespace.as_str() {
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

/// What happened to an object.
#[derive(Debug)]
pub struct Change<'a, K> {
    /// Its key.
    pub key: &'a Key,
    /// What was known before.
    pub old: Option<&'a Arc<K>>,
    /// What is known now; nothing: it is gone.
    pub new: Option<&'a Arc<K>>,
}

type Listener<K> = Box<dyn Fn(&Change<'_, K>) + Send + Sync>;
type IndexBy<K> = fn(&K) -> Vec<String>;

/// Objects of one kind. See the module.
pub struct Cache<K> {
    objects: RwLock<Objects<K>>,
    listeners: Vec<Listener<K>>,
    synced: watch::Sender<bool>,
}

struct Objects<K> {
    by_key: HashMap<Key, Arc<K>>,
    indexes: Vec<Index<K>>,
    invalid: HashMap<Key, String>,
    deleted: HashMap<Key, u64>,
    deletions: VecDeque<Key>,
}

struct Index<K> {
    by: IndexBy<K>,
    keys: HashMap<String, BTreeSet<Key>>,
}

/// Names an index of a cache, in the order in which they were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexId(pub usize);

impl<K> Debug for Cache<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("objects", &self.objects.read().by_key.len())
            .finish_non_exhaustive()
    }
}

impl<K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static> Cache<K> {
    /// An empty cache with these indexes ([`IndexId`] counts them from 0).
    pub fn new(indexes: &[IndexBy<K>]) -> Self {
        let indexes = indexes.iter().map(|by| Index {
            by: *by,
            keys: HashMap::new(),
        });
        Cache {
            objects: RwLock::new(Objects {
                by_key: HashMap::new(),
                indexes: indexes.collect(),
                invalid: HashMap::new(),
                deleted: HashMap::new(),
                deletions: VecDeque::new(),
            }),
            listeners: Vec::new(),
            synced: watch::Sender::new(false),
        }
    }

    /// Calls `listener` for each change from now on, with no lock held.
    pub fn listen(&mut self, listener: impl Fn(&Change<'_, K>) + Send + Sync + 'static) {
        self.listeners.push(Box::new(listener));
    }

    /// An object, as far as is known.
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.objects.read().by_key.get(key).cloned()
    }

    /// All objects, in no order.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.objects.read().by_key.values().cloned().collect()
    }

    /// How many objects are known.
    pub fn len(&self) -> usize {
        self.objects.read().by_key.len()
    }

    /// Whether no object is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All keys, in no order.
    pub fn keys(&self) -> Vec<Key> {
        self.objects.read().by_key.keys().cloned().collect()
    }

    /// The objects that an index files under `value`, by key.
    pub fn filed(&self, index: IndexId, value: &str) -> Vec<Arc<K>> {
        let objects = self.objects.read();
        let keys = objects
            .indexes
            .get(index.0)
            .and_then(|index| index.keys.get(value));
        let found = keys
            .into_iter()
            .flatten()
            .filter_map(|key| objects.by_key.get(key));
        found.cloned().collect()
    }

    /// The keys of objects that an index files under `value`.
    pub fn filed_keys(&self, index: IndexId, value: &str) -> Vec<Key> {
        let objects = self.objects.read();
        let keys = objects
            .indexes
            .get(index.0)
            .and_then(|index| index.keys.get(value));
        keys.into_iter().flatten().cloned().collect()
    }

    /// Objects that are there and cannot be read as this kind, and why.
    pub fn invalid(&self) -> Vec<(Key, String)> {
        let objects = self.objects.read();
        let found = objects.invalid.iter();
        found.map(|(key, why)| (key.clone(), why.clone())).collect()
    }

    /// Whether everything has been listed at least once.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Returns when everything has been listed once.
    pub async fn wait_until_synced(&self) {
        // Fails only when the sender is gone, and we are it.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// Takes note of an object that the API server has told. Older versions than the known one change nothing.
    pub fn observe(&self, mut object: K) {
        object.meta_mut().managed_fields = None;
        let key = Key::of(&object);
        let version = version(&object);
        let object = Arc::new(object);
        let old = {
            let mut objects = self.objects.write();
            let is_old = |known: &Arc<K>| version <= self::version(known.as_ref());
            if objects.by_key.get(&key).is_some_and(is_old)
                || objects
                    .deleted
                    .get(&key)
                    .is_some_and(|deleted| version <= *deleted)
            {
                return;
            }
            objects.invalid.remove(&key);
            objects.insert(key.clone(), Arc::clone(&object))
        };
        self.tell(&key, old.as_ref(), Some(&object));
    }

    /// Takes note that an object is gone as of the version that it carries.
    pub fn observe_deleted(&self, object: &K) {
        self.forget(&Key::of(object), version(object), true);
    }

    /// `known_deleted`: it was told that the object is deleted, and not only missed in a list, which may be older than our own last write of it.
    fn forget(&self, key: &Key, version: u64, known_deleted: bool) {
        let old = {
            let mut objects = self.objects.write();
            objects.invalid.remove(key);
            let is_newer = |known: &Arc<K>| self::version(known.as_ref()) > version;
            if objects.by_key.get(key).is_some_and(is_newer) {
                return;
            }
            if known_deleted {
                objects.remember_deletion(key, version);
            }
            objects.remove(key)
        };
        if old.is_some() {
            self.tell(key, old.as_ref(), None);
        }
    }

    fn tell(&self, key: &Key, old: Option<&Arc<K>>, new: Option<&Arc<K>>) {
        let change = Change { key, old, new };
        for listener in &self.listeners {
            listener(&change);
        }
    }
}

impl<K> Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// Watches until the future is dropped. Failures are retried with back-off and told to the log and the metrics; what is known stays known
    /// meanwhile.
    pub async fn run(&self, api: Api<DeserializeGuard<K>>, config: watcher::Config, metrics: &Metrics) {
        let kind = K::kind(&()).into_owned();
        let mut stream = std::pin::pin!(watcher(api, config).default_backoff());
        let mut listed: HashSet<Key> = HashSet::new();
        while let Some(event) = stream.next().await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(object)) => {
                    listed.insert(Key::of(&object));
                    self.take(object, &kind);
                }
                Ok(Event::InitDone) => {
                    self.keep_only(&listed);
                    listed = HashSet::new();
                    self.synced.send_replace(true);
                }
                Ok(Event::Apply(object)) => self.take(object, &kind),
                Ok(Event::Delete(object)) => self.forget(&Key::of(&object), version(&object), true),
                Err(error) => {
                    metrics.watch_failed(&kind);
                    tracing::warn!(kind, %error, "a watch failed and is begun again");
                }
            }
        }
    }

    fn take(&self, object: DeserializeGuard<K>, kind: &str) {
        match object.0 {
            Ok(object) => self.observe(object),
            Err(invalid) => {
                let key = Key {
                    namespace: invalid.metadata.namespace.unwrap_or_default(),
                    name: invalid.metadata.name.unwrap_or_default(),
                };
                tracing::warn!(kind, %key, error = invalid.error, "an object cannot be read and is left alone");
                let old = {
                    let mut objects = self.objects.write();
                    objects.invalid.insert(key.clone(), invalid.error);
                    objects.remove(&key)
                };
                if old.is_some() {
                    self.tell(&key, old.as_ref(), None);
                }
            }
        }
    }

    /// After a list: what is not in it is gone.
    fn keep_only(&self, listed: &HashSet<Key>) {
        let gone: Vec<(Key, u64)> = {
            let mut objects = self.objects.write();
            objects.invalid.retain(|key, _| listed.contains(key));
            let gone = objects.by_key.iter().filter(|(key, _)| !listed.contains(key));
            gone.map(|(key, object)| (key.clone(), version(object.as_ref())))
                .collect()
        };
        for (key, version) in gone {
            self.forget(&key, version, false);
        }
    }
}

impl<K> Objects<K> {
    fn insert(&mut self, key: Key, object: Arc<K>) -> Option<Arc<K>> {
        let old = self.by_key.insert(key.clone(), Arc::clone(&object));
        for index in &mut self.indexes {
            let after = (index.by)(&object);
            let before = old.as_ref().map(|old| (index.by)(old)).unwrap_or_default();
            for value in before.iter().filter(|value| !after.contains(value)) {
                index.remove(value, &key);
            }
            for value in after {
                index.keys.entry(value).or_default().insert(key.clone());
            }
        }
        old
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<K>> {
        let old = self.by_key.remove(key)?;
        for index in &mut self.indexes {
            for value in (index.by)(&old) {
                index.remove(&value, key);
            }
        }
        Some(old)
    }

    fn remember_deletion(&mut self, key: &Key, version: u64) {
        if self.deleted.insert(key.clone(), version).is_none() {
            self.deletions.push_back(key.clone());
        }
        if self.deletions.len() > DELETIONS_MAX
            && let Some(oldest) = self.deletions.pop_front()
        {
            self.deleted.remove(&oldest);
        }
    }
}

impl<K> Index<K> {
    fn remove(&mut self, value: &str, key: &Key) {
        if let Some(keys) = self.keys.get_mut(value) {
            keys.remove(key);
            if keys.is_empty() {
                self.keys.remove(value);
            }
        }
    }
}

/// The resource version as a number. Kubernetes promises since 1.35 that they can be compared, and kept it before. One that is no number counts as the
/// oldest, and is then replaced by whatever comes.
fn version<K: Resource>(object: &K) -> u64 {
    let version = object.meta().resource_version.as_deref();
    version.and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// The uid of an object; empty for one that the API server has not seen.
pub fn uid<K: Resource>(object: &K) -> &str {
    object.meta().uid.as_deref().unwrap_or_default()
}

/// The generation of an object's specification; 0 for one that the API server has not seen.
pub fn generation<K: Resource>(object: &K) -> i64 {
    object.meta().generation.unwrap_or_default()
}

/// Whether somebody has asked for the deletion of the object.
pub fn is_terminating<K: Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// Whether the object has the finalizer.
pub fn has_finalizer<K: ResourceExt>(object: &K, finalizer: &str) -> bool {
    object.finalizers().iter().any(|found| found == finalizer)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::ConfigMap;
    use parking_lot::Mutex;

    use super::{Cache, IndexId, Key};

    fn object(name: &str, version: u64, label: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.to_owned());
        object.metadata.namespace = Some("n".to_owned());
        object.metadata.resource_version = Some(version.to_string());
        object.metadata.labels = Some([("l".to_owned(), label.to_owned())].into());
        object
    }

    fn label(object: &ConfigMap) -> Vec<String> {
        object
            .metadata
            .labels
            .iter()
            .flat_map(|labels| labels.values().cloned())
            .collect()
    }

    #[test]
    fn the_newest_version_stays_and_an_echo_is_no_change() {
        let mut cache = Cache::new(&[label]);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        cache.listen(move |change| {
            hears
                .lock()
                .push((change.key.to_string(), change.old.is_some(), change.new.is_some()));
        });
        cache.observe(object("a", 5, "x"));
        cache.observe(object("a", 5, "x"));
        cache.observe(object("a", 4, "old"));
        cache.observe(object("a", 10, "y"));
        assert_eq!(cache.filed(IndexId(0), "x").len(), 0);
        assert_eq!(cache.filed_keys(IndexId(0), "y"), [Key::new("n", "a")]);
        cache.observe_deleted(&object("a", 11, "y"));
        // An answer that was on its way when the object was deleted.
        cache.observe(object("a", 10, "y"));
        assert!(cache.is_empty());
        cache.observe(object("a", 12, "z"));
        assert_eq!(cache.filed(IndexId(0), "z").len(), 1);
        let heard = heard.lock();
        let expected = [(false, true), (true, true), (true, false), (false, true)];
        assert_eq!(
            *heard,
            expected.map(|(old, new)| ("n/a".to_owned(), old, new)).to_vec()
        );
    }

    #[test]
    fn a_late_deletion_of_an_earlier_object_changes_nothing() {
        let cache = Cache::new(&[]);
        cache.observe(object("a", 20, "second"));
        cache.observe_deleted(&object("a", 15, "first"));
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn after_a_list_only_what_was_listed_is_there() {
        let cache = Cache::new(&[label]);
        cache.observe(object("a", 1, "x"));
        cache.observe(object("b", 2, "x"));
        cache.keep_only(&[Key::new("n", "b")].into());
        assert_eq!(cache.keys(), [Key::new("n", "b")]);
        assert_eq!(cache.filed_keys(IndexId(0), "x"), [Key::new("n", "b")]);
    }

    #[test]
    fn managed_fields_are_not_kept() {
        let cache = Cache::new(&[]);
        let mut with = object("a", 1, "x");
        with.metadata.managed_fields = Some(vec![Default::default()]);
        cache.observe(with);
        let kept = cache.get(&Key::new("n", "a")).unwrap();
        assert_eq!(kept.metadata.managed_fields, None);
    }
}
