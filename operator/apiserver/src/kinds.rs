//! Kinds that are served: what they are called, what they have, and the registry of them. One entry per version of a
//! kind; the versions of one resource share a table of the store.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use crate::{
    ownership::fields::Fields,
    schema::{Schema, rules::Rules},
};

pub mod builtin;
pub mod conversion;
pub mod custom;
pub mod defaults;
pub mod limits;

/// A column of the table that `kubectl get` shows.
#[derive(Debug, Clone)]
pub struct Column {
    /// The head.
    pub name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: String,
    /// The format, as `name`.
    pub format: String,
    /// What it means.
    pub description: String,
    /// Zero is shown always, more only with `-o wide`.
    pub priority: i64,
    /// Where the value is, as `.status.phase`.
    pub path: String,
}

/// One version of a kind.
#[derive(Debug)]
pub struct Kind {
    /// The API group; empty for the core.
    pub group: String,
    /// The version.
    pub version: String,
    /// `group/version`, or the version alone for the core.
    pub api: String,
    /// The name of the kind.
    pub kind: String,
    /// The name of lists of it.
    pub list_kind: String,
    /// The name in paths.
    pub plural: String,
    /// The name for people.
    pub singular: String,
    /// Other names that `kubectl` takes.
    pub short_names: Vec<String>,
    /// Sets of kinds that it is in, as `all`.
    pub categories: Vec<String>,
    /// Whether objects are in namespaces.
    pub namespaced: bool,
    /// Whether it comes from a CustomResourceDefinition.
    pub custom: bool,
    /// Whether status is a subresource.
    pub has_status: bool,
    /// Whether there is a generation.
    pub has_generation: bool,
    /// The table of the store: plural and group as `workspaces.jvs.io`.
    pub table: String,
    /// What objects are.
    pub schema: Schema,
    /// The schema as OpenAPI has it; for built-in kinds a reference.
    pub openapi: Value,
    /// The rules in CEL.
    pub rules: Option<Rules>,
    /// The columns of tables beside the name.
    pub columns: Vec<Column>,
    /// Paths for field selectors beside name and namespace, as `spec.nodeName`.
    pub selectable: Vec<String>,
    /// The object without any field set, as it is before a creation: ownership compares with it.
    pub blank: Value,
    /// Fields that writes to the object itself do not change.
    pub reset: Fields,
    /// Fields that writes to the status do not change.
    pub status_reset: Fields,
    /// How objects in the table become objects of this version.
    pub conversion: conversion::Conversion,
}

impl Kind {
    /// `group/version`, or the version alone for the core.
    pub fn api_version(&self) -> String {
        self.api.clone()
    }

    /// Plural and group, as messages name resources: `workspaces.jvs.io`, `configmaps`.
    pub fn resource(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }
}

/// Group, version and plural.
pub type Served = (String, String, String);

/// All kinds that are served now.
#[derive(Debug, Default)]
pub struct Registry {
    kinds: BTreeMap<Served, Arc<Kind>>,
}

impl Registry {
    /// Serves a kind; replaces one of the same group, version and plural.
    pub fn insert(&mut self, kind: Kind) {
        let key = (kind.group.clone(), kind.version.clone(), kind.plural.clone());
        self.kinds.insert(key, Arc::new(kind));
    }

    /// Serves the versions of a table no longer.
    pub fn remove_table(&mut self, table: &str) {
        self.kinds.retain(|_, kind| kind.table != table || !kind.custom);
    }

    /// The kind that a path names.
    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        self.kinds
            .get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
            .cloned()
    }

    /// Whether built-in kinds of this group and version are served.
    pub fn has_builtin(&self, group: &str, version: &str) -> bool {
        self.kinds
            .values()
            .any(|kind| !kind.custom && kind.group == group && kind.version == version)
    }

    /// The kind that an object, or a reference to one, names. The version matters only if the kind has it.
    pub fn of(&self, api_version: &str, kind: &str) -> Option<Arc<Kind>> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let mut found = None;
        for entry in self.kinds.values() {
            if entry.group == group && entry.kind == kind {
                if entry.version == version {
                    return Some(Arc::clone(entry));
                }
                found = Some(Arc::clone(entry));
            }
        }
        found
    }

    /// Some version of the kind whose objects are in this table.
    pub fn of_table(&self, table: &str) -> Option<Arc<Kind>> {
        self.kinds
            .values()
            .find(|kind| kind.table == table && kind.conversion.is_storage())
            .or_else(|| self.kinds.values().find(|kind| kind.table == table))
            .cloned()
    }

    /// All kinds, by group, version and plural.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.kinds.values()
    }
}
