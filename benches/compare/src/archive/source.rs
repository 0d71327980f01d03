//! The trees that are archived, with a change of each.
//!
//! A tree is made once and is there in two states, before and after its change. Going from one to the other rewrites only
//! the places that differ, in place, so that tools which look at inode numbers and change times find the other files as
//! they left them.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use cairn_e2e::random::Random;
use cairn_e2e::tree::{Totals, local};
use clap::ValueEnum;

use super::content::{Text, noise, weights};

const MIB: u64 = 1 << 20;
/// Bytes that are made or copied at a time.
const PIECE_BYTES: u64 = MIB;
/// Files of the tree of large files.
const LARGE_FILES: u64 = 4;
/// Bytes of each.
const LARGE_FILE_BYTES: u64 = 512 * MIB;
/// Files of the tree of small files.
const SMALL_FILES: u64 = 50_000;
/// Small files in a directory.
const DIRECTORY_FILES: u64 = 100;
/// Least and most bytes of a small file.
const SMALL_FILE_BYTES: (u64, u64) = (4 << 10, 16 << 10);
/// Files that a checkpoint is cut into.
const SHARDS: u64 = 4;
/// Bytes of each.
const SHARD_BYTES: u64 = 128 * MIB;
/// Tensors in a file of a checkpoint.
const SHARD_TENSORS: u64 = 4;
/// One in this many files, or bytes, changes.
const CHANGED_ONE_IN: u64 = 100;
/// Modification times of what changes, in seconds since 1970: before, and after.
const MODIFIED: [u64; 2] = [1_790_000_000, 1_790_003_600];

/// Which tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Plan {
    /// 2 GiB in four files, stretches of text and of noise by turns; 1 % of the bytes change in runs of 1 MiB.
    Large,
    /// 50,000 files of 4 to 16 KiB, 589 MiB, text and noise by turns; 1 % of the files change.
    Small,
    /// A checkpoint of 512 MiB in bfloat16 (safetensors); some training later all of its files are written anew.
    Tensors,
}

impl Plan {
    /// Its name on the command line and in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Plan::Large => "large",
            Plan::Small => "small",
            Plan::Tensors => "tensors",
        }
    }

    /// What its change is called.
    pub fn change(self) -> &'static str {
        match self {
            Plan::Large | Plan::Small => "1 % changed",
            Plan::Tensors => "next checkpoint",
        }
    }
}

/// A state of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As it was made.
    Before = 0,
    /// After its change.
    After = 1,
}

/// A place that differs between the states.
#[derive(Debug, Clone)]
pub struct Patch {
    /// The file, relative to the root.
    pub path: PathBuf,
    /// First byte in the file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Where they begin in the files that keep the two versions.
    kept_at: u64,
}

/// A tree on disk.
#[derive(Debug)]
pub struct Source {
    /// What it is.
    pub plan: Plan,
    /// The directory that is archived.
    pub root: PathBuf,
    /// What it holds.
    pub totals: Totals,
    /// What differs after the change.
    pub patches: Vec<Patch>,
    kept: [File; 2],
    state: State,
}

/// The modification time of changed files in `state`, in seconds since 1970.
pub fn modified_seconds(state: State) -> u64 {
    MODIFIED[state as usize]
}

impl Source {
    /// Makes a tree of `scale` times its full size below `directory`, which must not be there.
    pub fn make(plan: Plan, scale: f64, directory: &Path) -> anyhow::Result<Self> {
        let root = directory.join("tree");
        fs::create_dir_all(&root)?;
        let mut maker = Maker {
            root: root.clone(),
            random: Random::new(plan as u64 + 1),
            patches: Vec::new(),
            kept: [keep(&directory.join("before"))?, keep(&directory.join("after"))?],
            kept_bytes: 0,
        };
        match plan {
            Plan::Large => maker.large(scaled(LARGE_FILE_BYTES, scale, 64 << 10))?,
            Plan::Small => maker.small(scaled(SMALL_FILES, scale, DIRECTORY_FILES))?,
            Plan::Tensors => maker.tensors(scaled(SHARD_BYTES, scale, 64 << 10))?,
        }
        let source = Source {
            plan,
            totals: local::list(&root, &|_| true)?.totals(),
            root,
            patches: maker.patches,
            kept: maker.kept,
            state: State::Before,
        };
        source.write(State::Before)?;
        Ok(source)
    }

    /// The bytes of a patch in a state.
    pub fn patched(&self, patch: &Patch, state: State, at: u64, length: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.kept[state as usize].read_exact_at(&mut bytes, patch.kept_at + (at - patch.offset))?;
        Ok(bytes)
    }

    /// Brings the tree into a state; nothing happens if it is in it.
    pub fn bring(&mut self, state: State) -> anyhow::Result<()> {
        if self.state != state {
            self.write(state)?;
            self.state = state;
        }
        Ok(())
    }

    fn write(&self, state: State) -> anyhow::Result<()> {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(modified_seconds(state));
        for patch in &self.patches {
            let path = self.root.join(&patch.path);
            let file = OpenOptions::new().write(true).open(&path);
            let file = file.with_context(|| path.display().to_string())?;
            let end = patch.offset + patch.length;
            let mut at = patch.offset;
            while at < end {
                let bytes = self.patched(patch, state, at, (end - at).min(PIECE_BYTES) as usize)?;
                file.write_all_at(&bytes, at)?;
                at += bytes.len() as u64;
            }
            file.set_times(FileTimes::new().set_modified(modified))?;
        }
        Ok(())
    }

    /// Reads everything once, so that the page cache has it.
    pub fn warm(&self) -> anyhow::Result<()> {
        let mut buffer = vec![0; PIECE_BYTES as usize];
        for path in local::list(&self.root, &|_| true)?
            .regular_files()
            .map(|(path, _)| path)
        {
            let mut file = File::open(local::place(&self.root, path))?;
            while file.read(&mut buffer)? > 0 {}
        }
        Ok(())
    }
}

fn scaled(full: u64, scale: f64, least: u64) -> u64 {
    ((full as f64 * scale) as u64).max(least)
}

fn keep(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create_new(true)
        .open(path);
    file.with_context(|| path.display().to_string())
}

struct Maker {
    root: PathBuf,
    random: Random,
    patches: Vec<Patch>,
    kept: [File; 2],
    kept_bytes: u64,
}

impl Maker {
    fn create(&self, path: &Path) -> anyhow::Result<BufWriter<File>> {
        let path = self.root.join(path);
        let file = File::create_new(&path).with_context(|| path.display().to_string())?;
        Ok(BufWriter::new(file))
    }

    /// Notes that bytes of a file change, and keeps both versions.
    fn change(&mut self, path: &Path, offset: u64, before: &[u8], after: &[u8]) -> anyhow::Result<()> {
        for (mut kept, bytes) in self.kept.iter().zip([before, after]) {
            kept.write_all(bytes)?;
        }
        self.patches.push(Patch {
            path: path.to_owned(),
            offset,
            length: before.len() as u64,
            kept_at: self.kept_bytes,
        });
        self.kept_bytes += before.len() as u64;
        Ok(())
    }

    fn large(&mut self, file_bytes: u64) -> anyhow::Result<()> {
        let text = Text::new(&mut self.random);
        for number in 0..LARGE_FILES {
            let path = PathBuf::from(format!("large-{number}"));
            let mut file = self.create(&path)?;
            for (piece, at) in (0..file_bytes).step_by(PIECE_BYTES as usize).enumerate() {
                let length = (file_bytes - at).min(PIECE_BYTES) as usize;
                file.write_all(&match piece % 2 {
                    0 => text.bytes(&mut self.random, length),
                    _ => noise(&mut self.random, length),
                })?;
            }
            file.flush()?;
            let run = PIECE_BYTES.min(file_bytes / 8);
            let reader = File::open(self.root.join(&path))?;
            for number in 0..(file_bytes / CHANGED_ONE_IN / run).max(1) {
                let offset = self.random.below(file_bytes - run);
                let mut before = vec![0; run as usize];
                reader.read_exact_at(&mut before, offset)?;
                let after = match number % 2 {
                    0 => text.bytes(&mut self.random, run as usize),
                    _ => noise(&mut self.random, run as usize),
                };
                self.change(&path, offset, &before, &after)?;
            }
        }
        Ok(())
    }

    /// The size of a small file. The larger of two even draws has its mean at two thirds of the range, the largest of
    /// three at three quarters; one in sixteen of the latter makes 589 MiB of 50,000 files.
    fn small_file_bytes(&mut self) -> u64 {
        let (least, most) = SMALL_FILE_BYTES;
        let draws = if self.random.one_in(16) { 3 } else { 2 };
        let largest = (0..draws).map(|_| self.random.below(most - least + 1)).max();
        least + largest.unwrap_or(0)
    }

    fn small(&mut self, files: u64) -> anyhow::Result<()> {
        let text = Text::new(&mut self.random);
        for number in 0..files {
            let directory = number / DIRECTORY_FILES;
            let directory = PathBuf::from(format!("d{:02}/e{:02}", directory / 25, directory % 25));
            if number.is_multiple_of(DIRECTORY_FILES) {
                fs::create_dir_all(self.root.join(&directory))?;
            }
            let path = directory.join(format!("file-{number:06}"));
            let length = self.small_file_bytes() as usize;
            let bytes = |random: &mut Random| match number % 2 {
                0 => text.bytes(random, length),
                _ => noise(random, length),
            };
            let before = bytes(&mut self.random);
            let place = self.root.join(&path);
            fs::write(&place, &before).with_context(|| place.display().to_string())?;
            // An odd step, so that files of both kinds change.
            if number % (CHANGED_ONE_IN + 1) == CHANGED_ONE_IN / 2 {
                let after = bytes(&mut self.random);
                self.change(&path, 0, &before, &after)?;
            }
        }
        Ok(())
    }

    fn tensors(&mut self, shard_bytes: u64) -> anyhow::Result<()> {
        let tensor_bytes = (shard_bytes / SHARD_TENSORS) & !3;
        for shard in 0..SHARDS {
            let path = PathBuf::from(format!("model-{:05}-of-{SHARDS:05}.safetensors", shard + 1));
            let mut file = self.create(&path)?;
            let header = safetensors_header(shard * SHARD_TENSORS, tensor_bytes);
            file.write_all(&header)?;
            let mut offset = header.len() as u64;
            for _ in 0..SHARD_TENSORS {
                let mut left = tensor_bytes;
                while left > 0 {
                    let length = left.min(PIECE_BYTES);
                    let (before, after) = weights(&mut self.random, length as usize);
                    file.write_all(&before)?;
                    self.change(&path, offset, &before, &after)?;
                    left -= length;
                    offset += length;
                }
            }
            file.flush()?;
        }
        Ok(())
    }
}

/// The head of a safetensors file: the length of the text in 8 bytes, little-endian, and the text, which says where each
/// tensor lies behind it.
fn safetensors_header(first: u64, tensor_bytes: u64) -> Vec<u8> {
    let tensors: Vec<String> = (0..SHARD_TENSORS)
        .map(|index| {
            let (layer, elements) = (first + index, tensor_bytes / 2);
            let (begin, end) = (index * tensor_bytes, (index + 1) * tensor_bytes);
            format!(
                "\"model.layers.{layer}.weight\":{{\"dtype\":\"BF16\",\"shape\":[{elements}],\"data_offsets\":[{begin},{end}]}}"
            )
        })
        .collect();
    let mut text = format!("{{{}}}", tensors.join(","));
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Plan, Source, State, safetensors_header};

    #[test]
    fn a_tree_goes_to_its_change_and_back() -> anyhow::Result<()> {
        for plan in [Plan::Large, Plan::Small, Plan::Tensors] {
            let directory = tempfile::tempdir()?;
            let mut source = Source::make(plan, 0.005, directory.path())?;
            let paths: Vec<_> = source
                .patches
                .iter()
                .map(|patch| source.root.join(&patch.path))
                .collect();
            assert!(!paths.is_empty(), "{plan:?} does not change");
            let read = || paths.iter().map(fs::read).collect::<Result<Vec<_>, _>>();
            let times = || {
                paths
                    .iter()
                    .map(|path| fs::metadata(path)?.modified())
                    .collect::<Result<Vec<_>, _>>()
            };
            let (before, time_before) = (read()?, times()?);
            source.bring(State::After)?;
            let (after, time_after) = (read()?, times()?);
            assert!(
                before
                    .iter()
                    .zip(&after)
                    .all(|(a, b)| a != b && a.len() == b.len()),
                "{plan:?}"
            );
            assert!(time_before.iter().zip(&time_after).all(|(a, b)| a < b));
            source.bring(State::Before)?;
            assert_eq!(read()?, before);
            assert_eq!(times()?, time_before);
        }
        Ok(())
    }

    #[test]
    fn small_files_have_the_mean_that_is_said() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let source = Source::make(Plan::Small, 0.1, directory.path())?;
        assert_eq!(source.totals.files, 5000);
        let expected = 58.9 * 1048576.0;
        let share = source.totals.bytes as f64 / expected;
        assert!((0.98..1.02).contains(&share), "{share}");
        assert!((40..60).contains(&source.patches.len()));
        Ok(())
    }

    #[test]
    fn the_head_of_a_checkpoint_is_one() -> anyhow::Result<()> {
        let header = safetensors_header(4, 1000);
        let (length, text) = header.split_at(8);
        let length: [u8; 8] = length.try_into()?;
        assert_eq!(u64::from_le_bytes(length), text.len() as u64);
        assert!(header.len().is_multiple_of(8));
        let json: serde_json::Value = serde_json::from_slice(text)?;
        assert_eq!(
            json["model.layers.5.weight"]["data_offsets"],
            serde_json::json!([1000, 2000])
        );
        Ok(())
    }
}
