//! What a worker's directory may hold: names, objects and attributes that were acknowledged.
//!
//! A [`State`] is one possibility. An operation that is under way when the daemon dies makes two of them, before and
//! after; what can be lost within one, data that was not committed, is [`FileModel`]'s business.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::Arc;

use super::file::FileModel;
use super::observe::Observed;
use super::operation::{Object, Operation, Outcome};
use crate::client::attributes::{Kind, Time};
use crate::client::procedures::{CreateMode, Stability};
use crate::client::{Attributes, Handle, SetAttributes};
use crate::tree::{TreePath, join, show};

/// An object of a state. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u64);

impl Id {
    /// The worker's own directory.
    pub const ROOT: Id = Id(0);
}

/// Problems that one check describes.
const DESCRIBED_MAX: usize = 8;

/// What an object is.
#[derive(Debug, Clone)]
pub enum Body {
    /// A regular file.
    File(FileModel),
    /// A directory.
    Directory(BTreeMap<Vec<u8>, Id>),
    /// A symbolic link.
    Symlink(Arc<[u8]>),
    /// A named pipe.
    Fifo,
}

/// An object. `None` means that nothing is known.
#[derive(Debug, Clone)]
pub struct Inode {
    /// What it is.
    pub body: Body,
    /// Its handle.
    pub handle: Option<Handle>,
    mode: Option<u32>,
    owner: Option<(u32, u32)>,
    modified: Option<Time>,
}

impl Inode {
    fn new(body: Body, mode: Option<u32>) -> Self {
        Inode {
            body,
            handle: None,
            mode,
            owner: None,
            modified: None,
        }
    }

    fn kind(&self) -> Kind {
        match self.body {
            Body::File(_) => Kind::Regular,
            Body::Directory(_) => Kind::Directory,
            Body::Symlink(_) => Kind::Symlink,
            Body::Fifo => Kind::Fifo,
        }
    }

    fn know(&mut self, attributes: &Attributes) {
        self.mode = Some(attributes.mode);
        self.owner = Some((attributes.uid, attributes.gid));
        self.modified = Some(attributes.modified);
    }
}

/// One possibility of what a worker's directory holds.
#[derive(Debug, Clone)]
pub struct State {
    inodes: BTreeMap<Id, Arc<Inode>>,
    next: u64,
}

impl Default for State {
    /// An empty directory.
    fn default() -> Self {
        let root = Inode::new(Body::Directory(BTreeMap::new()), None);
        State {
            inodes: BTreeMap::from([(Id::ROOT, Arc::new(root))]),
            next: 1,
        }
    }
}

impl State {
    /// An object.
    pub fn inode(&self, id: Id) -> Option<&Inode> {
        self.inodes.get(&id).map(Arc::as_ref)
    }

    /// All objects.
    pub fn inodes(&self) -> impl Iterator<Item = (Id, &Inode)> {
        self.inodes.iter().map(|(id, inode)| (*id, inode.as_ref()))
    }

    fn change(&mut self, id: Id, change: impl FnOnce(&mut Inode)) {
        if let Some(inode) = self.inodes.get_mut(&id) {
            change(Arc::make_mut(inode));
        }
    }

    fn change_file(&mut self, id: Id, change: impl FnOnce(&mut FileModel)) {
        self.change(id, |inode| {
            if let Body::File(file) = &mut inode.body {
                change(file);
            }
        });
    }

    /// Changes the names of a directory, and with them its time.
    fn rename_in(&mut self, id: Id, change: impl FnOnce(&mut BTreeMap<Vec<u8>, Id>)) {
        self.change(id, |inode| {
            inode.modified = None;
            if let Body::Directory(entries) = &mut inode.body {
                change(entries);
            }
        });
    }

    fn make(&mut self, directory: Id, name: &[u8], inode: Inode) {
        let id = Id(self.next);
        self.next += 1;
        self.inodes.insert(id, Arc::new(inode));
        self.rename_in(directory, |entries| {
            entries.insert(name.to_vec(), id);
        });
    }

    /// What has the name.
    pub fn lookup(&self, directory: Id, name: &[u8]) -> Option<Id> {
        match &self.inode(directory)?.body {
            Body::Directory(entries) => entries.get(name).copied(),
            _ => None,
        }
    }

    /// Names that an object has.
    pub fn names_of(&self, id: Id) -> usize {
        let names = |inode: &Arc<Inode>| match &inode.body {
            Body::Directory(entries) => entries.values().filter(|entry| **entry == id).count(),
            _ => 0,
        };
        self.inodes.values().map(names).sum()
    }

    fn forget_if_nameless(&mut self, id: Id) {
        if id != Id::ROOT && self.names_of(id) == 0 {
            self.inodes.remove(&id);
        }
    }

    /// The state after an operation, of whose reply nothing is known yet.
    pub fn after(&self, operation: &Operation) -> State {
        let mut state = self.clone();
        match operation {
            Operation::Make {
                directory,
                name,
                what,
            } => {
                let inode = match what {
                    Object::File(CreateMode::Exclusive(_)) => {
                        Inode::new(Body::File(FileModel::default()), None)
                    }
                    Object::File(CreateMode::Guarded(set) | CreateMode::Unchecked(set)) => {
                        Inode::new(Body::File(FileModel::default()), set.mode)
                    }
                    Object::Directory(mode) => Inode::new(Body::Directory(BTreeMap::new()), Some(*mode)),
                    Object::Symlink(target) => Inode::new(Body::Symlink(target.clone()), None),
                    Object::Fifo(mode) => Inode::new(Body::Fifo, Some(*mode)),
                };
                state.make(*directory, name, inode);
            }
            Operation::Write {
                file, offset, data, ..
            } => {
                state.change_file(*file, |file| file.write(*offset, data.clone()));
                state.change(*file, |inode| inode.modified = None);
            }
            Operation::Commit { .. } => {}
            Operation::Set { object, set } => state.set(*object, set),
            Operation::Rename { from, to } => {
                let moved = self.lookup(from.0, &from.1);
                let replaced = self.lookup(to.0, &to.1);
                if let Some(moved) = moved.filter(|moved| Some(*moved) != replaced) {
                    state.rename_in(from.0, |entries| {
                        entries.remove(&from.1);
                    });
                    state.rename_in(to.0, |entries| {
                        entries.insert(to.1.clone(), moved);
                    });
                    replaced
                        .into_iter()
                        .for_each(|replaced| state.forget_if_nameless(replaced));
                }
            }
            Operation::Remove { directory, name } | Operation::Rmdir { directory, name } => {
                let removed = self.lookup(*directory, name);
                state.rename_in(*directory, |entries| {
                    entries.remove(name);
                });
                removed
                    .into_iter()
                    .for_each(|removed| state.forget_if_nameless(removed));
            }
            Operation::Link {
                object,
                directory,
                name,
            } => {
                state.rename_in(*directory, |entries| {
                    entries.insert(name.clone(), *object);
                });
            }
        }
        state
    }

    fn set(&mut self, object: Id, set: &SetAttributes) {
        if let Some(size) = set.size {
            self.change_file(object, |file| file.truncate(size));
        }
        self.change(object, |inode| {
            inode.mode = set.mode.or(inode.mode);
            if let (Some(uid), Some(gid)) = (set.uid, set.gid) {
                inode.owner = Some((uid, gid));
            }
            if set.size.is_some() {
                inode.modified = None;
            }
            if let Some(time) = set.modified {
                inode.modified = Some(time);
            }
        });
    }

    /// Takes note of what the reply to an operation, whose effect this state has already, said.
    pub fn acknowledged(&mut self, operation: &Operation, outcome: &Outcome) {
        for (directory, attributes) in &outcome.directories {
            self.change(*directory, |inode| inode.know(attributes));
        }
        let known = |inode: &mut Inode| {
            outcome
                .attributes
                .iter()
                .for_each(|attributes| inode.know(attributes))
        };
        match operation {
            Operation::Make { directory, name, .. } => {
                if let Some(made) = self.lookup(*directory, name) {
                    self.change(made, known);
                    self.change(made, |inode| inode.handle = outcome.handle.clone());
                }
            }
            Operation::Write { file, .. } if outcome.stability == Some(Stability::FILE_SYNC) => {
                self.change_file(*file, FileModel::written_durably);
                self.change(*file, known);
            }
            Operation::Write { file, .. } if outcome.stability == Some(Stability::DATA_SYNC) => {
                self.change_file(*file, FileModel::written_durably);
            }
            Operation::Commit { file } => {
                self.change_file(*file, FileModel::settle);
                self.change(*file, known);
            }
            Operation::Set { object, .. } | Operation::Link { object, .. } => self.change(*object, known),
            Operation::Write { .. }
            | Operation::Rename { .. }
            | Operation::Remove { .. }
            | Operation::Rmdir { .. } => {}
        }
    }

    /// The state of a snapshot that was taken now: data that was acknowledged belongs to it, committed or not.
    pub fn settled(&self) -> State {
        let mut state = self.clone();
        for inode in state.inodes.values_mut() {
            match &inode.body {
                Body::File(file) if !file.is_settled() => {
                    if let Body::File(file) = &mut Arc::make_mut(inode).body {
                        file.settle();
                    }
                }
                _ => {}
            }
        }
        state
    }

    /// The state with nothing known of handles, which a fork gives anew.
    pub fn without_handles(&self) -> State {
        let mut state = self.clone();
        for inode in state.inodes.values_mut().filter(|inode| inode.handle.is_some()) {
            Arc::make_mut(inode).handle = None;
        }
        state
    }

    /// All paths with their objects, the root's empty one included.
    pub fn paths(&self) -> BTreeMap<TreePath, Id> {
        let mut paths = BTreeMap::new();
        let mut waiting = vec![(TreePath::new(), Id::ROOT)];
        while let Some((path, id)) = waiting.pop() {
            if let Some(Body::Directory(entries)) = self.inode(id).map(|inode| &inode.body) {
                waiting.extend(entries.iter().map(|(name, child)| (join(&path, name), *child)));
            }
            paths.insert(path, id);
        }
        paths
    }

    /// Whether the directory may hold what was observed; otherwise what is wrong.
    pub fn explain(&self, observed: &Observed) -> Result<(), String> {
        let mut problems = Problems::default();
        let paths = self.paths();
        for path in observed.nodes.keys().filter(|path| !paths.contains_key(*path)) {
            problems.add(path, "is there, though nothing was acknowledged that makes it");
        }
        let mut fileids: HashMap<Id, u64> = HashMap::new();
        let mut ids: HashMap<u64, Id> = HashMap::new();
        for (path, id) in &paths {
            let (Some(node), Some(inode)) = (observed.nodes.get(path), self.inode(*id)) else {
                problems.add(path, "is missing");
                continue;
            };
            let fileid = node.attributes.fileid;
            if *fileids.entry(*id).or_insert(fileid) != fileid || *ids.entry(fileid).or_insert(*id) != *id {
                problems.add(path, "is linked otherwise");
            }
            self.explain_object(&mut problems, path, (*id, inode), observed);
        }
        problems.into_result()
    }

    fn explain_object(
        &self,
        problems: &mut Problems,
        path: &[u8],
        (id, inode): (Id, &Inode),
        observed: &Observed,
    ) {
        let Some(node) = observed.nodes.get(path) else {
            return;
        };
        let found = &node.attributes;
        if found.kind != inode.kind() {
            problems.add(
                path,
                &format!("is {:?} instead of {:?}", found.kind, inode.kind()),
            );
            return;
        }
        match &inode.body {
            Body::File(file) => match observed.contents.get(&found.fileid) {
                Some(contents) => {
                    if let Err(what) = file.explain(contents) {
                        problems.add(path, &what);
                    }
                }
                None => problems.add(path, "was not read"),
            },
            Body::Symlink(target) if node.target.as_deref() != Some(target) => {
                problems.add(path, "points elsewhere");
            }
            Body::Symlink(_) | Body::Directory(_) | Body::Fifo => {}
        }
        if found.kind != Kind::Directory && found.links as usize != self.names_of(id) {
            let what = format!("has {} links instead of {}", found.links, self.names_of(id));
            problems.add(path, &what);
        }
        if let Some(mode) = inode.mode.filter(|mode| *mode != found.mode) {
            problems.add(path, &format!("has mode {:o} instead of {mode:o}", found.mode));
        }
        if inode.owner.is_some_and(|owner| owner != (found.uid, found.gid)) {
            let what = format!(
                "is owned by {}:{} instead of {:?}",
                found.uid, found.gid, inode.owner
            );
            problems.add(path, &what);
        }
        if let Some(time) = inode.modified.filter(|time| *time != found.modified) {
            problems.add(
                path,
                &format!("was modified at {:?} instead of {time:?}", found.modified),
            );
        }
        if inode.handle.is_some() && inode.handle != node.handle {
            problems.add(path, "has another handle");
        }
    }

    /// Gives every object that has none this handle.
    #[cfg(test)]
    pub(super) fn give_handles(&mut self, handle: &Handle) {
        for inode in self.inodes.values_mut().filter(|inode| inode.handle.is_none()) {
            Arc::make_mut(inode).handle = Some(handle.clone());
        }
    }

    /// Takes what was observed, and explained by this state, as what is there for good.
    pub fn adopt(&mut self, observed: &Observed) {
        for (path, id) in self.paths() {
            let Some(node) = observed.nodes.get(&path) else {
                continue;
            };
            self.change(id, |inode| {
                inode.know(&node.attributes);
                inode.handle = node.handle.clone();
                if let (Body::File(file), Some(contents)) =
                    (&mut inode.body, observed.contents.get(&node.attributes.fileid))
                {
                    file.adopt(contents);
                }
            });
        }
    }
}

#[derive(Default)]
struct Problems {
    text: String,
    count: usize,
}

impl Problems {
    fn add(&mut self, path: &[u8], what: &str) {
        self.count += 1;
        if self.count <= DESCRIBED_MAX {
            // Writing to a string cannot fail.
            let _ = writeln!(self.text, "  {} {what}", show(path));
        }
    }

    fn into_result(mut self) -> Result<(), String> {
        if self.count > DESCRIBED_MAX {
            let _ = writeln!(self.text, "  and {} more", self.count - DESCRIBED_MAX);
        }
        if self.count == 0 { Ok(()) } else { Err(self.text) }
    }
}
