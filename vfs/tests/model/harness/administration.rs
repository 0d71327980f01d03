//! Workspaces and snapshots: the operations of an administrator, and the comparison of what they made.

use std::collections::BTreeSet;
use std::fmt::Debug;

use cairn_types::{SnapshotReference, Tag, VolumeId, WorkspaceName};
use cairn_vfs::FileSystem;
use cairn_vfs::control::{CapacityLimits, ControlError, Difference, DifferenceKind, NewSnapshot, Workspace};

use super::{Harness, workspace_name};
use crate::compare::{Comparison, Cookies};
use crate::identity::Volume;
use crate::model::control::within;
use crate::operations::{Operation, Reference};
use crate::subject::Subject;
use crate::tree::difference::Graded;

type Answer<T> = Result<T, ControlError>;

/// The outcomes of both sides if they succeeded, `None` if both refused for the same reason.
fn both<T: Debug, S: Debug>(model: Answer<T>, subject: Answer<S>) -> Result<Option<(T, S)>, String> {
    match (model, subject) {
        (Ok(model), Ok(subject)) => Ok(Some((model, subject))),
        (Err(model), Err(subject)) if std::mem::discriminant(&model) == std::mem::discriminant(&subject) => {
            Ok(None)
        }
        (model, subject) => Err(format!("the model says {model:?}, the subject {subject:?}")),
    }
}

fn same<T: Debug + PartialEq>(model: &T, subject: &T) -> Result<(), String> {
    if model == subject {
        return Ok(());
    }
    Err(format!(
        "the subject says\n  {subject:?}\nand should say\n  {model:?}"
    ))
}

fn tag(index: u8) -> Tag {
    Tag::new(&format!("tag-{index}")).expect("letters and a number are a tag")
}

impl Harness<'_> {
    /// Learns of a new workspace; `parent` is the volume that it was forked from.
    pub(super) fn new_workspace(
        &mut self,
        model: Answer<Workspace>,
        subject: Answer<Workspace>,
        parent: Option<VolumeId>,
    ) -> Result<(), String> {
        let Some((model, mut subject)) = both(model, subject)? else {
            return Ok(());
        };
        let known = match parent {
            None => {
                let path = format!("/{}", subject.name);
                let root = self
                    .subject
                    .files()
                    .mount(path.as_bytes())
                    .map_err(|e| format!("mount: {e:?}"))?;
                let mut volume = Volume::new(subject.volume);
                volume.bind(cairn_types::InodeId::ROOT, root.object)?;
                volume
            }
            Some(parent) => self.model.view(|state| {
                let tree = state.space(model.volume).map(|space| &space.tree);
                let contains = |inode| tree.is_some_and(|tree| tree.inodes.contains_key(&inode));
                self.volumes[&parent].forked(subject.volume, contains)
            }),
        };
        if self
            .volumes
            .values()
            .any(|volume| volume.subject == subject.volume)
        {
            return Err(format!("volume {} was given out twice", subject.volume));
        }
        self.volumes.insert(model.volume, known);
        self.snapshots.translate_workspace(&mut subject, model.volume)?;
        same(&model, &subject)
    }

    /// How each side calls a snapshot.
    fn reference(&self, reference: Reference) -> (SnapshotReference, SnapshotReference) {
        let parse = |text: &str| SnapshotReference::parse(text).expect("ids and tags are references");
        let unknown = || (parse("no-such-snapshot"), parse("no-such-snapshot"));
        let identified = |index: u8, digits: usize| match self.snapshots.0.len() {
            0 => unknown(),
            count => {
                let (model, subject) = self.snapshots.0[usize::from(index) % count];
                (
                    parse(&model.to_string()[..digits]),
                    parse(&subject.to_string()[..digits]),
                )
            }
        };
        match reference {
            Reference::Latest => (SnapshotReference::Latest, SnapshotReference::Latest),
            Reference::Tagged(index) => (
                SnapshotReference::Name(tag(index)),
                SnapshotReference::Name(tag(index)),
            ),
            Reference::Id(index) => identified(index, 32),
            Reference::Short(index) => identified(index, 12),
            Reference::Unknown => unknown(),
        }
    }

    fn volume(&self, name: &WorkspaceName) -> Option<VolumeId> {
        self.model
            .view(|state| state.spaces.get(name).map(|space| space.tree.volume))
    }

    /// Runs one operation on both sides.
    pub(super) fn administer(&mut self, operation: &Operation) -> Result<(), String> {
        match *operation {
            Operation::Snapshot {
                workspace,
                tag: index,
            } => {
                let name = workspace_name(workspace);
                let new = NewSnapshot {
                    note: format!("step {}", self.step),
                    tags: index.map(tag).into_iter().collect(),
                };
                let answers = (
                    self.model.snapshot(&name, new.clone()),
                    self.subject.snapshot(&name, new),
                );
                if let Some((model, mut subject)) = both(answers.0, answers.1)? {
                    self.snapshots.bind(model.id, subject.id)?;
                    self.snapshots.translate_snapshot(&mut subject)?;
                    same(&model, &subject)?;
                    self.volume(&name)
                        .into_iter()
                        .for_each(|volume| self.settle_volume(volume));
                }
                self.compare_history(&name)
            }
            Operation::Restore { workspace, reference } => {
                let name = workspace_name(workspace);
                let (of_model, of_subject) = self.reference(reference);
                let answers = (
                    self.model.restore(&name, &of_model),
                    self.subject.restore(&name, &of_subject),
                );
                if let Some((model, mut subject)) = both(answers.0, answers.1)? {
                    self.snapshots.bind(model.safety.id, subject.safety.id)?;
                    self.snapshots.translate_restored(&mut subject)?;
                    same(&model, &subject)?;
                    if let Some(volume) = self.volume(&name) {
                        self.settle_volume(volume);
                        // The snapshot's entries need not have the cookies of the live tree.
                        self.cookies.remove(&volume);
                        self.listing = None;
                    }
                    self.compare_snapshots()?;
                }
                self.compare_history(&name)
            }
            Operation::Fork {
                workspace,
                reference,
                new,
            } => {
                let (name, new) = (workspace_name(workspace), workspace_name(new));
                let (of_model, of_subject) = self.reference(reference);
                let parent = self.volume(&name);
                let model = self.model.fork(&name, &of_model, &new);
                let subject = self.subject.fork(&name, &of_subject, &new);
                self.new_workspace(model, subject, parent)
            }
            Operation::Diff { workspace, from, to } => {
                let name = workspace_name(workspace);
                let (from, to) = (self.reference(from), to.map(|to| self.reference(to)));
                let model = self
                    .model
                    .graded_diff(&name, &from.0, to.as_ref().map(|to| &to.0));
                let subject = self.subject.diff(&name, &from.1, to.as_ref().map(|to| &to.1));
                match both(model, subject)? {
                    Some((model, subject)) => compare_differences(&model, &subject),
                    None => Ok(()),
                }
            }
            Operation::Resolve { workspace, reference } => {
                let name = workspace_name(workspace);
                let (of_model, of_subject) = self.reference(reference);
                let answers = (
                    self.model.resolve(&name, &of_model),
                    self.subject.resolve(&name, &of_subject),
                );
                let Some((model, mut subject)) = both(answers.0, answers.1)? else {
                    return Ok(());
                };
                self.snapshots.translate_snapshot(&mut subject)?;
                same(&model, &subject)
            }
            Operation::Delete {
                workspace,
                with_snapshots,
            } => {
                let name = workspace_name(workspace);
                let deleted = self.volume(&name);
                let model = self.model.delete_workspace(&name, with_snapshots);
                let subject = self.subject.delete_workspace(&name, with_snapshots);
                if both(model, subject)?.is_some()
                    && let Some(volume) = deleted
                {
                    self.settle_volume(volume);
                }
                // What was forked from it is not touched.
                self.compare_snapshots()
            }
            Operation::DeleteSnapshot { workspace, reference } => {
                let name = workspace_name(workspace);
                let (of_model, of_subject) = self.reference(reference);
                let answers = (
                    self.model.delete_snapshot(&name, &of_model),
                    self.subject.delete_snapshot(&name, &of_subject),
                );
                if let Some((model, mut subject)) = both(answers.0, answers.1)? {
                    self.snapshots.translate_snapshot(&mut subject)?;
                    same(&model, &subject)?;
                    // The neighbours are what they were.
                    self.compare_snapshots()?;
                }
                self.compare_history(&name)
            }
            Operation::SetCapacity {
                workspace,
                bytes,
                inodes,
            } => {
                let name = workspace_name(workspace);
                let usage = self.model.workspace(&name).ok();
                let limit = |more: Option<i64>, now: fn(&Workspace) -> u64| {
                    let now = usage.as_ref().map_or(0, now);
                    more.map(|more| now.saturating_add_signed(more))
                };
                let limits = CapacityLimits {
                    bytes: limit(bytes, |workspace| workspace.bytes),
                    inodes: limit(inodes, |workspace| workspace.inodes),
                };
                let answers = (
                    self.model.set_capacity(&name, limits),
                    self.subject.set_capacity(&name, limits),
                );
                match both(answers.0, answers.1)? {
                    Some((model, subject)) => same(&model.limits, &subject.limits),
                    None => Ok(()),
                }
            }
            _ => Err(format!("{operation:?} is no operation of an administrator")),
        }
    }

    /// The workspaces, one by one and all together, and the exports.
    pub(super) fn compare_workspaces(&self) -> Result<(), String> {
        let model = self.model.workspaces().map_err(|error| format!("{error:?}"))?;
        let mut subject = self
            .subject
            .workspaces()
            .map_err(|error| format!("workspaces: {error:?}"))?;
        if subject.len() != model.len() {
            return Err(format!(
                "workspaces gives\n  {subject:?}\nand should give\n  {model:?}"
            ));
        }
        for (model, subject) in model.iter().zip(&mut subject) {
            let single = self
                .subject
                .workspace(&model.name)
                .map_err(|error| format!("workspace: {error:?}"))?;
            same(&single, subject)?;
            same(&self.volumes[&model.volume].subject, &subject.volume)?;
            self.snapshots.translate_workspace(subject, model.volume)?;
            same(model, subject)?;
        }
        let (model, subject) = (self.model.exports(), self.subject.files().exports());
        let paths = |exports: &[cairn_vfs::filesystem::Export]| -> Vec<String> {
            exports.iter().map(|export| export.path.clone()).collect()
        };
        same(&paths(&model), &paths(&subject))?;
        for export in &subject {
            same(&Some(export.clone()), &self.subject.files().export(export.volume))?;
        }
        Ok(())
    }

    fn compare_history(&self, name: &WorkspaceName) -> Result<(), String> {
        let answers = (self.model.history(name), self.subject.history(name));
        let Some((model, mut subject)) = both(answers.0, answers.1)? else {
            return Ok(());
        };
        subject
            .iter_mut()
            .try_for_each(|snapshot| self.snapshots.translate_snapshot(snapshot))?;
        same(&model, &subject)
    }

    /// Forks every snapshot and compares the fork with the model's copy.
    pub(super) fn compare_snapshots(&mut self) -> Result<(), String> {
        let spaces = self.model.view(|state| state.spaces.clone());
        for (name, space) in &spaces {
            self.compare_history(name)?;
            for saved in &space.snapshots {
                if within(name, &saved.tree, space.limits).is_err() {
                    // It cannot be forked now.
                    continue;
                }
                self.probes += 1;
                let probe =
                    WorkspaceName::new(&format!("probe-{}", self.probes)).map_err(|e| e.to_string())?;
                let ids = self
                    .snapshots
                    .0
                    .iter()
                    .find(|(model, _)| *model == saved.snapshot.id);
                let id = ids.ok_or("a snapshot of the model is not known")?.1;
                let reference = SnapshotReference::parse(&id.to_string()).map_err(|e| e.to_string())?;
                let what =
                    |what: String| format!("snapshot {id} of {name} (\"{}\"): {what}", saved.snapshot.note);
                let fork = self.subject.fork(name, &reference, &probe);
                let fork = fork.map_err(|error| what(format!("{error:?}")))?;
                let parent = &self.volumes[&space.tree.volume];
                let volume = parent.forked(fork.volume, |inode| saved.tree.inodes.contains_key(&inode));
                let comparison = Comparison {
                    tree: &saved.tree,
                    files: self.subject.files(),
                    volume: &volume,
                };
                comparison.compare(&mut Cookies::new()).map_err(what)?;
                self.subject
                    .delete_workspace(&probe, true)
                    .map_err(|error| what(format!("{error:?}")))?;
            }
        }
        Ok(())
    }
}

/// Whether the subject reports every difference once, in the order of paths, and nothing else.
fn compare_differences(model: &[Graded], subject: &[Difference]) -> Result<(), String> {
    let components = |difference: &Difference| -> Vec<Vec<u8>> {
        difference
            .path
            .split(|byte| *byte == b'/')
            .map(<[u8]>::to_vec)
            .collect()
    };
    if !subject.is_sorted_by(|a, b| components(a) < components(b)) {
        return Err(format!(
            "the differences are not in the order of paths: {subject:?}"
        ));
    }
    let mut reported = BTreeSet::new();
    for (expected, degree) in model {
        match subject.iter().find(|found| found.path == expected.path) {
            None if degree.optional => continue,
            None => return Err(format!("not reported: {expected:?}")),
            Some(found) => {
                let mut expected = expected.clone();
                if degree.rewritten && found.kind == DifferenceKind::Modified {
                    expected.kind = DifferenceKind::Modified;
                }
                same(&expected, found)?;
            }
        }
        reported.insert(&expected.path);
    }
    match subject.iter().find(|found| !reported.contains(&found.path)) {
        None => Ok(()),
        Some(found) => Err(format!("no difference, and reported: {found:?}")),
    }
}
