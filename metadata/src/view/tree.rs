//! The objects of a state in the order of a tree (`cairn_types::tree`): one scan, cut into batches.
//!
//! Entries are taken from the keys by name; those by cookie, which say the same, are passed over. What is left of a removed
//! inode (extents that wait for the sweep) is in no tree. The place within an inode, in a cursor, is the body to go on at; an
//! inode is begun only with its attributes, so that a cursor within one means that it has some.

use bytes::Bytes;
use cairn_types::{FileKind, InodeId, Node, TreeCursor, TreeItem, TreeObject};

use super::View;
use crate::error::MetadataError;
use crate::keyspace::codec::DecodeError;
use crate::keyspace::dirent::DirentRecord;
use crate::keyspace::extent::ExtentRecord;
use crate::keyspace::inode::InodeRecord;
use crate::keyspace::{ObjectKind, body, prefix_end};

/// Bytes of values after which a batch ends, whatever its limit.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// From this many entries on, those by cookie are passed over by a new scan behind them.
const ENTRIES_SKIPPED_MIN: u64 = 512;

/// What a scan has come to.
struct Progress<'a> {
    items: &'a mut Vec<TreeItem>,
    left: usize,
    bytes: usize,
    /// The inode whose attributes were seen last.
    current: Option<InodeId>,
    /// Where a new scan shall go on.
    skip_to: Option<Vec<u8>>,
    /// The last body that was seen.
    last: Option<Bytes>,
    damage: Option<DecodeError>,
}

impl View<'_> {
    /// Adds to `items` the next objects at `cursor`, in the order of a tree, about `limit` of them, and moves the cursor behind
    /// them. Nothing is added when there are no more before the cursor's end.
    pub fn tree_items(
        &self,
        cursor: &mut TreeCursor,
        limit: usize,
        items: &mut Vec<TreeItem>,
    ) -> Result<(), MetadataError> {
        if cursor.inode >= cursor.end {
            return Ok(());
        }
        let within = !cursor.within.is_empty();
        let mut from = match within {
            true => cursor.within.clone(),
            false => cursor.inode.0.to_be_bytes().to_vec(),
        };
        let to = cursor.end.0.to_be_bytes();
        let mut progress = Progress {
            items,
            left: limit.max(1),
            bytes: 0,
            current: within.then_some(cursor.inode),
            skip_to: None,
            last: None,
            damage: None,
        };
        loop {
            self.scan(&from, &to, &mut |body, value| match progress.take(body, value) {
                Ok(more) => more,
                Err(error) => {
                    progress.damage = Some(error);
                    false
                }
            })?;
            if let Some(error) = progress.damage {
                return Err(error.into());
            }
            match progress.skip_to.take() {
                Some(next) => from = next,
                None => break,
            }
        }
        let full = progress.left == 0 || progress.bytes >= BATCH_BYTES_MAX;
        match (progress.last, progress.current) {
            (Some(last), Some(current)) if full => {
                let (inode, _) = split(&last)?;
                // Behind an inode without attributes nothing is within one.
                cursor.inode = if inode == current {
                    inode
                } else {
                    InodeId(inode.0 + 1)
                };
                cursor.within = if inode == current {
                    prefix_end(&last)
                } else {
                    Vec::new()
                };
            }
            _ => {
                cursor.inode = cursor.end;
                cursor.within = Vec::new();
            }
        }
        Ok(())
    }
}

impl Progress<'_> {
    /// Takes an object; `false` if the scan shall end here.
    fn take(&mut self, body_of: &Bytes, value: &Bytes) -> Result<bool, DecodeError> {
        let (inode, kind) = split(body_of)?;
        self.last = Some(body_of.clone());
        let object = if kind == ObjectKind::Attributes as u8 {
            let record = InodeRecord::decode(value)?;
            self.current = Some(inode);
            if record.entries >= ENTRIES_SKIPPED_MIN {
                self.skip_to = Some(body(inode, ObjectKind::EntryByName));
            }
            TreeObject::Node(node(&record))
        } else if self.current != Some(inode) || kind == ObjectKind::EntryByCookie as u8 {
            return Ok(true);
        } else if kind == ObjectKind::EntryByName as u8 {
            let entry = DirentRecord::decode_by_name(body_of, value)?;
            let name = body_of.slice(9..body_of.len() - 1);
            TreeObject::Entry {
                name,
                inode: entry.inode,
                kind: entry.kind,
            }
        } else if kind == ObjectKind::LinkTarget as u8 {
            TreeObject::Target(value.clone())
        } else if kind == ObjectKind::InlineData as u8 {
            TreeObject::Inline(value.clone())
        } else if kind == ObjectKind::Extent as u8 {
            let record = ExtentRecord::decode(body_of, value)?;
            TreeObject::Extent {
                start: record.start,
                extent: record.extent,
            }
        } else {
            return Err(unknown(body_of));
        };
        self.items.push(TreeItem { inode, object });
        self.left -= 1;
        self.bytes += value.len();
        let full = self.left == 0 || self.bytes >= BATCH_BYTES_MAX;
        if full {
            self.skip_to = None;
        }
        Ok(!full && self.skip_to.is_none())
    }
}

fn unknown(body: &[u8]) -> DecodeError {
    DecodeError {
        what: "object key",
        offset: body.len().min(8),
    }
}

/// The inode and the kind of a body.
fn split(body: &[u8]) -> Result<(InodeId, u8), DecodeError> {
    let (inode, rest) = body.split_first_chunk::<8>().ok_or(unknown(body))?;
    let kind = *rest.first().ok_or(unknown(body))?;
    Ok((InodeId(u64::from_be_bytes(*inode)), kind))
}

/// What of an inode's attributes travels with it.
fn node(record: &InodeRecord) -> Node {
    Node {
        kind: record.kind,
        mode: record.mode,
        links: record.links,
        uid: record.uid,
        gid: record.gid,
        size: record.size,
        device: record.device,
        accessed: record.accessed,
        modified: record.modified,
        changed: record.changed,
        generation: record.generation,
        data_version: record.data_version,
        parent: match record.kind {
            FileKind::Directory => record.parent,
            _ => InodeId(0),
        },
    }
}
