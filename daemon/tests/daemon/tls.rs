//! RPC over TCP: who is let in, who is not, and that certificates can be changed while the daemon runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cairn_api::proto::control_client::ControlClient;
use cairn_api::proto::operations_client::OperationsClient;
use cairn_api::proto::workspaces_client::WorkspacesClient;
use cairn_api::{ApiError, Reason, proto};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::rustls::ClientConfig;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::authority::{Authority, Files, SERVER, ask, channel, client_config, connect};
use super::harness::{Daemon, cairnd, directory, run_to_end};

/// Longest wait before a test fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon with one authority for itself and its clients.
struct Node {
    authority: Authority,
    files: Files,
    daemon: Daemon,
    address: SocketAddr,
    _directory: TempDir,
}

const CLIENTS: &str =
    "control_clients = ['operator', 'spiffe://cluster/ns/cairn']\noperations_clients = ['watcher']";

/// Where a daemon answers RPC over TCP.
pub fn tcp_address(daemon: &Daemon) -> SocketAddr {
    let text = std::fs::read(daemon.data.join("endpoints.json")).unwrap();
    let endpoints: serde_json::Value = serde_json::from_slice(&text).unwrap();
    endpoints["rpc_tcp"].as_str().unwrap().parse().unwrap()
}

fn node() -> Node {
    let directory = directory();
    let authority = Authority::new();
    let files = Files::write(directory.path(), &authority.issue(&[SERVER]), &authority, CLIENTS);
    let data = directory.path().join("data");
    let daemon = Daemon::start_with(&data, cairnd(&data).arg("--config").arg(files.config()));
    let address = tcp_address(&daemon);
    Node {
        authority,
        files,
        daemon,
        address,
        _directory: directory,
    }
}

impl Node {
    fn client(&self, names: &[&str]) -> Arc<ClientConfig> {
        client_config(&self.authority, Some(&self.authority.issue(names)))
    }
}

#[tokio::test]
async fn the_right_names_may_use_their_services_and_no_others() {
    let node = node();
    for names in [
        &["operator"][..],
        &["OPERATOR", "other"],
        &["spiffe://cluster/ns/cairn"],
    ] {
        let info = ask(node.address, &node.client(names)).await.unwrap();
        assert_eq!(info.instance.len(), 32);
        assert!(info.features.contains(&"drain".to_owned()));
    }
    for names in [
        &[][..],
        &["operator.example"],
        &["spiffe://cluster/ns/CAIRN"],
        &["*"],
        &["watcher"],
    ] {
        let names: Vec<&str> = names.iter().copied().filter(|name| *name != "*").collect();
        let channel = channel(node.address, &node.client(&names)).await.unwrap();
        let mut control = ControlClient::new(channel);
        let status = control.get_info(proto::GetInfoRequest {}).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        let error = ApiError::from_status(&status);
        assert_eq!(error.reason, Reason::PeerDenied);
        assert_eq!(error.details["service"], "control");
        assert!(error.remedy.contains("rpc.tcp.control_clients"));
    }
    let watcher = channel(node.address, &node.client(&["watcher"])).await.unwrap();
    let listed = OperationsClient::new(watcher.clone())
        .list(proto::ListOperationsRequest {})
        .await
        .unwrap();
    assert!(listed.into_inner().operations.is_empty());
    let operator = channel(node.address, &node.client(&["operator"])).await.unwrap();
    let denied = OperationsClient::new(operator.clone())
        .list(proto::ListOperationsRequest {})
        .await
        .unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    // What only the Unix socket serves is not there at all.
    let missing = WorkspacesClient::new(operator)
        .list(proto::ListWorkspacesRequest {})
        .await
        .unwrap_err();
    assert_eq!(missing.code(), Code::Unimplemented);
    let page = node.daemon.get("/metrics").1;
    assert!(page.contains("cairn_rpc_tcp_denied_total 6\n"), "{page}");
}

#[tokio::test]
async fn who_has_no_right_certificate_does_not_come_in() {
    let node = node();
    let stranger = Authority::new();
    let refused = [
        client_config(&node.authority, None),
        client_config(&node.authority, Some(&stranger.issue(&["operator"]))),
        client_config(
            &node.authority,
            Some(&node.authority.issue_until(&["operator"], 2020)),
        ),
    ];
    for config in &refused {
        // In TLS 1.3 the client is done before the server has looked at its certificate.
        let outcome = async {
            let mut stream = connect(node.address, config).await?;
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
            let mut byte = [0];
            stream.read_exact(&mut byte).await
        };
        let error = outcome.await.unwrap_err();
        assert!(
            error.to_string().contains("alert") || error.kind() != std::io::ErrorKind::Other,
            "{error}"
        );
        ask(node.address, config).await.unwrap_err();
    }
    // A client that trusts another authority does not speak to this daemon.
    let distrusting = client_config(&stranger, Some(&node.authority.issue(&["operator"])));
    connect(node.address, &distrusting).await.unwrap_err();
    ask(node.address, &node.client(&["operator"])).await.unwrap();
}

#[tokio::test]
async fn garbage_and_silence_disturb_nobody() {
    let node = node();
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(TcpStream::connect(node.address).await.unwrap());
    }
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 4096],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\xff\xff",
    ] {
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // An alert, a reset or nothing: it must only end.
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "the daemon keeps a connection of garbage");
    }
    // Garbage inside of TLS.
    let mut stream = connect(node.address, &node.client(&["operator"])).await.unwrap();
    stream.write_all(&[0xaa; 1 << 16]).await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "the daemon keeps a connection of garbage");
    ask(node.address, &node.client(&["operator"])).await.unwrap();
    drop(silent);
}

#[tokio::test]
async fn a_message_beyond_the_limit_is_refused_and_the_connection_stays() {
    let node = node();
    let channel = channel(node.address, &node.client(&["operator"])).await.unwrap();
    let mut control = ControlClient::new(channel);
    let status = control
        .get_workspace(proto::GetManagedWorkspaceRequest {
            key: "k".repeat(2 << 20),
        })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    control.get_info(proto::GetInfoRequest {}).await.unwrap();
}

#[tokio::test]
async fn certificates_are_changed_while_clients_are_connected() {
    let node = node();
    let before = channel(node.address, &node.client(&["operator"])).await.unwrap();
    let mut connected = ControlClient::new(before);
    connected.get_info(proto::GetInfoRequest {}).await.unwrap();

    // Half a change: the key does not fit the certificate. What held before holds on.
    let fresh = Authority::new();
    let issued = fresh.issue(&[SERVER]);
    std::fs::write(node.files.directory.join("tls.crt"), &issued.certificate).unwrap();
    node.daemon.wait_for_line("changed certificates cannot be used");
    ask(node.address, &node.client(&["operator"])).await.unwrap();

    node.files.replace(&issued, &fresh);
    node.daemon.wait_for_line("read the certificates again");
    // Perhaps seen between two of the renames: then once more.
    let new = client_config(&fresh, Some(&fresh.issue(&["operator"])));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while ask(node.address, &new).await.is_err() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the new certificates do not hold"
        );
    }
    // The old ones do not, and whoever was connected still is.
    ask(node.address, &node.client(&["operator"])).await.unwrap_err();
    connected.get_info(proto::GetInfoRequest {}).await.unwrap();
}

#[tokio::test]
async fn health_is_readiness() {
    let node = node();
    let mut health = HealthClient::new(channel(node.address, &node.client(&[])).await.unwrap());
    let mut check = async |service: &str| {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        health.check(request).await
    };
    for service in ["", "cairn.v1.Control", "cairn.v1.Operations"] {
        let answer = check(service).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving);
    }
    assert_eq!(
        check("cairn.v1.Workspaces").await.unwrap_err().code(),
        Code::NotFound
    );
    let mut control = ControlClient::new(channel(node.address, &node.client(&["operator"])).await.unwrap());
    let request = proto::DrainRequest {
        fence: Some(proto::Fence {
            cluster: "c".to_owned(),
            generation: 1,
            instance: String::new(),
        }),
    };
    control.drain(request).await.unwrap();
    assert_eq!(
        check("").await.unwrap().into_inner().status(),
        ServingStatus::NotServing
    );
}

#[test]
fn files_that_cannot_be_used_are_named_at_the_start() {
    let directory = directory();
    let authority = Authority::new();
    let server = authority.issue(&[SERVER]);
    let files = Files::write(directory.path(), &server, &authority, CLIENTS);
    let data = directory.path().join("data");
    let start = || run_to_end(cairnd(&data).arg("--config").arg(files.config()));
    for (name, text) in [
        ("tls.crt", "nothing"),
        ("tls.key", "nothing"),
        ("ca.crt", "nothing"),
        ("tls.key", &authority.issue(&[SERVER]).key),
    ] {
        files.replace(&server, &authority);
        std::fs::write(directory.path().join(name), text).unwrap();
        let ended = start();
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(
            ended.stderr.contains(name) && ended.stderr.contains("[rpc.tcp]"),
            "{ended:?}"
        );
    }
    std::fs::remove_file(directory.path().join("ca.crt")).unwrap();
    assert!(start().stderr.contains("ca.crt cannot be read"));
}
