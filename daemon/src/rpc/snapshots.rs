//! The service `Snapshots`.

use cairn_api::proto::snapshots_server::Snapshots;
use cairn_api::proto::{
    CreateSnapshotRequest, CreateSnapshotResponse, DeleteSnapshotRequest, DeleteSnapshotResponse,
    DiffRequest, DiffResponse, ForkRequest, ForkResponse, GetSnapshotRequest, GetSnapshotResponse,
    HistoryRequest, HistoryResponse, NewPin as NewPinMessage, RestoreRequest, RestoreResponse,
    SetLabelsRequest, SetLabelsResponse,
};
use cairn_api::{ApiError, convert};
use cairn_types::{SnapshotReference, WorkspaceName};
use cairn_vfs::control::{LabelChanges, NewPin, NewSnapshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::batches::batches;
use super::{Service, errors, messages};

/// A message of a comparison, or its failure.
type DiffMessage = Result<DiffResponse, Status>;

fn named(workspace: &str, reference: &str) -> Result<(WorkspaceName, SnapshotReference), Status> {
    Ok((
        convert::workspace_name(workspace)?,
        convert::reference(reference)?,
    ))
}

#[tonic::async_trait]
impl Snapshots for Service {
    type DiffStream = ReceiverStream<DiffMessage>;

    async fn create(
        &self,
        request: Request<CreateSnapshotRequest>,
    ) -> Result<Response<CreateSnapshotResponse>, Status> {
        let request = request.into_inner();
        convert::requires(&request.requires)?;
        let name = convert::workspace_name(&request.workspace)?;
        let new = NewSnapshot {
            note: request.note,
            tags: convert::tags(&request.tags)?,
        };
        let key = request.key;
        let (taken, is_new) = self
            .run(move |volumes| match key.is_empty() {
                true => Ok((volumes.snapshot(&name, new)?, true)),
                false => volumes.snapshot_once(&name, new, &key),
            })
            .await?;
        if is_new {
            tracing::info!(workspace = request.workspace, snapshot = %taken.id, "took a snapshot");
        }
        Ok(Response::new(CreateSnapshotResponse {
            snapshot: Some(messages::snapshot(&taken)),
            existing: !is_new,
        }))
    }

    async fn history(&self, request: Request<HistoryRequest>) -> Result<Response<HistoryResponse>, Status> {
        let name = convert::workspace_name(&request.into_inner().workspace)?;
        let history = self.run(move |volumes| volumes.history(&name)).await?;
        Ok(Response::new(HistoryResponse {
            snapshots: history.iter().map(messages::snapshot).collect(),
        }))
    }

    async fn get(
        &self,
        request: Request<GetSnapshotRequest>,
    ) -> Result<Response<GetSnapshotResponse>, Status> {
        let GetSnapshotRequest { workspace, reference } = request.into_inner();
        let (name, reference) = named(&workspace, &reference)?;
        let found = self
            .run(move |volumes| volumes.resolve(&name, &reference))
            .await?;
        Ok(Response::new(GetSnapshotResponse {
            snapshot: Some(messages::snapshot(&found)),
        }))
    }

    async fn diff(&self, request: Request<DiffRequest>) -> Result<Response<Self::DiffStream>, Status> {
        let DiffRequest { workspace, from, to } = request.into_inner();
        let (name, from) = named(&workspace, &from)?;
        let to = to.as_deref().map(convert::reference).transpose()?;
        let permit = self.turn().await?;
        let volumes = self.volumes()?;
        let (mut batches, receiver) = batches(|differences| DiffResponse { differences });
        tokio::task::spawn_blocking(move || {
            let outcome = volumes.diff(&name, &from, to.as_ref(), &mut |difference| {
                batches.push(messages::difference(difference))
            });
            batches.finish(outcome.map_err(|error| errors::api_error(error).into()));
            drop(permit);
        });
        Ok(Response::new(receiver))
    }

    async fn restore(&self, request: Request<RestoreRequest>) -> Result<Response<RestoreResponse>, Status> {
        let RestoreRequest { workspace, reference } = request.into_inner();
        let (name, reference) = named(&workspace, &reference)?;
        let restored = self
            .run(move |volumes| volumes.restore(&name, &reference))
            .await?;
        let (snapshot, safety) = (restored.snapshot, restored.safety);
        tracing::info!(workspace, snapshot = %snapshot.id, safety = %safety.id, "restored a workspace");
        Ok(Response::new(RestoreResponse {
            snapshot: Some(messages::snapshot(&snapshot)),
            safety: Some(messages::snapshot(&safety)),
        }))
    }

    async fn delete(
        &self,
        request: Request<DeleteSnapshotRequest>,
    ) -> Result<Response<DeleteSnapshotResponse>, Status> {
        let DeleteSnapshotRequest { workspace, reference } = request.into_inner();
        let (name, reference) = named(&workspace, &reference)?;
        let deleted = self
            .run(move |volumes| volumes.delete_snapshot(&name, &reference))
            .await?;
        tracing::info!(workspace, snapshot = %deleted.id, "deleted a snapshot");
        Ok(Response::new(DeleteSnapshotResponse {
            snapshot: Some(messages::snapshot(&deleted)),
        }))
    }

    async fn set_labels(
        &self,
        request: Request<SetLabelsRequest>,
    ) -> Result<Response<SetLabelsResponse>, Status> {
        let request = request.into_inner();
        let (name, reference) = named(&request.workspace, &request.reference)?;
        let pin = |pin: NewPinMessage| -> Result<NewPin, ApiError> {
            Ok(NewPin {
                reason: pin.reason,
                expires: pin.expires.as_ref().map(convert::requested_time).transpose()?,
            })
        };
        let changes = LabelChanges {
            note: request.note,
            add_tags: convert::tags(&request.add_tags)?,
            remove_tags: convert::tags(&request.remove_tags)?,
            pin: request.pin.map(pin).transpose()?,
            unpin: request.unpin,
            unpin_all: request.unpin_all,
        };
        let labelled = self
            .run(move |volumes| volumes.set_labels(&name, &reference, changes))
            .await?;
        Ok(Response::new(SetLabelsResponse {
            snapshot: Some(messages::snapshot(&labelled.snapshot)),
            pin: labelled.pin,
            unpinned: labelled.unpinned,
        }))
    }

    async fn fork(&self, request: Request<ForkRequest>) -> Result<Response<ForkResponse>, Status> {
        let ForkRequest {
            workspace,
            reference,
            new_workspace,
        } = request.into_inner();
        let (name, reference) = named(&workspace, &reference)?;
        let new = convert::workspace_name(&new_workspace)?;
        let forked = self
            .run(move |volumes| volumes.fork(&name, &reference, &new))
            .await?;
        tracing::info!(workspace, new = %forked.name, "forked a workspace");
        Ok(Response::new(ForkResponse {
            workspace: Some(messages::workspace(&forked)),
        }))
    }
}
