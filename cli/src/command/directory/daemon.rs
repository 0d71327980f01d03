//! Asking the daemon for something with a plain directory: which repository is meant, and following the operation to its end.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use cairn_api::{ApiError, Client, proto};

use super::{below, canonical};
use crate::command::Session;
use crate::command::follow::{Following, Interrupt, succeeded, to_end};
use crate::failure::Failure;
use crate::json::shell_word;
use crate::progress::while_waiting;
use crate::text;

/// A directory that the daemon looks after, and a connection to the daemon.
pub(super) struct Asked {
    /// The connection.
    pub client: Client,
    /// What the daemon says of it.
    pub directory: proto::RegisteredDirectory,
    /// The directory that paths are relative to.
    base: PathBuf,
    /// How a person would name it.
    pub named: String,
}

/// The reference of a directory that a person named; nothing: the one that the command was called in.
pub(super) fn reference(directory: Option<&Path>) -> Result<(proto::DirectoryRef, PathBuf), Failure> {
    let base = canonical(directory.unwrap_or(Path::new(".")))?;
    let by = proto::directory_ref::By::Path(base.as_os_str().as_bytes().to_vec());
    Ok((proto::DirectoryRef { by: Some(by) }, base))
}

/// Seconds of a wait, as the daemon takes them.
pub(super) fn seconds(wait: u64) -> u32 {
    u32::try_from(wait).unwrap_or(u32::MAX)
}

impl Asked {
    /// Connects, and asks which repository a directory is in.
    pub async fn connect(session: &Session, directory: Option<PathBuf>) -> Result<Self, Failure> {
        let named = match &directory {
            Some(directory) => shell_word(&directory.to_string_lossy()),
            None => ".".to_owned(),
        };
        let (repository, base) = reference(directory.as_deref())?;
        let mut client = session.connect().await?;
        let asking = client.directories.get(proto::GetDirectoryRequest {
            repository: Some(repository),
            changes: false,
        });
        let answer = while_waiting("asking for the directory", asking)
            .await?
            .into_inner();
        Ok(Asked {
            directory: answer
                .directory
                .ok_or_else(|| ApiError::missing_field("the directory"))?,
            client,
            base,
            named,
        })
    }

    /// The repository, for requests.
    pub fn reference(&self) -> proto::DirectoryRef {
        let by = proto::directory_ref::By::Repository(self.directory.repository.clone());
        proto::DirectoryRef { by: Some(by) }
    }

    /// The workspace as people see it.
    pub fn shown(&self) -> String {
        text::path(&self.directory.workspace)
    }

    /// The paths that a person typed, below the root of the workspace. Nothing if one of them is the workspace: then it is everything.
    pub fn paths(&self, given: &[OsString]) -> Result<Vec<Vec<u8>>, Failure> {
        let workspace = PathBuf::from(OsString::from_vec(self.directory.workspace.clone()));
        let paths = given
            .iter()
            .map(|path| below(&workspace, &self.base, path))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(match paths.iter().any(|path| path.is_root()) {
            true => Vec::new(),
            false => paths.iter().map(|path| path.as_bytes().to_vec()).collect(),
        })
    }

    /// Follows an operation to its end; Ctrl-C cancels it. Fails as it did.
    pub async fn follow(
        &mut self,
        session: &mut Session,
        operation: Option<proto::Operation>,
    ) -> Result<proto::Operation, Failure> {
        let operation = operation.ok_or_else(|| ApiError::missing_field("the operation"))?;
        let again = format!("cairn operation watch {}", operation.id);
        let how = Following {
            interrupt: Interrupt::Cancels,
            detach: false,
            again: &again,
        };
        let ended = to_end(session, &mut self.client, &operation, how).await?;
        succeeded(ended, "")
    }
}
