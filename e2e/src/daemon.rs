//! A daemon for tests that are not asynchronous: `cairnd` on a temporary data directory, and the command `cairn` on it.
//!
//! Processes are those of [`crate::node`]; this adds the directory, the command line, and waiting without `await`.

use std::net::SocketAddr;
use std::process::ExitStatus;

use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::node::{Node, NodeSettings};

/// A running daemon with a data directory of its own, which goes with it.
#[derive(Debug)]
pub struct Daemon {
    node: Node,
    runtime: Runtime,
    _directory: TempDir,
}

impl Daemon {
    /// Starts a daemon on an empty data directory and any free ports, and waits until it serves.
    pub fn start() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("cairn-e2e.").tempdir()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let settings = NodeSettings::new(directory.path().join("data"));
        let node = runtime.block_on(Node::start(&settings))?;
        Ok(Daemon {
            node,
            runtime,
            _directory: directory,
        })
    }

    /// Where NFS and MOUNT are served.
    pub fn nfs(&self) -> SocketAddr {
        self.node.nfs()
    }

    /// The last lines of the daemon's log.
    pub fn log_end(&self) -> String {
        self.node.log_end()
    }

    /// Runs `cairn` with `--json` on this daemon; what it printed, or nothing if it printed nothing.
    pub fn cairn(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        self.node.cairn(arguments)
    }

    /// Ends the daemon at once (SIGKILL).
    pub fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.node.kill()?)
    }

    /// Asks the daemon to end (SIGTERM) and waits for it.
    pub fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        Ok(self.runtime.block_on(self.node.stop())?)
    }

    /// Starts the daemon again on the same data and the same port, and waits until it serves.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        Ok(self.runtime.block_on(self.node.restart(true))?)
    }
}
