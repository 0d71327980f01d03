//! How a call to a daemon fails, and what the caller can do about it.

use std::ops::Deref;

use cairn_api::{ApiError, Reason};
use cairn_types::ErrorKind;
use tonic::Code;

/// What a failure means for the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The same again may work: the daemon is away, busy, or stopping.
    Again,
    /// The daemon cannot be reached at all: wait until it comes back.
    Away,
    /// The same again is refused again, until the request or the node changes.
    Refused,
    /// Somebody else leads.
    Fenced,
    /// The daemon is another process than the one that was meant: learn who it is, then again.
    OtherInstance,
}

/// A call that failed. Small to hand on; what happened is behind it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} on node {}: {}", .0.call, .0.node, .0.message)]
pub struct CallError(Box<CallFailure>);

impl Deref for CallError {
    type Target = CallFailure;

    fn deref(&self) -> &CallFailure {
        &self.0
    }
}

/// What is known of a call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallFailure {
    /// The node.
    pub node: String,
    /// The method.
    pub call: &'static str,
    /// What it means.
    pub outcome: Outcome,
    /// The daemon's reason, or ours (`NODE_AWAY`, `BREAKER_OPEN`, `DEADLINE_EXCEEDED`, `WRONG_NODE`).
    pub reason: String,
    /// What happened.
    pub message: String,
    /// What to do; may be empty.
    pub remedy: String,
    /// The generation that a daemon has seen, if it refused ours.
    pub greatest: Option<u64>,
}

impl CallError {
    /// An error that the operator finds itself.
    pub fn own(
        node: &str,
        call: &'static str,
        outcome: Outcome,
        reason: &str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        CallError(Box::new(CallFailure {
            node: node.to_owned(),
            call,
            outcome,
            reason: reason.to_owned(),
            message: message.into(),
            remedy: remedy.into(),
            greatest: None,
        }))
    }

    /// The same with another reason.
    #[must_use]
    pub fn because(mut self, reason: &str) -> Self {
        self.0.reason = reason.to_owned();
        self
    }

    /// No daemon is known of the node, or none is reachable.
    pub fn away(node: &str, call: &'static str, why: &str) -> Self {
        CallError::own(
            node,
            call,
            Outcome::Away,
            "NODE_AWAY",
            format!("the daemon of node {node} does not answer: {why}"),
            format!(
                "see whether the node runs (kubectl get node {node}) and its daemon does (kubectl get pods -o wide)"
            ),
        )
    }

    /// What an answer of a daemon means.
    pub fn from_status(node: &str, call: &'static str, status: &tonic::Status) -> Self {
        let error = ApiError::from_status(status);
        // A status with a cause was made here, of a connection that broke or did not come about: a daemon's has none.
        let is_broken = std::error::Error::source(status).is_some();
        let outcome = match (error.reason, status.code()) {
            (Reason::DaemonUnreachable, _) => Outcome::Away,
            (Reason::Unrecognized, _) if is_broken => Outcome::Away,
            (_, Code::DeadlineExceeded | Code::Aborted | Code::Unavailable | Code::Cancelled) => {
                Outcome::Again
            }
            _ => Outcome::Refused,
        };
        let reason = match error.reason {
            Reason::Unrecognized => error
                .details
                .get("reason")
                .cloned()
                .unwrap_or_else(|| format!("{:?}", status.code())),
            reason => reason.as_str().to_owned(),
        };
        let outcome = match reason.as_str() {
            "FENCED" => Outcome::Fenced,
            "INSTANCE_CHANGED" => Outcome::OtherInstance,
            // The node may have room, or a free slot, later.
            "OPERATIONS_TOO_MANY" | "OPERATION_CONFLICT" => Outcome::Again,
            _ => outcome,
        };
        CallError(Box::new(CallFailure {
            node: node.to_owned(),
            call,
            outcome,
            greatest: error
                .details
                .get("greatest")
                .and_then(|greatest| greatest.parse().ok()),
            reason,
            message: error.message,
            remedy: error.remedy,
        }))
    }

    /// A daemon's reason in the form of a condition's: `NO_SPACE` becomes `NoSpace`.
    pub fn condition_reason(&self) -> String {
        camel(&self.reason)
    }

    /// What happened and what to do, in one text.
    pub fn explain(&self) -> String {
        match self.remedy.as_str() {
            "" => self.message.clone(),
            remedy => format!("{}; {remedy}", self.message),
        }
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self.outcome {
            Outcome::Again | Outcome::Away | Outcome::OtherInstance => ErrorKind::Unavailable,
            Outcome::Fenced => ErrorKind::Conflict,
            Outcome::Refused => match self.reason.as_str() {
                "NO_SPACE" => ErrorKind::NoSpace,
                reason if reason.ends_with("NOT_FOUND") => ErrorKind::NotFound,
                _ => ErrorKind::Invalid,
            },
        }
    }
}

/// `NO_SPACE` as `NoSpace`; what is no such word stays as it is, without what conditions do not allow.
pub fn camel(reason: &str) -> String {
    let is_screaming = reason
        .bytes()
        .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    let text: String = match is_screaming {
        true => reason
            .split('_')
            .filter_map(|word| word.split_at_checked(1))
            .map(|(first, rest)| format!("{first}{}", rest.to_ascii_lowercase()))
            .collect(),
        false => reason.chars().filter(char::is_ascii_alphanumeric).collect(),
    };
    match text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        true => text,
        false => "Refused".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use cairn_api::{ApiError, Reason};

    use super::{CallError, Outcome, camel};

    #[test]
    fn codes_say_whether_to_try_again() {
        let of = |status: tonic::Status| CallError::from_status("n", "GetInfo", &status).outcome;
        assert_eq!(of(tonic::Status::unavailable("gone")), Outcome::Away);
        assert_eq!(of(tonic::Status::deadline_exceeded("late")), Outcome::Again);
        assert_eq!(
            of(ApiError::new(Reason::ShuttingDown, "s").into()),
            Outcome::Again
        );
        assert_eq!(of(ApiError::new(Reason::NoSpace, "s").into()), Outcome::Refused);
        assert_eq!(of(tonic::Status::unauthenticated("who")), Outcome::Refused);
        let fenced = ApiError::new(Reason::Fenced, "f").detail("greatest", 9);
        let error = CallError::from_status("n", "GetInfo", &fenced.into());
        assert_eq!((error.outcome, error.greatest), (Outcome::Fenced, Some(9)));
        assert_eq!(
            of(ApiError::new(Reason::InstanceChanged, "i").into()),
            Outcome::OtherInstance
        );
    }

    #[test]
    fn reasons_of_daemons_become_reasons_of_conditions() {
        assert_eq!(camel("NO_SPACE"), "NoSpace");
        assert_eq!(camel("WORKSPACE_OWNED"), "WorkspaceOwned");
        assert_eq!(camel("Unauthenticated"), "Unauthenticated");
        assert_eq!(camel("9?"), "Refused");
        assert_eq!(camel(""), "Refused");
    }
}
