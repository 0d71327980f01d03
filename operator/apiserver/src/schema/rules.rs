//! Rules of schemas in CEL (`x-kubernetes-validations`), by `kube-cel`.
//!
//! Ratcheting: a rule that fails on a part that an update does not change is not held against the update, unless the
//! rule compares with the old value.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use kube_cel::{CompiledSchema, RootContext, Validator, compile_schema};
use serde_json::Value;

use crate::status::Cause;

/// The compiled rules of one version of a kind.
pub struct Rules {
    compiled: CompiledSchema,
    context: RootContext,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Rules").finish_non_exhaustive()
    }
}

thread_local! {
    /// Made once per thread: registering the functions of Kubernetes takes longer than most rules.
    static VALIDATOR: Validator = Validator::new();
}

impl Rules {
    /// Compiles the rules of a schema; none if there are none.
    ///
    /// # Errors
    /// A sentence for every rule that does not compile.
    pub fn compile(
        schema: &Value,
        group: &str,
        version: &str,
        kind: &str,
    ) -> Result<Option<Self>, Vec<String>> {
        if !has_rules(schema) {
            return Ok(None);
        }
        let compiled = compile_schema(schema);
        let mut errors = Vec::new();
        compilation_errors(&compiled, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        let api_version = if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        };
        Ok(Some(Self {
            compiled,
            context: RootContext {
                api_version,
                api_group: group.to_owned(),
                kind: kind.to_owned(),
            },
        }))
    }

    /// Evaluates the rules on `object`, which replaces `old`.
    pub fn check(&self, object: &Value, old: Option<&Value>) -> Vec<Cause> {
        // The library has arithmetic that overflows, of quantities for instance. Nothing of it is changed by an evaluation, so that the next one is not affected.
        let evaluated = catch_unwind(AssertUnwindSafe(|| {
            VALIDATOR.with(|validator| {
                validator.validate_compiled_with_context(&self.compiled, object, old, Some(&self.context))
            })
        }));
        let errors = match evaluated {
            Ok(Ok(())) => return Vec::new(),
            Ok(Err(errors)) => errors,
            Err(panic) => return vec![unevaluated(panic.as_ref())],
        };
        errors
            .into_vec()
            .into_iter()
            .filter(|error| {
                let unchanged = old.is_some_and(|old| {
                    let (before, after) = (locate(old, &error.field_path), locate(object, &error.field_path));
                    before.is_some() && before == after
                });
                !unchanged || error.rule.contains("oldSelf")
            })
            .map(|error| {
                let (reason, prefix) = match error.reason.as_deref() {
                    Some("FieldValueForbidden") => ("FieldValueForbidden", "Forbidden".to_owned()),
                    Some("FieldValueRequired") => ("FieldValueRequired", "Required value".to_owned()),
                    Some("FieldValueDuplicate") => (
                        "FieldValueDuplicate",
                        format!("Duplicate value: {}", shown_at(object, &error.field_path)),
                    ),
                    _ => (
                        "FieldValueInvalid",
                        format!("Invalid value: {}", shown_at(object, &error.field_path)),
                    ),
                };
                Cause {
                    reason,
                    message: format!("{prefix}: {}", error.message),
                    field: error.field_path,
                }
            })
            .collect()
    }
}

/// What a rule that could not be evaluated is told as: the real server refuses as well what its rules cannot judge.
fn unevaluated(panic: &(dyn Any + Send)) -> Cause {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    Cause {
        reason: "FieldValueInvalid",
        message: format!("Invalid value: \"object\": a rule cannot be evaluated on this object: {text}"),
        field: String::new(),
    }
}

/// Messages of rules show the type of the value, not the value.
fn shown_at(object: &Value, path: &str) -> String {
    let name = match locate(object, path) {
        None | Some(Value::Null) => return "null".to_owned(),
        Some(Value::Bool(_)) => "boolean",
        Some(Value::Number(number)) if number.is_f64() => "number",
        Some(Value::Number(_)) => "integer",
        Some(Value::String(_)) => "string",
        Some(Value::Array(_)) => "array",
        Some(Value::Object(_)) => "object",
    };
    format!("\"{name}\"")
}

fn has_rules(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => map.contains_key("x-kubernetes-validations") || map.values().any(has_rules),
        Value::Array(list) => list.iter().any(has_rules),
        _ => false,
    }
}

fn compilation_errors(schema: &CompiledSchema, errors: &mut Vec<String>) {
    errors.extend(schema.compilation_errors().into_iter().map(ToString::to_string));
    for child in schema.properties.values() {
        compilation_errors(child, errors);
    }
    for child in [&schema.items, &schema.additional_properties]
        .into_iter()
        .flatten()
    {
        compilation_errors(child, errors);
    }
}

/// The value at a path as `spec.ports[0].name`.
fn locate<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    if path.is_empty() {
        return Some(value);
    }
    let mut value = value;
    for part in path.split('.') {
        let mut pieces = part.split('[');
        let name = pieces.next().unwrap_or_default();
        if !name.is_empty() {
            value = value.get(name)?;
        }
        for index in pieces {
            let index = index.trim_end_matches(']');
            value = match index.parse::<usize>() {
                Ok(index) => value.get(index)?,
                Err(_) => value.get(index.trim_matches('"'))?,
            };
        }
    }
    Some(value)
}
