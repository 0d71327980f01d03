//! What a test asks of a daemon's RPC service, in few words.

use std::path::Path;

use cairn_api::proto::{
    CreateSnapshotRequest, CreateWorkspaceRequest, DeleteWorkspaceRequest, DiffRequest, ExportPolicy,
    ForkRequest, HistoryRequest, RestoreRequest, Squash,
};
use cairn_api::{ApiError, Client, Reason};

pub use cairn_api::proto::{Difference, DifferenceKind, Snapshot};

/// A connection to a daemon's RPC service.
#[derive(Debug, Clone)]
pub struct Control {
    client: Client,
}

fn failed(status: tonic::Status) -> ApiError {
    ApiError::from_status(&status)
}

impl Control {
    /// Connects to the daemon on `socket`.
    pub async fn connect(socket: &Path) -> Result<Self, ApiError> {
        let client = Client::connect(socket).await?;
        Ok(Control { client })
    }

    /// Makes a workspace that this machine may use from any port, as whoever its clients claim to be.
    pub async fn create(&self, name: &str) -> Result<(), ApiError> {
        let policy = ExportPolicy {
            squash: Squash::None.into(),
            anonymous_uid: 65_534,
            anonymous_gid: 65_534,
            allow: vec!["127.0.0.0/8".to_owned()],
            read_only: false,
            privileged_port: false,
        };
        let request = CreateWorkspaceRequest {
            name: name.to_owned(),
            policy: Some(policy),
            ..Default::default()
        };
        self.client
            .workspaces
            .clone()
            .create(request)
            .await
            .map_err(failed)?;
        Ok(())
    }

    /// Deletes a workspace with its snapshots.
    pub async fn delete(&self, name: &str) -> Result<(), ApiError> {
        let request = DeleteWorkspaceRequest {
            name: name.to_owned(),
            with_snapshots: true,
        };
        self.client
            .workspaces
            .clone()
            .delete(request)
            .await
            .map_err(failed)?;
        Ok(())
    }

    /// Deletes a workspace with its snapshots if it is there.
    pub async fn delete_if_there(&self, name: &str) -> Result<(), ApiError> {
        match self.delete(name).await {
            Err(error) if error.reason == Reason::WorkspaceNotFound => Ok(()),
            other => other,
        }
    }

    /// Takes a snapshot.
    pub async fn snapshot(&self, workspace: &str, note: &str, tags: &[&str]) -> Result<Snapshot, ApiError> {
        let request = CreateSnapshotRequest {
            workspace: workspace.to_owned(),
            note: note.to_owned(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            ..Default::default()
        };
        let made = self
            .client
            .snapshots
            .clone()
            .create(request)
            .await
            .map_err(failed)?;
        made.into_inner()
            .snapshot
            .ok_or_else(|| ApiError::missing_field("snapshot"))
    }

    /// The snapshots of a workspace, newest first.
    pub async fn history(&self, workspace: &str) -> Result<Vec<Snapshot>, ApiError> {
        let request = HistoryRequest {
            workspace: workspace.to_owned(),
        };
        let history = self
            .client
            .snapshots
            .clone()
            .history(request)
            .await
            .map_err(failed)?;
        Ok(history.into_inner().snapshots)
    }

    /// Makes a workspace equal to one of its snapshots; the safety snapshot of what it was.
    pub async fn restore(&self, workspace: &str, reference: &str) -> Result<Snapshot, ApiError> {
        let request = RestoreRequest {
            workspace: workspace.to_owned(),
            reference: reference.to_owned(),
        };
        let restored = self
            .client
            .snapshots
            .clone()
            .restore(request)
            .await
            .map_err(failed)?;
        restored
            .into_inner()
            .safety
            .ok_or_else(|| ApiError::missing_field("safety"))
    }

    /// Makes the workspace `new` from a snapshot of another.
    pub async fn fork(&self, workspace: &str, reference: &str, new: &str) -> Result<(), ApiError> {
        let request = ForkRequest {
            workspace: workspace.to_owned(),
            reference: reference.to_owned(),
            new_workspace: new.to_owned(),
        };
        self.client
            .snapshots
            .clone()
            .fork(request)
            .await
            .map_err(failed)?;
        Ok(())
    }

    /// What differs from a snapshot to another, or to the live tree.
    pub async fn diff(
        &self,
        workspace: &str,
        from: &str,
        to: Option<&str>,
    ) -> Result<Vec<Difference>, ApiError> {
        let request = DiffRequest {
            workspace: workspace.to_owned(),
            from: from.to_owned(),
            to: to.map(str::to_owned),
        };
        let mut stream = self
            .client
            .snapshots
            .clone()
            .diff(request)
            .await
            .map_err(failed)?
            .into_inner();
        let mut differences = Vec::new();
        while let Some(page) = stream.message().await.map_err(failed)? {
            differences.extend(page.differences);
        }
        Ok(differences)
    }
}
