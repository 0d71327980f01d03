//! Whether what a store holds is encrypted, and with which keys. A [`Sealing`] is handed to whoever names chunks, writes or
//! reads packs, or keeps small objects (the roots of archives) in a store.
//!
//! A plain store has no keys: chunks are named by the BLAKE3 hash of their bytes, packs are version 1. An encrypted store has one
//! [`DataKey`], drawn when it is made and never changed. From it come the key of chunk identities (so that ids tell nothing about
//! content, and data is deduplicated among what is stored with the same key only) and the keys of frames, indexes and objects.
//! Everything is encrypted with AES-256-GCM, each piece with a key of its own that is used once (`sealing/envelope.rs` says why
//! that holds).
//!
//! - [`key`]: the data key, the key-encryption key that a person holds, and what tells keys apart.
//! - [`key_file`]: the file that a person keeps a key-encryption key in.
//! - [`keys`]: the object `keys` of an encrypted store: the data key, wrapped; drawn in `docs/formats/keys.md`.
//!
//! What it does not do: it hides neither how many packs there are nor how large they are, and it is no defence against somebody
//! who can remove objects or bring back old ones, except that they cannot be changed or exchanged unnoticed.

mod envelope;
mod error;
pub mod key;
pub mod key_file;
pub mod keys;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use cairn_types::{ChunkId, Randomness};

pub use error::{KeyFileError, KeysError, SealingError};
pub use key::{DataKey, KeyEncryptionKey, KeyId};

use crate::checksum::Crc32c;
use crate::chunking::chunk_id;
use crate::objects::ObjectName;
use envelope::EnvelopeKey;
use key::Secret;

pub(crate) use envelope::{ENVELOPE_BYTES, Failed, SALT_BYTES, TAG_BYTES};

/// Version of an encrypted object, as [`Sealing::seal_object`] writes it.
pub const OBJECT_VERSION: u32 = 1;

const OBJECT_MAGIC: [u8; 8] = *b"CAIRNSEC";
const OBJECT_HEADER_BYTES: usize = 16;
const OBJECT_LABEL: &[u8; 16] = b"cairn store item";

/// Whether a store is encrypted, and the keys if so. Clones are cheap and share the keys. The default is plain.
#[derive(Clone, Default)]
pub struct Sealing(Option<Arc<Keys>>);

/// The keys of an encrypted store.
pub(crate) struct Keys {
    id: KeyId,
    chunks: Secret,
    frames: EnvelopeKey,
    indexes: EnvelopeKey,
    objects: EnvelopeKey,
    randomness: Arc<dyn Randomness>,
}

/// What is encrypted; each kind has keys of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Frame,
    Index,
    Object,
}

impl Sealing {
    /// Nothing is encrypted.
    pub fn plain() -> Self {
        Sealing(None)
    }

    /// Everything is encrypted, with keys that come from `key`. `randomness` is drawn from for every frame, index and object.
    pub fn keyed(key: &DataKey, randomness: Arc<dyn Randomness>) -> Self {
        let derive = |context| key.secret().derive(context);
        Sealing(Some(Arc::new(Keys {
            id: key.id(),
            chunks: derive("cairn 2026-11-21 chunk identities"),
            frames: EnvelopeKey::new(&derive("cairn 2026-11-21 pack frames")),
            indexes: EnvelopeKey::new(&derive("cairn 2026-11-21 pack indexes")),
            objects: EnvelopeKey::new(&derive("cairn 2026-11-21 store objects")),
            randomness,
        })))
    }

    /// Whether nothing is encrypted.
    pub fn is_plain(&self) -> bool {
        self.0.is_none()
    }

    /// Which data key it is; nothing if plain. What is kept locally about a store (an index of chunks) belongs to this id.
    pub fn id(&self) -> Option<KeyId> {
        self.keys().map(|keys| keys.id)
    }

    /// The identity of a chunk: the BLAKE3 hash of its bytes, keyed if the store is encrypted.
    pub fn chunk_id(&self, data: &[u8]) -> ChunkId {
        match &self.0 {
            None => chunk_id(data),
            Some(keys) => ChunkId(*blake3::keyed_hash(keys.chunks.bytes(), data).as_bytes()),
        }
    }

    /// A small object as it is stored under `name`; if plain, the bytes as they are.
    ///
    /// # Errors
    /// [`SealingError::Cipher`].
    pub fn seal_object(&self, name: &ObjectName, bytes: Bytes) -> Result<Bytes, SealingError> {
        let Some(keys) = self.keys() else {
            return Ok(bytes);
        };
        let digest = *blake3::hash(&bytes).as_bytes();
        let mut stored = Vec::with_capacity(OBJECT_HEADER_BYTES + ENVELOPE_BYTES + bytes.len());
        stored.extend_from_slice(&OBJECT_MAGIC);
        stored.extend_from_slice(&OBJECT_VERSION.to_le_bytes());
        stored.extend_from_slice(&[0; 4 + SALT_BYTES]);
        stored.extend_from_slice(&bytes);
        stored.extend_from_slice(&[0; TAG_BYTES]);
        let envelope = &mut stored[OBJECT_HEADER_BYTES..];
        keys.seal(Purpose::Object, envelope, &about_object(name), &digest)
            .map_err(|Failed| SealingError::Cipher {
                name: name.to_string(),
            })?;
        let checksum = object_checksum(&stored).to_le_bytes();
        stored[12..16].copy_from_slice(&checksum);
        Ok(stored.into())
    }

    /// The bytes of a small object that is stored under `name`, verified; if plain, what is stored, unless that is an encrypted
    /// object.
    ///
    /// # Errors
    /// [`SealingError::Encrypted`] if plain and the object is not; [`SealingError::NotEncrypted`] the other way round; `Version`;
    /// `Damaged`; `Key` if another key, another name or a forger made it.
    pub fn open_object(&self, name: &ObjectName, stored: Bytes) -> Result<Bytes, SealingError> {
        let text = || name.to_string();
        let encrypted = stored.starts_with(&OBJECT_MAGIC);
        let keys = match self.keys() {
            None if encrypted => return Err(SealingError::Encrypted { name: text() }),
            None => return Ok(stored),
            Some(_) if !encrypted => return Err(SealingError::NotEncrypted { name: text() }),
            Some(keys) => keys,
        };
        let word = |at: usize| {
            let bytes = stored.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u32::from_le_bytes)
        };
        let damaged = || SealingError::Damaged { name: text() };
        match word(8).ok_or_else(damaged)? {
            OBJECT_VERSION => {}
            0 => return Err(damaged()),
            found => return Err(SealingError::Version { name: text(), found }),
        }
        if stored.len() < OBJECT_HEADER_BYTES + ENVELOPE_BYTES || word(12) != Some(object_checksum(&stored)) {
            return Err(damaged());
        }
        let mut bytes = Vec::new();
        let envelope = &stored[OBJECT_HEADER_BYTES..];
        keys.open(Purpose::Object, envelope, &about_object(name), &mut bytes)
            .map_err(|Failed| SealingError::Key { name: text() })?;
        Ok(bytes.into())
    }

    /// The keys; nothing if plain.
    pub(crate) fn keys(&self) -> Option<&Keys> {
        self.0.as_deref()
    }
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id() {
            None => f.write_str("Sealing(plain)"),
            Some(id) => write!(f, "Sealing({id})"),
        }
    }
}

impl Keys {
    /// Encrypts what stands in an envelope with room for salt and tag. `about` is authenticated with it; `digest` is of what is
    /// encrypted, see [`EnvelopeKey::seal`].
    pub(crate) fn seal(
        &self,
        purpose: Purpose,
        envelope: &mut [u8],
        about: &[u8],
        digest: &[u8; 32],
    ) -> Result<(), Failed> {
        self.of(purpose)
            .seal(envelope, about, digest, self.randomness.as_ref())
    }

    /// Verifies and decrypts an envelope into `plain`, which then has that and nothing else; nothing on failure.
    pub(crate) fn open(
        &self,
        purpose: Purpose,
        envelope: &[u8],
        about: &[u8],
        plain: &mut Vec<u8>,
    ) -> Result<(), Failed> {
        self.of(purpose).open(envelope, about, plain)
    }

    fn of(&self, purpose: Purpose) -> &EnvelopeKey {
        match purpose {
            Purpose::Frame => &self.frames,
            Purpose::Index => &self.indexes,
            Purpose::Object => &self.objects,
        }
    }
}

/// What is authenticated with an object: that it is one, the version, the name.
fn about_object(name: &ObjectName) -> Vec<u8> {
    [
        &OBJECT_LABEL[..],
        &OBJECT_VERSION.to_le_bytes(),
        name.as_str().as_bytes(),
    ]
    .concat()
}

/// CRC-32C of everything but itself.
fn object_checksum(stored: &[u8]) -> u32 {
    let mut sum = Crc32c::new();
    sum.update(&stored[..12]);
    sum.update(&stored[OBJECT_HEADER_BYTES..]);
    sum.value()
}
