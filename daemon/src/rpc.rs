//! The RPC server: the contract of `cairn-api` over a Unix socket, and what controllers need of it over TCP ([`tcp`]).
//!
//! A handler checks the form of the request, runs one operation of the stores on the pool for blocking work, and turns the
//! outcome into a message. It decides nothing else. At most `rpc.requests_max` operations run at once; more wait. An
//! operation whose client goes away is finished all the same.

use std::future::Future;
use std::sync::Arc;

use cairn_api::proto::archives_server::ArchivesServer;
use cairn_api::proto::control_server::ControlServer;
use cairn_api::proto::directories_server::DirectoriesServer;
use cairn_api::proto::node_server::NodeServer;
use cairn_api::proto::operations_server::OperationsServer;
use cairn_api::proto::snapshots_server::SnapshotsServer;
use cairn_api::proto::workspaces_server::WorkspacesServer;
use cairn_api::{ApiError, Reason};
use cairn_vfs::Volumes;
use cairn_vfs::control::ControlError;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::Status;
use tonic::transport::Server;

use crate::node::{Node, Phase};

pub mod archive_errors;
mod archive_messages;
mod archives;
mod batches;
mod control;
pub mod control_errors;
mod control_messages;
mod directories;
pub mod directory_errors;
mod directory_messages;
pub mod errors;
mod health;
mod messages;
mod node;
mod operations;
mod snapshots;
pub mod tcp;
pub mod tls;
mod workspaces;

/// Streams that one connection may have open.
const STREAMS_PER_CONNECTION_MAX: u32 = 64;
/// Requests that ask an object store at once; more wait.
const STORE_REQUESTS_MAX: usize = 16;
/// Requests that look at plain directories at once; more wait.
const DIRECTORY_REQUESTS_MAX: usize = 32;
/// Largest request in bytes.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Largest answer in bytes.
const ANSWER_BYTES_MAX: usize = cairn_api::client::MESSAGE_BYTES_MAX;

/// What the services share.
#[derive(Debug, Clone)]
struct Service {
    node: Arc<Node>,
    requests: Arc<Semaphore>,
    store_requests: Arc<Semaphore>,
    directory_requests: Arc<Semaphore>,
}

/// Answers on `listener` until `shutdown` ends and the open requests are answered.
pub async fn serve(
    node: Arc<Node>,
    listener: UnixListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let service = Service::new(node);
    Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .add_service(
            WorkspacesServer::new(service.clone())
                .max_decoding_message_size(REQUEST_BYTES_MAX)
                .max_encoding_message_size(ANSWER_BYTES_MAX),
        )
        .add_service(
            SnapshotsServer::new(service.clone())
                .max_decoding_message_size(REQUEST_BYTES_MAX)
                .max_encoding_message_size(ANSWER_BYTES_MAX),
        )
        .add_service(
            ArchivesServer::new(service.clone())
                .max_decoding_message_size(REQUEST_BYTES_MAX)
                .max_encoding_message_size(ANSWER_BYTES_MAX),
        )
        .add_service(
            ControlServer::new(service.clone())
                .max_decoding_message_size(REQUEST_BYTES_MAX)
                .max_encoding_message_size(ANSWER_BYTES_MAX),
        )
        .add_service(
            DirectoriesServer::new(service.clone())
                .max_decoding_message_size(REQUEST_BYTES_MAX)
                .max_encoding_message_size(ANSWER_BYTES_MAX),
        )
        .add_service(
            OperationsServer::new(service.clone())
                .max_decoding_message_size(REQUEST_BYTES_MAX)
                .max_encoding_message_size(ANSWER_BYTES_MAX),
        )
        .add_service(NodeServer::new(service).max_decoding_message_size(REQUEST_BYTES_MAX))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), shutdown)
        .await
}

/// Answers on `listener`, over TCP with mutual TLS, until `shutdown` ends and the open requests are answered. At most
/// `rpc.requests_max` operations run at once for these clients, besides those of the Unix socket.
pub async fn serve_tcp(
    node: Arc<Node>,
    endpoint: tcp::Endpoint,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    tcp::serve(Service::new(node), endpoint, listener, shutdown).await
}

impl Service {
    fn new(node: Arc<Node>) -> Self {
        let requests = Arc::new(Semaphore::new(node.config.rpc_requests_max as usize));
        Service {
            node,
            requests,
            store_requests: Arc::new(Semaphore::new(STORE_REQUESTS_MAX)),
            directory_requests: Arc::new(Semaphore::new(DIRECTORY_REQUESTS_MAX)),
        }
    }

    /// Waits for a turn. Fails while the daemon is not serving.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, Status> {
        let permit = Arc::clone(&self.requests)
            .acquire_owned()
            .await
            .map_err(|_| ApiError::new(Reason::Internal, "the semaphore of requests was closed"))?;
        self.serving()?;
        Ok(permit)
    }

    /// Fails while the daemon is not serving.
    fn serving(&self) -> Result<(), Status> {
        match self.node.phase() {
            Phase::Serving => Ok(()),
            Phase::Starting => Err(
                ApiError::new(Reason::StorageUnavailable, "the daemon is starting")
                    .remedy("try again in a moment")
                    .into(),
            ),
            Phase::Stopping => Err(ApiError::new(Reason::ShuttingDown, "the daemon is stopping")
                .remedy("start it again, then repeat the command")
                .into()),
        }
    }

    /// Runs one operation of the stores where it may block.
    async fn run<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Volumes) -> Result<T, ControlError> + Send + 'static,
    ) -> Result<T, Status> {
        let permit = self.turn().await?;
        let volumes = self.volumes()?;
        let done = tokio::task::spawn_blocking(move || {
            let outcome = operation(&volumes);
            drop(permit);
            outcome
        });
        match done.await {
            Ok(outcome) => outcome.map_err(|error| errors::api_error(error).into()),
            Err(failed) => Err(errors::broken_task(&failed).into()),
        }
    }

    fn volumes(&self) -> Result<Arc<Volumes>, Status> {
        let stores = self.node.stores();
        Ok(stores.map(|stores| Arc::clone(stores.volumes())).ok_or_else(|| {
            ApiError::new(Reason::StorageUnavailable, "the stores are not open yet")
                .remedy("try again in a moment")
        })?)
    }
}
