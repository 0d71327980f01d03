//! Archiving side by side: Cairn, bupstash, restic, rustic and borg do the same with the same trees on the same disk, one
//! after another, in turns whose order changes from round to round.
//!
//! Every turn starts with an empty store: archive a tree, archive it again unchanged, and again after a change; verify;
//! restore; delete all archives but the last and free what they took. What was restored is compared with the tree byte for
//! byte, outside of what is timed. Everybody finds the tree in the page cache and the disk idle.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use cairn_e2e::tree::local;
use clap::{Args, ValueEnum};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

mod cairn;
pub mod content;
pub mod measure;
pub mod peers;
pub mod server;
pub mod source;
pub mod table;

use self::measure::Cost;
use self::peers::{Archiver, Peer, Place, StoreKind};
use self::server::S3Server;
use self::source::{Plan, Source, State};
use self::table::{Cell, Ratio, Table, Work};

/// The name of ours.
const OURS: &str = "cairn";
/// What a reader must know.
const NOTE: &str = "restic, rustic and bupstash encrypt; borg is run without. cairn's memory is its daemon's, cache and all. cairn \
                    restores into a workspace, durably; the others into a directory.";

/// What is compared.
#[derive(Debug, Clone, Args)]
pub struct ArchiveArguments {
    /// The trees.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["large", "small", "tensors"])]
    trees: Vec<Plan>,
    /// The stores.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["local", "s3"])]
    stores: Vec<StoreKind>,
    /// Who is compared.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["cairn", "bupstash", "restic", "rustic", "borg"])]
    subjects: Vec<Subject>,
    /// Turns of each subject with each tree and store; medians are shown.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Size of the trees, as a share of the full size.
    #[arg(long, default_value_t = 1.0, value_parser = share)]
    scale: f64,
    /// Also write every figure to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A share of the full size.
pub fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if share > 0.0 && share <= 4.0 => Ok(share),
        _ => Err("give a number above 0, up to 4".to_owned()),
    }
}

/// Who is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    Cairn,
    Bupstash,
    Restic,
    Rustic,
    Borg,
}

impl Subject {
    fn peer(self) -> Option<Peer> {
        match self {
            Subject::Cairn => None,
            Subject::Bupstash => Some(Peer::Bupstash),
            Subject::Restic => Some(Peer::Restic),
            Subject::Rustic => Some(Peer::Rustic),
            Subject::Borg => Some(Peer::Borg),
        }
    }

    fn name(self) -> &'static str {
        self.peer().map_or(OURS, Peer::name)
    }

    fn can(self, store: StoreKind) -> bool {
        self.peer().is_none_or(|peer| peer.can(store))
    }
}

/// Compares, until it is done or a signal ends it; either way its directory is gone on return.
pub fn run(arguments: &ArchiveArguments) -> anyhow::Result<()> {
    let runtime = Arc::new(tokio::runtime::Builder::new_multi_thread().enable_all().build()?);
    let directory = cairn_benches::directory()?;
    let others = arguments
        .subjects
        .iter()
        .filter_map(|subject| Some(subject.peer()?.name().to_owned()));
    let comparison = Comparison {
        arguments: arguments.clone(),
        runtime: runtime.clone(),
        directory: directory.path().to_owned(),
        table: Table {
            note: NOTE.to_owned(),
            places: [StoreKind::Local, StoreKind::S3].map(StoreKind::shown).to_vec(),
            ratios: vec![Ratio {
                heading: format!("{OURS} / fastest other"),
                ours: OURS.to_owned(),
                others: others.collect(),
            }],
            ..Table::default()
        },
    };
    let (done, mut finished) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("comparison".to_owned())
        .spawn(move || {
            // Nobody waits for it any more after a second signal.
            let _ = done.send(comparison.run());
        })?;
    let table = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        for _ in 0..2 {
            tokio::select! {
                table = &mut finished => return table.context("the comparison ended early")?,
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            // What was begun is ended and cleared away, unless a second signal says that this takes too long.
            measure::stop();
        }
        Err(anyhow::anyhow!("interrupted"))
    })?;
    print!("{}", table.markdown());
    if let Some(path) = &arguments.json {
        fs::write(path, table.json()?).with_context(|| path.display().to_string())?;
    }
    let failures = table.failures.len();
    ensure!(failures == 0, "{failures} turns failed");
    Ok(())
}

struct Comparison {
    arguments: ArchiveArguments,
    runtime: Arc<Runtime>,
    directory: PathBuf,
    table: Table,
}

/// One turn: who, and where to.
#[derive(Debug, Clone, Copy)]
struct Turn {
    subject: Subject,
    store: StoreKind,
    round: u16,
}

impl Comparison {
    fn run(mut self) -> anyhow::Result<Table> {
        let arguments = self.arguments.clone();
        let scratch = self.directory.join("versions");
        fs::create_dir(&scratch)?;
        for subject in &arguments.subjects {
            let version = match subject.peer() {
                None => cairn::version(&scratch)?,
                Some(peer) => peer.version(&scratch)?,
            };
            self.table.versions.push((subject.name().to_owned(), version));
        }
        self.table.scale = arguments.scale;
        let root = self.directory.join("s3");
        fs::create_dir(&root)?;
        let server = S3Server::start(&self.runtime, &root)?;
        for plan in &arguments.trees {
            eprintln!("making the tree {}", plan.name());
            let directory = self.directory.join(plan.name());
            let mut source = Source::make(*plan, arguments.scale, &directory)?;
            self.table.trees.push((*plan, source.totals));
            let mut pairs: Vec<(Subject, StoreKind)> = arguments
                .stores
                .iter()
                .flat_map(|store| arguments.subjects.iter().map(|subject| (*subject, *store)))
                .filter(|(subject, store)| subject.can(*store))
                .collect();
            for round in 1..=arguments.rounds {
                for (subject, store) in &pairs {
                    let (subject, store) = (*subject, *store);
                    ensure!(!measure::stopped(), "interrupted");
                    let turn = Turn {
                        subject,
                        store,
                        round,
                    };
                    if let Err(error) = self.turn(turn, &server, &mut source) {
                        let (subject, store) = (subject.name(), store.name());
                        let failure = format!(
                            "{subject}, {store} store, tree {}, round {round}: {error:#}",
                            plan.name()
                        );
                        eprintln!("FAILED: {failure}");
                        self.table.failures.push(failure);
                    }
                }
                // Nobody always finds the machine as the same other one left it.
                let pairs_len = pairs.len().max(1);
                pairs.rotate_left((pairs_len / 2 + 1) % pairs_len);
            }
            fs::remove_dir_all(&directory)?;
        }
        Ok(self.table)
    }

    fn turn(&mut self, turn: Turn, server: &S3Server, source: &mut Source) -> anyhow::Result<()> {
        let Turn {
            subject,
            store,
            round,
        } = turn;
        eprintln!(
            "round {round} of {}: tree {}, {} store, {}",
            self.arguments.rounds,
            source.plan.name(),
            store.name(),
            subject.name()
        );
        let directory = self.directory.join("turn");
        let server = (store == StoreKind::S3).then_some(server);
        let name = format!("{}-{}-{round}", source.plan.name(), subject.name());
        let place = Place::make(&directory, server, &name)?;
        source.bring(State::Before)?;
        source.warm()?;
        let runtime = self.runtime.clone();
        let outcome = match subject.peer() {
            Some(peer) => peer
                .begin(&runtime, &place)
                .and_then(|mut running| self.jobs(turn, &mut running, &place, source)),
            None => cairn::Cairn::begin(&runtime, &place, source)
                .and_then(|mut cairn| self.jobs(turn, &mut cairn, &place, source)),
        };
        fs::remove_dir_all(&directory)?;
        if place.stored.exists() {
            fs::remove_dir_all(&place.stored)?;
        }
        outcome
    }

    /// The jobs of a turn, in their order.
    fn jobs(
        &mut self,
        turn: Turn,
        archiver: &mut dyn Archiver,
        place: &Place,
        source: &mut Source,
    ) -> anyhow::Result<()> {
        let plan = source.plan;
        let mut note = |work: Work, cost: Cost| -> anyhow::Result<()> {
            let cell = Cell::new(
                (plan, turn.store.shown(), work),
                turn.subject.name(),
                turn.round,
                cost,
                place.stored_bytes()?,
            );
            eprintln!("  {}: {}", work.name(plan), cell.shown());
            self.table.cells.push(cell);
            Ok(())
        };
        let idle = rustix::fs::sync;
        for (number, work) in [Work::First, Work::Unchanged, Work::Changed]
            .into_iter()
            .enumerate()
        {
            if work == Work::Changed {
                source.bring(State::After)?;
                archiver.follow_change(source)?;
            }
            idle();
            note(work, archiver.push(source, number)?)?;
        }
        for (work, data) in [(Work::Verify, false), (Work::VerifyData, true)] {
            idle();
            if let Some(cost) = archiver.verify(data)? {
                note(work, cost)?;
            }
        }
        idle();
        note(Work::Restore, archiver.restore()?)?;
        let expected = local::list(&source.root, &|_| true)?;
        let comparison = archiver.compare(&expected)?;
        ensure!(comparison.equal(), "what was restored differs: {comparison}");
        archiver.forget()?;
        idle();
        note(Work::Reclaim, archiver.reclaim()?)
    }
}
