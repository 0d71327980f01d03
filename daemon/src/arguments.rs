//! The command line of `cairnd`. A flag wins over the file's key of the same meaning.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

use crate::config::file::{LogFormat, LogLevel};

/// Serves the workspaces of this node over NFS, with snapshots, restore and forks.
#[derive(Debug, Default, Parser)]
#[command(
    name = "cairnd",
    version,
    after_help = "Examples:\n  cairnd\n  cairnd --data-dir /srv/cairn --nfs-listen 127.0.0.1:2049\n  \
                  cairnd --print-default-config > cairnd.toml && cairnd --config cairnd.toml\n\n\
                  The configuration, the exit codes and the metrics are described in docs/operations/configuration.md."
)]
pub struct Arguments {
    /// Configuration file; without one, the defaults hold
    #[arg(long, value_name = "FILE", env = "CAIRN_CONFIG")]
    pub config: Option<PathBuf>,

    /// Directory that holds everything [key: data_dir]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// What the node is called towards controllers; by default the machine's name [key: node_name]
    #[arg(long, value_name = "NAME", env = "CAIRN_NODE_NAME")]
    pub node_name: Option<String>,

    /// Address and port of NFS and MOUNT; port 0 picks a free one [key: nfs.listen]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub nfs_listen: Option<SocketAddr>,

    /// Address and port of health, readiness and metrics; port 0 picks a free one [key: http.listen]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub http_listen: Option<SocketAddr>,

    /// Unix socket for the command `cairn` [key: rpc.socket]
    #[arg(long, value_name = "PATH")]
    pub rpc_socket: Option<PathBuf>,

    /// Form of the log on standard error [key: log.format]
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,

    /// Least severe messages that are logged [key: log.level]
    #[arg(long, value_enum)]
    pub log_level: Option<LogLevel>,

    /// Print the default configuration with an explanation of every key, and exit
    #[arg(long)]
    pub print_default_config: bool,

    /// Read and check the configuration, print nothing if it is right, and exit
    #[arg(long, conflicts_with = "print_default_config")]
    pub check_config: bool,
}
