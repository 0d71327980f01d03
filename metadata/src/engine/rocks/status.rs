//! What RocksDB's errors mean. The binding hands over only their text, so the text is taken apart here and nowhere else.

use std::path::Path;

use super::super::EngineError;

/// How RocksDB begins the text of `Status::NoSpace` (util/status.cc).
const NO_SPACE: &str = "IO error: No space left on device";

/// The engine's error for an error of an open database.
pub(super) fn error(error: rocksdb::Error) -> EngineError {
    match error.kind() {
        rocksdb::ErrorKind::Corruption => EngineError::Corrupt(Box::new(error)),
        _ if is_no_space(&error) => EngineError::NoSpace(Box::new(error)),
        _ => EngineError::Failed(Box::new(error)),
    }
}

/// The engine's error for a database that did not open.
pub(super) fn open_error(cause: rocksdb::Error, directory: &Path) -> EngineError {
    let text = cause.as_ref();
    let elsewhere = text.contains("While lock file") && text.contains("Resource temporarily unavailable");
    let here = text.contains("lock hold by current process");
    if elsewhere || here {
        return EngineError::Locked {
            path: directory.display().to_string(),
        };
    }
    error(cause)
}

/// Whether the disk or the file system failed, a full disk included.
pub(super) fn is_input_output(error: &rocksdb::Error) -> bool {
    error.kind() == rocksdb::ErrorKind::IOError
}

/// Whether the disk was full.
pub(super) fn is_no_space(error: &rocksdb::Error) -> bool {
    let text = error.as_ref();
    // What a write fails with that waited in vain.
    let cause = text.strip_prefix("Result incomplete: ").unwrap_or(text);
    cause.starts_with(NO_SPACE)
}

/// Whether the write would have had to wait (`WriteOptions::no_slowdown`, db/db_impl/db_impl_write.cc).
pub(super) fn is_stall(error: &rocksdb::Error) -> bool {
    error.kind() == rocksdb::ErrorKind::Incomplete && error.as_ref().ends_with("Write stall")
}

/// Whether it was a sync of the WAL that failed, be it for lack of space.
pub(super) fn is_failed_log_sync(error: &rocksdb::Error) -> bool {
    let text = error.as_ref();
    (text.contains("While fdatasync") || text.contains("While fsync")) && text.contains(".log")
}
