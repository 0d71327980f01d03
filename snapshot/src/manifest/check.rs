//! What entries of a tree may look like, and in which order they may come. Who writes and who reads both ask here.

use std::cmp::Ordering;

use cairn_types::{DeviceNumber, FileKind};

use super::codec;
use crate::directory::path::NAME_BYTES_MAX;
use crate::directory::{Attributes, Body, Entry, FileBody, RelativePath};

/// Offsets of holes are multiples of it.
pub(super) const HOLE_UNIT: u64 = 4096;
/// Longest target of a symbolic link, in bytes.
pub(super) const TARGET_BYTES_MAX: usize = 4095;
/// Longest value of an extended attribute, in bytes (xattr(7)).
pub(super) const XATTR_VALUE_BYTES_MAX: usize = 64 << 10;

/// What is wrong with an entry; nothing if it is one that a tree can have.
pub(super) fn fault(entry: &Entry) -> Option<&'static str> {
    let attributes = &entry.attributes;
    if attributes.mode > 0o7777 {
        return Some("its mode has bits that no mode has");
    }
    if !codec::is_device(attributes.kind) && attributes.device != DeviceNumber::default() {
        return Some("it has a device number and is no device");
    }
    let sized = matches!(attributes.kind, FileKind::Regular | FileKind::Symlink);
    if !sized && attributes.size != 0 {
        return Some("it has a size and is neither a regular file nor a symbolic link");
    }
    if entry.path.is_root() && attributes.kind != FileKind::Directory {
        return Some("the root is no directory");
    }
    xattrs_fault(attributes).or_else(|| body_fault(entry))
}

fn xattrs_fault(attributes: &Attributes) -> Option<&'static str> {
    let mut before: Option<&[u8]> = None;
    for xattr in &attributes.xattrs {
        if xattr.name.is_empty() || xattr.name.len() > NAME_BYTES_MAX || xattr.name.contains(&0) {
            return Some("the name of an extended attribute is empty, too long, or has a NUL");
        }
        if xattr.value.len() > XATTR_VALUE_BYTES_MAX {
            return Some("the value of an extended attribute is too long");
        }
        if before.is_some_and(|before| before >= xattr.name.as_slice()) {
            return Some("its extended attributes are not in the order of their names");
        }
        before = Some(&xattr.name);
    }
    None
}

fn body_fault(entry: &Entry) -> Option<&'static str> {
    let attributes = &entry.attributes;
    match (&entry.body, attributes.kind) {
        (Body::Link(_), FileKind::Directory) => Some("a directory has one name"),
        (Body::Link(to), _) if to.is_root() || *to >= entry.path => {
            Some("it is another name of something that does not come before it")
        }
        (Body::Link(_), _) => None,
        (Body::Symlink(target), FileKind::Symlink) => {
            if target.is_empty() || target.len() > TARGET_BYTES_MAX || target.contains(&0) {
                return Some("its target is empty, too long, or has a NUL");
            }
            (target.len() as u64 != attributes.size).then_some("its size is not that of its target")
        }
        (Body::File(file), FileKind::Regular) => file_fault(file, attributes.size),
        (Body::None, FileKind::Regular | FileKind::Symlink) | (Body::Symlink(_) | Body::File(_), _) => {
            Some("it has what its type does not have, or lacks what it has")
        }
        (Body::None, _) => None,
    }
}

fn file_fault(file: &FileBody, size: u64) -> Option<&'static str> {
    // Adjacent holes are one.
    let mut free = None;
    for hole in &file.holes {
        let Some(end) = hole.offset.checked_add(hole.length).filter(|end| *end <= size) else {
            return Some("it has a hole beyond its end");
        };
        let aligned = hole.offset % HOLE_UNIT == 0 && (hole.length % HOLE_UNIT == 0 || end == size);
        if hole.length == 0 || !aligned || free.is_some_and(|free| hole.offset <= free) {
            return Some("its holes are empty, not aligned, or not in order");
        }
        free = Some(end);
    }
    if file.runs.is_empty() {
        return None;
    }
    let length = file
        .runs
        .iter()
        .try_fold(0u64, |sum, run| sum.checked_add(u64::from(run.length())));
    (length != Some(size)).then_some("its chunks do not add up to its size")
}

/// The order of entries: that of a walk, with every directory before what is in it.
#[derive(Debug)]
pub(super) struct Sequence {
    before: Vec<u8>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing yet: the root must come.
    Start,
    /// Somewhere in a tree: anything may come.
    Middle,
    /// After an entry that is, or is not, a directory.
    After(bool),
}

impl Sequence {
    /// A whole tree.
    pub fn whole() -> Self {
        Sequence {
            before: Vec::new(),
            state: State::Start,
        }
    }

    /// What follows after some entry of a tree.
    pub fn middle() -> Self {
        Sequence {
            state: State::Middle,
            ..Sequence::whole()
        }
    }

    /// Takes in the next entry. The answer is what its path shares with the path before it, in bytes, or what is wrong.
    pub fn admit(&mut self, path: &RelativePath, kind: FileKind) -> Result<usize, &'static str> {
        let bytes = path.as_bytes();
        let shared = codec::shared(&self.before, bytes);
        match self.state {
            State::Start if !bytes.is_empty() => return Err("the root comes first"),
            State::Start | State::Middle => {}
            State::After(directory) => {
                let key = |byte: Option<&u8>| byte.map(|byte| if *byte == b'/' { 0 } else { *byte });
                if key(bytes.get(shared)).cmp(&key(self.before.get(shared))) != Ordering::Greater {
                    return Err("it belongs before it");
                }
                let parent = bytes.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                // Whatever is a proper part of the path before has been admitted as a directory.
                let known = match parent == self.before.len() {
                    true => directory && shared == parent,
                    false => parent == 0 || shared > parent,
                };
                if !known {
                    return Err("its directory is not listed before it");
                }
            }
        }
        self.before.truncate(shared);
        self.before.extend_from_slice(&bytes[shared..]);
        self.state = State::After(kind == FileKind::Directory);
        Ok(shared)
    }

    /// Whether nothing was taken in yet.
    pub fn is_empty(&self) -> bool {
        !matches!(self.state, State::After(_))
    }

    /// Whether the entry that was taken in last is at this path.
    pub fn is_at(&self, path: &RelativePath) -> bool {
        self.before == path.as_bytes()
    }

    /// The path of the entry that was taken in last; the root at the beginning.
    pub fn before(&self) -> RelativePath {
        RelativePath::new(&self.before).unwrap_or_default()
    }
}
