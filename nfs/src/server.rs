//! The server: what all connections share, and the loop that accepts them.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use cairn_vfs::filesystem::FileSystem;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::connection::budget::ServerBudget;
use crate::connection::payload_pool::PayloadPool;
use crate::connection::{self, Endpoints};
use crate::error::ServerError;
use crate::file_handle::HandleCodec;
use crate::metrics::Metrics;
use crate::mount3::MountTable;
use crate::rpc::reply_cache::{Bounds, ReplyCache};
use crate::settings::ServerSettings;
use crate::workers::Workers;

/// How long accepting pauses after an error such as "too many open files", which only time or other connections' ends heal.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// When a connection has been silent for so long, the kernel asks whether the client's machine is still there.
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);
/// What the kernel may hold of a connection's replies: several of the largest, so that a reply goes out in one write by
/// whoever finished it. The kernel takes as much of it as `net.core.wmem_max` allows.
const SEND_BUFFER_BYTES: usize = 4 << 20;

/// What all connections share.
pub(crate) struct Inner<F> {
    pub(crate) fs: Arc<F>,
    pub(crate) settings: ServerSettings,
    pub(crate) handles: HandleCodec,
    pub(crate) replies: ReplyCache,
    pub(crate) mounts: MountTable,
    pub(crate) workers: Workers,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) budget: Arc<ServerBudget>,
    pub(crate) payloads: PayloadPool,
}

/// Serves a file system over NFSv3, with MOUNT and port mapper answers on the same port. Clones share everything.
pub struct Server<F>(Arc<Inner<F>>);

impl<F> Clone for Server<F> {
    fn clone(&self) -> Self {
        Server(Arc::clone(&self.0))
    }
}

impl<F: FileSystem> Server<F> {
    /// A server of `fs`. Handles and the recognition of retransmitted requests depend on `secret` alone: with the same
    /// secret they outlive the process; whoever knows it can make handles. Blocks while the recorded replies are read.
    ///
    /// Errors: [`ServerError::Setting`], [`ServerError::RecordedReplies`].
    pub fn new(fs: Arc<F>, settings: ServerSettings, secret: [u8; 16]) -> Result<Self, ServerError> {
        settings.check()?;
        let bounds = Bounds {
            entries_max: settings.reply_cache_entries_max,
            bytes_max: settings.reply_cache_bytes_max,
            age_max: settings.reply_cache_age_max,
        };
        let replies = ReplyCache::new(&secret, bounds);
        let recorded = fs
            .recorded_replies(bounds.entries_max)
            .map_err(ServerError::RecordedReplies)?;
        let now = Instant::now();
        for record in recorded {
            replies.complete(record.key, record.body, now);
        }
        Ok(Server(Arc::new(Inner {
            fs,
            handles: HandleCodec::new(&secret),
            replies,
            mounts: MountTable::new(settings.mounts_max),
            workers: Workers::new(settings.workers_max),
            metrics: Arc::default(),
            budget: Arc::new(ServerBudget::new(&settings)),
            payloads: PayloadPool::new(settings.payload_pool_bytes_max),
            settings,
        })))
    }

    /// What the server counts.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// Bytes of requests in execution and of replies not yet sent, as reserved now.
    pub fn bytes_reserved(&self) -> usize {
        self.0.budget.bytes_reserved()
    }

    /// Calls in execution or not yet answered completely, as reserved now.
    pub fn calls_reserved(&self) -> usize {
        self.0.budget.calls_reserved()
    }

    /// Accepts and serves connections until `shutdown` completes. Then the listener is closed, connections stop reading,
    /// calls in execution are finished and their replies sent, for at most `drain_timeout`. On return no connection is
    /// left; a call that did not finish in time may still be running, unanswered.
    ///
    /// Errors: [`ServerError::Listener`] at start. Failures to accept are logged and tried again.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServerError> {
        let local = listener.local_addr().map_err(ServerError::Listener)?;
        let slots = Arc::new(Semaphore::new(self.0.settings.connections_max));
        let (stop, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => continue,
                accepted = accept(&listener, &slots) => accepted,
            };
            match accepted {
                Ok((stream, peer, slot)) => {
                    let server = self.clone();
                    let mut stopped = stopped.clone();
                    connections.spawn(async move {
                        let local = stream.local_addr().unwrap_or(local);
                        let stopped = async {
                            // An error means that the sender is gone, and with it the loop above.
                            let _ = stopped.wait_for(|stop| *stop).await;
                        };
                        server.serve_tcp(stream, Endpoints { peer, local }, stopped).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        stop.send_replace(true);
        while connections.join_next().await.is_some() {}
        Ok(())
    }

    async fn serve_tcp(&self, stream: TcpStream, endpoints: Endpoints, shutdown: impl Future<Output = ()>) {
        let socket = SockRef::from(&stream);
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_TIME);
        // All of them only improve matters; a connection that was reset meanwhile fails when it is read.
        if let Err(error) = socket
            .set_tcp_nodelay(true)
            .and_then(|()| socket.set_send_buffer_size(SEND_BUFFER_BYTES))
            .and_then(|()| socket.set_tcp_keepalive(&keepalive))
        {
            tracing::debug!(%error, peer = %endpoints.peer, "cannot set socket options");
        }
        connection::serve(Arc::clone(&self.0), stream.into_split(), endpoints, shutdown).await;
    }

    /// Serves one connection over any stream until it ends, or until `shutdown` completes and calls in execution are
    /// finished, for at most `drain_timeout`.
    pub async fn serve_connection<S>(
        &self,
        stream: S,
        endpoints: Endpoints,
        shutdown: impl Future<Output = ()>,
    ) where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        connection::serve(Arc::clone(&self.0), tokio::io::split(stream), endpoints, shutdown).await;
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, slot))
}
