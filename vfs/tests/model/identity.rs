//! Which object of the subject is which of the model's. Each side gives out its own numbers; an object keeps its number
//! as long as it lives, and a number is never given out twice.

use std::collections::BTreeMap;

use cairn_types::{InodeId, SnapshotId, VolumeId};
use cairn_vfs::control::{Restored, Snapshot, SnapshotOrigin, Workspace};
use cairn_vfs::filesystem::{Attributes, Change, ObjectId};

use crate::execute::Outcome;

/// The objects of one volume.
#[derive(Debug, Clone)]
pub struct Volume {
    /// The subject's name for the volume.
    pub subject: VolumeId,
    pub to_subject: BTreeMap<InodeId, (InodeId, u32)>,
    to_model: BTreeMap<InodeId, InodeId>,
}

impl Volume {
    /// A volume of which nothing is known.
    pub fn new(subject: VolumeId) -> Self {
        Volume {
            subject,
            to_subject: BTreeMap::new(),
            to_model: BTreeMap::new(),
        }
    }

    /// The same objects in a fork, as far as they are in it.
    pub fn forked(&self, subject: VolumeId, contains: impl Fn(InodeId) -> bool) -> Volume {
        let mut fork = Volume::new(subject);
        for (model, (inode, generation)) in self.to_subject.iter().filter(|(model, _)| contains(**model)) {
            fork.to_subject.insert(*model, (*inode, *generation));
            fork.to_model.insert(*inode, *model);
        }
        fork
    }

    /// The subject's handle of an inode of the model.
    pub fn subject_of(&self, inode: InodeId) -> Option<ObjectId> {
        let (inode, generation) = *self.to_subject.get(&inode)?;
        Some(ObjectId {
            volume: self.subject,
            inode,
            generation,
        })
    }

    /// Learns that two objects are one.
    pub fn bind(&mut self, model: InodeId, subject: ObjectId) -> Result<(), String> {
        if subject.volume != self.subject {
            return Err(format!("{subject:?} is not of volume {}", self.subject));
        }
        match (self.to_model.get(&subject.inode), self.subject_of(model)) {
            (None, None) => {
                self.to_model.insert(subject.inode, model);
                self.to_subject.insert(model, (subject.inode, subject.generation));
                Ok(())
            }
            (Some(known), Some(bound)) if *known == model && bound == subject => Ok(()),
            (known, bound) => Err(format!(
                "{subject:?} was given out for the model's inode {model}, but that was {bound:?} and it was {known:?}"
            )),
        }
    }

    /// The model's inode for a number of the subject.
    pub fn model_of(&self, inode: InodeId) -> Option<InodeId> {
        self.to_model.get(&inode).copied()
    }

    /// Makes the subject's attributes comparable with those of the model, whose volume is `volume`: in the model's
    /// numbers, and without what is each implementation's own.
    pub fn translate(&self, volume: VolumeId, attributes: &mut Attributes) -> Result<(), String> {
        let object = attributes.object;
        let known = self
            .model_of(object.inode)
            .filter(|inode| self.subject_of(*inode) == Some(object));
        let inode = known.ok_or_else(|| format!("{object:?} was never given out"))?;
        attributes.object = ObjectId {
            volume,
            inode,
            generation: 0,
        };
        neutralise(attributes);
        Ok(())
    }

    fn translate_change(&self, volume: VolumeId, change: &mut Change) -> Result<(), String> {
        self.translate(volume, &mut change.after)?;
        if change.after.kind == cairn_types::FileKind::Directory {
            change.before.size = 0;
        }
        Ok(())
    }

    /// As [`Volume::translate`], for everything in an outcome.
    pub fn translate_outcome(&self, volume: VolumeId, outcome: &mut Outcome) -> Result<(), String> {
        match outcome {
            Outcome::Attributes(attributes)
            | Outcome::Read { attributes, .. }
            | Outcome::Target(_, attributes) => self.translate(volume, attributes),
            Outcome::Found(found) => {
                self.translate(volume, &mut found.attributes)?;
                self.translate(volume, &mut found.directory)
            }
            Outcome::Change(change) => self.translate_change(volume, change),
            Outcome::Written(written) => self.translate_change(volume, &mut written.change),
            Outcome::Created(created) => {
                self.translate(volume, &mut created.attributes)?;
                self.translate_change(volume, &mut created.directory)
            }
            Outcome::Renamed(renamed) => {
                self.translate_change(volume, &mut renamed.from)?;
                self.translate_change(volume, &mut renamed.to)
            }
            Outcome::Linked(linked) => {
                self.translate(volume, &mut linked.attributes)?;
                self.translate_change(volume, &mut linked.directory)
            }
        }
    }
}

/// Takes away what is each implementation's own: storage in use, and the size of a directory.
pub fn neutralise(attributes: &mut Attributes) {
    attributes.used = 0;
    if attributes.kind == cairn_types::FileKind::Directory {
        attributes.size = 0;
    }
}

/// The snapshots of both sides, in the order in which they were taken.
#[derive(Debug, Default)]
pub struct Snapshots(pub Vec<(SnapshotId, SnapshotId)>);

impl Snapshots {
    /// Learns that two snapshots are one.
    pub fn bind(&mut self, model: SnapshotId, subject: SnapshotId) -> Result<(), String> {
        if self.0.iter().any(|(_, known)| *known == subject) {
            return Err(format!("snapshot id {subject} was given out twice"));
        }
        self.0.push((model, subject));
        Ok(())
    }

    fn translate(&self, id: &mut SnapshotId) -> Result<(), String> {
        let known = self.0.iter().find(|(_, subject)| subject == id);
        *id = known
            .ok_or_else(|| format!("snapshot id {id} was never given out"))?
            .0;
        Ok(())
    }

    /// Puts a snapshot into the model's ids. What a restore notes on its safety snapshot is its own affair.
    pub fn translate_snapshot(&self, snapshot: &mut Snapshot) -> Result<(), String> {
        if snapshot.origin == SnapshotOrigin::Safety {
            snapshot.note.clear();
        }
        self.translate(&mut snapshot.id)?;
        snapshot
            .parent
            .as_mut()
            .map_or(Ok(()), |parent| self.translate(parent))
    }

    /// Puts a restore's outcome into the model's ids.
    pub fn translate_restored(&self, restored: &mut Restored) -> Result<(), String> {
        self.translate_snapshot(&mut restored.snapshot)?;
        self.translate_snapshot(&mut restored.safety)
    }

    /// Puts a workspace into the model's ids.
    pub fn translate_workspace(&self, workspace: &mut Workspace, volume: VolumeId) -> Result<(), String> {
        workspace.volume = volume;
        workspace
            .forked_from
            .as_mut()
            .map_or(Ok(()), |origin| self.translate(origin))
    }
}
