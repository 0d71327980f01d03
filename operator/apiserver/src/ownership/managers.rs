//! `metadata.managedFields`: one entry per manager, operation, version and subresource; kept up by updates, the base of
//! server-side apply.

use serde_json::{Value, json};

use super::{
    fields::Fields,
    typed::{self, compare, fields_of, merge, with_named},
};
use crate::{
    object,
    schema::Schema,
    status::{Cause, Failure},
};

/// Whether a manager applies or updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Server-side apply.
    Apply,
    /// Everything else.
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// One manager and what it owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manager {
    /// Its name.
    pub name: String,
    /// Apply or update.
    pub operation: Operation,
    /// The API version in which it wrote.
    pub api_version: String,
    /// The subresource through which it wrote, or the empty string.
    pub subresource: String,
    /// When it last changed something.
    pub time: String,
    /// What it owns.
    pub fields: Fields,
}

/// Who writes, and how.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'w> {
    /// The manager's name.
    pub name: &'w str,
    /// The API version of the request.
    pub api_version: &'w str,
    /// The subresource, or the empty string.
    pub subresource: &'w str,
    /// The present time as it is written into objects.
    pub time: &'w str,
    /// Fields that the endpoint resets, which nobody gains by writing there.
    pub ignored: &'w Fields,
}

/// Reads the entries of an object.
pub fn read(object: &Value) -> Vec<Manager> {
    object::at(object, &["metadata", "managedFields"])
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|entry| Manager {
            name: object::text(entry, &["manager"]).to_owned(),
            operation: if object::text(entry, &["operation"]) == "Apply" {
                Operation::Apply
            } else {
                Operation::Update
            },
            api_version: object::text(entry, &["apiVersion"]).to_owned(),
            subresource: object::text(entry, &["subresource"]).to_owned(),
            time: object::text(entry, &["time"]).to_owned(),
            fields: entry.get("fieldsV1").map(Fields::parse).unwrap_or_default(),
        })
        .collect()
}

/// Writes the entries into an object, in the order of the API: appliers first, then by time and name.
pub fn write(object: &mut Value, mut managers: Vec<Manager>) {
    managers.retain(|manager| !manager.fields.is_empty());
    managers.sort_by(|one, other| {
        (
            one.operation,
            &one.time,
            &one.name,
            &one.api_version,
            &one.subresource,
        )
            .cmp(&(
                other.operation,
                &other.time,
                &other.name,
                &other.api_version,
                &other.subresource,
            ))
    });
    let entries: Vec<Value> = managers
        .iter()
        .map(|manager| {
            let mut entry = json!({
                "manager": manager.name, "operation": manager.operation.as_str(),
                "apiVersion": manager.api_version, "time": manager.time,
                "fieldsType": "FieldsV1", "fieldsV1": manager.fields.to_value(),
            });
            if !manager.subresource.is_empty() {
                entry["subresource"] = json!(manager.subresource);
            }
            entry
        })
        .collect();
    let metadata = object::metadata_mut(object);
    if entries.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".to_owned(), Value::Array(entries));
    }
}

/// Takes out what nobody owns: identity and what the server keeps.
fn strip(mut fields: Fields) -> Fields {
    fields.remove(&["f:apiVersion"]);
    fields.remove(&["f:kind"]);
    for name in [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ] {
        fields.remove(&["f:metadata", &format!("f:{name}")]);
    }
    fields.remove(&["f:metadata"]);
    fields
}

/// Objects are compared without their managers.
fn bare(object: &Value) -> Value {
    let mut object = object.clone();
    object::metadata_mut(&mut object).remove("managedFields");
    object
}

/// Keeps the entries up after an update: whoever owned what has changed loses it, the writer gains it. `old` is the empty
/// object of the kind when this is a creation; `new` may bring entries of its own, which count if they are valid.
pub fn update(schema: &Schema, old: &Value, new: &mut Value, writer: Writer<'_>) {
    let given = object::at(new, &["metadata", "managedFields"]).and_then(Value::as_array);
    // An update with an empty list resets; one without a list keeps.
    let reset = given.is_some_and(|list| list.is_empty() || list.first().is_some_and(is_blank));
    let mut managers = if given.is_some() { read(new) } else { read(old) };
    // Nobody's object stays nobody's until somebody applies to it.
    let untracked = managers.is_empty() && !object::uid(old).is_empty();
    if reset || untracked {
        write(new, Vec::new());
        return;
    }
    let compared = compare(schema, &bare(old), &bare(new)).without(writer.ignored);
    let changed = compared.set();
    let own = |manager: &Manager| {
        manager.operation == Operation::Update
            && manager.name == writer.name
            && manager.api_version == writer.api_version
            && manager.subresource == writer.subresource
    };
    for manager in managers.iter_mut().filter(|manager| !own(manager)) {
        manager.fields = manager.fields.difference(&changed).difference(&compared.removed);
    }
    let gained = strip(changed.clone());
    match managers.iter_mut().find(|manager| own(manager)) {
        Some(manager) => {
            let fields = manager
                .fields
                .difference(&compared.removed)
                .union(&gained)
                .difference_below(writer.ignored);
            let fields = strip(fields);
            if fields != manager.fields || !compared.is_same() {
                manager.time = writer.time.to_owned();
            }
            manager.fields = fields;
        }
        None => managers.push(Manager {
            name: writer.name.to_owned(),
            operation: Operation::Update,
            api_version: writer.api_version.to_owned(),
            subresource: writer.subresource.to_owned(),
            time: writer.time.to_owned(),
            fields: gained,
        }),
    }
    write(new, managers);
}

fn is_blank(entry: &Value) -> bool {
    entry.as_object().is_some_and(serde_json::Map::is_empty)
}

/// Server-side apply of `config` to `live`: the merged object with its entries.
///
/// # Errors
/// `Failure::ApplyConflict` when a field of another manager would change and `force` is not set.
pub fn apply(
    schema: &Schema,
    live: &Value,
    config: &Value,
    writer: Writer<'_>,
    force: bool,
) -> Result<Value, Failure> {
    let mut managers = read(live);
    let live_bare = bare(live);
    if managers.is_empty() && !object::uid(live).is_empty() {
        // What was there before anybody was known belongs to one of a name that says so.
        let nothing =
            serde_json::json!({"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": {}});
        let fields = strip(
            compare(schema, &nothing, &live_bare)
                .without(writer.ignored)
                .set(),
        );
        managers.push(Manager {
            name: "before-first-apply".to_owned(),
            operation: Operation::Update,
            api_version: writer.api_version.to_owned(),
            subresource: String::new(),
            time: writer.time.to_owned(),
            fields,
        });
    }
    let config = bare(config);
    let own = |manager: &Manager| {
        manager.operation == Operation::Apply
            && manager.name == writer.name
            && manager.subresource == writer.subresource
    };
    let last = managers
        .iter()
        .find(|manager| own(manager))
        .map(|manager| manager.fields.clone());
    let fields = strip(fields_of(schema, &config).difference_below(writer.ignored));
    let merged = merge(schema, &live_bare, &config);
    let mut merged = match &last {
        Some(last) if !last.is_empty() => prune(schema, &merged, last, &fields, &managers, &own),
        _ => merged,
    };
    let compared = compare(schema, &live_bare, &merged).without(writer.ignored);
    let changed = compared.set();
    let mut conflicts = Vec::new();
    for manager in managers.iter().filter(|manager| !own(manager)) {
        let taken = manager.fields.intersection(&changed);
        if !taken.is_empty() {
            conflicts.push((manager.clone(), taken));
        }
    }
    if !conflicts.is_empty() && !force {
        return Err(conflict(&conflicts));
    }
    for manager in managers.iter_mut().filter(|manager| !own(manager)) {
        manager.fields = manager.fields.difference(&changed).difference(&compared.removed);
    }
    let changed_set = last.as_ref() != Some(&fields);
    match managers.iter_mut().find(|manager| own(manager)) {
        Some(manager) => {
            if changed_set || !compared.is_same() {
                manager.time = writer.time.to_owned();
            }
            manager.fields = fields;
            manager.api_version = writer.api_version.to_owned();
        }
        None => managers.push(Manager {
            name: writer.name.to_owned(),
            operation: Operation::Apply,
            api_version: writer.api_version.to_owned(),
            subresource: writer.subresource.to_owned(),
            time: writer.time.to_owned(),
            fields,
        }),
    }
    write(&mut merged, managers);
    Ok(merged)
}

/// Removes what the manager applied last time, does not apply now, and nobody else owns.
fn prune(
    schema: &Schema,
    merged: &Value,
    last: &Fields,
    now: &Fields,
    managers: &[Manager],
    own: &dyn Fn(&Manager) -> bool,
) -> Value {
    let named = |fields: &Fields| with_named(schema, fields);
    let all = |value: &Value| named(&fields_of(schema, value));
    let pruned = typed::remove(schema, merged, &named(last));
    // Add back what somebody owns, the applier by what it applies now.
    let mut owned = now.clone();
    for manager in managers.iter().filter(|manager| !own(manager)) {
        owned.extend(&manager.fields);
    }
    let everything = all(merged);
    let keep = all(&pruned).union(&named(&owned));
    let pruned = typed::remove(schema, merged, &everything.difference(&keep));
    // Add back what the applier never owned.
    let gone = everything.difference(&all(&pruned)).intersection(&named(last));
    typed::remove(schema, merged, &gone)
}

fn conflict(conflicts: &[(Manager, Fields)]) -> Failure {
    let mut causes = Vec::new();
    let mut lines = Vec::new();
    for (manager, fields) in conflicts {
        let mut who = format!("\"{}\"", manager.name);
        if !manager.subresource.is_empty() {
            who = format!("{who} with subresource \"{}\"", manager.subresource);
        }
        if manager.operation == Operation::Update {
            who = format!("{who} using {}", manager.api_version);
        }
        lines.push(format!("conflicts with {who}:"));
        for path in fields.paths() {
            lines.push(format!("- {path}"));
            causes.push(Cause {
                reason: "FieldManagerConflict",
                message: format!("conflict with {who}"),
                field: path,
            });
        }
    }
    let message = match causes.as_slice() {
        [one] => format!("Apply failed with 1 conflict: {}: {}", one.message, one.field),
        several => format!(
            "Apply failed with {} conflicts: {}",
            several.len(),
            lines.join("\n")
        ),
    };
    Failure::ApplyConflict { message, causes }
}
