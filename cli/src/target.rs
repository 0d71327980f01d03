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

/// A workspace and a reference to a snapshot of it, as `WORKSPACE@SNAPSHOT`; without the second part, the latest.
pub fn workspace_and_snapshot(argument: &str) -> Result<(String, String), ApiError> {
    // No workspace name has an @.
    let (workspace, reference) = argument.split_once('@').unwrap_or((argument, "latest"));
    convert::reference(reference)?;
    Ok((Target::parse(workspace)?.into_workspace(), reference.to_owned()))
}

/// A store's URL and a reference to an archive in it, as `URL@SNAPSHOT`; without the second part, the latest. A last `@` that
/// is followed by a `/` belongs to the URL.
pub fn store_and_snapshot(argument: &str) -> Result<(String, String), ApiError> {
    let (store, reference) = match argument.rsplit_once('@') {
        Some((store, reference)) if !reference.contains('/') => (store, reference),
        _ => (argument, "latest"),
    };
    convert::reference(reference)?;
    Ok((store.to_owned(), reference.to_owned()))
}

#[cfg(test)]
mod tests {
    use cairn_api::Reason;

    use super::{Target, store_and_snapshot, workspace_and_snapshot};

    #[test]
    fn snapshots_stand_behind_the_at() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(workspace_and_snapshot("w").unwrap(), pair("w", "latest"));
        assert_eq!(workspace_and_snapshot("w@v1").unwrap(), pair("w", "v1"));
        for (wrong, reason) in [
            ("w@", Reason::ReferenceInvalid),
            ("w@a@b", Reason::ReferenceInvalid),
            ("@v1", Reason::WorkspaceNameInvalid),
            ("a/b@v1", Reason::WorkspaceNameInvalid),
        ] {
            assert_eq!(
                workspace_and_snapshot(wrong).unwrap_err().reason,
                reason,
                "{wrong}"
            );
        }
        assert_eq!(
            store_and_snapshot("s3://b/p").unwrap(),
            pair("s3://b/p", "latest")
        );
        assert_eq!(store_and_snapshot("s3://b@v1").unwrap(), pair("s3://b", "v1"));
        assert_eq!(
            store_and_snapshot("file:///a@b@latest").unwrap(),
            pair("file:///a@b", "latest")
        );
        // A user in the URL stays in it, and is refused there.
        assert_eq!(
            store_and_snapshot("s3://me@b/p").unwrap(),
            pair("s3://me@b/p", "latest")
        );
        assert_eq!(
            store_and_snapshot("s3://b@").unwrap_err().reason,
            Reason::ReferenceInvalid
        );
    }

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
