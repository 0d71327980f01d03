//! Why a reconciliation could not be brought to its end, and what that means for the next one.
//!
//! What an object's specification or the world forbids for now is no error: it becomes a condition of the object. Errors are what a repetition can
//! heal, and faults.

use cairn_types::ErrorKind;
use kube::core::Status;

use crate::daemons::CallError;
use crate::runtime::tls::TlsError;

/// Why a reconciliation ended early. It is repeated with back-off.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API server refused or did not answer.
    #[error("cannot {verb} {what}")]
    Api {
        /// What was tried.
        verb: &'static str,
        /// Kind and name of the object.
        what: String,
        /// Why not.
        #[source]
        source: Box<kube::Error>,
    },
    /// A daemon did not answer, or refused for now.
    #[error("{0}")]
    Call(#[from] CallError),
    /// The operator has no authority to sign with yet.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// Somebody else holds the lease: nothing may be written.
    #[error("this process does not hold the lease")]
    NotLeading,
    /// An object could not be written as JSON, or a certificate could not be made.
    #[error("{what}")]
    Internal {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another object has the name of one that is wanted.
    #[error("{kind} {name} exists and is not the operator's")]
    NameTaken {
        /// Its kind.
        kind: String,
        /// Namespace and name.
        name: String,
    },
    /// The plan did not come to an end.
    #[error("more than {limit} steps without an end")]
    TooManySteps {
        /// The limit.
        limit: usize,
    },
    /// It took too long and was broken off.
    #[error("it took more than {seconds} s")]
    TookTooLong {
        /// The limit.
        seconds: u64,
    },
}

impl ReconcileError {
    /// What the API server said, if it said something.
    pub fn status(&self) -> Option<&Status> {
        match self {
            ReconcileError::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            _ => None,
        }
    }

    /// The HTTP code of what the API server said; 0 if it said nothing.
    pub fn code(&self) -> u16 {
        self.status().map(|status| status.code).unwrap_or(0)
    }

    /// Somebody else changed the object meanwhile: look again.
    pub fn is_conflict(&self) -> bool {
        self.code() == 409
            && self
                .status()
                .is_some_and(|status| status.reason != "AlreadyExists")
    }

    /// The API server judged the object and refuses it: the same again is refused again.
    pub fn is_refusal(&self) -> bool {
        matches!(self.code(), 400 | 403 | 422)
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ReconcileError::Call(error) => error.kind(),
            ReconcileError::NotLeading => ErrorKind::Conflict,
            ReconcileError::NameTaken { .. } => ErrorKind::Conflict,
            ReconcileError::Internal { .. } | ReconcileError::TooManySteps { .. } => ErrorKind::Internal,
            ReconcileError::TookTooLong { .. } | ReconcileError::Tls(_) => ErrorKind::Unavailable,
            ReconcileError::Api { .. } => match self.code() {
                400 | 422 => ErrorKind::Invalid,
                401 | 403 => ErrorKind::Denied,
                404 => ErrorKind::NotFound,
                409 => ErrorKind::Conflict,
                _ => ErrorKind::Unavailable,
            },
        }
    }

    /// The reason as a label of metrics.
    pub fn reason(&self) -> &'static str {
        match self.kind() {
            ErrorKind::Invalid => "invalid",
            ErrorKind::NotFound => "not_found",
            ErrorKind::Conflict => "conflict",
            ErrorKind::Denied => "denied",
            ErrorKind::NoSpace => "no_space",
            ErrorKind::Corrupt => "corrupt",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::Internal => "internal",
        }
    }

    /// The error and its causes in one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let shown = error.to_string();
            if !text.contains(&shown) {
                text.push_str(": ");
                text.push_str(&shown);
            }
            cause = error.source();
        }
        text
    }
}
