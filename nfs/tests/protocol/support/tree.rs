//! The tree behind the file system in memory: volumes, nodes, entries with cookies.

use std::collections::BTreeMap;

use cairn_types::{DeviceNumber, FileKind, InodeId, Timestamp, VolumeId};
use cairn_vfs::Error;
use cairn_vfs::filesystem::{Attributes, Before, Caller, Change, Export, ObjectId, SetAttributes, SetTime};

pub struct Node {
    pub attributes: Attributes,
    pub data: Vec<u8>,
    pub entries: BTreeMap<u64, (Vec<u8>, u64)>,
    pub parent: u64,
    pub verifier: Option<[u8; 8]>,
}

pub struct Volume {
    pub export: Export,
    pub nodes: BTreeMap<u64, Node>,
    pub inodes: u64,
    pub cookies: u64,
}

pub fn may(caller: &Caller, attributes: &Attributes, bit: u32) -> Result<(), Error> {
    let shift = if caller.uid == attributes.uid {
        6
    } else if caller.gid == attributes.gid || caller.groups.contains(&attributes.gid) {
        3
    } else {
        0
    };
    if caller.uid == 0 || attributes.mode >> shift & bit != 0 {
        Ok(())
    } else {
        Err(Error::Access)
    }
}

impl Volume {
    pub fn node(&mut self, object: ObjectId) -> Result<&mut Node, Error> {
        let node = self.nodes.get_mut(&object.inode.0).ok_or(Error::Stale)?;
        if node.attributes.object.generation == object.generation {
            Ok(node)
        } else {
            Err(Error::Stale)
        }
    }

    pub fn directory(&mut self, object: ObjectId) -> Result<&mut Node, Error> {
        let node = self.node(object)?;
        if node.attributes.kind == FileKind::Directory {
            Ok(node)
        } else {
            Err(Error::NotDirectory)
        }
    }

    pub fn child(&mut self, directory: ObjectId, name: &[u8]) -> Result<Option<(u64, u64)>, Error> {
        let entries = &self.directory(directory)?.entries;
        Ok(entries
            .iter()
            .find(|(_, entry)| entry.0 == name)
            .map(|(cookie, entry)| (*cookie, entry.1)))
    }

    /// Changes the entries of a directory.
    pub fn change(
        &mut self,
        directory: ObjectId,
        now: Timestamp,
        change: impl FnOnce(&mut BTreeMap<u64, (Vec<u8>, u64)>),
    ) -> Result<Change, Error> {
        let node = self.directory(directory)?;
        let before = Before::from(&node.attributes);
        change(&mut node.entries);
        node.attributes.modified = now;
        node.attributes.changed = now;
        node.attributes.size = node.entries.len() as u64;
        Ok(Change {
            before,
            after: node.attributes,
        })
    }

    pub fn insert(
        &mut self,
        directory: ObjectId,
        name: &[u8],
        inode: u64,
        now: Timestamp,
    ) -> Result<Change, Error> {
        self.cookies += 1;
        let cookie = self.cookies;
        self.change(directory, now, |entries| {
            entries.insert(cookie, (name.to_vec(), inode));
        })
    }

    pub fn unlink(&mut self, inode: u64, now: Timestamp) {
        let node = self.nodes.get_mut(&inode).unwrap();
        node.attributes.links -= 1;
        node.attributes.changed = now;
        if node.attributes.links == 0 || node.attributes.kind == FileKind::Directory {
            self.nodes.remove(&inode);
        }
    }
}

pub fn apply(node: &mut Node, set: &SetAttributes, now: Timestamp) {
    let attributes = &mut node.attributes;
    attributes.mode = set.mode.unwrap_or(attributes.mode);
    attributes.uid = set.uid.unwrap_or(attributes.uid);
    attributes.gid = set.gid.unwrap_or(attributes.gid);
    if let Some(size) = set.size {
        node.data.resize(size as usize, 0);
        attributes.size = size;
        attributes.modified = now;
    }
    for (time, set) in [
        (&mut attributes.accessed, set.accessed),
        (&mut attributes.modified, set.modified),
    ] {
        match set {
            Some(SetTime::Now) => *time = now,
            Some(SetTime::To(to)) => *time = to,
            None => {}
        }
    }
    attributes.changed = now;
}

pub fn node(
    volume: VolumeId,
    inode: u64,
    kind: FileKind,
    mode: u32,
    uid: u32,
    gid: u32,
    now: Timestamp,
) -> Node {
    let attributes = Attributes {
        object: ObjectId {
            volume,
            inode: InodeId(inode),
            generation: 5,
        },
        kind,
        mode,
        links: if kind == FileKind::Directory { 2 } else { 1 },
        uid,
        gid,
        size: 0,
        used: 0,
        device: DeviceNumber::default(),
        accessed: now,
        modified: now,
        changed: now,
    };
    Node {
        attributes,
        data: Vec::new(),
        entries: BTreeMap::new(),
        parent: inode,
        verifier: None,
    }
}
