//! A user-space NFSv3 client for whole trees (RFC 1813), for tests and the demo: typed calls over several connections,
//! each with many calls in flight, that survive a restart of the server.
//!
//! One method per procedure is in [`procedures`]; whole files and directories are in [`files`]. Names and link targets
//! are bytes. Nothing is cached: every call asks the server.

pub mod attributes;
pub mod files;
pub mod procedures;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use nfs3_types::mount::{dirpath, mountres3};
use nfs3_types::nfs3::{Nfs3Result, nfs_fh3, nfsstat3};
use nfs3_types::rpc::auth_unix;
use nfs3_types::xdr_codec::{Opaque, Pack, Unpack};

pub use self::attributes::{Attributes, SetAttributes};
use crate::rpc::{self, Record, RpcError, Transport, TransportSettings};

/// Pause before a call is repeated that the server could not execute yet (`NFS3ERR_JUKEBOX`).
const JUKEBOX_PAUSE: Duration = Duration::from_millis(20);
/// Most repetitions of such a call.
const JUKEBOX_RETRIES_MAX: u32 = 500;

/// A file handle: opaque to the client, at most 64 bytes (RFC 1813 section 2.3.3).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Handle(Arc<[u8]>);

impl Handle {
    pub(crate) fn wire(&self) -> nfs_fh3 {
        nfs_fh3 {
            data: Opaque::owned(self.0.to_vec()),
        }
    }
}

impl From<nfs_fh3> for Handle {
    fn from(handle: nfs_fh3) -> Self {
        Handle(handle.data.0.as_ref().into())
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server answered with an error.
    #[error("{procedure}: {status}")]
    Status {
        /// What was asked for.
        procedure: &'static str,
        /// The answer.
        status: nfsstat3,
    },
    /// The server refused the mount.
    #[error("mount of {path}: {status}")]
    Mount {
        /// What was to be mounted.
        path: String,
        /// The answer.
        status: nfs3_types::mount::mountstat3,
    },
    /// There is no usable reply. Whether the operation was executed is unknown.
    #[error("{procedure}")]
    Rpc {
        /// What was asked for.
        procedure: &'static str,
        /// What happened.
        #[source]
        source: RpcError,
    },
    /// The reply contradicts the request or lacks what this client needs.
    #[error("{procedure}: {what}")]
    Protocol {
        /// What was asked for.
        procedure: &'static str,
        /// What is wrong.
        what: String,
    },
}

impl ClientError {
    /// The error that the server answered with, if it answered.
    pub fn status(&self) -> Option<nfsstat3> {
        match self {
            ClientError::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether nothing is known about the outcome because the connection is gone.
    pub fn is_lost(&self) -> bool {
        matches!(
            self,
            ClientError::Rpc {
                source: RpcError::Lost { .. },
                ..
            }
        )
    }
}

/// How a client behaves.
#[derive(Debug, Clone, Copy)]
pub struct ClientSettings {
    /// Connections, at least 1.
    pub connections: usize,
    /// Each connection.
    pub transport: TransportSettings,
    /// The uid that the credential claims.
    pub uid: u32,
    /// The gid that the credential claims.
    pub gid: u32,
}

impl Default for ClientSettings {
    fn default() -> Self {
        ClientSettings {
            connections: 2,
            transport: TransportSettings::default(),
            uid: 0,
            gid: 0,
        }
    }
}

/// A client of one server.
#[derive(Debug)]
pub struct Client {
    transports: Vec<Transport>,
    turn: AtomicUsize,
    next_xid: AtomicU32,
    credential: auth_unix,
}

impl Client {
    /// Connects to the server, which serves MOUNT and NFS on one port.
    pub async fn connect(address: SocketAddr, settings: ClientSettings) -> Result<Arc<Self>, RpcError> {
        let mut transports = Vec::new();
        for _ in 0..settings.connections.max(1) {
            transports.push(Transport::connect(address, settings.transport).await?);
        }
        // Different for every client, so that no server takes one's calls for another's repetitions.
        let start = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), address) as u32;
        Ok(Arc::new(Client {
            transports,
            turn: AtomicUsize::new(0),
            next_xid: AtomicU32::new(start),
            credential: rpc::credential(settings.uid, settings.gid),
        }))
    }

    /// The root of an export (RFC 1813 appendix I, MNT).
    pub async fn mount(&self, path: &str) -> Result<Handle, ClientError> {
        let procedure = "MNT";
        let arguments = dirpath(Opaque::borrowed(path.as_bytes()));
        let program = (nfs3_types::mount::PROGRAM, nfs3_types::mount::VERSION, 1);
        let record = self
            .record(program, &arguments)
            .map_err(|source| ClientError::Rpc { procedure, source })?;
        match self.send::<mountres3<'static>>(procedure, record).await? {
            mountres3::Ok(mounted) => Ok(Handle(mounted.fhandle.0.0.as_ref().into())),
            mountres3::Err(status) => Err(ClientError::Mount {
                path: path.to_owned(),
                status,
            }),
        }
    }

    /// Encodes a call with the next transaction id.
    pub(crate) fn record(&self, program: (u32, u32, u32), arguments: &impl Pack) -> Result<Record, RpcError> {
        let xid = self.next_xid.fetch_add(1, Ordering::Relaxed);
        Record::encode(xid, program, &self.credential, arguments)
    }

    /// Encodes a call of an NFSv3 procedure.
    pub(crate) fn nfs_record(
        &self,
        (number, procedure): (u32, &'static str),
        arguments: &impl Pack,
    ) -> Result<Record, ClientError> {
        let program = (nfs3_types::nfs3::PROGRAM, nfs3_types::nfs3::VERSION, number);
        self.record(program, arguments)
            .map_err(|source| ClientError::Rpc { procedure, source })
    }

    /// Sends an encoded call, perhaps one that was sent before, and decodes its result.
    pub(crate) async fn send<R: Unpack>(
        &self,
        procedure: &'static str,
        record: Record,
    ) -> Result<R, ClientError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let transport = &self.transports[turn % self.transports.len()];
        let rpc = |source| ClientError::Rpc { procedure, source };
        let reply = transport.call(record).await.map_err(rpc)?;
        rpc::decode(&reply).map_err(rpc)
    }

    /// Calls an NFSv3 procedure; repeats it as long as the server says that it is not ready.
    pub(crate) async fn nfs<T: Unpack, E: Unpack>(
        &self,
        procedure: (u32, &'static str),
        arguments: &impl Pack,
    ) -> Result<T, ClientError> {
        let mut tries = 0;
        loop {
            let record = self.nfs_record(procedure, arguments)?;
            match self.send::<Nfs3Result<T, E>>(procedure.1, record).await? {
                Nfs3Result::Ok(result) => return Ok(result),
                Nfs3Result::Err((nfsstat3::NFS3ERR_JUKEBOX, _)) if tries < JUKEBOX_RETRIES_MAX => {
                    tries += 1;
                    tokio::time::sleep(JUKEBOX_PAUSE).await;
                }
                Nfs3Result::Err((status, _)) => {
                    return Err(ClientError::Status {
                        procedure: procedure.1,
                        status,
                    });
                }
            }
        }
    }
}
