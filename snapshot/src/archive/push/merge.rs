//! The tree of a base, with what has changed since.
//!
//! Leaves in whose range nothing has changed are taken over as they are. In the others the records of inodes that have changed are
//! dropped, and what the source says of these inodes comes in their place.

use cairn_content::pipeline::Run;
use cairn_types::{ByteRange, FileKind, InodeId, Node, SnapshotId};

use super::assemble::{Assembler, Kept};
use crate::archive::error::ArchiveError;
use crate::archive::repository::Nodes;
use crate::archive::tree::{Key, NodeReference, TreeRoot, leaves, read_leaf, records};

/// Files below this size are read again as a whole if anything of them has changed.
const PARTS_BYTES_MIN: u64 = 256 << 10;
/// Most runs of one file that are kept; what lies behind is read again.
const KEPT_RUNS_MAX: usize = 1 << 20;

struct Merge<'m, 'a> {
    assembler: &'m mut Assembler<'a>,
    base: SnapshotId,
    tree: &'m TreeRoot,
    /// Inodes that have changed and are not written yet, ascending.
    changed: &'m [InodeId],
    /// The inode that was written last in place of the base's.
    replaced: Option<InodeId>,
}

pub(super) fn merge(
    assembler: &mut Assembler<'_>,
    base: SnapshotId,
    tree: &TreeRoot,
    changed: &[InodeId],
) -> Result<(), ArchiveError> {
    let nodes = assembler.nodes();
    let mut merge = Merge {
        assembler,
        base,
        tree,
        changed,
        replaced: None,
    };
    let mut all = leaves(nodes, tree, Key::of(InodeId(0)), |_| true).peekable();
    while let Some(leaf) = all.next() {
        // What cannot be read is not followed by what can: an archive is whole or it is not made.
        let leaf = leaf?;
        let next = all.peek().and_then(|next| next.as_ref().ok());
        merge.leaf(nodes, leaf, next.map(|next| &next.first))?;
    }
    merge.write_changed(|_| true)
}

impl Merge<'_, '_> {
    fn leaf(
        &mut self,
        nodes: &Nodes<'_>,
        leaf: NodeReference,
        next: Option<&Key>,
    ) -> Result<(), ArchiveError> {
        let first = leaf.first.inode;
        self.write_changed(|inode| inode < first)?;
        let within = |inode: InodeId| next.is_none_or(|next| Key::of(inode) < *next);
        let touched =
            self.replaced == Some(first) || self.changed.first().is_some_and(|inode| within(*inode));
        if !touched {
            return self.assembler.keep_leaf(leaf);
        }
        for (key, record) in read_leaf(nodes, &leaf)? {
            self.write_changed(|inode| inode <= key.inode)?;
            if self.replaced != Some(key.inode) {
                self.assembler.keep_record(key, record)?;
            }
        }
        Ok(())
    }

    /// Writes the changed inodes at the front that fit.
    fn write_changed(&mut self, fits: impl Fn(InodeId) -> bool) -> Result<(), ArchiveError> {
        while let Some(first) = self.changed.first().copied().filter(|inode| fits(*inode)) {
            // Neighbours are asked for together.
            let following = self.changed.iter().zip(first.0..);
            let count = following
                .take_while(|(inode, expected)| inode.0 == *expected && fits(**inode))
                .count()
                .max(1);
            let (now, later) = self.changed.split_at(count);
            self.changed = later;
            let last = now.last().copied().unwrap_or(first);
            self.replaced = Some(last);
            let (base, tree) = (self.base, self.tree);
            let (nodes, source) = (self.assembler.nodes(), self.assembler.source());
            let mut kept = |inode: InodeId, node: &Node| {
                if node.kind != FileKind::Regular || node.size < PARTS_BYTES_MIN {
                    return Ok(Kept::new());
                }
                let same = source.same_data(base, inode).map_err(ArchiveError::Source)?;
                kept_runs(nodes, tree, inode, &same)
            };
            self.assembler
                .inodes(first, InodeId(last.0.saturating_add(1)), &mut kept)?;
        }
        Ok(())
    }
}

/// The base's runs of a file that lie within what has not changed.
fn kept_runs(
    nodes: &Nodes<'_>,
    tree: &TreeRoot,
    inode: InodeId,
    same: &[ByteRange],
) -> Result<Kept, ArchiveError> {
    let mut kept = Kept::new();
    if same.is_empty() {
        return Ok(kept);
    }
    for found in records(nodes, tree, Key::of(inode)) {
        let (key, record) = found?;
        if key.inode != inode {
            break;
        }
        for (at, id, length) in record.chunks(&key) {
            let end = at.saturating_add(u64::from(length));
            let range = same.partition_point(|range| range.end() <= at);
            let within = same
                .get(range)
                .is_some_and(|range| range.start() <= at && end <= range.end());
            if within && kept.len() < KEPT_RUNS_MAX {
                kept.push_back((at, Run::Chunk(id, length)));
            }
        }
    }
    Ok(kept)
}
