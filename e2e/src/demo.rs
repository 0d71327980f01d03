//! The demo: a real tree goes into a real daemon over NFS, is snapshotted, broken, compared, restored, survives a kill,
//! and is forked; after each of these every byte and attribute is compared with the source.
//!
//! It uses the programs as they are, `cairnd` as a process and `cairn` as a command. It ends with 0 only if every
//! comparison held. What it started and made is gone when it ends, however it ends, unless `--keep` is given.

mod cairn;
mod changes;
mod full;
mod report;
mod source;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use clap::Parser;
use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use self::cairn::Cairn;
use self::changes::{Changes, Difference, differences};
use self::report::{Report, size};
use self::source::Part;
use crate::client::{Client, ClientSettings, Handle, SetAttributes};
use crate::node::{Node, NodeError, NodeSettings};
use crate::rpc::TransportSettings;
use crate::tree::compare::{Comparison, Leniency, compare};
use crate::tree::copy_in::copy_in;
use crate::tree::{Totals, Tree, TreePath, remote};

/// The workspace.
const WORKSPACE: &str = "demo";
/// The fork.
const FORK: &str = "demo-fork";
/// The tag of the snapshot.
const TAG: &str = "before";
/// Steps of a run.
const STEPS: usize = 15;
/// Connections of the client.
const CONNECTIONS: usize = 4;

/// Exit code of a run that the disk was too small for.
const EXIT_NO_SPACE: u8 = 7;
/// Exit code of `cairnd` for an address that is taken.
const EXIT_ADDRESS: u8 = 6;

/// Copies a real tree in over NFS, takes a snapshot, breaks the tree, restores it, kills the daemon, forks; and compares
/// every byte, mode, time and link each time.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "cairn-demo",
    after_help = "Exit codes: 0 every comparison held; 1 one did not, or a step failed; 2 wrong command line; \
                  6 a port is taken; 7 the disk is full."
)]
pub struct Arguments {
    /// Directory below which the data directory is made [default: the directory for temporary files]
    #[arg(long, env = "DEMO_DIR")]
    pub dir: Option<PathBuf>,
    /// Keep the data directory, and say where it is
    #[arg(long)]
    pub keep: bool,
    /// Port of NFS on loopback; 0 is any free one
    #[arg(long, default_value_t = 0)]
    pub nfs_port: u16,
    /// Port of HTTP on loopback; 0 is any free one
    #[arg(long, default_value_t = 0)]
    pub http_port: u16,
    /// Directory to copy in, instead of the project and the Rust toolchain; may be given several times
    #[arg(long)]
    pub source: Vec<PathBuf>,
}

/// Runs the demo.
pub fn run(arguments: &Arguments) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let outcome = runtime
        .context("starting threads")
        .and_then(|runtime| runtime.block_on(supervise(arguments)));
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("\ndemo: {error:#}");
            let taken = matches!(
                error.downcast_ref::<NodeError>(),
                Some(NodeError::Ended { status, .. }) if status.code() == Some(EXIT_ADDRESS.into())
            );
            let no_space = full::is_no_space(&error);
            if taken {
                eprintln!("  or let the demo take any free port, with --nfs-port 0 and --http-port 0");
            }
            if no_space {
                eprintln!("  Nothing was copied. Run the demo with --dir on a larger file system.");
            }
            ExitCode::from(match () {
                () if taken => EXIT_ADDRESS,
                () if no_space => EXIT_NO_SPACE,
                () => 1,
            })
        }
    }
}

/// Ends with the demo or with a signal; either way everything is cleaned up on return.
async fn supervise(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let above = arguments.dir.clone().unwrap_or_else(std::env::temp_dir);
    std::fs::create_dir_all(&above).with_context(|| above.display().to_string())?;
    let directory = tempfile::Builder::new().prefix("cairn-demo.").tempdir_in(&above);
    let directory: TempDir = directory.with_context(|| above.display().to_string())?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let outcome = tokio::select! {
        outcome = Box::pin(demonstrate(arguments, directory.path())) => outcome,
        _ = interrupt.recv() => Ok(ExitCode::from(130)),
        _ = terminate.recv() => Ok(ExitCode::from(143)),
    };
    if arguments.keep {
        println!("kept: {}", directory.keep().display());
    }
    outcome
}

async fn demonstrate(arguments: &Arguments, directory: &Path) -> anyhow::Result<ExitCode> {
    let mut settings = NodeSettings::new(directory.join("data"));
    settings.nfs_port = arguments.nfs_port;
    settings.http_port = arguments.http_port;
    let mut demo = Demo::start(settings).await?;
    let staging = tempfile::Builder::new().prefix("cairn-demo-source.").tempdir()?;
    let step = demo.report.begin("list the source");
    demo.parts = source::parts(&arguments.source, staging.path()).await?;
    let totals = demo.source_totals();
    let note = format!("{} files, {}", totals.files, size(totals.bytes));
    demo.report.end(step, None, &note);

    let outcome = Box::pin(demo.steps()).await;
    if outcome.is_err() {
        println!("failed");
    }
    demo.report.print();
    match outcome {
        Ok(()) => {
            println!(
                "\nEvery comparison held: bytes, types, modes, owners, times, link targets, hard links."
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(error) if full::is_no_space(&error) => {
            let what = format!("{error:#}");
            full::explain(&mut demo, &what).await?;
            Ok(ExitCode::from(EXIT_NO_SPACE))
        }
        Err(error) => Err(error),
    }
}

/// A run of the demo.
struct Demo {
    node: Node,
    cairn: Cairn,
    report: Report,
    parts: Vec<Part>,
    /// What was acknowledged, part by part, as long as the copy runs.
    acknowledged: Vec<Mutex<HashSet<TreePath>>>,
    /// Whether the workspace should equal the source now.
    intact: bool,
}

impl Demo {
    async fn start(settings: NodeSettings) -> anyhow::Result<Self> {
        let report = Report::new(STEPS);
        let step = report.begin("start cairnd, make a workspace");
        let node = match Node::start(&settings).await {
            Ok(node) => node,
            Err(error) => {
                println!("failed");
                return Err(error.into());
            }
        };
        let cairn = Cairn::new(&node)?;
        let mut create = vec!["workspace", "create", WORKSPACE];
        if !is_root() {
            create.push("--any-port");
        }
        let mut demo = Demo {
            node,
            cairn,
            report,
            parts: Vec::new(),
            acknowledged: Vec::new(),
            intact: true,
        };
        if let Err(error) = demo.cairn.run(&create) {
            println!("failed");
            return Err(error);
        }
        let note = format!("NFS on {}", demo.node.nfs());
        demo.report.end(step, None, &note);
        Ok(demo)
    }

    async fn steps(&mut self) -> anyhow::Result<()> {
        self.copy_in().await?;
        self.compare("compare with the source", WORKSPACE).await?;

        let step = self.report.begin("snapshot");
        self.cairn
            .run(&["snapshot", WORKSPACE, "--tag", TAG, "--note", "all is well"])?;
        self.report.end(step, None, "");

        self.intact = false;
        let (before, after, written) = self.change().await?;
        self.diff(&before, &after, &written)?;

        let step = self.report.begin("restore");
        self.cairn.run(&["restore", WORKSPACE, TAG])?;
        self.report.end(step, None, "");
        self.intact = true;
        self.compare("compare with the source", WORKSPACE).await?;

        let step = self.report.begin("SIGKILL cairnd, start it again");
        self.node.kill()?;
        self.node.restart(false).await?;
        self.cairn = Cairn::new(&self.node)?;
        self.report.end(step, None, "");
        self.compare("compare with the source", WORKSPACE).await?;

        let step = self.report.begin("fork");
        self.cairn.run(&["fork", WORKSPACE, TAG, FORK])?;
        self.report.end(step, None, "");
        self.compare("compare the fork with the source", FORK).await?;

        self.change_fork().await?;
        self.compare("compare the original with the source", WORKSPACE)
            .await
    }

    fn source_totals(&self) -> Totals {
        self.parts.iter().fold(Totals::default(), |sum, part| {
            let totals = part.tree.totals();
            Totals {
                entries: sum.entries + totals.entries,
                files: sum.files + totals.files,
                bytes: sum.bytes + totals.bytes,
            }
        })
    }

    async fn mount(&self, workspace: &str) -> anyhow::Result<(Arc<Client>, Handle)> {
        let transport = TransportSettings {
            privileged_port: is_root(),
            ..TransportSettings::default()
        };
        let settings = ClientSettings {
            connections: CONNECTIONS,
            transport,
            ..ClientSettings::default()
        };
        let client = Client::connect(self.node.nfs(), settings).await?;
        let root = client.mount(&format!("/{workspace}")).await?;
        Ok((client, root))
    }

    async fn copy_in(&mut self) -> anyhow::Result<()> {
        let totals = self.source_totals();
        let step = self.report.begin("copy it in over NFS");
        let (client, root) = self.mount(WORKSPACE).await?;
        self.acknowledged = self.parts.iter().map(|_| Mutex::default()).collect();
        for (part, acknowledged) in self.parts.iter().zip(&self.acknowledged) {
            let set = SetAttributes {
                mode: Some(0o755),
                ..SetAttributes::default()
            };
            let directory = client.mkdir(&root, part.name.as_bytes(), set).await?.handle;
            let note = |path: &TreePath| {
                acknowledged.lock().insert(path.clone());
            };
            let copied = copy_in(&part.tree, &client, &directory, &note).await;
            copied.with_context(|| format!("copying {}", part.name))?;
        }
        self.report.end(step, Some(totals), "");
        Ok(())
    }

    /// Compares every part with the source.
    async fn compare(&mut self, name: &str, workspace: &str) -> anyhow::Result<()> {
        let step = self.report.begin(name);
        let (client, root) = self.mount(workspace).await?;
        let mut bad = Vec::new();
        for part in &self.parts {
            let directory = client.lookup(&root, part.name.as_bytes()).await?.handle;
            let found = remote::list(&client, &directory).await?;
            let comparison = compare(&part.tree, &found, Leniency::default()).await?;
            if !comparison.equal() {
                bad.push((part.name.clone(), comparison));
            }
        }
        let names = client.list(&root).await?.len();
        let note = if bad.is_empty() && names == self.parts.len() {
            "equal"
        } else {
            "DIFFERENT"
        };
        self.report.end(step, Some(self.source_totals()), note);
        ensure!(
            names == self.parts.len(),
            "{name}: {names} entries instead of {}",
            self.parts.len()
        );
        bail_on(name, &bad)
    }

    async fn change(&mut self) -> anyhow::Result<(Tree, Tree, HashSet<u64>)> {
        let (client, root) = self.mount(WORKSPACE).await?;
        let before = remote::list(&client, &root).await?;
        let step = self.report.begin("delete, overwrite, truncate, rename, add");
        let written = Changes::new(&client, &before).make().await?;
        self.report.end(step, None, "");
        let after = remote::list(&client, &root).await?;
        Ok((before, after, written))
    }

    /// `cairn diff` must say exactly what was changed.
    fn diff(&mut self, before: &Tree, after: &Tree, written: &HashSet<u64>) -> anyhow::Result<()> {
        let step = self.report.begin("diff");
        let summary = self.cairn.run(&["diff", WORKSPACE, TAG, "--stat"])?;
        let listed = self.cairn.json(&["diff", WORKSPACE, TAG])?;
        let told = told(&listed)?;
        let expected = differences(before, after, written);
        let note = format!("{} entries differ", told.len());
        self.report.end(step, None, &note);
        for line in summary.lines() {
            println!("        {line}");
        }
        let wrong: Vec<String> = expected
            .keys()
            .chain(told.keys())
            .filter(|path| expected.get(*path) != told.get(*path))
            .map(|path| {
                let (done, said) = (expected.get(path), told.get(path));
                format!(
                    "{}: {done:?} was done, {said:?} was said",
                    crate::tree::show(path)
                )
            })
            .take(10)
            .collect();
        ensure!(!expected.is_empty(), "nothing was changed");
        ensure!(wrong.is_empty(), "cairn diff is wrong:\n  {}", wrong.join("\n  "));
        Ok(())
    }

    async fn change_fork(&mut self) -> anyhow::Result<()> {
        let step = self.report.begin("change the fork");
        let (client, root) = self.mount(FORK).await?;
        let before = remote::list(&client, &root).await?;
        Changes::new(&client, &before).make().await?;
        self.report.end(step, None, "");
        Ok(())
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn bail_on(name: &str, bad: &[(String, Comparison)]) -> anyhow::Result<()> {
    if let Some((part, comparison)) = bad.first() {
        bail!("{name}: {part}: {comparison}");
    }
    Ok(())
}

/// The differences that `cairn diff --json` lists, one object each and a summary after them.
fn told(objects: &[Value]) -> anyhow::Result<BTreeMap<TreePath, Difference>> {
    let (summary, list) = objects
        .split_last()
        .context("cairn diff --json printed nothing")?;
    ensure!(
        summary.get("summary").is_some(),
        "cairn diff --json printed no summary"
    );
    let mut told = BTreeMap::new();
    for entry in list {
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        let path = match text("path_hex") {
            Some(digits) => hexadecimal(digits).context("path_hex is not hexadecimal")?,
            None => text("path")
                .context("a difference without a path")?
                .as_bytes()
                .to_vec(),
        };
        let kind = match text("kind") {
            Some("added") => Difference::Added,
            Some("removed") => Difference::Removed,
            Some("modified") => Difference::Modified,
            Some("retyped") => Difference::Retyped,
            Some("attributes") => Difference::Attributes,
            other => bail!("unknown kind of difference {other:?}"),
        };
        told.insert(path, kind);
    }
    Ok(told)
}

fn hexadecimal(digits: &str) -> Option<Vec<u8>> {
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
        .collect()
}
