//! The one way in which anything is encrypted: an *envelope*, which is a salt of 24 bytes, the encrypted bytes (as many as there
//! were), and a tag of 16 bytes. AES-256-GCM (NIST SP 800-38D) with a nonce of zeros, under a key that is made for this envelope
//! from a base key and the salt (keyed BLAKE3) and used for nothing else.
//!
//! GCM breaks when a key encrypts two messages with one nonce. Here that takes two envelopes with one base key and one salt. The salt
//! is the keyed hash of 32 random bytes, of what is authenticated with the message, and of a digest of the message. So with good
//! randomness salts are equal with a probability below 2^-96 for 2^48 envelopes; and with bad randomness (a machine that was
//! copied while it ran draws the same bytes twice) only for the same message in the same place, where both envelopes are the same
//! and nothing is lost.
//!
//! It knows neither packs nor stores.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use cairn_types::Randomness;
use zeroize::Zeroizing;

use super::key::Secret;

/// Bytes before what is encrypted.
pub(crate) const SALT_BYTES: usize = 24;
/// Bytes behind it.
pub(crate) const TAG_BYTES: usize = 16;
/// Bytes that an envelope has more than what is in it.
pub(crate) const ENVELOPE_BYTES: usize = SALT_BYTES + TAG_BYTES;

/// An envelope cannot be opened with this key, or not be made. There is nothing more to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failed;

/// What envelopes of one purpose are made and opened with.
pub(super) struct EnvelopeKey {
    /// Keys of envelopes come from it and the salts.
    base: Secret,
    /// Keys the hash that makes salts.
    salts: Secret,
}

impl EnvelopeKey {
    pub(super) fn new(secret: &Secret) -> Self {
        EnvelopeKey {
            base: secret.derive("cairn 2026-11-21 envelope keys"),
            salts: secret.derive("cairn 2026-11-21 envelope salts"),
        }
    }

    /// Encrypts in place what stands between the first [`SALT_BYTES`] and the last [`TAG_BYTES`] of `envelope`, and fills those.
    /// `about` has to be the same when it is opened. `digest` differs for what differs (a hash), for the salt.
    pub(super) fn seal(
        &self,
        envelope: &mut [u8],
        about: &[u8],
        digest: &[u8; 32],
        randomness: &dyn Randomness,
    ) -> Result<(), Failed> {
        let (salt, rest) = envelope.split_first_chunk_mut::<SALT_BYTES>().ok_or(Failed)?;
        let (data, tag) = rest.split_last_chunk_mut::<TAG_BYTES>().ok_or(Failed)?;
        let mut random = Zeroizing::new([0; 32]);
        randomness.fill(&mut *random);
        let drawn = self.salts.keyed_hash(&[&*random, digest, about]);
        salt.copy_from_slice(&drawn.bytes()[..SALT_BYTES]);
        let made = self
            .key(salt)?
            .seal_in_place_separate_tag(nonce(), Aad::from(about), data)
            .map_err(|_| Failed)?;
        tag.copy_from_slice(made.as_ref());
        Ok(())
    }

    /// Verifies and decrypts into `plain`, whose memory is used again; it is empty after a failure.
    pub(super) fn open(&self, envelope: &[u8], about: &[u8], plain: &mut Vec<u8>) -> Result<(), Failed> {
        let opened = self.try_open(envelope, about, plain);
        if opened.is_err() {
            plain.clear();
        }
        opened
    }

    fn try_open(&self, envelope: &[u8], about: &[u8], plain: &mut Vec<u8>) -> Result<(), Failed> {
        let (salt, rest) = envelope.split_first_chunk::<SALT_BYTES>().ok_or(Failed)?;
        let (data, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(Failed)?;
        plain.resize(data.len(), 0);
        self.key(salt)?
            .open_separate_gather(nonce(), Aad::from(about), data, tag, plain)
            .map_err(|_| Failed)
    }

    fn key(&self, salt: &[u8; SALT_BYTES]) -> Result<LessSafeKey, Failed> {
        let key = self.base.keyed_hash(&[salt]);
        let key = UnboundKey::new(&AES_256_GCM, key.bytes()).map_err(|_| Failed)?;
        Ok(LessSafeKey::new(key))
    }
}

/// Zeros: each key is used once.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}
