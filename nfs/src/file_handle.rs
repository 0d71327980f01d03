//! NFSv3 file handles: 32 bytes that name an object across restarts and that only this server can make.
//!
//! Layout, integers big-endian (docs/formats/file-handle.md):
//!
//! | offset | bytes | content |
//! | --- | --- | --- |
//! | 0 | 1 | version, 1 |
//! | 1 | 3 | zero |
//! | 4 | 4 | generation |
//! | 8 | 8 | volume |
//! | 16 | 8 | inode |
//! | 24 | 8 | SipHash-2-4 of bytes 0 to 23 under the handle key, as a big-endian integer |
//!
//! The code keeps a client that is admitted to one export from naming objects of another by guessing. It is not a
//! secret: whoever sees the traffic sees handles.

use std::hash::Hasher;

use cairn_types::{InodeId, VolumeId};
use cairn_vfs::filesystem::ObjectId;
use siphasher::sip::SipHasher24;
use siphasher::sip128::{Hasher128, SipHasher24 as SipHasher128};

/// Bytes of every handle.
pub const HANDLE_BYTES: usize = 32;
/// Most bytes of a handle in the protocol (`NFS3_FHSIZE`).
pub(crate) const PROTOCOL_BYTES_MAX: usize = 64;

const VERSION: u8 = 1;
const CODED: usize = 24;

/// A handle's bytes.
pub(crate) type HandleBytes = [u8; HANDLE_BYTES];

/// Derives a key for one purpose from the server's secret.
pub(crate) fn derive_key(secret: &[u8; 16], purpose: &str) -> [u8; 16] {
    let mut hasher = SipHasher128::new_with_key(secret);
    hasher.write(purpose.as_bytes());
    hasher.finish128().as_bytes()
}

/// Makes and checks handles.
pub(crate) struct HandleCodec {
    keyed: SipHasher24,
}

impl HandleCodec {
    /// The codec of a server with this secret.
    pub(crate) fn new(secret: &[u8; 16]) -> Self {
        HandleCodec {
            keyed: SipHasher24::new_with_key(&derive_key(secret, "cairn nfs file handle")),
        }
    }

    pub(crate) fn encode(&self, object: ObjectId) -> HandleBytes {
        let mut bytes = [0; HANDLE_BYTES];
        bytes[0] = VERSION;
        bytes[4..8].copy_from_slice(&object.generation.to_be_bytes());
        bytes[8..16].copy_from_slice(&object.volume.0.to_be_bytes());
        bytes[16..24].copy_from_slice(&object.inode.0.to_be_bytes());
        let code = self.code(&bytes[..CODED]);
        bytes[CODED..].copy_from_slice(&code);
        bytes
    }

    /// The object that a handle names; `None` if this server never gave it out.
    #[inline]
    pub(crate) fn decode(&self, bytes: &[u8]) -> Option<ObjectId> {
        let bytes: &HandleBytes = bytes.try_into().ok()?;
        let (coded, code) = bytes.split_at(CODED);
        if bytes[..4] != [VERSION, 0, 0, 0] || code != self.code(coded) {
            return None;
        }
        let mut words = bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|word| u64::from(u32::from_be_bytes(*word)));
        let mut next = || words.next().unwrap_or(0);
        let (_, generation) = (next(), next());
        let volume = next() << 32 | next();
        let inode = next() << 32 | next();
        Some(ObjectId {
            volume: VolumeId(volume),
            inode: InodeId(inode),
            generation: generation as u32,
        })
    }

    #[inline]
    fn code(&self, coded: &[u8]) -> [u8; 8] {
        let mut hasher = self.keyed;
        hasher.write(coded);
        hasher.finish().to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use cairn_types::{InodeId, VolumeId};
    use cairn_vfs::filesystem::ObjectId;
    use proptest::prelude::{any, proptest};

    use super::{HANDLE_BYTES, HandleCodec};

    const OBJECT: ObjectId = ObjectId {
        volume: VolumeId(0x0102_0304_0506_0708),
        inode: InodeId(0x1112_1314_1516_1718),
        generation: 0x2122_2324,
    };

    #[test]
    fn golden_bytes() {
        let handle = HandleCodec::new(&[7; 16]).encode(OBJECT);
        assert_eq!(
            handle,
            [
                1, 0, 0, 0, 0x21, 0x22, 0x23, 0x24, 1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x15,
                0x16, 0x17, 0x18, 0xf8, 0xf2, 0xc5, 0xec, 0x18, 0x95, 0x43, 0xd6
            ]
        );
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let codec = HandleCodec::new(&[7; 16]);
        let handle = codec.encode(OBJECT);
        assert_eq!(codec.decode(&handle), Some(OBJECT));
        for index in 0..HANDLE_BYTES {
            let mut changed = handle;
            changed[index] ^= 1;
            assert_eq!(codec.decode(&changed), None, "byte {index}");
        }
        assert_eq!(codec.decode(&handle[..31]), None);
        assert_eq!(codec.decode(&[&handle[..], &[0]].concat()), None);
        assert_eq!(codec.decode(b""), None);
    }

    #[test]
    fn another_secret_makes_other_handles() {
        let handle = HandleCodec::new(&[7; 16]).encode(OBJECT);
        assert_eq!(HandleCodec::new(&[8; 16]).decode(&handle), None);
    }

    proptest! {
        #[test]
        fn handles_round_trip(volume in any::<u64>(), inode in any::<u64>(), generation in any::<u32>()) {
            let object = ObjectId { volume: VolumeId(volume), inode: InodeId(inode), generation };
            let codec = HandleCodec::new(&[3; 16]);
            assert_eq!(codec.decode(&codec.encode(object)), Some(object));
        }
    }
}
