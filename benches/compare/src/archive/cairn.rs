//! Cairn as one of those that are compared: a daemon of its own, the tree in a workspace, and the command `cairn`.
//!
//! A push is `cairn snapshot` and `cairn push`, as others look for changes in their push. Processor time is the daemon's and
//! the commands', memory is the daemon's, with all that it has cached.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use cairn_e2e::client::attributes::Time;
use cairn_e2e::client::files::runs;
use cairn_e2e::client::{Client, ClientSettings, Handle, SetAttributes};
use cairn_e2e::node::program;
use cairn_e2e::rpc::TransportSettings;
use cairn_e2e::tree::compare::{Comparison, Leniency, compare};
use cairn_e2e::tree::copy_in::copy_in;
use cairn_e2e::tree::{Tree, local, remote};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::measure::{Cost, Tool, Watch};
use super::peers::{ARCHIVES, Archiver, Place};
use super::server::{ACCESS_KEY, BUCKET, REGION, SECRET_KEY};
use super::source::{Source, State, modified_seconds};

/// The workspace that is pushed.
const WORKSPACE: &str = "pushed";
/// The workspace that is made of the newest archive.
const PULLED: &str = "pulled";
/// How long a daemon may take to be ready.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_PAUSE: Duration = Duration::from_millis(10);
/// The commands that are compared; a `cairn` that lacks one is too old.
const COMMANDS: [&[&str]; 5] = [
    &["push"],
    &["pull"],
    &["archive", "verify"],
    &["archive", "delete"],
    &["archive", "reclaim"],
];

/// What the command says about its version. Fails if it does not know what is to be compared.
pub fn version(scratch: &Path) -> anyhow::Result<String> {
    let cairn = Tool::new(program("cairn", "CAIRN_BIN")?, scratch);
    for command in COMMANDS {
        let help = [command, &["--help"]].concat();
        if cairn.run(scratch, &help).is_err() {
            bail!(
                "this `cairn` has no command `{}`: build one that has it and name it with CAIRN_BIN (and its cairnd with \
                 CAIRND_BIN), or compare the others alone with --subjects bupstash,restic,rustic,borg",
                command.join(" ")
            );
        }
    }
    let said = cairn.run(scratch, &["--version"])?;
    Ok(said.output.trim().to_owned())
}

/// A daemon; it ends with this value.
struct Daemon {
    child: Child,
    nfs: SocketAddr,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    /// Starts one on a fresh data directory and waits until `cairn status` calls it ready.
    fn start(cairn: &Tool, place: &Place, data: &Path) -> anyhow::Result<Self> {
        let configuration = place.scratch.join("cairnd.toml");
        let text = format!(
            "data_dir = {:?}\n\n[nfs]\nlisten = \"127.0.0.1:0\"\n\n[http]\nlisten = \"127.0.0.1:0\"\n\n{}",
            data.display().to_string(),
            store_settings(place)
        );
        fs::write(&configuration, text)?;
        let log = place.scratch.join("cairnd.log");
        // The kernel ends it when this thread ends, however that comes about.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program("cairnd", "CAIRND_BIN")?)
            .arg("--config")
            .arg(&configuration)
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .env("AWS_REGION", REGION)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .context("starting cairnd with setpriv (of the package util-linux)")?;
        let mut daemon = Daemon {
            child,
            nfs: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let started = Instant::now();
        loop {
            if let Some(status) = daemon.child.try_wait()? {
                let log = fs::read_to_string(&log).unwrap_or_default();
                bail!("cairnd ended with {status}:\n{log}");
            }
            ensure!(
                started.elapsed() < START_TIMEOUT,
                "cairnd is not ready after {START_TIMEOUT:?}"
            );
            std::thread::sleep(POLL_PAUSE);
            let Ok(text) = fs::read(data.join("endpoints.json")) else {
                continue;
            };
            let Ok(status) = cairn.run(&place.scratch, &["status", "--json"]) else {
                continue;
            };
            let status: Value = serde_json::from_str(&status.output).context("`cairn status --json`")?;
            if status["ready"] == Value::Bool(true) {
                let endpoints: Value = serde_json::from_slice(&text)?;
                daemon.nfs = endpoints["nfs"]
                    .as_str()
                    .context("endpoints.json has no nfs")?
                    .parse()?;
                return Ok(daemon);
            }
        }
    }
}

/// Cairn with a workspace that holds the tree.
pub struct Cairn<'a> {
    daemon: Daemon,
    cairn: Tool,
    runtime: &'a Runtime,
    place: &'a Place,
    url: String,
    /// The identities of the snapshots so far.
    snapshots: Vec<String>,
}

impl<'a> Cairn<'a> {
    /// Starts a daemon and copies the tree into a workspace.
    pub fn begin(runtime: &'a Runtime, place: &'a Place, source: &Source) -> anyhow::Result<Self> {
        let data = place.scratch.join("data");
        let cairn = Tool::new(program("cairn", "CAIRN_BIN")?, &place.scratch)
            .with("CAIRN_SOCKET", data.join("cairnd.sock"));
        let url = match &place.s3 {
            Some((_, prefix)) => format!("s3://{BUCKET}/{prefix}"),
            None => {
                fs::create_dir(&place.stored)?;
                format!("file://{}", place.stored.display())
            }
        };
        let daemon = Daemon::start(&cairn, place, &data)?;
        let this = Cairn {
            daemon,
            cairn,
            runtime,
            place,
            url,
            snapshots: Vec::new(),
        };
        this.run(&["workspace", "create", WORKSPACE])?;
        let tree = local::list(&source.root, &|_| true)?;
        this.runtime.block_on(async {
            let (client, root) = this.mount(WORKSPACE).await?;
            copy_in(&tree, &client, &root, &|_| ()).await?;
            anyhow::Ok(())
        })?;
        Ok(this)
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<(String, Cost)> {
        let done = self.cairn.run(&self.place.scratch, arguments)?;
        Ok((done.output, done.cost))
    }

    /// What commands cost together: their own processor time, and what the daemon does meanwhile.
    fn measured<T>(&self, commands: impl FnOnce() -> anyhow::Result<(T, Cost)>) -> anyhow::Result<(T, Cost)> {
        let watch = Watch::begin(self.daemon.child.id())?;
        let (result, own) = commands()?;
        let daemon = watch.end()?;
        let cost = Cost {
            wall: own.wall,
            cpu: own.cpu + daemon.cpu,
            peak_bytes: daemon.peak_bytes,
        };
        Ok((result, cost))
    }

    async fn mount(&self, workspace: &str) -> anyhow::Result<(Arc<Client>, Handle)> {
        let settings = ClientSettings {
            connections: 4,
            transport: TransportSettings {
                privileged_port: true,
                ..TransportSettings::default()
            },
            ..ClientSettings::default()
        };
        let client = Client::connect(self.daemon.nfs, settings).await?;
        let root = client.mount(&format!("/{workspace}")).await?;
        Ok((client, root))
    }

    fn newest(&self) -> anyhow::Result<&str> {
        self.snapshots
            .last()
            .map(String::as_str)
            .context("nothing was pushed")
    }
}

impl Archiver for Cairn<'_> {
    fn push(&mut self, _: &Source, number: usize) -> anyhow::Result<Cost> {
        let (id, cost) = self.measured(|| {
            let (made, snapshot) = self.run(&["snapshot", WORKSPACE, "--tag", ARCHIVES[number], "--json"])?;
            let made: Value = serde_json::from_str(&made).context("`cairn snapshot --json`")?;
            let id = made["id"].as_str().context("the snapshot has no id")?.to_owned();
            let (_, push) = self.run(&["push", &format!("{WORKSPACE}@{id}"), &self.url, "--json"])?;
            Ok((id, snapshot.then(push)))
        })?;
        self.snapshots.push(id);
        Ok(cost)
    }

    fn follow_change(&mut self, source: &Source) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            let (client, root) = self.mount(WORKSPACE).await?;
            for patch in &source.patches {
                let mut handle = root.clone();
                for name in patch.path.components() {
                    handle = client.lookup(&handle, name.as_os_str().as_bytes()).await?.handle;
                }
                let pieces = runs(patch.offset, patch.offset + patch.length);
                let bytes = |run: cairn_e2e::client::files::Run| {
                    source.patched(patch, State::After, run.offset, run.length as usize)
                };
                client.write_runs(&handle, &pieces, bytes).await?;
                let set = SetAttributes {
                    modified: Some(Time {
                        seconds: u32::try_from(modified_seconds(State::After))?,
                        nanoseconds: 0,
                    }),
                    ..SetAttributes::default()
                };
                client.setattr(&handle, set).await?;
            }
            Ok(())
        })
    }

    fn verify(&mut self, data: bool) -> anyhow::Result<Option<Cost>> {
        let mut command = vec!["archive", "verify", &self.url];
        if data {
            command.push("--deep");
        }
        let ((), cost) = self.measured(|| Ok(((), self.run(&command)?.1)))?;
        Ok(Some(cost))
    }

    fn restore(&mut self) -> anyhow::Result<Cost> {
        let archive = format!("{}@{}", self.url, self.newest()?);
        let ((), cost) = self.measured(|| Ok(((), self.run(&["pull", &archive, PULLED, "--json"])?.1)))?;
        Ok(cost)
    }

    fn compare(&mut self, expected: &Tree) -> anyhow::Result<Comparison> {
        self.runtime.block_on(async {
            let (client, root) = self.mount(PULLED).await?;
            let found = remote::list(&client, &root).await?;
            let leniency = Leniency {
                root: true,
                ..Leniency::default()
            };
            Ok(compare(expected, &found, leniency).await?)
        })
    }

    fn forget(&mut self) -> anyhow::Result<()> {
        let newest = self.newest()?;
        let mut command = vec!["archive", "delete", &self.url, "--yes"];
        command.extend(
            self.snapshots
                .iter()
                .map(String::as_str)
                .filter(|id| *id != newest),
        );
        self.run(&command)?;
        Ok(())
    }

    /// One run condemns packs, a later one removes what has been condemned for longer than the grace period.
    fn reclaim(&mut self) -> anyhow::Result<Cost> {
        let command = ["archive", "reclaim", &self.url, "--grace", "0s"];
        let ((), cost) = self.measured(|| {
            let (_, condemn) = self.run(&command)?;
            let (_, remove) = self.run(&command)?;
            Ok(((), condemn.then(remove)))
        })?;
        Ok(cost)
    }
}

/// What a daemon's configuration says about the store, in the form of TOML.
fn store_settings(place: &Place) -> String {
    match &place.s3 {
        Some((endpoint, prefix)) => format!(
            "[[store]]\nurl = \"s3://{BUCKET}/{prefix}\"\nendpoint = \"{endpoint}\"\nregion = \"{REGION}\"\nallow_http = true\n"
        ),
        None => String::new(),
    }
}
