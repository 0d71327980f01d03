//! The hash of a whole tree: two trees with the same one are equal in everything that a snapshot keeps.
//!
//! It covers paths, types, modes, owners, times, sizes, devices, targets, extended attributes, which names are one file, holes and the
//! digests of data; neither stamps nor how the data is cut into chunks, so that it is the same wherever a tree lies and however it is kept.

use cairn_types::FileKind;

use super::codec::{kind_code, put, put_bytes, put_signed};
use crate::directory::{Body, Digest, Entry};

/// What keeps this hash apart from every other use of BLAKE3.
const CONTEXT: &str = "cairn 2026 tree of a plain directory";
/// Bytes that are hashed at once, about.
const BATCH_BYTES: usize = 32 << 10;

/// Hashes the entries of a tree in path order. What is hashed is drawn in `docs/formats/manifest.md`.
#[derive(Debug)]
pub struct TreeHasher {
    /// Nothing once the data of some file has no digest.
    hasher: Option<Box<blake3::Hasher>>,
    batch: Vec<u8>,
}

impl Default for TreeHasher {
    fn default() -> Self {
        TreeHasher::new()
    }
}

impl TreeHasher {
    /// A hasher that has seen no entry.
    pub fn new() -> Self {
        TreeHasher {
            hasher: Some(Box::new(blake3::Hasher::new_derive_key(CONTEXT))),
            batch: Vec::with_capacity(BATCH_BYTES + 1024),
        }
    }

    /// Takes in the next entry; that entries come in order is the caller's business.
    pub fn push(&mut self, entry: &Entry) {
        if matches!(&entry.body, Body::File(file) if file.digest.is_none()) {
            self.hasher = None;
        }
        let Some(hasher) = &mut self.hasher else { return };
        put_entry(&mut self.batch, entry);
        if self.batch.len() >= BATCH_BYTES {
            hasher.update(&self.batch);
            self.batch.clear();
        }
    }

    /// The hash; `None` if the data of some file had no digest.
    pub fn finish(self) -> Option<Digest> {
        let mut hasher = self.hasher?;
        hasher.update(&self.batch);
        Some(Digest(*hasher.finalize().as_bytes()))
    }
}

/// An entry as it is hashed: every field is of fixed width, or says its length, or ends itself, so that no two entries have the same bytes.
fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    let attributes = &entry.attributes;
    put_bytes(out, entry.path.as_bytes());
    out.push(kind_code(attributes.kind));
    put(out, u64::from(attributes.mode));
    put(out, u64::from(attributes.uid));
    put(out, u64::from(attributes.gid));
    put_signed(out, attributes.modified.seconds());
    put(out, u64::from(attributes.modified.nanoseconds()));
    put(out, attributes.size);
    if matches!(attributes.kind, FileKind::BlockDevice | FileKind::CharacterDevice) {
        put(out, u64::from(attributes.device.major));
        put(out, u64::from(attributes.device.minor));
    }
    put(out, attributes.xattrs.len() as u64);
    for xattr in &attributes.xattrs {
        put_bytes(out, &xattr.name);
        put_bytes(out, &xattr.value);
    }
    match &entry.body {
        Body::None => out.push(0),
        Body::Symlink(target) => {
            out.push(1);
            put_bytes(out, target);
        }
        Body::Link(to) => {
            out.push(2);
            put_bytes(out, to.as_bytes());
        }
        Body::File(file) => {
            out.push(3);
            out.extend_from_slice(&file.digest.unwrap_or(Digest([0; 32])).0);
            put(out, file.holes.len() as u64);
            for hole in &file.holes {
                put(out, hole.offset);
                put(out, hole.length);
            }
        }
    }
}
