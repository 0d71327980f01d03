//! Sets of fields: tries of path elements in the spelling of `FieldsV1` (`f:name`, `k:{…}`, `v:…`, `i:3`).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A set of paths. The path of a node can be a member, or only lead to members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(BTreeMap<String, Node>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Node {
    member: bool,
    below: Fields,
}

impl Fields {
    /// Reads `FieldsV1`. What is no map counts as empty.
    pub fn parse(value: &Value) -> Self {
        let mut fields = Self::default();
        let Some(map) = value.as_object() else {
            return fields;
        };
        for (element, inner) in map {
            if element == "." {
                continue;
            }
            let member = inner
                .as_object()
                .is_none_or(|inner| inner.is_empty() || inner.contains_key("."));
            fields.0.insert(
                element.clone(),
                Node {
                    member,
                    below: Self::parse(inner),
                },
            );
        }
        fields
    }

    /// Writes `FieldsV1`.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        for (element, node) in &self.0 {
            let mut inner = node.below.to_value();
            if node.member
                && !node.below.is_empty()
                && let Some(inner) = inner.as_object_mut()
            {
                let below = std::mem::take(inner);
                inner.insert(".".to_owned(), Value::Object(Map::new()));
                inner.extend(below);
            }
            map.insert(element.clone(), inner);
        }
        Value::Object(map)
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(|node| !node.member && node.below.is_empty())
    }

    /// Adds a path.
    pub fn insert(&mut self, path: &[String]) {
        if let [element, rest @ ..] = path {
            let node = self.0.entry(element.clone()).or_default();
            if rest.is_empty() {
                node.member = true;
            } else {
                node.below.insert(rest);
            }
        }
    }

    /// Whether the element itself is a member.
    pub fn has(&self, element: &str) -> bool {
        self.0.get(element).is_some_and(|node| node.member)
    }

    /// The members below the element.
    pub fn below(&self, element: &str) -> Option<&Self> {
        self.0
            .get(element)
            .map(|node| &node.below)
            .filter(|below| !below.is_empty())
    }

    /// The elements of this level.
    pub fn elements(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Members of either.
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        all.extend(other);
        all
    }

    /// Adds the members of `other`.
    pub fn extend(&mut self, other: &Self) {
        for (element, theirs) in &other.0 {
            let node = self.0.entry(element.clone()).or_default();
            node.member |= theirs.member;
            node.below.extend(&theirs.below);
        }
    }

    /// Members of both.
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |mine, theirs| mine && theirs)
    }

    /// Members that `other` does not have.
    pub fn difference(&self, other: &Self) -> Self {
        self.combine(other, |mine, theirs| mine && !theirs)
    }

    fn combine(&self, other: &Self, keep: fn(bool, bool) -> bool) -> Self {
        let nothing = Node::default();
        let mut fields = Self::default();
        for (element, mine) in &self.0 {
            let theirs = other.0.get(element).unwrap_or(&nothing);
            let node = Node {
                member: keep(mine.member, theirs.member),
                below: mine.below.combine(&theirs.below, keep),
            };
            if node.member || !node.below.0.is_empty() {
                fields.0.insert(element.clone(), node);
            }
        }
        fields
    }

    /// Members that are neither in `other` nor below a member of it.
    pub fn difference_below(&self, other: &Self) -> Self {
        let mut fields = Self::default();
        for (element, mine) in &self.0 {
            match other.0.get(element) {
                Some(theirs) if theirs.member => {}
                Some(theirs) => {
                    let node = Node {
                        member: mine.member,
                        below: mine.below.difference_below(&theirs.below),
                    };
                    if node.member || !node.below.0.is_empty() {
                        fields.0.insert(element.clone(), node);
                    }
                }
                None => {
                    fields.0.insert(element.clone(), mine.clone());
                }
            }
        }
        fields
    }

    /// Removes one path, not what is below.
    pub fn remove(&mut self, path: &[&str]) {
        if let [element, rest @ ..] = path
            && let Some(node) = self.0.get_mut(*element)
        {
            if rest.is_empty() {
                node.member = false;
            } else {
                node.below.remove(rest);
            }
            if !node.member && node.below.0.is_empty() {
                self.0.remove(*element);
            }
        }
    }

    /// Makes all paths that `named` says yes to, and that lead to members, members. The argument is the path of the node.
    pub(crate) fn mark(&mut self, path: &mut Vec<String>, named: &dyn Fn(&[String]) -> bool) {
        for (element, node) in &mut self.0 {
            path.push(element.clone());
            node.below.mark(path, named);
            if !node.member && !node.below.is_empty() && named(path) {
                node.member = true;
            }
            path.pop();
        }
    }

    /// All members, as messages write them: `.spec.ports[port=80].name`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, prefix: &str, paths: &mut Vec<String>) {
        for (element, node) in &self.0 {
            let path = format!("{prefix}{}", spelled(element));
            if node.member {
                paths.push(path.clone());
            }
            node.below.collect(&path, paths);
        }
    }
}

fn spelled(element: &str) -> String {
    if let Some(name) = element.strip_prefix("f:") {
        return format!(".{name}");
    }
    if let Some(keys) = element.strip_prefix("k:")
        && let Ok(Value::Object(keys)) = serde_json::from_str(keys)
    {
        let keys: Vec<String> = keys
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        return format!("[{}]", keys.join(","));
    }
    if let Some(value) = element.strip_prefix("v:") {
        return format!("[={value}]");
    }
    format!("[{}]", element.trim_start_matches("i:"))
}
