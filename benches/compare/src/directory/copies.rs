//! Copies by the tools that every system has: `cp -a`, with and without sharing blocks, `tar` through `zstd -T0`, and read-only snapshots of a Btrfs
//! subvolume.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use cairn_e2e::tree::compare::{Comparison, Leniency, compare};
use cairn_e2e::tree::{Tree, local};
use tokio::runtime::Runtime;

use crate::archive::measure::{Cost, Tool};
use crate::archive::peers::{ARCHIVES, Archiver, Place};
use crate::archive::source::Source;

/// Which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// `cp -a --reflink=always`.
    Reflink,
    /// `cp -a --reflink=never`.
    Copy,
    /// `tar`, compressed by as many threads as there are processors.
    Tar,
    /// `btrfs subvolume snapshot`.
    Btrfs,
}

/// What a tool says about its version.
pub fn version(name: &str, scratch: &Path) -> anyhow::Result<String> {
    let program = name.split([' ', ',']).next().unwrap_or(name);
    let said = Tool::new(program.into(), scratch).run(scratch, &["--version"])?;
    Ok(said.output.lines().next().unwrap_or_default().trim().to_owned())
}

/// Copies beside each other.
pub struct Copies<'a> {
    how: How,
    runtime: &'a Runtime,
    shell: Tool,
    stored: PathBuf,
    restored: PathBuf,
}

impl<'a> Copies<'a> {
    /// A place for copies.
    pub fn begin(runtime: &'a Runtime, place: &Place, how: How) -> anyhow::Result<Self> {
        fs::create_dir(&place.stored)?;
        Ok(Copies {
            how,
            runtime,
            shell: Tool::new("/bin/bash".into(), &place.scratch),
            stored: place.stored.clone(),
            restored: place.scratch.join("restored"),
        })
    }

    /// Runs a line of shell with two paths in its parameters.
    fn run(&self, line: &str, from: &Path, to: &Path) -> anyhow::Result<Cost> {
        let words = ["-c", line, "bash"].map(Into::into);
        let paths = [from, to].map(|path| path.as_os_str().to_owned());
        Ok(self
            .shell
            .run(&self.stored, &[&words[..], &paths[..]].concat())?
            .cost)
    }

    fn newest(&self) -> PathBuf {
        self.stored.join(ARCHIVES[ARCHIVES.len() - 1])
    }
}

impl Archiver for Copies<'_> {
    fn push(&mut self, source: &Source, number: usize) -> anyhow::Result<Cost> {
        let to = self.stored.join(ARCHIVES[number]);
        let line = match self.how {
            How::Reflink => "exec cp -a --reflink=always \"$1\" \"$2\"",
            How::Copy => "exec cp -a --reflink=never \"$1\" \"$2\"",
            How::Tar => "set -o pipefail; tar -C \"$1\" --format=posix -cf - . | zstd -q -1 -T0 -o \"$2\"",
            How::Btrfs => "exec btrfs -q subvolume snapshot -r \"$1\" \"$2\"",
        };
        self.run(line, &source.root, &to)
    }

    fn follow_change(&mut self, _: &Source) -> anyhow::Result<()> {
        Ok(())
    }

    fn verify(&mut self, _: bool) -> anyhow::Result<Option<Cost>> {
        Ok(None)
    }

    fn restore(&mut self) -> anyhow::Result<Cost> {
        let line = match self.how {
            How::Reflink => "exec cp -a --reflink=always \"$1\" \"$2\"",
            How::Copy => "exec cp -a --reflink=never \"$1\" \"$2\"",
            How::Tar => "set -o pipefail; mkdir \"$2\" && zstd -q -d -c \"$1\" | tar -C \"$2\" -xpf -",
            How::Btrfs => "exec btrfs -q subvolume snapshot \"$1\" \"$2\"",
        };
        self.run(line, &self.newest(), &self.restored)
    }

    fn compare(&mut self, expected: &Tree) -> anyhow::Result<Comparison> {
        let found = local::list(&self.restored, &|_| true)?;
        let leniency = Leniency {
            root: true,
            ..Leniency::default()
        };
        let comparison = self.runtime.block_on(compare(expected, &found, leniency))?;
        if self.how != How::Btrfs {
            fs::remove_dir_all(&self.restored)?;
        }
        Ok(comparison)
    }

    fn forget(&mut self) -> anyhow::Result<()> {
        ensure!(self.newest().exists(), "the newest copy is missing");
        Ok(())
    }

    fn reclaim(&mut self) -> anyhow::Result<Cost> {
        let line = match self.how {
            How::Reflink | How::Copy | How::Tar => "exec rm -rf \"$1\" \"$2\"",
            How::Btrfs => "exec btrfs -q subvolume delete \"$1\" \"$2\"",
        };
        self.run(
            line,
            &self.stored.join(ARCHIVES[0]),
            &self.stored.join(ARCHIVES[1]),
        )
    }
}
