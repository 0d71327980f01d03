//! Making the record of an entry that a walk has found: what has to be read of it without reading its data.

use std::io;

use cairn_types::FileKind;

use super::capture::Proof;
use crate::directory::read::holes;
use crate::directory::{Attributes, Body, Entry, FileBody, Found, Record, RelativePath, Stamp, xattr};

/// Describes what was found; nothing if it has vanished, or become something else. Errors: what the file system says.
pub(super) fn describe(found: &Found, proof: Proof) -> io::Result<Option<Record>> {
    match read(found) {
        Ok((body, attributes)) => Ok(Some(record(
            found.path.clone(),
            attributes,
            body,
            proof.keep(found.stamp),
        ))),
        Err(error) if has_vanished(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn record(path: RelativePath, attributes: Attributes, body: Body, stamp: Option<Stamp>) -> Record {
    Record {
        entry: Entry {
            path,
            attributes,
            body,
        },
        stamp,
    }
}

/// Whether an error tells that what was found is not there any more. A file that became a symbolic link or the other way round is
/// told by `EINVAL`.
pub(super) fn has_vanished(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::InvalidInput
    )
}

fn read(found: &Found) -> io::Result<(Body, Attributes)> {
    let mut attributes = found.attributes.clone();
    let body = match found.kind() {
        FileKind::Regular => {
            let file = found.open()?;
            attributes.xattrs = xattr::of_file(&file)?;
            let holes = match attributes.size {
                0 => Vec::new(),
                size => holes(&file, size)?,
            };
            return Ok((
                Body::File(FileBody {
                    digest: None,
                    holes,
                    runs: Vec::new(),
                }),
                attributes,
            ));
        }
        FileKind::Symlink => {
            let target = found.read_link()?;
            attributes.size = target.len() as u64;
            Body::Symlink(target)
        }
        FileKind::Directory
        | FileKind::Fifo
        | FileKind::Socket
        | FileKind::CharacterDevice
        | FileKind::BlockDevice => Body::None,
    };
    attributes.xattrs = found.xattrs()?;
    Ok((body, attributes))
}
