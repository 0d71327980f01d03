//! Lists: which state, which part of it, in which form; and from where a watch begins.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, present},
    kinds::Kind,
    object,
    request::Query,
    selector::Selector,
    status::{Cause, Failure},
};

/// A list before it is given a form.
#[derive(Debug)]
pub struct Listing {
    /// The objects.
    pub objects: Vec<Value>,
    /// The version of the state.
    pub version: u64,
    /// The token that goes on after the last object.
    pub proceed: String,
    /// Objects that come after the last, if that is known.
    pub remaining: Option<usize>,
}

impl Listing {
    /// The metadata of the list.
    pub fn metadata(&self) -> Value {
        let mut metadata = json!({"resourceVersion": self.version.to_string()});
        if !self.proceed.is_empty() {
            metadata["continue"] = json!(self.proceed);
            if let Some(remaining) = self.remaining {
                metadata["remainingItemCount"] = json!(remaining);
            }
        }
        metadata
    }
}

const CUT_OFF: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

fn token(version: i64, after: &str) -> String {
    URL_SAFE_NO_PAD.encode(json!({"v": "meta.k8s.io/v1", "rv": version, "start": after}).to_string())
}

fn read_token(text: &str) -> Result<(i64, String), Failure> {
    let invalid = |detail: &str| {
        Failure::BadRequest(format!(
            "invalid continue token: continue key is not valid: {detail}"
        ))
    };
    let bytes = URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|error| invalid(&error.to_string()))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| invalid(&error.to_string()))?;
    if value["v"] != "meta.k8s.io/v1" {
        return Err(invalid("server does not recognize this encoded version"));
    }
    let version = value["rv"].as_i64().ok_or_else(|| invalid("no version"))?;
    Ok((version, object::text(&value, &["start"]).to_owned()))
}

fn place(entry: &Value) -> String {
    format!("{}/{}", object::namespace(entry), object::name(entry))
}

/// Reads a version of a request; zero and none are zero.
///
/// # Errors
/// `Failure::Invalid` when it is no number.
pub fn version_of(query: &Query) -> Result<u64, Failure> {
    let text = query.get("resourceVersion");
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| {
        Failure::invalid(
            "meta.k8s.io",
            "ListOptions",
            "",
            vec![Cause {
                reason: "FieldValueInvalid",
                message: format!(
                    "Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": invalid syntax"
                ),
                field: "resourceVersion".to_owned(),
            }],
        )
    })
}

/// A version that has not been reached yet.
pub fn too_large(version: u64, present: u64) -> Failure {
    Failure::Version {
        code: 504,
        message: format!("Timeout: Too large resource version: {version}, current: {present}"),
        proceed: None,
    }
}

/// Lists what a request asks for. `stale` is a version that a planned fault shows instead of the present.
///
/// # Errors
/// Versions that are gone or not there yet, tokens that cannot be read.
pub fn list(
    cluster: &Cluster,
    kind: &Kind,
    namespace: Option<&str>,
    selector: &Selector,
    query: &Query,
    stale: Option<u64>,
) -> Result<Listing, Failure> {
    let store = &cluster.store;
    let wanted = version_of(query)?;
    if wanted > store.version() {
        return Err(too_large(wanted, store.version()));
    }
    let limit = match query.get("limit") {
        "" => 0,
        text => text
            .parse::<usize>()
            .map_err(|error| Failure::BadRequest(format!("limit: {error}")))?,
    };
    let (version, after) = match query.get("continue") {
        "" if query.get("resourceVersionMatch") == "Exact" => (wanted, None),
        "" => match stale {
            Some(stale) if wanted == 0 => (stale.min(store.version()), None),
            _ => (store.version(), None),
        },
        text => {
            let (version, after) = read_token(text)?;
            match u64::try_from(version) {
                Ok(version) => {
                    if store.reaches(&kind.table, version).is_err() {
                        return Err(Failure::Version {
                            code: 410,
                            message: CUT_OFF.to_owned(),
                            proceed: Some(token(-1, &after)),
                        });
                    }
                    (version, Some(after))
                }
                // The client has been told that the rest is of another state.
                Err(_) => (store.version(), Some(after)),
            }
        }
    };
    let state = store
        .list_at(&kind.table, namespace, version)
        .ok_or_else(|| Failure::expired("The resourceVersion for the provided list is too old."))?;
    let mut objects = Vec::new();
    let mut remaining = 0;
    for stored in state {
        if after.as_ref().is_some_and(|after| place(&stored) <= *after) {
            continue;
        }
        if limit > 0 && objects.len() >= limit {
            remaining += 1;
            continue;
        }
        if kind.conversion.is_storage() {
            if selector.matches(&stored) {
                objects.push(Value::clone(&stored));
            }
        } else {
            let shown = present(kind, &stored);
            if selector.matches(&shown) {
                objects.push(shown);
            }
        }
    }
    let proceed = match objects.last() {
        Some(last) if remaining > 0 => token(i64::try_from(version).unwrap_or(i64::MAX), &place(last)),
        _ => String::new(),
    };
    Ok(Listing {
        objects,
        version,
        proceed,
        remaining: selector.is_everything().then_some(remaining),
    })
}
