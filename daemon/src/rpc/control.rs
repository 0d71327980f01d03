//! The service `Control`: requests are checked for their form and handed to [`crate::control::Control`], which decides.

use std::sync::Arc;
use std::time::Duration;

use cairn_api::convert;
use cairn_api::proto::control_server::Control as ControlService;
use cairn_api::proto::{self};
use cairn_api::{ApiError, Reason};
use cairn_snapshot::archive::Progress;
use cairn_types::SnapshotId;
use tonic::{Request, Response, Status};

use super::{Service, control_errors, control_messages as messages, errors};
use crate::control::{Control, Drained, Fence, Refused, features};

/// Most entries of a list in one answer.
const PAGE_MAX: u32 = 500;
/// How long Drain waits for the NFS server before it tells how far it is.
const DRAIN_WAIT: Duration = Duration::from_secs(5);

fn page_size(asked: u32) -> usize {
    match asked {
        0 => PAGE_MAX as usize,
        asked => asked.min(PAGE_MAX) as usize,
    }
}

fn requires(names: &[String]) -> Result<(), Status> {
    match names
        .iter()
        .find(|name| !features::SUPPORTED.contains(&name.as_str()))
    {
        None => Ok(()),
        Some(feature) => Err(control_errors::api_error(Refused::unsupported(
            feature,
            format!("the request needs {feature:?}, which this version of cairnd does not have"),
        ))
        .into()),
    }
}

fn refused(error: Refused) -> Status {
    control_errors::api_error(error).into()
}

impl Service {
    fn control(&self) -> Result<Arc<Control>, Status> {
        Ok(self.node.control().map(Arc::clone).ok_or_else(|| {
            ApiError::new(Reason::StorageUnavailable, "the stores are not open yet")
                .remedy("try again in a moment")
        })?)
    }

    /// Carries out a request that changes nothing.
    async fn asked<T: Send + 'static>(
        &self,
        request: impl FnOnce(&Control) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Status> {
        let permit = self.turn().await?;
        let control = self.control()?;
        let done = tokio::task::spawn_blocking(move || {
            let outcome = request(&control);
            drop(permit);
            outcome
        });
        match done.await {
            Ok(outcome) => outcome.map_err(refused),
            Err(failed) => Err(errors::broken_task(&failed).into()),
        }
    }

    /// Carries out a request that changes something, if whoever sent it still leads.
    async fn led<T: Send + 'static>(
        &self,
        fence: Option<proto::Fence>,
        request: impl FnOnce(&Control) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Status> {
        let fence = messages::fence(fence)?;
        self.asked(move |control| control.led(&fence, request)).await
    }

    /// The same for what a drained node does too.
    async fn led_while_drained(
        &self,
        fence: Option<proto::Fence>,
        request: impl FnOnce(&Control) + Send + 'static,
    ) -> Result<(), Status> {
        let fence: Fence = messages::fence(fence)?;
        self.asked(move |control| {
            control.led_while_drained(&fence, |control| {
                request(control);
                Ok(())
            })
        })
        .await
    }
}

/// Cancels when it is dropped: the client has gone away, or has its answer.
struct CancelOnDrop(Arc<Progress>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[tonic::async_trait]
impl ControlService for Service {
    /// Answers in every phase: what is not known yet is 0.
    async fn get_info(
        &self,
        _request: Request<proto::GetInfoRequest>,
    ) -> Result<Response<proto::GetInfoResponse>, Status> {
        let node = Arc::clone(&self.node);
        let found = tokio::task::spawn_blocking(move || messages::info(&node)).await;
        Ok(Response::new(
            found.map_err(|failed| errors::broken_task(&failed))?,
        ))
    }

    async fn ensure_workspace(
        &self,
        request: Request<proto::EnsureWorkspaceRequest>,
    ) -> Result<Response<proto::EnsureWorkspaceResponse>, Status> {
        let request = request.into_inner();
        requires(&request.requires)?;
        let (fence, wanted) = messages::workspace_request(request)?;
        let ensured = self
            .led(fence, move |control| control.ensure_workspace(&wanted))
            .await?;
        Ok(Response::new(proto::EnsureWorkspaceResponse {
            workspace: Some(messages::workspace(&ensured.now, &self.node)),
            created: ensured.created,
            changed: messages::names(&ensured.changed),
        }))
    }

    async fn get_workspace(
        &self,
        request: Request<proto::GetManagedWorkspaceRequest>,
    ) -> Result<Response<proto::GetManagedWorkspaceResponse>, Status> {
        let key = messages::key("key", &request.into_inner().key)?;
        let found = self.asked(move |control| control.workspace(&key)).await?;
        Ok(Response::new(proto::GetManagedWorkspaceResponse {
            workspace: Some(messages::workspace(&found, &self.node)),
        }))
    }

    async fn list_workspaces(
        &self,
        request: Request<proto::ListManagedWorkspacesRequest>,
    ) -> Result<Response<proto::ListManagedWorkspacesResponse>, Status> {
        let request = request.into_inner();
        let limit = page_size(request.page_size);
        let (found, next) = self
            .asked(move |control| control.workspaces(&request.page_token, limit))
            .await?;
        let workspaces = found
            .iter()
            .map(|found| messages::workspace(found, &self.node))
            .collect();
        Ok(Response::new(proto::ListManagedWorkspacesResponse {
            workspaces,
            next_page_token: next.unwrap_or_default(),
        }))
    }

    async fn delete_workspace(
        &self,
        request: Request<proto::DeleteManagedWorkspaceRequest>,
    ) -> Result<Response<proto::DeleteManagedWorkspaceResponse>, Status> {
        let request = request.into_inner();
        let key = messages::key("key", &request.key)?;
        let already_gone = self
            .led(request.fence, move |control| {
                control.delete_workspace(&key, request.with_snapshots)
            })
            .await?;
        Ok(Response::new(proto::DeleteManagedWorkspaceResponse {
            already_gone,
        }))
    }

    async fn release_workspace(
        &self,
        request: Request<proto::ReleaseWorkspaceRequest>,
    ) -> Result<Response<proto::ReleaseWorkspaceResponse>, Status> {
        let request = request.into_inner();
        let key = messages::key("key", &request.key)?;
        let already_released = self
            .led(request.fence, move |control| control.release_workspace(&key))
            .await?;
        Ok(Response::new(proto::ReleaseWorkspaceResponse {
            already_released,
        }))
    }

    async fn ensure_snapshot(
        &self,
        request: Request<proto::EnsureSnapshotRequest>,
    ) -> Result<Response<proto::EnsureSnapshotResponse>, Status> {
        let request = request.into_inner();
        requires(&request.requires)?;
        let (fence, wanted) = messages::snapshot_request(request)?;
        let ensured = self
            .led(fence, move |control| control.ensure_snapshot(&wanted))
            .await?;
        Ok(Response::new(proto::EnsureSnapshotResponse {
            snapshot: Some(messages::snapshot(&ensured.now)),
            created: ensured.created,
            changed: messages::names(&ensured.changed),
        }))
    }

    async fn get_snapshot_by_key(
        &self,
        request: Request<proto::GetSnapshotByKeyRequest>,
    ) -> Result<Response<proto::GetSnapshotByKeyResponse>, Status> {
        let key = messages::key("key", &request.into_inner().key)?;
        let found = self.asked(move |control| control.snapshot(&key)).await?;
        Ok(Response::new(proto::GetSnapshotByKeyResponse {
            snapshot: Some(messages::snapshot(&found)),
        }))
    }

    async fn list_snapshots(
        &self,
        request: Request<proto::ListManagedSnapshotsRequest>,
    ) -> Result<Response<proto::ListManagedSnapshotsResponse>, Status> {
        let request = request.into_inner();
        let name = convert::workspace_name(&request.workspace)?;
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(SnapshotId::parse(token).ok_or_else(|| {
                refused(Refused::PageInvalid {
                    token: token.to_owned(),
                })
            })?),
        };
        let limit = page_size(request.page_size);
        let page = self
            .asked(move |control| control.snapshots(&name, after, limit))
            .await?;
        Ok(Response::new(proto::ListManagedSnapshotsResponse {
            snapshots: page.snapshots.iter().map(messages::snapshot).collect(),
            next_page_token: page.next.map(|id| id.to_string()).unwrap_or_default(),
        }))
    }

    async fn delete_snapshot(
        &self,
        request: Request<proto::DeleteManagedSnapshotRequest>,
    ) -> Result<Response<proto::DeleteManagedSnapshotResponse>, Status> {
        use proto::delete_managed_snapshot_request::Which;
        let request = request.into_inner();
        let which = match request.which {
            Some(Which::Key(key)) => messages::by_key(&key)?,
            Some(Which::Place(place)) => messages::by_place(&place)?,
            None => messages::by_key("")?,
        };
        let already_gone = self
            .led(request.fence, move |control| control.delete_snapshot(&which))
            .await?;
        Ok(Response::new(proto::DeleteManagedSnapshotResponse {
            already_gone,
        }))
    }

    async fn verify_snapshot(
        &self,
        request: Request<proto::VerifySnapshotRequest>,
    ) -> Result<Response<proto::VerifySnapshotResponse>, Status> {
        use proto::verify_snapshot_request::Which;
        let request = request.into_inner();
        let which = match request.which {
            Some(Which::Key(key)) => messages::by_key(&key)?,
            Some(Which::Place(place)) => messages::by_place(&place)?,
            None => messages::by_key("")?,
        };
        let operation = self
            .led(request.fence, move |control| control.verify_snapshot(&which))
            .await?;
        Ok(Response::new(proto::VerifySnapshotResponse { operation }))
    }

    async fn plan_restore(
        &self,
        request: Request<proto::PlanRestoreRequest>,
    ) -> Result<Response<proto::PlanRestoreResponse>, Status> {
        let request = request.into_inner();
        let name = convert::workspace_name(&request.workspace)?;
        let snapshot = convert::reference(&request.snapshot)?;
        let progress = Arc::new(Progress::new());
        let _cancel = CancelOnDrop(Arc::clone(&progress));
        let plan = self
            .asked(move |control| control.plan_restore(&name, &snapshot, &request.paths, &progress))
            .await?;
        Ok(Response::new(proto::PlanRestoreResponse {
            snapshot: plan.snapshot.to_string(),
            adds: plan.adds,
            changes: plan.changes,
            deletes: plan.deletes,
            bytes: plan.bytes,
        }))
    }

    async fn ensure_restore(
        &self,
        request: Request<proto::EnsureRestoreRequest>,
    ) -> Result<Response<proto::EnsureRestoreResponse>, Status> {
        let request = request.into_inner();
        requires(&request.requires)?;
        let (fence, wanted) = messages::restore_request(request)?;
        let ensured = self
            .led(fence, move |control| control.ensure_restore(&wanted))
            .await?;
        Ok(Response::new(proto::EnsureRestoreResponse {
            restore: Some(messages::restore(&ensured.now)),
            created: ensured.created,
        }))
    }

    async fn get_restore_by_key(
        &self,
        request: Request<proto::GetRestoreByKeyRequest>,
    ) -> Result<Response<proto::GetRestoreByKeyResponse>, Status> {
        let key = messages::key("key", &request.into_inner().key)?;
        let found = self.asked(move |control| control.restore(&key)).await?;
        Ok(Response::new(proto::GetRestoreByKeyResponse {
            restore: Some(messages::restore(&found)),
        }))
    }

    async fn forget_restore(
        &self,
        request: Request<proto::ForgetRestoreRequest>,
    ) -> Result<Response<proto::ForgetRestoreResponse>, Status> {
        let request = request.into_inner();
        let key = messages::key("key", &request.key)?;
        let already_forgotten = self
            .led(request.fence, move |control| control.forget_restore(&key))
            .await?;
        Ok(Response::new(proto::ForgetRestoreResponse { already_forgotten }))
    }

    async fn drain(
        &self,
        request: Request<proto::DrainRequest>,
    ) -> Result<Response<proto::DrainResponse>, Status> {
        self.led_while_drained(request.into_inner().fence, |control| {
            if !control.draining().is_wanted() {
                tracing::info!("a controller drains the node");
            }
            control.draining().want(true);
        })
        .await?;
        let drained = self.drained().await?;
        Ok(Response::new(proto::DrainResponse {
            safe_to_stop: drained.is_safe_to_stop(),
            nfs_connections: match (drained.nfs_stopped, self.node.stores()) {
                (false, Some(stores)) => stores.nfs_metrics().connections.get(),
                (true, _) | (_, None) => 0,
            },
            operations: drained.operations,
            unstable_bytes: drained.unstable_bytes,
        }))
    }

    async fn resume(
        &self,
        request: Request<proto::ResumeRequest>,
    ) -> Result<Response<proto::ResumeResponse>, Status> {
        self.led_while_drained(request.into_inner().fence, |control| {
            if control.draining().is_wanted() {
                tracing::info!("a controller takes the node into service again");
            }
            control.draining().want(false);
        })
        .await?;
        Ok(Response::new(proto::ResumeResponse {}))
    }
}

impl Service {
    /// Waits a little for the NFS server to stop, brings everything onto the disk, and says how far the node is.
    async fn drained(&self) -> Result<Drained, Status> {
        let mut stopped = self.control()?.draining().nfs_stopped();
        // An error of either kind means: not yet.
        let stopping = async { stopped.wait_for(|stopped| *stopped).await.is_ok() };
        let nfs_stopped = tokio::time::timeout(DRAIN_WAIT, stopping).await == Ok(true);
        let volumes = self.volumes()?;
        let flushed = tokio::task::spawn_blocking(move || {
            let outcome = volumes.flush_durably();
            outcome.and_then(|()| volumes.usage())
        });
        let usage = flushed.await.map_err(|failed| errors::broken_task(&failed))?;
        let usage = usage.map_err(errors::api_error)?;
        let running = self.node.operations.list();
        let running = running.iter().filter(|operation| operation.ended().is_none());
        Ok(Drained {
            nfs_stopped,
            operations: running.map(|operation| operation.id.to_string()).collect(),
            unstable_bytes: usage.unstable_bytes,
        })
    }
}
