//! The binary `cairn`: what people type to work with the workspaces of a node.
//!
//! It talks to the daemon through `cairn-api`; plain directories it works on itself, with `cairn-snapshot`, and without a daemon. It
//! decides nothing that these decide. [`arguments`] is the command line, [`command`] has one file per command family, [`json`] the
//! objects that `--json` prints, [`exit`] the exit codes, [`logging`] what libraries say beside it.

use std::process::ExitCode;

mod arguments;
mod command;
mod confirm;
mod connection;
mod exit;
mod failure;
mod json;
mod logging;
mod output;
mod progress;
mod system;
mod target;
mod text;
mod units;
mod watch;

fn main() -> ExitCode {
    command::main()
}
