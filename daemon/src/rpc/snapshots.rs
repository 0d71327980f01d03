//! The service `Snapshots`.

use std::ops::ControlFlow;

use cairn_api::proto::snapshots_server::Snapshots;
use cairn_api::proto::{
    self, CreateSnapshotRequest, CreateSnapshotResponse, DeleteSnapshotRequest, DeleteSnapshotResponse,
    DiffRequest, DiffResponse, ForkRequest, ForkResponse, GetSnapshotRequest, GetSnapshotResponse,
    HistoryRequest, HistoryResponse, NewPin as NewPinMessage, RestoreRequest, RestoreResponse,
    SetLabelsRequest, SetLabelsResponse,
};
use cairn_api::{ApiError, convert};
use cairn_types::{SnapshotReference, WorkspaceName};
use cairn_vfs::control::{Difference, LabelChanges, NewPin, NewSnapshot};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Service, errors, messages};

/// Differences in one message.
const DIFFERENCES_PER_MESSAGE: usize = 256;
/// Bytes of paths in one message, about: a path may be long.
const PATH_BYTES_PER_MESSAGE: usize = 256 << 10;
/// Messages that wait for a slow client; the comparison waits with them.
const MESSAGES_QUEUED_MAX: usize = 8;

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
        let (sender, receiver) = mpsc::channel(MESSAGES_QUEUED_MAX);
        tokio::task::spawn_blocking(move || {
            let mut batches = Batches {
                sender,
                pending: Vec::new(),
                path_bytes: 0,
            };
            let outcome = volumes.diff(&name, &from, to.as_ref(), &mut |difference| {
                batches.push(difference)
            });
            batches.finish(outcome.map_err(|error| errors::api_error(error).into()));
            drop(permit);
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
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

/// Differences on their way into messages.
struct Batches {
    sender: mpsc::Sender<DiffMessage>,
    pending: Vec<proto::Difference>,
    path_bytes: usize,
}

impl Batches {
    /// Takes one; breaks when the client has gone away.
    fn push(&mut self, difference: Difference) -> ControlFlow<()> {
        self.path_bytes += difference.path.len();
        self.pending.push(messages::difference(difference));
        if self.pending.len() >= DIFFERENCES_PER_MESSAGE || self.path_bytes >= PATH_BYTES_PER_MESSAGE {
            self.flush()
        } else {
            ControlFlow::Continue(())
        }
    }

    fn flush(&mut self) -> ControlFlow<()> {
        self.path_bytes = 0;
        let differences = std::mem::take(&mut self.pending);
        match self.sender.blocking_send(Ok(DiffResponse { differences })) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_gone) => ControlFlow::Break(()),
        }
    }

    /// Sends what is left, then the failure if there was one.
    fn finish(mut self, outcome: Result<(), Status>) {
        if !self.pending.is_empty() && self.flush().is_break() {
            return;
        }
        if let Err(status) = outcome {
            // A client that has gone away misses it.
            let _ = self.sender.blocking_send(Err(status));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use cairn_vfs::control::{Difference, DifferenceKind};
    use tokio::sync::mpsc;
    use tonic::Status;

    use super::{Batches, DIFFERENCES_PER_MESSAGE, PATH_BYTES_PER_MESSAGE};

    fn difference(path: Vec<u8>) -> Difference {
        Difference {
            kind: DifferenceKind::Added,
            path,
            directory: false,
            bytes_before: None,
            bytes_after: Some(1),
        }
    }

    fn batches(capacity: usize) -> (Batches, mpsc::Receiver<super::DiffMessage>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (
            Batches {
                sender,
                pending: Vec::new(),
                path_bytes: 0,
            },
            receiver,
        )
    }

    #[test]
    fn everything_arrives_in_order_and_the_failure_last() {
        let (mut batches, mut receiver) = batches(8);
        let count = DIFFERENCES_PER_MESSAGE + 3;
        for index in 0..count {
            assert_eq!(
                batches.push(difference(index.to_string().into_bytes())),
                ControlFlow::Continue(())
            );
        }
        batches.finish(Err(Status::data_loss("damaged")));
        let mut paths = Vec::new();
        let mut sizes = Vec::new();
        let failure = loop {
            match receiver.blocking_recv() {
                Some(Ok(message)) => {
                    sizes.push(message.differences.len());
                    paths.extend(message.differences.into_iter().map(|difference| difference.path));
                }
                Some(Err(status)) => break status,
                None => panic!("the failure is missing"),
            }
        };
        assert_eq!(sizes, [DIFFERENCES_PER_MESSAGE, 3]);
        assert_eq!(
            paths,
            (0..count)
                .map(|index| index.to_string().into_bytes())
                .collect::<Vec<_>>()
        );
        assert_eq!(failure.code(), tonic::Code::DataLoss);
        assert!(receiver.blocking_recv().is_none());
    }

    #[test]
    fn long_paths_make_small_batches() {
        let (mut batches, mut receiver) = batches(8);
        assert!(
            batches
                .push(difference(vec![b'x'; PATH_BYTES_PER_MESSAGE]))
                .is_continue()
        );
        batches.finish(Ok(()));
        assert_eq!(receiver.blocking_recv().unwrap().unwrap().differences.len(), 1);
        assert!(receiver.blocking_recv().is_none());
    }

    #[test]
    fn a_client_that_goes_away_ends_the_comparison() {
        let (mut batches, receiver) = batches(8);
        drop(receiver);
        let visited = (0..)
            .take_while(|_| batches.push(difference(b"p".to_vec())).is_continue())
            .count();
        assert_eq!(visited, DIFFERENCES_PER_MESSAGE - 1);
    }
}
