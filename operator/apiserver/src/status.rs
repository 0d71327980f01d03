//! Failures as Kubernetes tells them: an HTTP code and a `Status` object with a reason, details and causes
//! (apimachinery, `meta/v1.Status`). Clients decide by code and reason; people read the message, so both are as
//! the real server writes them.

use http::StatusCode;
use serde_json::{Value, json};

/// One field that is at fault, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Machine readable, for example `FieldValueRequired` or `FieldManagerConflict`.
    pub reason: &'static str,
    /// What is wrong, without the path.
    pub message: String,
    /// The path of the field, for example `spec.ports[0].port`; empty for the whole object.
    pub field: String,
}

impl Cause {
    /// A cause as it stands in the message of the whole: path, then what is wrong.
    pub fn sentence(&self) -> String {
        let field = if self.field.is_empty() {
            "<nil>"
        } else {
            &self.field
        };
        format!("{field}: {}", self.message)
    }
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The request makes no sense as it stands (400).
    #[error("{0}")]
    BadRequest(String),
    /// No user belongs to the credentials (401).
    #[error("Unauthorized")]
    Unauthorized,
    /// The user may not do this, or nobody may (403).
    #[error("{message}")]
    Forbidden {
        /// Plural and group, as `configmaps` or `workspaces.jvs.io`.
        resource: String,
        /// The object's name; may be empty.
        name: String,
        /// The whole message.
        message: String,
        /// Why, if there is more than the message.
        causes: Vec<Cause>,
    },
    /// There is no such object (404).
    #[error("{resource} \"{name}\" not found")]
    NotFound {
        /// Plural and group.
        resource: String,
        /// The object's name.
        name: String,
    },
    /// There is no such path (404).
    #[error("the server could not find the requested resource")]
    NoSuchPath,
    /// An object of this name exists (409).
    #[error("{resource} \"{name}\" already exists")]
    AlreadyExists {
        /// Plural and group.
        resource: String,
        /// The object's name.
        name: String,
    },
    /// The object is not what the request supposes (409).
    #[error("Operation cannot be fulfilled on {resource} \"{name}\": {message}")]
    Conflict {
        /// Plural and group.
        resource: String,
        /// The object's name.
        name: String,
        /// What does not fit.
        message: String,
    },
    /// Fields belong to other managers (409, server-side apply).
    #[error("{message}")]
    ApplyConflict {
        /// The whole message.
        message: String,
        /// One per manager and field.
        causes: Vec<Cause>,
    },
    /// The object breaks its schema or the rules of its kind (422).
    #[error("{message}")]
    Invalid {
        /// The API group.
        group: String,
        /// The kind.
        kind: String,
        /// The object's name.
        name: String,
        /// The whole message.
        message: String,
        /// One per field.
        causes: Vec<Cause>,
    },
    /// The version that was asked for is no longer, or not yet, to be had (410 or 504).
    #[error("{message}")]
    Version {
        /// 410 (`Expired`) or 504 (`Timeout`).
        code: u16,
        /// What was asked for and what there is.
        message: String,
        /// A token that goes on at the present state; for lists that were cut off.
        proceed: Option<String>,
    },
    /// There is nothing of this group and version (404, without a Status object).
    #[error("404 page not found")]
    NoSuchPage,
    /// This resource has no such verb (405).
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    /// The body is of a type that is not understood (415).
    #[error("{0}")]
    UnsupportedMediaType(String),
    /// The body is too large (413).
    #[error("Request entity too large: limit is {0}")]
    TooLarge(usize),
    /// Too much is asked for (429); `retry_after` in seconds.
    #[error("the server has received too many requests and has asked us to try again later")]
    TooManyRequests {
        /// Seconds until it may be tried again.
        retry_after: u32,
    },
    /// A patch that does not fit the object (422).
    #[error("the server rejected our request due to an error in our request")]
    PatchDoesNotFit,
    /// What the real server answers without a reason (500).
    #[error("{0}")]
    Unexplained(String),
    /// Something went wrong here (500, or the code given by a planned fault).
    #[error("{message}")]
    Internal {
        /// The HTTP code, 500 or more.
        code: u16,
        /// What went wrong.
        message: String,
    },
}

impl Failure {
    /// An invalid object; the message is composed of the causes.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> Self {
        let mut sentences: Vec<String> = causes.iter().map(Cause::sentence).collect();
        sentences.dedup();
        let list = match sentences.as_slice() {
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        let qualified = if group.is_empty() {
            kind.to_owned()
        } else {
            format!("{kind}.{group}")
        };
        Self::Invalid {
            group: group.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            message: format!("{qualified} \"{name}\" is invalid: {list}"),
            causes,
        }
    }

    /// A version that the log no longer holds.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::Version {
            code: 410,
            message: message.into(),
            proceed: None,
        }
    }

    /// The HTTP status code.
    pub fn code(&self) -> StatusCode {
        let code = match self {
            Self::BadRequest(_) => 400,
            Self::Unauthorized => 401,
            Self::Forbidden { .. } => 403,
            Self::NotFound { .. } | Self::NoSuchPath | Self::NoSuchPage => 404,
            Self::MethodNotAllowed => 405,
            Self::AlreadyExists { .. } | Self::Conflict { .. } | Self::ApplyConflict { .. } => 409,
            Self::TooLarge(_) => 413,
            Self::UnsupportedMediaType(_) => 415,
            Self::Invalid { .. } | Self::PatchDoesNotFit => 422,
            Self::Unexplained(_) => 500,
            Self::TooManyRequests { .. } => 429,
            Self::Version { code, .. } | Self::Internal { code, .. } => *code,
        };
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The machine readable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden { .. } => "Forbidden",
            Self::NotFound { .. } | Self::NoSuchPath | Self::NoSuchPage => "NotFound",
            Self::AlreadyExists { .. } => "AlreadyExists",
            Self::Conflict { .. } | Self::ApplyConflict { .. } => "Conflict",
            Self::Invalid { .. } | Self::PatchDoesNotFit => "Invalid",
            Self::Unexplained(_) => "",
            Self::Version { code: 410, .. } => "Expired",
            Self::Version { .. } => "Timeout",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::UnsupportedMediaType(_) => "UnsupportedMediaType",
            Self::TooLarge(_) => "RequestEntityTooLarge",
            Self::TooManyRequests { .. } => "TooManyRequests",
            Self::Internal { code: 503, .. } => "ServiceUnavailable",
            Self::Internal { code: 504, .. } => "Timeout",
            Self::Internal { .. } => "InternalError",
        }
    }

    /// The `Status` object.
    pub fn to_status(&self) -> Value {
        let causes_value = |causes: &[Cause]| -> Value {
            causes
                .iter()
                .map(|cause| {
                    let mut entry = json!({"message": cause.message});
                    if !cause.reason.is_empty() {
                        entry["reason"] = json!(cause.reason);
                    }
                    if !cause.field.is_empty() {
                        entry["field"] = json!(cause.field);
                    }
                    entry
                })
                .collect()
        };
        let named = |resource: &str, name: &str| -> Value {
            let (kind, group) = resource.split_once('.').unwrap_or((resource, ""));
            let mut details = json!({"kind": kind});
            if !group.is_empty() {
                details["group"] = json!(group);
            }
            if !name.is_empty() {
                details["name"] = json!(name);
            }
            details
        };
        let details = match self {
            Self::NotFound { resource, name }
            | Self::AlreadyExists { resource, name }
            | Self::Conflict { resource, name, .. } => Some(named(resource, name)),
            Self::Forbidden {
                resource,
                name,
                causes,
                ..
            } => {
                let mut details = named(resource, name);
                if !causes.is_empty() {
                    details["causes"] = causes_value(causes);
                }
                Some(details)
            }
            Self::ApplyConflict { causes, .. } => Some(json!({"causes": causes_value(causes)})),
            Self::Invalid {
                group,
                kind,
                name,
                causes,
                ..
            } => {
                let mut details = json!({"kind": kind, "causes": causes_value(causes)});
                if !group.is_empty() {
                    details["group"] = json!(group);
                }
                if !name.is_empty() {
                    details["name"] = json!(name);
                }
                Some(details)
            }
            Self::TooManyRequests { retry_after } => Some(json!({"retryAfterSeconds": retry_after})),
            Self::NoSuchPath | Self::PatchDoesNotFit => Some(json!({})),
            Self::Version { code: 504, .. } => Some(json!({
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                "retryAfterSeconds": 1,
            })),
            _ => None,
        };
        let mut metadata = json!({});
        if let Self::Version {
            proceed: Some(token), ..
        } = self
        {
            metadata["continue"] = json!(token);
        }
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Failure",
            "message": self.to_string(), "code": self.code().as_u16(),
        });
        if !self.reason().is_empty() {
            status["reason"] = json!(self.reason());
        }
        if let Some(details) = details {
            status["details"] = details;
        }
        status
    }
}
