//! A small tree on a mount point: what the kernel is told, how failures look, how mounts end.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use cairn_fuse::mounts::mounted_at;
use cairn_fuse::{
    Attributes, Detail, Listed, Mount, MountError, MountOptions, Seek, Taken, Totals, Tree, TreeError,
    Unmounted, mount, unmount,
};
use cairn_types::{DeviceNumber, ErrorKind, FileKind, InodeId, Timestamp};

/// Names of files that cannot be read, with why and what programs see of it.
const FAILING: [(&[u8], ErrorKind, i32); 8] = [
    (b"corrupt", ErrorKind::Corrupt, 5),
    (b"missing", ErrorKind::NotFound, 5),
    (b"invalid", ErrorKind::Invalid, 5),
    (b"conflict", ErrorKind::Conflict, 5),
    (b"unavailable", ErrorKind::Unavailable, 5),
    (b"internal", ErrorKind::Internal, 5),
    (b"denied", ErrorKind::Denied, 13),
    (b"full", ErrorKind::NoSpace, 28),
];
/// The inode of the first of them.
const FAILING_FROM: u64 = 10;
/// A file of so many bytes, each of them the low byte of its offset.
const LENGTH: u64 = 3_000_001;
/// Inodes of the root's entries beside those above.
const FILE: u64 = 2;
const LINK: u64 = 3;
const SOCKET: u64 = 4;
const DIRECTORY: u64 = 5;

/// A tree with one directory in its root.
struct Small;

fn root_entries() -> Vec<(Vec<u8>, u64)> {
    let mut entries = vec![
        (b"file".to_vec(), FILE),
        (b"file again".to_vec(), FILE),
        (b"no \xff text".to_vec(), LINK),
        (b"socket".to_vec(), SOCKET),
        (b"sub".to_vec(), DIRECTORY),
    ];
    let failing = FAILING.iter().enumerate();
    entries.extend(failing.map(|(at, (name, ..))| (name.to_vec(), FAILING_FROM + at as u64)));
    entries
}

impl Tree for Small {
    fn find(&self, directory: InodeId, name: &[u8]) -> Result<Option<(InodeId, Attributes)>, TreeError> {
        if directory != InodeId::ROOT {
            return Ok(None);
        }
        let found = root_entries().into_iter().find(|(has, _)| has == name);
        found
            .map(|(_, inode)| Ok((InodeId(inode), self.attributes(InodeId(inode))?)))
            .transpose()
    }

    fn attributes(&self, inode: InodeId) -> Result<Attributes, TreeError> {
        let (kind, size) = match inode.0 {
            1 | DIRECTORY => (FileKind::Directory, 0),
            LINK => (FileKind::Symlink, 4),
            SOCKET => (FileKind::Socket, 0),
            FILE => (FileKind::Regular, LENGTH),
            FAILING_FROM.. => (FileKind::Regular, 100),
            _ => return Err(TreeError::Inode(inode)),
        };
        let modified = Timestamp::new(-5, 123_456_789);
        Ok(Attributes {
            kind,
            mode: 0o751,
            uid: 1,
            gid: 2,
            links: if inode.0 == FILE { 2 } else { 1 },
            size,
            allocated_bytes: 1024,
            modified,
            accessed: modified,
            changed: Timestamp::new(7, 8),
            device: DeviceNumber::default(),
        })
    }

    fn parent(&self, _: InodeId) -> Result<InodeId, TreeError> {
        Ok(InodeId::ROOT)
    }

    fn list(
        &self,
        directory: InodeId,
        after: u64,
        detail: Detail,
        take: &mut dyn FnMut(&Listed<'_>) -> Taken,
    ) -> Result<(), TreeError> {
        let entries = if directory == InodeId::ROOT {
            root_entries()
        } else {
            Vec::new()
        };
        for (at, (name, inode)) in entries.iter().enumerate().skip(after as usize) {
            let attributes = self.attributes(InodeId(*inode))?;
            let listed = Listed {
                name,
                inode: InodeId(*inode),
                kind: attributes.kind,
                cookie: at as u64 + 1,
                attributes: (detail == Detail::Attributes).then_some(attributes),
            };
            if take(&listed) == Taken::Full {
                break;
            }
        }
        Ok(())
    }

    fn read_link(&self, _: InodeId) -> Result<Vec<u8>, TreeError> {
        Ok(b"t\xffre".to_vec())
    }

    fn xattrs(&self, inode: InodeId, take: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), TreeError> {
        if inode.0 == FILE && take(b"user.a", b"") {
            take(b"user.b", &[7; 5000]);
        }
        Ok(())
    }

    fn read(&self, inode: InodeId, offset: u64, buffer: &mut [u8]) -> Result<usize, TreeError> {
        if let Some((name, kind, _)) = FAILING.get((inode.0.wrapping_sub(FAILING_FROM)) as usize) {
            return Err(TreeError::Failed {
                kind: *kind,
                what: format!("{} cannot be read", String::from_utf8_lossy(name)),
                source: "for a test".into(),
            });
        }
        let length = (LENGTH.saturating_sub(offset) as usize).min(buffer.len());
        for (at, byte) in buffer[..length].iter_mut().enumerate() {
            *byte = (offset + at as u64) as u8;
        }
        Ok(length)
    }

    fn seek(&self, _: InodeId, offset: u64, what: Seek) -> Result<Option<u64>, TreeError> {
        Ok((offset < LENGTH).then_some(match what {
            Seek::Data => offset,
            Seek::Hole => LENGTH,
        }))
    }

    fn totals(&self) -> Totals {
        Totals {
            inodes: 13,
            bytes: LENGTH,
        }
    }
}

/// Whether trees can be mounted here; told loudly if not, and a failure where `CI=true`.
fn can_mount() -> bool {
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    if device.is_ok() && rustix::process::geteuid().is_root() {
        return true;
    }
    assert_ne!(
        std::env::var("CI").as_deref(),
        Ok("true"),
        "nothing can be mounted"
    );
    eprintln!("SKIPPED: nothing can be mounted: no /dev/fuse, or not root");
    false
}

fn options() -> MountOptions {
    MountOptions {
        name: "a,b test".to_owned(),
        allow_other: false,
        threads: 3,
    }
}

fn mount_small(at: &Path) -> (Mount, Receiver<()>) {
    let (tell, ended) = sync_channel(1);
    let tell = Box::new(move || tell.try_send(()).unwrap());
    (mount(Arc::new(Small), at, &options(), tell).unwrap(), ended)
}

/// A directory to mount on, without symbolic links on the way.
fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().canonicalize().unwrap().join("at");
    fs::create_dir(&at).unwrap();
    (directory, at)
}

#[test]
fn the_kernel_is_told_everything() {
    if !can_mount() {
        return;
    }
    let (_directory, at) = place();
    let (mounted, ended) = mount_small(&at);
    let found = mounted_at(&at).unwrap().unwrap();
    assert_eq!((found.source.as_str(), found.is_ours()), ("cairn:abtest", true));
    let mut names: Vec<_> = fs::read_dir(&at)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    let mut expected: Vec<_> = root_entries()
        .iter()
        .map(|(name, _)| OsStr::from_bytes(name).to_owned())
        .collect();
    expected.sort();
    assert_eq!(names, expected);
    let file = fs::metadata(at.join("file")).unwrap();
    assert_eq!(
        (file.ino(), file.nlink(), file.mode(), file.uid(), file.gid()),
        (FILE, 2, 0o100_751, 1, 2)
    );
    assert_eq!(
        (file.mtime(), file.mtime_nsec(), file.ctime(), file.blocks()),
        (-5, 123_456_789, 7, 2)
    );
    assert_eq!(fs::metadata(at.join("file again")).unwrap().ino(), FILE);
    let link = fs::read_link(at.join(OsStr::from_bytes(b"no \xff text"))).unwrap();
    assert_eq!(link.as_os_str().as_bytes(), b"t\xffre");
    assert!(
        fs::symlink_metadata(at.join("socket"))
            .unwrap()
            .file_type()
            .is_socket()
    );
    assert_eq!(fs::read_dir(at.join("sub")).unwrap().count(), 0);
    assert_eq!(fs::metadata(at.join("sub/..")).unwrap().ino(), 1);
    let missing = fs::metadata(at.join("nothing")).unwrap_err();
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
    let data = fs::read(at.join("file")).unwrap();
    assert_eq!(data.len() as u64, LENGTH);
    assert!(data.iter().enumerate().all(|(at, byte)| *byte == at as u8));
    let file = File::open(at.join("file")).unwrap();
    let mut names = [0_u8; 100];
    let length = rustix::fs::flistxattr(&file, &mut names).unwrap();
    assert_eq!(&names[..length], b"user.a\0user.b\0");
    let mut value = [1_u8; 6000];
    assert_eq!(rustix::fs::fgetxattr(&file, "user.a", &mut value), Ok(0));
    assert_eq!(rustix::fs::fgetxattr(&file, "user.b", &mut value), Ok(5000));
    assert_eq!(
        rustix::fs::fgetxattr(&file, "user.b", &mut value[..10]),
        Err(rustix::io::Errno::RANGE)
    );
    assert_eq!(
        rustix::fs::fgetxattr(&file, "user.c", &mut value),
        Err(rustix::io::Errno::NODATA)
    );
    drop(file);
    assert_eq!(mounted.unmount().unwrap(), Unmounted::Clean);
    ended.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(mounted_at(&at).unwrap(), None);
}

#[test]
fn failures_are_errors_of_their_file() {
    if !can_mount() {
        return;
    }
    let (_directory, at) = place();
    let (mounted, _ended) = mount_small(&at);
    for (name, _, errno) in FAILING {
        let path = at.join(OsStr::from_bytes(name));
        assert_eq!(fs::metadata(&path).unwrap().len(), 100);
        let error = File::open(&path).unwrap().read(&mut [0; 10]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(errno), "{}", path.display());
    }
    assert_eq!(mounted.unmount().unwrap(), Unmounted::Clean);
}

#[test]
fn mounts_end_in_every_way() {
    if !can_mount() {
        return;
    }
    let (_directory, at) = place();
    // In use.
    let (mounted, _ended) = mount_small(&at);
    let open = File::open(at.join("file")).unwrap();
    assert!(matches!(unmount(&at), Err(MountError::Busy { .. })));
    assert_eq!(mounted.unmount().unwrap(), Unmounted::InUse);
    assert_eq!(mounted_at(&at).unwrap(), None);
    drop(open);
    // By somebody else; a mount that comes afterwards is left alone.
    let (first, ended) = mount_small(&at);
    assert_eq!(unmount(&at).unwrap(), at);
    ended.recv_timeout(Duration::from_secs(60)).unwrap();
    let (second, _ended) = mount_small(&at);
    assert_eq!(first.unmount().unwrap(), Unmounted::Clean);
    assert!(mounted_at(&at).unwrap().is_some());
    // By being dropped.
    drop(second);
    assert_eq!(mounted_at(&at).unwrap(), None);
    // Through a symbolic link.
    let (third, ended) = mount_small(&at);
    let link = at.with_file_name("link");
    std::os::unix::fs::symlink(&at, &link).unwrap();
    assert_eq!(unmount(&link).unwrap(), at);
    ended.recv_timeout(Duration::from_secs(60)).unwrap();
    drop(third);
}

#[test]
fn what_cannot_be_mounted_on_is_told() {
    let (_directory, at) = place();
    let check = |path: &Path| cairn_fuse::check(path).unwrap_err();
    fs::write(at.join("file"), "there").unwrap();
    assert!(matches!(check(&at), MountError::NotEmpty { .. }));
    assert!(matches!(
        check(&at.join("file")),
        MountError::NotADirectory { .. }
    ));
    let missing = check(&at.join("missing"));
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(matches!(missing, MountError::MountPoint { .. }));
    for nothing in [at.as_path(), Path::new("/proc"), Path::new("/")] {
        assert!(
            matches!(unmount(nothing), Err(MountError::NotMounted { .. })),
            "{nothing:?}"
        );
    }
    assert!(matches!(
        unmount(&at.join("missing")),
        Err(MountError::MountPoint { .. })
    ));
}
