//! `cairnd`, the daemon of a node: it puts the stores and the servers together and decides nothing that they decide.
//!
//! [`boot`] has the order of start and stop; [`assembly`] the concrete stores; [`config`] every key; [`data_directory`] the
//! claim to the directory; [`operations`] what takes long; [`directories`] plain directories; [`control`] what controllers on other
//! machines want; [`rpc`] and [`http`] the edges besides NFS; [`system`] the real clock and randomness.

pub mod archives;
pub mod arguments;
pub mod assembly;
pub mod boot;
pub mod config;
pub mod control;
pub mod data_directory;
pub mod directories;
pub mod endpoints;
pub mod exit;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod nfs_service;
pub mod node;
pub mod operations;
pub mod rpc;
pub mod sockets;
pub mod system;

use std::process::ExitCode;

use clap::Parser;

/// The whole process: reads the command line, runs, and says how it ended. A wrong command line ends with status 2, as
/// [`exit::Exit::Configuration`].
pub fn main() -> ExitCode {
    boot::run(&arguments::Arguments::parse()).into()
}
