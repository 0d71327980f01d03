//! The state of a repository: which snapshot is the newest, what the workspace's content comes from, and the last numbers that were given.
//!
//! It can be made again from the descriptors: it is a cache of them, but for `head`, which is then the newest snapshot.

use cairn_types::SnapshotId;
use serde::{Deserialize, Serialize};

use super::descriptor::{Descriptor, Origin};
use super::document::Document;
use super::text;
use crate::directory::{Digest, RelativePath};

/// `state.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The token of the lease under which it was written. A lower one never replaces it.
    pub fence: u64,
    /// The last sequence number that was given to a snapshot; 0: none.
    pub sequence: u64,
    /// The newest snapshot of all, safety snapshots included: the parent of the next one.
    #[serde(with = "text::option")]
    pub last: Option<SnapshotId>,
    /// The newest snapshot that somebody asked for: what `latest` means.
    #[serde(with = "text::option")]
    pub newest: Option<SnapshotId>,
    /// The snapshot that the workspace's content comes from: that of the last save or of the last restore of everything.
    #[serde(with = "text::option")]
    pub head: Option<SnapshotId>,
    /// Paths that a restore brought back from another snapshot than `head` since then; at most [`State::PARTS_MAX`], oldest first.
    pub parts: Vec<PartSource>,
    /// The last record of the audit log when the state was written; a log without it has lost its end.
    pub audit: Option<AuditAnchor>,
}

/// Where the content of a path comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartSource {
    /// The path, and everything below it.
    #[serde(with = "text")]
    pub path: RelativePath,
    /// The snapshot that it comes from.
    #[serde(with = "text")]
    pub snapshot: SnapshotId,
}

/// A record of the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditAnchor {
    /// Its number.
    pub sequence: u64,
    /// Its hash.
    #[serde(with = "text")]
    pub hash: Digest,
}

impl State {
    /// Most paths in [`State::parts`].
    pub const PARTS_MAX: usize = 1000;

    /// The state after the snapshot `descriptor` was published. Its content is the workspace's only if it holds everything.
    pub fn after(&self, descriptor: &Descriptor) -> State {
        let mut next = self.clone();
        next.sequence = next.sequence.max(descriptor.sequence);
        next.last = Some(descriptor.id);
        if descriptor.origin.is_latest() {
            next.newest = Some(descriptor.id);
        }
        if descriptor.paths.is_none() && !matches!(descriptor.origin, Origin::Imported { .. }) {
            next.head = Some(descriptor.id);
            next.parts.clear();
        }
        next
    }

    /// The state after a restore of everything (`path` is `None`) or of one path from `snapshot`.
    pub fn restored(&self, snapshot: SnapshotId, path: Option<&RelativePath>) -> State {
        let mut next = self.clone();
        match path {
            Some(path) => {
                next.parts.retain(|part| !part.path.is_within(path));
                next.parts.push(PartSource {
                    path: path.clone(),
                    snapshot,
                });
                let surplus = next.parts.len().saturating_sub(Self::PARTS_MAX);
                next.parts.drain(..surplus);
            }
            None => {
                next.head = Some(snapshot);
                next.parts.clear();
            }
        }
        next
    }

    /// The state that descriptors tell, in any order.
    pub fn rebuilt<'a>(descriptors: impl IntoIterator<Item = &'a Descriptor>) -> State {
        let mut all: Vec<&Descriptor> = descriptors.into_iter().collect();
        all.sort_by_key(|descriptor| (descriptor.sequence, descriptor.created, descriptor.id));
        let mut state = State::default();
        for descriptor in all {
            state = state.after(descriptor);
            state.fence = state.fence.max(descriptor.fence);
        }
        state
    }
}

impl Document for State {
    const KIND: &'static str = "state";

    fn check(&self) -> Result<(), String> {
        match self.parts.len() <= Self::PARTS_MAX {
            true => Ok(()),
            false => Err(format!("more than {} parts", Self::PARTS_MAX)),
        }
    }
}
