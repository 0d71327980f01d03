//! `cairn` on a directory, with the control directory beside it on the same file system.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use cairn_e2e::node::program;
use cairn_e2e::tree::compare::{Comparison, Leniency, compare};
use cairn_e2e::tree::{Tree, local};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::archive::measure::{Cost, Tool};
use crate::archive::peers::{Archiver, Place};
use crate::archive::source::Source;

/// A repository.
pub struct Cairn<'a> {
    runtime: &'a Runtime,
    tool: Tool,
    work: PathBuf,
    restored: PathBuf,
    engine: &'static str,
    snapshots: Vec<String>,
    plan: String,
}

/// What the command says about its version.
pub fn version(scratch: &Path) -> anyhow::Result<String> {
    let said = Tool::new(program("cairn", "CAIRN_BIN")?, scratch).run(scratch, &["--version"])?;
    Ok(said.output.trim().to_owned())
}

impl<'a> Cairn<'a> {
    /// A new repository of the tree.
    pub fn begin(
        runtime: &'a Runtime,
        place: &Place,
        source: &Source,
        engine: &'static str,
    ) -> anyhow::Result<Self> {
        let tool = Tool::new(program("cairn", "CAIRN_BIN")?, &place.scratch)
            .with("CAIRN_CONTROL_DIR", &place.stored);
        let cairn = Cairn {
            runtime,
            tool,
            work: source.root.clone(),
            restored: place.scratch.join("restored"),
            engine,
            snapshots: Vec::new(),
            plan: String::new(),
        };
        cairn.run(&["init", "."])?;
        // What reclaim is to leave: the newest.
        fs::write(place.stored.join("config.toml"), "[retention]\nkeep_last = 1\n")?;
        Ok(cairn)
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<(Value, Cost)> {
        let done = self.tool.run(&self.work, &[arguments, &["--json"]].concat())?;
        let said =
            serde_json::from_str(&done.output).with_context(|| format!("cairn printed {:?}", done.output))?;
        Ok((said, done.cost))
    }
}

impl Archiver for Cairn<'_> {
    fn push(&mut self, _: &Source, _: usize) -> anyhow::Result<Cost> {
        let (said, cost) = self.run(&["snapshot", ".", "--engine", self.engine])?;
        let used = said["snapshot"]["engine"]["used"].as_str();
        ensure!(used == Some(self.engine), "another engine was used: {said}");
        let id = said["snapshot"]["id"].as_str().context("no id")?;
        self.snapshots.push(id.to_owned());
        Ok(cost)
    }

    fn skip(&mut self, _: &Source) -> anyhow::Result<Option<Cost>> {
        let (said, cost) = self.run(&["snapshot", ".", "--engine", self.engine, "--skip-unchanged"])?;
        ensure!(said["outcome"] == "unchanged", "a snapshot was made: {said}");
        Ok(Some(cost))
    }

    fn follow_change(&mut self, _: &Source) -> anyhow::Result<()> {
        Ok(())
    }

    fn verify(&mut self, data: bool) -> anyhow::Result<Option<Cost>> {
        // There is one verification, of all data.
        if !data {
            return Ok(None);
        }
        let (said, cost) = self.run(&["verify", "."])?;
        ensure!(said["damaged"] == 0, "damage: {said}");
        Ok(Some(cost))
    }

    fn restore(&mut self) -> anyhow::Result<Cost> {
        let to = self.restored.display().to_string();
        Ok(self.run(&["restore", ".", "latest", "--to", &to])?.1)
    }

    fn compare(&mut self, expected: &Tree) -> anyhow::Result<Comparison> {
        let found = local::list(&self.restored, &|_| true)?;
        let comparison = self
            .runtime
            .block_on(compare(expected, &found, Leniency::default()))?;
        fs::remove_dir_all(&self.restored)?;
        Ok(comparison)
    }

    fn forget(&mut self) -> anyhow::Result<()> {
        let (said, _) = self.run(&["gc", "plan", "."])?;
        let removed = said["remove"].as_array().map_or(0, Vec::len);
        ensure!(
            removed + 1 == self.snapshots.len(),
            "not all old ones would go: {said}"
        );
        said["plan"]
            .as_str()
            .context("no plan")?
            .clone_into(&mut self.plan);
        Ok(())
    }

    fn reclaim(&mut self) -> anyhow::Result<Cost> {
        Ok(self.run(&["gc", "run", ".", &self.plan])?.1)
    }
}
