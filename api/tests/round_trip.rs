//! The contract over a real Unix socket: answers, streams and failures arrive as they were sent.

use std::path::Path;

use cairn_api::proto::node_server::{Node, NodeServer};
use cairn_api::proto::snapshots_server::{Snapshots, SnapshotsServer};
use cairn_api::{ApiError, Client, Reason, proto};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

struct Daemon;

#[tonic::async_trait]
impl Node for Daemon {
    async fn status(
        &self,
        _request: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusResponse>, Status> {
        Ok(Response::new(proto::StatusResponse {
            version: "1.2.3".to_owned(),
            data_directory: b"/not-utf8/\xff".to_vec(),
            ..proto::StatusResponse::default()
        }))
    }
}

/// What the methods that the test does not call answer.
fn not_called<T>() -> Result<Response<T>, Status> {
    Err(Status::internal("the test does not call this"))
}

#[tonic::async_trait]
impl Snapshots for Daemon {
    type DiffStream = tokio_stream::Iter<std::vec::IntoIter<Result<proto::DiffResponse, Status>>>;

    async fn diff(&self, request: Request<proto::DiffRequest>) -> Result<Response<Self::DiffStream>, Status> {
        let difference = |path: &[u8]| proto::Difference {
            kind: proto::DifferenceKind::Added.into(),
            path: path.to_vec(),
            directory: false,
            bytes_before: None,
            bytes_after: Some(0),
        };
        let batches = vec![
            Ok(proto::DiffResponse {
                differences: vec![difference(b"a"), difference(b"b\xff\n")],
            }),
            Ok(proto::DiffResponse {
                differences: vec![difference(b"c")],
            }),
            Err(ApiError::new(Reason::StorageCorrupt, request.into_inner().from).into()),
        ];
        Ok(Response::new(tokio_stream::iter(batches)))
    }

    async fn get(
        &self,
        request: Request<proto::GetSnapshotRequest>,
    ) -> Result<Response<proto::GetSnapshotResponse>, Status> {
        let request = request.into_inner();
        Err(ApiError::new(
            Reason::SnapshotAmbiguous,
            format!("{} fits 2 snapshots", request.reference),
        )
        .remedy("type more digits")
        .detail("reference", &request.reference)
        .detail("candidates", "aaaa1,aaaa2")
        .into())
    }

    async fn create(
        &self,
        _request: Request<proto::CreateSnapshotRequest>,
    ) -> Result<Response<proto::CreateSnapshotResponse>, Status> {
        not_called()
    }

    async fn delete(
        &self,
        _request: Request<proto::DeleteSnapshotRequest>,
    ) -> Result<Response<proto::DeleteSnapshotResponse>, Status> {
        not_called()
    }

    async fn set_labels(
        &self,
        _request: Request<proto::SetLabelsRequest>,
    ) -> Result<Response<proto::SetLabelsResponse>, Status> {
        not_called()
    }

    async fn history(
        &self,
        _request: Request<proto::HistoryRequest>,
    ) -> Result<Response<proto::HistoryResponse>, Status> {
        not_called()
    }

    async fn restore(
        &self,
        _request: Request<proto::RestoreRequest>,
    ) -> Result<Response<proto::RestoreResponse>, Status> {
        not_called()
    }

    async fn fork(
        &self,
        _request: Request<proto::ForkRequest>,
    ) -> Result<Response<proto::ForkResponse>, Status> {
        not_called()
    }
}

/// Serves until the test's runtime ends.
fn serve(socket: &Path) {
    let listener = tokio::net::UnixListener::bind(socket).expect("a fresh directory has room for a socket");
    let server = tonic::transport::Server::builder()
        .add_service(NodeServer::new(Daemon))
        .add_service(SnapshotsServer::new(Daemon))
        .serve_with_incoming(UnixListenerStream::new(listener));
    tokio::spawn(server);
}

#[tokio::test]
async fn answers_streams_and_failures_arrive_as_sent() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket with spaces");
    serve(&socket);
    let mut client = Client::connect(&socket).await.unwrap();

    let status = client
        .node
        .status(proto::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(status.version, "1.2.3");
    assert_eq!(status.data_directory, b"/not-utf8/\xff");

    let request = proto::GetSnapshotRequest {
        workspace: "w".to_owned(),
        reference: "aaaa".to_owned(),
    };
    let failed = client.snapshots.get(request).await.unwrap_err();
    assert_eq!(failed.code(), tonic::Code::FailedPrecondition);
    let error = ApiError::from_status(&failed);
    assert_eq!(
        (error.reason, error.message.as_str()),
        (Reason::SnapshotAmbiguous, "aaaa fits 2 snapshots")
    );
    assert_eq!(
        (error.remedy.as_str(), error.details["candidates"].as_str()),
        ("type more digits", "aaaa1,aaaa2")
    );

    let request = proto::DiffRequest {
        workspace: "w".to_owned(),
        from: "x".to_owned(),
        to: None,
    };
    let mut stream = client.snapshots.diff(request).await.unwrap().into_inner();
    let mut paths = Vec::new();
    let end = loop {
        match stream.message().await {
            Ok(Some(batch)) => paths.extend(batch.differences.into_iter().map(|difference| difference.path)),
            Ok(None) => break None,
            Err(status) => break Some(ApiError::from_status(&status)),
        }
    };
    assert_eq!(paths, [&b"a"[..], b"b\xff\n", b"c"]);
    assert_eq!(end, Some(ApiError::new(Reason::StorageCorrupt, "x")));
}

#[tokio::test]
async fn a_service_that_the_daemon_lacks_is_unrecognized() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    serve(&socket);
    let mut client = Client::connect(&socket).await.unwrap();
    let failed = client
        .workspaces
        .list(proto::ListWorkspacesRequest {})
        .await
        .unwrap_err();
    assert_eq!(ApiError::from_status(&failed).reason, Reason::Unrecognized);
}

#[tokio::test]
async fn a_failure_about_a_huge_argument_still_arrives() {
    let huge = "x".repeat(1 << 20);
    let error = cairn_api::convert::workspace_name(&huge).unwrap_err();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    serve(&socket);
    let mut client = Client::connect(&socket).await.unwrap();
    let request = proto::GetSnapshotRequest {
        workspace: "w".to_owned(),
        reference: huge,
    };
    let failed = ApiError::from_status(&client.snapshots.get(request).await.unwrap_err());
    assert_eq!(failed.reason, Reason::SnapshotAmbiguous, "{failed:?}");
    assert_eq!(error.reason, Reason::WorkspaceNameInvalid);
}
