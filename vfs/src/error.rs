//! One variant per POSIX outcome. The protocol crates turn each into their own code with one exhaustive match.

use cairn_types::ErrorKind;

/// Why an operation on a file system failed. Nothing was changed unless the operation says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No entry of that name (ENOENT).
    #[error("no such entry")]
    NotFound,
    /// The name exists already (EEXIST).
    #[error("the name exists already")]
    Exists,
    /// A directory was needed (ENOTDIR).
    #[error("not a directory")]
    NotDirectory,
    /// Something else than a directory was needed (EISDIR).
    #[error("is a directory")]
    IsDirectory,
    /// The directory still has entries (ENOTEMPTY).
    #[error("directory not empty")]
    NotEmpty,
    /// The mode bits do not let the caller do this (EACCES).
    #[error("permission denied")]
    Access,
    /// Only the owner or root may do this (EPERM).
    #[error("operation not permitted")]
    NotPermitted,
    /// The export or the view is read-only (EROFS).
    #[error("read-only file system")]
    ReadOnly,
    /// An argument that can never be right, such as moving a directory below itself (EINVAL).
    #[error("invalid argument: {0}")]
    Invalid(&'static str),
    /// The name is longer than 255 bytes (ENAMETOOLONG).
    #[error("name too long")]
    NameTooLong,
    /// The offset or size is beyond the largest file size (EFBIG).
    #[error("file too large")]
    FileTooLarge,
    /// The object has as many links as it can have (EMLINK).
    #[error("too many links")]
    TooManyLinks,
    /// No room left on the node (ENOSPC).
    #[error("no space left")]
    NoSpace,
    /// The change would take the volume beyond what it may hold (EDQUOT).
    #[error("the workspace may not hold more")]
    OverCapacity,
    /// The two objects are on different volumes (EXDEV).
    #[error("objects of different volumes")]
    CrossVolume,
    /// The object does not support the operation, such as reading a socket (EINVAL, NFS3ERR_BADTYPE where it fits).
    #[error("wrong type of object")]
    WrongType,
    /// The object is gone, or the volume is (ESTALE).
    #[error("stale object")]
    Stale,
    /// The guard of a guarded change did not hold (NFS3ERR_NOT_SYNC).
    #[error("attributes changed meanwhile")]
    GuardFailed,
    /// A readdir cookie that no listing of this directory gave out (NFS3ERR_BAD_COOKIE).
    #[error("unknown directory cookie")]
    BadCookie,
    /// Stored bytes are not what they must be, or cannot be had: EIO, never zeros. `what` names the place.
    #[error("input/output error: {what}")]
    Io {
        /// What could not be read or written, for the log.
        what: String,
        /// Whether the bytes are damaged or the device failed.
        kind: ErrorKind,
    },
}

impl Error {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NotFound | Error::Stale => ErrorKind::NotFound,
            Error::Exists | Error::NotEmpty | Error::GuardFailed => ErrorKind::Conflict,
            Error::Access | Error::NotPermitted | Error::ReadOnly => ErrorKind::Denied,
            Error::NotDirectory
            | Error::IsDirectory
            | Error::Invalid(_)
            | Error::NameTooLong
            | Error::FileTooLarge
            | Error::CrossVolume
            | Error::WrongType
            | Error::BadCookie => ErrorKind::Invalid,
            Error::TooManyLinks | Error::NoSpace | Error::OverCapacity => ErrorKind::NoSpace,
            Error::Io { kind, .. } => *kind,
        }
    }
}
