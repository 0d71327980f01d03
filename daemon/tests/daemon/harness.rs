//! Starting and stopping daemons, running commands against them, asking over HTTP. Nothing waits by the clock: a daemon is
//! ready when it says so, and has ended when it has.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for a line or an answer before a test fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(120);
/// Lines of a daemon's log that wait to be read.
const LINES_MAX: usize = 10_000;

/// A running daemon. Killed when dropped.
pub struct Daemon {
    child: Child,
    lines: Receiver<String>,
    /// Its data directory.
    pub data: PathBuf,
    /// Where it answers HTTP.
    pub http: SocketAddr,
    /// Where it answers NFS.
    pub nfs: SocketAddr,
}

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ended {
    /// The object on standard output.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The error object on standard error.
    pub fn error(&self) -> Value {
        let told: Value =
            serde_json::from_str(&self.stderr).unwrap_or_else(|error| panic!("{error} in {self:?}"));
        told["error"].clone()
    }
}

/// A directory for one test.
pub fn directory() -> TempDir {
    tempfile::tempdir().expect("the temporary directory is writable")
}

/// `cairnd` with free ports and a data directory, not yet started.
pub fn cairnd(data: &Path) -> Command {
    cairnd_at(Path::new(env!("CARGO_BIN_EXE_cairnd")), data)
}

/// As [`cairnd`], from a binary that lies elsewhere.
pub fn cairnd_at(binary: &Path, data: &Path) -> Command {
    let mut command = Command::new(binary);
    command
        .args([
            "--nfs-listen",
            "127.0.0.1:0",
            "--http-listen",
            "127.0.0.1:0",
            "--data-dir",
        ])
        .arg(data)
        .env_remove("CAIRN_CONFIG")
        .stdin(Stdio::null());
    command
}

/// Runs a daemon that is expected to end by itself.
pub fn run_to_end(command: &mut Command) -> Ended {
    command.output().expect("cairnd can be executed").into()
}

impl Daemon {
    /// Starts a daemon on `data` and waits until it is ready.
    pub fn start(data: &Path) -> Daemon {
        Self::start_with(data, &mut cairnd(data))
    }

    /// Starts a daemon by this command and waits until it is ready.
    pub fn start_with(data: &Path, command: &mut Command) -> Daemon {
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .expect("cairnd can be executed");
        let stderr = child.stderr.take().expect("standard error is a pipe");
        let (sender, lines) = sync_channel(LINES_MAX);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut daemon = Daemon {
            child,
            lines,
            data: data.to_owned(),
            http: SocketAddr::from(([127, 0, 0, 1], 0)),
            nfs: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        daemon.wait_for_line(" ready ");
        let text =
            std::fs::read(data.join("endpoints.json")).expect("a ready daemon has written its endpoints");
        let endpoints: Value = serde_json::from_slice(&text).expect("endpoints.json is JSON");
        assert_eq!(endpoints["process_id"], daemon.child.id());
        let address = |name: &str| endpoints[name].as_str().and_then(|text| text.parse().ok());
        daemon.http = address("http").expect("endpoints.json has http");
        daemon.nfs = address("nfs").expect("endpoints.json has nfs");
        daemon
    }

    /// Reads its log until a line has `text`.
    pub fn wait_for_line(&self, text: &str) {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return,
                Ok(line) => seen.push(line),
                Err(error) => panic!(
                    "{error} before {text:?} was logged; the log:\n{}",
                    seen.join("\n")
                ),
            }
        }
    }

    /// Its process id.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the daemon runs");
    }

    /// Waits for its end; gives its exit code, or minus the signal that ended it.
    pub fn ended(mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let status = self.child.wait().expect("the daemon is a child");
        status.code().unwrap_or_else(|| -status.signal().unwrap_or(0))
    }

    /// Asks it to stop, and gives its exit code.
    pub fn stop(self) -> i32 {
        self.signal(Signal::TERM);
        self.ended()
    }

    /// Runs `cairn` against it.
    pub fn cairn(&self, arguments: &[&str]) -> Ended {
        cairn(&self.data.join("cairnd.sock"), arguments)
    }

    /// Runs `cairn --json` against it, which must succeed.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let ended = self.cairn(&[arguments, &["--json"]].concat());
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
        ended.json()
    }

    /// Everything that commands can see of workspaces and snapshots.
    pub fn state(&self) -> Vec<Value> {
        let workspaces = self.json(&["workspace", "list"]);
        let names: Vec<String> = workspaces["workspaces"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|workspace| workspace["name"].as_str().expect("a name").to_owned())
            .collect();
        let histories = names.iter().map(|name| self.json(&["history", name]));
        std::iter::once(workspaces.clone()).chain(histories).collect()
    }

    /// Status code and body of an HTTP request.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.http).expect("the daemon answers HTTP");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout can be set");
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .expect("the request can be sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the answer is text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        let code = head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .expect("a status code");
        (code, body.to_owned())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Already ended: nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `cairn` on a socket.
pub fn cairn(socket: &Path, arguments: &[&str]) -> Ended {
    let binary = Path::new(env!("CARGO_BIN_EXE_cairnd")).with_file_name("cairn");
    assert!(
        binary.exists(),
        "{} is missing: cargo build --release -p cairn",
        binary.display()
    );
    let output = Command::new(binary)
        .args(arguments)
        .env("CAIRN_SOCKET", socket)
        .stdin(Stdio::null())
        .output()
        .expect("cairn can be executed");
    output.into()
}

/// Names and contents of the files of a directory, deep, without the metadata store's, whose files come and go.
pub fn listing(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut pending = vec![path.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).expect("the directory can be listed") {
            let entry = entry.expect("an entry");
            let kind = entry.file_type().expect("a type");
            if kind.is_dir() {
                pending.push(entry.path());
            }
            let content = if kind.is_file() {
                std::fs::read(entry.path()).expect("readable")
            } else {
                Vec::new()
            };
            found.push((entry.path(), content));
        }
    }
    found.sort();
    found
}
