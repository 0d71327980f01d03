//! The service `Operations`. It answers as long as the process lives: what still runs while the daemon stops is just what
//! one wants to see.

use std::sync::Arc;
use std::time::Duration;

use cairn_api::proto::operations_server::Operations;
use cairn_api::proto::{
    CancelOperationRequest, CancelOperationResponse, GetOperationRequest, GetOperationResponse,
    ListOperationsRequest, ListOperationsResponse, OperationUpdate, WatchOperationRequest,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Service, archive_messages as messages, errors};
use crate::operations::Operation;

/// Time between two updates.
const UPDATE_INTERVAL: Duration = Duration::from_millis(200);
/// Updates that wait for a slow client; further ones are put off, and what was found meanwhile comes with the next.
const UPDATES_QUEUED_MAX: usize = 4;

#[tonic::async_trait]
impl Operations for Service {
    type WatchStream = ReceiverStream<Result<OperationUpdate, Status>>;

    async fn watch(
        &self,
        request: Request<WatchOperationRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let operation = self.operation(&request.into_inner().id)?;
        let (sender, receiver) = mpsc::channel(UPDATES_QUEUED_MAX);
        tokio::spawn(watch(operation, sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn cancel(
        &self,
        request: Request<CancelOperationRequest>,
    ) -> Result<Response<CancelOperationResponse>, Status> {
        let operation = self.operation(&request.into_inner().id)?;
        if operation.ended().is_none() {
            tracing::info!(operation = %operation.id, "an operation is asked to stop");
            let (node, cancelled) = (Arc::clone(&self.node), Arc::clone(&operation));
            let done = tokio::task::spawn_blocking(move || match node.directories() {
                Some(directories) => directories.cancel(&cancelled),
                None => cancelled.cancel(),
            });
            done.await.map_err(|failed| errors::broken_task(&failed))?;
        }
        Ok(Response::new(CancelOperationResponse {
            operation: Some(messages::operation(&operation)),
        }))
    }

    async fn list(
        &self,
        _request: Request<ListOperationsRequest>,
    ) -> Result<Response<ListOperationsResponse>, Status> {
        let operations = self.node.operations.list();
        Ok(Response::new(ListOperationsResponse {
            operations: operations
                .iter()
                .map(|operation| messages::operation(operation))
                .collect(),
        }))
    }

    async fn get(
        &self,
        request: Request<GetOperationRequest>,
    ) -> Result<Response<GetOperationResponse>, Status> {
        let operation = self.operation(&request.into_inner().id)?;
        Ok(Response::new(GetOperationResponse {
            operation: Some(messages::operation(&operation)),
        }))
    }
}

impl Service {
    fn operation(&self, id: &str) -> Result<Arc<Operation>, Status> {
        Ok(self.node.operations.find(id).map_err(errors::find_error)?)
    }
}

/// Tells how an operation is until it has ended or the client has gone away.
async fn watch(operation: Arc<Operation>, sender: mpsc::Sender<Result<OperationUpdate, Status>>) {
    let mut has_ended = operation.has_ended();
    let mut ticks = interval_at(Instant::now() + UPDATE_INTERVAL, UPDATE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut position = 0;
    loop {
        // The state first: what is found before the end is then in the findings.
        let now = messages::operation(&operation);
        let ended = now.ended.is_some();
        let told = operation.findings_since(position);
        position = told.next;
        let update = OperationUpdate {
            operation: Some(now),
            findings: told.findings.iter().map(messages::finding).collect(),
            findings_skipped: told.skipped,
        };
        // The last update comes after all findings.
        let last = ended && !told.more;
        let update = match told.more && ended {
            true => still_running(update),
            false => update,
        };
        if sender.send(Ok(update)).await.is_err() || last {
            return;
        }
        if told.more {
            continue;
        }
        tokio::select! {
            _ = ticks.tick() => {}
            // The sender lives in the operation, which is held here.
            _ = has_ended.wait_for(|ended| *ended) => {}
            () = sender.closed() => return,
        }
    }
}

/// The same update of an operation that has ended, while findings are still to be told: clients stop at the end.
fn still_running(mut update: OperationUpdate) -> OperationUpdate {
    if let Some(operation) = &mut update.operation {
        operation.state = cairn_api::proto::OperationState::Running.into();
        operation.ended = None;
        operation.result = None;
        operation.failure = None;
    }
    update
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cairn_api::proto;
    use cairn_snapshot::archive::{PackAction, PackVerdict, Reclaimed};
    use tokio::sync::mpsc;

    use super::watch;
    use crate::operations::{Finding, Kind, Operations, Outcome, Request};
    use crate::system::{SystemClock, SystemRandomness};

    #[tokio::test]
    async fn all_findings_come_before_the_end() {
        let operations = Operations::new(Arc::new(SystemClock), Arc::new(SystemRandomness));
        let request = Request {
            kind: Kind::Reclaim,
            workspace: String::new(),
            reference: String::new(),
            store: "file:///s".to_owned(),
            repository: String::new(),
            parameters: String::new(),
        };
        let (operation, _) = operations
            .start(request, |operation| {
                for number in 0..2000 {
                    operation.found(Finding::Verdict(PackVerdict {
                        object: format!("packs/{number}"),
                        action: PackAction::Condemn,
                        stored_bytes: number,
                        live_bytes: 0,
                    }));
                }
                Ok(Outcome::Reclaimed {
                    dry_run: true,
                    reclaimed: Reclaimed::default(),
                })
            })
            .unwrap();
        let (sender, mut receiver) = mpsc::channel(1);
        let watching = tokio::spawn(watch(Arc::clone(&operation), sender));
        let mut numbers = Vec::new();
        let mut ended = false;
        while let Some(update) = receiver.recv().await {
            assert!(!ended, "an update after the last");
            let update = update.unwrap();
            assert_eq!(update.findings_skipped, 0);
            for finding in update.findings {
                match finding.finding {
                    Some(proto::finding::Finding::Verdict(verdict)) => numbers.push(verdict.stored_bytes),
                    other => panic!("{other:?}"),
                }
            }
            ended = update.operation.unwrap().state() == proto::OperationState::Succeeded;
        }
        watching.await.unwrap();
        assert!(ended);
        assert_eq!(numbers, (0..2000).collect::<Vec<u64>>());
    }

    #[tokio::test]
    async fn a_client_that_goes_away_ends_the_watching_and_not_the_work() {
        let operations = Operations::new(Arc::new(SystemClock), Arc::new(SystemRandomness));
        let (say, word) = std::sync::mpsc::sync_channel::<()>(1);
        let request = Request {
            kind: Kind::Verify,
            workspace: String::new(),
            reference: String::new(),
            store: "file:///s".to_owned(),
            repository: String::new(),
            parameters: String::new(),
        };
        let (operation, _) = operations
            .start(request, move |_| {
                let told = word.recv().is_ok();
                assert!(told);
                Ok(Outcome::Verified(Default::default()))
            })
            .unwrap();
        let (sender, mut receiver) = mpsc::channel(1);
        let watching = tokio::spawn(watch(Arc::clone(&operation), sender));
        let first = receiver.recv().await.unwrap().unwrap().operation.unwrap();
        assert_eq!(first.state(), proto::OperationState::Running);
        drop(receiver);
        watching.await.unwrap();
        assert!(operation.ended().is_none() && !operation.progress().is_cancelled());
        say.send(()).unwrap();
        operation.has_ended().wait_for(|ended| *ended).await.unwrap();
    }
}
