//! What a verb works on: a workspace of the daemon, or a plain directory of this machine. They are told apart by how they are written: a
//! directory has a `/` in it, or is `.` or `..`, which no name of a workspace can be.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use cairn_api::{ApiError, Reason, convert};
use cairn_types::WorkspaceName;

use crate::text;

/// What a verb works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A workspace of the daemon.
    Workspace(WorkspaceName),
    /// A plain directory; nothing: the one that the command was called in.
    Directory(Option<PathBuf>),
}

impl Target {
    /// Tells what an argument means. Fails with [`Reason::WorkspaceNameInvalid`].
    pub fn parse(argument: impl AsRef<OsStr>) -> Result<Self, ApiError> {
        let argument = argument.as_ref();
        if is_directory(argument) {
            return Ok(Target::Directory(Some(argument.into())));
        }
        match argument.to_str() {
            Some(name) => convert::workspace_name(name).map(Target::Workspace),
            None => Err(ApiError::new(
                Reason::WorkspaceNameInvalid,
                format!("{} is no name of a workspace", text::path(argument.as_bytes())),
            )
            .remedy("write a directory with a slash: ./NAME")),
        }
    }

    /// The same of an argument that may be left out, for the directory that the command was called in.
    pub fn parse_or_here(argument: Option<OsString>) -> Result<Self, ApiError> {
        argument.map_or(Ok(Target::Directory(None)), Target::parse)
    }

    /// The workspace's name as the requests want it. Fails with [`Reason::WorkspaceNameInvalid`] if it is a directory.
    pub fn into_workspace(self) -> Result<String, ApiError> {
        match self {
            Target::Workspace(name) => Ok(name.to_string()),
            Target::Directory(directory) => {
                let shown =
                    directory.map_or_else(|| ".".to_owned(), |path| text::path(path.as_os_str().as_bytes()));
                Err(ApiError::new(
                    Reason::WorkspaceNameInvalid,
                    format!("{shown} is a directory, and this takes workspaces of the daemon"),
                )
                .remedy("name a workspace: `cairn workspace list` shows them")
                .detail("name", shown))
            }
        }
    }

    /// The directory of a command that takes nothing else; nothing: the one that the command was called in. Fails with
    /// [`Reason::WorkspaceNameInvalid`] if it is written as a workspace.
    pub fn directory(argument: Option<OsString>) -> Result<Option<PathBuf>, ApiError> {
        match argument {
            None => Ok(None),
            Some(argument) if is_directory(&argument) => Ok(Some(argument.into())),
            Some(argument) => {
                let shown = text::path(argument.as_bytes());
                Err(ApiError::new(
                    Reason::WorkspaceNameInvalid,
                    format!("{shown} is written as a workspace of the daemon, and this takes directories"),
                )
                .remedy(format!("write a directory with a slash: ./{shown}"))
                .detail("name", shown))
            }
        }
    }
}

/// Whether an argument is written as a directory.
pub fn is_directory(argument: &OsStr) -> bool {
    let bytes = argument.as_bytes();
    bytes.contains(&b'/') || bytes == b"." || bytes == b".."
}

/// A workspace and a reference to a snapshot of it, as `WORKSPACE@SNAPSHOT`; without the second part, the latest.
pub fn workspace_and_snapshot(argument: &str) -> Result<(String, String), ApiError> {
    // No workspace name has an @.
    let (workspace, reference) = argument.split_once('@').unwrap_or((argument, "latest"));
    convert::reference(reference)?;
    Ok((Target::parse(workspace)?.into_workspace()?, reference.to_owned()))
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
    use std::ffi::{OsStr, OsString};
    use std::os::unix::ffi::OsStrExt;

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
    fn a_slash_makes_a_directory() {
        for path in ["/home/me/project", "./w", "a/b", "../w", ".", "..", "w/"] {
            assert_eq!(Target::parse(path).unwrap(), Target::Directory(Some(path.into())));
            assert_eq!(Target::directory(Some(path.into())).unwrap(), Some(path.into()));
            let error = Target::parse(path).unwrap().into_workspace().unwrap_err();
            assert_eq!(error.reason, Reason::WorkspaceNameInvalid);
        }
        assert_eq!(Target::parse_or_here(None).unwrap(), Target::Directory(None));
        let bytes = OsStr::from_bytes(b"\xff/a");
        assert_eq!(
            Target::parse(bytes).unwrap(),
            Target::Directory(Some(bytes.into()))
        );
    }

    #[test]
    fn everything_else_is_a_workspace() {
        for name in ["", "a\nb", "..."] {
            let error = Target::parse(name).unwrap_err();
            assert_eq!(error.reason, Reason::WorkspaceNameInvalid, "{name:?}");
        }
        assert_eq!(Target::parse("w").unwrap().into_workspace().unwrap(), "w");
        let error = Target::directory(Some("w".into())).unwrap_err();
        assert!(error.remedy.contains("./w"), "{error}");
        let error = Target::parse(OsString::from(OsStr::from_bytes(b"\xff"))).unwrap_err();
        assert!(error.remedy.contains("slash"), "{error}");
    }
}
