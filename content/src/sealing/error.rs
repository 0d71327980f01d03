//! What can be wrong with keys, with the file of a key, and with encrypted objects. No message holds a secret: keys appear as
//! their fingerprints.

use std::io;
use std::path::PathBuf;

use cairn_types::ErrorKind;

use super::keys::{KEYS_VERSION, WRAPS_MAX};
use super::{KeyId, OBJECT_VERSION};
use crate::objects::{ObjectError, StoreId};

/// Why a small object cannot be encrypted or decrypted.
#[derive(Debug, thiserror::Error)]
pub enum SealingError {
    /// It is encrypted, and there is no key.
    #[error("the object {name} is encrypted and there is no key: give the key file of the store")]
    Encrypted {
        /// The object.
        name: String,
    },
    /// There is a key, and it is not encrypted.
    #[error(
        "the object {name} is not encrypted, as everything in its store is: it is damaged, or somebody else put it there"
    )]
    NotEncrypted {
        /// The object.
        name: String,
    },
    /// A later Cairn wrote it.
    #[error(
        "the encrypted object {name} has version {found} and this Cairn knows versions to {OBJECT_VERSION}: use the Cairn that wrote it, or a later one"
    )]
    Version {
        /// The object.
        name: String,
        /// Its version.
        found: u32,
    },
    /// It is not what was written.
    #[error("the encrypted object {name} is damaged")]
    Damaged {
        /// The object.
        name: String,
    },
    /// It is what was written, but not with this key under this name.
    #[error(
        "the object {name} was encrypted with another key, under another name, or by somebody without a key"
    )]
    Key {
        /// The object.
        name: String,
    },
    /// The cipher failed.
    #[error("the object {name} cannot be encrypted: this is a fault of Cairn, please report it")]
    Cipher {
        /// The object.
        name: String,
    },
}

impl SealingError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            SealingError::Encrypted { .. } => ErrorKind::Denied,
            SealingError::NotEncrypted { .. } | SealingError::Damaged { .. } | SealingError::Key { .. } => {
                ErrorKind::Corrupt
            }
            SealingError::Version { .. } => ErrorKind::Invalid,
            SealingError::Cipher { .. } => ErrorKind::Internal,
        }
    }
}

/// Why a key file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("the key file {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// It cannot be written.
    #[error("the key file {} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// It is a directory, a device, a pipe or a socket.
    #[error("the key file {} is not a regular file", path.display())]
    NotAFile {
        /// What was named.
        path: PathBuf,
    },
    /// Others than its owner can read, write or execute it.
    #[error(
        "the key file {} has mode {mode:04o}, so that others than its owner can get at the key: run chmod 0600 on it, or \
         allow it explicitly",
        path.display()
    )]
    Access {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds no key.
    #[error(
        "the key file {} holds no key: {what}; it must have 64 hexadecimal digits, or 32 random bytes as they are",
        path.display()
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// What shows it.
        what: &'static str,
    },
}

impl KeyFileError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            KeyFileError::Read { cause, .. } | KeyFileError::Write { cause, .. } => match cause.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                io::ErrorKind::AlreadyExists => ErrorKind::Conflict,
                io::ErrorKind::StorageFull => ErrorKind::NoSpace,
                _ => ErrorKind::Unavailable,
            },
            KeyFileError::Access { .. } => ErrorKind::Denied,
            KeyFileError::NotAFile { .. } | KeyFileError::Content { .. } => ErrorKind::Invalid,
        }
    }
}

fn list(ids: &[KeyId]) -> String {
    let ids: Vec<String> = ids.iter().map(KeyId::to_string).collect();
    ids.join(" or ")
}

/// Why the keys of a store cannot be had or changed. Keys are named by their fingerprints.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The store is encrypted, and no key was given.
    #[error(
        "object store {store} is encrypted and no key was given: give the key file of key {}",
        list(wanted)
    )]
    Missing {
        /// URL of the store.
        store: String,
        /// Keys of which each would do.
        wanted: Vec<KeyId>,
    },
    /// The key that was given is none of the store's.
    #[error(
        "key {given} does not open object store {store}: give the key file of key {}",
        list(wanted)
    )]
    Wrong {
        /// URL of the store.
        store: String,
        /// Keys of which each would do.
        wanted: Vec<KeyId>,
        /// The one that was given.
        given: KeyId,
    },
    /// The store is not encrypted, and a key was given.
    #[error(
        "object store {store} is not encrypted and key {given} was given: leave the key out, or use another URL for an \
         encrypted store (if it should be encrypted, its object keys is missing)"
    )]
    NotEncrypted {
        /// URL of the store.
        store: String,
        /// The key.
        given: KeyId,
    },
    /// An encrypted store was to be made where one is.
    #[error("object store {store} is encrypted already, with key {}", list(wanted))]
    Exists {
        /// URL of the store.
        store: String,
        /// Keys of which each opens it.
        wanted: Vec<KeyId>,
    },
    /// An encrypted store was to be made where something is stored plainly, or `keys` is missing.
    #[error(
        "object store {store} holds {found} and no keys, so that it cannot be made an encrypted store: use another URL"
    )]
    NotEmpty {
        /// URL of the store.
        store: String,
        /// An object in it.
        found: String,
    },
    /// The keys are those of another store.
    #[error(
        "the object keys of object store {store} belongs to store {found} and not to this one, {expected}: restore it"
    )]
    OtherStore {
        /// URL of the store.
        store: String,
        /// The store's identity.
        expected: StoreId,
        /// The identity in `keys`.
        found: String,
    },
    /// A newer Cairn wrote the keys.
    #[error(
        "the object keys of object store {store} has version {found}, this Cairn knows up to {KEYS_VERSION}: use a newer Cairn"
    )]
    Newer {
        /// URL of the store.
        store: String,
        /// The version.
        found: u32,
    },
    /// The keys cannot be read.
    #[error(
        "the object keys of object store {store} is damaged ({reason}): restore it from a copy, nothing can be read without it"
    )]
    Damaged {
        /// URL of the store.
        store: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The data key was wrapped with a key of this fingerprint, but it does not come out.
    #[error(
        "the object keys of object store {store} has a wrap for key {key} that this key does not open: somebody has \
         changed it; restore it from a copy"
    )]
    Wrap {
        /// URL of the store.
        store: String,
        /// The key.
        key: KeyId,
    },
    /// The key to be removed is the one by which it is to be removed; another one has to remain.
    #[error(
        "key {key} cannot be removed from object store {store} by itself: give another key that opens the store"
    )]
    Remaining {
        /// URL of the store.
        store: String,
        /// The key.
        key: KeyId,
    },
    /// There is no wrap for the key that is to be removed.
    #[error("object store {store} has no key {key}; it has {}", list(found))]
    NoSuchKey {
        /// URL of the store.
        store: String,
        /// The key.
        key: KeyId,
        /// The keys that it has.
        found: Vec<KeyId>,
    },
    /// The store has as many keys as it may have.
    #[error("object store {store} has {WRAPS_MAX} keys, the most that are possible: remove one")]
    TooMany {
        /// URL of the store.
        store: String,
    },
    /// The cipher failed.
    #[error(
        "the data key of object store {store} cannot be wrapped: this is a fault of Cairn, please report it"
    )]
    Cipher {
        /// URL of the store.
        store: String,
    },
    /// The store failed. Whether a change was made is not known after some errors; it can be tried again.
    #[error(transparent)]
    Store(#[from] ObjectError),
}

impl KeysError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            KeysError::Missing { .. } | KeysError::Wrong { .. } => ErrorKind::Denied,
            KeysError::NotEncrypted { .. } | KeysError::Newer { .. } | KeysError::Remaining { .. } => {
                ErrorKind::Invalid
            }
            KeysError::Exists { .. } | KeysError::NotEmpty { .. } => ErrorKind::Conflict,
            KeysError::NoSuchKey { .. } => ErrorKind::NotFound,
            KeysError::OtherStore { .. } | KeysError::Damaged { .. } | KeysError::Wrap { .. } => {
                ErrorKind::Corrupt
            }
            KeysError::TooMany { .. } => ErrorKind::NoSpace,
            KeysError::Cipher { .. } => ErrorKind::Internal,
            KeysError::Store(error) => error.kind(),
        }
    }
}
