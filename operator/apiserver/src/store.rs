//! The objects and what happened to them. One counter of versions for everything, as in etcd; per table the objects in
//! order and a bounded log of events, from which watches are fed and earlier states are told.
//!
//! Invariants: every event raises the version; the log of a table is without gaps between `compacted` and the present; an
//! object in the table carries the version of its last event. Whoever is behind `compacted` is told so (410) and lists
//! again.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::object;

/// Namespace (empty for the cluster) and name.
pub type Key = (String, String);

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was not there before.
    Added,
    /// It is another.
    Modified,
    /// It is gone.
    Deleted,
}

/// One event of the log.
#[derive(Debug, Clone)]
pub struct Event {
    /// The version that the event made.
    pub version: u64,
    /// What happened.
    pub change: Change,
    /// Which object.
    pub key: Key,
    /// The object after it; for a deletion, the last state with the version of the deletion.
    pub object: Arc<Value>,
    /// The object before it.
    pub previous: Option<Arc<Value>>,
}

/// The objects of one resource.
#[derive(Debug)]
pub struct Table {
    objects: BTreeMap<Key, Arc<Value>>,
    log: VecDeque<Event>,
    /// The version before the oldest event of the log: running watches may be no further behind.
    compacted: u64,
    /// The version that new watches and lists of the past may not be behind; at least `compacted`.
    floor: u64,
    changed: watch::Sender<u64>,
}

impl Table {
    fn new() -> Self {
        Self {
            objects: BTreeMap::new(),
            log: VecDeque::new(),
            compacted: 0,
            floor: 0,
            changed: watch::Sender::new(0),
        }
    }
}

/// All tables.
#[derive(Debug)]
pub struct Store {
    version: u64,
    log_limit: usize,
    tables: HashMap<String, Table>,
    changed: watch::Sender<u64>,
}

impl Store {
    /// An empty store. `log_limit` is how many events each table remembers.
    pub fn new(log_limit: usize) -> Self {
        Self {
            // Zero means "any version" in requests, so that no state may have it.
            version: 1,
            log_limit: log_limit.max(1),
            tables: HashMap::new(),
            changed: watch::Sender::new(0),
        }
    }

    /// Tells of any change.
    pub fn subscribe_all(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The present version.
    pub fn version(&self) -> u64 {
        self.version
    }

    fn table(&mut self, table: &str) -> &mut Table {
        self.tables.entry(table.to_owned()).or_insert_with(Table::new)
    }

    /// Tells of changes of a table: the version of the last one.
    pub fn subscribe(&mut self, table: &str) -> watch::Receiver<u64> {
        self.table(table).changed.subscribe()
    }

    /// An object.
    pub fn get(&self, table: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.tables
            .get(table)?
            .objects
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// Lets all objects of a table be read otherwise than they were written: nobody is told, and no version changes.
    pub fn reread(&mut self, table: &str, mut read: impl FnMut(&mut Value)) {
        for object in self.table(table).objects.values_mut() {
            let mut now = Value::clone(object);
            read(&mut now);
            *object = Arc::new(now);
        }
    }

    /// The objects of a table, of one namespace or of all, in order.
    pub fn list(&self, table: &str, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let Some(table) = self.tables.get(table) else {
            return Vec::new();
        };
        match namespace {
            None => table.objects.values().cloned().collect(),
            Some(namespace) => table
                .objects
                .range((namespace.to_owned(), String::new())..)
                .take_while(|((of, _), _)| of == namespace)
                .map(|(_, object)| Arc::clone(object))
                .collect(),
        }
    }

    /// The number of objects in a table.
    pub fn count(&self, table: &str) -> usize {
        self.tables.get(table).map_or(0, |table| table.objects.len())
    }

    /// The names of tables that hold anything.
    pub fn tables(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .tables
            .iter()
            .filter(|(_, table)| !table.objects.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        names.sort();
        names
    }

    /// The objects as they were at `version`, or none if the log does not reach back so far.
    pub fn list_at(&self, table: &str, namespace: Option<&str>, version: u64) -> Option<Vec<Arc<Value>>> {
        let Some(entry) = self.tables.get(table) else {
            return Some(Vec::new());
        };
        if version >= entry.log.back().map_or(entry.compacted, |event| event.version) {
            return Some(self.list(table, namespace));
        }
        if version < entry.floor {
            return None;
        }
        let mut objects = entry.objects.clone();
        for event in entry.log.iter().rev().take_while(|event| event.version > version) {
            match &event.previous {
                Some(previous) => objects.insert(event.key.clone(), Arc::clone(previous)),
                None => objects.remove(&event.key),
            };
        }
        Some(
            objects
                .into_iter()
                .filter(|((of, _), _)| namespace.is_none_or(|namespace| namespace == of))
                .map(|(_, object)| object)
                .collect(),
        )
    }

    /// Writes an object under its next version, and returns it as it is stored.
    pub fn put(&mut self, table: &str, mut object: Value) -> Arc<Value> {
        self.version += 1;
        let version = self.version;
        object::metadata_mut(&mut object).insert("resourceVersion".to_owned(), json!(version.to_string()));
        let key = (
            object::namespace(&object).to_owned(),
            object::name(&object).to_owned(),
        );
        let object = Arc::new(object);
        let previous = self.table(table).objects.insert(key.clone(), Arc::clone(&object));
        let change = if previous.is_some() {
            Change::Modified
        } else {
            Change::Added
        };
        self.log(
            table,
            Event {
                version,
                change,
                key,
                object: Arc::clone(&object),
                previous,
            },
        );
        object
    }

    /// Removes an object and returns its last state, with the version of the removal.
    pub fn remove(&mut self, table: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let key = (namespace.to_owned(), name.to_owned());
        let previous = self.table(table).objects.remove(&key)?;
        self.version += 1;
        let version = self.version;
        let mut object = Value::clone(&previous);
        object::metadata_mut(&mut object).insert("resourceVersion".to_owned(), json!(version.to_string()));
        let object = Arc::new(object);
        let event = Event {
            version,
            change: Change::Deleted,
            key,
            object: Arc::clone(&object),
            previous: Some(previous),
        };
        self.log(table, event);
        Some(object)
    }

    fn log(&mut self, table: &str, event: Event) {
        let limit = self.log_limit;
        let table = self.table(table);
        let version = event.version;
        table.log.push_back(event);
        while table.log.len() > limit {
            if let Some(old) = table.log.pop_front() {
                table.compacted = old.version;
                table.floor = table.floor.max(old.version);
            }
        }
        table.changed.send_replace(version);
        self.changed.send_replace(version);
    }

    /// Whether a watch or list may start at `version`; if not, the oldest version from which it may.
    ///
    /// # Errors
    /// That version.
    pub fn reaches(&self, table: &str, version: u64) -> Result<(), u64> {
        match self.tables.get(table) {
            Some(table) if version < table.floor => Err(table.floor),
            _ => Ok(()),
        }
    }

    /// The events after `version`, at most `limit`, or none if the log does not reach back so far.
    pub fn events(&self, table: &str, version: u64, limit: usize) -> Option<Vec<Event>> {
        let Some(table) = self.tables.get(table) else {
            return Some(Vec::new());
        };
        if version < table.compacted {
            return None;
        }
        let start = table.log.partition_point(|event| event.version <= version);
        Some(table.log.iter().skip(start).take(limit).cloned().collect())
    }

    /// Forgets the past: watches and lists that begin at earlier versions find them expired. Watches that run go on.
    pub fn compact(&mut self) {
        let version = self.version;
        for table in self.tables.values_mut() {
            table.floor = version;
        }
    }
}
