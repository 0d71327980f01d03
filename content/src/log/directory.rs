//! The store of production: segment files `NNNNNNNNNNNNNNNN.seg` in a local directory.
//!
//! Room is reserved with `fallocate(2)`, so that a full disk shows when a segment is made and not later. A file system
//! that does not support it still works, but there a full disk may show in a write or in a sync, and so stop the log.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_types::SegmentId;
use rustix::fs::{Advice, FallocateFlags, FlockOperation};
use rustix::io::{Errno, ReadWriteFlags};

use super::error::LogError;
use super::store::{SegmentFile, SegmentStore};
use crate::write_behind;

/// Most buffers that one `pwritev` takes (`IOV_MAX` of Linux).
const BUFFERS_PER_WRITE_MAX: usize = 1024;

/// A directory of segment files, locked against a second user.
#[derive(Debug)]
pub struct DirectoryStore {
    path: PathBuf,
    /// Open for `fsync` and for the lock, which ends with it.
    directory: File,
}

impl DirectoryStore {
    /// Opens a directory, after making it if it is missing (its parent must exist), and locks it with `flock`.
    ///
    /// Fails with [`LogError::Locked`] if it is in use, [`LogError::Io`] otherwise.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let io = |operation: &str, source| LogError::io(format!("{operation} {}", path.display()), source);
        match fs::create_dir(path) {
            Ok(()) => {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                let parent = File::open(parent.unwrap_or(Path::new(".")));
                parent
                    .and_then(|parent| parent.sync_all())
                    .map_err(|e| io("sync the parent of", e))?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io("make the log directory", error)),
        }
        let directory = File::open(path).map_err(|e| io("open the log directory", e))?;
        if !directory.metadata().map_err(|e| io("examine", e))?.is_dir() {
            return Err(io("open the log directory", io::ErrorKind::NotADirectory.into()));
        }
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(DirectoryStore {
                path: path.to_owned(),
                directory,
            }),
            Err(Errno::WOULDBLOCK) => Err(LogError::Locked {
                directory: path.display().to_string(),
            }),
            Err(error) => Err(io("lock the log directory", error.into())),
        }
    }

    fn file_path(&self, id: SegmentId) -> PathBuf {
        self.path.join(format!("{:016x}.seg", id.0))
    }

    fn open_file(&self, id: SegmentId, create: bool) -> io::Result<Arc<dyn SegmentFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(create).mode(0o600);
        Ok(Arc::new(LocalFile(options.open(self.file_path(id))?)))
    }
}

/// The id in a file name; `None` if it is no segment's canonical name.
fn parse_name(name: &str) -> Option<SegmentId> {
    let digits = name.strip_suffix(".seg").filter(|digits| digits.len() == 16)?;
    let canonical = digits
        .bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    canonical
        .then(|| u64::from_str_radix(digits, 16).ok().map(SegmentId))
        .flatten()
}

impl SegmentStore for DirectoryStore {
    fn list(&self) -> io::Result<Vec<SegmentId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            match name.to_str().and_then(parse_name) {
                Some(id) => ids.push(id),
                None => tracing::warn!(?name, "a file that is no segment lies in the log directory"),
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }

    fn create(&self, id: SegmentId) -> io::Result<Arc<dyn SegmentFile>> {
        self.open_file(id, true)
    }

    fn open(&self, id: SegmentId) -> io::Result<Arc<dyn SegmentFile>> {
        self.open_file(id, false)
    }

    fn remove(&self, id: SegmentId) -> io::Result<()> {
        fs::remove_file(self.file_path(id))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let statistics = rustix::fs::fstatvfs(&self.directory)?;
        Ok(statistics.f_bavail.saturating_mul(statistics.f_frsize))
    }
}

struct LocalFile(File);

impl SegmentFile for LocalFile {
    fn write_all_at(&self, parts: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        let mut rest = parts;
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let batch = &rest[..rest.len().min(BUFFERS_PER_WRITE_MAX)];
            match rustix::io::pwritev(&self.0, batch, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < bytes.len() {
            match rustix::io::pread(&self.0, &mut bytes[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }

    fn read_cached_at(&self, bytes: &mut [u8], offset: u64) -> bool {
        let length = bytes.len();
        let buffers = &mut [IoSliceMut::new(bytes)];
        rustix::io::preadv2(&self.0, buffers, offset, ReadWriteFlags::NOWAIT)
            .is_ok_and(|count| count == length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        loop {
            match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, length) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn disk_bytes(&self) -> io::Result<u64> {
        // st_blocks counts units of 512 bytes whatever the block size (stat(2)).
        Ok(self.0.metadata()?.blocks() * 512)
    }

    fn evict(&self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(&self.0, 0, None, Advice::DontNeed)?)
    }

    fn leave(&self, range: Range<u64>) {
        write_behind::leave(&self.0, range);
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use cairn_types::SegmentId;

    use super::{BUFFERS_PER_WRITE_MAX, DirectoryStore, parse_name};
    use crate::log::LogError;
    use crate::log::store::SegmentStore;

    #[test]
    fn only_canonical_names_are_segments() {
        assert_eq!(parse_name("00000000000000ff.seg"), Some(SegmentId(255)));
        for name in [
            "00000000000000FF.seg",
            "ff.seg",
            "00000000000000ff",
            "+0000000000000ff.seg",
            "x",
        ] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_second_user_is_refused_until_the_first_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let first = DirectoryStore::open(&path).unwrap();
        assert!(matches!(
            DirectoryStore::open(&path),
            Err(LogError::Locked { .. })
        ));
        drop(first);
        DirectoryStore::open(&path).unwrap();
    }

    #[test]
    fn writes_of_more_buffers_than_one_call_takes_are_whole() {
        let directory = tempfile::tempdir().unwrap();
        let store = DirectoryStore::open(directory.path()).unwrap();
        let file = store.create(SegmentId(1)).unwrap();
        file.allocate(1 << 20).unwrap();
        let data: Vec<u8> = (0..BUFFERS_PER_WRITE_MAX * 2 + 3)
            .map(|i| (i % 251) as u8)
            .collect();
        let mut parts: Vec<IoSlice<'_>> = data.chunks(1).map(IoSlice::new).collect();
        parts.insert(5, IoSlice::new(&[]));
        file.write_all_at(&mut parts, 10).unwrap();
        let read = |length| {
            let mut bytes = vec![7; length];
            let count = file.read_at(&mut bytes, 10).unwrap();
            bytes.truncate(count);
            bytes
        };
        assert_eq!(read(data.len()), data);
        assert_eq!(
            (file.length().unwrap(), file.disk_bytes().unwrap() >= 1 << 20),
            (1 << 20, true)
        );
        let mut bytes = vec![0; data.len()];
        assert!(file.read_cached_at(&mut bytes, 10));
        assert_eq!(bytes, data);
        let room = 1 << 20;
        assert!(!file.read_cached_at(&mut bytes, room - 1));
        file.truncate(12).unwrap();
        assert_eq!(read(100), data[..2]);
        file.sync_data().unwrap();
        file.evict().unwrap();
        assert_eq!(read(2), data[..2]);
        assert_eq!(store.list().unwrap(), [SegmentId(1)]);
        assert!(store.create(SegmentId(1)).is_err());
    }
}
