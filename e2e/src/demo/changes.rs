//! What the demo breaks, and what `cairn diff` must say about it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use anyhow::Context;

use crate::client::attributes::{Kind, Time};
use crate::client::files::{Run, runs};
use crate::client::procedures::CreateMode;
use crate::client::{Client, Handle, SetAttributes};
use crate::parallel;
use crate::random::Random;
use crate::tree::{IN_FLIGHT, Node, Tree, TreePath, show, split};

/// Entries of the largest directory that is deleted.
const DELETED_ENTRIES_MAX: usize = 3000;
/// Files that are overwritten in part, the largest ones.
const OVERWRITTEN: usize = 6;
/// Bytes that are overwritten in each.
const OVERWRITTEN_BYTES: u64 = 300_000;
/// Files that are truncated.
const TRUNCATED: usize = 10;
/// Files whose mode is changed.
const CHMOD: usize = 10;
/// Files that are renamed.
const RENAMED: usize = 10;
/// Files that are new.
const ADDED: usize = 20;

/// How an entry differs, in the words of `cairn diff`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// Only after.
    Added,
    /// Only before.
    Removed,
    /// Other data, link target or device.
    Modified,
    /// Another type of object.
    Retyped,
    /// The same data, other attributes.
    Attributes,
}

/// Makes changes of every kind in a tree.
#[derive(Debug)]
pub struct Changes<'a> {
    client: &'a Arc<Client>,
    tree: &'a Tree,
    /// Objects, by their `fileid`, whose data was changed.
    written: HashSet<u64>,
    /// Paths that later changes leave alone.
    used: HashSet<TreePath>,
    random: Random,
}

impl<'a> Changes<'a> {
    /// Changes to the remote `tree`, as it was listed.
    pub fn new(client: &'a Arc<Client>, tree: &'a Tree) -> Self {
        Changes {
            client,
            tree,
            written: HashSet::new(),
            used: HashSet::new(),
            random: Random::new(2),
        }
    }

    /// Makes them all; the objects whose data was changed.
    pub async fn make(mut self) -> anyhow::Result<HashSet<u64>> {
        self.delete_subtree().await.context("deleting a directory")?;
        self.overwrite().await.context("overwriting")?;
        self.truncate().await.context("truncating")?;
        self.chmod().await.context("changing modes")?;
        self.rename().await.context("renaming")?;
        self.retype().await.context("replacing a file by a directory")?;
        self.add().await.context("adding files")?;
        Ok(self.written)
    }

    /// Regular files that nothing was done to yet, several names of one left out.
    fn files(&self, fits: impl Fn(&Node) -> bool) -> Vec<(&'a TreePath, &'a Node)> {
        let fresh = |path: &&TreePath| !self.used.contains(*path);
        let plain = |node: &Node| node.kind() == Kind::Regular && node.attributes.links == 1;
        self.tree
            .nodes
            .iter()
            .filter(|(path, node)| fresh(path) && plain(node) && fits(node))
            .collect()
    }

    /// Takes up to `count` of the files, spread over the tree.
    fn take(&mut self, count: usize, fits: impl Fn(&Node) -> bool) -> Vec<(&'a TreePath, &'a Node)> {
        let files = self.files(fits);
        let step = (files.len() / count.max(1)).max(1);
        let taken: Vec<_> = files.into_iter().step_by(step).take(count).collect();
        self.used.extend(taken.iter().map(|(path, _)| (*path).clone()));
        taken
    }

    fn place<'p>(&self, path: &'p [u8]) -> anyhow::Result<(&'a Handle, &'p [u8])> {
        let (parent, name) = split(path).context("the root has no name")?;
        let parent = self.tree.node(parent).and_then(|node| node.handle.as_ref());
        Ok((
            parent.with_context(|| format!("{} has no directory", show(path)))?,
            name,
        ))
    }

    async fn delete_subtree(&mut self) -> anyhow::Result<()> {
        let mut below: BTreeMap<&[u8], usize> = BTreeMap::new();
        for path in self.tree.nodes.keys() {
            let mut at = path.as_slice();
            while let Some((parent, _)) = split(at) {
                *below.entry(parent).or_default() += 1;
                at = parent;
            }
        }
        // Not the parts' own directories, which lie in the root.
        let largest = below
            .into_iter()
            .filter(|(path, entries)| path.contains(&b'/') && *entries <= DELETED_ENTRIES_MAX)
            .max_by_key(|(_, entries)| *entries);
        let Some((top, _)) = largest else { return Ok(()) };
        let prefix = [top, b"/"].concat();
        let doomed: Vec<_> = self
            .tree
            .nodes
            .iter()
            .filter(|(path, _)| path.as_slice() == top || path.starts_with(&prefix))
            .collect();
        self.used.extend(doomed.iter().map(|(path, _)| (*path).clone()));
        let (directories, others): (Vec<_>, Vec<_>) = doomed
            .into_iter()
            .partition(|(_, node)| node.kind() == Kind::Directory);
        let this = &*self;
        parallel::map(IN_FLIGHT, &others, |(path, _)| async move {
            let (directory, name) = this.place(path)?;
            this.client
                .remove(directory, name)
                .await
                .with_context(|| show(path))
        })
        .await?;
        for (path, _) in directories.into_iter().rev() {
            let (directory, name) = self.place(path)?;
            self.client
                .rmdir(directory, name)
                .await
                .with_context(|| show(path))?;
        }
        Ok(())
    }

    async fn overwrite(&mut self) -> anyhow::Result<()> {
        let mut sizes: Vec<u64> = self
            .files(|_| true)
            .iter()
            .map(|(_, node)| node.attributes.size)
            .collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        let least = sizes
            .get(OVERWRITTEN - 1)
            .or(sizes.last())
            .copied()
            .unwrap_or(0)
            .max(1);
        for (path, node) in self.take(OVERWRITTEN, |node| node.attributes.size >= least) {
            let size = node.attributes.size;
            let length = OVERWRITTEN_BYTES.min(size);
            let offset = self.random.below(size - length + 1);
            let data = self.random.bytes(length as usize);
            let source = |run: Run| {
                let start = (run.offset - offset) as usize;
                Ok(data[start..start + run.length as usize].to_vec())
            };
            let handle = node.handle.as_ref().context("no handle")?;
            let written = self
                .client
                .write_runs(handle, &runs(offset, offset + length), source)
                .await;
            written.with_context(|| show(path))?;
            self.written.insert(node.attributes.fileid);
        }
        Ok(())
    }

    async fn set(&self, path: &[u8], node: &Node, set: SetAttributes) -> anyhow::Result<()> {
        let handle = node.handle.as_ref().context("no handle")?;
        self.client
            .setattr(handle, set)
            .await
            .with_context(|| show(path))?;
        Ok(())
    }

    async fn truncate(&mut self) -> anyhow::Result<()> {
        for (path, node) in self.take(TRUNCATED, |node| node.attributes.size > 1) {
            let size = Some(node.attributes.size / 2);
            self.set(
                path,
                node,
                SetAttributes {
                    size,
                    ..SetAttributes::default()
                },
            )
            .await?;
        }
        Ok(())
    }

    async fn chmod(&mut self) -> anyhow::Result<()> {
        for (path, node) in self.take(CHMOD, |_| true) {
            let mode = Some(node.attributes.mode ^ 0o007);
            self.set(
                path,
                node,
                SetAttributes {
                    mode,
                    ..SetAttributes::default()
                },
            )
            .await?;
        }
        for (path, node) in self.take(CHMOD, |_| true) {
            let modified = Some(Time {
                seconds: 1_234_567_890,
                nanoseconds: 987_654_321,
            });
            self.set(
                path,
                node,
                SetAttributes {
                    modified,
                    ..SetAttributes::default()
                },
            )
            .await?;
        }
        Ok(())
    }

    async fn rename(&mut self) -> anyhow::Result<()> {
        for (path, _) in self.take(RENAMED, |_| true) {
            let (directory, name) = self.place(path)?;
            let new = [&name[..name.len().min(200)], b".renamed"].concat();
            let renamed = self.client.rename((directory, name), (directory, &new)).await;
            renamed.with_context(|| show(path))?;
        }
        Ok(())
    }

    async fn retype(&mut self) -> anyhow::Result<()> {
        for (path, _) in self.take(1, |_| true) {
            let (directory, name) = self.place(path)?;
            self.client
                .remove(directory, name)
                .await
                .with_context(|| show(path))?;
            self.client
                .mkdir(directory, name, SetAttributes::default())
                .await
                .with_context(|| show(path))?;
        }
        Ok(())
    }

    async fn add(&mut self) -> anyhow::Result<()> {
        let root = self
            .tree
            .node(b"")
            .and_then(|root| root.handle.as_ref())
            .context("no root")?;
        let set = |mode| SetAttributes {
            mode: Some(mode),
            ..SetAttributes::default()
        };
        let directory = self.client.mkdir(root, b"new", set(0o755)).await?.handle;
        for index in 0..ADDED {
            let name = format!("file {index}");
            let data = self.random.bytes(index * 50_000);
            let file = self
                .client
                .create(&directory, name.as_bytes(), CreateMode::Guarded(set(0o644)))
                .await?;
            let source = |run: Run| {
                let start = run.offset as usize;
                Ok(data[start..start + run.length as usize].to_vec())
            };
            let runs = runs(0, data.len() as u64);
            if !runs.is_empty() {
                self.client.write_runs(&file.handle, &runs, source).await?;
            }
        }
        self.client
            .symlink(&directory, b"link", b"file 1", set(0o777))
            .await?;
        Ok(())
    }
}

/// What differs between two listings of one workspace, given the objects whose data was changed. Times and links of a
/// directory follow from its entries and do not count.
pub fn differences(before: &Tree, after: &Tree, written: &HashSet<u64>) -> BTreeMap<TreePath, Difference> {
    let mut differences = BTreeMap::new();
    for (path, old) in &before.nodes {
        let difference = match after.node(path) {
            None => Some(Difference::Removed),
            Some(new) => difference(old, new, written),
        };
        differences.extend(difference.map(|difference| (path.clone(), difference)));
    }
    let added = after
        .nodes
        .keys()
        .filter(|path| !before.nodes.contains_key(*path));
    differences.extend(added.map(|path| (path.clone(), Difference::Added)));
    differences
}

fn difference(old: &Node, new: &Node, written: &HashSet<u64>) -> Option<Difference> {
    let (a, b) = (&old.attributes, &new.attributes);
    let owner = (a.mode, a.uid, a.gid) != (b.mode, b.uid, b.gid);
    if a.kind != b.kind {
        return Some(Difference::Retyped);
    }
    if a.kind == Kind::Directory {
        return owner.then_some(Difference::Attributes);
    }
    if a.fileid != b.fileid || a.size != b.size || a.device != b.device || written.contains(&a.fileid) {
        return Some(Difference::Modified);
    }
    (owner || a.modified != b.modified || a.links != b.links).then_some(Difference::Attributes)
}
