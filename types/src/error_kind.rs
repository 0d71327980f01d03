//! What the caller of a failed operation can do about it.

use std::io;

/// The caller's next move. Every error enum of the engines maps its variants onto these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The argument can never be right: change it.
    Invalid,
    /// The thing named does not exist.
    NotFound,
    /// The thing exists already, or its state forbids the operation.
    Conflict,
    /// The caller may not do this.
    Denied,
    /// A limit of space or count is reached: free some.
    NoSpace,
    /// Stored bytes are not what they must be: restore from elsewhere, report it.
    Corrupt,
    /// A part that is needed does not answer now: try again later.
    Unavailable,
    /// A fault of Cairn itself: report it.
    Internal,
}

impl ErrorKind {
    /// What the caller can do about an error of the operating system with files and directories.
    pub fn of_io(error: &io::Error) -> ErrorKind {
        match error.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            io::ErrorKind::AlreadyExists => ErrorKind::Conflict,
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename => ErrorKind::Invalid,
            _ => ErrorKind::Unavailable,
        }
    }
}
