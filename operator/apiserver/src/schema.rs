//! Schemas of kinds: what a field is, how lists merge, what defaults and bounds there are. Made of the structural
//! schema of a CustomResourceDefinition (`apiextensions/v1.JSONSchemaProps`) or, for the kinds that every cluster has,
//! of the definitions in `k8s-openapi` with the facts that those lack (`builtin`).
//!
//! A node may refer to a definition of a built-in type; `resolve` follows. Pruning, defaulting and validation are in the
//! modules below; merging and field ownership are in `crate::ownership`.

use std::{collections::BTreeMap, sync::Arc};

use regex::Regex;
use serde_json::Value;

pub mod builtin;
pub mod defaults;
pub mod prune;
pub mod rules;
pub mod validate;

/// The JSON type that a schema allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A map.
    Object,
    /// A list.
    Array,
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Boolean,
}

impl Type {
    /// As schemas write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }
}

/// How a list merges (`x-kubernetes-list-type`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ListType {
    /// Replaced as a whole.
    #[default]
    Atomic,
    /// Scalars, each once.
    Set,
    /// Maps, known by the values of these keys.
    Map(Vec<String>),
}

/// What a node is for merging and ownership.
#[derive(Debug, Clone, Copy)]
pub enum Atom<'s> {
    /// One value, whatever its shape.
    Leaf,
    /// Fields with names that the schema knows, or any names.
    Map,
    /// A list that merges by element.
    List(&'s ListType),
    /// No schema: maps by field, lists as a whole.
    Deduced,
}

/// A node of a schema.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    /// The name of a built-in definition that stands for this node.
    pub reference: Option<String>,
    /// The type; none means any.
    pub kind: Option<Type>,
    /// The format of a string or number.
    pub format: Option<String>,
    /// Whether null is a value of its own.
    pub nullable: bool,
    /// Known fields.
    pub properties: BTreeMap<String, Arc<Self>>,
    /// What all other fields are.
    pub additional: Option<Arc<Self>>,
    /// What the elements are.
    pub items: Option<Arc<Self>>,
    /// Fields that must be there.
    pub required: Vec<String>,
    /// The allowed values.
    pub allowed: Option<Vec<Value>>,
    /// What a string must match: the text and its compiled form.
    pub pattern: Option<(String, Regex)>,
    /// The smallest number, and whether it is excluded.
    pub minimum: Option<(f64, bool)>,
    /// The largest number, and whether it is excluded.
    pub maximum: Option<(f64, bool)>,
    /// What a number must be a multiple of.
    pub multiple_of: Option<f64>,
    /// Characters, at least.
    pub min_length: Option<usize>,
    /// Characters, at most.
    pub max_length: Option<usize>,
    /// Elements, at least.
    pub min_items: Option<usize>,
    /// Elements, at most.
    pub max_items: Option<usize>,
    /// Fields, at least.
    pub min_properties: Option<usize>,
    /// Fields, at most.
    pub max_properties: Option<usize>,
    /// No element twice.
    pub unique_items: bool,
    /// All of these hold.
    pub all_of: Vec<Self>,
    /// At least one of these holds.
    pub any_of: Vec<Self>,
    /// Exactly one of these holds.
    pub one_of: Vec<Self>,
    /// This does not hold.
    pub not: Option<Box<Self>>,
    /// The value of an absent field.
    pub default: Option<Value>,
    /// Unknown fields stay.
    pub preserve_unknown: bool,
    /// A whole object with kind, version and metadata.
    pub embedded: bool,
    /// A number or a string.
    pub int_or_string: bool,
    /// How a list merges.
    pub list_type: ListType,
    /// The map is one value.
    pub atomic_map: bool,
    /// The map is not one value, although the definition that it refers to is.
    pub granular: bool,
    /// The key of strategic merge patches, for built-in lists.
    pub patch_key: Option<String>,
}

impl Schema {
    /// The node itself, or what it refers to.
    pub fn resolve(&self) -> &Self {
        match &self.reference {
            Some(name) => builtin::definition(name).map_or(self, Self::resolve),
            None => self,
        }
    }

    /// The schema of the field `name`, with whether the schema names it.
    pub fn field(&self, name: &str) -> Option<(&Self, bool)> {
        let node = self.resolve();
        match node.properties.get(name) {
            Some(field) => Some((field, true)),
            None => node.additional.as_deref().map(|field| (field, false)),
        }
    }

    /// The schema of the elements.
    pub fn element(&self) -> Option<&Self> {
        self.resolve().items.as_deref()
    }

    /// What the node is for merging.
    pub fn atom(&self) -> Atom<'_> {
        let node = self.resolve();
        if node.int_or_string {
            return Atom::Leaf;
        }
        match node.kind {
            Some(Type::Object) if (self.atomic_map || node.atomic_map) && !self.granular => Atom::Leaf,
            Some(Type::Object)
                if node.properties.is_empty() && node.additional.is_none() && node.preserve_unknown =>
            {
                Atom::Deduced
            }
            Some(Type::Object) => Atom::Map,
            Some(Type::Array) => match &self.list_type {
                ListType::Atomic => match &node.list_type {
                    ListType::Atomic => Atom::Leaf,
                    list => Atom::List(list),
                },
                list => Atom::List(list),
            },
            Some(_) => Atom::Leaf,
            None => Atom::Deduced,
        }
    }

    /// Reads a schema as it stands in a CustomResourceDefinition, or in the definitions of `k8s-openapi`.
    ///
    /// # Errors
    /// A sentence, when a pattern is no regular expression.
    pub fn parse(value: &Value) -> Result<Self, String> {
        let mut schema = Self::default();
        let Some(map) = value.as_object() else {
            return Ok(schema);
        };
        let flag = |name: &str| map.get(name).and_then(Value::as_bool).unwrap_or(false);
        let size = |name: &str| {
            map.get(name)
                .and_then(Value::as_u64)
                .and_then(|size| usize::try_from(size).ok())
        };
        let float = |name: &str| map.get(name).and_then(Value::as_f64);
        let several = |name: &str| -> Result<Vec<Self>, String> {
            map.get(name)
                .and_then(Value::as_array)
                .map_or(Ok(Vec::new()), |list| list.iter().map(Self::parse).collect())
        };
        if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
            schema.reference = reference.rsplit('/').next().map(str::to_owned);
        }
        match map.get("type") {
            Some(Value::String(kind)) => schema.kind = Type::parse(kind),
            Some(Value::Array(kinds)) => {
                schema.nullable = kinds.iter().any(|kind| kind == "null");
                schema.kind = kinds.iter().filter_map(Value::as_str).find_map(Type::parse);
            }
            _ => {}
        }
        schema.format = map.get("format").and_then(Value::as_str).map(str::to_owned);
        schema.nullable |= flag("nullable");
        if let Some(fields) = map.get("properties").and_then(Value::as_object) {
            for (name, field) in fields {
                schema
                    .properties
                    .insert(name.clone(), Arc::new(Self::parse(field)?));
            }
        }
        match map.get("additionalProperties") {
            Some(Value::Bool(true)) => {
                schema.additional = Some(Arc::new(Self {
                    preserve_unknown: true,
                    ..Self::default()
                }));
            }
            Some(other @ Value::Object(_)) => schema.additional = Some(Arc::new(Self::parse(other)?)),
            _ => {}
        }
        if let Some(items) = map.get("items") {
            schema.items = Some(Arc::new(Self::parse(items)?));
        }
        schema.required = map
            .get("required")
            .and_then(Value::as_array)
            .map(|names| {
                names
                    .iter()
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect()
            })
            .unwrap_or_default();
        schema.allowed = map.get("enum").and_then(Value::as_array).cloned();
        if let Some(pattern) = map.get("pattern").and_then(Value::as_str) {
            let compiled = Regex::new(pattern).map_err(|error| format!("pattern {pattern:?}: {error}"))?;
            schema.pattern = Some((pattern.to_owned(), compiled));
        }
        schema.minimum = float("minimum").map(|bound| (bound, flag("exclusiveMinimum")));
        schema.maximum = float("maximum").map(|bound| (bound, flag("exclusiveMaximum")));
        schema.multiple_of = float("multipleOf");
        schema.min_length = size("minLength");
        schema.max_length = size("maxLength");
        schema.min_items = size("minItems");
        schema.max_items = size("maxItems");
        schema.min_properties = size("minProperties");
        schema.max_properties = size("maxProperties");
        schema.unique_items = flag("uniqueItems");
        schema.all_of = several("allOf")?;
        schema.any_of = several("anyOf")?;
        schema.one_of = several("oneOf")?;
        if let Some(not) = map.get("not") {
            schema.not = Some(Box::new(Self::parse(not)?));
        }
        schema.default = map.get("default").cloned();
        schema.preserve_unknown = flag("x-kubernetes-preserve-unknown-fields");
        schema.embedded = flag("x-kubernetes-embedded-resource");
        schema.int_or_string =
            flag("x-kubernetes-int-or-string") || schema.format.as_deref() == Some("int-or-string");
        let keys = || -> Vec<String> {
            map.get("x-kubernetes-list-map-keys")
                .and_then(Value::as_array)
                .map(|keys| keys.iter().filter_map(Value::as_str).map(str::to_owned).collect())
                .unwrap_or_default()
        };
        schema.list_type = match map.get("x-kubernetes-list-type").and_then(Value::as_str) {
            Some("set") => ListType::Set,
            Some("map") => ListType::Map(keys()),
            _ => ListType::Atomic,
        };
        schema.atomic_map = map.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic");
        Ok(schema)
    }
}
