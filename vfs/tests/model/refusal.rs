//! Why the model refuses an operation: every reason that applies. POSIX (XSH 2.3, "Error Numbers") leaves the order in
//! which errors are looked for to the implementation, so a subject may answer with any of them.

use cairn_vfs::Error;

/// [`Error`] without its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    NotFound,
    Exists,
    NotDirectory,
    IsDirectory,
    NotEmpty,
    Access,
    NotPermitted,
    ReadOnly,
    Invalid,
    NameTooLong,
    FileTooLarge,
    TooManyLinks,
    NoSpace,
    OverCapacity,
    CrossVolume,
    WrongType,
    Stale,
    GuardFailed,
    BadCookie,
    Io,
}

impl From<&Error> for Reason {
    fn from(error: &Error) -> Self {
        match error {
            Error::NotFound => Reason::NotFound,
            Error::Exists => Reason::Exists,
            Error::NotDirectory => Reason::NotDirectory,
            Error::IsDirectory => Reason::IsDirectory,
            Error::NotEmpty => Reason::NotEmpty,
            Error::Access => Reason::Access,
            Error::NotPermitted => Reason::NotPermitted,
            Error::ReadOnly => Reason::ReadOnly,
            Error::Invalid(_) => Reason::Invalid,
            Error::NameTooLong => Reason::NameTooLong,
            Error::FileTooLarge => Reason::FileTooLarge,
            Error::TooManyLinks => Reason::TooManyLinks,
            Error::NoSpace => Reason::NoSpace,
            Error::OverCapacity => Reason::OverCapacity,
            Error::CrossVolume => Reason::CrossVolume,
            Error::WrongType => Reason::WrongType,
            Error::Stale => Reason::Stale,
            Error::GuardFailed => Reason::GuardFailed,
            Error::BadCookie => Reason::BadCookie,
            Error::Io { .. } => Reason::Io,
        }
    }
}

impl Reason {
    /// The error that a file system gives for this reason.
    pub fn error(self) -> Error {
        match self {
            Reason::NotFound => Error::NotFound,
            Reason::Exists => Error::Exists,
            Reason::NotDirectory => Error::NotDirectory,
            Reason::IsDirectory => Error::IsDirectory,
            Reason::NotEmpty => Error::NotEmpty,
            Reason::Access => Error::Access,
            Reason::NotPermitted => Error::NotPermitted,
            Reason::ReadOnly => Error::ReadOnly,
            Reason::Invalid => Error::Invalid("refused by the model"),
            Reason::NameTooLong => Error::NameTooLong,
            Reason::FileTooLarge => Error::FileTooLarge,
            Reason::TooManyLinks => Error::TooManyLinks,
            Reason::NoSpace => Error::NoSpace,
            Reason::OverCapacity => Error::OverCapacity,
            Reason::CrossVolume => Error::CrossVolume,
            Reason::WrongType => Error::WrongType,
            Reason::Stale => Error::Stale,
            Reason::GuardFailed => Error::GuardFailed,
            Reason::BadCookie => Error::BadCookie,
            Reason::Io => Error::Io {
                what: "refused by the model".to_owned(),
                kind: cairn_types::ErrorKind::Internal,
            },
        }
    }
}

/// All reasons to refuse an operation, the one to answer with first. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(pub Vec<Reason>);

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Refusal(vec![reason])
    }
}

/// Collects the reasons of checks that stand side by side.
#[derive(Debug, Default)]
pub struct Checks(Vec<Reason>);

impl Checks {
    /// Adds all of `reasons` if the operation must be refused: different answers to one fault.
    pub fn refuse_if(&mut self, refused: bool, reasons: &[Reason]) {
        if refused {
            self.0.extend(reasons);
        }
    }

    /// Fails if there was any reason.
    pub fn finish(self) -> Result<(), Refusal> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Refusal(self.0))
        }
    }
}
