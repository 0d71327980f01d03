//! Children: objects that the operator keeps for a resource. They are applied when they differ from what is wanted, and removed when nobody wants
//! them any more.
//!
//! An object says by an annotation which fields were applied last ([`APPLIED`]): a field that is not wanted any more would otherwise not be missed.
//! A name that belongs to somebody else is never taken over.

use cairn_types::hexadecimal;
use kube::ResourceExt;
use serde_json::Value;

use super::api::{ApiClient, Kind};
use super::cache::{Cache, Key};
use super::error::ReconcileError;

/// Annotation of children: a hash of what was applied last.
pub const APPLIED: &str = "jvs.io/applied";

/// What became of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It was as it is wanted.
    Unchanged,
    /// It was made or changed.
    Written,
}

/// What a cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knows {
    /// Every object that could have the name.
    All,
    /// Only those that carry the operator's label: before a name is used for the first time, the API server is asked whose it is.
    Ours,
}

/// Makes that `desired` is there. `is_ours` says whether an object of the name may be changed. Errors: [`ReconcileError::NameTaken`]; those of
/// [`ApiClient::apply`].
pub async fn ensure<K: Kind>(
    api: &ApiClient,
    cache: &Cache<K>,
    knows: Knows,
    mut desired: K,
    is_ours: impl Fn(&K) -> bool,
) -> Result<Applied, ReconcileError> {
    let key = Key::of(&desired);
    let wanted = stamp(&mut desired, &key)?;
    let known = match cache.get(&key) {
        Some(known) => Some(known),
        None if knows == Knows::All => None,
        None => {
            let found = api.get::<K>(&key).await?.map(std::sync::Arc::new);
            if let Some(found) = &found
                && is_ours(found)
            {
                cache.observe(found.as_ref().clone());
            }
            found
        }
    };
    if let Some(known) = known {
        if !is_ours(&known) {
            return Err(ReconcileError::NameTaken {
                kind: K::kind(&()).into_owned(),
                name: key.to_string(),
            });
        }
        let live = value(known.as_ref(), &key)?;
        if covers(&live, &wanted) {
            return Ok(Applied::Unchanged);
        }
    }
    api.apply(Some(cache), &desired).await?;
    Ok(Applied::Written)
}

/// Writes the hash of the object's fields into it. Answers the object as JSON.
fn stamp<K: Kind>(object: &mut K, key: &Key) -> Result<Value, ReconcileError> {
    object.annotations_mut().remove(APPLIED);
    let bare = value(object, key)?;
    // Objects of JSON are sorted by key, so that equal objects are equal texts.
    let hash = blake3::hash(bare.to_string().as_bytes());
    let text = hexadecimal::text(&hash.as_bytes()[..8]);
    object.annotations_mut().insert(APPLIED.to_owned(), text);
    value(object, key)
}

fn value<K: Kind>(object: &K, key: &Key) -> Result<Value, ReconcileError> {
    serde_json::to_value(object).map_err(|source| ReconcileError::Internal {
        what: format!("cannot write {key} as JSON"),
        source: Box::new(source),
    })
}

/// Whether `live` has everything that `wanted` has. Objects may have more; lists have as many items, in the same order, each of which has what is
/// wanted of it. Quantities that are written otherwise (`1024Mi`, `1Gi`) are equal.
pub fn covers(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (_, Value::Null) => true,
        (Value::Object(live), Value::Object(wanted)) => wanted
            .iter()
            .all(|(name, wanted)| covers(live.get(name).unwrap_or(&Value::Null), wanted)),
        // An empty object or list may be left out.
        (Value::Null, Value::Object(wanted)) => wanted.values().all(Value::is_null),
        (Value::Null, Value::Array(wanted)) => wanted.is_empty(),
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| covers(live, wanted))
        }
        (Value::String(live), Value::String(wanted)) => live == wanted || are_equal_quantities(live, wanted),
        (live, wanted) => live == wanted,
    }
}

fn are_equal_quantities(a: &str, b: &str) -> bool {
    let is_number = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    let bytes = cairn_crds::validation::quantity_bytes;
    is_number(a) && is_number(b) && bytes(a).is_some() && bytes(a) == bytes(b)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::{APPLIED, covers, stamp};
    use crate::runtime::cache::Key;

    #[test]
    fn what_the_server_adds_is_no_difference() {
        let live = json!({"spec": {"a": 1, "list": [{"name": "x", "protocol": "TCP"}], "size": "1Gi"}, "status": {}});
        for wanted in [
            json!({"spec": {"a": 1}}),
            json!({"spec": {"list": [{"name": "x"}]}}),
            json!({"spec": {"size": "1024Mi"}}),
            json!({"spec": {"b": null}, "other": {}, "none": []}),
        ] {
            assert!(covers(&live, &wanted), "{wanted}");
        }
        for wanted in [
            json!({"spec": {"a": 2}}),
            json!({"spec": {"list": []}}),
            json!({"spec": {"list": [{"name": "y"}]}}),
            json!({"spec": {"list": [{"name": "x"}, {"name": "y"}]}}),
            json!({"spec": {"size": "2Gi"}}),
            json!({"spec": {"b": "new"}}),
            json!({"other": {"x": 1}}),
        ] {
            assert!(!covers(&live, &wanted), "{wanted}");
        }
        assert!(!covers(&json!("10.0.0.1"), &json!("10.0.0.10")));
    }

    #[test]
    fn the_stamp_tells_what_was_left_out() {
        let key = Key::new("n", "a");
        let mut with = ConfigMap {
            data: Some([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())].into()),
            ..ConfigMap::default()
        };
        let mut without = ConfigMap {
            data: Some([("a".to_owned(), "1".to_owned())].into()),
            ..ConfigMap::default()
        };
        let live = stamp(&mut with, &key).unwrap();
        assert!(!covers(&live, &stamp(&mut without, &key).unwrap()));
        // Stamping again is the same.
        assert_eq!(stamp(&mut with, &key).unwrap(), live);
        assert!(with.metadata.annotations.unwrap().contains_key(APPLIED));
    }
}
