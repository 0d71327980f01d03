//! Who this daemon is towards object stores and controllers, and which volume is which.
//!
//! All identities are derived from the secret of the data directory, by BLAKE3's key derivation, so that they stay the
//! same as long as the directory exists, differ between directories, and do not tell the secret. A copy of a data directory
//! has its identity too: run only one of them against a store.

use std::collections::BTreeSet;
use std::path::Path;

use cairn_content::objects::fence::OWNER_NAME_BYTES_MAX;
use cairn_content::objects::{Owner, OwnerId};
use cairn_types::{InodeId, VolumeId};

use crate::data_directory::HandleSecret;

/// Contexts of the derivations. They never change: a changed one would make every store a stranger's.
const OWNER_CONTEXT: &str = "cairn 2026-11 owner of an object store, from the secret of a data directory";
const NODE_CONTEXT: &str = "cairn 2026-11 identity of a node, from the secret of a data directory";
const ORIGIN_CONTEXT: &str =
    "cairn 2026-11 origin of archives, from the secret of a data directory and a volume";

/// Names the data directory towards controllers.
pub fn node(secret: &HandleSecret) -> [u8; 16] {
    let derived = blake3::derive_key(NODE_CONTEXT, &secret.0);
    let mut id = [0; 16];
    id.copy_from_slice(&derived[..16]);
    id
}

/// The owner of stores that the daemon with this data directory is.
pub fn owner(secret: &HandleSecret, host: &str, directory: &Path) -> Owner {
    let derived = blake3::derive_key(OWNER_CONTEXT, &secret.0);
    let mut id = [0; 16];
    id.copy_from_slice(&derived[..16]);
    let mut name: String = format!("{host}:{}", directory.display())
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    name.truncate(name.floor_char_boundary(OWNER_NAME_BYTES_MAX));
    Owner {
        id: OwnerId::new(id),
        name,
    }
}

/// Which volume of which node an archive is of: the same for all snapshots of the volume.
pub fn origin(secret: &HandleSecret, volume: VolumeId) -> [u8; 32] {
    let mut material = secret.0.to_vec();
    material.extend(volume.0.to_be_bytes());
    blake3::derive_key(ORIGIN_CONTEXT, &material)
}

/// Names what an archive of this identity is without some of its files.
pub fn without(archive: [u8; 32], files: &BTreeSet<InodeId>) -> [u8; 32] {
    if files.is_empty() {
        return archive;
    }
    let mut hasher = blake3::Hasher::new_keyed(&archive);
    for file in files {
        hasher.update(&file.0.to_be_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// The name of this machine; "unknown" if the kernel's is no text.
pub fn host() -> String {
    rustix::system::uname()
        .nodename()
        .to_str()
        .unwrap_or("unknown")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use cairn_types::VolumeId;

    use super::{host, origin, owner};
    use crate::data_directory::HandleSecret;

    #[test]
    fn identities_are_pinned() {
        let secret = HandleSecret([7; 16]);
        let found = owner(&secret, "h", Path::new("/d"));
        assert_eq!(found.name, "h:/d");
        assert_eq!(found.id.to_string(), "ac3aee19f10d7228982707c0aca39ff7");
        let start: String = origin(&secret, VolumeId(3))[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(start, "06cc4673498c16eb");
        assert_ne!(origin(&secret, VolumeId(3)), origin(&secret, VolumeId(4)));
        assert_ne!(owner(&HandleSecret([8; 16]), "h", Path::new("/d")).id, found.id);
    }

    #[test]
    fn names_fit_a_fence() {
        let long = format!("/{}\u{e9}\n", "\u{e9}".repeat(200));
        let name = owner(&HandleSecret([1; 16]), &host(), Path::new(&long)).name;
        assert!(
            name.len() <= 255 && name.len() >= 254 && !name.contains('\n'),
            "{name}"
        );
    }
}
