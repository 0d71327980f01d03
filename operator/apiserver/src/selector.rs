//! Label and field selectors.

use serde_json::Value;

use crate::{
    kinds::Kind,
    object::{self, at},
    status::Failure,
};

/// One requirement on a label.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

/// What objects a list or watch is of. The empty selector selects all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    labels: Vec<Requirement>,
    /// Path, value, and whether it is to be equal.
    fields: Vec<(Vec<String>, String, bool)>,
}

impl Selector {
    /// Reads `labelSelector` and `fieldSelector` of a request.
    ///
    /// # Errors
    /// `Failure::BadRequest` when one cannot be read, or names a field that the kind does not select by.
    pub fn parse(labels: &str, fields: &str, kind: &Kind) -> Result<Self, Failure> {
        let mut selector = Self {
            labels: parse_labels(labels)?,
            fields: Vec::new(),
        };
        for term in fields.split(',').filter(|term| !term.is_empty()) {
            let (name, value, equal) = if let Some((name, value)) = term.split_once("!=") {
                (name, value, false)
            } else if let Some((name, value)) = term.split_once("==") {
                (name, value, true)
            } else if let Some((name, value)) = term.split_once('=') {
                (name, value, true)
            } else {
                return Err(Failure::BadRequest(format!(
                    "invalid field selector: invalid selector: '{fields}'; can't understand '{term}'"
                )));
            };
            let known = name == "metadata.name"
                || (name == "metadata.namespace" && kind.namespaced)
                || kind.selectable.iter().any(|path| path == name);
            if !known {
                return Err(Failure::BadRequest(if kind.custom {
                    format!("field label not supported: {name}")
                } else {
                    format!("field label \"{name}\" not supported for kind \"{}\"", kind.kind)
                }));
            }
            let path = name.split('.').map(str::to_owned).collect();
            selector.fields.push((path, value.to_owned(), equal));
        }
        Ok(selector)
    }

    /// Labels alone, as they stand in `matchLabels` of other objects.
    pub fn match_labels(labels: &Value) -> Self {
        let labels = labels
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| {
                Requirement::In(name.clone(), vec![value.as_str().unwrap_or_default().to_owned()])
            })
            .collect();
        Self {
            labels,
            fields: Vec::new(),
        }
    }

    /// Whether everything is selected.
    pub fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The name, if the selector asks for exactly one.
    pub fn only_name(&self) -> Option<&str> {
        self.fields
            .iter()
            .find(|(path, _, equal)| *equal && path.len() == 2 && path[0] == "metadata" && path[1] == "name")
            .map(|(_, value, _)| value.as_str())
    }

    /// Whether the object is selected.
    pub fn matches(&self, object: &Value) -> bool {
        if self.is_everything() {
            return true;
        }
        let label = |name: &str| {
            at(object, &["metadata", "labels"])
                .and_then(|labels| labels.get(name))
                .and_then(Value::as_str)
        };
        let labels = self.labels.iter().all(|requirement| match requirement {
            Requirement::In(name, values) => {
                label(name).is_some_and(|value| values.iter().any(|allowed| allowed == value))
            }
            Requirement::NotIn(name, values) => {
                label(name).is_none_or(|value| values.iter().all(|barred| barred != value))
            }
            Requirement::Exists(name) => label(name).is_some(),
            Requirement::Absent(name) => label(name).is_none(),
        });
        labels
            && self.fields.iter().all(|(path, value, equal)| {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                let found = match path.as_slice() {
                    ["source"] => object::text(object, &["source", "component"]).to_owned(),
                    path => match at(object, path) {
                        Some(Value::String(text)) => text.clone(),
                        Some(Value::Null) | None => default_of(path).to_owned(),
                        Some(other) => other.to_string(),
                    },
                };
                (found == *value) == *equal
            })
    }
}

/// What an absent field counts as: flags are false.
fn default_of(path: &[&str]) -> &'static str {
    match path {
        [.., "unschedulable" | "hostNetwork"] => "false",
        _ => "",
    }
}

fn parse_labels(text: &str) -> Result<Vec<Requirement>, Failure> {
    let mut requirements = Vec::new();
    for term in split(text) {
        let term = term.trim();
        if term.is_empty() {
            continue;
        }
        requirements.push(parse_requirement(term).ok_or_else(|| {
            Failure::BadRequest(format!(
                "unable to parse requirement: found '{term}', expected a label selector requirement"
            ))
        })?);
    }
    Ok(requirements)
}

/// Splits at commas that are in no parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut depth) = (0, 0_u32);
    for (index, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn parse_requirement(term: &str) -> Option<Requirement> {
    let valid = |name: &str| {
        !name.is_empty()
            && name
                .chars()
                .all(|character| character.is_ascii_alphanumeric() || "-_./".contains(character))
    };
    if let Some(open) = term.find('(') {
        let values: Vec<String> = term[open + 1..]
            .strip_suffix(')')?
            .split(',')
            .map(|value| value.trim().to_owned())
            .collect();
        let mut words = term[..open].split_whitespace();
        let (name, operator) = (words.next()?, words.next()?);
        if !valid(name) || words.next().is_some() {
            return None;
        }
        return match operator {
            "in" => Some(Requirement::In(name.to_owned(), values)),
            "notin" => Some(Requirement::NotIn(name.to_owned(), values)),
            _ => None,
        };
    }
    if let Some((name, value)) = term.split_once("!=") {
        let (name, value) = (name.trim(), value.trim());
        return valid(name).then(|| Requirement::NotIn(name.to_owned(), vec![value.to_owned()]));
    }
    if let Some((name, value)) = term.split_once('=') {
        let (name, value) = (name.trim(), value.trim_start_matches('=').trim());
        return valid(name).then(|| Requirement::In(name.to_owned(), vec![value.to_owned()]));
    }
    if let Some(name) = term.strip_prefix('!') {
        let name = name.trim();
        return valid(name).then(|| Requirement::Absent(name.to_owned()));
    }
    valid(term).then(|| Requirement::Exists(term.to_owned()))
}
