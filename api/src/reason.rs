//! Why a request failed, for machines.
//!
//! A reason's text is part of the contract: it never changes its meaning and is never reused. A new failure gets a new
//! reason. The gRPC code follows from the reason:
//!
//! | reason | gRPC code | details |
//! | --- | --- | --- |
//! | `WORKSPACE_NAME_INVALID` | INVALID_ARGUMENT | `name` |
//! | `WORKSPACE_NOT_FOUND` | NOT_FOUND | `workspace` |
//! | `WORKSPACE_EXISTS` | ALREADY_EXISTS | `workspace` |
//! | `WORKSPACE_HAS_SNAPSHOTS` | FAILED_PRECONDITION | `workspace`, `snapshots` |
//! | `EXPORT_POLICY_INVALID` | INVALID_ARGUMENT | `field`, `value` |
//! | `MODE_INVALID` | INVALID_ARGUMENT | `mode` |
//! | `REFERENCE_INVALID` | INVALID_ARGUMENT | `reference` |
//! | `TAG_INVALID` | INVALID_ARGUMENT | `tag` |
//! | `SNAPSHOT_NOT_FOUND` | NOT_FOUND | `workspace`, `reference` |
//! | `SNAPSHOT_FOREIGN` | FAILED_PRECONDITION | `workspace`, `reference`, `owner` |
//! | `SNAPSHOT_AMBIGUOUS` | FAILED_PRECONDITION | `workspace`, `reference`, `candidates` |
//! | `LIMIT_EXCEEDED` | INVALID_ARGUMENT | `what`, `found`, `limit` |
//! | `FEATURE_UNSUPPORTED` | UNIMPLEMENTED | `feature` |
//! | `NO_SPACE` | RESOURCE_EXHAUSTED | |
//! | `STORAGE_CORRUPT` | DATA_LOSS | |
//! | `STORAGE_UNAVAILABLE` | UNAVAILABLE | |
//! | `STORAGE_FAILED` | INTERNAL | |
//! | `SHUTTING_DOWN` | UNAVAILABLE | |
//! | `INTERNAL` | INTERNAL | |
//! | `DAEMON_UNREACHABLE` | UNAVAILABLE | `socket` |
//! | `UNRECOGNIZED` | UNKNOWN | |
//!
//! `DAEMON_UNREACHABLE` and `UNRECOGNIZED` are said by clients and never travel: the first for a connection that does not
//! come about or breaks, the second for an answer that this version of the client does not understand. `candidates` is a
//! list of identities with a comma between them.

use tonic::Code;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $variant:ident = $text:literal, $code:ident;)*) => {
        /// Why a request failed. The module's documentation has the table.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Reason] = &[$(Reason::$variant,)*];

            /// The text on the wire.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Reason::$variant => $text,)*
                }
            }

            /// The gRPC code that goes with it.
            pub fn code(self) -> Code {
                match self {
                    $(Reason::$variant => Code::$code,)*
                }
            }
        }
    };
}

reasons! {
    /// The text is no workspace name.
    WorkspaceNameInvalid = "WORKSPACE_NAME_INVALID", InvalidArgument;
    /// No workspace has the name.
    WorkspaceNotFound = "WORKSPACE_NOT_FOUND", NotFound;
    /// A workspace has the name already.
    WorkspaceExists = "WORKSPACE_EXISTS", AlreadyExists;
    /// The workspace has snapshots, which a deletion would take with it.
    WorkspaceHasSnapshots = "WORKSPACE_HAS_SNAPSHOTS", FailedPrecondition;
    /// A field of the export policy makes no sense.
    ExportPolicyInvalid = "EXPORT_POLICY_INVALID", InvalidArgument;
    /// The permission bits are more than 07777.
    ModeInvalid = "MODE_INVALID", InvalidArgument;
    /// The text cannot refer to a snapshot.
    ReferenceInvalid = "REFERENCE_INVALID", InvalidArgument;
    /// The text is no tag.
    TagInvalid = "TAG_INVALID", InvalidArgument;
    /// Nothing of the workspace fits the reference.
    SnapshotNotFound = "SNAPSHOT_NOT_FOUND", NotFound;
    /// The snapshot is of another workspace.
    SnapshotForeign = "SNAPSHOT_FOREIGN", FailedPrecondition;
    /// Several snapshots fit the prefix.
    SnapshotAmbiguous = "SNAPSHOT_AMBIGUOUS", FailedPrecondition;
    /// An argument is beyond a limit.
    LimitExceeded = "LIMIT_EXCEEDED", InvalidArgument;
    /// The request needs a feature that this server does not have.
    FeatureUnsupported = "FEATURE_UNSUPPORTED", Unimplemented;
    /// The node is full.
    NoSpace = "NO_SPACE", ResourceExhausted;
    /// Stored bytes are damaged.
    StorageCorrupt = "STORAGE_CORRUPT", DataLoss;
    /// The stores do not answer now.
    StorageUnavailable = "STORAGE_UNAVAILABLE", Unavailable;
    /// The stores failed.
    StorageFailed = "STORAGE_FAILED", Internal;
    /// The daemon is stopping.
    ShuttingDown = "SHUTTING_DOWN", Unavailable;
    /// A fault of Cairn.
    Internal = "INTERNAL", Internal;
    /// No daemon answers. Never on the wire.
    DaemonUnreachable = "DAEMON_UNREACHABLE", Unavailable;
    /// An answer that this client does not understand. Never on the wire.
    Unrecognized = "UNRECOGNIZED", Unknown;
}

impl Reason {
    /// The reason with this text; `None` for one that a later version may have added.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    fn screaming(camel: &str) -> String {
        let mut text = String::new();
        for c in camel.chars() {
            if c.is_ascii_uppercase() && !text.is_empty() {
                text.push('_');
            }
            text.push(c.to_ascii_uppercase());
        }
        text
    }

    #[test]
    fn the_table_is_the_code() {
        let rows: Vec<(String, String)> = include_str!("reason.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("//! | `"))
            .map(|row| {
                let mut cells = row
                    .split('|')
                    .map(|cell| cell.trim().trim_matches('`').to_owned());
                (cells.next().unwrap(), cells.next().unwrap())
            })
            .collect();
        let code: Vec<(String, String)> = Reason::ALL
            .iter()
            .map(|reason| {
                (
                    reason.as_str().to_owned(),
                    screaming(&format!("{:?}", reason.code())),
                )
            })
            .collect();
        assert_eq!(rows, code);
    }

    #[test]
    fn texts_name_one_reason_each() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
            assert_eq!(reason.as_str(), screaming(&format!("{reason:?}")));
        }
        assert_eq!(Reason::parse("FROM_THE_FUTURE"), None);
    }
}
