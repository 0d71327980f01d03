//! What a stop may take: the oracle of durability.

use cairn_types::{InodeId, Timestamp, VolumeId};
use cairn_vfs::filesystem::{Attributes, ObjectId, Stability};

use super::{Harness, WRITE_STEPS_MAX, is_unstable};
use crate::execute::bytes;
use crate::operations::Operation;
use crate::subject::Stop;
use crate::tree::{Body, Contents, Inode};

/// Bytes of a file that are looked at after a stop; a model's file has no data beyond.
const LOOK_BYTES: u64 = 8 << 20;

/// The states of a file with data that may be lost, from the last that is known to be durable to the present one.
#[derive(Debug)]
pub struct Unsettled {
    states: Vec<Inode>,
    /// The first state whose size is possible: since then none was set durably.
    sizes_from: usize,
}

impl Harness<'_> {
    /// Keeps account of what may be lost, after an operation on `object`, which was `earlier`.
    pub(super) fn settle(
        &mut self,
        operation: &Operation,
        object: ObjectId,
        earlier: Option<Inode>,
        written: Option<Stability>,
    ) {
        let key = (object.volume, object.inode);
        if let (true, Some(earlier)) = (is_unstable(written), earlier) {
            self.unsettled.entry(key).or_insert(Unsettled {
                states: vec![earlier],
                sizes_from: 0,
            });
        }
        if matches!(operation, Operation::Commit { .. }) {
            self.unsettled.remove(&key);
        }
        let sized = matches!(operation, Operation::SetSize { .. });
        let unsettled = &mut self.unsettled;
        self.model.view(|state| {
            unsettled.retain(|(volume, inode), kept| {
                let now = state
                    .space(*volume)
                    .and_then(|space| space.tree.inodes.get(inode));
                let Some(now) = now else { return false };
                if kept.states.last() != Some(now) {
                    kept.states.push(now.clone());
                    if sized && (*volume, *inode) == key {
                        kept.sizes_from = kept.states.len() - 1;
                    }
                }
                true
            });
        });
    }

    /// A snapshot and a restore make durable what they save.
    pub(super) fn settle_volume(&mut self, volume: VolumeId) {
        self.unsettled.retain(|(of, _), _| *of != volume);
    }

    /// Stops the subject, starts it, and takes over what it has rightly lost.
    pub(super) fn restart(&mut self, stop: Stop) -> Result<(), String> {
        let verifier = self.subject.files().write_verifier();
        if !self.subject.restart(stop) {
            return Ok(());
        }
        if self.subject.files().write_verifier() == verifier {
            return Err(format!("the write verifier {verifier:?} has survived a stop"));
        }
        for ((volume, inode), unsettled) in std::mem::take(&mut self.unsettled) {
            let object = self.volumes[&volume]
                .subject_of(inode)
                .ok_or("an unsettled file is not known")?;
            let files = self.subject.files();
            let attributes = files
                .getattr(object)
                .map_err(|error| format!("after {stop:?}: {error:?}"))?;
            let read = bytes(files, object, 0, attributes.size.min(LOOK_BYTES) as u32)?;
            check(&unsettled, &attributes, &read)
                .map_err(|what| format!("after {stop:?}: inode {inode}: {what}"))?;
            self.adopt(volume, inode, &attributes, read);
        }
        self.compare_replies()?;
        self.compare_snapshots()
    }

    fn adopt(&self, volume: VolumeId, id: InodeId, attributes: &Attributes, read: Vec<u8>) {
        self.model.tamper(|state| {
            let space = state
                .space_mut(volume)
                .expect("an unsettled file's volume exists");
            let inode = space.tree.inode_mut(id);
            *inode.contents_mut() = Contents {
                written: read.into(),
                size: attributes.size,
            };
            inode.mode = attributes.mode;
            inode.modified = attributes.modified;
            inode.changed = attributes.changed;
        });
    }
}

/// Whether the file can have been changed then: each step of a write may survive without the next.
fn in_steps(found: Timestamp, state: &Inode) -> bool {
    let steps = found.nanoseconds().abs_diff(state.changed.nanoseconds());
    found.seconds() == state.changed.seconds() && steps < WRITE_STEPS_MAX
}

/// Whether the file can be what its states allow.
fn check(unsettled: &Unsettled, attributes: &Attributes, read: &[u8]) -> Result<(), String> {
    let states = &unsettled.states;
    let possible = |fits: &dyn Fn(&Inode) -> bool| states.iter().any(fits);
    if !states[unsettled.sizes_from..]
        .iter()
        .any(|state| state.size() == attributes.size)
    {
        return Err(format!("the size is {}", attributes.size));
    }
    if !possible(&|state| state.modified == attributes.modified || in_steps(attributes.modified, state)) {
        return Err(format!("modified is {:?}", attributes.modified));
    }
    if !possible(&|state| in_steps(attributes.changed, state)) {
        return Err(format!("changed is {:?}", attributes.changed));
    }
    if !possible(&|state| state.mode == attributes.mode) {
        return Err(format!("the mode is {:o}", attributes.mode));
    }
    let contents: Vec<&Contents> = states
        .iter()
        .filter_map(|state| match &state.body {
            Body::Regular(contents) => Some(contents),
            _ => None,
        })
        .collect();
    let byte = |contents: &Contents, at: usize| contents.written.get(at).copied().unwrap_or(0);
    for (at, found) in read.iter().enumerate() {
        if !contents.iter().any(|contents| byte(contents, at) == *found) {
            return Err(format!("byte {at} is {found}, which no write has put there"));
        }
    }
    Ok(())
}
