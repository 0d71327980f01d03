//! The first half of a restore: everything that the workspace lacks is made beside it, on its file system, and the steps are
//! written down. The workspace is only read. Where there is no room, nothing has happened.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use cairn_types::FileKind;

use super::steps::{Action, StepReader, StepWriter, StepsSeal};
use super::{RestoreTotals, staged_name};
use crate::archive::Progress;
use crate::directory::place::{Before, Losses, PlaceOptions, Placer};
use crate::directory::{Attributes, Body, Entry, Record, RelativePath};
use crate::manifest::ManifestReader;
use crate::operations::OperationError;
use crate::operations::live::{Difference, Live, Step, in_scope};
use crate::operations::payload::Payload;

/// What was staged.
pub(super) struct Staged {
    /// What will be done.
    pub steps: StepReader,
    /// Which they are.
    pub seal: StepsSeal,
    /// What that means.
    pub totals: RestoreTotals,
    /// What could not be kept of what was staged.
    pub losses: Losses,
}

/// A directory that the comparison is in.
struct Level {
    path: RelativePath,
    /// The attributes that it shall have; `None`: it goes.
    attributes: Option<Attributes>,
    /// What follows when it has gone.
    then: Option<Action>,
    /// Whether anything in it changes, or its attributes do.
    touched: bool,
}

/// Stages.
pub(super) struct Stager<'a> {
    pub target: &'a ManifestReader,
    pub payload: &'a dyn Payload,
    pub scope: &'a [RelativePath],
    pub progress: &'a Progress,
    placer: Placer,
    steps: StepWriter,
    levels: Vec<Level>,
    next: u64,
    totals: RestoreTotals,
}

impl<'a> Stager<'a> {
    /// Into the empty directory `staging`; the steps go into `list`.
    pub fn new(
        target: &'a ManifestReader,
        payload: &'a dyn Payload,
        scope: &'a [RelativePath],
        progress: &'a Progress,
        staging: OwnedFd,
        list: File,
    ) -> Result<Self, OperationError> {
        let placer = Placer::new(staging, PlaceOptions::default()).map_err(OperationError::staging)?;
        Ok(Stager {
            target,
            payload,
            scope,
            progress,
            placer,
            steps: StepWriter::new(list),
            levels: Vec::new(),
            next: 0,
            totals: RestoreTotals::default(),
        })
    }

    /// Stages what the comparison finds.
    pub fn run(mut self, live: Live<'_>) -> Result<Staged, OperationError> {
        for step in live {
            let step = step?;
            self.leave(Some(step.path()))?;
            self.take(&step)?;
        }
        self.leave(None)?;
        let (seal, steps) = self.steps.finish().map_err(OperationError::staging)?;
        Ok(Staged {
            steps,
            seal,
            totals: self.totals,
            losses: self.placer.losses(),
        })
    }

    fn push(&mut self, path: &RelativePath, action: &Action) -> Result<(), OperationError> {
        self.steps.push(path, action).map_err(OperationError::staging)
    }

    fn touch(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.touched = true;
        }
    }

    /// Ends the directories that `next` is not in.
    fn leave(&mut self, next: Option<&RelativePath>) -> Result<(), OperationError> {
        while let Some(level) = self
            .levels
            .pop_if(|level| next.is_none_or(|next| !next.is_within(&level.path)))
        {
            match (level.attributes, level.then) {
                (Some(attributes), _) if level.touched => {
                    self.push(&level.path, &Action::Attributes(Box::new(attributes)))?;
                }
                (Some(_), _) => {}
                (None, None) => self.push(&level.path, &Action::RemoveDirectory)?,
                (None, Some(then)) => {
                    self.push(&level.path, &Action::ClearDirectory)?;
                    self.push(&level.path, &then)?;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, step: &Step) -> Result<(), OperationError> {
        let path = step.path();
        let live_directory = step
            .live
            .as_ref()
            .is_some_and(|live| live.kind() == FileKind::Directory);
        let Some(record) = &step.target else {
            self.touch();
            self.totals.removed += 1;
            match live_directory {
                true => self.levels.push(Level {
                    path: path.clone(),
                    attributes: None,
                    then: None,
                    touched: false,
                }),
                false => self.push(path, &Action::Unlink)?,
            }
            return Ok(());
        };
        let entry = &record.entry;
        match step.difference {
            Difference::Same => {}
            Difference::Missing => self.totals.added += 1,
            Difference::Kind
            | Difference::Data
            | Difference::Links
            | Difference::Attributes
            | Difference::Surplus => {
                self.totals.changed += 1;
            }
        }
        if entry.attributes.kind == FileKind::Directory {
            let made = matches!(step.difference, Difference::Missing | Difference::Kind);
            if made {
                self.touch();
                if step.difference == Difference::Kind {
                    self.push(path, &Action::Unlink)?;
                }
                self.push(path, &Action::MakeDirectory)?;
            }
            self.levels.push(Level {
                path: path.clone(),
                attributes: Some(entry.attributes.clone()),
                then: None,
                touched: made || step.difference == Difference::Attributes,
            });
            return Ok(());
        }
        let action = match step.difference {
            Difference::Same => return Ok(()),
            Difference::Attributes => Action::Attributes(Box::new(entry.attributes.clone())),
            _ => {
                self.touch();
                self.make(entry)?
            }
        };
        if live_directory {
            // It has to go first, and what is in it before.
            self.levels.push(Level {
                path: path.clone(),
                attributes: None,
                then: Some(action),
                touched: false,
            });
            return Ok(());
        }
        self.push(path, &action)
    }

    /// What takes the place of `entry`'s path.
    fn make(&mut self, entry: &Entry) -> Result<Action, OperationError> {
        if let Body::Link(to) = &entry.body {
            if in_scope(to, self.scope, false) {
                return Ok(Action::Link(to.clone()));
            }
            // The file itself is not asked for: this name gets a file of its own.
            let first: Option<Record> = self.target.find(to)?;
            let first = first.ok_or_else(|| OperationError::Inconsistent {
                path: entry.path.clone(),
                what: "it is another name of a file that the snapshot does not have",
            })?;
            return self.stage(&first.entry);
        }
        self.stage(entry)
    }

    fn stage(&mut self, entry: &Entry) -> Result<Action, OperationError> {
        if self.progress.is_cancelled() {
            return Err(OperationError::Cancelled);
        }
        let number = self.next;
        self.next += 1;
        let path = staged_name(number);
        let attributes = &entry.attributes;
        match &entry.body {
            Body::File(_) => {
                let to = self.placer.file(&path)?;
                self.payload.write(entry, to.as_fd())?;
                self.placer
                    .file_attributes(&entry.path, to.as_fd(), attributes, Before::New)
                    .or_else(|error| {
                        self.placer
                            .attributes(&path, attributes, Before::New)
                            .map_err(|_| error)
                    })?;
                self.totals.bytes += attributes.size;
                self.progress.add(1, attributes.size);
            }
            Body::Symlink(target) => {
                self.placer.symlink(&path, target)?;
                self.placer.attributes(&path, attributes, Before::New)?;
            }
            Body::None | Body::Link(_) => match self.placer.special(&path, attributes)? {
                true => self.placer.attributes(&path, attributes, Before::New)?,
                // It may not be made here: that is told. What is in its place goes.
                false => return Ok(Action::Unlink),
            },
        }
        Ok(Action::Put(number))
    }
}
