//! Exit codes: stable, one per thing that a caller can do something about. `cairn --help` has the table.

use std::process::ExitCode;

use cairn_api::Reason;

/// The exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done. A comparison that finds differences is done, too.
    Success = 0,
    /// The command line is wrong, or a confirmation is missing. (clap ends with the same code.)
    Usage = 2,
    /// The workspace or snapshot does not exist.
    NotFound = 3,
    /// It exists already, or its state forbids the operation.
    Conflict = 4,
    /// A name, reference or value that can never be right, or that fits several things.
    Invalid = 5,
    /// No daemon answers.
    Unreachable = 6,
    /// The node is full.
    NoSpace = 7,
    /// The stores failed or are damaged.
    Storage = 8,
    /// A fault of Cairn, or two versions that do not fit together.
    Internal = 9,
}

/// The table as `cairn --help` shows it.
pub const TABLE: &str = "\
Exit codes:
  0  done (also when a comparison finds differences)
  2  wrong command line, or a confirmation is missing
  3  no such workspace or snapshot
  4  exists already, or its state forbids it
  5  invalid or ambiguous name, reference or value
  6  no daemon answers
  7  no space left on the node
  8  the stores failed or are damaged
  9  a fault of Cairn, or versions that do not fit together";

impl Exit {
    /// What a failure with this reason ends with.
    pub fn of(reason: Reason) -> Self {
        match reason {
            Reason::WorkspaceNotFound | Reason::SnapshotNotFound => Exit::NotFound,
            Reason::WorkspaceExists | Reason::WorkspaceHasSnapshots => Exit::Conflict,
            Reason::WorkspaceNameInvalid
            | Reason::ExportPolicyInvalid
            | Reason::ModeInvalid
            | Reason::ReferenceInvalid
            | Reason::TagInvalid
            | Reason::SnapshotForeign
            | Reason::SnapshotAmbiguous
            | Reason::LimitExceeded => Exit::Invalid,
            Reason::DaemonUnreachable | Reason::ShuttingDown => Exit::Unreachable,
            Reason::NoSpace => Exit::NoSpace,
            Reason::StorageCorrupt | Reason::StorageUnavailable | Reason::StorageFailed => Exit::Storage,
            Reason::FeatureUnsupported | Reason::Internal | Reason::Unrecognized => Exit::Internal,
        }
    }

    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use cairn_api::Reason;

    use super::{Exit, TABLE};

    #[test]
    fn the_table_has_every_code_that_can_come_out() {
        let mut codes: Vec<u8> = Reason::ALL
            .iter()
            .map(|reason| Exit::of(*reason).code())
            .collect();
        codes.extend([Exit::Success.code(), Exit::Usage.code()]);
        codes.sort_unstable();
        codes.dedup();
        let documented: Vec<u8> = TABLE
            .lines()
            .skip(1)
            .map(|line| line.trim_start().split(' ').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(documented, codes);
    }
}
