//! One connection: its reader, its calls, its outbox, and how they end.
//!
//! The reader ([`reader`]) takes requests off the stream, answers cheap ones itself and hands the others to the workers
//! ([`calls`]); the outbox ([`outbox`]) brings replies into the stream as they are finished. The connection ends when
//! the client closes it, when it breaks the protocol or stands still, or at shutdown: reading stops, calls in execution are
//! finished and their replies written, for a bounded time.

pub(crate) mod batch;
pub(crate) mod budget;
pub(crate) mod calls;
pub(crate) mod outbox;
pub(crate) mod payload_pool;
pub(crate) mod reader;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cairn_vfs::filesystem::FileSystem;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use crate::connection::budget::{Budget, Reservation};
use crate::connection::outbox::{Message, Outbox};
use crate::connection::reader::Reader;
use crate::error::ConnectionError;
use crate::rpc::message::{begin_reply, end_reply};
use crate::rpc::reply_cache::ReplySink;
use crate::server::Inner;

/// The two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoints {
    /// The client's address, which exports are checked against.
    pub peer: SocketAddr,
    /// The address that the client connected to, which port mapper answers give.
    pub local: SocketAddr,
}

/// What the tasks and calls of a connection share.
pub(crate) struct Connection<F, W> {
    pub(crate) server: Arc<Inner<F>>,
    pub(crate) endpoints: Endpoints,
    pub(crate) outbox: Outbox<W>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) runtime: tokio::runtime::Handle,
}

impl Message {
    /// The reply with this body, all after the transaction id.
    pub(crate) fn from_body(xid: u32, body: Bytes) -> Self {
        let mut head = BytesMut::with_capacity(8);
        begin_reply(&mut head, xid);
        end_reply(&mut head, 0, body.len());
        Message {
            head: head.freeze(),
            pieces: vec![body],
        }
    }
}

impl<F: FileSystem, W: AsyncWrite + Unpin + Send + 'static> Connection<F, W> {
    /// Queues a reply and writes what can be written.
    pub(crate) fn send(&self, message: Message, reservation: Reservation) {
        self.outbox.push(message, reservation);
        self.outbox.flush(&self.server.metrics);
    }

    /// Queues replies without a reservation and writes what can be written.
    pub(crate) fn send_unreserved(&self, replies: Bytes) {
        self.outbox.push_unreserved(replies);
        self.outbox.flush(&self.server.metrics);
    }
}

impl<F: FileSystem, W: AsyncWrite + Unpin + Send + 'static> ReplySink for Connection<F, W> {
    fn deliver(&self, xid: u32, body: Bytes, reservation: Reservation) {
        self.send(Message::from_body(xid, body), reservation);
    }
}

/// A task that ends with its owner.
struct Owned<T>(JoinHandle<T>);

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Serves a connection until it ends; see the module's documentation. One log line tells of an end other than the
/// client's closing it.
pub(crate) async fn serve<F, R, W>(
    server: Arc<Inner<F>>,
    (reader, writer): (R, W),
    endpoints: Endpoints,
    shutdown: impl Future<Output = ()>,
) where
    F: FileSystem,
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let metrics = Arc::clone(&server.metrics);
    metrics.connections.add(1);
    metrics.connections_accepted.add(1);
    let settings = &server.settings;
    let (reply_timeout, drain_timeout) = (settings.reply_timeout, settings.drain_timeout);
    let connection = Arc::new(Connection {
        endpoints,
        outbox: Outbox::new(writer),
        budget: server.budget.connection(endpoints.peer.ip().to_canonical()),
        runtime: tokio::runtime::Handle::current(),
        server,
    });
    let mut writer = Owned(tokio::spawn({
        let connection = Arc::clone(&connection);
        async move {
            connection
                .outbox
                .run(reply_timeout, &connection.server.metrics)
                .await
        }
    }));
    let mut reader = Reader::new(Arc::clone(&connection), reader);
    let mut ended = tokio::select! {
        ended = reader.run() => ended,
        failed = &mut writer.0 => Err(failed.unwrap_or(ConnectionError::ReplyTimeout)),
        () = shutdown => Ok(()),
    };
    let broken = matches!(
        ended,
        Err(ConnectionError::Stream(_) | ConnectionError::ReplyTimeout)
    );
    if !broken {
        reader.flush();
        let drained = async {
            connection.budget.idle().await;
            connection.outbox.drained().await;
        };
        if tokio::time::timeout(drain_timeout, drained).await.is_err() && ended.is_ok() {
            ended = Err(ConnectionError::DrainTimeout);
        }
    }
    connection.outbox.fail();
    metrics.connections.subtract(1);
    if let Err(error) = ended {
        if !matches!(error, ConnectionError::Idle) {
            metrics.connections_failed.add(1);
        }
        let cause = std::error::Error::source(&error)
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::info!(peer = %endpoints.peer, %error, cause, "connection ended");
    }
}
