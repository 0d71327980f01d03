//! The real client of daemons, over real sockets, with certificates of the operator's own authority.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets what it does not expect ends"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;

use cairn_api::proto::control_server::{Control, ControlServer};
use cairn_api::{ApiError, Reason, proto};
use cairn_operator::daemons::client::GrpcDaemons;
use cairn_operator::daemons::{Address, Call, CallError, Daemons, Outcome, Response};
use cairn_operator::runtime::metrics::Metrics;
use cairn_operator::runtime::tls::authority::{Role, State};
use cairn_operator::runtime::tls::{Kept, Material, Source};
use cairn_types::{Clock, Timestamp};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request as Asked, Response as Answer, Status};

const NAME: &str = "cairnd.cairn-system.svc";

struct Daemon;

macro_rules! refuse {
    ($($method:ident, $request:ident, $response:ident;)*) => {
        #[tonic::async_trait]
        impl Control for Daemon {
            async fn get_info(
                &self,
                _: Asked<proto::GetInfoRequest>,
            ) -> Result<Answer<proto::GetInfoResponse>, Status> {
                Ok(Answer::new(proto::GetInfoResponse {
                    node: "a".to_owned(),
                    ..proto::GetInfoResponse::default()
                }))
            }

            $(
                async fn $method(
                    &self,
                    _: Asked<proto::$request>,
                ) -> Result<Answer<proto::$response>, Status> {
                    let refused = ApiError::new(Reason::NoSpace, "the node is full").remedy("free some");
                    Err(refused.into())
                }
            )*
        }
    };
}

refuse! {
    ensure_workspace, EnsureWorkspaceRequest, EnsureWorkspaceResponse;
    get_workspace, GetManagedWorkspaceRequest, GetManagedWorkspaceResponse;
    list_workspaces, ListManagedWorkspacesRequest, ListManagedWorkspacesResponse;
    delete_workspace, DeleteManagedWorkspaceRequest, DeleteManagedWorkspaceResponse;
    release_workspace, ReleaseWorkspaceRequest, ReleaseWorkspaceResponse;
    ensure_snapshot, EnsureSnapshotRequest, EnsureSnapshotResponse;
    get_snapshot_by_key, GetSnapshotByKeyRequest, GetSnapshotByKeyResponse;
    list_snapshots, ListManagedSnapshotsRequest, ListManagedSnapshotsResponse;
    delete_snapshot, DeleteManagedSnapshotRequest, DeleteManagedSnapshotResponse;
    verify_snapshot, VerifySnapshotRequest, VerifySnapshotResponse;
    plan_restore, PlanRestoreRequest, PlanRestoreResponse;
    ensure_restore, EnsureRestoreRequest, EnsureRestoreResponse;
    get_restore_by_key, GetRestoreByKeyRequest, GetRestoreByKeyResponse;
    forget_restore, ForgetRestoreRequest, ForgetRestoreResponse;
    drain, DrainRequest, DrainResponse;
    resume, ResumeRequest, ResumeResponse;
}

fn now() -> Timestamp {
    cairn_operator::runtime::clock::SystemClock.now()
}

fn authority() -> State {
    let mut state = State::default();
    state.advance("test", now()).unwrap();
    state
}

/// A daemon that wants certificates of `trusted`.
async fn serve(own: &Material, trusted: &str) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(&own.certificate, &own.key))
        .client_ca_root(Certificate::from_pem(trusted));
    let task = tokio::spawn(async move {
        Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(ControlServer::new(Daemon))
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .unwrap();
    });
    (address, task)
}

fn daemons(kept: &Kept, nodes: &[(&str, SocketAddr)]) -> GrpcDaemons {
    let daemons = GrpcDaemons::new(Source::Kept(kept.clone()), NAME, Metrics::default());
    let addresses: BTreeMap<String, Address> = nodes
        .iter()
        .map(|(node, address)| {
            let address = Address {
                ip: address.ip(),
                port: address.port(),
                is_ready: true,
            };
            ((*node).to_owned(), address)
        })
        .collect();
    daemons.set(addresses);
    daemons
}

async fn ask(daemons: &GrpcDaemons, node: &str) -> Result<String, CallError> {
    match daemons
        .send(node, proto::GetInfoRequest {}.into_request())
        .await?
    {
        Response::GetInfo(info) => Ok(info.node),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn both_sides_show_certificates_and_changes_take_effect_without_a_restart() {
    let state = authority();
    let server = state.issue(&[NAME.to_owned()], Role::Server, now()).unwrap();
    let client = state
        .issue(&["operator".to_owned()], Role::Client, now())
        .unwrap();
    let (address, task) = serve(&server, &state.bundle()).await;
    let kept = Kept::default();
    let daemons = daemons(&kept, &[("a", address)]);

    let none = ask(&daemons, "a").await.unwrap_err();
    assert!(
        none.message.contains("have not been read yet"),
        "{}",
        none.message
    );
    kept.put(client.clone());
    assert_eq!(ask(&daemons, "a").await.unwrap(), "a");

    // A certificate of somebody else is refused, by either side.
    let other = authority();
    let stranger = other
        .issue(&["operator".to_owned()], Role::Client, now())
        .unwrap();
    kept.put(Material {
        authorities: state.bundle(),
        ..stranger.clone()
    });
    assert_eq!(ask(&daemons, "a").await.unwrap_err().outcome, Outcome::Away);
    kept.put(Material {
        authorities: other.bundle(),
        ..client.clone()
    });
    assert_eq!(ask(&daemons, "a").await.unwrap_err().outcome, Outcome::Away);
    // With two roots during a change, both work.
    kept.put(Material {
        authorities: format!("{}{}", other.bundle(), state.bundle()),
        ..client
    });
    assert_eq!(ask(&daemons, "a").await.unwrap(), "a");
    task.abort();
}

#[tokio::test]
async fn a_daemons_refusal_arrives_with_its_reason() {
    let state = authority();
    let server = state.issue(&[NAME.to_owned()], Role::Server, now()).unwrap();
    let (address, task) = serve(&server, &state.bundle()).await;
    let kept = Kept::default();
    kept.put(
        state
            .issue(&["operator".to_owned()], Role::Client, now())
            .unwrap(),
    );
    let daemons = daemons(&kept, &[("a", address)]);
    let request = proto::DrainRequest::default().into_request();
    let error = daemons.send("a", request).await.unwrap_err();
    assert_eq!(error.outcome, Outcome::Refused);
    assert_eq!(error.condition_reason(), "NoSpace");
    assert_eq!(error.explain(), "the node is full; free some");
    task.abort();
}

#[tokio::test]
async fn a_dead_daemon_is_left_alone_and_delays_nobody() {
    let state = authority();
    let server = state.issue(&[NAME.to_owned()], Role::Server, now()).unwrap();
    let (alive, task) = serve(&server, &state.bundle()).await;
    // Bound and given back: nobody listens there.
    let dead = {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        listener.local_addr().unwrap()
    };
    let kept = Kept::default();
    kept.put(
        state
            .issue(&["operator".to_owned()], Role::Client, now())
            .unwrap(),
    );
    let daemons = daemons(&kept, &[("alive", alive), ("dead", dead)]);
    for _ in 0..3 {
        assert_eq!(ask(&daemons, "dead").await.unwrap_err().outcome, Outcome::Away);
    }
    let open = ask(&daemons, "dead").await.unwrap_err();
    assert_eq!(open.reason, "BREAKER_OPEN");
    assert!(open.message.contains("it is tried again in"), "{}", open.message);
    assert_eq!(ask(&daemons, "alive").await.unwrap(), "a");
    assert_eq!(ask(&daemons, "nowhere").await.unwrap_err().reason, "NODE_AWAY");
    task.abort();
}
