//! The service `Directories`. What takes long becomes an operation; the rest looks at a directory while the client waits, a bounded number at a
//! time, apart from other requests: a directory that hangs holds up none of those.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use cairn_api::proto::directories_server::Directories as Contract;
use cairn_api::{ApiError, Reason, convert, proto};
use cairn_snapshot::archive::Progress;
use cairn_snapshot::directory::RelativePath;
use cairn_snapshot::engine::EngineKind;
use cairn_snapshot::operations::history::HistoryRequest;
use cairn_snapshot::repository::text::Text;
use cairn_snapshot::repository::{OperationId as PlanId, RepositoryId};
use tokio::sync::OwnedSemaphorePermit;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::batches::batches;
use super::directory_messages::inspection;
use super::{Service, archive_messages, directory_errors, directory_messages as messages, errors};
use crate::directories::requests::{ACTOR_BYTES_MAX, WAIT_DEFAULT, WAIT_MAX};
use crate::directories::work::compression;
use crate::directories::{
    Asker, CollectRequest, DeleteRequest, Directories, DirectoriesError, DirectoryRef, ForkRequest, Job,
    LabelsRequest, RegisterRequest, Registered, RestoreRequest, SaveRequest, UnsavedChanges, VerifyRequest,
};

/// Snapshots that one request for verifying may name.
const REFERENCES_MAX: usize = 256;
/// Slowest rate of verifying in bytes a second.
const BYTES_PER_SECOND_MIN: u64 = 64 << 10;
/// Snapshots that one answer holds, at most, and if nothing else is asked for.
const HISTORY_MAX: u32 = 10_000;
const HISTORY_DEFAULT: u32 = 1_000;
/// Paths that one request may name.
const PATHS_MAX: usize = cairn_snapshot::repository::descriptor::PATHS_MAX;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Contract for Service {
    async fn register(
        &self,
        request: Request<proto::RegisterDirectoryRequest>,
    ) -> Answer<proto::RegisterDirectoryResponse> {
        let request = request.into_inner();
        let path = |bytes: Vec<u8>| (!bytes.is_empty()).then(|| PathBuf::from(OsString::from_vec(bytes)));
        let wanted = RegisterRequest {
            workspace: path(request.workspace),
            control: request.control_directory.and_then(path),
            init: request.init,
        };
        let done = self.look(move |directories, _| {
            let done = directories.register(&wanted)?;
            Ok(proto::RegisterDirectoryResponse {
                directory: Some(messages::directory(directories, &done.directory)),
                registered: done.registered,
                initialized: done.initialized,
            })
        });
        Ok(Response::new(done.await?))
    }

    async fn unregister(
        &self,
        request: Request<proto::UnregisterDirectoryRequest>,
    ) -> Answer<proto::UnregisterDirectoryResponse> {
        let asked = reference_of(request.into_inner().repository)?;
        let done = self.look(move |directories, _| {
            let directory = directories.unregister(&asked)?;
            Ok(proto::UnregisterDirectoryResponse {
                directory: Some(messages::directory(directories, &directory)),
            })
        });
        Ok(Response::new(done.await?))
    }

    async fn list(
        &self,
        _request: Request<proto::ListDirectoriesRequest>,
    ) -> Answer<proto::ListDirectoriesResponse> {
        self.serving()?;
        let directories = self.directories()?;
        let all = directories.list();
        Ok(Response::new(proto::ListDirectoriesResponse {
            directories: all
                .iter()
                .map(|directory| messages::directory(&directories, directory))
                .collect(),
        }))
    }

    async fn get(&self, request: Request<proto::GetDirectoryRequest>) -> Answer<proto::GetDirectoryResponse> {
        let proto::GetDirectoryRequest { repository, changes } = request.into_inner();
        let asked = reference_of(repository)?;
        let done = self.look(move |directories, progress| {
            let directory = directories.find(&asked)?;
            // One that is missing is told as such: that is what is asked.
            let status = match directories.status(&directory, changes, progress) {
                Ok(status) => Some(messages::status(&status)),
                Err(error) if changes => return Err(error),
                Err(_) => None,
            };
            Ok(proto::GetDirectoryResponse {
                directory: Some(messages::directory(directories, &directory)),
                status,
            })
        });
        Ok(Response::new(done.await?))
    }

    async fn save(
        &self,
        request: Request<proto::SaveDirectoryRequest>,
    ) -> Answer<proto::SaveDirectoryResponse> {
        let request = request.into_inner();
        for engine in [&request.engine, &request.engine_default].into_iter().flatten() {
            EngineKind::requested(engine).map_err(|error| told(error.into()))?;
        }
        if let Some(words) = &request.compression {
            compression(words).map_err(told)?;
        }
        let wanted = SaveRequest {
            tags: convert::tags(&request.tags)?.into_iter().collect(),
            note: request.note,
            template: request.template,
            engine: request.engine,
            engine_default: request.engine_default,
            compression: request.compression,
            paths: paths(&request.paths)?,
            key: request.key,
            skip_unchanged: request.skip_unchanged,
            schedule: None,
            collect: request.collect,
            asker: asker(request.actor, request.wait_seconds)?,
        };
        let asked = reference_of(request.repository)?;
        let done = self.look(move |directories, _| {
            let directory = directories.find(&asked)?;
            // What can never be right is told at once.
            let repository = directories.open_for(&directory, None)?;
            check_save(&wanted)?;
            if let Some(name) = &wanted.template
                && repository.config()?.template(name).is_none()
            {
                return Err(DirectoriesError::Invalid {
                    what: format!("there is no template {name:?} in the configuration of the repository"),
                });
            }
            begin(directories, &directory, Job::Save(wanted))
        });
        Ok(Response::new(proto::SaveDirectoryResponse {
            operation: Some(done.await?),
        }))
    }

    async fn plan_restore(
        &self,
        request: Request<proto::RestoreDirectoryRequest>,
    ) -> Answer<proto::PlanRestoreDirectoryResponse> {
        let (asked, reference, wanted) = restore(request.into_inner())?;
        let done = self.look(move |directories, progress| {
            let directory = directories.find(&asked)?;
            let wanted = wanted(directories.resolve(&directory, &reference)?);
            let (facts, plan) = directories.plan_restore(&directory, &wanted, progress)?;
            Ok(messages::restore_plan(&facts, &plan))
        });
        Ok(Response::new(done.await?))
    }

    async fn restore(
        &self,
        request: Request<proto::RestoreDirectoryRequest>,
    ) -> Answer<proto::RestoreDirectoryResponse> {
        let (asked, reference, wanted) = restore(request.into_inner())?;
        let done = self.look(move |directories, _| {
            let directory = directories.find(&asked)?;
            let wanted = wanted(directories.resolve(&directory, &reference)?);
            begin(directories, &directory, Job::Restore(wanted))
        });
        Ok(Response::new(proto::RestoreDirectoryResponse {
            operation: Some(done.await?),
        }))
    }

    async fn verify(
        &self,
        request: Request<proto::VerifyDirectoryRequest>,
    ) -> Answer<proto::VerifyDirectoryResponse> {
        let proto::VerifyDirectoryRequest {
            repository,
            references,
            bytes_per_second_max,
        } = request.into_inner();
        bounded(
            "number of snapshots",
            references.len() as u64,
            REFERENCES_MAX as u64,
        )?;
        if let Some(rate) = bytes_per_second_max.filter(|rate| *rate < BYTES_PER_SECOND_MIN) {
            return Err(told(DirectoriesError::Limit {
                what: "rate",
                found: rate,
                limit: format!("at least {BYTES_PER_SECOND_MIN} bytes a second"),
            }));
        }
        let asked = reference_of(repository)?;
        let done = self.look(move |directories, _| {
            let directory = directories.find(&asked)?;
            let snapshots = references
                .iter()
                .map(|reference| directories.resolve(&directory, reference))
                .collect::<Result<_, _>>()?;
            let wanted = VerifyRequest {
                snapshots,
                bytes_per_second: bytes_per_second_max,
            };
            begin(directories, &directory, Job::Verify(wanted))
        });
        Ok(Response::new(proto::VerifyDirectoryResponse {
            operation: Some(done.await?),
        }))
    }

    async fn fork(
        &self,
        request: Request<proto::ForkDirectoryRequest>,
    ) -> Answer<proto::ForkDirectoryResponse> {
        let request = request.into_inner();
        let asked = reference_of(request.repository)?;
        let asker = asker(request.actor, None)?;
        let done = self.look(move |directories, _| {
            let directory = directories.find(&asked)?;
            let wanted = ForkRequest {
                snapshot: directories.resolve(&directory, &request.reference)?,
                workspace: request.workspace,
                control: request.control_directory,
                asker,
            };
            directories.check_fork(&wanted)?;
            begin(directories, &directory, Job::Fork(wanted))
        });
        Ok(Response::new(proto::ForkDirectoryResponse {
            operation: Some(done.await?),
        }))
    }

    async fn plan_collect(
        &self,
        request: Request<proto::PlanCollectDirectoryRequest>,
    ) -> Answer<proto::PlanCollectDirectoryResponse> {
        let request = request.into_inner();
        let asked = reference_of(request.repository)?;
        let asker = asker(None, request.wait_seconds)?;
        let done = self.look(move |directories, progress| {
            let directory = directories.find(&asked)?;
            let plan = directories.plan_collect(&directory, &asker, progress)?;
            Ok(messages::collect_plan(&plan))
        });
        Ok(Response::new(done.await?))
    }

    async fn collect(
        &self,
        request: Request<proto::CollectDirectoryRequest>,
    ) -> Answer<proto::CollectDirectoryResponse> {
        let request = request.into_inner();
        let asked = reference_of(request.repository)?;
        let plan = PlanId::from_text(&request.plan).ok_or_else(|| {
            told(DirectoriesError::Invalid {
                what: format!("{:?} is no plan: give 32 hexadecimal digits", request.plan),
            })
        })?;
        let wanted = CollectRequest {
            plan,
            asker: asker(request.actor, request.wait_seconds)?,
        };
        let done = self.look(move |directories, _| {
            let directory = directories.find(&asked)?;
            begin(directories, &directory, Job::Collect(wanted))
        });
        Ok(Response::new(proto::CollectDirectoryResponse {
            operation: Some(done.await?),
        }))
    }

    async fn delete(
        &self,
        request: Request<proto::DeleteDirectorySnapshotRequest>,
    ) -> Answer<proto::DeleteDirectorySnapshotResponse> {
        let request = request.into_inner();
        let asked = reference_of(request.repository)?;
        let asker = asker(request.actor, request.wait_seconds)?;
        let done = self.look(move |directories, _| {
            let directory = directories.find(&asked)?;
            let wanted = DeleteRequest {
                snapshot: directories.resolve(&directory, &request.reference)?,
                asker,
            };
            begin(directories, &directory, Job::Delete(wanted))
        });
        Ok(Response::new(proto::DeleteDirectorySnapshotResponse {
            operation: Some(done.await?),
        }))
    }

    async fn inspect(
        &self,
        request: Request<proto::InspectDirectoryRequest>,
    ) -> Answer<proto::InspectDirectoryResponse> {
        let proto::InspectDirectoryRequest { repository, engine } = request.into_inner();
        let asked = reference_of(repository)?;
        let done = self.look(move |directories, progress| {
            let directory = directories.find(&asked)?;
            let found = directories.inspect(&directory, engine.as_deref(), progress)?;
            Ok(proto::InspectDirectoryResponse {
                directory: Some(messages::directory(directories, &directory)),
                ..inspection::message(&found)
            })
        });
        Ok(Response::new(done.await?))
    }

    type DiffStream = Comparison;

    async fn diff(&self, request: Request<proto::DiffDirectoryRequest>) -> Answer<Comparison> {
        let proto::DiffDirectoryRequest {
            repository,
            from,
            to,
            paths: given,
        } = request.into_inner();
        let asked = reference_of(repository)?;
        let paths = paths(&given)?;
        let (permit, directories) = self.turn_for_directories().await?;
        let waiting = Waiting(Arc::new(Progress::new()));
        let progress = Arc::clone(&waiting.0);
        let (mut batches, messages) = batches(|differences| proto::DiffDirectoryResponse { differences });
        tokio::task::spawn_blocking(move || {
            let mut compare = || {
                let directory = directories.find(&asked)?;
                let states = (from.as_deref(), to.as_deref());
                directories.diff(&directory, states, &paths, &progress, |difference| {
                    batches.push(inspection::difference(&difference))
                })
            };
            let outcome = compare();
            batches.finish(outcome.map_err(told));
            drop(permit);
        });
        Ok(Response::new(Comparison {
            messages,
            _waiting: waiting,
        }))
    }

    async fn history(
        &self,
        request: Request<proto::DirectoryHistoryRequest>,
    ) -> Answer<proto::DirectoryHistoryResponse> {
        let request = request.into_inner();
        let asked = reference_of(request.repository)?;
        let limit = request.limit.unwrap_or(HISTORY_DEFAULT);
        bounded("number of snapshots", limit.into(), HISTORY_MAX.into())?;
        bounded(
            "number of tags",
            request.tags.len() as u64,
            cairn_snapshot::repository::descriptor::TAGS_MAX as u64,
        )?;
        let path = request.path.as_deref().map(RelativePath::new).transpose();
        let wanted = HistoryRequest {
            grep: request.grep,
            tags: convert::tags(&request.tags)?,
            all: request.all,
            path: path.map_err(|error| told(error.into()))?,
            before: request.before_sequence,
            limit: Some(limit as usize),
        };
        let done = self.look(move |directories, progress| {
            let directory = directories.find(&asked)?;
            let history = directories.search(&directory, &wanted, progress)?;
            Ok(messages::history(&history))
        });
        Ok(Response::new(done.await?))
    }

    async fn get_snapshot(
        &self,
        request: Request<proto::GetDirectorySnapshotRequest>,
    ) -> Answer<proto::GetDirectorySnapshotResponse> {
        use proto::get_directory_snapshot_request::By;
        let request = request.into_inner();
        let asked = reference_of(request.repository)?;
        let by = request.by.unwrap_or_else(|| By::Reference("latest".to_owned()));
        let done = self.look(move |directories, _| {
            let directory = directories.find(&asked)?;
            let facts = match by {
                By::Reference(reference) => directories.snapshot(&directory, &reference)?,
                By::Key(key) => {
                    let found = directories.snapshot_by_key(&directory, &key)?;
                    found.ok_or(DirectoriesError::NoKey { key })?
                }
            };
            Ok(proto::GetDirectorySnapshotResponse {
                snapshot: Some(messages::snapshot(&facts)),
            })
        });
        Ok(Response::new(done.await?))
    }

    async fn set_labels(
        &self,
        request: Request<proto::SetDirectoryLabelsRequest>,
    ) -> Answer<proto::SetDirectoryLabelsResponse> {
        let request = request.into_inner();
        let asked = reference_of(request.repository)?;
        let add_pin = match request.add_pin {
            None => None,
            Some(pin) => {
                let expires = match &pin.expires {
                    None => None,
                    Some(time) => Some(convert::timestamp(Some(time)).map_err(|_| {
                        told(DirectoriesError::Invalid {
                            what: "the time at which the pin expires is none".to_owned(),
                        })
                    })?),
                };
                Some((pin.reason, expires))
            }
        };
        let wanted = LabelsRequest {
            note: request.note,
            add_tags: convert::tags(&request.add_tags)?,
            remove_tags: convert::tags(&request.remove_tags)?,
            add_pin,
            remove_pins: request.remove_pins,
            remove_all_pins: request.remove_all_pins,
            asker: asker(request.actor, request.wait_seconds)?,
        };
        let done = self.look(move |directories, progress| {
            let directory = directories.find(&asked)?;
            let id = directories.resolve(&directory, &request.reference)?;
            let labelled = directories.set_labels(&directory, id, &wanted, progress)?;
            Ok(proto::SetDirectoryLabelsResponse {
                snapshot: Some(messages::snapshot(&labelled.snapshot)),
                pin: labelled.pin,
                removed_pins: labelled.removed_pins,
                recovered: labelled.recovered.iter().map(messages::recovered).collect(),
            })
        });
        Ok(Response::new(done.await?))
    }
}

impl Service {
    /// Looks at a directory where it may block, for a client that waits. When the client goes away, the work is asked to stop.
    async fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Directories>, &Progress) -> Result<T, DirectoriesError> + Send + 'static,
    ) -> Result<T, Status> {
        let (permit, directories) = self.turn_for_directories().await?;
        let waiting = Waiting(Arc::new(Progress::new()));
        let progress = Arc::clone(&waiting.0);
        let done = tokio::task::spawn_blocking(move || {
            let outcome = work(&directories, &progress);
            drop(permit);
            outcome
        });
        match done.await {
            Ok(outcome) => outcome.map_err(told),
            Err(failed) => Err(errors::broken_task(&failed).into()),
        }
    }

    /// Waits for a turn to look at directories.
    async fn turn_for_directories(&self) -> Result<(OwnedSemaphorePermit, Arc<Directories>), Status> {
        let permit = Arc::clone(&self.directory_requests)
            .acquire_owned()
            .await
            .map_err(|_| ApiError::new(Reason::Internal, "the semaphore of requests was closed"))?;
        self.serving()?;
        Ok((permit, self.directories()?))
    }

    fn directories(&self) -> Result<Arc<Directories>, Status> {
        Ok(self.node.directories().cloned().ok_or_else(|| {
            ApiError::new(Reason::StorageUnavailable, "the stores are not open yet")
                .remedy("try again in a moment")
        })?)
    }
}

/// A client that waits for an answer: when it goes away, this is dropped, and the work stops.
struct Waiting(Arc<Progress>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// The differences that a client reads. When it goes away, the comparison stops.
pub struct Comparison {
    messages: ReceiverStream<Result<proto::DiffDirectoryResponse, Status>>,
    _waiting: Waiting,
}

impl Stream for Comparison {
    type Item = Result<proto::DiffDirectoryResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.messages).poll_next(context)
    }
}

fn told(error: DirectoriesError) -> Status {
    directory_errors::api_error(&error).into()
}

/// Starts work, and tells of it.
fn begin(
    directories: &Arc<Directories>,
    directory: &Arc<Registered>,
    job: Job,
) -> Result<proto::Operation, DirectoriesError> {
    let (operation, new) = directories.start(directory, job)?;
    if new {
        let kind = operation.request.kind.as_str();
        tracing::info!(operation = %operation.id, kind, directory = %directory.workspace.display(), "an operation begins");
    }
    Ok(archive_messages::operation(&operation))
}

fn reference_of(message: Option<proto::DirectoryRef>) -> Result<DirectoryRef, Status> {
    use proto::directory_ref::By;
    let invalid = |what: String| told(DirectoriesError::Invalid { what });
    match message.and_then(|message| message.by) {
        Some(By::Repository(id)) => match RepositoryId::from_text(&id) {
            Some(id) => Ok(DirectoryRef::Repository(id)),
            None => Err(invalid(format!(
                "{id:?} is no identity of a repository: give 32 hexadecimal digits"
            ))),
        },
        Some(By::Path(path)) => Ok(DirectoryRef::Path(PathBuf::from(OsString::from_vec(path)))),
        None => Err(invalid("no repository is given".to_owned())),
    }
}

fn bounded(what: &'static str, found: u64, limit: u64) -> Result<(), Status> {
    match found <= limit {
        true => Ok(()),
        false => Err(told(DirectoriesError::Limit {
            what,
            found,
            limit: format!("at most {limit}"),
        })),
    }
}

fn paths(given: &[Vec<u8>]) -> Result<Vec<RelativePath>, Status> {
    bounded("number of paths", given.len() as u64, PATHS_MAX as u64)?;
    let paths = given.iter().map(|path| RelativePath::new(path));
    let paths: Vec<RelativePath> = paths
        .collect::<Result<_, _>>()
        .map_err(|error| told(error.into()))?;
    // The root is everything.
    Ok(match paths.iter().any(RelativePath::is_root) {
        true => Vec::new(),
        false => paths,
    })
}

fn asker(actor: Option<String>, wait_seconds: Option<u32>) -> Result<Asker, Status> {
    let actor = actor.filter(|actor| !actor.is_empty());
    let length = actor.as_ref().map_or(0, String::len);
    bounded("length of the actor", length as u64, ACTOR_BYTES_MAX as u64)?;
    let wait_seconds = wait_seconds.unwrap_or(WAIT_DEFAULT.as_secs() as u32);
    bounded("wait in seconds", wait_seconds.into(), WAIT_MAX.as_secs())?;
    Ok(Asker { actor, wait_seconds })
}

/// What of a save can be told without looking at the directory.
fn check_save(request: &SaveRequest) -> Result<(), DirectoriesError> {
    use cairn_snapshot::repository::descriptor::{NOTE_BYTES_MAX, TAGS_MAX};
    use cairn_snapshot::repository::idempotency::KEY_BYTES_MAX;
    let key = request.key.as_ref().map_or(1, String::len);
    for (what, found, least, most) in [
        ("length of the note", request.note.len(), 0, NOTE_BYTES_MAX),
        ("number of tags", request.tags.len(), 0, TAGS_MAX),
        ("length of the key", key, 1, KEY_BYTES_MAX),
    ] {
        if !(least..=most).contains(&found) {
            return Err(DirectoriesError::Limit {
                what,
                found: found as u64,
                limit: format!("{least} to {most}"),
            });
        }
    }
    Ok(())
}

/// What a request for a restore asks for: of whom, of what, and the rest once the snapshot is known.
fn restore(
    request: proto::RestoreDirectoryRequest,
) -> Result<
    (
        DirectoryRef,
        String,
        impl FnOnce(cairn_types::SnapshotId) -> RestoreRequest + Send + 'static,
    ),
    Status,
> {
    let unsaved = match proto::DirectoryUnsaved::try_from(request.unsaved) {
        Ok(proto::DirectoryUnsaved::Unspecified | proto::DirectoryUnsaved::Save) => UnsavedChanges::Save,
        Ok(proto::DirectoryUnsaved::Discard) => UnsavedChanges::Discard,
        Ok(proto::DirectoryUnsaved::Refuse) => UnsavedChanges::Refuse,
        // A later version may mean something milder by it than what this one would do.
        Err(_) => {
            return Err(told(DirectoriesError::Invalid {
                what: format!("unsaved is {}, which this version does not know", request.unsaved),
            }));
        }
    };
    let paths = paths(&request.paths)?;
    let asker = asker(request.actor, request.wait_seconds)?;
    let wanted = move |snapshot| RestoreRequest {
        snapshot,
        paths,
        unsaved,
        asker,
    };
    Ok((reference_of(request.repository)?, request.reference, wanted))
}
