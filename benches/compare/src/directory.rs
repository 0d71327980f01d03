//! Snapshots of plain directories side by side: the engines of `cairn`, deduplicating archivers, plain copies, and what nobody can be faster than (a bare
//! walk, bare clones), all on one fresh file system in a file, one after another, in turns whose order changes from round to round.
//!
//! Every turn: keep the tree, again unchanged, again after a change; verify; restore into an empty directory, which is compared with the tree
//! outside of what is timed; remove all but the newest and free what they took. Everybody finds the tree in the page cache and the disk idle.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use cairn_e2e::tree::local;
use clap::{Args, ValueEnum};
use tokio::runtime::Runtime;

pub mod bare;
mod cairn;
mod copies;
mod mounted;

use self::mounted::{FileSystem, Mounted};
use crate::archive::measure::Cost;
use crate::archive::peers::{Archiver, Peer, Place};
use crate::archive::source::{Plan, Source, State};
use crate::archive::table::{Cell, Ratio, Table, Work};

/// What is compared.
#[derive(Debug, Clone, Args)]
pub struct DirectoryArguments {
    /// The trees.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["large", "small"])]
    trees: Vec<Plan>,
    /// Who is compared; each on the file system that it needs.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_values = ["reflink", "archive", "cp-reflink", "cp", "tar", "bupstash", "restic", "rustic", "borg", "bare", "subvolume", "btrfs"]
    )]
    subjects: Vec<Subject>,
    /// Turns of each subject with each tree; medians are shown.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Size of the trees, as a share of the full size.
    #[arg(long, default_value_t = 1.0, value_parser = crate::archive::share)]
    scale: f64,
    /// Size of the file systems, in GiB.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=1024))]
    gibibytes: u64,
    /// Also write every figure to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Who is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// `cairn`, engine reflink-copy.
    Reflink,
    /// `cairn`, engine archive.
    Archive,
    /// `cp -a --reflink=always`.
    CpReflink,
    /// `cp -a --reflink=never`.
    Cp,
    /// `tar` through `zstd -T0`.
    Tar,
    Bupstash,
    Restic,
    Rustic,
    Borg,
    /// A bare walk, and bare FICLONE calls.
    Bare,
    /// `cairn`, engine btrfs-subvolume, on Btrfs.
    Subvolume,
    /// `btrfs subvolume snapshot -r`.
    Btrfs,
}

impl Subject {
    fn name(self) -> &'static str {
        match self {
            Subject::Reflink => "cairn reflink",
            Subject::Archive => "cairn archive",
            Subject::CpReflink => "cp --reflink",
            Subject::Cp => "cp",
            Subject::Tar => "tar, zstd -T0",
            Subject::Bupstash => "bupstash",
            Subject::Restic => "restic",
            Subject::Rustic => "rustic",
            Subject::Borg => "borg",
            Subject::Bare => "bare calls",
            Subject::Subvolume => "cairn subvolume",
            Subject::Btrfs => "btrfs",
        }
    }

    fn peer(self) -> Option<Peer> {
        match self {
            Subject::Bupstash => Some(Peer::Bupstash),
            Subject::Restic => Some(Peer::Restic),
            Subject::Rustic => Some(Peer::Rustic),
            Subject::Borg => Some(Peer::Borg),
            _ => None,
        }
    }

    fn file_system(self) -> FileSystem {
        match self {
            Subject::Subvolume | Subject::Btrfs => FileSystem::Btrfs,
            _ => FileSystem::Xfs,
        }
    }

    fn begin<'a>(
        self,
        runtime: &'a Runtime,
        place: &'a Place,
        source: &Source,
    ) -> anyhow::Result<Box<dyn Archiver + 'a>> {
        if let Some(peer) = self.peer() {
            return Ok(Box::new(peer.begin(runtime, place)?));
        }
        Ok(match self {
            Subject::Reflink => Box::new(cairn::Cairn::begin(runtime, place, source, "reflink-copy")?),
            Subject::Archive => Box::new(cairn::Cairn::begin(runtime, place, source, "archive")?),
            Subject::Subvolume => Box::new(cairn::Cairn::begin(runtime, place, source, "btrfs-subvolume")?),
            Subject::CpReflink => Box::new(copies::Copies::begin(runtime, place, copies::How::Reflink)?),
            Subject::Cp => Box::new(copies::Copies::begin(runtime, place, copies::How::Copy)?),
            Subject::Tar => Box::new(copies::Copies::begin(runtime, place, copies::How::Tar)?),
            Subject::Btrfs => Box::new(copies::Copies::begin(runtime, place, copies::How::Btrfs)?),
            _ => Box::new(bare::Bare::begin(place)?),
        })
    }
}

/// What a reader must know.
const NOTE: &str = "cairn's snapshots and restores are durable when it ends, and hold owners, times, xattrs and links; cp, tar and the bare \
                    calls leave writing to the kernel. restic, rustic and bupstash encrypt; borg and cairn do not.";

/// Compares.
///
/// # Errors
/// It is not root; a program is missing; a turn failed.
pub fn run(arguments: &DirectoryArguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let directory = cairn_benches::directory()?;
    let names = |subjects: &[Subject]| subjects.iter().map(|subject| subject.name().to_owned()).collect();
    let ratio = |heading: &str, ours: Subject, others: &[Subject]| Ratio {
        heading: heading.to_owned(),
        ours: ours.name().to_owned(),
        others: names(others),
    };
    let archivers = [Subject::Bupstash, Subject::Restic, Subject::Rustic, Subject::Borg];
    let mut table = Table {
        note: NOTE.to_owned(),
        places: [FileSystem::Xfs, FileSystem::Btrfs]
            .map(FileSystem::shown)
            .to_vec(),
        ratios: vec![
            ratio("archive / fastest archiver", Subject::Archive, &archivers),
            ratio("reflink / cp --reflink", Subject::Reflink, &[Subject::CpReflink]),
            ratio("reflink / bare calls", Subject::Reflink, &[Subject::Bare]),
            ratio("subvolume / btrfs", Subject::Subvolume, &[Subject::Btrfs]),
        ],
        scale: arguments.scale,
        ..Table::default()
    };
    let scratch = directory.path().join("versions");
    fs::create_dir(&scratch)?;
    for subject in &arguments.subjects {
        let version = match (subject, subject.peer()) {
            (_, Some(peer)) => peer.version(&scratch)?,
            (Subject::Bare, None) => "what it costs to ask the kernel".to_owned(),
            (Subject::Reflink | Subject::Archive | Subject::Subvolume, None) => cairn::version(&scratch)?,
            (_, None) => copies::version(subject.name(), &scratch)?,
        };
        table.versions.push((subject.name().to_owned(), version));
    }
    for plan in &arguments.trees {
        for kind in [FileSystem::Xfs, FileSystem::Btrfs] {
            let mut subjects: Vec<Subject> = arguments.subjects.clone();
            subjects.retain(|subject| subject.file_system() == kind);
            if subjects.is_empty() {
                continue;
            }
            let mounted = Mounted::make(kind, &directory.path().join("mounted"), arguments.gibibytes)?;
            eprintln!("making the tree {} on {}", plan.name(), kind.shown());
            let parent = mounted.root().join("source");
            mounted.tree_parent(&parent)?;
            let mut source = Source::make(*plan, arguments.scale, &parent)?;
            if kind == FileSystem::Xfs || !table.trees.iter().any(|(known, _)| known == plan) {
                table.trees.push((*plan, source.totals));
            }
            for round in 1..=arguments.rounds {
                for subject in &subjects {
                    eprintln!(
                        "round {round} of {}: tree {}, {}",
                        arguments.rounds,
                        plan.name(),
                        subject.name()
                    );
                    if let Err(error) = turn(&runtime, &mounted, (*subject, round), &mut source, &mut table) {
                        let failure = format!(
                            "{}, tree {}, round {round}: {error:#}",
                            subject.name(),
                            plan.name()
                        );
                        eprintln!("FAILED: {failure}");
                        table.failures.push(failure);
                    }
                }
                // Nobody always finds the machine as the same other one left it.
                subjects.rotate_left(1);
            }
        }
    }
    print!("{}", table.markdown());
    if let Some(path) = &arguments.json {
        fs::write(path, table.json()?).with_context(|| path.display().to_string())?;
    }
    let failures = table.failures.len();
    ensure!(failures == 0, "{failures} turns failed");
    Ok(())
}

fn turn(
    runtime: &Runtime,
    mounted: &Mounted,
    (subject, round): (Subject, u16),
    source: &mut Source,
    table: &mut Table,
) -> anyhow::Result<()> {
    let directory = mounted.root().join("turn");
    let place = Place::make(&directory, None, subject.name())?;
    source.bring(State::Before)?;
    source.warm()?;
    let outcome = subject
        .begin(runtime, &place, source)
        .and_then(|mut archiver| jobs((subject, round), archiver.as_mut(), &place, source, table));
    mounted.clear(&directory)?;
    outcome
}

/// The jobs of a turn, in their order.
fn jobs(
    (subject, round): (Subject, u16),
    archiver: &mut dyn Archiver,
    place: &Place,
    source: &mut Source,
    table: &mut Table,
) -> anyhow::Result<()> {
    let plan = source.plan;
    let shown = subject.file_system().shown();
    let mut note = |work: Work, cost: Option<Cost>| -> anyhow::Result<()> {
        if let Some(cost) = cost {
            let stored = match place.stored.exists() {
                true => place.stored_bytes()?,
                false => 0,
            };
            let cell = Cell::new((plan, shown, work), subject.name(), round, cost, stored);
            eprintln!("  {}: {}", work.name(plan), cell.shown());
            table.cells.push(cell);
        }
        Ok(())
    };
    let idle = rustix::fs::sync;
    for (number, work) in [Work::First, Work::Unchanged, Work::Changed]
        .into_iter()
        .enumerate()
    {
        if work == Work::Changed {
            idle();
            note(Work::Skipped, archiver.skip(source)?)?;
            source.bring(State::After)?;
            archiver.follow_change(source)?;
        }
        idle();
        note(work, Some(archiver.push(source, number)?))?;
    }
    for (work, data) in [(Work::Verify, false), (Work::VerifyData, true)] {
        idle();
        note(work, archiver.verify(data)?)?;
    }
    if !archiver.restores() {
        return Ok(());
    }
    idle();
    note(Work::Restore, Some(archiver.restore()?))?;
    let expected = local::list(&source.root, &|_| true)?;
    let comparison = archiver.compare(&expected)?;
    ensure!(comparison.equal(), "what was restored differs: {comparison}");
    archiver.forget()?;
    idle();
    note(Work::Reclaim, Some(archiver.reclaim()?))
}
