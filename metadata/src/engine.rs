//! The ordered key-value store beneath all metadata: one small trait, so that the embedded engine, the in-memory engine
//! of the tests and a shared database differ in nothing but where the bytes are.
//!
//! An engine knows nothing of keys' meanings. Keys are 1 to [`KEY_BYTES_MAX`] bytes and sort as unsigned bytes; values
//! are at most [`VALUE_BYTES_MAX`].

use bytes::Bytes;
use cairn_types::ErrorKind;

mod group_sync;
mod limits;
pub mod memory;
pub mod rocks;
pub mod testing;

/// Longest key in bytes. The bounds of a range may be a byte longer, so that a range can end just after the longest key.
pub const KEY_BYTES_MAX: usize = 512;
/// Longest value in bytes.
pub const VALUE_BYTES_MAX: usize = 16 << 20;
/// Most entries that one [`Engine::scan`] returns.
pub const SCAN_ENTRIES_MAX: usize = 65_536;

/// What a completed write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The end of this process, however it ends. A power cut may undo it, and then undoes all later writes too.
    Process,
    /// A power cut.
    Power,
}

/// One change in a [`Batch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Sets the value of a key.
    Put(Vec<u8>, Vec<u8>),
    /// Removes a key, which need not exist.
    Delete(Vec<u8>),
    /// Removes all keys from the first up to, not including, the second; none if the first is not below the second.
    DeleteRange(Vec<u8>, Vec<u8>),
}

/// Something that must hold when a batch is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// The key has no value.
    Absent(Vec<u8>),
    /// The key has exactly this value.
    Equals(Vec<u8>, Vec<u8>),
}

/// Changes that happen together or not at all, in the order given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// What must hold.
    pub preconditions: Vec<Precondition>,
    /// What changes.
    pub operations: Vec<Operation>,
}

impl Batch {
    /// Sets the value of a key.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.operations.push(Operation::Put(key, value));
    }

    /// Removes a key.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.operations.push(Operation::Delete(key));
    }

    /// Removes all keys of `from..to`.
    pub fn delete_range(&mut self, from: Vec<u8>, to: Vec<u8>) {
        self.operations.push(Operation::DeleteRange(from, to));
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}

/// A key and its value.
pub type Pair = (Bytes, Bytes);

/// Why an engine failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A precondition did not hold; nothing was changed.
    #[error("a precondition on key {} does not hold", key.escape_ascii())]
    PreconditionFailed {
        /// The key it is about.
        key: Vec<u8>,
    },
    /// A key or value beyond the limits.
    #[error("{what} of {found} bytes: the limit is {limit}")]
    TooLarge {
        /// `key` or `value`.
        what: &'static str,
        /// Bytes given.
        found: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A key without bytes in a batch.
    #[error("a key of no bytes")]
    EmptyKey,
    /// A setting of the store out of its bounds.
    #[error("{name} is {found}: it must be from {least} to {most}")]
    InvalidSetting {
        /// The setting.
        name: &'static str,
        /// The value given.
        found: u64,
        /// The least value allowed.
        least: u64,
        /// The greatest value allowed.
        most: u64,
    },
    /// Another process has the store open, or this one has it open already.
    #[error("the metadata store at {path} is in use")]
    Locked {
        /// The store's directory.
        path: String,
    },
    /// The disk is full. Nothing was changed.
    #[error("no space left for metadata")]
    NoSpace(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Stored bytes fail their checksum or cannot be parsed.
    #[error("the metadata store is damaged")]
    Corrupt(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A sync failed: nothing more can be trusted to be durable and every later write fails too.
    #[error("the metadata store stopped after a failed sync; restart the daemon after repairing the disk")]
    Poisoned,
    /// Anything else that the store reports.
    #[error("the metadata store failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl EngineError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            EngineError::PreconditionFailed { .. } | EngineError::Locked { .. } => ErrorKind::Conflict,
            EngineError::TooLarge { .. } | EngineError::EmptyKey | EngineError::InvalidSetting { .. } => {
                ErrorKind::Invalid
            }
            EngineError::NoSpace(_) => ErrorKind::NoSpace,
            EngineError::Corrupt(_) => ErrorKind::Corrupt,
            EngineError::Poisoned => ErrorKind::Unavailable,
            EngineError::Failed(_) => ErrorKind::Internal,
        }
    }
}

/// An ordered, transactional map from bytes to bytes. All methods may be called from many threads at once.
pub trait Engine: Send + Sync + 'static {
    /// The value of `key`: the newest committed one.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// The value of `key` if memory can answer; `None` if a disk would have to be asked.
    fn get_cached(&self, key: &[u8]) -> Result<Option<Option<Bytes>>, EngineError>;

    /// The values of `keys`, in their order.
    fn get_many(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, EngineError>;

    /// The first entries of `from..to` in ascending order, at most `limit` (capped at [`SCAN_ENTRIES_MAX`]), all as of
    /// one moment. Fewer than `limit` means that there are no more.
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, EngineError>;

    /// The last entries of `from..to`, in descending order; otherwise as [`Engine::scan`].
    fn scan_back(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, EngineError>;

    /// Commits a batch atomically. On return it is visible and has the durability asked for. A batch with preconditions
    /// is isolated from all other batches with preconditions.
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError>;

    /// Makes every write that had returned before the call durable against a power cut.
    fn sync(&self) -> Result<(), EngineError>;

    /// Bytes that the store takes up on disk, about; 0 if it has no disk.
    fn disk_bytes(&self) -> u64;
}
