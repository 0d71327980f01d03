//! Trees in memory: a source that can be pushed, a target that can be pulled into, and random changes between.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cairn_snapshot::archive::{Source, SourceError, Target, TargetError};
use cairn_types::{
    ByteRange, ChunkId, ChunkSlice, DeviceNumber, Extent, FileKind, InodeId, Node, SnapshotId, Timestamp,
    TreeCursor, TreeItem, TreeObject,
};

/// Bytes of an extent, at most.
const EXTENT_BYTES: usize = 200_000;
const INLINE_BYTES: usize = 4096;
const HOLE: usize = 64 << 10;

/// A generator of numbers (xorshift64*).
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

/// An inode with all that it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub node: Node,
    pub entries: BTreeMap<Vec<u8>, (InodeId, FileKind)>,
    pub target: Vec<u8>,
    /// As long as the size says.
    pub data: Arc<Vec<u8>>,
}

/// A tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree(pub BTreeMap<InodeId, Object>);

fn node(kind: FileKind, random: &mut Random) -> Node {
    let time = |random: &mut Random| {
        Timestamp::new(random.below(1 << 31) as i64, random.below(1_000_000_000) as u32)
    };
    let modified = time(random);
    Node {
        kind,
        mode: random.below(0o7777) as u16,
        links: 1,
        uid: random.below(3) as u32 * 1000,
        gid: u32::MAX,
        size: 0,
        device: match kind {
            FileKind::BlockDevice => DeviceNumber { major: 8, minor: 1 },
            _ => DeviceNumber::default(),
        },
        accessed: modified,
        modified,
        changed: time(random),
        generation: random.next() as u32,
        data_version: random.next(),
        parent: InodeId(0),
    }
}

impl Tree {
    /// A tree with a root and some objects.
    pub fn random(random: &mut Random, objects: u64) -> Self {
        let mut tree = Tree::default();
        let mut root = node(FileKind::Directory, random);
        root.parent = InodeId::ROOT;
        tree.put(InodeId::ROOT, root);
        for _ in 0..objects {
            tree.add(random);
        }
        tree
    }

    fn put(&mut self, inode: InodeId, node: Node) {
        let object = Object {
            node,
            entries: BTreeMap::new(),
            target: Vec::new(),
            data: Arc::default(),
        };
        self.0.insert(inode, object);
    }

    fn pick(&self, random: &mut Random, kind: FileKind) -> Option<InodeId> {
        let of_kind: Vec<InodeId> = self
            .0
            .iter()
            .filter(|(_, object)| object.node.kind == kind)
            .map(|(inode, _)| *inode)
            .collect();
        let index = random.below(of_kind.len() as u64) as usize;
        of_kind.get(index).copied()
    }

    fn next_inode(&self) -> InodeId {
        InodeId(self.0.keys().next_back().map_or(1, |inode| inode.0) + 1)
    }

    fn add(&mut self, random: &mut Random) {
        let directory = self.pick(random, FileKind::Directory).unwrap();
        let name = format!("{} \u{e9}", random.below(1 << 40)).into_bytes();
        let link = random.below(20) == 0;
        if link && let Some(inode) = self.pick(random, FileKind::Regular) {
            self.0.get_mut(&inode).unwrap().node.links += 1;
            self.enter(directory, name, inode);
            return;
        }
        let kind = match random.below(20) {
            0..=2 => FileKind::Directory,
            3 => FileKind::Symlink,
            4 => FileKind::BlockDevice,
            5 => FileKind::Fifo,
            _ => FileKind::Regular,
        };
        let inode = self.next_inode();
        let mut made = node(kind, random);
        if kind == FileKind::Directory {
            made.parent = directory;
            made.links = 2;
        }
        self.put(inode, made);
        self.enter(directory, name, inode);
        match kind {
            FileKind::Symlink => {
                let object = self.0.get_mut(&inode).unwrap();
                object.target = b"../there".to_vec();
                object.node.size = 8;
            }
            FileKind::Regular => self.write(inode, random),
            _ => {}
        }
    }

    fn enter(&mut self, directory: InodeId, name: Vec<u8>, inode: InodeId) {
        let kind = self.0[&inode].node.kind;
        let entries = &mut self.0.get_mut(&directory).unwrap().entries;
        entries.insert(name, (inode, kind));
    }

    /// New data for a file: empty, small, with holes, large.
    fn write(&mut self, inode: InodeId, random: &mut Random) {
        let length = match random.below(12) {
            0 => 0,
            1..=5 => random.below(INLINE_BYTES as u64) + 1,
            6..=9 => random.below(60_000),
            10 => random.below(600_000),
            _ => random.below(3_000_000),
        } as usize;
        let mut data = match random.below(3) {
            0 => random.bytes(length),
            _ => b"text that comes again and again, "
                .iter()
                .cycle()
                .take(length)
                .copied()
                .collect(),
        };
        if length > 3 * HOLE {
            let hole = random.below((length / HOLE - 1) as u64) as usize * HOLE;
            data[hole..hole + HOLE].fill(0);
        }
        self.set_data(inode, data, random);
    }

    pub fn set_data(&mut self, inode: InodeId, data: Vec<u8>, random: &mut Random) {
        let object = self.0.get_mut(&inode).unwrap();
        object.node.size = data.len() as u64;
        object.node.data_version = random.next();
        object.data = Arc::new(data);
    }

    /// Some random changes. Returns what has changed, with some that have not.
    pub fn change(&mut self, random: &mut Random, count: u64) -> Vec<InodeId> {
        let before = self.clone();
        for _ in 0..count {
            match random.below(6) {
                0 | 1 => self.add(random),
                2 => self.remove(random),
                3 => {
                    if let Some(inode) = self.pick(random, FileKind::Regular) {
                        self.write(inode, random);
                    }
                }
                4 => self.patch(random),
                _ => {
                    let inode = self.pick(random, FileKind::Regular).unwrap_or(InodeId::ROOT);
                    self.0.get_mut(&inode).unwrap().node.mode ^= 0o111;
                }
            }
        }
        let mut changed: Vec<InodeId> = before
            .0
            .keys()
            .chain(self.0.keys())
            .filter(|inode| before.0.get(inode) != self.0.get(inode) || random.below(50) == 0)
            .copied()
            .collect();
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    /// Changes a part of a file, or makes it longer or shorter.
    fn patch(&mut self, random: &mut Random) {
        let largest = self
            .0
            .iter()
            .filter(|(_, object)| object.node.kind == FileKind::Regular)
            .max_by_key(|(_, object)| object.data.len());
        let Some((inode, object)) = largest else { return };
        let (inode, mut data) = (*inode, object.data.to_vec());
        let at = random.below(data.len() as u64 + 1) as usize;
        match random.below(3) {
            0 => data.truncate(at),
            1 => data.extend_from_slice(&random.bytes(5000)),
            _ => {
                let end = (at + 100).min(data.len());
                data[at..end].fill(0xAB);
            }
        }
        self.set_data(inode, data, random);
    }

    fn remove(&mut self, random: &mut Random) {
        let Some(inode) = self.pick(random, FileKind::Regular) else {
            return;
        };
        for object in self.0.values_mut() {
            object.entries.retain(|_, (child, _)| *child != inode);
        }
        self.0.remove(&inode);
    }

    pub fn bytes(&self) -> u64 {
        self.0.values().map(|object| object.data.len() as u64).sum()
    }

    pub fn path_of(&self, inode: InodeId) -> Vec<Vec<u8>> {
        let mut paths = Vec::new();
        for (directory, object) in &self.0 {
            for (name, (child, _)) in &object.entries {
                if *child == inode {
                    let above = match *directory {
                        InodeId::ROOT => Vec::new(),
                        directory => {
                            let mut path = self.path_of(directory)[0].clone();
                            path.push(b'/');
                            path
                        }
                    };
                    paths.push([above, name.clone()].concat());
                }
            }
        }
        paths
    }
}

/// Where the data of trees lies: extents are slices of what is here.
#[derive(Default)]
pub struct Disk {
    blobs: Mutex<HashMap<ChunkId, Arc<Vec<u8>>>>,
    pub read_bytes: Mutex<u64>,
}

/// A snapshot that can be pushed.
pub struct ModelSource {
    pub tree: Tree,
    pub disk: Arc<Disk>,
    /// Snapshots before it, nearest first, and what may differ from each.
    pub bases: Vec<(SnapshotId, Option<Vec<InodeId>>, Tree)>,
    /// After so many objects the source fails.
    pub fails_after: Mutex<Option<usize>>,
}

impl ModelSource {
    pub fn new(tree: &Tree) -> Self {
        ModelSource {
            tree: tree.clone(),
            disk: Arc::default(),
            bases: Vec::new(),
            fails_after: Mutex::new(None),
        }
    }

    fn extents(&self, object: &Object) -> Vec<TreeObject> {
        if object.data.is_empty() {
            return Vec::new();
        }
        if object.data.len() <= INLINE_BYTES {
            return vec![TreeObject::Inline(Bytes::copy_from_slice(&object.data))];
        }
        let mut extents = Vec::new();
        let mut start = 0;
        while start < object.data.len() {
            let end = (start + EXTENT_BYTES)
                .min((start / HOLE + 1) * HOLE)
                .min(object.data.len());
            let piece = &object.data[start..end];
            if piece.iter().any(|byte| *byte != 0) {
                // Equal data lies at one place, so that what has not changed is told by where it is.
                let chunk = ChunkId(*blake3::hash(piece).as_bytes());
                self.disk
                    .blobs
                    .lock()
                    .unwrap()
                    .insert(chunk, Arc::new(piece.to_vec()));
                extents.push(TreeObject::Extent {
                    start: start as u64,
                    extent: Extent::Chunk(ChunkSlice {
                        chunk,
                        offset: 0,
                        length: piece.len() as u32,
                    }),
                });
            }
            start = end;
        }
        extents
    }
}

impl Source for ModelSource {
    fn expected(&self) -> (u64, u64) {
        (self.tree.0.len() as u64, self.tree.bytes())
    }

    fn bases(&self) -> Result<Vec<SnapshotId>, SourceError> {
        Ok(self.bases.iter().map(|(snapshot, ..)| *snapshot).collect())
    }

    fn changed_since(&self, base: SnapshotId) -> Result<Option<Vec<InodeId>>, SourceError> {
        let found = self.bases.iter().find(|(snapshot, ..)| *snapshot == base);
        Ok(found.and_then(|(_, changed, _)| changed.clone()))
    }

    fn items(
        &self,
        cursor: &mut TreeCursor,
        limit: usize,
        items: &mut Vec<TreeItem>,
    ) -> Result<(), SourceError> {
        if let Some(left) = &mut *self.fails_after.lock().unwrap() {
            *left = left.checked_sub(1).ok_or("the source fails")?;
        }
        for (inode, object) in self.tree.0.range(cursor.inode..cursor.end) {
            let item = |object| TreeItem {
                inode: *inode,
                object,
            };
            items.push(item(TreeObject::Node(object.node)));
            for (name, (child, kind)) in &object.entries {
                items.push(item(TreeObject::Entry {
                    name: Bytes::copy_from_slice(name),
                    inode: *child,
                    kind: *kind,
                }));
            }
            match object.node.kind {
                FileKind::Symlink => items.push(item(TreeObject::Target(object.target.clone().into()))),
                FileKind::Regular => items.extend(self.extents(object).into_iter().map(item)),
                _ => {}
            }
            cursor.inode = InodeId(inode.0 + 1);
            if items.len() >= limit {
                break;
            }
        }
        Ok(())
    }

    fn same_data(&self, base: SnapshotId, inode: InodeId) -> Result<Vec<ByteRange>, SourceError> {
        let Some((.., old)) = self.bases.iter().find(|(snapshot, ..)| *snapshot == base) else {
            return Ok(Vec::new());
        };
        let (Some(old), Some(new)) = (old.0.get(&inode), self.tree.0.get(&inode)) else {
            return Ok(Vec::new());
        };
        let mut same: Vec<ByteRange> = Vec::new();
        let (old, new) = (self.extents(old), self.extents(new));
        for extent in new.iter().filter(|extent| old.contains(extent)) {
            let TreeObject::Extent { start, extent } = extent else {
                continue;
            };
            let range = ByteRange::at(*start, u64::from(extent.length()));
            match same.last_mut() {
                Some(last) if last.end() == range.start() => {
                    *last = ByteRange::new(last.start(), range.end()).unwrap();
                }
                _ => same.push(range),
            }
        }
        Ok(same)
    }

    fn read(&self, extent: &Extent) -> Result<Bytes, SourceError> {
        let Extent::Chunk(slice) = extent else {
            return Err("not of this disk".into());
        };
        *self.disk.read_bytes.lock().unwrap() += u64::from(slice.length);
        let blob = self.disk.blobs.lock().unwrap()[&slice.chunk].clone();
        let start = slice.offset as usize;
        Ok(Bytes::copy_from_slice(
            &blob[start..start + slice.length as usize],
        ))
    }
}

/// A tree that is pulled into.
#[derive(Default)]
pub struct ModelTarget {
    pub tree: Tree,
    last: Option<InodeId>,
    pub resume: Option<InodeId>,
    /// After so many calls the target fails.
    pub fails_after: Option<usize>,
}

impl ModelTarget {
    fn step(&mut self) -> Result<(), TargetError> {
        if let Some(left) = &mut self.fails_after {
            *left = left.checked_sub(1).ok_or("the target fails")?;
        }
        Ok(())
    }

    fn object(&mut self) -> &mut Object {
        let last = self.last.expect("a node came first");
        self.tree.0.get_mut(&last).unwrap()
    }

    /// What a process that is started again finds: whole inodes.
    pub fn start_again(&mut self) {
        if let Some(last) = self.last.take() {
            self.tree.0.remove(&last);
        }
        self.resume = self.tree.0.keys().next_back().copied();
        self.fails_after = None;
    }
}

impl Target for ModelTarget {
    fn resume_after(&self) -> Option<InodeId> {
        self.resume
    }

    fn node(&mut self, inode: InodeId, node: &Node) -> Result<(), TargetError> {
        self.step()?;
        assert!(
            self.tree.0.keys().next_back().is_none_or(|last| *last < inode),
            "order"
        );
        self.tree.put(inode, *node);
        self.last = Some(inode);
        let object = self.object();
        if node.kind == FileKind::Regular {
            object.data = Arc::new(vec![0; node.size as usize]);
        }
        Ok(())
    }

    fn entry(&mut self, name: &[u8], inode: InodeId, kind: FileKind) -> Result<(), TargetError> {
        self.step()?;
        self.object().entries.insert(name.to_vec(), (inode, kind));
        Ok(())
    }

    fn link_target(&mut self, target: &[u8]) -> Result<(), TargetError> {
        self.step()?;
        self.object().target = target.to_vec();
        Ok(())
    }

    fn data(&mut self, offset: u64, data: &[u8]) -> Result<(), TargetError> {
        self.step()?;
        let object = self.object();
        let whole = Arc::make_mut(&mut object.data);
        whole[offset as usize..offset as usize + data.len()].copy_from_slice(data);
        Ok(())
    }
}
