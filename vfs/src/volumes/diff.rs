//! What differs between two states of a volume: both trees walked side by side, in the order of names.
//!
//! Objects are compared by what the metadata says of them, without reading data: an inode number is never reused, and
//! every change of an object's data gives it a data version that no parted line has.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use cairn_metadata::engine::Engine;
use cairn_metadata::{DirentRecord, InodeRecord, Lineage, MetadataError, View};
use cairn_types::{FileKind, InodeId};

use crate::control::{Difference, DifferenceKind};

/// Entries read at once.
const BATCH: usize = 512;

type Visit<'a> = &'a mut dyn FnMut(Difference) -> ControlFlow<()>;

pub(super) fn diff(
    engine: &dyn Engine,
    from: &Lineage,
    to: &Lineage,
    visit: Visit<'_>,
) -> Result<(), MetadataError> {
    let mut walk = Walk {
        from: View::new(engine, from),
        to: View::new(engine, to),
        visit,
    };
    // Depth first with a stack of its own: trees may be deep.
    let before = walk
        .from
        .inode(InodeId::ROOT)?
        .ok_or_else(|| missing(InodeId::ROOT))?;
    let after = walk
        .to
        .inode(InodeId::ROOT)?
        .ok_or_else(|| missing(InodeId::ROOT))?;
    if attributes_differ(&before, &after) {
        let kind = DifferenceKind::Attributes;
        let root = Difference {
            kind,
            path: Vec::new(),
            directory: true,
            bytes_before: None,
            bytes_after: None,
        };
        if (walk.visit)(root).is_break() {
            return Ok(());
        }
    }
    let root = Some(InodeId::ROOT);
    let mut stack = vec![Level::new(Vec::new(), root, root)];
    while let Some(level) = stack.last_mut() {
        match walk.step(level)? {
            Step::Next => {}
            Step::Down(below) => stack.push(*below),
            Step::Up => {
                stack.pop();
            }
            Step::Stop => return Ok(()),
        }
    }
    Ok(())
}

fn missing(inode: InodeId) -> MetadataError {
    MetadataError::Missing {
        what: format!("inode {inode}"),
    }
}

/// Entries of one directory in one state, in the order of names.
struct Entries {
    directory: Option<InodeId>,
    batch: std::iter::Peekable<std::vec::IntoIter<DirentRecord>>,
    last: Vec<u8>,
}

impl Entries {
    fn new(directory: Option<InodeId>) -> Self {
        Entries {
            directory,
            batch: Vec::new().into_iter().peekable(),
            last: Vec::new(),
        }
    }

    fn peek(&mut self, view: &View<'_>) -> Result<Option<&DirentRecord>, MetadataError> {
        if self.batch.peek().is_none()
            && let Some(directory) = self.directory
        {
            let entries = view.entries_by_name(directory, &self.last, BATCH)?;
            if entries.len() < BATCH {
                self.directory = None;
            }
            if let Some(entry) = entries.last() {
                self.last.clone_from(&entry.name);
            }
            self.batch = entries.into_iter().peekable();
        }
        Ok(self.batch.peek())
    }
}

/// A directory that is being compared: in both states, or in one of them.
struct Level {
    path: Vec<u8>,
    from: Entries,
    to: Entries,
}

impl Level {
    fn new(path: Vec<u8>, from: Option<InodeId>, to: Option<InodeId>) -> Self {
        Level {
            path,
            from: Entries::new(from),
            to: Entries::new(to),
        }
    }
}

enum Step {
    Next,
    Down(Box<Level>),
    Up,
    Stop,
}

struct Walk<'a> {
    from: View<'a>,
    to: View<'a>,
    visit: Visit<'a>,
}

type Object = (InodeId, InodeRecord);

impl Walk<'_> {
    /// Compares the next name of a directory.
    fn step(&mut self, level: &mut Level) -> Result<Step, MetadataError> {
        let order = {
            let from = level.from.peek(&self.from)?;
            let to = level.to.peek(&self.to)?;
            match (from, to) {
                (None, None) => return Ok(Step::Up),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(from), Some(to)) => from.name.cmp(&to.name),
            }
        };
        let old = if order.is_le() {
            level.from.batch.next()
        } else {
            None
        };
        let new = if order.is_ge() {
            level.to.batch.next()
        } else {
            None
        };
        let Some(name) = old.as_ref().or(new.as_ref()).map(|entry| entry.name.clone()) else {
            return Ok(Step::Up);
        };
        let mut path = level.path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        let load = |view: &View<'_>, entry: Option<DirentRecord>| -> Result<Option<Object>, MetadataError> {
            let Some(entry) = entry else { return Ok(None) };
            let record = view.inode(entry.inode)?.ok_or_else(|| missing(entry.inode))?;
            Ok(Some((entry.inode, record)))
        };
        let old = load(&self.from, old)?;
        let new = load(&self.to, new)?;
        if let Some(kind) = compare(old.as_ref(), new.as_ref()) {
            let bytes = |object: Option<&Object>| {
                object
                    .filter(|(_, record)| record.kind == FileKind::Regular)
                    .map(|(_, record)| record.size)
            };
            let directory = new.as_ref().or(old.as_ref()).is_some_and(is_directory);
            let difference = Difference {
                kind,
                path: path.clone(),
                directory,
                bytes_before: bytes(old.as_ref()),
                bytes_after: bytes(new.as_ref()),
            };
            if (self.visit)(difference).is_break() {
                return Ok(Step::Stop);
            }
        }
        let below = |object: Option<&Object>| {
            object
                .filter(|object| is_directory(object))
                .map(|(inode, _)| *inode)
        };
        let (old, new) = (below(old.as_ref()), below(new.as_ref()));
        if old.is_none() && new.is_none() {
            Ok(Step::Next)
        } else {
            Ok(Step::Down(Box::new(Level::new(path, old, new))))
        }
    }
}

fn is_directory(object: &Object) -> bool {
    object.1.kind == FileKind::Directory
}

fn compare(old: Option<&Object>, new: Option<&Object>) -> Option<DifferenceKind> {
    let ((old_inode, old), (new_inode, new)) = match (old, new) {
        (None, None) => return None,
        (None, Some(_)) => return Some(DifferenceKind::Added),
        (Some(_), None) => return Some(DifferenceKind::Removed),
        (Some(old), Some(new)) => (old, new),
    };
    if old.kind != new.kind {
        return Some(DifferenceKind::Retyped);
    }
    let same_object = old_inode == new_inode && old.generation == new.generation;
    let same_data = same_object && old.data_version == new.data_version;
    if old.kind != FileKind::Directory && (!same_data || old.size != new.size || old.device != new.device) {
        return Some(DifferenceKind::Modified);
    }
    attributes_differ(old, new).then_some(DifferenceKind::Attributes)
}

/// Whether anything differs but the data. A directory's times and links follow from its entries, which are compared.
fn attributes_differ(old: &InodeRecord, new: &InodeRecord) -> bool {
    let owner = |record: &InodeRecord| (record.mode, record.uid, record.gid);
    if old.kind == FileKind::Directory {
        return owner(old) != owner(new);
    }
    (owner(old), old.modified, old.links) != (owner(new), new.modified, new.links)
}
