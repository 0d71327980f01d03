//! A daemon on a temporary directory, with what a test of the user-space client needs around it.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use crate::client::{Client, ClientSettings, Handle};
use crate::control::Control;
use crate::node::{Node, NodeSettings};
use crate::tree::compare::{Leniency, compare};
use crate::tree::{Tree, remote};

/// A daemon of a test's own. Its files go with it.
#[derive(Debug)]
pub struct Fixture {
    /// The daemon.
    pub node: Node,
    /// Its RPC service.
    pub control: Control,
    directory: TempDir,
}

impl Fixture {
    /// A daemon with a workspace for each name.
    pub async fn start(workspaces: &[&str]) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("cairn-user.").tempdir()?;
        let node = Node::start(&NodeSettings::new(directory.path().join("data"))).await?;
        let control = Control::connect(node.socket()).await?;
        for workspace in workspaces {
            control.create(workspace).await?;
        }
        Ok(Fixture {
            node,
            control,
            directory,
        })
    }

    /// An empty directory on this machine that goes with the fixture.
    pub fn local(&self, name: &str) -> anyhow::Result<std::path::PathBuf> {
        let path = self.directory.path().join(name);
        std::fs::create_dir(&path)?;
        Ok(path)
    }

    /// Where the fixture's files are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A client, and the root of a workspace.
    pub async fn mount(&self, workspace: &str) -> anyhow::Result<(Arc<Client>, Handle)> {
        let client = Client::connect(self.node.nfs(), ClientSettings::default()).await?;
        let root = client.mount(&format!("/{workspace}")).await?;
        Ok((client, root))
    }

    /// A workspace as a new client sees it.
    pub async fn tree(&self, workspace: &str) -> anyhow::Result<Tree> {
        let (client, root) = self.mount(workspace).await?;
        Ok(remote::list(&client, &root).await?)
    }

    /// Fails unless the workspace equals the tree in every respect.
    pub async fn assert_equal(&self, expected: &Tree, workspace: &str, when: &str) -> anyhow::Result<()> {
        let found = self.tree(workspace).await?;
        assert_same(expected, &found, when).await
    }

    /// Ends the daemon at once and starts it again on the same port.
    pub async fn kill_and_restart(&mut self) -> anyhow::Result<()> {
        self.node.kill()?;
        self.restarted().await
    }

    /// Asks the daemon to end and starts it again on the same port.
    pub async fn stop_and_restart(&mut self) -> anyhow::Result<()> {
        let status = self.node.stop().await?;
        anyhow::ensure!(
            status.success(),
            "the daemon ended with {status}:\n{}",
            self.node.log_end()
        );
        self.restarted().await
    }

    async fn restarted(&mut self) -> anyhow::Result<()> {
        self.node.restart(true).await?;
        self.control = Control::connect(self.node.socket()).await?;
        Ok(())
    }
}

/// Fails unless the trees are equal in every respect.
pub async fn assert_same(expected: &Tree, found: &Tree, when: &str) -> anyhow::Result<()> {
    let comparison = compare(expected, found, Leniency::default()).await?;
    anyhow::ensure!(comparison.equal(), "{when}: {comparison}");
    Ok(())
}
