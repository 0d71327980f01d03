//! Making a compressed tree of the Go tools the tree that was saved, in the staging area. The old tree is only read.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cairn_types::FileKind;
use rustix::fs::{Mode, OFlags, mkdirat, openat};

use crate::archive::Progress;
use crate::directory::place::{Before, PlaceError, PlaceOptions, Placer, Way};
use crate::directory::read::holes;
use crate::directory::{Found, RelativePath, Walk, WalkOptions};
use crate::operations::OperationError;
use crate::repository::import_jvs::{CompressedFile, JvsTree};

/// The name of the tree in the staging directory.
pub(super) const NAME: &str = "plain";
const BUFFER_BYTES: usize = 256 << 10;

/// Makes the tree, as far as `walk` goes, in `staging`. Gives it, and how many attributes could not be kept.
///
/// Errors: `Payload` if a file ends too early, is longer than its list says, or is no gzip; `Inconsistent` if two files have one name; the
/// tree cannot be walked, the staging area cannot be written; `Cancelled`.
pub(super) fn unpack(
    tree: &JvsTree,
    walk: WalkOptions,
    staging: BorrowedFd<'_>,
    progress: &Progress,
) -> Result<(OwnedFd, u64), OperationError> {
    let failed = |error: rustix::io::Errno| OperationError::staging(error.into());
    mkdirat(staging, NAME, Mode::RWXU).map_err(failed)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = openat(staging, NAME, flags, Mode::empty()).map_err(failed)?;
    let made = root.try_clone().map_err(OperationError::staging)?;
    let placer = Placer::new(root, PlaceOptions::default()).map_err(OperationError::staging)?;
    let mut unpacking = Unpacking {
        tree,
        placer: &placer,
        progress,
        buffer: vec![0; BUFFER_BYTES],
    };
    for found in Walk::new(&tree.directory, walk.clone())? {
        if progress.is_cancelled() {
            return Err(OperationError::Cancelled);
        }
        unpacking.place(&found?)?;
    }
    let directories = Walk::new(&tree.directory, walk)?.filter_map(|found| match found {
        Ok(found) if found.kind() == FileKind::Directory => {
            let mut attributes = found.attributes.clone();
            Some(match found.xattrs() {
                Ok(xattrs) => {
                    attributes.xattrs = xattrs;
                    Ok((found.path, attributes))
                }
                Err(error) => Err(unreadable(&found.path)(error)),
            })
        }
        Ok(_) => None,
        Err(error) => Some(Err(error.into())),
    });
    placer.finish_directories(directories)?;
    let losses = placer.losses();
    let kinds = [
        &losses.owner,
        &losses.mode,
        &losses.xattrs,
        &losses.special,
        &losses.times,
    ];
    Ok((made, kinds.iter().map(|kind| kind.entries).sum()))
}

struct Unpacking<'a> {
    tree: &'a JvsTree,
    placer: &'a Placer,
    progress: &'a Progress,
    buffer: Vec<u8>,
}

fn unreadable(path: &RelativePath) -> impl Fn(io::Error) -> OperationError + use<> {
    let path = path.clone();
    move |source| OperationError::Payload {
        path: path.clone(),
        source,
    }
}

/// That something is there already is a fault of the tree.
fn placed(error: PlaceError) -> OperationError {
    match error.source.kind() {
        io::ErrorKind::AlreadyExists => OperationError::Inconsistent {
            path: error.path,
            what: "it is there twice, compressed and not",
        },
        _ => error.into(),
    }
}

impl Unpacking<'_> {
    fn place(&mut self, found: &Found) -> Result<(), OperationError> {
        let path = &found.path;
        let mut attributes = found.attributes.clone();
        if !path.is_root() {
            attributes.xattrs = found.xattrs().map_err(unreadable(path))?;
        }
        match found.kind() {
            FileKind::Directory if path.is_root() => {}
            FileKind::Directory => self.placer.directory(path).map_err(placed)?,
            FileKind::Symlink => {
                let target = found.read_link().map_err(unreadable(path))?;
                self.placer.symlink(path, &target).map_err(placed)?;
                self.placer.attributes(path, &attributes, Before::New)?;
            }
            FileKind::Regular => {
                let compressed = self.tree.compressed.get(path);
                let original = compressed.map_or(path, |file| &file.original);
                let to = self.placer.file(original).map_err(placed)?;
                match compressed {
                    Some(file) => self.decompress(path, file, &to)?,
                    None => {
                        let from = found.open().map_err(unreadable(path))?;
                        let size = attributes.size;
                        let holes = holes(&from, size).map_err(unreadable(path))?;
                        self.placer
                            .data(path, from.as_fd(), to.as_fd(), size, &holes, Way::Copy)?;
                    }
                }
                self.placer
                    .file_attributes(original, to.as_fd(), &attributes, Before::New)?;
            }
            FileKind::BlockDevice | FileKind::CharacterDevice | FileKind::Fifo | FileKind::Socket => {
                if self.placer.special(path, &attributes).map_err(placed)? {
                    self.placer.attributes(path, &attributes, Before::New)?;
                }
            }
        }
        Ok(())
    }

    fn decompress(
        &mut self,
        path: &RelativePath,
        compressed: &CompressedFile,
        to: &OwnedFd,
    ) -> Result<(), OperationError> {
        let mut from = self.tree.open_file(path).map_err(unreadable(path))?;
        let mut to = File::from(to.try_clone().map_err(OperationError::staging)?);
        let mut written = 0;
        loop {
            if self.progress.is_cancelled() {
                return Err(OperationError::Cancelled);
            }
            let read = match from.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(path)(error)),
            };
            to.write_all(&self.buffer[..read])
                .map_err(OperationError::staging)?;
            written += read as u64;
        }
        match compressed.bytes {
            Some(bytes) if bytes != written => {
                let what = "it has not as many bytes as were saved";
                Err(unreadable(path)(io::Error::new(io::ErrorKind::InvalidData, what)))
            }
            _ => Ok(()),
        }
    }
}
