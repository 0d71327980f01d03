//! ONC RPC over one TCP connection (RFC 5531), for tests: many calls in flight, replies in any order, and on a lost
//! connection the same bytes sent again on a new one.
//!
//! Invariants: a call's record, transaction id included, is encoded once and never changes, so a server can recognise a
//! retransmission. A call ends with its reply, with [`RpcError::Lost`] when no connection could be had in time, or with
//! [`RpcError::Silent`] when the server holds a connection but does not answer.
//!
//! `nfs3_client` is not used: it allows one call in flight, chooses transaction ids itself, and spins on a closed
//! connection. Its sibling `nfs3_types` encodes and decodes everything here, so that the server is tested by an
//! implementation that shares no line with it.

use std::collections::HashMap;
use std::io::Cursor;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nfs3_types::rpc::{
    RPC_VERSION_2, accept_stat_data, auth_unix, call_body, fragment_header, msg_body, opaque_auth,
    reply_body, rpc_msg,
};
use nfs3_types::xdr_codec::{Opaque, Pack, Unpack};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Calls that wait to be written to a connection; more wait in the callers.
const QUEUED_CALLS_MAX: usize = 64;
/// Largest reply that is accepted, in bytes: 1 MiB of data and its head.
const REPLY_BYTES_MAX: u32 = (1 << 20) + (64 << 10);
/// Pause between two attempts to connect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(10);

/// Why a call has no usable reply. Whether the server executed it is unknown for `Lost` and `Silent`.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// The connection broke and no new one could be had in time.
    #[error("connection to {address} lost")]
    Lost {
        /// The server.
        address: SocketAddr,
        /// The last failure.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// No reply came in time.
    #[error("no reply from {address} within {waited:?}")]
    Silent {
        /// The server.
        address: SocketAddr,
        /// How long the call waited.
        waited: Duration,
    },
    /// The call or the reply does not follow the XDR definition.
    #[error("malformed message: {0}")]
    Malformed(nfs3_types::xdr_codec::Error),
    /// The reply is longer than its result.
    #[error("reply has {excess} bytes after its result")]
    Trailing {
        /// Bytes that nothing explains.
        excess: u64,
    },
    /// The server refused to execute the call.
    #[error("call refused: {0}")]
    Refused(String),
}

/// How a transport behaves.
#[derive(Debug, Clone, Copy)]
pub struct TransportSettings {
    /// How long a lost connection is sought again before its calls fail. Zero: a lost connection fails them at once.
    pub reconnect_for: Duration,
    /// How long a call waits for its reply, reconnects included.
    pub call_for: Duration,
    /// Connect from a port below 1024, which needs root.
    pub privileged_port: bool,
}

impl Default for TransportSettings {
    fn default() -> Self {
        TransportSettings {
            reconnect_for: Duration::from_secs(30),
            call_for: Duration::from_secs(90),
            privileged_port: false,
        }
    }
}

/// A call, encoded for the wire.
#[derive(Debug, Clone)]
pub struct Record {
    /// The transaction id.
    pub xid: u32,
    /// Record marker and message.
    pub bytes: Bytes,
}

impl Record {
    /// Encodes a call with AUTH_SYS credentials (RFC 5531 section 14 and appendix A).
    pub fn encode(
        xid: u32,
        (program, version, procedure): (u32, u32, u32),
        credential: &auth_unix,
        arguments: &impl Pack,
    ) -> Result<Self, RpcError> {
        let call = call_body {
            rpcvers: RPC_VERSION_2,
            prog: program,
            vers: version,
            proc: procedure,
            cred: opaque_auth::auth_unix(credential),
            verf: opaque_auth::default(),
        };
        let message = rpc_msg {
            xid,
            body: msg_body::CALL(call),
        };
        let length = message.packed_size() + arguments.packed_size();
        let marker = u32::try_from(length)
            .ok()
            .filter(|length| *length <= fragment_header::MASK);
        let marker = marker.ok_or(RpcError::Malformed(nfs3_types::xdr_codec::Error::ObjectTooLarge(
            length,
        )))?;
        let mut bytes = Vec::with_capacity(length + 4);
        fragment_header::new(marker, true)
            .pack(&mut bytes)
            .map_err(RpcError::Malformed)?;
        message.pack(&mut bytes).map_err(RpcError::Malformed)?;
        arguments.pack(&mut bytes).map_err(RpcError::Malformed)?;
        Ok(Record {
            xid,
            bytes: bytes.into(),
        })
    }
}

/// Decodes a reply's result, which must fill the reply to its last byte.
pub fn decode<R: Unpack>(reply: &[u8]) -> Result<R, RpcError> {
    let mut cursor = Cursor::new(reply);
    let (message, _) = rpc_msg::unpack(&mut cursor).map_err(RpcError::Malformed)?;
    match message.body {
        msg_body::REPLY(reply_body::MSG_ACCEPTED(accepted)) => match accepted.reply_data {
            accept_stat_data::SUCCESS => {}
            other => return Err(RpcError::Refused(format!("{other:?}"))),
        },
        msg_body::REPLY(reply_body::MSG_DENIED(denied)) => {
            return Err(RpcError::Refused(format!("{denied:?}")));
        }
        msg_body::CALL(_) => return Err(RpcError::Refused("a call instead of a reply".to_owned())),
    }
    let (result, _) = R::unpack(&mut cursor).map_err(RpcError::Malformed)?;
    match reply.len() as u64 - cursor.position() {
        0 => Ok(result),
        excess => Err(RpcError::Trailing { excess }),
    }
}

/// The AUTH_SYS credential of `uid` and `gid` without further groups.
pub fn credential(uid: u32, gid: u32) -> auth_unix {
    auth_unix {
        stamp: 0,
        machinename: Opaque::borrowed(b"cairn-e2e"),
        uid,
        gid,
        gids: Vec::new(),
    }
}

type Reply = Result<Bytes, Arc<std::io::Error>>;

struct Call {
    record: Record,
    reply: oneshot::Sender<Reply>,
}

/// Calls without a reply, in the order in which they were sent.
#[derive(Default)]
struct Outstanding {
    next: u64,
    calls: HashMap<u32, (u64, Call)>,
}

impl Outstanding {
    fn add(&mut self, call: Call) -> Bytes {
        let bytes = call.record.bytes.clone();
        self.calls.insert(call.record.xid, (self.next, call));
        self.next += 1;
        bytes
    }

    fn finish(&mut self, xid: u32, reply: Bytes) {
        if let Some((_, call)) = self.calls.remove(&xid) {
            // The caller may have given up; its reply then has no reader.
            let _ = call.reply.send(Ok(reply));
        }
    }

    fn in_order(&mut self) -> Vec<Bytes> {
        self.calls.retain(|_, (_, call)| !call.reply.is_closed());
        let mut calls: Vec<_> = self
            .calls
            .values()
            .map(|(order, call)| (*order, call.record.bytes.clone()))
            .collect();
        calls.sort_unstable_by_key(|(order, _)| *order);
        calls.into_iter().map(|(_, bytes)| bytes).collect()
    }
}

/// One connection, made again when it breaks.
#[derive(Debug, Clone)]
pub struct Transport {
    address: SocketAddr,
    settings: TransportSettings,
    queue: mpsc::Sender<Call>,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.record.fmt(f)
    }
}

impl Transport {
    /// Connects. The connection ends when the last clone is dropped.
    pub async fn connect(address: SocketAddr, settings: TransportSettings) -> Result<Self, RpcError> {
        let lost = |source| RpcError::Lost {
            address,
            source: Arc::new(source),
        };
        let stream = connect_within(address, settings).await.map_err(lost)?;
        let (queue, calls) = mpsc::channel(QUEUED_CALLS_MAX);
        tokio::spawn(drive(stream, address, settings, calls));
        Ok(Transport {
            address,
            settings,
            queue,
        })
    }

    /// Sends a call and waits for its reply, the record marker taken off.
    pub async fn call(&self, record: Record) -> Result<Bytes, RpcError> {
        let closed = || Arc::new(std::io::Error::from(std::io::ErrorKind::NotConnected));
        let exchange = async {
            let (reply, result) = oneshot::channel();
            self.queue
                .send(Call { record, reply })
                .await
                .map_err(|_| closed())?;
            result.await.map_err(|_| closed())?
        };
        match tokio::time::timeout(self.settings.call_for, exchange).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(source)) => Err(RpcError::Lost {
                address: self.address,
                source,
            }),
            Err(_) => Err(RpcError::Silent {
                address: self.address,
                waited: self.settings.call_for,
            }),
        }
    }
}

async fn connect_within(address: SocketAddr, settings: TransportSettings) -> std::io::Result<TcpStream> {
    let deadline = Instant::now() + settings.reconnect_for;
    loop {
        match connect_once(address, settings.privileged_port).await {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => tokio::time::sleep(RECONNECT_PAUSE).await,
        }
    }
}

async fn connect_once(address: SocketAddr, privileged_port: bool) -> std::io::Result<TcpStream> {
    let stream = match privileged_port {
        false => TcpStream::connect(address).await?,
        true => connect_privileged(address).await?,
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn connect_privileged(address: SocketAddr) -> std::io::Result<TcpStream> {
    use std::io::ErrorKind::{AddrInUse, AddrNotAvailable};
    let mut last = std::io::Error::from(AddrInUse);
    for port in (512..1024).rev() {
        let socket = TcpSocket::new_v4()?;
        match socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))) {
            Ok(()) => {}
            Err(error) if error.kind() == AddrInUse => {
                last = error;
                continue;
            }
            Err(error) => return Err(error),
        }
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) if matches!(error.kind(), AddrInUse | AddrNotAvailable) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Owns the connection: moves calls onto it and replies off it, and replaces it when it breaks.
async fn drive(
    stream: TcpStream,
    address: SocketAddr,
    settings: TransportSettings,
    mut calls: mpsc::Receiver<Call>,
) {
    let outstanding = Mutex::new(Outstanding::default());
    let mut stream = stream;
    loop {
        let (reader, writer) = stream.into_split();
        let again = outstanding.lock().in_order();
        let ended = tokio::select! {
            ended = read_replies(reader, &outstanding) => ended,
            ended = write_calls(writer, again, &mut calls, &outstanding) => ended,
        };
        let Err(broken) = ended else { return };
        let reconnected = match settings.reconnect_for.is_zero() {
            true => Err(broken),
            false => connect_within(address, settings).await,
        };
        match reconnected {
            Ok(new) => stream = new,
            Err(error) => {
                let error = Arc::new(error);
                calls.close();
                for (_, (_, call)) in outstanding.lock().calls.drain() {
                    let _ = call.reply.send(Err(error.clone()));
                }
                while let Some(call) = calls.recv().await {
                    let _ = call.reply.send(Err(error.clone()));
                }
                return;
            }
        }
    }
}

/// Ends with `Ok` once nobody can call any more and every reply has come; never ends otherwise but by an error.
async fn write_calls(
    mut writer: OwnedWriteHalf,
    again: Vec<Bytes>,
    calls: &mut mpsc::Receiver<Call>,
    outstanding: &Mutex<Outstanding>,
) -> std::io::Result<()> {
    for bytes in again {
        writer.write_all(&bytes).await?;
    }
    while let Some(call) = calls.recv().await {
        // Recorded before it is sent: the reply may be faster than this task.
        let bytes = outstanding.lock().add(call);
        writer.write_all(&bytes).await?;
    }
    Ok(())
}

async fn read_replies(mut reader: OwnedReadHalf, outstanding: &Mutex<Outstanding>) -> std::io::Result<()> {
    loop {
        let mut reply = Vec::new();
        loop {
            let mut marker = [0; 4];
            reader.read_exact(&mut marker).await?;
            let marker = fragment_header::from(marker);
            let start = reply.len();
            let length = start as u64 + u64::from(marker.fragment_length());
            if length > u64::from(REPLY_BYTES_MAX) {
                return Err(std::io::Error::other(format!("reply of {length} bytes")));
            }
            reply.resize(length as usize, 0);
            reader.read_exact(&mut reply[start..]).await?;
            if marker.eof() {
                break;
            }
        }
        let xid = reply.first_chunk().map(|xid| u32::from_be_bytes(*xid));
        let xid = xid.ok_or_else(|| std::io::Error::other("reply shorter than a transaction id"))?;
        outstanding.lock().finish(xid, reply.into());
    }
}
