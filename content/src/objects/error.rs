//! Why an operation on an object store failed: which store, which object, what was tried, the cause, and what a person
//! can do about it. Nothing here holds a secret: URLs of stores have none, and credentials are never formatted.

use std::fmt;
use std::time::Duration;

use cairn_types::ErrorKind;

use super::name::ObjectNameError;
use super::options::ObjectOptionsError;
use super::url::ObjectStoreUrlError;

/// The cause as the client of the store reports it.
pub type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What was to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// The store was opened.
    Open,
    /// An object was to be written.
    Put,
    /// An object that does not exist yet was to be written.
    PutNew,
    /// An object was to be replaced if it is what was last read.
    Replace,
    /// An object, or a part of one, was to be read.
    Get,
    /// The size of an object was asked.
    Head,
    /// Names were to be listed.
    List,
    /// Objects were to be removed.
    Delete,
    /// Files of interrupted writes were to be removed.
    Clean,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Open => "open",
            Operation::Put => "put",
            Operation::PutNew => "put new",
            Operation::Replace => "replace",
            Operation::Get => "get",
            Operation::Head => "head",
            Operation::List => "list",
            Operation::Delete => "delete",
            Operation::Clean => "clean",
        })
    }
}

/// The store, the object and the operation that an error is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// URL of the store.
    pub store: String,
    /// Name of the object, or the prefix of a list; empty when the store as a whole is meant.
    pub object: String,
    /// What was to be done.
    pub operation: Operation,
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "object store {}: {}", self.store, self.operation)?;
        match self.object.as_str() {
            "" => Ok(()),
            object => write!(f, " {object}"),
        }
    }
}

/// Why an operation on an object store failed.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The object does not exist.
    #[error("{at}: there is no such object")]
    NotFound {
        /// Where.
        at: Box<Context>,
        /// What the store answered.
        source: Cause,
    },
    /// The object exists already, with other bytes.
    #[error("{at}: the object exists already and was left as it is")]
    AlreadyExists {
        /// Where.
        at: Box<Context>,
        /// What the store answered.
        source: Cause,
    },
    /// The object is not what was last read: somebody else has replaced it.
    #[error("{at}: somebody else has changed the object since it was read; it was left as it is")]
    Changed {
        /// Where.
        at: Box<Context>,
        /// What the store answered.
        source: Cause,
    },
    /// Credentials are missing, wrong or expired, or do not allow the operation.
    #[error("{at}: access denied; check the credentials and what they are allowed to do ({source})")]
    Denied {
        /// Where.
        at: Box<Context>,
        /// What the store answered.
        source: Cause,
    },
    /// The bucket, container or directory does not exist.
    #[error("{at}: the bucket or directory does not exist; make it, or correct the URL")]
    NoBucket {
        /// Where.
        at: Box<Context>,
        /// What the store answered.
        source: Cause,
    },
    /// The store has no room.
    #[error("{at}: the store is full; free space or raise its quota")]
    NoSpace {
        /// Where.
        at: Box<Context>,
        /// What the store answered.
        source: Cause,
    },
    /// The last attempt, like perhaps others, took too long. Whether a write took effect is not known.
    #[error(
        "{at}: no answer within {timeout:?} in the last of {attempts} attempts; try again later, or allow more time"
    )]
    Timeout {
        /// Where.
        at: Box<Context>,
        /// How often it was tried.
        attempts: u32,
        /// How long one attempt may take.
        timeout: Duration,
    },
    /// The store could not be reached or failed, in every attempt. Whether a write took effect is not known.
    #[error(
        "{at}: the store failed or could not be reached in {attempts} attempts; check its address and its health, and \
         try again ({source})"
    )]
    Unavailable {
        /// Where.
        at: Box<Context>,
        /// How often it was tried.
        attempts: u32,
        /// What went wrong in the last attempt.
        source: Cause,
    },
    /// Fewer or more bytes than there must be. They were not returned.
    #[error(
        "{at}: {found} bytes where {expected} must be; the object is cut off or not the one that is meant"
    )]
    Short {
        /// Where.
        at: Box<Context>,
        /// Bytes asked for.
        expected: u64,
        /// Bytes that there are.
        found: u64,
    },
    /// The object's bytes cannot be trusted.
    #[error("{at}: {reason}; nothing was returned")]
    Corrupt {
        /// Where.
        at: Box<Context>,
        /// What was found.
        reason: String,
    },
    /// The request can never succeed as it is.
    #[error("{at}: {reason}")]
    Invalid {
        /// Where.
        at: Box<Context>,
        /// What must change.
        reason: String,
        /// What the store answered, if it was asked.
        source: Option<Cause>,
    },
    /// The URL is not one of a store.
    #[error(transparent)]
    Url(#[from] ObjectStoreUrlError),
    /// The name is not one of an object.
    #[error(transparent)]
    Name(#[from] ObjectNameError),
    /// A setting is out of its bounds.
    #[error(transparent)]
    Options(#[from] ObjectOptionsError),
}

impl ObjectError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ObjectError::NotFound { .. } | ObjectError::NoBucket { .. } => ErrorKind::NotFound,
            ObjectError::AlreadyExists { .. } | ObjectError::Changed { .. } => ErrorKind::Conflict,
            ObjectError::Denied { .. } => ErrorKind::Denied,
            ObjectError::NoSpace { .. } => ErrorKind::NoSpace,
            ObjectError::Timeout { .. } | ObjectError::Unavailable { .. } => ErrorKind::Unavailable,
            ObjectError::Short { .. } | ObjectError::Corrupt { .. } => ErrorKind::Corrupt,
            ObjectError::Invalid { .. }
            | ObjectError::Url(_)
            | ObjectError::Name(_)
            | ObjectError::Options(_) => ErrorKind::Invalid,
        }
    }

    /// Whether the object does not exist, in a store that does.
    pub fn is_not_found(&self) -> bool {
        matches!(self, ObjectError::NotFound { .. })
    }
}
