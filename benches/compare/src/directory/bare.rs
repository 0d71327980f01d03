//! What nobody can be faster than: a walk that only asks for every entry's attributes, and a tree of clones that only makes directories and clones files, both
//! on two threads. They run in a process of their own, so that their memory is theirs.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cairn_e2e::tree::Tree;
use cairn_e2e::tree::compare::Comparison;
use clap::{Args, Subcommand};
use parking_lot::{Condvar, Mutex};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, ioctl_ficlone, mkdirat, openat, statat};

use crate::archive::measure::{Cost, Tool};
use crate::archive::peers::{ARCHIVES, Archiver, Place};
use crate::archive::source::Source;

/// Threads.
const THREADS: usize = 2;
/// Bytes of directory entries that are asked for at a time.
const ENTRY_BYTES: usize = 64 << 10;

/// The bare calls themselves.
#[derive(Debug, Args)]
pub struct BareArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// Asks for the attributes of everything below a directory.
    Walk {
        /// The directory.
        from: PathBuf,
    },
    /// Clones everything below a directory into a new one.
    Clone {
        /// The directory.
        from: PathBuf,
        /// The new one.
        to: PathBuf,
    },
}

/// Runs them.
///
/// # Errors
/// A call failed.
pub fn run(arguments: &BareArguments) -> anyhow::Result<()> {
    let (from, to) = match &arguments.what {
        What::Walk { from } => (from, None),
        What::Clone { from, to } => (from, Some(to.clone())),
    };
    if let Some(to) = &to {
        fs::create_dir(to)?;
    }
    let queue = Queue::new((from.clone(), to));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| queue.work())).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| bail!("a thread ended early")))
    })
}

type Job = (PathBuf, Option<PathBuf>);

/// Directories that wait, and how many are being looked at. All of a tree's directories at most.
struct Queue {
    state: Mutex<(VecDeque<Job>, usize)>,
    changed: Condvar,
}

impl Queue {
    fn new(first: Job) -> Self {
        Queue {
            state: Mutex::new((VecDeque::from([first]), 0)),
            changed: Condvar::new(),
        }
    }

    fn work(&self) -> anyhow::Result<()> {
        let mut buffer = Vec::with_capacity(ENTRY_BYTES);
        loop {
            let job = {
                let mut state = self.state.lock();
                loop {
                    if let Some(job) = state.0.pop_back() {
                        state.1 += 1;
                        break job;
                    }
                    if state.1 == 0 {
                        return Ok(());
                    }
                    self.changed.wait(&mut state);
                }
            };
            let found = one(&job, &mut buffer);
            let mut state = self.state.lock();
            state.1 -= 1;
            let failed = found.is_err();
            match found {
                Ok(below) => state.0.extend(below),
                Err(_) => state.0.clear(),
            }
            self.changed.notify_all();
            drop(state);
            if failed {
                return one(&job, &mut buffer).map(drop);
            }
        }
    }
}

/// One directory; tells the ones in it.
fn one((from, to): &Job, buffer: &mut Vec<u8>) -> anyhow::Result<Vec<Job>> {
    let open = |path: &Path| -> anyhow::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, path, flags, Mode::empty()).with_context(|| path.display().to_string())
    };
    let directory = open(from)?;
    let target = to.as_deref().map(open).transpose()?;
    let mut below = Vec::new();
    let mut entries = RawDir::new(&directory, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let attributes = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(attributes.st_mode);
        let path = || std::ffi::OsStr::from_bytes(name.to_bytes());
        match (kind, &target) {
            (FileType::Directory, _) => {
                if let Some(target) = &target {
                    mkdirat(target, name, Mode::RWXU)?;
                }
                below.push((from.join(path()), to.as_ref().map(|to| to.join(path()))));
            }
            (FileType::RegularFile, Some(target)) => {
                let source = openat(&directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                ioctl_ficlone(openat(target, name, flags, Mode::RUSR | Mode::WUSR)?, source)?;
            }
            _ => {}
        }
    }
    Ok(below)
}

/// The bare calls as one of those that are compared: clones are its copies, a walk is how it finds that nothing changed.
pub struct Bare {
    tool: Tool,
    stored: PathBuf,
}

impl Bare {
    /// A place for clones.
    pub fn begin(place: &Place) -> anyhow::Result<Self> {
        fs::create_dir(&place.stored)?;
        Ok(Bare {
            tool: Tool::new(std::env::current_exe()?, &place.scratch),
            stored: place.stored.clone(),
        })
    }

    fn run(&self, words: &[OsString]) -> anyhow::Result<Cost> {
        Ok(self.tool.run(&self.stored, words)?.cost)
    }
}

impl Archiver for Bare {
    fn push(&mut self, source: &Source, number: usize) -> anyhow::Result<Cost> {
        let to = self.stored.join(ARCHIVES[number]);
        self.run(&[
            "bare".into(),
            "clone".into(),
            source.root.clone().into(),
            to.into(),
        ])
    }

    fn skip(&mut self, source: &Source) -> anyhow::Result<Option<Cost>> {
        self.run(&["bare".into(), "walk".into(), source.root.clone().into()])
            .map(Some)
    }

    fn follow_change(&mut self, _: &Source) -> anyhow::Result<()> {
        Ok(())
    }

    fn verify(&mut self, _: bool) -> anyhow::Result<Option<Cost>> {
        Ok(None)
    }

    fn restores(&self) -> bool {
        false
    }

    fn restore(&mut self) -> anyhow::Result<Cost> {
        bail!("clones without attributes are not restored")
    }

    fn compare(&mut self, _: &Tree) -> anyhow::Result<Comparison> {
        bail!("clones without attributes are not compared")
    }

    fn forget(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn reclaim(&mut self) -> anyhow::Result<Cost> {
        bail!("clones without attributes are not reclaimed")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{BareArguments, What, run};

    #[test]
    fn a_walk_goes_through_a_tree_and_says_what_it_cannot_read() -> anyhow::Result<()> {
        let place = tempfile::tempdir()?;
        fs::create_dir_all(place.path().join("a/b/c"))?;
        fs::write(place.path().join("a/b/f"), "f")?;
        run(&BareArguments {
            what: What::Walk {
                from: place.path().to_owned(),
            },
        })?;
        let missing = run(&BareArguments {
            what: What::Walk {
                from: place.path().join("missing"),
            },
        });
        assert!(missing.is_err_and(|error| format!("{error:#}").contains("missing")));
        Ok(())
    }
}
