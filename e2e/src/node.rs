//! A real `cairnd` process on a data directory of its own: started, stopped, killed, started again.
//!
//! Invariants: the process ends with its [`Node`], and with the thread that started it even if nothing is dropped; it
//! listens on loopback only; its log lies beside the data directory.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a daemon may take to serve.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an answer about readiness may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer about readiness that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// How long a daemon may take to end after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause between two looks at a process or a file.
const POLL_PAUSE: Duration = Duration::from_millis(2);
/// Lines of the log that an error shows.
const LOG_LINES_SHOWN: usize = 12;

/// Why a daemon could not be used.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A program is missing.
    #[error(
        "{path} is not there: build it with `cargo build --release -p cairnd -p cairn`, or set {variable}"
    )]
    NoProgram {
        /// Where it was expected.
        path: String,
        /// The variable that names another place.
        variable: &'static str,
    },
    /// Files or processes could not be handled.
    #[error("{what}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The daemon ended before it served.
    #[error("cairnd ended with {status}; its log ends with:\n{log}")]
    Ended {
        /// How.
        status: ExitStatus,
        /// The last lines that it wrote.
        log: String,
    },
    /// The daemon neither serves nor ends.
    #[error("cairnd did not {what} within {waited:?}; its log ends with:\n{log}")]
    Slow {
        /// What was waited for.
        what: &'static str,
        /// How long.
        waited: Duration,
        /// The last lines that it wrote.
        log: String,
    },
}

fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> NodeError {
    let what = what.into();
    move |source| NodeError::System { what, source }
}

/// The path of a built program: what `variable` says, or beside the running test or program.
pub fn program(name: &str, variable: &'static str) -> Result<PathBuf, NodeError> {
    let path = match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => {
            let running = std::env::current_exe().map_err(system("finding the running program"))?;
            let directory = running.parent().unwrap_or(Path::new("."));
            let directory = match directory.file_name() {
                Some(last) if last == "deps" => directory.parent().unwrap_or(directory),
                _ => directory,
            };
            directory.join(name)
        }
    };
    match path.is_file() {
        true => Ok(path),
        false => Err(NodeError::NoProgram {
            path: path.display().to_string(),
            variable,
        }),
    }
}

/// What a daemon is started with.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// The data directory. Its configuration, log and so on lie beside it, with its name as prefix.
    pub data: PathBuf,
    /// Port of NFS and MOUNT on loopback, 0 for any.
    pub nfs_port: u16,
    /// Port of HTTP on loopback, 0 for any.
    pub http_port: u16,
    /// Bytes of the data directory's file system that are kept free; the daemon's default if `None`.
    pub disk_reserve_bytes: Option<u64>,
    /// What the node is called; the machine's name if `None`.
    pub node_name: Option<String>,
    /// Further tables of the configuration, as TOML.
    pub tables: String,
}

impl NodeSettings {
    /// Any ports, default limits.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        NodeSettings {
            data: data.into(),
            nfs_port: 0,
            http_port: 0,
            disk_reserve_bytes: None,
            node_name: None,
            tables: String::new(),
        }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.data.file_name().unwrap_or_default().to_owned();
        name.push(suffix);
        self.data.with_file_name(name)
    }

    /// Where the daemon's log is.
    pub fn log(&self) -> PathBuf {
        self.beside(".log")
    }

    fn configuration(&self) -> String {
        let reserve = match self.disk_reserve_bytes {
            Some(bytes) => format!("\n[limits]\ndisk_reserve_bytes = {bytes}\n"),
            None => String::new(),
        };
        let name = match &self.node_name {
            Some(name) => format!("node_name = {name:?}\n"),
            None => String::new(),
        };
        format!(
            "data_dir = {:?}\n{name}\n[nfs]\nlisten = \"127.0.0.1:{}\"\n\n[http]\nlisten = \"127.0.0.1:{}\"\n{reserve}\n{}",
            self.data.display().to_string(),
            self.nfs_port,
            self.http_port,
            self.tables,
        )
    }

    fn log_end(&self) -> String {
        let log = std::fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

/// Where a daemon answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// NFS and MOUNT.
    pub nfs: SocketAddr,
    /// Health and readiness.
    pub http: SocketAddr,
    /// The socket of the RPC service.
    pub rpc: PathBuf,
    /// RPC over TCP, if the configuration has it.
    pub rpc_tcp: Option<SocketAddr>,
}

impl Endpoints {
    /// What the daemon wrote about itself; `None` while it is not there or not complete.
    fn read(data: &Path) -> Option<Self> {
        let text = std::fs::read(data.join("endpoints.json")).ok()?;
        let json: serde_json::Value = serde_json::from_slice(&text).ok()?;
        Some(Endpoints {
            nfs: json.get("nfs")?.as_str()?.parse().ok()?,
            http: json.get("http")?.as_str()?.parse().ok()?,
            rpc: json.get("rpc")?.as_str()?.into(),
            rpc_tcp: json
                .get("rpc_tcp")
                .and_then(|address| address.as_str()?.parse().ok()),
        })
    }
}

/// Whether the daemon says that it answers requests (the condition `serving` of GET /readyz). That it is *ready* is not
/// asked: with a full disk it serves and is not ready.
fn serves(http: SocketAddr) -> bool {
    let ask = || -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(http)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.write_all(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| says_serving(&answer))
}

/// Whether an answer to GET /readyz, with its head, says that the condition `serving` holds.
fn says_serving(answer: &[u8]) -> bool {
    const END_OF_HEAD: &[u8] = b"\r\n\r\n";
    let body = answer
        .windows(END_OF_HEAD.len())
        .position(|window| window == END_OF_HEAD)
        .map(|at| &answer[at + END_OF_HEAD.len()..]);
    let json: serde_json::Value = serde_json::from_slice(body.unwrap_or_default()).unwrap_or_default();
    json["conditions"].as_array().is_some_and(|conditions| {
        let serving =
            |condition: &serde_json::Value| condition["name"] == "serving" && condition["holds"] == true;
        conditions.iter().any(serving)
    })
}

/// A running daemon.
#[derive(Debug)]
pub struct Node {
    settings: NodeSettings,
    endpoints: Endpoints,
    child: Child,
}

impl Node {
    /// Starts a daemon and waits until it serves.
    pub async fn start(settings: &NodeSettings) -> Result<Self, NodeError> {
        let cairnd = program("cairnd", "CAIRND_BIN")?;
        let configuration = settings.beside(".toml");
        let shown = configuration.display().to_string();
        std::fs::write(&configuration, settings.configuration()).map_err(system(shown))?;
        // Written anew by every boot; what an earlier one wrote would be taken for this one's.
        match std::fs::remove_file(settings.data.join("endpoints.json")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(system("removing endpoints.json")(error));
            }
            _ => {}
        }
        let log = OpenOptions::new().create(true).append(true).open(settings.log());
        let log = log.map_err(system(settings.log().display().to_string()))?;
        let child = with_parent(&cairnd)
            .arg("--config")
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(system("starting cairnd"))?;
        Self::wait(settings, child).await
    }

    async fn wait(settings: &NodeSettings, mut child: Child) -> Result<Self, NodeError> {
        let started = Instant::now();
        loop {
            let endpoints = Endpoints::read(&settings.data).filter(|endpoints| serves(endpoints.http));
            if let Some(endpoints) = endpoints {
                return Ok(Node {
                    settings: settings.clone(),
                    endpoints,
                    child,
                });
            }
            if let Some(status) = child.try_wait().map_err(system("looking at cairnd"))? {
                let log = settings.log_end();
                return Err(NodeError::Ended { status, log });
            }
            if started.elapsed() > START_TIMEOUT {
                let _ = child.kill();
                let _ = child.wait();
                return Err(NodeError::Slow {
                    what: "serve",
                    waited: START_TIMEOUT,
                    log: settings.log_end(),
                });
            }
            tokio::time::sleep(POLL_PAUSE).await;
        }
    }

    /// Where NFS and MOUNT are served.
    pub fn nfs(&self) -> SocketAddr {
        self.endpoints.nfs
    }

    /// Where RPC is served over TCP, if it is.
    pub fn rpc_tcp(&self) -> Option<SocketAddr> {
        self.endpoints.rpc_tcp
    }

    /// Its process.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// The socket of the RPC service.
    pub fn socket(&self) -> &Path {
        &self.endpoints.rpc
    }

    /// Runs `cairn` with `--json` on this daemon and waits for it; what it printed last, or nothing if it printed nothing. Blocks.
    pub fn cairn(&self, arguments: &[&str]) -> anyhow::Result<serde_json::Value> {
        use anyhow::Context;
        let output = std::process::Command::new(program("cairn", "CAIRN_BIN")?)
            .arg("--socket")
            .arg(self.socket())
            .arg("--json")
            .args(arguments)
            .output()
            .context("starting cairn")?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr);
            anyhow::bail!(
                "cairn {}: {}: {}",
                arguments.join(" "),
                output.status,
                message.trim()
            );
        }
        if output.stdout.iter().all(u8::is_ascii_whitespace) {
            return Ok(serde_json::Value::Null);
        }
        // Findings come one on a line, and the outcome last.
        let values = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
        let last = values.last().unwrap_or(Ok(serde_json::Value::Null));
        last.with_context(|| format!("cairn {}: not JSON", arguments.join(" ")))
    }

    /// What it was started with.
    pub fn settings(&self) -> &NodeSettings {
        &self.settings
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
        self.settings.log_end()
    }

    /// Whether the process still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends the process at once (SIGKILL); it is gone on return.
    pub fn kill(&mut self) -> Result<(), NodeError> {
        self.child.kill().map_err(system("killing cairnd"))?;
        self.child.wait().map_err(system("waiting for cairnd"))?;
        Ok(())
    }

    /// Asks the process to end (SIGTERM) and waits for it.
    pub async fn stop(&mut self) -> Result<ExitStatus, NodeError> {
        let started = Instant::now();
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            kill_process(pid, Signal::TERM).map_err(|error| system("stopping cairnd")(error.into()))?;
        }
        loop {
            if let Some(status) = self.child.try_wait().map_err(system("looking at cairnd"))? {
                return Ok(status);
            }
            if started.elapsed() > STOP_TIMEOUT {
                return Err(NodeError::Slow {
                    what: "stop",
                    waited: STOP_TIMEOUT,
                    log: self.log_end(),
                });
            }
            tokio::time::sleep(POLL_PAUSE).await;
        }
    }

    /// Starts the daemon again after it ended; on the same port if `same_port`.
    pub async fn restart(&mut self, same_port: bool) -> Result<(), NodeError> {
        let mut settings = self.settings.clone();
        if same_port {
            settings.nfs_port = self.endpoints.nfs.port();
        }
        *self = Node::start(&settings).await?;
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that the kernel ends when the thread that started it ends, however that comes about (PR_SET_PDEATHSIG).
/// Without setpriv(1) of util-linux only [`Node`]'s drop ends it.
fn with_parent(program: &Path) -> Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    if !setpriv.is_file() {
        return Command::new(program);
    }
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

#[cfg(test)]
mod tests {
    use super::says_serving;

    #[test]
    fn a_daemon_with_a_full_disk_serves_and_is_not_ready() {
        let answer = |status, disk, serving| {
            format!(
                "HTTP/1.0 {status}\r\ncontent-type: application/json\r\n\r\n{{\"ready\":false,\"conditions\":[\
                 {{\"name\":\"disk_space\",\"holds\":{disk},\"message\":\"\"}},\
                 {{\"name\":\"serving\",\"holds\":{serving},\"message\":\"\"}}]}}\n"
            )
        };
        assert!(says_serving(answer("200 OK", true, true).as_bytes()));
        assert!(says_serving(
            answer("503 Service Unavailable", false, true).as_bytes()
        ));
        assert!(!says_serving(
            answer("503 Service Unavailable", true, false).as_bytes()
        ));
        assert!(!says_serving(b"HTTP/1.0 500 Internal Server Error\r\n\r\n"));
        assert!(!says_serving(b""));
    }
}
