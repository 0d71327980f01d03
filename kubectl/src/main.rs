//! The binary `kubectl-cairn`, which `kubectl cairn` runs: workspaces and snapshots of a cluster, for people and scripts.
//!
//! It talks to the API server only, as the person whom the kubeconfig names: it lists objects, makes Snapshots and Restores and waits for what the operator makes of
//! them. It decides nothing that the operator decides, and has never heard of daemons. [`arguments`] is the command line, [`command`] has one file per command,
//! [`failure`] the exit codes.

use std::process::ExitCode;

mod arguments;
mod cluster;
mod command;
mod failure;
mod json;
mod output;
mod system;
mod text;
mod wait;

fn main() -> ExitCode {
    command::main()
}
