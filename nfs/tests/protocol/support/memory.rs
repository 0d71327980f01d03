//! A file system in memory: a tree with data, links, cookies and permissions as far as the protocol tests need them, and
//! knobs for what a test wants to happen inside a call.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use cairn_types::{DeviceNumber, ExportPolicy, FileKind, InodeId, Timestamp, VolumeId};
use cairn_vfs::filesystem::{
    Attributes, Before, Caller, Capacity, Change, CreateMode, Created, Entry, Export, FileSystem, Found,
    Linked, Listed, ObjectId, ReadData, Record, Renamed, ReplyRecord, SetAttributes, SpecialFile, Stability,
    Written,
};
use cairn_vfs::{Error, Pending};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::durability::{Durability, Gate};
use super::tree::{Node, Volume, apply, may, node};

type Hook = Box<dyn Fn(&'static str) + Send + Sync>;

#[derive(Default)]
struct State {
    volumes: BTreeMap<u64, Volume>,
    replies: Vec<ReplyRecord>,
    time: u32,
}

/// See the module's documentation.
pub struct MemoryFs {
    state: Mutex<State>,
    /// Called at the start of every operation that may block, with its name.
    hook: Mutex<Option<Arc<Hook>>>,
    durability: watch::Sender<Durability>,
    /// Whether the `*_cached` methods answer.
    pub cached: AtomicBool,
    /// Operations executed, without the cached ones.
    pub operations: AtomicUsize,
    pub verifier: AtomicU64,
}

impl MemoryFs {
    /// With the given exports; their roots belong to root and are open to everybody.
    pub fn new(exports: &[(&str, ExportPolicy)]) -> Arc<Self> {
        let fs = MemoryFs {
            state: Mutex::default(),
            hook: Mutex::default(),
            durability: watch::Sender::new(Durability::Ready),
            cached: AtomicBool::new(true),
            operations: AtomicUsize::new(0),
            verifier: AtomicU64::new(7),
        };
        for (number, (path, policy)) in (1..).zip(exports) {
            let volume = VolumeId(number);
            let export = Export {
                path: (*path).to_owned(),
                volume,
                policy: Arc::new(policy.clone()),
            };
            let root = node(volume, 1, FileKind::Directory, 0o777, 0, 0, Timestamp::new(1, 0));
            let nodes = BTreeMap::from([(1, root)]);
            fs.state.lock().volumes.insert(
                number,
                Volume {
                    export,
                    nodes,
                    inodes: 1,
                    cookies: 2,
                },
            );
        }
        Arc::new(fs)
    }

    /// One export, `/vol`, for every port of this machine, without squashing.
    pub fn simple() -> Arc<Self> {
        MemoryFs::new(&[("/vol", open_policy())])
    }

    pub fn set_hook(&self, hook: impl Fn(&'static str) + Send + Sync + 'static) {
        *self.hook.lock() = Some(Arc::new(Box::new(hook)));
    }

    pub fn set_durability(&self, durability: Durability) {
        self.durability.send_replace(durability);
    }

    pub fn set_policy(&self, volume: u64, policy: ExportPolicy) {
        self.state.lock().volumes.get_mut(&volume).unwrap().export.policy = Arc::new(policy);
    }

    pub fn drop_volume(&self, volume: u64) {
        self.state.lock().volumes.remove(&volume);
    }

    /// Adds files to the root of volume 1, without the protocol.
    pub fn add_files(&self, names: impl Iterator<Item = String>) {
        let mut state = self.state.lock();
        let volume = state.volumes.get_mut(&1).unwrap();
        let root = volume.nodes[&1].attributes.object;
        for name in names {
            volume.inodes += 1;
            let inode = volume.inodes;
            let file = node(
                VolumeId(1),
                inode,
                FileKind::Regular,
                0o644,
                0,
                0,
                Timestamp::new(1, 0),
            );
            volume.nodes.insert(inode, file);
            volume
                .insert(root, name.as_bytes(), inode, Timestamp::new(2, 0))
                .unwrap();
        }
    }

    /// The names in the root of volume 1.
    pub fn names(&self) -> Vec<String> {
        let state = self.state.lock();
        let entries = &state.volumes[&1].nodes[&1].entries;
        entries
            .values()
            .map(|(name, _)| String::from_utf8_lossy(name).into_owned())
            .collect()
    }

    fn enter(&self, operation: &'static str) {
        self.operations.fetch_add(1, Ordering::SeqCst);
        let hook = self.hook.lock().clone();
        if let Some(hook) = hook {
            hook(operation);
        }
    }

    fn on<T>(
        &self,
        object: ObjectId,
        operate: impl FnOnce(&mut Volume, Timestamp) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut state = self.state.lock();
        state.time += 1;
        let now = Timestamp::new(1_000_000 + i64::from(state.time), state.time);
        operate(state.volumes.get_mut(&object.volume.0).ok_or(Error::Stale)?, now)
    }

    fn finish<T>(&self, outcome: T, record: Option<Record<'_, T>>) -> Result<Pending<T>, Error> {
        if let Some(reply) = record.and_then(|record| record(&outcome)) {
            assert!(reply.body.len() <= ReplyRecord::BODY_BYTES_MAX);
            self.state.lock().replies.push(reply);
        }
        if *self.durability.borrow() == Durability::Ready {
            return Ok(Pending::ready(outcome));
        }
        Ok(Pending::after(
            outcome,
            Box::new(Gate(self.durability.subscribe())),
        ))
    }

    #[allow(clippy::too_many_arguments)]
    fn make(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        kind: FileKind,
        set: &SetAttributes,
        fill: impl FnOnce(&mut Node),
        record: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error> {
        let created = self.on(directory, |volume, now| {
            if volume.child(directory, name)?.is_some() {
                return Err(Error::Exists);
            }
            may(caller, &volume.directory(directory)?.attributes, 2)?;
            volume.inodes += 1;
            let inode = volume.inodes;
            let mut made = node(directory.volume, inode, kind, 0o600, caller.uid, caller.gid, now);
            made.parent = directory.inode.0;
            apply(&mut made, set, now);
            fill(&mut made);
            let attributes = made.attributes;
            volume.nodes.insert(inode, made);
            Ok(Created {
                attributes,
                directory: volume.insert(directory, name, inode, now)?,
            })
        })?;
        self.finish(created, Some(record))
    }

    fn remove_entry(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        directories: bool,
        record: Record<'_, Change>,
    ) -> Result<Pending<Change>, Error> {
        let change = self.on(directory, |volume, now| {
            let (cookie, inode) = volume.child(directory, name)?.ok_or(Error::NotFound)?;
            may(caller, &volume.directory(directory)?.attributes, 2)?;
            let node = &volume.nodes[&inode];
            match (node.attributes.kind == FileKind::Directory, directories) {
                (true, false) => return Err(Error::IsDirectory),
                (false, true) => return Err(Error::NotDirectory),
                (true, true) if !node.entries.is_empty() => return Err(Error::NotEmpty),
                _ => {}
            }
            volume.unlink(inode, now);
            volume.change(directory, now, |entries| {
                entries.remove(&cookie);
            })
        })?;
        self.finish(change, Some(record))
    }
}

/// Every port of this machine, identities as they are.
pub fn open_policy() -> ExportPolicy {
    ExportPolicy {
        privileged_port: false,
        ..ExportPolicy::default()
    }
}

impl FileSystem for MemoryFs {
    fn exports(&self) -> Vec<Export> {
        self.state
            .lock()
            .volumes
            .values()
            .map(|volume| volume.export.clone())
            .collect()
    }

    fn export(&self, volume: VolumeId) -> Option<Export> {
        self.state
            .lock()
            .volumes
            .get(&volume.0)
            .map(|volume| volume.export.clone())
    }

    fn mount(&self, path: &[u8]) -> Result<Attributes, Error> {
        self.enter("mount");
        let mut state = self.state.lock();
        for volume in state.volumes.values_mut() {
            let Some(rest) = path.strip_prefix(volume.export.path.as_bytes()) else {
                continue;
            };
            let mut object = volume.nodes[&1].attributes.object;
            for name in rest.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
                let inode = volume.child(object, name)?.ok_or(Error::NotFound)?.1;
                object = volume.nodes[&inode].attributes.object;
            }
            return volume.directory(object).map(|node| node.attributes);
        }
        Err(Error::NotFound)
    }

    fn getattr_cached(&self, object: ObjectId) -> Option<Attributes> {
        let cached = self.cached.load(Ordering::SeqCst);
        cached.then(|| {
            self.on(object, |volume, _| {
                volume.node(object).map(|node| node.attributes)
            })
            .ok()
        })?
    }

    fn getattr(&self, object: ObjectId) -> Result<Attributes, Error> {
        self.enter("getattr");
        self.on(object, |volume, _| {
            volume.node(object).map(|node| node.attributes)
        })
    }

    fn setattr(
        &self,
        caller: &Caller,
        object: ObjectId,
        set: SetAttributes,
        guard: Option<Timestamp>,
        record: Record<'_, Change>,
    ) -> Result<Pending<Change>, Error> {
        self.enter("setattr");
        let change = self.on(object, |volume, now| {
            let node = volume.node(object)?;
            if guard.is_some_and(|guard| guard != node.attributes.changed) {
                return Err(Error::GuardFailed);
            }
            if caller.uid != 0 && caller.uid != node.attributes.uid {
                return Err(Error::NotPermitted);
            }
            let before = Before::from(&node.attributes);
            node.verifier = None;
            apply(node, &set, now);
            Ok(Change {
                before,
                after: node.attributes,
            })
        })?;
        self.finish(change, Some(record))
    }

    fn lookup(&self, caller: &Caller, directory: ObjectId, name: &[u8]) -> Result<Found, Error> {
        self.enter("lookup");
        self.on(directory, |volume, _| {
            let searched = volume.directory(directory)?;
            let (attributes, parent) = (searched.attributes, searched.parent);
            may(caller, &attributes, 1)?;
            let inode = match name {
                b"." => directory.inode.0,
                b".." => parent,
                _ => volume.child(directory, name)?.ok_or(Error::NotFound)?.1,
            };
            Ok(Found {
                attributes: volume.nodes[&inode].attributes,
                directory: attributes,
            })
        })
    }

    fn lookup_cached(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
    ) -> Option<Result<Found, Error>> {
        self.cached
            .load(Ordering::SeqCst)
            .then(|| self.lookup(caller, directory, name))
    }

    fn readlink(&self, _: &Caller, object: ObjectId) -> Result<(Bytes, Attributes), Error> {
        self.enter("readlink");
        self.on(object, |volume, _| {
            let node = volume.node(object)?;
            if node.attributes.kind != FileKind::Symlink {
                return Err(Error::WrongType);
            }
            Ok((node.data.clone().into(), node.attributes))
        })
    }

    fn read(&self, caller: &Caller, object: ObjectId, offset: u64, count: u32) -> Result<ReadData, Error> {
        self.enter("read");
        self.on(object, |volume, _| {
            let node = volume.node(object)?;
            match node.attributes.kind {
                FileKind::Regular => may(caller, &node.attributes, 4)?,
                FileKind::Directory => return Err(Error::IsDirectory),
                _ => return Err(Error::WrongType),
            }
            let start = (offset as usize).min(node.data.len());
            let end = (start + count as usize).min(node.data.len());
            // In two pieces, one of them perhaps empty, as a real file system may give them.
            let (first, second) = node.data[start..end].split_at((end - start) / 2);
            Ok(ReadData {
                pieces: vec![Bytes::copy_from_slice(first), Bytes::copy_from_slice(second)],
                end_of_file: end == node.data.len(),
                attributes: node.attributes,
            })
        })
    }

    fn write(
        &self,
        caller: &Caller,
        object: ObjectId,
        offset: u64,
        data: Bytes,
        stability: Stability,
    ) -> Result<Pending<Written>, Error> {
        self.enter("write");
        let written = self.on(object, |volume, now| {
            let node = volume.node(object)?;
            may(caller, &node.attributes, 2)?;
            let before = Before::from(&node.attributes);
            let end = offset as usize + data.len();
            let size = node.data.len().max(end);
            node.data.resize(size, 0);
            node.data[offset as usize..end].copy_from_slice(&data);
            node.attributes.size = size as u64;
            node.attributes.modified = now;
            node.attributes.changed = now;
            let change = Change {
                before,
                after: node.attributes,
            };
            Ok(Written {
                count: data.len() as u32,
                stability,
                change,
            })
        })?;
        self.finish(written, None)
    }

    fn commit(&self, _: &Caller, object: ObjectId, _: u64, _: u32) -> Result<Pending<Change>, Error> {
        self.enter("commit");
        let change = self.on(object, |volume, _| {
            let after = volume.node(object)?.attributes;
            Ok(Change {
                before: Before::from(&after),
                after,
            })
        })?;
        self.finish(change, None)
    }

    fn write_verifier(&self) -> [u8; 8] {
        self.verifier.load(Ordering::SeqCst).to_be_bytes()
    }

    fn create(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        mode: CreateMode,
        record: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error> {
        self.enter("create");
        let existing = self.on(directory, |volume, now| {
            let Some((_, inode)) = volume.child(directory, name)? else {
                return Ok(None);
            };
            let node = volume.nodes.get_mut(&inode).unwrap();
            match mode {
                CreateMode::Guarded(_) => return Err(Error::Exists),
                CreateMode::Exclusive(verifier) if node.verifier != Some(verifier) => {
                    return Err(Error::Exists);
                }
                CreateMode::Exclusive(_) => {}
                CreateMode::Unchecked(set) => {
                    if set.size.is_some() {
                        apply(
                            node,
                            &SetAttributes {
                                size: set.size,
                                ..SetAttributes::default()
                            },
                            now,
                        );
                    }
                }
            }
            let attributes = node.attributes;
            let after = volume.directory(directory)?.attributes;
            Ok(Some(Created {
                attributes,
                directory: Change {
                    before: Before::from(&after),
                    after,
                },
            }))
        })?;
        if let Some(existing) = existing {
            return self.finish(existing, Some(record));
        }
        let (set, verifier) = match mode {
            CreateMode::Unchecked(set) | CreateMode::Guarded(set) => (set, None),
            CreateMode::Exclusive(verifier) => (SetAttributes::default(), Some(verifier)),
        };
        let fill = |node: &mut Node| node.verifier = verifier;
        self.make(caller, directory, name, FileKind::Regular, &set, fill, record)
    }

    fn mkdir(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        set: SetAttributes,
        record: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error> {
        self.enter("mkdir");
        self.make(caller, directory, name, FileKind::Directory, &set, |_| {}, record)
    }

    fn symlink(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        target: &[u8],
        set: SetAttributes,
        record: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error> {
        self.enter("symlink");
        let fill = |node: &mut Node| {
            node.data = target.to_vec();
            node.attributes.size = target.len() as u64;
        };
        self.make(caller, directory, name, FileKind::Symlink, &set, fill, record)
    }

    fn mknod(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        special: SpecialFile,
        set: SetAttributes,
        record: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error> {
        self.enter("mknod");
        let (kind, device) = match special {
            SpecialFile::Fifo => (FileKind::Fifo, DeviceNumber::default()),
            SpecialFile::Socket => (FileKind::Socket, DeviceNumber::default()),
            SpecialFile::BlockDevice(device) => (FileKind::BlockDevice, device),
            SpecialFile::CharacterDevice(device) => (FileKind::CharacterDevice, device),
        };
        self.make(
            caller,
            directory,
            name,
            kind,
            &set,
            |node| node.attributes.device = device,
            record,
        )
    }

    fn remove(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        record: Record<'_, Change>,
    ) -> Result<Pending<Change>, Error> {
        self.enter("remove");
        self.remove_entry(caller, directory, name, false, record)
    }

    fn rmdir(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        record: Record<'_, Change>,
    ) -> Result<Pending<Change>, Error> {
        self.enter("rmdir");
        self.remove_entry(caller, directory, name, true, record)
    }

    fn rename(
        &self,
        _: &Caller,
        from: (ObjectId, &[u8]),
        to: (ObjectId, &[u8]),
        record: Record<'_, Renamed>,
    ) -> Result<Pending<Renamed>, Error> {
        self.enter("rename");
        let renamed = self.on(from.0, |volume, now| {
            let (cookie, inode) = volume.child(from.0, from.1)?.ok_or(Error::NotFound)?;
            if let Some((replaced, old)) = volume.child(to.0, to.1)? {
                volume.unlink(old, now);
                volume.change(to.0, now, |entries| {
                    entries.remove(&replaced);
                })?;
            }
            let left = volume.change(from.0, now, |entries| {
                entries.remove(&cookie);
            })?;
            let to = volume.insert(to.0, to.1, inode, now)?;
            Ok(Renamed { from: left, to })
        })?;
        self.finish(renamed, Some(record))
    }

    fn link(
        &self,
        _: &Caller,
        object: ObjectId,
        directory: ObjectId,
        name: &[u8],
        record: Record<'_, Linked>,
    ) -> Result<Pending<Linked>, Error> {
        self.enter("link");
        let linked = self.on(object, |volume, now| {
            if volume.child(directory, name)?.is_some() {
                return Err(Error::Exists);
            }
            let node = volume.node(object)?;
            if node.attributes.kind == FileKind::Directory {
                return Err(Error::IsDirectory);
            }
            node.attributes.links += 1;
            node.attributes.changed = now;
            let attributes = node.attributes;
            Ok(Linked {
                attributes,
                directory: volume.insert(directory, name, object.inode.0, now)?,
            })
        })?;
        self.finish(linked, Some(record))
    }

    fn readdir(
        &self,
        caller: &Caller,
        directory: ObjectId,
        cookie: u64,
        with_attributes: bool,
        visit: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<Listed, Error> {
        self.enter("readdir");
        self.on(directory, |volume, _| {
            let node = volume.directory(directory)?;
            may(caller, &node.attributes, 4)?;
            let (attributes, parent) = (node.attributes, node.parent);
            let listed = |end| {
                Ok(Listed {
                    directory: attributes,
                    end,
                })
            };
            let dots = [
                (1, (b".".to_vec(), directory.inode.0)),
                (2, (b"..".to_vec(), parent)),
            ];
            let entries = node.entries.clone();
            for (number, (name, inode)) in dots.into_iter().chain(entries) {
                let attributes = volume.nodes[&inode].attributes;
                let entry = Entry {
                    name: &name,
                    inode: InodeId(inode),
                    cookie: number,
                    attributes: with_attributes.then_some(&attributes),
                };
                if number > cookie && visit(entry).is_break() {
                    return listed(false);
                }
            }
            listed(true)
        })
    }

    fn capacity(&self, _: ObjectId) -> Result<Capacity, Error> {
        self.enter("capacity");
        Ok(Capacity {
            bytes_total: 1000,
            bytes_free: 900,
            bytes_available: 800,
            inodes_total: 70,
            inodes_free: 60,
        })
    }

    fn recorded_replies(&self, limit: usize) -> Result<Vec<ReplyRecord>, Error> {
        let state = self.state.lock();
        Ok(state.replies.iter().rev().take(limit).rev().cloned().collect())
    }
}
