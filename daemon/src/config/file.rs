//! The configuration file as it is written. Every key is optional; a key that is not here is an error.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Deserialize;
use toml::Spanned;

use super::size::ByteSize;
use super::stores::Store;
use super::{ConfigError, Place};

/// A value with its place in the file.
pub type Value<T> = Option<Spanned<T>>;

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// Directory that holds everything.
    pub data_dir: Value<PathBuf>,
    /// What the node is called.
    pub node_name: Value<String>,
    /// The NFS server.
    pub nfs: Nfs,
    /// The RPC server.
    pub rpc: Rpc,
    /// The HTTP server.
    pub http: Http,
    /// The metadata store.
    pub metadata: Metadata,
    /// The content log.
    pub content: Content,
    /// Limits of the whole daemon.
    pub limits: Limits,
    /// Plain directories.
    pub directories: Directories,
    /// Logging.
    pub log: Log,
    /// Object stores.
    pub store: Vec<Store>,
}

/// `[nfs]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nfs {
    /// Address and port.
    pub listen: Value<SocketAddr>,
    /// Connections at once.
    pub connections_max: Value<u32>,
    /// Threads for calls that may wait for a disk.
    pub threads_max: Value<u32>,
    /// Memory for requests and replies under way.
    pub memory_bytes_max: Value<ByteSize>,
}

/// `[rpc]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rpc {
    /// Path of the Unix socket.
    pub socket: Value<PathBuf>,
    /// Requests that are executed at once.
    pub requests_max: Value<u32>,
    /// The same over TCP, for other machines.
    pub tcp: Value<RpcTcp>,
}

/// `[rpc.tcp]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RpcTcp {
    /// Address and port.
    pub listen: Value<SocketAddr>,
    /// The server's certificate.
    pub certificate: Value<PathBuf>,
    /// Its key.
    pub key: Value<PathBuf>,
    /// Authorities of the clients' certificates.
    pub client_ca: Value<PathBuf>,
    /// Names that may use `Control`.
    pub control_clients: Value<Vec<String>>,
    /// Names that may use `Operations`.
    pub operations_clients: Value<Vec<String>>,
    /// Connections at once.
    pub connections_max: Value<u32>,
}

/// `[http]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Address and port.
    pub listen: Value<SocketAddr>,
}

/// `[metadata]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metadata {
    /// Block cache.
    pub cache_bytes: Value<ByteSize>,
    /// One write buffer.
    pub write_buffer_bytes: Value<ByteSize>,
}

/// `[content]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Content {
    /// Size of a new segment file.
    pub segment_bytes: Value<ByteSize>,
}

/// `[limits]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Space that is kept free.
    pub disk_reserve_bytes: Value<ByteSize>,
    /// Longest wait for clients at shutdown.
    pub shutdown_seconds: Value<u32>,
}

/// `[directories]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Directories {
    /// Directories below which plain directories may be touched.
    pub roots: Value<Vec<PathBuf>>,
    /// How much work on them runs at once.
    pub jobs_max: Value<u32>,
    /// Bytes that background verification reads in a second; 0: it does not.
    pub verify_bytes_per_second: Value<ByteSize>,
    /// Days after which a snapshot is verified again; 0: never.
    pub verify_again_days: Value<u32>,
}

/// `[log]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Form.
    pub format: Value<LogFormat>,
    /// Least severe level.
    pub level: Value<LogLevel>,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line of text per message.
    Text,
    /// One JSON object per message.
    Json,
}

/// Severity of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// A person must look.
    Error,
    /// Something is off and was handled.
    Warn,
    /// Start, stop and what an administrator did.
    Info,
    /// Decisions.
    Debug,
    /// Every call.
    Trace,
}

impl File {
    /// Parses the text of the file at `path`, which is needed for messages.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let place = match error.span() {
                Some(span) => Place::Line(path.to_owned(), line_of(text, span.start)),
                None => Place::File(path.to_owned()),
            };
            // The parser says "field", people who write files say "key".
            let message = error
                .message()
                .replace("unknown field", "unknown key")
                .trim()
                .to_owned();
            ConfigError::Malformed { place, message }
        })
    }
}

/// The line, counted from 1, that the byte `offset` is on.
pub fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}
