//! Which files of a compressed snapshot are compressed.
//!
//! The new line lists them in the marker at the tree's root. The old line replaced every file whose name does not end with `.gz` by one whose name
//! does, and wrote no list. A user's own `.gz` files are among them; they are told apart by mode and header.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use cairn_types::{FileKind, hexadecimal};
use serde::Deserialize;

use super::JvsLine;
use super::control::{FILE_BYTES_MAX, read_file};
use super::descriptor::JvsSnapshot;
use super::error::ImportError;
use super::tree;
use crate::directory::{RelativePath, Status, beneath};

/// The name of the marker of a complete snapshot.
const MARKER: &[u8] = b".READY";
/// The same after the old line's compression.
const MARKER_COMPRESSED: &[u8] = b".READY.gz";
const SUFFIX: &[u8] = b".gz";

/// A file that is compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompressedFile {
    /// Its path when it was saved.
    pub original: RelativePath,
    /// Its bytes when it was saved, if anybody wrote that down.
    pub bytes: Option<u64>,
}

/// What the marker of a snapshot says.
#[derive(Debug, Default)]
pub(super) struct Marker {
    compressed: bool,
    fields: Option<Fields>,
}

#[derive(Debug, Deserialize)]
struct Fields {
    snapshot_id: String,
    payload_root_hash: String,
    descriptor_checksum: String,
    compression_manifest: Option<Listing>,
}

#[derive(Debug, Deserialize)]
struct Listing {
    version: i64,
    #[serde(rename = "type")]
    kind: String,
    files: Option<Vec<Listed>>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    path: String,
    compressed_path: Option<String>,
    original_size: u64,
}

impl Marker {
    /// Whether the old line has compressed the marker too.
    pub fn is_compressed(&self) -> bool {
        self.compressed
            || self
                .fields
                .as_ref()
                .is_some_and(|fields| fields.compression_manifest.is_some())
    }

    /// Whether it is there, and says of the snapshot what its descriptor says.
    pub fn agrees(&self, snapshot: &JvsSnapshot) -> bool {
        self.fields.as_ref().is_some_and(|fields| {
            fields.snapshot_id == snapshot.id.as_str()
                && fields.payload_root_hash == hexadecimal::text(&snapshot.payload_hash)
                && fields.descriptor_checksum == snapshot.checksum
        })
    }
}

/// Reads the marker of a tree. One that is missing or cannot be understood says nothing. Errors: it cannot be read.
pub(super) fn marker(directory: &OwnedFd, path: &Path) -> Result<Marker, ImportError> {
    let file = |name: &[u8]| RelativePath::root().join(name).map_err(io::Error::other);
    let failed = |error| ImportError::io("reading the marker of", path, error);
    let marker = file(MARKER).map_err(failed)?;
    if let Some(bytes) = read_file(directory.as_fd(), &marker).map_err(failed)? {
        return Ok(Marker {
            compressed: false,
            fields: serde_json::from_slice(&bytes).ok(),
        });
    }
    let marker = file(MARKER_COMPRESSED).map_err(failed)?;
    let Some(bytes) = read_file(directory.as_fd(), &marker).map_err(failed)? else {
        return Ok(Marker::default());
    };
    let mut plain = Vec::new();
    let decoder = flate2::read::MultiGzDecoder::new(bytes.as_slice());
    let whole = decoder
        .take(FILE_BYTES_MAX as u64)
        .read_to_end(&mut plain)
        .is_ok();
    Ok(Marker {
        compressed: true,
        fields: whole.then(|| serde_json::from_slice(&plain).ok()).flatten(),
    })
}

/// Names at a tree's root that are the tools' own.
pub(super) fn reserved(line: JvsLine, marker: &Marker) -> Vec<RelativePath> {
    let mut names = vec![MARKER];
    if marker.compressed {
        names.push(MARKER_COMPRESSED);
    }
    if line == JvsLine::New {
        names.push(b".jvs");
    }
    let paths = names.into_iter().map(|name| RelativePath::root().join(name));
    paths.filter_map(Result::ok).collect()
}

/// The files that the new line has listed, by the path at which they are found; nothing if there is no list.
pub(super) fn listed(
    marker: &Marker,
    path: &Path,
) -> Result<Option<BTreeMap<RelativePath, CompressedFile>>, ImportError> {
    let Some(listing) = marker
        .fields
        .as_ref()
        .and_then(|fields| fields.compression_manifest.as_ref())
    else {
        return Ok(None);
    };
    let damaged = |what: String| ImportError::Damaged {
        path: path.join(".READY"),
        what,
    };
    if listing.version != 1 || listing.kind != "gzip" {
        let what = format!("it lists {} files of version {}", listing.kind, listing.version);
        return Err(damaged(what));
    }
    let mut files = BTreeMap::new();
    for file in listing.files.iter().flatten() {
        let wrong = || damaged(format!("{:?} is no path of a compressed file", file.path));
        let original = RelativePath::new(file.path.as_bytes()).map_err(|_| wrong())?;
        let found = [file.path.as_bytes(), SUFFIX].concat();
        let told = file.compressed_path.as_ref().filter(|told| !told.is_empty());
        if original.is_root() || told.is_some_and(|told| told.as_bytes() != found) {
            return Err(wrong());
        }
        let found = RelativePath::new(&found).map_err(|_| wrong())?;
        let file = CompressedFile {
            original,
            bytes: Some(file.original_size),
        };
        if files.insert(found, file).is_some() {
            return Err(wrong());
        }
    }
    Ok(Some(files))
}

/// The files that the old line has compressed. Reads all directories of the tree, and the beginning of every file that may be one.
pub(super) fn guessed(
    root: BorrowedFd<'_>,
    path: &Path,
) -> Result<BTreeMap<RelativePath, CompressedFile>, ImportError> {
    let failed = |below: &RelativePath| {
        let path = path.join(below.as_path());
        move |error| ImportError::io("reading", &path, error)
    };
    let mut files = BTreeMap::new();
    let mut directories = vec![RelativePath::root()];
    while let Some(directory) = directories.pop() {
        let entries = tree::list(root, &directory).map_err(failed(&directory))?;
        for (found, status) in &entries {
            if status.attributes.kind == FileKind::Directory {
                directories.push(found.clone());
                continue;
            }
            let original = found.as_bytes().strip_suffix(SUFFIX);
            let Some(original) = original.and_then(|original| RelativePath::new(original).ok()) else {
                continue;
            };
            if original.name() == MARKER && directory.is_root() {
                continue;
            }
            // Where both are, compression was interrupted, and the one that is not compressed is whole.
            let both = entries
                .binary_search_by(|(other, _)| other.cmp(&original))
                .is_ok();
            if !both && is_of_the_tools(root, found, status).map_err(failed(found))? {
                files.insert(
                    found.clone(),
                    CompressedFile {
                        original,
                        bytes: None,
                    },
                );
            }
        }
    }
    Ok(files)
}

/// Whether a file is as the old line writes compressed ones: readable by its owner alone, and with a header as Go's library writes it, which has neither name nor
/// time, and an unknown operating system (RFC 1952, section 2.3).
fn is_of_the_tools(root: BorrowedFd<'_>, path: &RelativePath, status: &Status) -> io::Result<bool> {
    let attributes = &status.attributes;
    if attributes.kind != FileKind::Regular || attributes.mode != 0o600 || attributes.size < 10 {
        return Ok(false);
    }
    let mut header = [0; 10];
    std::fs::File::from(beneath::open_file(root, path)?).read_exact(&mut header)?;
    Ok(matches!(header, [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0 | 2 | 4, 0xff]))
}
