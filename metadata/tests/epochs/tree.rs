//! The naive model of one state of a volume, and the comparison of what a view shows with it.
//!
//! A tree is plain maps; a snapshot of it is a clone. There are few inodes and names, so that the same objects are changed,
//! removed and made again in many epochs.

use std::collections::BTreeMap;

use cairn_metadata::{DirentRecord, ExtentRecord, InodeRecord, Transaction, View};
use cairn_types::{
    ByteRange, ChunkId, ChunkSlice, DeviceNumber, Extent, FileKind, InodeId, LogSlice, SegmentId, Timestamp,
};

/// Inodes whose attributes, data and entries come and go.
pub const INODES: u64 = 3;
/// The first number of inodes that are made once and never again.
pub const FIRST_LATE: u64 = 10;
/// Names, some of which are the start of others or end with the greatest or the least byte.
pub const NAMES: [&[u8]; 9] = [
    b"\x01",
    b"a",
    b"a\x01",
    b"a\x01\x01\x01\x01\x01\x01\x01\x01\x01",
    b"a\xff",
    b"ab",
    b"b",
    b"\xff",
    &[0xff; 255],
];
/// Bytes of a file are written in units of this many.
pub const SLOT: u64 = 4096;
/// Units of a file.
pub const SLOTS: u64 = 6;
/// The first cookie of a directory.
const FIRST_COOKIE: u64 = 3;

/// A change as it is generated. Numbers are taken modulo what there is.
#[derive(Debug, Clone)]
pub enum Change {
    PutInode {
        inode: u64,
        stamp: u64,
    },
    RemoveInode {
        inode: u64,
    },
    InsertLate {
        stamp: u64,
    },
    PutLate {
        which: usize,
        stamp: u64,
    },
    RemoveLate {
        which: usize,
    },
    PutEntry {
        directory: u64,
        name: usize,
        to: u64,
    },
    RemoveEntry {
        directory: u64,
        name: usize,
    },
    Rename {
        from: (u64, usize),
        to: (u64, usize),
    },
    PutInline {
        inode: u64,
        fill: u8,
    },
    RemoveInline {
        inode: u64,
    },
    Write {
        inode: u64,
        slot: u64,
        slots: u64,
        stamp: u64,
    },
    Truncate {
        inode: u64,
        slot: u64,
    },
}

/// One state of a volume.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    pub inodes: BTreeMap<u64, InodeRecord>,
    /// By directory and name.
    pub entries: BTreeMap<(u64, Vec<u8>), DirentRecord>,
    /// By inode and end.
    pub extents: BTreeMap<(u64, u64), ExtentRecord>,
    pub inline: BTreeMap<u64, Vec<u8>>,
    pub links: BTreeMap<u64, Vec<u8>>,
    /// The next cookie by directory: part of the state, as it is in the attributes of a directory.
    cookies: BTreeMap<u64, u64>,
}

pub fn record(stamp: u64) -> InodeRecord {
    let time = Timestamp::new(stamp as i64, 5);
    InodeRecord {
        kind: FileKind::Regular,
        mode: 0o644,
        links: 1,
        uid: 0,
        gid: 0,
        generation: 1,
        size: stamp,
        device: DeviceNumber::default(),
        accessed: time,
        modified: time,
        changed: time,
        data_version: stamp,
        log_sequence: 0,
        used: 0,
        parent: InodeId(0),
        next_cookie: 0,
        entries: 0,
        inline: false,
        verifier: None,
    }
}

fn extent(range: ByteRange, stamp: u64) -> ExtentRecord {
    let length = range.length() as u32;
    let extent = if stamp.is_multiple_of(3) {
        Extent::Chunk(ChunkSlice {
            chunk: ChunkId([stamp as u8; 32]),
            offset: stamp as u32 % 1000,
            length,
        })
    } else {
        let checksums = (0..length.div_ceil(4096)).map(|block| block + stamp as u32 % 1000);
        let slice = LogSlice::new(SegmentId(stamp % 5), 64, length, 0, length, checksums.collect());
        Extent::Log(slice.unwrap())
    };
    ExtentRecord {
        start: range.start(),
        extent,
    }
}

impl Tree {
    /// A new volume's.
    pub fn with_root(root: InodeRecord) -> Self {
        Tree {
            inodes: [(InodeId::ROOT.0, root)].into(),
            ..Tree::default()
        }
    }

    /// Makes a change here and in `transaction`. `fresh` is the next inode number of the volume.
    pub fn change(&mut self, transaction: &mut Transaction<'_>, change: &Change, fresh: &mut u64) {
        match *change {
            Change::PutInode { inode, stamp } => self.put_inode(transaction, inode, stamp),
            Change::RemoveInode { inode } => {
                self.inodes.remove(&inode);
                transaction.remove_inode(InodeId(inode));
            }
            Change::InsertLate { stamp } => {
                let (inode, target) = (*fresh, format!("target {stamp}").into_bytes());
                *fresh += 1;
                self.inodes.insert(inode, record(stamp));
                transaction.insert_inode(InodeId(inode), &record(stamp));
                transaction.insert_link_target(InodeId(inode), &target);
                self.links.insert(inode, target);
            }
            Change::PutLate { which, stamp } => {
                if let Some(inode) = self.late(which) {
                    self.put_inode(transaction, inode, stamp);
                }
            }
            Change::RemoveLate { which } => {
                if let Some(inode) = self.late(which) {
                    self.inodes.remove(&inode);
                    self.links.remove(&inode);
                    transaction.remove_inode(InodeId(inode));
                    transaction.remove_link_target(InodeId(inode));
                }
            }
            Change::PutEntry { directory, name, to } => {
                self.remove_entry(transaction, directory, NAMES[name]);
                self.put_entry(transaction, directory, NAMES[name], InodeId(to));
            }
            Change::RemoveEntry { directory, name } => {
                self.remove_entry(transaction, directory, NAMES[name]);
            }
            Change::Rename { from, to } => {
                if let Some(moved) = self.remove_entry(transaction, from.0, NAMES[from.1]) {
                    self.remove_entry(transaction, to.0, NAMES[to.1]);
                    self.put_entry(transaction, to.0, NAMES[to.1], moved.inode);
                }
            }
            Change::PutInline { inode, fill } => {
                let data = vec![fill; usize::from(fill % 5)];
                transaction.put_inline_data(InodeId(inode), &data);
                self.inline.insert(inode, data);
            }
            Change::RemoveInline { inode } => {
                self.inline.remove(&inode);
                transaction.remove_inline_data(InodeId(inode));
            }
            Change::Write {
                inode,
                slot,
                slots,
                stamp,
            } => {
                let range = ByteRange::at(slot * SLOT, slots.min(SLOTS - slot) * SLOT);
                self.punch(transaction, inode, range);
                let new = extent(range, stamp);
                transaction.put_extent(InodeId(inode), &new);
                self.extents.insert((inode, range.end()), new);
            }
            Change::Truncate { inode, slot } => {
                let range = ByteRange::at(slot * SLOT, u64::MAX);
                self.punch(transaction, inode, range);
            }
        }
    }

    fn put_inode(&mut self, transaction: &mut Transaction<'_>, inode: u64, stamp: u64) {
        self.inodes.insert(inode, record(stamp));
        transaction.put_inode(InodeId(inode), &record(stamp));
    }

    fn late(&self, which: usize) -> Option<u64> {
        let late: Vec<u64> = self.inodes.range(FIRST_LATE..).map(|(inode, _)| *inode).collect();
        (!late.is_empty()).then(|| late[which % late.len()])
    }

    fn put_entry(&mut self, transaction: &mut Transaction<'_>, directory: u64, name: &[u8], to: InodeId) {
        let next = self.cookies.entry(directory).or_insert(FIRST_COOKIE);
        let entry = DirentRecord {
            name: name.to_vec(),
            inode: to,
            kind: FileKind::Regular,
            cookie: *next,
        };
        *next += 1;
        transaction.put_entry(InodeId(directory), &entry);
        self.entries.insert((directory, name.to_vec()), entry);
    }

    fn remove_entry(
        &mut self,
        transaction: &mut Transaction<'_>,
        directory: u64,
        name: &[u8],
    ) -> Option<DirentRecord> {
        let entry = self.entries.remove(&(directory, name.to_vec()))?;
        transaction.remove_entry(InodeId(directory), &entry);
        Some(entry)
    }

    /// Removes the bytes of `range`; extents that reach beyond it are cut.
    fn punch(&mut self, transaction: &mut Transaction<'_>, inode: u64, range: ByteRange) {
        let old: Vec<ExtentRecord> = self.extents_of(inode).cloned().collect();
        for extent in old {
            let whole = extent.range();
            if whole.intersection(range).is_none() {
                continue;
            }
            transaction.remove_extent(InodeId(inode), &extent);
            self.extents.remove(&(inode, whole.end()));
            for (start, end) in [
                (whole.start(), range.start().min(whole.end())),
                (range.end().max(whole.start()), whole.end()),
            ] {
                if let Some(rest) = ByteRange::new(start, end).filter(|rest| !rest.is_empty()) {
                    let within = ByteRange::at(rest.start() - whole.start(), rest.length());
                    let kept = ExtentRecord {
                        start: rest.start(),
                        extent: extent.extent.slice(within).unwrap(),
                    };
                    transaction.put_extent(InodeId(inode), &kept);
                    self.extents.insert((inode, rest.end()), kept);
                }
            }
        }
    }

    fn extents_of(&self, inode: u64) -> impl Iterator<Item = &ExtentRecord> {
        self.extents
            .range((inode, 0)..(inode + 1, 0))
            .map(|(_, extent)| extent)
    }

    /// Compares everything that can be read. `late_end` is above all inode numbers that may be in use.
    pub fn check(&self, view: &View<'_>, late_end: u64, context: &str) {
        for inode in (0..=INODES + 1).chain(FIRST_LATE..late_end + 1) {
            self.check_inode(view, inode, context);
        }
        for directory in 1..=INODES {
            self.check_directory(view, directory, context);
            self.check_extents(view, directory, context);
        }
    }

    fn check_inode(&self, view: &View<'_>, inode: u64, context: &str) {
        let id = InodeId(inode);
        let expected = self.inodes.get(&inode).copied();
        assert_eq!(view.inode(id).unwrap(), expected, "inode {inode} of {context}");
        if let Some(cached) = view.inode_cached(id).unwrap() {
            assert_eq!(cached, expected, "cached inode {inode} of {context}");
        }
        let data = view.inline_data(id).unwrap();
        assert_eq!(
            data.as_deref(),
            self.inline.get(&inode).map(Vec::as_slice),
            "data of {inode} of {context}"
        );
        let target = view.link_target(id).unwrap();
        assert_eq!(
            target.as_deref(),
            self.links.get(&inode).map(Vec::as_slice),
            "target of {inode} of {context}"
        );
    }

    fn check_directory(&self, view: &View<'_>, directory: u64, context: &str) {
        let id = InodeId(directory);
        let context = format!("directory {directory} of {context}");
        for name in NAMES.into_iter().chain([&b"never"[..]]) {
            let expected = self.entries.get(&(directory, name.to_vec()));
            let found = view.entry(id, name).unwrap();
            assert_eq!(found.as_ref(), expected, "entry in {context}");
            if let Some(cached) = view.entry_cached(id, name).unwrap() {
                assert_eq!(cached.as_ref(), expected, "cached entry in {context}");
            }
        }
        let by_name: Vec<&DirentRecord> = self
            .entries
            .range((directory, Vec::new())..(directory + 1, Vec::new()))
            .map(|(_, entry)| entry)
            .collect();
        let mut by_cookie = by_name.clone();
        by_cookie.sort_by_key(|entry| entry.cookie);

        let found = view.entries_by_name(id, b"", 1000).unwrap();
        assert!(
            found.iter().eq(by_name.iter().copied()),
            "names of {context}: {found:?}"
        );
        let found = view.entries_after(id, 0, 1000).unwrap();
        assert!(
            found.iter().eq(by_cookie.iter().copied()),
            "cookies of {context}: {found:?}"
        );
        // From every place, whether or not there is an entry.
        for name in NAMES.into_iter().chain([&b"aa"[..], b"a\xfe", b"zz"]) {
            for limit in [0, 1, 3] {
                let expected = by_name
                    .iter()
                    .copied()
                    .filter(|entry| entry.name.as_slice() > name);
                let found = view.entries_by_name(id, name, limit).unwrap();
                assert!(
                    found.iter().eq(expected.take(limit)),
                    "{limit} names after {} in {context}: {found:?}",
                    name.escape_ascii().take(40).map(char::from).collect::<String>()
                );
            }
        }
        let last = self.cookies.get(&directory).copied().unwrap_or(FIRST_COOKIE);
        for cookie in (0..=last).chain([u64::MAX - 1, u64::MAX]) {
            let expected = by_cookie.iter().copied().filter(|entry| entry.cookie > cookie);
            let found = view.entries_after(id, cookie, 2).unwrap();
            assert!(
                found.iter().eq(expected.take(2)),
                "entries after {cookie} in {context}: {found:?}"
            );
        }
    }

    fn check_extents(&self, view: &View<'_>, inode: u64, context: &str) {
        let all = ByteRange::at(0, u64::MAX);
        let edges = [
            0,
            1,
            SLOT - 1,
            SLOT,
            2 * SLOT,
            3 * SLOT + 7,
            5 * SLOT,
            u64::MAX - 1,
        ];
        let lengths = [0, 1, SLOT, 3 * SLOT - 5];
        let ranges = edges
            .into_iter()
            .flat_map(|start| lengths.map(|length| ByteRange::at(start, length)));
        for range in ranges.chain([all]) {
            for limit in [0, 1, 100] {
                let expected = self
                    .extents_of(inode)
                    .filter(|extent| extent.range().intersection(range).is_some());
                let found = view.extents(InodeId(inode), range, limit).unwrap();
                assert!(
                    found.iter().eq(expected.take(limit)),
                    "{limit} extents in {range:?} of inode {inode} of {context}: {found:?}"
                );
            }
        }
    }
}
