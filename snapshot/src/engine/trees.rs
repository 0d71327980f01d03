//! Trees of files as snapshots: every file of the workspace copied, or made to share its blocks, into a new tree.
//!
//! One walk finds what there is; the calling thread makes directories as they are met, hands everything else in batches to the threads that
//! write, and describes the entries in the manifest in the order of the walk. What needs everything before it (other names of a file, the
//! attributes of a directory) waits its turn in the same order. So memory is bounded, but for the first names of files with several.
//!
//! Nothing is synced: one syncfs(2) of the caller makes the tree durable as a whole.

use std::collections::VecDeque;

use cairn_types::FileKind;

use super::EngineError;
use super::capture::{Capture, Captured, FirstNames, Previous, Proof, identity, is_same_file};
use super::describe::{describe, record};
use crate::archive::Progress;
use crate::directory::place::Way;
use crate::directory::{Attributes, Body, Found, PlaceOptions, Placer, Record, RelativePath, Stamp, Walk};
use crate::manifest::ManifestWriter;

mod file;
mod pool;

use file::{Files, Outcome};
use pool::{Job, Pool};

/// Entries that one thread gets at once.
const BATCH_ENTRIES_MAX: usize = 64;
/// A batch of so many entries ends where the next directory begins: two threads in one directory wait for each other.
const BATCH_ENTRIES_MIN: usize = 16;
/// Entries that wait for those before them.
const WAITING_MAX: usize = 8192;

/// Captures by files: [`Way::Clone`] shares blocks where that is possible, and copies a file where it is not; [`Way::Copy`] copies. The kernel may share
/// blocks then as well.
///
/// Errors: [`EngineError::Walk`] if a directory cannot be read (a snapshot without it would be a lie); [`EngineError::Io`] of a file that cannot
/// be read; [`EngineError::Place`], [`EngineError::Exists`], [`EngineError::Manifest`], [`EngineError::Cancelled`].
pub fn capture_tree(way: Way, capture: Capture<'_>) -> Result<Captured, EngineError> {
    let Capture {
        source,
        walk,
        previous,
        target,
        manifest,
        racy_after,
        threads,
        progress,
        ..
    } = capture;
    let proof = Proof::new(racy_after);
    let root = target.make()?;
    let placer = Placer::new(root, PlaceOptions::default())
        .map_err(|error| EngineError::io("write into", target.path, error))?;
    let files = Files {
        placer: &placer,
        way,
        proof,
        progress,
    };
    let mut walk = Walk::new(source, walk)?;
    let mut captured = std::thread::scope(|scope| {
        let sequencer = Sequencer {
            files: &files,
            proof,
            manifest,
            previous: Previous::new(previous, proof),
            pool: Pool::start(scope, &files, threads)?,
            batch: Vec::new(),
            waiting: VecDeque::new(),
            done: 0,
            open: Vec::new(),
            first_names: FirstNames::new(),
            captured: Captured::default(),
        };
        sequencer.run(&mut walk)
    })?;
    captured.walked(&walk);
    captured.losses = placer.losses();
    Ok(captured)
}

/// Writes one entry that is no directory, as a part of a tree that is captured otherwise; it is described later. Errors: [`EngineError::Io`] if
/// it cannot be read, [`EngineError::Place`].
pub(super) fn copy_entry(
    placer: &Placer,
    way: Way,
    proof: Proof,
    progress: &Progress,
    found: &Found,
) -> Result<(), EngineError> {
    Files {
        placer,
        way,
        proof,
        progress,
    }
    .write(found, None)
    .map(|_| ())
}

/// What waits in the order of the walk.
enum Item {
    /// A thread writes it.
    Working,
    /// It is written, or was gone.
    Written(Outcome),
    /// It is described already.
    Described(Box<Record>),
    /// Perhaps another name of a file that came before.
    Name(Box<(Found, Option<Record>)>),
    /// Everything in a directory comes before this.
    Finished(Box<(RelativePath, Attributes)>),
}

/// A file that has several names, as it was captured under the first.
struct First {
    path: RelativePath,
    /// Nothing as long as it waits.
    known: Option<Known>,
}

/// What was captured of a file with several names.
struct Known {
    attributes: Attributes,
    stamp: Option<Stamp>,
    /// It is in the tree.
    made: bool,
}

/// Keeps what many threads do in the order of the walk.
struct Sequencer<'a> {
    files: &'a Files<'a>,
    proof: Proof,
    manifest: &'a mut ManifestWriter,
    previous: Previous<'a>,
    pool: Pool,
    batch: Vec<Job>,
    waiting: VecDeque<Item>,
    /// Number of the first item that waits.
    done: u64,
    /// The directories that the walk is in.
    open: Vec<(RelativePath, Attributes)>,
    first_names: FirstNames<First>,
    captured: Captured,
}

impl Sequencer<'_> {
    fn run(mut self, walk: &mut Walk) -> Result<Captured, EngineError> {
        for found in walk {
            if self.files.progress.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            self.take(found?)?;
            self.settle()?;
        }
        self.leave_to(None);
        self.hand_over()?;
        while !self.waiting.is_empty() {
            self.receive()?;
            self.proceed()?;
        }
        self.captured.previous_damaged = self.previous.is_damaged();
        Ok(self.captured)
    }

    fn take(&mut self, found: Found) -> Result<(), EngineError> {
        let left = self.leave_to(Some(&found.path));
        let unchanged = self.previous.unchanged(&found, &found.stamp);
        if found.kind() == FileKind::Directory {
            return self.directory(&found, unchanged);
        }
        if found.links > 1 {
            match self.first_names.entry(identity(&found)) {
                std::collections::hash_map::Entry::Occupied(_) => {
                    self.waiting.push_back(Item::Name(Box::new((found, unchanged))));
                    return Ok(());
                }
                std::collections::hash_map::Entry::Vacant(entry) => {
                    entry.insert(First {
                        path: found.path.clone(),
                        known: None,
                    });
                }
            }
        }
        if self.batch.len() >= BATCH_ENTRIES_MAX || (left && self.batch.len() >= BATCH_ENTRIES_MIN) {
            self.hand_over()?;
        }
        let number = self.done + self.waiting.len() as u64;
        self.waiting.push_back(Item::Working);
        self.batch.push(Job {
            number,
            found,
            unchanged,
        });
        Ok(())
    }

    fn directory(&mut self, found: &Found, unchanged: Option<Record>) -> Result<(), EngineError> {
        let described = match unchanged {
            Some(record) => Some(record),
            None => describe(found, self.proof)
                .map_err(|error| EngineError::io("read", found.path.as_path(), error))?,
        };
        // It was open when it was found: what is in it has been found as well, or not.
        let described = described
            .unwrap_or_else(|| record(found.path.clone(), found.attributes.clone(), Body::None, None));
        if !found.path.is_root() {
            self.files.placer.directory(&found.path)?;
        }
        self.open
            .push((found.path.clone(), described.entry.attributes.clone()));
        self.waiting.push_back(Item::Described(Box::new(described)));
        Ok(())
    }

    /// Leaves the directories that `path` is not in; all of them without a path. Tells whether there were any.
    fn leave_to(&mut self, path: Option<&RelativePath>) -> bool {
        let before = self.open.len();
        while let Some(left) = self
            .open
            .pop_if(|(open, _)| path.is_none_or(|path| !path.is_within(open)))
        {
            self.waiting.push_back(Item::Finished(Box::new(left)));
        }
        before != self.open.len()
    }

    fn hand_over(&mut self) -> Result<(), EngineError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        while self.pool.is_full() {
            self.receive()?;
        }
        self.pool.send(std::mem::take(&mut self.batch));
        Ok(())
    }

    /// Takes what is done, and waits for it if too much waits.
    fn settle(&mut self) -> Result<(), EngineError> {
        while let Some(outcomes) = self.pool.done_already() {
            self.place(outcomes)?;
        }
        self.proceed()?;
        while self.waiting.len() >= WAITING_MAX {
            self.hand_over()?;
            self.receive()?;
            self.proceed()?;
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), EngineError> {
        match self.pool.next_done() {
            Some(outcomes) => self.place(outcomes),
            None => Ok(()),
        }
    }

    fn place(&mut self, outcomes: pool::Outcomes) -> Result<(), EngineError> {
        for (number, outcome) in outcomes? {
            let at = usize::try_from(number - self.done).unwrap_or(usize::MAX);
            if let Some(item) = self.waiting.get_mut(at) {
                *item = Item::Written(outcome);
            }
        }
        Ok(())
    }

    /// Goes on with what waits, up to what is not done.
    fn proceed(&mut self) -> Result<(), EngineError> {
        loop {
            match self.waiting.front() {
                None | Some(Item::Working) => return Ok(()),
                Some(_) => {}
            }
            let Some(item) = self.waiting.pop_front() else {
                return Ok(());
            };
            self.done += 1;
            match item {
                Item::Working => {}
                Item::Written(outcome) => self.written(outcome)?,
                Item::Described(record) => self.manifest.push(&record)?,
                Item::Name(name) => self.name(&name.0, name.1)?,
                Item::Finished(directory) => {
                    self.files.placer.finish_directory(&directory.0, &directory.1)?
                }
            }
        }
    }

    fn written(&mut self, outcome: Outcome) -> Result<(), EngineError> {
        let Outcome { several, result } = outcome;
        let Some(written) = result else {
            self.captured.vanished += 1;
            // The next name is the first then.
            if let Some(identity) = several {
                self.first_names.remove(&identity);
            }
            return Ok(());
        };
        let record = &written.record;
        if let Some(first) = several.and_then(|identity| self.first_names.get_mut(&identity)) {
            first.known = Some(Known {
                attributes: record.entry.attributes.clone(),
                stamp: record.stamp,
                made: written.made,
            });
        }
        written.count(&mut self.captured);
        Ok(self.manifest.push(&written.record)?)
    }

    /// Another name of a file, if the first one was captured; else the first.
    fn name(&mut self, found: &Found, unchanged: Option<Record>) -> Result<(), EngineError> {
        let same = |first: &&First| {
            first
                .known
                .as_ref()
                .is_some_and(|known| is_same_file(&known.attributes, found))
        };
        let known = self.first_names.get(&identity(found)).filter(same);
        let Some(First {
            path: first,
            known: Some(known),
        }) = known
        else {
            self.first_names.insert(
                identity(found),
                First {
                    path: found.path.clone(),
                    known: None,
                },
            );
            let outcome = self.files.write(found, unchanged)?;
            return self.written(outcome);
        };
        if known.made
            && let Err(error) = self.files.placer.link(&found.path, first)
        {
            if !file::has_no_links(&error.source) {
                return Err(error.into());
            }
            // The manifest keeps what the file system of the snapshots cannot: the name gets data of its own.
            self.files.write(found, None)?;
        }
        let link = record(
            found.path.clone(),
            known.attributes.clone(),
            Body::Link(first.clone()),
            known.stamp,
        );
        Ok(self.manifest.push(&link)?)
    }
}
