//! Keys, and what tells them apart. Their bytes are overwritten when they are dropped, never formatted, and leave this module
//! only to be written to a key file or wrapped. (Copies that the compiler makes on the stack, and those inside AWS-LC while it
//! encrypts, are out of reach here; AWS-LC overwrites its own.)

use std::fmt;

use cairn_types::Randomness;
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// 32 secret bytes.
pub(super) struct Secret(Zeroizing<[u8; KEY_BYTES]>);

impl Secret {
    pub(super) fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        Secret(bytes)
    }

    pub(super) fn random(randomness: &dyn Randomness) -> Self {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        randomness.fill(&mut *bytes);
        Secret(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// A key for one purpose: BLAKE3 in its key derivation mode, with a context that names the purpose.
    pub(super) fn derive(&self, context: &'static str) -> Secret {
        Secret(Zeroizing::new(blake3::derive_key(context, self.bytes())))
    }

    /// BLAKE3 in its keyed mode over `parts`, one behind the other.
    pub(super) fn keyed_hash(&self, parts: &[&[u8]]) -> Secret {
        let mut hasher = blake3::Hasher::new_keyed(self.bytes());
        for part in parts {
            hasher.update(part);
        }
        let mut hash = hasher.finalize();
        let secret = Secret(Zeroizing::new(*hash.as_bytes()));
        hash.zeroize();
        hasher.zeroize();
        secret
    }

    fn id(&self, context: &'static str) -> KeyId {
        let mut id = [0; 16];
        id.copy_from_slice(&self.derive(context).bytes()[..16]);
        KeyId(id)
    }
}

/// The fingerprint of a key: tells keys apart and tells nothing else about them. Shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 16]);

impl KeyId {
    /// The id with these 32 lowercase hexadecimal digits; nothing for other text.
    pub fn parse(text: &str) -> Option<Self> {
        let mut id = [0; 16];
        decode_hex(text.as_bytes(), &mut id).then_some(KeyId(id))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The key that everything in an encrypted store is encrypted with, by way of keys that come from it. It never changes: whoever
/// has it can read the store for ever.
pub struct DataKey(Secret);

impl DataKey {
    /// A new one.
    pub fn random(randomness: &dyn Randomness) -> Self {
        DataKey(Secret::random(randomness))
    }

    /// The key with these bytes.
    pub fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        DataKey(Secret::new(bytes))
    }

    /// Which it is.
    pub fn id(&self) -> KeyId {
        self.0.id("cairn 2026-11-21 data key id")
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.0
    }
}

/// The key that a person holds, outside of the store: data keys are wrapped with it. One key can serve many stores.
pub struct KeyEncryptionKey(Secret);

impl KeyEncryptionKey {
    /// A new one. It has to be kept ([`super::key_file::create`]): without it what it wraps is lost.
    pub fn random(randomness: &dyn Randomness) -> Self {
        KeyEncryptionKey(Secret::random(randomness))
    }

    /// The key with these bytes.
    pub fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        KeyEncryptionKey(Secret::new(bytes))
    }

    /// Which it is.
    pub fn id(&self) -> KeyId {
        self.0.id("cairn 2026-11-21 key-encryption key id")
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.0
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey({})", self.id())
    }
}

impl fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyEncryptionKey({})", self.id())
    }
}

/// Fills `bytes` from lowercase hexadecimal digits; whether it could, exactly.
pub(super) fn decode_hex(digits: &[u8], bytes: &mut [u8]) -> bool {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    digits.len() == bytes.len() * 2
        && digits.chunks_exact(2).zip(bytes).all(|(pair, byte)| {
            let both = value(pair[0]).zip(value(pair[1]));
            *byte = both.map_or(0, |(high, low)| high << 4 | low);
            both.is_some()
        })
}

/// Lowercase hexadecimal digits.
pub(super) fn encode_hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value & 15)]);
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(*byte));
    }
    text
}
