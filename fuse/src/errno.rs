//! What programs are told of failures: the one table from errors to errno.

use cairn_types::ErrorKind;
use fuser::Errno;

use crate::tree::TreeError;

/// What a program is told. What is damaged or missing in a tree is EIO, whatever kind it is of: to say that a file does not exist, or
/// is empty, would be a lie.
pub(crate) fn errno(error: &TreeError) -> Errno {
    match error {
        TreeError::Inode(_) => Errno::ESTALE,
        TreeError::NotADirectory => Errno::ENOTDIR,
        TreeError::NotALink | TreeError::NotAFile | TreeError::Cookie => Errno::EINVAL,
        TreeError::Failed { kind, .. } => match kind {
            ErrorKind::Denied => Errno::EACCES,
            ErrorKind::NoSpace => Errno::ENOSPC,
            ErrorKind::Invalid
            | ErrorKind::NotFound
            | ErrorKind::Conflict
            | ErrorKind::Corrupt
            | ErrorKind::Unavailable
            | ErrorKind::Internal => Errno::EIO,
        },
    }
}
