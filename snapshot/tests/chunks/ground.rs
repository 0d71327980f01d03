//! Directories to capture, captures, and what an archive holds, as values that can be compared.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use cairn_snapshot::archive::{Progress, Repository};
use cairn_snapshot::directory::{Attributes, Body, Record, RelativePath, Walk, WalkOptions};
use cairn_snapshot::engine::chunks::{
    ChunksCapture, ChunksCaptured, ChunksError, ChunksPayload, Previous, capture,
};
use cairn_snapshot::manifest::{ManifestOptions, ManifestReader, ManifestWriter};
use cairn_types::{FileKind, Timestamp};
use tempfile::TempDir;

use crate::harness::{description, id};
use crate::model::Random;

/// Behind everything that a test does: every stamp proves something.
pub fn later() -> Timestamp {
    Timestamp::new(1 << 40, 0)
}

/// An entry with its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thing {
    pub attributes: Attributes,
    /// Another name of the file at this path.
    pub link: Option<RelativePath>,
    pub target: Vec<u8>,
    pub data: Vec<u8>,
}

/// A tree: what must come back.
pub type Things = BTreeMap<RelativePath, Thing>;

/// A directory, and the manifests of its snapshots.
pub struct Ground {
    pub root: TempDir,
}

impl Ground {
    pub fn new() -> Self {
        let root = TempDir::new().unwrap();
        fs::create_dir(root.path().join("work")).unwrap();
        Ground { root }
    }

    /// The directory.
    pub fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.work().join(name)
    }

    pub fn write(&self, name: &str, data: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, data).unwrap();
    }

    fn manifest_path(&self, number: u8) -> PathBuf {
        self.root.path().join(format!("manifest-{number}"))
    }

    pub fn manifest(&self, number: u8) -> ManifestReader {
        ManifestReader::open(File::open(self.manifest_path(number)).unwrap()).unwrap()
    }

    /// A manifest to write.
    pub fn new_manifest(&self, number: u8, stamps: bool) -> ManifestWriter {
        let options = ManifestOptions {
            stamps,
            ..ManifestOptions::default()
        };
        ManifestWriter::create(File::create(self.manifest_path(number)).unwrap(), options).unwrap()
    }

    pub fn try_capture(
        &self,
        repository: &Repository,
        number: u8,
        previous: Option<u8>,
    ) -> Result<ChunksCaptured, ChunksError> {
        let walk = WalkOptions {
            threads: 1,
            ..WalkOptions::default()
        };
        self.capture_with(repository, number, previous, walk, later(), &Progress::new())
    }

    pub fn capture_with(
        &self,
        repository: &Repository,
        number: u8,
        previous: Option<u8>,
        walk: WalkOptions,
        racy_after: Timestamp,
        progress: &Progress,
    ) -> Result<ChunksCaptured, ChunksError> {
        let work = File::open(self.work()).unwrap();
        let before = previous.map(|number| self.manifest(number));
        let chunks = ChunksCapture {
            source: work.as_fd(),
            description: description(number),
            compression: None,
            walk,
            previous: previous.zip(before.as_ref()).map(|(number, manifest)| Previous {
                snapshot: id(number),
                manifest,
            }),
            manifest: self.new_manifest(number, true),
            racy_after,
            readers: 2,
            progress,
        };
        capture(repository, chunks)
    }

    pub fn capture(&self, repository: &Repository, number: u8, previous: Option<u8>) -> ChunksCaptured {
        self.try_capture(repository, number, previous).unwrap()
    }

    /// The directory as it is now, read by other means than the capture's.
    pub fn things(&self) -> Things {
        things_of(&self.work())
    }
}

/// A tree on disk.
pub fn things_of(root: &Path) -> Things {
    let directory = File::open(root).unwrap();
    let mut names: BTreeMap<(u64, u64), RelativePath> = BTreeMap::new();
    let mut things = Things::new();
    for found in Walk::new(&directory, WalkOptions::default()).unwrap() {
        let found = found.unwrap();
        let path = root.join(OsStr::from_bytes(found.path.as_bytes()));
        let mut attributes = found.attributes.clone();
        attributes.xattrs = found.xattrs().unwrap();
        let kind = attributes.kind;
        let mut link = None;
        if found.links > 1 && kind != FileKind::Directory {
            let identity = (found.stamp.device, found.stamp.inode);
            link = names.get(&identity).cloned();
            names.entry(identity).or_insert(found.path.clone());
        }
        let target = match kind {
            FileKind::Symlink if link.is_none() => {
                fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
            }
            _ => Vec::new(),
        };
        let data = match kind {
            FileKind::Regular if link.is_none() => fs::read(&path).unwrap(),
            _ => Vec::new(),
        };
        let thing = Thing {
            attributes,
            link,
            target,
            data,
        };
        things.insert(found.path.clone(), thing);
    }
    things
}

/// What an archive holds: its manifest and all data from the store, each file's hash compared with its digest.
pub fn things_in(payload: &ChunksPayload<'_>) -> Result<Things, ChunksError> {
    let records: Vec<Record> = payload.records(RelativePath::root()).collect::<Result<_, _>>()?;
    let mut things = Things::new();
    let mut digests = BTreeMap::new();
    let wanted: Vec<_> = records.iter().map(|record| Ok(record.entry.clone())).collect();
    for record in records {
        assert_eq!(record.stamp, None);
        let entry = record.entry;
        let (mut link, mut target, mut data) = (None, Vec::new(), Vec::new());
        match entry.body {
            Body::None => {}
            Body::Symlink(to) => target = to,
            Body::Link(to) => link = Some(to),
            Body::File(file) => {
                data = vec![0; entry.attributes.size as usize];
                digests.insert(entry.path.clone(), file.digest.unwrap());
            }
        }
        let attributes = entry.attributes;
        let thing = Thing {
            attributes,
            link,
            target,
            data,
        };
        things.insert(entry.path, thing);
    }
    let mut files = payload.files(wanted.into_iter())?;
    while let Some(file) = files.next_file()? {
        let path = file.entry.path.clone();
        let data = &mut things.get_mut(&path).unwrap().data;
        file.data(|at, bytes| {
            data[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
            Ok(())
        })?;
    }
    for (path, digest) in digests {
        let mut hasher = cairn_snapshot::directory::ContentHasher::new();
        hasher.update(&things[&path].data);
        assert_eq!(hasher.finish(), digest, "{path}");
    }
    Ok(things)
}

/// The archive of this number holds this tree.
pub fn assert_holds(repository: &Repository, number: u8, expected: &Things) {
    let payload = ChunksPayload::open(repository, id(number), &Progress::new()).unwrap();
    assert_same(&things_in(&payload).unwrap(), expected);
}

pub fn assert_same(found: &Things, expected: &Things) {
    for (path, thing) in expected {
        let other = found.get(path).unwrap_or_else(|| panic!("{path} is missing"));
        assert_eq!(other.attributes, thing.attributes, "{path}");
        assert!(other == thing, "{path}: {:?} {:?}", other.link, thing.link);
    }
    assert_eq!(found.len(), expected.len());
}

/// Fills a directory with files of these sizes, some of noise, some of text, in a few directories.
pub fn fill(ground: &Ground, random: &mut Random, files: u64, bytes: u64) {
    for number in 0..files {
        let length = bytes / 2 + random.below(bytes.max(1));
        let data = match number % 2 {
            0 => random.bytes(length as usize),
            _ => format!("line {number} of a text that goes on and on\n")
                .into_bytes()
                .into_iter()
                .cycle()
                .take(length as usize)
                .collect(),
        };
        ground.write(&format!("d{}/f{number}", random.below(7)), &data);
    }
}

/// Every kind of entry that a test may make.
pub fn odd_things(ground: &Ground) {
    ground.write("empty", b"");
    ground.write("one", b"1");
    ground.write("zeros", &[0; 20_000]);
    ground.write("many zeros", &vec![0; 3 << 20]);
    ground.write("a/b/c/deep", b"deep down");
    ground.write("a.b", b"between a and a/b");
    fs::write(ground.work().join(OsStr::from_bytes(b"not utf-8 \xff\n")), b"?").unwrap();
    fs::write(ground.work().join("n".repeat(255)), b"long name").unwrap();
    let sparse = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .open(ground.path("sparse"))
        .unwrap();
    sparse.set_len(9 << 20).unwrap();
    sparse.write_all_at(&[7; 100_000], 3 << 20).unwrap();
    sparse.write_all_at(b"end", (8 << 20) + 5).unwrap();
    let hole = File::create(ground.path("only a hole")).unwrap();
    hole.set_len(5_000_001).unwrap();
    let small = File::create(ground.path("small with a hole")).unwrap();
    small.set_len(40_000).unwrap();
    small.write_all_at(b"tail", 39_996).unwrap();
    fs::hard_link(ground.path("a/b/c/deep"), ground.path("another name")).unwrap();
    fs::hard_link(ground.path("a/b/c/deep"), ground.path("a/b/third")).unwrap();
    symlink("nowhere/at/all", ground.path("dangling")).unwrap();
    symlink("x".repeat(4000), ground.path("long link")).unwrap();
    fs::hard_link(ground.path("dangling"), ground.path("link to link")).unwrap();
    fs::create_dir(ground.path("empty directory")).unwrap();
    let mode = |name: &str, mode| {
        fs::set_permissions(ground.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("one", 0o4755);
    mode("empty directory", 0o1777);
    mode("a/b", 0o2500);
    let fifo = ground.path("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    drop(std::os::unix::net::UnixListener::bind(ground.path("socket")).unwrap());
    // Before 1970.
    let times = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec {
            tv_sec: 5,
            tv_nsec: 1,
        },
        last_modification: rustix::fs::Timespec {
            tv_sec: -100,
            tv_nsec: 999_999_999,
        },
    };
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    for name in ["empty", "dangling", "a"] {
        rustix::fs::utimensat(rustix::fs::CWD, ground.path(name), &times, flags).unwrap();
    }
    rustix::fs::setxattr(
        ground.path("one"),
        "user.b",
        b"value",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    rustix::fs::setxattr(ground.path("one"), "user.a", b"", rustix::fs::XattrFlags::empty()).unwrap();
    rustix::fs::setxattr(
        ground.path("a"),
        "user.d",
        &[0; 900],
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
}
