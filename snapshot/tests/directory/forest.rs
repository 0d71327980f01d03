//! Random trees with every kind of entry: as a description, and built on disk by other means than those under test.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;

use cairn_snapshot::directory::beneath::open_directory;
use cairn_snapshot::directory::{Body, ContentHasher, Entry, RelativePath, Xattr};
use cairn_types::FileKind;
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof};
use proptest::sample::Index;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};

/// What an entry is.
#[derive(Debug, Clone)]
pub enum Node {
    Directory,
    /// Parts: whether there is data, and how many bytes.
    File(Vec<(bool, usize)>),
    /// Another name of an earlier entry.
    Link(Index),
    Symlink(Vec<u8>),
    Fifo,
    Socket,
    Device(FileType, u32, u32),
}

/// An entry to be made.
#[derive(Debug, Clone)]
pub struct Planned {
    pub parent: Index,
    pub name: Vec<u8>,
    pub node: Node,
    pub mode: u16,
    pub owner: (u32, u32),
    pub modified: (i64, u32),
    pub xattrs: BTreeMap<String, Vec<u8>>,
    pub acl: bool,
}

/// What was made at a path.
#[derive(Debug, Clone)]
pub struct Made {
    pub planned: Planned,
    pub kind: FileKind,
    /// Entries of one file have one number.
    pub file: usize,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(|byte| if matches!(byte, 0 | b'/') { b'_' } else { byte });
    prop_oneof![
        4 => prop::collection::vec(byte.clone(), 1..12),
        1 => prop::collection::vec(byte, 255),
        1 => Just(b"new\nline".to_vec()),
        1 => Just(b"-rf *".to_vec()),
        1 => prop::collection::vec(prop::sample::select(&b"ab.- "[..]), 1..3),
    ]
    .prop_filter("names of their own", |name| name != b"." && name != b"..")
}

fn node(root: bool) -> impl Strategy<Value = Node> {
    let target = prop_oneof![
        3 => prop::collection::vec(1_u8..=255, 1..40),
        1 => Just(vec![b'x'; 1023]),
        1 => Just(vec![b'y'; 4095]),
    ];
    let length = prop_oneof![
        1..5000_usize,
        Just(4096),
        Just(65_536),
        Just(1 << 20),
        Just(3 << 20)
    ];
    let special = match root {
        true => prop_oneof![
            Just(Node::Device(FileType::CharacterDevice, 1, 3)),
            (0..500_u32, 0..(1_u32 << 18)).prop_map(|(major, minor)| Node::Device(
                FileType::BlockDevice,
                major,
                minor
            )),
        ]
        .boxed(),
        false => Just(Node::Fifo).boxed(),
    };
    prop_oneof![
        6 => Just(Node::Directory),
        6 => prop::collection::vec((any::<bool>(), length), 0..4).prop_map(Node::File),
        2 => Just(Node::File(Vec::new())),
        3 => any::<Index>().prop_map(Node::Link),
        3 => target.prop_map(Node::Symlink),
        1 => Just(Node::Fifo),
        1 => Just(Node::Socket),
        1 => special,
    ]
}

fn planned(root: bool) -> impl Strategy<Value = Planned> {
    let seconds = prop_oneof![
        3 => 0..2_000_000_000_i64,
        1 => -2_000_000_000..0_i64,
        1 => 2_147_483_648..4_000_000_000_i64,
    ];
    let names = match root {
        true => &["user.a", "user.b c", "trusted.t", "user.\u{fc}"][..],
        false => &["user.a", "user.b c"][..],
    };
    let xattrs = prop::collection::btree_map(
        prop::sample::select(names).prop_map(str::to_owned),
        prop::collection::vec(any::<u8>(), 0..60),
        0..3,
    );
    let mode = prop_oneof![3 => Just(0o644_u16), 1 => Just(0o555), 3 => 0..0o10000_u16];
    let owner = match root {
        true => (0..3_u32, 0..3_u32)
            .prop_map(|(uid, gid)| (uid * 1000, gid * 70_000))
            .boxed(),
        false => Just((
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        ))
        .boxed(),
    };
    let attributes = (
        mode,
        owner,
        (seconds, 0..1_000_000_000_u32),
        xattrs,
        any::<bool>(),
    );
    (any::<Index>(), name(), node(root), attributes).prop_map(
        |(parent, name, node, (mode, owner, modified, xattrs, acl))| Planned {
            parent,
            name,
            node,
            mode,
            owner,
            modified,
            xattrs,
            acl,
        },
    )
}

/// Trees of up to `most` entries.
pub fn forests(most: usize, root: bool) -> impl Strategy<Value = Vec<Planned>> {
    prop::collection::vec(planned(root), 1..most)
}

/// The data of the file that was planned as number `seed`.
pub fn bytes_at(seed: usize, offset: usize, length: usize) -> Vec<u8> {
    (offset..offset + length)
        .map(|at| ((at * 7 + at / 251 + seed * 13) % 255) as u8 + 1)
        .collect()
}

fn c(bytes: &[u8]) -> CString {
    CString::new(bytes).unwrap()
}

/// Makes a tree below `root`; names that are taken, and targets that are too long, are passed over. Returns what was made.
pub fn build(root: &File, plan: &[Planned], target_bytes_max: usize) -> BTreeMap<RelativePath, Made> {
    let mut made: Vec<(RelativePath, Made)> = Vec::new();
    let mut directories = vec![RelativePath::root()];
    let mut taken = BTreeSet::new();
    for (number, planned) in plan.iter().enumerate() {
        let parent = directories[planned.parent.index(directories.len())].clone();
        let path = parent.join(&planned.name).unwrap();
        if !taken.insert(path.clone()) {
            continue;
        }
        let directory = open_directory(root, &parent).unwrap();
        let name = c(&planned.name);
        let all = Mode::from_raw_mode(0o700);
        let mut entry = Made {
            planned: planned.clone(),
            kind: FileKind::Regular,
            file: number,
        };
        entry.kind = match &planned.node {
            Node::Directory => {
                rustix::fs::mkdirat(&directory, &name, all).unwrap();
                directories.push(path.clone());
                FileKind::Directory
            }
            Node::File(parts) => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&directory, &name, flags, all).unwrap();
                write_parts(number, &file, parts);
                FileKind::Regular
            }
            Node::Link(of) => {
                let files: Vec<_> = made
                    .iter()
                    .filter(|(_, made)| made.kind != FileKind::Directory)
                    .collect();
                if files.is_empty() {
                    continue;
                }
                let (of, first) = files[of.index(files.len())];
                let from = open_directory(root, &of.parent().unwrap()).unwrap();
                rustix::fs::linkat(&from, c(of.name()), &directory, &name, AtFlags::empty()).unwrap();
                entry = first.clone();
                entry.kind
            }
            Node::Symlink(target) if target.len() > target_bytes_max => continue,
            Node::Symlink(target) => {
                rustix::fs::symlinkat(c(target), &directory, &name).unwrap();
                FileKind::Symlink
            }
            Node::Fifo => {
                rustix::fs::mknodat(&directory, &name, FileType::Fifo, all, 0).unwrap();
                FileKind::Fifo
            }
            Node::Socket => {
                rustix::fs::mknodat(&directory, &name, FileType::Socket, all, 0).unwrap();
                FileKind::Socket
            }
            Node::Device(kind, major, minor) => {
                let device = rustix::fs::makedev(*major, *minor);
                rustix::fs::mknodat(&directory, &name, *kind, all, device).unwrap();
                match kind {
                    FileType::BlockDevice => FileKind::BlockDevice,
                    _ => FileKind::CharacterDevice,
                }
            }
        };
        made.push((path, entry));
    }
    // What is in a directory was made after it, and is finished before it.
    for (path, made) in made.iter().rev() {
        let directory = open_directory(root, &path.parent().unwrap()).unwrap();
        finish(&directory, &c(path.name()), made);
    }
    made.into_iter().collect()
}

fn write_parts(seed: usize, file: &OwnedFd, parts: &[(bool, usize)]) {
    let mut offset = 0;
    for (data, length) in parts {
        if *data {
            let bytes = bytes_at(seed, offset, *length);
            let mut written = 0;
            while written < bytes.len() {
                let at = (offset + written) as u64;
                written += rustix::io::pwrite(file, &bytes[written..], at).unwrap();
            }
        }
        offset += length;
    }
    rustix::fs::ftruncate(file, offset as u64).unwrap();
}

/// The extended attributes that an entry gets.
pub fn xattrs_of(made: &Made) -> Vec<Xattr> {
    let mut all = Vec::new();
    for (name, value) in &made.planned.xattrs {
        let is_user = name.starts_with("user.");
        // Only files and directories have attributes of users (xattr(7)).
        if !is_user || matches!(made.kind, FileKind::Regular | FileKind::Directory) {
            all.push(Xattr {
                name: name.clone().into_bytes(),
                value: value.clone(),
            });
        }
    }
    if made.planned.acl {
        if !matches!(made.kind, FileKind::Symlink) {
            all.push(Xattr {
                name: b"system.posix_acl_access".to_vec(),
                value: access_list(made.planned.mode),
            });
        }
        if made.kind == FileKind::Directory {
            all.push(Xattr {
                name: b"system.posix_acl_default".to_vec(),
                value: access_list(0o750),
            });
        }
    }
    all.sort();
    all
}

/// A list with an entry for one more user, as acl(5) and the kernel write it, that goes with `mode`.
pub fn access_list(mode: u16) -> Vec<u8> {
    let none = u32::MAX;
    let entries = [
        (1_u16, (mode >> 6) & 7, none),
        (2, 7, 4242),
        (4, 5, none),
        (0x10, (mode >> 3) & 7, none),
        (0x20, mode & 7, none),
    ];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

fn finish(directory: &OwnedFd, name: &CString, made: &Made) {
    use std::os::fd::AsRawFd;
    let planned = &made.planned;
    let (uid, gid) = planned.owner;
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).unwrap();
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.as_bytes());
    let path = c(&path);
    let set = |xattr: &Xattr| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(&path, c(&xattr.name), &xattr.value, flags).unwrap();
    };
    let all = xattrs_of(made);
    all.iter()
        .filter(|xattr| !xattr.name.starts_with(b"system."))
        .for_each(set);
    if made.kind != FileKind::Symlink {
        let mode = Mode::from_raw_mode(u32::from(planned.mode));
        rustix::fs::chmodat(directory, name, mode, AtFlags::empty()).unwrap();
    }
    all.iter()
        .filter(|xattr| xattr.name.starts_with(b"system."))
        .for_each(set);
    let (seconds, nanoseconds) = planned.modified;
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 1,
            tv_nsec: 1,
        },
        last_modification: Timespec {
            tv_sec: seconds,
            tv_nsec: i64::from(nanoseconds),
        },
    };
    rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// The holes of a file that was made of these parts, in whole pages: offset and length.
fn holes_of(parts: &[(bool, usize)]) -> Vec<(u64, u64)> {
    let size: u64 = parts.iter().map(|(_, length)| *length as u64).sum();
    let mut is_data = vec![false; size.div_ceil(4096) as usize];
    let mut offset = 0;
    for (data, length) in parts {
        if *data && *length > 0 {
            is_data[offset / 4096..=(offset + length - 1) / 4096].fill(true);
        }
        offset += length;
    }
    let mut holes: Vec<(u64, u64)> = Vec::new();
    for (page, _) in is_data.iter().enumerate().filter(|(_, data)| !**data) {
        let (start, end) = (page as u64 * 4096, (page as u64 * 4096 + 4096).min(size));
        match holes.last_mut() {
            Some((offset, length)) if *offset + *length == start => *length = end - *offset,
            _ => holes.push((start, end - start)),
        }
    }
    holes
}

/// Compares what was read of a tree with what was made.
pub fn check(entries: &[Entry], made: &BTreeMap<RelativePath, Made>) {
    assert_eq!(
        entries.len(),
        made.len() + 1,
        "as many entries as were made, and the root"
    );
    let mut first: BTreeMap<usize, &RelativePath> = BTreeMap::new();
    for entry in &entries[1..] {
        let Some(made) = made.get(&entry.path) else {
            panic!("nobody made {:?}", entry.path)
        };
        let (planned, found) = (&made.planned, &entry.attributes);
        let path = &entry.path;
        assert_eq!(found.kind, made.kind, "{path:?}");
        let mode = if made.kind == FileKind::Symlink {
            0o777
        } else {
            planned.mode
        };
        assert_eq!(found.mode, mode, "{path:?}");
        assert_eq!((found.uid, found.gid), planned.owner, "{path:?}");
        let modified = (found.modified.seconds(), found.modified.nanoseconds());
        assert_eq!(modified, planned.modified, "{path:?}");
        let xattrs: Vec<_> = found
            .xattrs
            .iter()
            .filter(|xattr| !xattr.name.starts_with(b"security."))
            .cloned()
            .collect();
        assert_eq!(xattrs, xattrs_of(made), "{path:?}");
        match (&entry.body, &planned.node) {
            (Body::Link(to), _) => assert_eq!(first.get(&made.file), Some(&to), "{path:?}"),
            (Body::Symlink(target), Node::Symlink(planned)) => assert_eq!(target, planned, "{path:?}"),
            (Body::File(body), Node::File(parts)) => {
                let size: usize = parts.iter().map(|(_, length)| length).sum();
                assert_eq!(found.size, size as u64, "{path:?}");
                let mut hasher = ContentHasher::new();
                let mut offset = 0;
                for (data, length) in parts {
                    match data {
                        true => hasher.update(&bytes_at(made.file, offset, *length)),
                        false => hasher.update(&vec![0; *length]),
                    }
                    offset += length;
                }
                assert_eq!(body.digest, Some(hasher.finish()), "{path:?}");
                let holes: Vec<_> = body.holes.iter().map(|hole| (hole.offset, hole.length)).collect();
                assert_eq!(holes, holes_of(parts), "{path:?}");
            }
            (Body::None, Node::Device(_, major, minor)) => {
                assert_eq!(
                    (found.device.major, found.device.minor),
                    (*major, *minor),
                    "{path:?}"
                );
            }
            (Body::None, Node::Directory | Node::Fifo | Node::Socket) => {}
            (found, planned) => panic!("{path:?} is {found:?} and was made as {planned:?}"),
        }
        first.entry(made.file).or_insert(path);
    }
}
