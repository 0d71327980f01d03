//! Names of directory entries: bytes, not text.

use std::fmt;
use std::sync::Arc;

/// A directory entry's name: 1 to 255 bytes without `/` and NUL, and not `.` or `..`.
/// (POSIX.1-2017 section 3.170 and `NAME_MAX` of Linux file systems.)
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(Arc<[u8]>);

/// Why bytes are no [`FileName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileNameError {
    /// No byte at all.
    #[error("a name must not be empty")]
    Empty,
    /// More than 255 bytes.
    #[error("a name of {found} bytes is longer than {limit}", limit = FileName::BYTES_MAX)]
    TooLong {
        /// Bytes that were given.
        found: usize,
    },
    /// A `/` or NUL byte.
    #[error("a name must not contain '/' or NUL")]
    ForbiddenByte,
    /// `.` or `..`.
    #[error("'.' and '..' name the directory itself and its parent")]
    DotOrDotDot,
}

impl FileName {
    /// Longest name in bytes.
    pub const BYTES_MAX: usize = 255;

    /// Checks `bytes` and keeps them.
    pub fn new(bytes: &[u8]) -> Result<Self, FileNameError> {
        match bytes {
            [] => Err(FileNameError::Empty),
            b"." | b".." => Err(FileNameError::DotOrDotDot),
            _ if bytes.len() > Self::BYTES_MAX => Err(FileNameError::TooLong { found: bytes.len() }),
            _ if bytes.iter().any(|byte| matches!(byte, b'/' | 0)) => Err(FileNameError::ForbiddenByte),
            _ => Ok(FileName(bytes.into())),
        }
    }

    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::{FileName, FileNameError};

    #[test]
    fn accepts_bytes_that_are_not_utf8() {
        assert_eq!(FileName::new(b"\xff\xfe").unwrap().as_bytes(), b"\xff\xfe");
        assert!(FileName::new(&[b'a'; 255]).is_ok());
    }

    #[test]
    fn refuses_what_is_no_name() {
        assert_eq!(FileName::new(b""), Err(FileNameError::Empty));
        assert_eq!(FileName::new(b"."), Err(FileNameError::DotOrDotDot));
        assert_eq!(FileName::new(b".."), Err(FileNameError::DotOrDotDot));
        assert_eq!(FileName::new(b"a/b"), Err(FileNameError::ForbiddenByte));
        assert_eq!(FileName::new(b"a\0"), Err(FileNameError::ForbiddenByte));
        assert_eq!(
            FileName::new(&[b'a'; 256]),
            Err(FileNameError::TooLong { found: 256 })
        );
    }
}
