//! The service `Archives`. What takes long becomes an operation; the rest asks the store while the client waits, a bounded
//! number at a time, apart from the requests that only concern this node: a store that does not answer holds up none of those.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cairn_api::proto::archives_server::Archives;
use cairn_api::proto::{
    DeleteArchiveRequest, DeleteArchiveResponse, InitStoreRequest, InitStoreResponse, ListArchivesRequest,
    ListArchivesResponse, PullRequest, PullResponse, PushRequest, PushResponse, ReclaimRequest,
    ReclaimResponse, RotateKeyRequest, RotateKeyResponse, ShowArchiveRequest, ShowArchiveResponse,
    TakeOverRequest, TakeOverResponse, VerifyRequest, VerifyResponse,
};
use cairn_api::{ApiError, ProtoDuration, Reason, convert, proto};
use cairn_content::objects::ObjectStoreUrl;
use cairn_snapshot::archive::{Progress, ReclaimOptions};
use cairn_vfs::control::ControlError;
use tonic::{Request, Response, Status};

use super::{Service, archive_errors, archive_messages as messages, errors};
use crate::archives::{self, PullWanted, VerifyWanted, WorkError, url};
use crate::operations::{Kind, Operation, Outcome, Request as Wanted};

/// Archives that one request for verifying may name.
const REFERENCES_MAX: usize = 256;
/// Slowest rate of verifying in bytes a second: slower than this, it would not keep up with what is pushed.
const BYTES_PER_SECOND_MIN: u64 = 64 << 10;
/// Longest grace period: ten years.
const GRACE_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

#[tonic::async_trait]
impl Archives for Service {
    async fn push(&self, request: Request<PushRequest>) -> Result<Response<PushResponse>, Status> {
        let PushRequest {
            workspace,
            reference,
            store,
        } = request.into_inner();
        let name = convert::workspace_name(&workspace)?;
        let reference = convert::reference(&reference)?;
        let store = url::parse(&store)?;
        let found = {
            let name = name.clone();
            self.run(move |volumes| volumes.resolve(&name, &reference))
                .await?
        };
        let wanted = Wanted {
            kind: Kind::Push,
            workspace,
            // What "latest" means is settled now: the same words later may mean another snapshot.
            reference: found.id.to_string(),
            store: store.to_string(),
            repository: String::new(),
            parameters: String::new(),
        };
        let operation = self.start(wanted, store, move |archives, store, operation| {
            archives.push(store, &name, found.id, operation)
        })?;
        Ok(Response::new(PushResponse {
            operation: Some(operation),
        }))
    }

    async fn pull(&self, request: Request<PullRequest>) -> Result<Response<PullResponse>, Status> {
        let PullRequest {
            store,
            reference,
            workspace,
            into_existing,
            policy,
            skip_damaged,
        } = request.into_inner();
        convert::reference(&reference)?;
        let wanted = PullWanted {
            policy: convert::export_policy(policy.as_ref())?,
            store: url::parse(&store)?,
            reference,
            workspace: convert::workspace_name(&workspace)?,
            into_existing,
            skip_damaged,
        };
        let name = wanted.workspace.clone();
        self.run(move |volumes| match (volumes.workspace(&name), into_existing) {
            (Ok(_), true) | (Err(ControlError::NoWorkspace { .. }), false) => Ok(()),
            (Ok(_), false) => Err(ControlError::WorkspaceExists { name }),
            (Err(error), _) => Err(error),
        })
        .await?;
        let request = Wanted {
            kind: Kind::Pull,
            workspace,
            reference: wanted.reference.clone(),
            store: wanted.store.to_string(),
            repository: String::new(),
            parameters: format!("{:?}", (into_existing, skip_damaged, &wanted.policy)),
        };
        let operation = self.start(request, wanted.store.clone(), move |archives, _, operation| {
            archives.pull(&wanted, operation)
        })?;
        Ok(Response::new(PullResponse {
            operation: Some(operation),
        }))
    }

    async fn verify(&self, request: Request<VerifyRequest>) -> Result<Response<VerifyResponse>, Status> {
        let VerifyRequest {
            store,
            references,
            deep,
            bytes_per_second_max,
        } = request.into_inner();
        if references.len() > REFERENCES_MAX {
            let count = references.len();
            return Err(limit("number of archives", count, format!("at most {REFERENCES_MAX}")).into());
        }
        for reference in &references {
            convert::reference(reference)?;
        }
        if let Some(rate) = bytes_per_second_max.filter(|rate| *rate < BYTES_PER_SECOND_MIN) {
            return Err(limit(
                "rate",
                rate,
                format!("at least {BYTES_PER_SECOND_MIN} bytes a second"),
            )
            .into());
        }
        let wanted = VerifyWanted {
            store: url::parse(&store)?,
            references,
            deep,
            bytes_per_second_max,
        };
        let request = Wanted {
            kind: Kind::Verify,
            workspace: String::new(),
            reference: match wanted.references.as_slice() {
                [one] => one.clone(),
                _ => String::new(),
            },
            store: wanted.store.to_string(),
            repository: String::new(),
            parameters: format!("{wanted:?}"),
        };
        let operation = self.start(request, wanted.store.clone(), move |archives, _, operation| {
            archives.verify(&wanted, operation)
        })?;
        Ok(Response::new(VerifyResponse {
            operation: Some(operation),
        }))
    }

    async fn reclaim(&self, request: Request<ReclaimRequest>) -> Result<Response<ReclaimResponse>, Status> {
        let ReclaimRequest {
            store,
            grace,
            dry_run,
            rewrite_below_percent,
        } = request.into_inner();
        let defaults = ReclaimOptions::default();
        let options = ReclaimOptions {
            grace: grace.map_or(Ok(defaults.grace), grace_period)?,
            dry_run,
            rewrite_below_percent: match rewrite_below_percent {
                None => defaults.rewrite_below_percent,
                Some(percent) => u8::try_from(percent)
                    .ok()
                    .filter(|percent| *percent <= 100)
                    .ok_or_else(|| limit("share of live bytes", percent, "0 to 100 per cent".to_owned()))?,
            },
        };
        let store = url::parse(&store)?;
        let request = Wanted {
            kind: Kind::Reclaim,
            workspace: String::new(),
            reference: String::new(),
            store: store.to_string(),
            repository: String::new(),
            parameters: format!("{options:?}"),
        };
        let operation = self.start(request, store, move |archives, store, operation| {
            archives.reclaim(store, &options, operation)
        })?;
        Ok(Response::new(ReclaimResponse {
            operation: Some(operation),
        }))
    }

    async fn list(
        &self,
        request: Request<ListArchivesRequest>,
    ) -> Result<Response<ListArchivesResponse>, Status> {
        let store = url::parse(&request.into_inner().store)?;
        let archives = self.ask(store, |archives, store, _| archives.list(store)).await?;
        Ok(Response::new(ListArchivesResponse {
            archives: archives.iter().map(messages::archive).collect(),
        }))
    }

    async fn show(
        &self,
        request: Request<ShowArchiveRequest>,
    ) -> Result<Response<ShowArchiveResponse>, Status> {
        let ShowArchiveRequest {
            store,
            reference,
            sizes,
        } = request.into_inner();
        let store = url::parse(&store)?;
        let Some(reference) = reference else {
            let found = self
                .ask(store, |archives, store, progress| {
                    archives.store_sizes(store, progress)
                })
                .await?;
            return Ok(Response::new(ShowArchiveResponse {
                store_sizes: Some(messages::store_sizes(&found)),
                ..ShowArchiveResponse::default()
            }));
        };
        convert::reference(&reference)?;
        let (archive, found) = self
            .ask(store, move |archives, store, progress| {
                archives.show(store, &reference, sizes, progress)
            })
            .await?;
        Ok(Response::new(ShowArchiveResponse {
            archive: Some(messages::archive(&archive)),
            sizes: found.as_ref().map(messages::sizes),
            store_sizes: None,
        }))
    }

    async fn delete(
        &self,
        request: Request<DeleteArchiveRequest>,
    ) -> Result<Response<DeleteArchiveResponse>, Status> {
        let DeleteArchiveRequest { store, reference } = request.into_inner();
        convert::reference(&reference)?;
        let store = url::parse(&store)?;
        let told = store.to_string();
        let archive = self
            .ask(store, move |archives, store, _| {
                archives.delete(store, &reference)
            })
            .await?;
        tracing::info!(store = told, snapshot = %archive.description.snapshot, "deleted an archive");
        Ok(Response::new(DeleteArchiveResponse {
            archive: Some(messages::archive(&archive)),
        }))
    }

    async fn take_over(
        &self,
        request: Request<TakeOverRequest>,
    ) -> Result<Response<TakeOverResponse>, Status> {
        let store = url::parse(&request.into_inner().store)?;
        let told = store.to_string();
        self.ask(store, |archives, store, _| archives.own(store, true))
            .await?;
        tracing::info!(store = told, "took over an object store");
        Ok(Response::new(TakeOverResponse {}))
    }

    async fn init(&self, request: Request<InitStoreRequest>) -> Result<Response<InitStoreResponse>, Status> {
        let InitStoreRequest { store, encrypt } = request.into_inner();
        let store = url::parse(&store)?;
        let told = store.to_string();
        self.ask(store, move |archives, store, _| match encrypt {
            true => archives.encrypt(store),
            false => archives.own(store, false),
        })
        .await?;
        tracing::info!(store = told, encrypt, "an object store is ours");
        Ok(Response::new(InitStoreResponse {}))
    }

    async fn rotate_key(
        &self,
        request: Request<RotateKeyRequest>,
    ) -> Result<Response<RotateKeyResponse>, Status> {
        let RotateKeyRequest { store, new_key_file } = request.into_inner();
        let store = url::parse(&store)?;
        let new = PathBuf::from(OsString::from_vec(new_key_file));
        if !new.is_absolute() {
            return Err(ApiError::new(
                Reason::StoreOptionInvalid,
                format!("the path {} of the new key file is not absolute", new.display()),
            )
            .remedy("give its absolute path, on the machine of cairnd")
            .detail("store", store)
            .into());
        }
        let told = store.to_string();
        self.ask(store, move |archives, store, _| archives.rotate_key(store, &new))
            .await?;
        tracing::info!(store = told, "an object store has another key");
        Ok(Response::new(RotateKeyResponse {}))
    }
}

impl Service {
    /// Starts an operation, or finds the one that runs for the same request.
    fn start(
        &self,
        wanted: Wanted,
        store: ObjectStoreUrl,
        work: impl FnOnce(&archives::Archives, &ObjectStoreUrl, &Operation) -> Result<Outcome, WorkError>
        + Send
        + 'static,
    ) -> Result<proto::Operation, Status> {
        self.serving()?;
        let archives = self.archives()?;
        let (kind, workspace) = (wanted.kind.as_str(), wanted.workspace.clone());
        let told = store.to_string();
        let started = self.node.operations.start(wanted, move |operation| {
            work(&archives, &store, operation)
                .map_err(|error| archive_errors::work_error(error, store.as_str()))
        });
        let (operation, new) = started.map_err(|error| errors::start_error(&error))?;
        if new {
            tracing::info!(operation = %operation.id, kind, workspace, store = told, "an operation begins");
        }
        Ok(messages::operation(&operation))
    }

    /// Asks a store where it may block, for a client that waits. When the client goes away, the work is asked to stop.
    async fn ask<T: Send + 'static>(
        &self,
        store: ObjectStoreUrl,
        work: impl FnOnce(&archives::Archives, &ObjectStoreUrl, &Progress) -> Result<T, WorkError>
        + Send
        + 'static,
    ) -> Result<T, Status> {
        let permit = Arc::clone(&self.store_requests)
            .acquire_owned()
            .await
            .map_err(|_| ApiError::new(Reason::Internal, "the semaphore of requests was closed"))?;
        self.serving()?;
        let archives = self.archives()?;
        let waiting = Waiting(Arc::new(Progress::new()));
        let progress = Arc::clone(&waiting.0);
        let done = tokio::task::spawn_blocking(move || {
            let outcome = work(&archives, &store, &progress);
            drop(permit);
            outcome.map_err(|error| archive_errors::work_error(error, store.as_str()))
        });
        match done.await {
            Ok(outcome) => outcome.map_err(Status::from),
            Err(failed) => Err(errors::broken_task(&failed).into()),
        }
    }

    fn archives(&self) -> Result<Arc<archives::Archives>, Status> {
        Ok(self.node.archives().cloned().ok_or_else(|| {
            ApiError::new(Reason::StorageUnavailable, "the stores are not open yet")
                .remedy("try again in a moment")
        })?)
    }
}

/// A client that waits for work: dropped, when it goes away, the work is cancelled.
struct Waiting(Arc<Progress>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn grace_period(grace: ProtoDuration) -> Result<Duration, ApiError> {
    let seconds = grace.seconds;
    Duration::try_from(grace)
        .ok()
        .filter(|grace| *grace <= GRACE_MAX)
        .ok_or_else(|| {
            limit(
                "grace period",
                seconds,
                format!("0 to {} seconds", GRACE_MAX.as_secs()),
            )
        })
}

fn limit(what: &str, found: impl std::fmt::Display, limit: String) -> ApiError {
    ApiError::new(
        Reason::LimitExceeded,
        format!("the {what} of {found} is out of bounds: {limit}"),
    )
    .remedy(format!("give {limit}"))
    .detail("what", what)
    .detail("found", found)
    .detail("limit", limit)
}

#[cfg(test)]
mod tests {
    use cairn_api::{ProtoDuration, Reason};

    use super::{Waiting, grace_period};

    #[test]
    fn grace_periods_have_bounds() {
        let grace = |seconds, nanos| grace_period(ProtoDuration { seconds, nanos });
        assert_eq!(grace(90, 0).unwrap().as_secs(), 90);
        for wrong in [(-1, 0), (0, -1), (i64::MAX, 0), (400_000_000, 0)] {
            assert_eq!(
                grace(wrong.0, wrong.1).unwrap_err().reason,
                Reason::LimitExceeded,
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn a_client_that_goes_away_stops_the_work() {
        let waiting = Waiting(Default::default());
        let progress = std::sync::Arc::clone(&waiting.0);
        assert!(!progress.is_cancelled());
        drop(waiting);
        assert!(progress.is_cancelled());
    }
}
