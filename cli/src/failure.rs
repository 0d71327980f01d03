//! How a command fails, and how that is told.

use std::io;

use cairn_api::{ApiError, Reason};
use cairn_fuse::MountError;
use cairn_snapshot::directory::WalkError;
use cairn_snapshot::manifest::{ChangeError, ManifestError};
use cairn_snapshot::operations::OperationError;
use cairn_snapshot::operations::collect::CollectError;
use cairn_snapshot::repository::{LeaseError, RepositoryError};
use serde::Serialize;
use tonic::Status;

use crate::exit::Exit;

mod directory;

pub use directory::{DirectoryFailure, DirectoryReason, chain};

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub enum Failure {
    /// The daemon, or the check of an argument, said no.
    Api(ApiError),
    /// The command cannot go on as it was typed.
    Usage {
        /// What is wrong.
        message: String,
        /// What to do.
        remedy: String,
    },
    /// Something about a plain directory.
    Directory(Box<DirectoryFailure>),
    /// Verifying has found damage, which was told; how much stands in the outcome.
    DamageFound {
        /// Damages told.
        damages: u64,
        /// What to do.
        remedy: &'static str,
    },
    /// Standard output cannot be written. A closed pipe is no failure of the command.
    Output(io::Error),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Failure::Api(error)
    }
}

impl From<DirectoryFailure> for Failure {
    fn from(failure: DirectoryFailure) -> Self {
        Failure::Directory(Box::new(failure))
    }
}

/// Errors of the library become failures of directories.
macro_rules! failures_of_directories {
    ($($error:ty),+) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                DirectoryFailure::from(error).into()
            }
        })+
    };
}

failures_of_directories!(
    RepositoryError,
    LeaseError,
    OperationError,
    CollectError,
    WalkError,
    ManifestError,
    ChangeError,
    MountError
);

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Failure::Api(ApiError::from_status(&status))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Output(error)
    }
}

/// What `--json` prints on standard error.
#[derive(Serialize)]
struct Told<'a> {
    reason: &'a str,
    message: &'a str,
    remedy: &'a str,
    details: &'a std::collections::BTreeMap<String, String>,
    exit_code: u8,
}

#[derive(Serialize)]
struct Enveloped<'a> {
    error: Told<'a>,
}

impl Failure {
    /// What the process ends with.
    pub fn exit(&self) -> Exit {
        match self {
            Failure::Api(error) => Exit::of(error.reason),
            Failure::Usage { .. } => Exit::Usage,
            Failure::Directory(failure) => failure.reason.exit(),
            Failure::DamageFound { .. } => Exit::Damaged,
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Success,
            Failure::Output(_) => Exit::Internal,
        }
    }

    /// The text for standard error; empty if there is nothing to say.
    pub fn text(&self, json: bool) -> String {
        let no_details = std::collections::BTreeMap::new();
        let exit_code = self.exit().code();
        let output;
        let told = match self {
            Failure::Api(error) => Told {
                reason: error.reason.as_str(),
                message: &error.message,
                remedy: &error.remedy,
                details: &error.details,
                exit_code,
            },
            Failure::Usage { message, remedy } => Told {
                reason: "USAGE",
                message,
                remedy,
                details: &no_details,
                exit_code,
            },
            Failure::Directory(failure) => Told {
                reason: failure.reason.as_str(),
                message: &failure.message,
                remedy: failure.remedy,
                details: &failure.details,
                exit_code,
            },
            Failure::DamageFound { damages, remedy } => {
                output = format!("{damages} damages were found");
                Told {
                    reason: "DAMAGE_FOUND",
                    message: &output,
                    remedy,
                    details: &no_details,
                    exit_code,
                }
            }
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return String::new(),
            Failure::Output(error) => {
                output = format!("cannot write to standard output: {error}");
                Told {
                    reason: "OUTPUT",
                    message: &output,
                    remedy: "",
                    details: &no_details,
                    exit_code,
                }
            }
        };
        if json {
            // Texts and maps of texts always have a JSON form.
            return serde_json::to_string(&Enveloped { error: told }).unwrap_or_default() + "\n";
        }
        let mut text = format!("cairn: {}\n", told.message);
        let ambiguous = match self {
            Failure::Api(ApiError { reason, .. }) => matches!(
                reason,
                Reason::SnapshotAmbiguous | Reason::ArchiveAmbiguous | Reason::OperationAmbiguous
            ),
            Failure::Directory(failure) => failure.reason == DirectoryReason::SnapshotAmbiguous,
            Failure::Usage { .. } | Failure::DamageFound { .. } | Failure::Output(_) => false,
        };
        if ambiguous && let Some(candidates) = told.details.get("candidates") {
            candidates
                .split(',')
                .for_each(|candidate| text.push_str(&format!("    {candidate}\n")));
        }
        if !told.remedy.is_empty() {
            text.push_str(&format!("  {}\n", told.remedy));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use cairn_api::{ApiError, Reason};

    use super::Failure;
    use crate::exit::Exit;

    fn ambiguous() -> Failure {
        let error = ApiError::new(Reason::SnapshotAmbiguous, "abcd fits 2 snapshots of workspace w")
            .remedy("give more digits of the id")
            .detail("candidates", "abcd1,abcd2");
        Failure::Api(error)
    }

    #[test]
    fn people_see_message_candidates_and_remedy() {
        assert_eq!(
            ambiguous().text(false),
            "cairn: abcd fits 2 snapshots of workspace w\n    abcd1\n    abcd2\n  give more digits of the id\n"
        );
        assert_eq!(ambiguous().exit(), Exit::Invalid);
    }

    #[test]
    fn programs_see_one_object() {
        assert_eq!(
            ambiguous().text(true),
            "{\"error\":{\"reason\":\"SNAPSHOT_AMBIGUOUS\",\"message\":\"abcd fits 2 snapshots of workspace w\",\
             \"remedy\":\"give more digits of the id\",\"details\":{\"candidates\":\"abcd1,abcd2\"},\"exit_code\":5}}\n"
        );
    }

    #[test]
    fn a_closed_pipe_is_silence() {
        let closed = Failure::Output(io::ErrorKind::BrokenPipe.into());
        assert_eq!(
            (closed.text(false), closed.exit()),
            (String::new(), Exit::Success)
        );
        let full = Failure::Output(io::ErrorKind::StorageFull.into());
        assert_eq!(full.exit(), Exit::Internal);
        assert!(full.text(false).starts_with("cairn: cannot write"));
    }
}
