//! The RPC server over TCP: connections with mutual TLS, bounded, for the services and clients that the configuration names.
//!
//! Bounds: connections at once (`rpc.tcp.connections_max`), handshakes at once ([`HANDSHAKES_MAX`]) and their time
//! ([`HANDSHAKE_TIMEOUT`]), streams of a connection, bytes of headers and messages. When a bound is reached, no connection is
//! accepted until there is room: the others wait in the kernel's backlog. A client that does not answer pings is given up.
//!
//! What a client may ask for is decided for each request by the names in its certificate ([`Gate`]).

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use cairn_api::proto::control_server::ControlServer;
use cairn_api::proto::operations_server::OperationsServer;
use cairn_api::{ApiError, Reason};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Status};

use super::tls::{Credentials, Peer, Refreshed};
use super::{ANSWER_BYTES_MAX, REQUEST_BYTES_MAX, STREAMS_PER_CONNECTION_MAX, Service, health};

/// Handshakes at once. A client that is slow at it keeps nobody else out for longer than [`HANDSHAKE_TIMEOUT`].
pub const HANDSHAKES_MAX: usize = 32;
/// Longest handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between looks at the files of the certificates.
pub const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// After so long without a frame a client is pinged.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// After so long without an answer to a ping it is given up.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Largest headers of a request in bytes.
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// Pause after the operating system failed to accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that have shaken hands and wait to be served.
const READY_QUEUED_MAX: usize = 4;

/// Who may use what. Names are in the form of [`super::tls::normalised`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// Names that may use the service `Control`.
    pub control: Vec<String>,
    /// Names that may use the service `Operations`.
    pub operations: Vec<String>,
}

/// What is counted of connections over TCP.
#[derive(Debug, Default)]
pub struct TcpMetrics {
    open: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    denied: AtomicU64,
    certificates_read: AtomicU64,
    certificates_unusable: AtomicU64,
}

impl TcpMetrics {
    /// Connections that are open and have shaken hands.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections that have shaken hands since the start.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections that did not come through the handshake since the start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Changes of the certificate files that came into force since the start.
    pub fn certificates_read(&self) -> u64 {
        self.certificates_read.load(Ordering::Relaxed)
    }

    /// Changes of the certificate files that could not be used since the start.
    pub fn certificates_unusable(&self) -> u64 {
        self.certificates_unusable.load(Ordering::Relaxed)
    }

    /// Requests that were refused because of the client's names since the start.
    pub fn denied(&self) -> u64 {
        self.denied.load(Ordering::Relaxed)
    }
}

/// The endpoint: what it proves itself with, and what it counts.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Certificates.
    pub credentials: Arc<Credentials>,
    /// Who may use what.
    pub allowed: Arc<Allowed>,
    /// Connections at once.
    pub connections_max: usize,
    /// What is counted.
    pub metrics: Arc<TcpMetrics>,
}

/// Answers on `listener` until `shutdown` ends and the open requests are answered.
pub(super) async fn serve(
    service: Service,
    endpoint: Endpoint,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let (ready, connections) = mpsc::channel(READY_QUEUED_MAX);
    let gate = |allowed: fn(&Allowed) -> &[String], name: &'static str| Gate {
        service: name,
        allowed: Arc::clone(&endpoint.allowed),
        names: allowed,
        metrics: Arc::clone(&endpoint.metrics),
    };
    let control = InterceptedService::new(
        ControlServer::new(service.clone())
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .max_encoding_message_size(ANSWER_BYTES_MAX),
        gate(|allowed| &allowed.control, "control"),
    );
    let operations = InterceptedService::new(
        OperationsServer::new(service.clone())
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .max_encoding_message_size(ANSWER_BYTES_MAX),
        gate(|allowed| &allowed.operations, "operations"),
    );
    let serving = Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(control)
        .add_service(operations)
        .add_service(health::server(service.node))
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), shutdown);
    tokio::select! {
        served = serving => served,
        // Never: it ends when it is dropped, with all handshakes.
        () = accept(endpoint, listener, ready) => Ok(()),
    }
}

/// Accepts connections and shakes hands, until the receiver is gone and beyond.
async fn accept(endpoint: Endpoint, listener: TcpListener, ready: mpsc::Sender<io::Result<Connection>>) {
    let slots = Arc::new(Semaphore::new(endpoint.connections_max));
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut running = JoinSet::new();
    let mut refresh = interval(REFRESH_INTERVAL);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(_) = running.join_next() => {}
            _ = refresh.tick() => {
                let credentials = Arc::clone(&endpoint.credentials);
                let refreshed = tokio::task::spawn_blocking(move || credentials.refresh()).await;
                match refreshed {
                    Ok(Refreshed::Unchanged) => {}
                    Ok(Refreshed::Changed) => {
                        endpoint.metrics.certificates_read.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(Refreshed::Refused) => {
                        endpoint.metrics.certificates_unusable.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(failed) => tracing::error!(error = %failed, "the look at the certificates broke off"),
                }
            }
            accepted = next(&listener, &slots, &handshakes) => match accepted {
                Ok(accepted) => {
                    let (endpoint, ready) = (endpoint.clone(), ready.clone());
                    running.spawn(async move {
                        if let Some(connection) = shake_hands(&endpoint, accepted).await {
                            // The receiver is gone when the server stops.
                            let _ = ready.send(Ok(connection)).await;
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an RPC connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// A connection before its handshake.
struct Accepted {
    stream: TcpStream,
    from: SocketAddr,
    slot: OwnedSemaphorePermit,
    handshake: OwnedSemaphorePermit,
}

/// The next connection for which there is room. Cancel safe.
async fn next(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    handshakes: &Arc<Semaphore>,
) -> io::Result<Accepted> {
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let handshake = Arc::clone(handshakes)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, from) = listener.accept().await?;
    Ok(Accepted {
        stream,
        from,
        slot,
        handshake,
    })
}

/// `None` for whoever does not come through; that is counted, and told for people who look for it.
async fn shake_hands(endpoint: &Endpoint, accepted: Accepted) -> Option<Connection> {
    let Accepted {
        stream,
        from,
        slot,
        handshake,
    } = accepted;
    // Only makes answers quicker.
    let _ = stream.set_nodelay(true);
    let acceptor = TlsAcceptor::from(endpoint.credentials.config());
    let outcome = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
    drop(handshake);
    let outcome = match outcome {
        Ok(Ok(stream)) => {
            let peer = Peer::of(stream.get_ref().1.peer_certificates());
            peer.map(|peer| (stream, peer)).map_err(|error| error.to_string())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it took too long".to_owned()),
    };
    match outcome {
        Ok((stream, peer)) => {
            tracing::debug!(%from, names = ?peer.names(), "an RPC client has connected");
            endpoint.metrics.accepted.fetch_add(1, Ordering::Relaxed);
            endpoint.metrics.open.fetch_add(1, Ordering::Relaxed);
            Some(Connection {
                stream,
                peer,
                open: Open(Arc::clone(&endpoint.metrics)),
                _slot: slot,
            })
        }
        Err(error) => {
            tracing::info!(%from, error, "an RPC client did not come through the TLS handshake");
            endpoint.metrics.refused.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

/// Counts itself among the open connections.
struct Open(Arc<TcpMetrics>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection after its handshake, with its place among those that may be.
struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    #[allow(dead_code, reason = "held for its drop")]
    open: Open,
    _slot: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Lets through the requests of clients that have one of the names.
#[derive(Debug, Clone)]
struct Gate {
    service: &'static str,
    allowed: Arc<Allowed>,
    names: fn(&Allowed) -> &[String],
    metrics: Arc<TcpMetrics>,
}

impl Interceptor for Gate {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let peer = request.extensions().get::<Peer>();
        if peer.is_some_and(|peer| peer.is_one_of((self.names)(&self.allowed))) {
            return Ok(request);
        }
        self.metrics.denied.fetch_add(1, Ordering::Relaxed);
        let names = peer.map_or_else(String::new, |peer| peer.names().join(","));
        tracing::warn!(
            service = self.service,
            names,
            "refused an RPC request of a client without the right name"
        );
        Err(ApiError::new(
            Reason::PeerDenied,
            format!(
                "no name of the client's certificate may use the service {}",
                self.service
            ),
        )
        .remedy(format!(
            "use a certificate with the right subject alternative name, or add one of its names to \
             rpc.tcp.{}_clients in the configuration of cairnd",
            self.service
        ))
        .detail("service", self.service)
        .detail("names", names)
        .into())
    }
}
