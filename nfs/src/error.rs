//! Why a server does not start or stops, and why a connection ends. What goes wrong within a call is answered on the
//! wire and is not an error here.

use std::io;

use cairn_types::ErrorKind;

use crate::rpc::message::NoCall;

/// Why a server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A setting is out of bounds; the text names it and its bounds.
    #[error("setting out of bounds: {0}")]
    Setting(&'static str),
    /// The replies that the file system recorded cannot be read.
    #[error("recorded replies cannot be read")]
    RecordedReplies(#[source] cairn_vfs::Error),
    /// The listener does not tell its address.
    #[error("the listener is unusable")]
    Listener(#[source] io::Error),
}

impl ServerError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ServerError::Setting(_) => ErrorKind::Invalid,
            ServerError::RecordedReplies(error) => error.kind(),
            ServerError::Listener(_) => ErrorKind::Unavailable,
        }
    }
}

/// Why a connection ended otherwise than by the client's closing it between two requests.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The stream failed.
    #[error("the stream failed")]
    Stream(#[source] io::Error),
    /// The client closed in the middle of a record.
    #[error("the stream ended inside a record")]
    Truncated,
    /// A record longer than any request can be.
    #[error("record of more than {limit} bytes: {announced} announced")]
    RecordTooLong {
        /// Bytes announced so far, over all fragments.
        announced: usize,
        /// Most bytes.
        limit: usize,
    },
    /// A record in more fragments than allowed.
    #[error("record of more than {0} fragments")]
    Fragments(usize),
    /// A message that cannot be answered.
    #[error("not a call")]
    NoCall(#[source] NoCall),
    /// No request for longer than the idle timeout.
    #[error("idle")]
    Idle,
    /// A request began and did not go on.
    #[error("a request began and did not go on")]
    RecordTimeout,
    /// The client does not read its replies.
    #[error("the client does not read its replies")]
    ReplyTimeout,
    /// Calls were still being executed, or replies unsent, when shutdown stopped waiting.
    #[error("calls were not finished in time")]
    DrainTimeout,
}

impl ConnectionError {
    /// What the other side can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ConnectionError::RecordTooLong { .. }
            | ConnectionError::Fragments(_)
            | ConnectionError::NoCall(_) => ErrorKind::Invalid,
            ConnectionError::Stream(_)
            | ConnectionError::Truncated
            | ConnectionError::Idle
            | ConnectionError::RecordTimeout
            | ConnectionError::ReplyTimeout
            | ConnectionError::DrainTimeout => ErrorKind::Unavailable,
        }
    }
}
