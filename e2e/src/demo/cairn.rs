//! The command `cairn`, as a person would use it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

use crate::node::{Node, program};

/// The exit code of `cairn` that says that the node is full.
const EXIT_NO_SPACE: i32 = 7;

/// `cairn` failed.
#[derive(Debug, thiserror::Error)]
#[error("`cairn {arguments}` ended with {code:?}: {message}")]
pub struct CairnFailed {
    arguments: String,
    code: Option<i32>,
    message: String,
}

impl CairnFailed {
    /// Whether it failed for want of space.
    pub fn no_space(&self) -> bool {
        self.code == Some(EXIT_NO_SPACE)
    }
}

/// `cairn` with the socket of a daemon.
#[derive(Debug, Clone)]
pub struct Cairn {
    program: PathBuf,
    socket: PathBuf,
}

impl Cairn {
    /// The command for a daemon.
    pub fn new(node: &Node) -> anyhow::Result<Self> {
        Ok(Cairn {
            program: program("cairn", "CAIRN_BIN")?,
            socket: node.socket().to_owned(),
        })
    }

    /// What the command prints.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(&self.program);
        let output = command.args(arguments).env("CAIRN_SOCKET", &self.socket).output();
        let output = output.with_context(|| format!("starting {}", self.program.display()))?;
        if !output.status.success() {
            let failed = CairnFailed {
                arguments: arguments.join(" "),
                code: output.status.code(),
                message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            };
            return Err(failed.into());
        }
        String::from_utf8(output.stdout).context("cairn printed something that is not UTF-8")
    }

    /// The objects that the command prints with `--json`, one on each line.
    pub fn json(&self, arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
        let mut all = arguments.to_vec();
        all.push("--json");
        let text = self.run(&all)?;
        let lines = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
        lines.with_context(|| format!("`cairn {}` printed no JSON", all.join(" ")))
    }
}
