//! The crash test: a daemon is killed over and over in the middle of a workload, always on the same data directory, and
//! after every start everything that had been acknowledged must be there, and nothing that nobody wrote.
//!
//! Several workers change trees of their own at the same time. Each knows what was acknowledged ([`model::State`]) and
//! which one operation was not; after a restart its directory must be the one or the other, and the unanswered request,
//! sent again with the same bytes, must succeed as if nothing had happened. Snapshots taken meanwhile are forked and
//! restored later and must hold a state that there was while they were taken.
//!
//! The seed decides which operations, delays and snapshots are chosen. How far the daemon gets with them until it is
//! killed is up to the machine, so a seed makes a failure likely to return, not certain.

mod file;
mod generate;
mod model;
mod observe;
mod operation;
mod snapshots;
mod worker;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::task::JoinSet;

use self::snapshots::{Attempt, Snapshots};
use self::worker::{Load, Worker};
use crate::client::{Client, ClientSettings, Handle, SetAttributes};
use crate::control::Control;
use crate::node::{Node, NodeSettings};
use crate::random::Random;
use crate::rpc::TransportSettings;

/// The workspace that is worked on.
const WORKSPACE: &str = "crash";
/// Longest time from the start of the load to the kill.
const LOAD_MAX: Duration = Duration::from_millis(60);
/// Most acknowledgements after which the kill comes at once.
const ACKNOWLEDGEMENTS_MAX: u64 = 150;
/// How long a load may take to reach them before it is killed anyway.
const LOAD_PATIENCE: Duration = Duration::from_secs(10);
/// One round in so many is a restore that is killed.
const RESTORE_ONE_IN: u64 = 12;
/// One round in so many checks a snapshot by a fork.
const CHECK_ONE_IN: u64 = 5;
/// One round in so many takes a snapshot under load.
const SNAPSHOT_ONE_IN: u64 = 3;
/// One round in so many ends with SIGTERM instead of SIGKILL; it does not count as a kill.
const TERMINATE_ONE_IN: u64 = 24;

/// What a crash test does.
#[derive(Debug, Clone)]
pub struct CrashSettings {
    /// Times that the daemon is killed.
    pub kills: u64,
    /// Decides everything that is chosen at random.
    pub seed: u64,
    /// Workers, each with its own directory and connection.
    pub workers: usize,
    /// Where the data directory is made.
    pub directory: PathBuf,
}

/// What a crash test did.
#[derive(Debug, Clone, Default)]
pub struct CrashReport {
    /// Times that the daemon was killed.
    pub kills: u64,
    /// Operations that were acknowledged.
    pub operations: u64,
    /// Kills that left at least one operation unanswered.
    pub unanswered: u64,
    /// Snapshots that were taken.
    pub snapshots: u64,
    /// Forks that were compared with what was snapshotted.
    pub checks: u64,
    /// Restores, complete or killed.
    pub restores: u64,
    /// Longest start of the daemon.
    pub start_max: Duration,
    /// Sum of all starts.
    pub start_sum: Duration,
}

impl fmt::Display for CrashReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} kills, {} operations acknowledged, {} kills with operations under way, {} snapshots, {} forks \
             checked, {} restores, starts of {:?} on average and {:?} at most",
            self.kills,
            self.operations,
            self.unanswered,
            self.snapshots,
            self.checks,
            self.restores,
            self.start_sum / (self.kills.max(1) as u32),
            self.start_max,
        )
    }
}

/// Something that must not be.
#[derive(Debug)]
pub struct Violation {
    worker: String,
    what: String,
}

impl Violation {
    fn new(worker: &str, what: &str) -> Self {
        Violation {
            worker: worker.to_owned(),
            what: what.to_owned(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.worker, self.what)
    }
}

impl std::error::Error for Violation {}

/// A daemon between a start and a kill, with its clients.
struct Boot {
    node: Node,
    control: Control,
    clients: Vec<Arc<Client>>,
    directories: Vec<Handle>,
}

impl Boot {
    async fn new(settings: &NodeSettings, workers: &[Worker]) -> anyhow::Result<Self> {
        let node = Node::start(settings).await?;
        let control = Control::connect(node.socket()).await?;
        if workers.is_empty() {
            control.create(WORKSPACE).await?;
        }
        let mut boot = Boot {
            node,
            control,
            clients: Vec::new(),
            directories: Vec::new(),
        };
        for worker in workers {
            let client = boot.client().await?;
            boot.directories
                .push(boot.directory(&client, WORKSPACE, worker.name()).await?);
            boot.clients.push(client);
        }
        Ok(boot)
    }

    /// A client of one connection, which does not survive the daemon.
    async fn client(&self) -> anyhow::Result<Arc<Client>> {
        let transport = TransportSettings {
            reconnect_for: Duration::ZERO,
            call_for: Duration::from_secs(30),
            privileged_port: false,
        };
        let settings = ClientSettings {
            connections: 1,
            transport,
            ..ClientSettings::default()
        };
        Ok(Client::connect(self.node.nfs(), settings).await?)
    }

    async fn directory(&self, client: &Arc<Client>, workspace: &str, name: &str) -> anyhow::Result<Handle> {
        let root = client.mount(&format!("/{workspace}")).await?;
        let found = client.lookup(&root, name.as_bytes()).await;
        Ok(found
            .with_context(|| format!("directory {name} of {workspace}"))?
            .handle)
    }
}

/// A crash test under way.
struct CrashTest {
    settings: CrashSettings,
    node: NodeSettings,
    random: Random,
    workers: Vec<Worker>,
    snapshots: Snapshots,
    verifiers: BTreeSet<[u8; 8]>,
    report: CrashReport,
}

/// Runs a crash test. An error tells what was lost or wrong, or what could not be done.
pub async fn run(settings: CrashSettings) -> anyhow::Result<CrashReport> {
    let node = NodeSettings::new(settings.directory.join("data"));
    let random = Random::new(settings.seed);
    let mut test = CrashTest {
        node,
        random,
        workers: Vec::new(),
        snapshots: Snapshots::default(),
        verifiers: BTreeSet::new(),
        report: CrashReport::default(),
        settings,
    };
    test.begin().await.context("before the first kill")?;
    while test.report.kills < test.settings.kills {
        let kills = test.report.kills;
        test.round()
            .await
            .with_context(|| format!("after {kills} kills"))?;
    }
    test.end().await.context("after the last kill")?;
    Ok(test.report)
}

/// The same workload without any crash, on an empty directory of any server: `operations` by one worker, after which
/// the directory must be what was acknowledged.
pub async fn rehearse(
    client: &Arc<Client>,
    directory: &Handle,
    seed: u64,
    operations: usize,
) -> Result<(), Violation> {
    let mut worker = Worker::new("rehearsal".to_owned(), Random::new(seed));
    worker.recover(client, directory).await?;
    worker.run_some(client, operations).await?;
    worker.check(client, directory).await
}

impl CrashTest {
    /// Makes the workspace and the workers' directories.
    async fn begin(&mut self) -> anyhow::Result<()> {
        let boot = Boot::new(&self.node, &[]).await?;
        let client = boot.client().await?;
        let root = client.mount(&format!("/{WORKSPACE}")).await?;
        for index in 0..self.settings.workers {
            let name = format!("worker-{index}");
            let set = SetAttributes {
                mode: Some(0o755),
                ..SetAttributes::default()
            };
            client.mkdir(&root, name.as_bytes(), set).await?;
            self.workers
                .push(Worker::new(name, self.random.fork(index as u64)));
        }
        Ok(())
    }

    /// Starts the daemon, checks everything, and ends it somehow.
    async fn round(&mut self) -> anyhow::Result<()> {
        let mut boot = self.start().await?;
        self.recover(&boot).await?;
        if self.random.one_in(CHECK_ONE_IN) {
            let checked = self
                .snapshots
                .check_one(&boot, &mut self.random, &self.workers)
                .await?;
            self.report.checks += u64::from(checked);
        }
        if self.random.one_in(RESTORE_ONE_IN) && !self.snapshots.is_empty() {
            self.restore(&mut boot).await
        } else {
            self.load(boot).await
        }
    }

    async fn start(&mut self) -> anyhow::Result<Boot> {
        let started = Instant::now();
        let boot = Boot::new(&self.node, &self.workers).await?;
        self.report.start_sum += started.elapsed();
        self.report.start_max = self.report.start_max.max(started.elapsed());
        Ok(boot)
    }

    async fn recover(&mut self, boot: &Boot) -> anyhow::Result<()> {
        self.snapshots.recover(boot, &self.workers).await?;
        for ((worker, client), directory) in self.workers.iter_mut().zip(&boot.clients).zip(&boot.directories)
        {
            worker.recover(client, directory).await?;
        }
        Ok(())
    }

    /// Lets the workers work until the daemon is killed.
    async fn load(&mut self, mut boot: Boot) -> anyhow::Result<()> {
        let at_once = self.random.one_in(2);
        let load = Arc::new(Load::until(1 + self.random.below(ACKNOWLEDGEMENTS_MAX)));
        let delay = LOAD_MAX.mul_f64(self.random.below(1000) as f64 / 1000.0);
        let snapshot_after = self.random.one_in(SNAPSHOT_ONE_IN).then(|| delay.mul_f64(0.7));
        let terminate = self.random.one_in(TERMINATE_ONE_IN);

        let mut running = JoinSet::new();
        for (mut worker, client) in self.workers.drain(..).zip(boot.clients.clone()) {
            let load = load.clone();
            running.spawn(async move {
                let ended = worker.run(&client, &load).await;
                (worker, ended)
            });
        }
        let attempt = snapshot_after.map(|after| {
            let attempt = self.snapshots.attempt();
            let control = boot.control.clone();
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                attempt.take(&control).await
            })
        });
        match at_once {
            // A server that fails every worker at once leaves nobody to reach the number.
            true => {
                let _ = tokio::time::timeout(LOAD_PATIENCE, load.reached()).await;
            }
            false => tokio::time::sleep(delay).await,
        }
        if !boot.node.runs() {
            bail!(
                "the daemon ended by itself; its log ends with:\n{}",
                boot.node.log_end()
            );
        }
        match terminate {
            true => {
                let status = boot.node.stop().await?;
                if !status.success() {
                    bail!("stopped by SIGTERM, the daemon ended with {status}");
                }
            }
            false => {
                boot.node.kill()?;
                self.report.kills += 1;
            }
        }
        while let Some(joined) = running.join_next().await {
            let (worker, ended) = joined?;
            self.workers.push(worker);
            ended?;
        }
        self.workers.sort_by(|a, b| a.name().cmp(b.name()));
        if let Some(attempt) = attempt {
            let attempt: Attempt = attempt.await?;
            self.report.snapshots += 1;
            self.snapshots.add(attempt);
        }
        self.report.operations += load.count();
        self.report.unanswered += u64::from(self.workers.iter().any(Worker::is_uncertain));
        self.check_verifiers()
    }

    /// The write verifier is one per boot, and never the same again.
    fn check_verifiers(&mut self) -> anyhow::Result<()> {
        let seen: BTreeSet<[u8; 8]> = self
            .workers
            .iter()
            .flat_map(|worker| worker.verifiers.clone())
            .collect();
        if seen.len() > 1 {
            bail!("{} write verifiers in the life of one process", seen.len());
        }
        match seen
            .into_iter()
            .find(|verifier| !self.verifiers.insert(*verifier))
        {
            Some(verifier) => bail!("write verifier {verifier:02x?} was used by an earlier process"),
            None => Ok(()),
        }
    }

    /// Restores a snapshot and kills the daemon meanwhile or right after. All workers' directories must be what they
    /// were, or all what the snapshot holds.
    async fn restore(&mut self, boot: &mut Boot) -> anyhow::Result<()> {
        self.report.restores += 1;
        let Some(chosen) = self.snapshots.choose(&mut self.random) else {
            return Ok(());
        };
        let (control, id) = (boot.control.clone(), chosen.id.clone());
        let restoring = tokio::spawn(async move { control.restore(WORKSPACE, &id).await });
        if self.random.one_in(2) {
            tokio::time::sleep(Duration::from_micros(self.random.below(12_000))).await;
            boot.node.kill()?;
        } else {
            while !restoring.is_finished() {
                tokio::task::yield_now().await;
            }
            boot.node.kill()?;
        }
        self.report.kills += 1;
        let restored = restoring.await?;
        let boot = self.start().await?;
        let mut before = true;
        for ((worker, client), directory) in self.workers.iter_mut().zip(&boot.clients).zip(&boot.directories)
        {
            before &= worker.check(client, directory).await.is_ok();
        }
        if before && restored.is_err() {
            return self.snapshots.recover(&boot, &self.workers).await;
        }
        if let Ok(safety) = restored {
            self.snapshots.add_safety(safety.id, &self.workers);
        }
        for (index, worker) in self.workers.iter_mut().enumerate() {
            worker
                .become_one_of(
                    &boot.clients[index],
                    &boot.directories[index],
                    &chosen.candidates[index],
                )
                .await
                .with_context(|| format!("after a restore of snapshot {}", chosen.id))?;
        }
        self.snapshots.recover(&boot, &self.workers).await
    }

    /// Checks everything once more, and every snapshot.
    async fn end(&mut self) -> anyhow::Result<()> {
        let boot = self.start().await?;
        self.recover(&boot).await?;
        self.report.checks += self.snapshots.check_all(&boot, &self.workers).await?;
        for ((worker, client), directory) in self.workers.iter_mut().zip(&boot.clients).zip(&boot.directories)
        {
            worker.check(client, directory).await?;
        }
        Ok(())
    }
}
