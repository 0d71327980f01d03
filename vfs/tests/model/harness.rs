//! Runs a sequence of operations on a subject and on the model, and compares every outcome, and after every operation
//! everything that can be seen.
//!
//! What the model refuses the subject must refuse, for any reason that applies; what the model does the subject must do,
//! with the same attributes before and after. Every snapshot is compared too, through a fork of it.
//!
//! What was acknowledged survives a stop of the subject, with one exception: of a file written unstably and not committed
//! since, each byte may be that of any state it was in since it was last known to be durable, and so may size, times and
//! set-id bits. The model then takes over what the subject shows.

mod administration;
mod listing;
mod restart;

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_types::{ExportPolicy, InodeId, VolumeId, WorkspaceName};
use cairn_vfs::control::NewWorkspace;
use cairn_vfs::filesystem::{Attributes, CreateMode, ObjectId, Stability};

use crate::compare::{Comparison, Cookies};
use crate::execute::{Environment, Outcome, caller, wait};
use crate::identity::{Snapshots, Volume};
use crate::model::{Model, State};
use crate::operations::{How, Operation, Pick, Target};
use crate::refusal::Reason;
use crate::subject::{Subject, TestClock};
use crate::tree::{Body, WRITE};

/// Steps in which a subject may make one write. Fewer than the nanoseconds of a tick of the clock.
const WRITE_STEPS_MAX: u32 = 8;

/// An object under both of its handles.
#[derive(Debug, Clone, Copy)]
struct Pair {
    model: ObjectId,
    subject: ObjectId,
}

/// Where a sequence went wrong.
#[derive(Debug)]
pub struct Mismatch {
    /// Index of the operation; the length of the sequence if it was found at its end.
    pub step: usize,
    /// What is wrong.
    pub what: String,
}

/// A subject, the model, and what is known of how they correspond.
pub struct Harness<'a> {
    model: Model,
    subject: &'a mut dyn Subject,
    clock: Arc<TestClock>,
    volumes: BTreeMap<VolumeId, Volume>,
    snapshots: Snapshots,
    cookies: BTreeMap<VolumeId, Cookies>,
    listing: Option<listing::Listing>,
    unsettled: BTreeMap<(VolumeId, InodeId), restart::Unsettled>,
    step: u64,
    probes: u64,
}

/// The name of one of the few workspaces.
pub fn workspace_name(index: u8) -> WorkspaceName {
    WorkspaceName::new(&format!("w{index}")).expect("a letter and a number are a name")
}

/// Runs `operations` on a new node: `subject` must be empty and read `clock`.
pub fn run(
    subject: &mut dyn Subject,
    clock: &Arc<TestClock>,
    operations: &[Operation],
) -> Result<(), Mismatch> {
    let mut harness = Harness::new(subject, clock).map_err(|what| Mismatch { step: 0, what })?;
    for (step, operation) in operations.iter().enumerate() {
        harness.step(operation).map_err(|what| Mismatch { step, what })?;
    }
    harness.finish().map_err(|what| Mismatch {
        step: operations.len(),
        what,
    })
}

impl<'a> Harness<'a> {
    fn new(subject: &'a mut dyn Subject, clock: &Arc<TestClock>) -> Result<Self, String> {
        let mut harness = Harness {
            model: Model::new(Arc::clone(clock)),
            subject,
            clock: Arc::clone(clock),
            volumes: BTreeMap::new(),
            snapshots: Snapshots::default(),
            cookies: BTreeMap::new(),
            listing: None,
            unsettled: BTreeMap::new(),
            step: 0,
            probes: 0,
        };
        let policy = ExportPolicy::default();
        let new = NewWorkspace {
            name: workspace_name(0),
            policy,
            uid: 0,
            gid: 0,
            mode: 0o777,
        };
        let model = harness.model.create_workspace(new.clone());
        let subject = harness.subject.create_workspace(new);
        harness.new_workspace(model, subject, None)?;
        harness.compare_trees()?;
        Ok(harness)
    }

    /// Runs one operation on both sides.
    fn step(&mut self, operation: &Operation) -> Result<(), String> {
        self.clock.tick();
        self.step += 1;
        match *operation {
            Operation::List {
                caller,
                directory,
                entries,
            } => self.start_listing(caller, directory, entries)?,
            Operation::ListOn { entries } => self.continue_listing(entries)?,
            Operation::Restart { stop } => self.restart(stop)?,
            Operation::Snapshot { .. }
            | Operation::Restore { .. }
            | Operation::Fork { .. }
            | Operation::Diff { .. }
            | Operation::Resolve { .. }
            | Operation::Delete { .. }
            | Operation::DeleteSnapshot { .. }
            | Operation::SetCapacity { .. } => self.administer(operation)?,
            _ => self.files(operation)?,
        }
        self.compare_trees()
    }

    fn finish(mut self) -> Result<(), String> {
        self.compare_snapshots()?;
        self.compare_replies()
    }

    fn files(&mut self, operation: &Operation) -> Result<(), String> {
        let targets: Vec<Pair> = targets(operation)
            .into_iter()
            .map(|target| self.find(target))
            .collect();
        if self.model.view(|state| is_left_open(state, operation, &targets)) {
            return Ok(());
        }
        let of_model: Vec<ObjectId> = targets.iter().map(|pair| pair.model).collect();
        let of_subject: Vec<ObjectId> = targets.iter().map(|pair| pair.subject).collect();
        let first = of_model[0];
        let earlier = self.model.view(|state| {
            let space = state.space(first.volume)?;
            Some(space.tree.inodes.get(&first.inode)?.clone())
        });
        let changed = earlier.as_ref().map(|inode| inode.changed);
        let environment = |files, objects| Environment {
            files,
            objects,
            changed,
            step: self.step,
        };
        let mut expected = environment(&self.model, &of_model).execute(operation)?;
        let mut found = environment(self.subject.files(), &of_subject).execute(operation)?;
        let written = match &found {
            Ok(Outcome::Written(written)) => Some(written.stability),
            _ => None,
        };
        match (&mut expected, &mut found) {
            (Ok(expected), Ok(found)) => {
                self.learn(first.volume, expected, found)?;
                self.adopt_time(expected, found);
                self.same(first.volume, expected, found)?;
            }
            (Err(expected), Err(found)) => self.same_reason(expected, found)?,
            _ => return Err(format!("the model says {expected:?}, the subject {found:?}")),
        }
        if let (
            Operation::Create {
                caller,
                name,
                how: How::Exclusive,
                ..
            },
            Ok(made),
        ) = (operation, expected)
        {
            self.repeat_exclusive(*caller, *name, targets[0], &made)?;
        }
        self.settle(operation, first, earlier, written);
        Ok(())
    }

    /// The objects that a target means now.
    fn find(&self, target: Target) -> Pair {
        self.model.view(|state| {
            let spaces: Vec<_> = state.spaces.values().collect();
            let tree = &spaces[usize::from(target.workspace) % spaces.len()].tree;
            let fits = |wanted: Option<bool>| -> Vec<InodeId> {
                let kind = |body: &Body| match wanted {
                    None => true,
                    Some(true) => matches!(body, Body::Directory(_)),
                    Some(false) => matches!(body, Body::Regular(_)),
                };
                tree.inodes
                    .iter()
                    .filter(|(_, inode)| kind(&inode.body))
                    .map(|(id, _)| *id)
                    .collect()
            };
            let (index, candidates): (u8, Vec<ObjectId>) = match target.pick {
                Pick::Directory(index) => (
                    index,
                    fits(Some(true)).into_iter().map(|id| tree.object(id)).collect(),
                ),
                Pick::File(index) => (
                    index,
                    fits(Some(false)).into_iter().map(|id| tree.object(id)).collect(),
                ),
                Pick::Any(index) => (index, fits(None).into_iter().map(|id| tree.object(id)).collect()),
                Pick::Gone(index) => (index, self.gone(state)),
            };
            let model = match candidates.len() {
                0 => tree.object(InodeId::ROOT),
                count => candidates[usize::from(index) % count],
            };
            let subject = self.volumes[&model.volume].subject_of(model.inode);
            Pair {
                model,
                subject: subject.expect("every object of a compared tree is known"),
            }
        })
    }

    /// Every object that was ever seen and does not exist.
    fn gone(&self, state: &State) -> Vec<ObjectId> {
        let exists = |volume, inode: &InodeId| {
            state
                .space(volume)
                .is_some_and(|space| space.tree.inodes.contains_key(inode))
        };
        let mut gone = Vec::new();
        for (volume, known) in &self.volumes {
            let inodes = known.to_subject.keys().filter(|inode| !exists(*volume, inode));
            gone.extend(inodes.map(|inode| ObjectId {
                volume: *volume,
                inode: *inode,
                generation: 0,
            }));
        }
        gone
    }

    /// Learns the handles of what was made.
    fn learn(&mut self, volume: VolumeId, expected: &Outcome, found: &Outcome) -> Result<(), String> {
        if let (Outcome::Created(expected), Outcome::Created(found)) = (expected, found) {
            let (model, subject) = (expected.attributes.object.inode, found.attributes.object);
            self.volumes
                .get_mut(&volume)
                .expect("the object was made in a known volume")
                .bind(model, subject)?;
        }
        Ok(())
    }

    /// A write may take several steps, each a nanosecond after the one before: the model takes the time of the last.
    fn adopt_time(&self, expected: &mut Outcome, found: &Outcome) {
        let (Outcome::Written(expected), Outcome::Written(found)) = (expected, found) else {
            return;
        };
        let (time, changed) = (expected.change.after.changed, found.change.after.changed);
        let steps = changed.nanoseconds().checked_sub(time.nanoseconds());
        if expected.change.before.changed < time && steps.is_some_and(|steps| steps < WRITE_STEPS_MAX) {
            let object = expected.change.after.object;
            expected.change.after.changed = changed;
            expected.change.after.modified = changed;
            self.model.tamper(|state| {
                let inode = state
                    .space_mut(object.volume)
                    .map(|space| space.tree.inode_mut(object.inode));
                if let Some(inode) = inode {
                    (inode.modified, inode.changed) = (changed, changed);
                }
            });
        }
    }

    fn same(&self, volume: VolumeId, expected: &Outcome, found: &mut Outcome) -> Result<(), String> {
        self.volumes[&volume].translate_outcome(volume, found)?;
        let mut expected = expected.clone();
        if let (Outcome::Written(expected), Outcome::Written(found)) = (&mut expected, &mut *found) {
            if found.stability < expected.stability {
                return Err(format!(
                    "asked for {:?}, got {:?}",
                    expected.stability, found.stability
                ));
            }
            expected.stability = found.stability;
        }
        // The model's attributes have the same gaps as the subject's.
        neutralise_model(&mut expected);
        if expected == *found {
            return Ok(());
        }
        Err(format!(
            "the outcome is\n  {found:?}\nand should be\n  {expected:?}"
        ))
    }

    fn same_reason(&self, expected: &cairn_vfs::Error, found: &cairn_vfs::Error) -> Result<(), String> {
        let reasons = self.model.view(|state| state.reasons.clone());
        if reasons.contains(&Reason::from(found)) {
            return Ok(());
        }
        Err(format!(
            "refused with {found:?}, and should be with {expected:?} (any of {reasons:?})"
        ))
    }

    /// A repeated exclusive create finds the file that it made; another one finds that it exists.
    fn repeat_exclusive(
        &self,
        by: u8,
        name: crate::operations::Name,
        directory: Pair,
        made: &Outcome,
    ) -> Result<(), String> {
        let (files, name) = (self.subject.files(), name.bytes());
        let create = |verifier: [u8; 8]| {
            let mode = CreateMode::Exclusive(verifier);
            let created = files.create(&caller(by), directory.subject, &name, mode, &|_| None);
            created
                .and_then(|pending| wait(pending.durable()))
                .map(Outcome::Created)
        };
        let again = create(self.step.to_be_bytes());
        let mut again = again.map_err(|error| format!("a repeated exclusive create: {error:?}"))?;
        self.volumes[&directory.model.volume].translate_outcome(directory.model.volume, &mut again)?;
        match (made, &again) {
            (Outcome::Created(made), Outcome::Created(again))
                if made.attributes.object == again.attributes.object => {}
            _ => return Err(format!("a repeated exclusive create gave {again:?}")),
        }
        match create([0xee; 8]) {
            Err(cairn_vfs::Error::Exists) => Ok(()),
            other => Err(format!(
                "an exclusive create with another verifier gave {other:?}"
            )),
        }
    }

    /// Compares every live tree.
    fn compare_trees(&mut self) -> Result<(), String> {
        let (files, volumes, cookies) = (self.subject.files(), &self.volumes, &mut self.cookies);
        self.model.view(|state| {
            for (name, space) in &state.spaces {
                let volume = space.tree.volume;
                let comparison = Comparison {
                    tree: &space.tree,
                    files,
                    volume: &volumes[&volume],
                };
                let cookies = cookies.entry(volume).or_default();
                comparison
                    .compare(cookies)
                    .map_err(|what| format!("workspace {name}: {what}"))?;
            }
            Ok::<(), String>(())
        })?;
        self.compare_workspaces()
    }

    /// The last recorded replies of both sides are the same.
    fn compare_replies(&self) -> Result<(), String> {
        const REPLIES: usize = 32;
        /// A subject may also record requests that changed nothing.
        const REPLIES_ASKED: usize = 4 * REPLIES;
        let expected = self.model.view(|state| state.replies.clone());
        let expected = &expected[expected.len().saturating_sub(REPLIES)..];
        let found = self
            .subject
            .files()
            .recorded_replies(REPLIES_ASKED)
            .map_err(|e| format!("replies: {e:?}"))?;
        if found.len() > REPLIES_ASKED {
            return Err(format!(
                "{} replies where {REPLIES_ASKED} were asked for",
                found.len()
            ));
        }
        for reply in expected {
            if !found.contains(reply) {
                return Err(format!("the reply {:?} is not recorded", reply.key));
            }
        }
        Ok(())
    }
}

fn neutralise_model(outcome: &mut Outcome) {
    let neutral = |attributes: &mut Attributes| crate::identity::neutralise(attributes);
    match outcome {
        Outcome::Attributes(attributes)
        | Outcome::Read { attributes, .. }
        | Outcome::Target(_, attributes) => {
            neutral(attributes);
        }
        Outcome::Found(found) => {
            neutral(&mut found.attributes);
            neutral(&mut found.directory);
        }
        Outcome::Change(change) => neutral(&mut change.after),
        Outcome::Written(written) => neutral(&mut written.change.after),
        Outcome::Created(created) => {
            neutral(&mut created.attributes);
            neutral(&mut created.directory.after);
        }
        Outcome::Renamed(renamed) => {
            neutral(&mut renamed.from.after);
            neutral(&mut renamed.to.after);
        }
        Outcome::Linked(linked) => {
            neutral(&mut linked.attributes);
            neutral(&mut linked.directory.after);
        }
    }
}

/// What an operation on files is about, in the order in which [`Environment::execute`] wants it.
fn targets(operation: &Operation) -> Vec<Target> {
    match *operation {
        Operation::Lookup { directory, .. }
        | Operation::Create { directory, .. }
        | Operation::Mkdir { directory, .. }
        | Operation::Symlink { directory, .. }
        | Operation::Mknod { directory, .. }
        | Operation::Remove { directory, .. }
        | Operation::Rmdir { directory, .. } => vec![directory],
        Operation::Getattr { object }
        | Operation::SetMode { object, .. }
        | Operation::SetOwner { object, .. }
        | Operation::SetSize { object, .. }
        | Operation::SetTimes { object, .. }
        | Operation::Read { object, .. }
        | Operation::Readlink { object, .. }
        | Operation::Write { object, .. }
        | Operation::Commit { object } => vec![object],
        Operation::Rename { from, to, .. } => vec![from.0, to.0],
        Operation::Link {
            object, directory, ..
        } => vec![object, directory],
        _ => Vec::new(),
    }
}

/// Whether POSIX and this project leave the outcome to the implementation, so that there is nothing to compare:
/// - the mode of a symbolic link;
/// - set-id bits of what is no regular file or directory, those of a file when uid 0 changes its owner, and set-gid
///   without group execution (System V's mandatory locking) when data or owner change;
/// - moving a directory to another parent without write permission on the directory itself;
/// - writing nothing at an offset that no file can have, and committing what has no data.
fn is_left_open(state: &State, operation: &Operation, targets: &[Pair]) -> bool {
    let object = targets[0].model;
    let Some(tree) = state.space(object.volume).map(|space| &space.tree) else {
        return false;
    };
    let Some(inode) = tree.inodes.get(&object.inode) else {
        return false;
    };
    let regular = matches!(inode.body, Body::Regular(_));
    let odd_set_id = inode.mode & 0o2010 == 0o2000;
    match operation {
        Operation::SetMode { mode, .. } => {
            let special = matches!(inode.body, Body::Special(_));
            matches!(inode.body, Body::Symlink(_)) || (special && mode & 0o6000 != 0)
        }
        Operation::SetOwner { caller, .. } => {
            let set_id = inode.mode & 0o6000 != 0 && !inode.is_directory();
            set_id && (!regular || *caller == 0 || odd_set_id)
        }
        Operation::SetSize { caller, .. } => regular && *caller != 0 && odd_set_id,
        Operation::Write {
            caller,
            offset,
            length,
            ..
        } => (regular && *caller != 0 && odd_set_id) || (*length == 0 && *offset > i64::MAX as u64),
        Operation::Create {
            caller: by,
            name,
            how: How::Unchecked { size: Some(_) },
            ..
        } => {
            let existing = tree.entry(object.inode, &name.bytes()).map(|id| tree.inode(id));
            *by != 0 && existing.is_ok_and(|inode| inode.mode & 0o2010 == 0o2000)
        }
        Operation::Commit { .. } => !regular,
        Operation::Rename { caller: by, from, .. } => {
            let crosses = targets[0].model != targets[1].model;
            let moved = tree.entry(object.inode, &from.1.bytes()).map(|id| tree.inode(id));
            crosses && moved.is_ok_and(|moved| moved.is_directory() && !moved.allows(&caller(*by), WRITE))
        }
        _ => false,
    }
}

/// Whether writes of this stability may be lost with the process.
fn is_unstable(stability: Option<Stability>) -> bool {
    stability == Some(Stability::Unstable)
}
