//! A connection to the daemon over its Unix socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::proto::archives_client::ArchivesClient;
use crate::proto::control_client::ControlClient;
use crate::proto::directories_client::DirectoriesClient;
use crate::proto::node_client::NodeClient;
use crate::proto::operations_client::OperationsClient;
use crate::proto::snapshots_client::SnapshotsClient;
use crate::proto::workspaces_client::WorkspacesClient;
use crate::{ApiError, Reason};

/// How long a connection may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer in bytes: a history of a hundred thousand snapshots with notes fits.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The daemon's services. Cheap to clone; clones share the connection.
#[derive(Debug, Clone)]
pub struct Client {
    /// Workspaces.
    pub workspaces: WorkspacesClient<Channel>,
    /// Snapshots.
    pub snapshots: SnapshotsClient<Channel>,
    /// Archives in object stores.
    pub archives: ArchivesClient<Channel>,
    /// What controllers want of the node.
    pub control: ControlClient<Channel>,
    /// Plain directories.
    pub directories: DirectoriesClient<Channel>,
    /// Long work.
    pub operations: OperationsClient<Channel>,
    /// The node.
    pub node: NodeClient<Channel>,
}

impl Client {
    /// Connects to the daemon that listens on `socket`. Fails with [`Reason::DaemonUnreachable`]; the remedy says how to
    /// start a daemon and which socket was tried.
    pub async fn connect(socket: &Path) -> Result<Self, ApiError> {
        // Connecting here first keeps the operating system's error: the channel below wraps it beyond recognition.
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, UnixStream::connect(socket)).await;
        let stream = connected
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
            .map_err(|error| unreachable(socket, error.kind(), &error))?;
        let mut first = Some(stream);
        let path: PathBuf = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let (ready, path) = (first.take(), path.clone());
            async move {
                let stream = match ready {
                    Some(stream) => stream,
                    None => UnixStream::connect(path).await?,
                };
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        });
        // The address is required and never used.
        let channel = Endpoint::from_static("http://cairnd.invalid")
            .connect_timeout(CONNECT_TIMEOUT)
            .connect_with_connector(connector)
            .await
            .map_err(|error| unreachable(socket, io::ErrorKind::Other, &error))?;
        Ok(Client {
            workspaces: WorkspacesClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            snapshots: SnapshotsClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            archives: ArchivesClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            control: ControlClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            directories: DirectoriesClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            operations: OperationsClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            node: NodeClient::new(channel),
        })
    }
}

/// `kind` decides the remedy.
fn unreachable(socket: &Path, kind: io::ErrorKind, error: &dyn std::error::Error) -> ApiError {
    let shown = socket.display();
    let remedy = if kind == io::ErrorKind::PermissionDenied {
        format!("the socket belongs to the user that runs cairnd: run cairn as that user (see ls -l {shown})")
    } else {
        "start the daemon with `cairnd`, or name the socket of a running one with --socket or CAIRN_SOCKET"
            .to_owned()
    };
    ApiError::new(
        Reason::DaemonUnreachable,
        format!("no daemon answers on {shown}: {error}"),
    )
    .remedy(remedy)
    .detail("socket", shown)
}

#[cfg(test)]
mod tests {
    use super::Client;
    use crate::Reason;

    #[tokio::test]
    async fn a_missing_socket_is_named_with_a_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("none.sock");
        let error = Client::connect(&socket).await.unwrap_err();
        assert_eq!(error.reason, Reason::DaemonUnreachable);
        assert_eq!(error.details["socket"], socket.display().to_string());
        assert!(error.remedy.contains("cairnd"));
    }

    #[tokio::test]
    async fn a_socket_without_a_listener_is_unreachable() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("dead.sock");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let error = Client::connect(&socket).await.unwrap_err();
        assert_eq!(error.reason, Reason::DaemonUnreachable);
    }
}
