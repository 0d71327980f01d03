//! How a request fails, the same on both sides of the wire.
//!
//! A failure travels as a gRPC status whose details hold one `google.rpc.ErrorInfo`: `reason`, the domain `cairn`, and
//! as metadata the details and, under [`REMEDY`], what to do.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::Reason;

/// The domain of Cairn's reasons (`google.rpc.ErrorInfo.domain`).
pub const DOMAIN: &str = "cairn";
/// The metadata key of the remedy.
pub const REMEDY: &str = "remedy";
/// Longest message, remedy and value of a detail in bytes; longer ones are cut. A status travels in headers, whose sum
/// HTTP/2 implementations limit to 16 KiB.
pub const TEXT_BYTES_MAX: usize = 1024;

/// Why a request failed. Unless the reason says otherwise, nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// For machines.
    pub reason: Reason,
    /// For people: what happened.
    pub message: String,
    /// For people: what to do; empty if nothing is known.
    pub remedy: String,
    /// The values that the reason is about, by the names in the table of reasons.
    pub details: BTreeMap<String, String>,
}

impl ApiError {
    /// An error without remedy and details.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        ApiError {
            reason,
            message: cut(message.into()),
            remedy: String::new(),
            details: BTreeMap::new(),
        }
    }

    /// Says what to do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = cut(remedy.into());
        self
    }

    /// Adds a value that the reason is about, cut at [`TEXT_BYTES_MAX`].
    #[must_use]
    pub fn detail(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.details.insert(name.to_owned(), cut(value.to_string()));
        self
    }

    /// What a client makes of a status. One without Cairn's details comes from the transport or from another program.
    pub fn from_status(status: &Status) -> Self {
        let info = status
            .get_details_error_info()
            .filter(|info| info.domain == DOMAIN);
        let Some(info) = info else {
            return Self::from_foreign(status);
        };
        let mut details: BTreeMap<String, String> = info.metadata.into_iter().collect();
        let remedy = details.remove(REMEDY).unwrap_or_default();
        let reason = Reason::parse(&info.reason).unwrap_or_else(|| {
            details.insert("reason".to_owned(), info.reason.clone());
            Reason::Unrecognized
        });
        ApiError {
            reason,
            message: status.message().to_owned(),
            remedy,
            details,
        }
    }

    fn from_foreign(status: &Status) -> Self {
        match status.code() {
            Code::Unavailable => ApiError::new(
                Reason::DaemonUnreachable,
                format!("the connection to the daemon broke: {}", status.message()),
            )
            .remedy("see whether cairnd still runs and what it logged; then look whether the request was executed"),
            Code::Unimplemented => {
                ApiError::new(Reason::Unrecognized, "the daemon does not know this request")
                    .remedy("use a cairn and a cairnd of the same version")
            }
            code => ApiError::new(
                Reason::Unrecognized,
                format!("the daemon answered {code:?}: {}", status.message()),
            )
            .remedy("use a cairn and a cairnd of the same version"),
        }
    }

    /// The answer to a request whose answer lacks a field that the contract promises.
    pub fn missing_field(field: &str) -> Self {
        ApiError::new(Reason::Unrecognized, format!("the daemon's answer lacks {field}"))
            .remedy("use a cairn and a cairnd of the same version")
    }
}

/// Cuts a text at [`TEXT_BYTES_MAX`], between characters.
fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let mut metadata: HashMap<String, String> = error.details.into_iter().collect();
        if !error.remedy.is_empty() {
            metadata.insert(REMEDY.to_owned(), error.remedy);
        }
        let details = ErrorDetails::with_error_info(error.reason.as_str(), DOMAIN, metadata);
        Status::with_error_details(error.reason.code(), error.message, details)
    }
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};

    use super::{ApiError, TEXT_BYTES_MAX};
    use crate::Reason;

    #[test]
    fn errors_survive_the_wire() {
        for reason in Reason::ALL {
            let error = ApiError::new(*reason, "it failed: \u{e9}\u{0}\n")
                .remedy("do this")
                .detail("workspace", "w")
                .detail("found", 7);
            let status = Status::from(error.clone());
            assert_eq!(status.code(), reason.code());
            assert_eq!(ApiError::from_status(&status), error);
        }
    }

    #[test]
    fn an_error_without_remedy_has_none_after_the_wire() {
        let error = ApiError::new(Reason::NoSpace, "full");
        assert_eq!(ApiError::from_status(&Status::from(error.clone())), error);
    }

    #[test]
    fn foreign_statuses_are_told_apart() {
        let broken = ApiError::from_status(&Status::unavailable("connection reset"));
        assert_eq!(broken.reason, Reason::DaemonUnreachable);
        assert!(broken.message.contains("connection reset"));
        let unknown = ApiError::from_status(&Status::new(Code::Unimplemented, ""));
        assert_eq!(unknown.reason, Reason::Unrecognized);
    }

    #[test]
    fn a_reason_of_a_later_version_is_kept_as_a_detail() {
        let details = tonic_types::ErrorDetails::with_error_info(
            "FROM_THE_FUTURE",
            super::DOMAIN,
            std::collections::HashMap::new(),
        );
        use tonic_types::StatusExt;
        let status = Status::with_error_details(Code::Aborted, "later", details);
        let error = ApiError::from_status(&status);
        assert_eq!(error.reason, Reason::Unrecognized);
        assert_eq!(
            error.details.get("reason").map(String::as_str),
            Some("FROM_THE_FUTURE")
        );
    }

    #[test]
    fn long_details_are_cut_between_characters() {
        let error = ApiError::new(Reason::TagInvalid, "m").detail("tag", "\u{e9}".repeat(TEXT_BYTES_MAX));
        assert_eq!(error.details["tag"].len(), TEXT_BYTES_MAX);
        let odd = ApiError::new(Reason::TagInvalid, "m")
            .detail("tag", format!("a{}", "\u{e9}".repeat(TEXT_BYTES_MAX)));
        assert_eq!(odd.details["tag"].len(), TEXT_BYTES_MAX - 1);
    }
}
