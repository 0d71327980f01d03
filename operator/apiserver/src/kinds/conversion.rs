//! Objects in the store are of one version. This makes objects of another version of them, and back.

use serde_json::{Map, Value, json};

/// How the objects of a version differ from those in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversion {
    /// Not at all.
    Storage,
    /// By the version alone (`conversion.strategy: None` of a CustomResourceDefinition).
    VersionOnly,
    /// Events of `events.k8s.io/v1`, which are stored as those of the core.
    Events,
}

/// The fields that have other names: core, then `events.k8s.io`.
const EVENT_FIELDS: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

impl Conversion {
    /// Whether objects are stored in this version.
    pub fn is_storage(self) -> bool {
        self == Self::Storage
    }

    /// An object of the store as one of this version.
    pub fn from_storage(self, object: &Value, api_version: &str) -> Value {
        let mut object = object.clone();
        if self == Self::Events {
            rename(&mut object, |(core, new)| (core, new));
        }
        if self != Self::Storage {
            object["apiVersion"] = json!(api_version);
        }
        object
    }

    /// An object of this version as one of the store.
    pub fn to_storage(self, object: &mut Value, storage_version: &str) {
        if self == Self::Events {
            rename(object, |(core, new)| (new, core));
        }
        if self != Self::Storage {
            object["apiVersion"] = json!(storage_version);
        }
    }
}

fn rename(object: &mut Value, direction: fn((&'static str, &'static str)) -> (&'static str, &'static str)) {
    let Some(map) = object.as_object_mut() else {
        return;
    };
    let mut moved = Map::new();
    for pair in EVENT_FIELDS {
        let (from, to) = direction(*pair);
        if let Some(value) = map.remove(from) {
            moved.insert(to.to_owned(), value);
        }
    }
    map.extend(moved);
}
