//! Status codes (RFC 1813 section 2.6), and what each outcome of the file system is called on the wire.

use cairn_types::{ErrorKind, FileNameError};
use cairn_vfs::Error;

/// `nfsstat3`, those values that this server uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Status {
    Ok = 0,
    NotPermitted = 1,
    NotFound = 2,
    Io = 5,
    Access = 13,
    Exists = 17,
    CrossVolume = 18,
    NotDirectory = 20,
    IsDirectory = 21,
    Invalid = 22,
    FileTooLarge = 27,
    NoSpace = 28,
    ReadOnly = 30,
    TooManyLinks = 31,
    NameTooLong = 63,
    NotEmpty = 66,
    OverQuota = 69,
    Stale = 70,
    BadHandle = 10_001,
    NotSynchronized = 10_002,
    BadCookie = 10_003,
    TooSmall = 10_005,
    ServerFault = 10_006,
    BadType = 10_007,
    /// Try again later: a Linux client waits some seconds and sends the request anew, as long as it takes.
    Jukebox = 10_008,
}

impl From<&Error> for Status {
    fn from(error: &Error) -> Self {
        match error {
            Error::NotFound => Status::NotFound,
            Error::Exists => Status::Exists,
            Error::NotDirectory => Status::NotDirectory,
            Error::IsDirectory => Status::IsDirectory,
            Error::NotEmpty => Status::NotEmpty,
            Error::Access => Status::Access,
            Error::NotPermitted => Status::NotPermitted,
            Error::ReadOnly => Status::ReadOnly,
            Error::Invalid(_) | Error::WrongType => Status::Invalid,
            Error::NameTooLong => Status::NameTooLong,
            Error::FileTooLarge => Status::FileTooLarge,
            Error::TooManyLinks => Status::TooManyLinks,
            Error::NoSpace => Status::NoSpace,
            Error::OverCapacity => Status::OverQuota,
            Error::CrossVolume => Status::CrossVolume,
            Error::Stale => Status::Stale,
            Error::GuardFailed => Status::NotSynchronized,
            Error::BadCookie => Status::BadCookie,
            Error::Io { kind, .. } => match kind {
                ErrorKind::Unavailable => Status::Jukebox,
                ErrorKind::NoSpace => Status::NoSpace,
                ErrorKind::Invalid
                | ErrorKind::NotFound
                | ErrorKind::Conflict
                | ErrorKind::Denied
                | ErrorKind::Corrupt
                | ErrorKind::Internal => Status::Io,
            },
        }
    }
}

/// What a name that cannot be given to anything is called; `dots` is for `.` and `..`, which every procedure answers in
/// its own way.
pub(crate) fn name_status(error: FileNameError, dots: Status) -> Status {
    match error {
        FileNameError::TooLong { .. } => Status::NameTooLong,
        FileNameError::Empty | FileNameError::ForbiddenByte => Status::Invalid,
        FileNameError::DotOrDotDot => dots,
    }
}

#[cfg(test)]
mod tests {
    use cairn_types::{ErrorKind, FileName};
    use cairn_vfs::Error;

    use super::{Status, name_status};

    #[test]
    fn codes_on_the_wire() {
        let codes = [
            (Error::NotFound, 2),
            (Error::NotEmpty, 66),
            (Error::OverCapacity, 69),
            (Error::Stale, 70),
            (Error::GuardFailed, 10_002),
            (Error::BadCookie, 10_003),
            (Error::CrossVolume, 18),
            (
                Error::Io {
                    what: "segment 1".into(),
                    kind: ErrorKind::Corrupt,
                },
                5,
            ),
            (
                Error::Io {
                    what: "object store".into(),
                    kind: ErrorKind::Unavailable,
                },
                10_008,
            ),
        ];
        for (error, code) in codes {
            assert_eq!(Status::from(&error) as u32, code, "{error}");
        }
    }

    #[test]
    fn names() {
        let status = |name: &[u8]| name_status(FileName::new(name).unwrap_err(), Status::Exists);
        assert_eq!(status(b"."), Status::Exists);
        assert_eq!(status(b"a/b"), Status::Invalid);
        assert_eq!(status(&[b'a'; 256]), Status::NameTooLong);
    }
}
