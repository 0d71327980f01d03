//! What a verb works on. Today that is a workspace of the daemon; the same verbs are to serve plain directories, which
//! will be told apart by a `/` in the argument, which no workspace name can have.

use cairn_api::{ApiError, Reason, convert};
use cairn_types::WorkspaceName;

/// What a verb works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A workspace of the daemon.
    Workspace(WorkspaceName),
}

impl Target {
    /// Tells what an argument means. Fails with [`Reason::WorkspaceNameInvalid`].
    pub fn parse(argument: &str) -> Result<Self, ApiError> {
        if argument.contains('/') {
            return Err(ApiError::new(
                Reason::WorkspaceNameInvalid,
                format!("{argument:?} is a path, and plain directories are not served yet"),
            )
            .remedy("name a workspace of the daemon: `cairn workspace list` shows them")
            .detail("name", argument));
        }
        convert::workspace_name(argument).map(Target::Workspace)
    }

    /// The workspace's name as the requests want it.
    pub fn into_workspace(self) -> String {
        match self {
            Target::Workspace(name) => name.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use cairn_api::Reason;

    use super::Target;

    #[test]
    fn paths_are_kept_for_plain_directories() {
        for path in ["/home/me/project", "./w", "a/b", "../w"] {
            let error = Target::parse(path).unwrap_err();
            assert_eq!(error.reason, Reason::WorkspaceNameInvalid);
            assert!(error.message.contains("not served yet"), "{error}");
        }
        for name in ["", "..", "a\nb"] {
            let error = Target::parse(name).unwrap_err();
            assert!(!error.message.contains("not served yet"), "{error}");
        }
        assert_eq!(Target::parse("w").unwrap().into_workspace(), "w");
    }
}
