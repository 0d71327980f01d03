//! `cairn-compare`: the same work on Cairn and on other systems of this machine, in one run; ratios of medians.

use clap::{Parser, Subcommand};

mod archive;
mod directory;
mod ganesha;
mod kernel;
mod nfsserve_adapter;
mod pipeline;
mod report;
mod transfer;
mod transport;
mod work;

/// Measures Cairn beside other systems, in one run on this machine, and prints medians and their ratios.
///
/// Example: cairn-compare transport --seconds 3 --rounds 5
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One connection on loopback: our server, a bare responder and nfsserve.
    Transport(transport::TransportArguments),
    /// A Linux kernel client in a guest: cairnd, NFS-Ganesha and nfsserve. Needs root.
    Kernel(kernel::KernelArguments),
    /// Archives in a directory and on an S3 server: cairn, bupstash, restic, rustic, borg. For cairn it needs root.
    Archive(archive::ArchiveArguments),
    /// Snapshots of plain directories: the engines of cairn, archivers, cp, tar, bare calls, on XFS and Btrfs. Needs root.
    Directory(directory::DirectoryArguments),
    /// The pipeline of archives beside its stages alone, and its memory.
    Pipeline(pipeline::PipelineArguments),
    /// Uploads and downloads beside a plain parallel PUT and GET.
    Transfer(transfer::TransferArguments),
    /// The small-file jobs themselves, on a mounted directory; run in the guest.
    #[command(hide = true)]
    Work(work::WorkArguments),
    /// The least that a snapshot can cost, run for `directory`.
    #[command(hide = true)]
    Bare(directory::bare::BareArguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Transport(arguments) => transport::run(&arguments),
        Command::Kernel(arguments) => kernel::run(&arguments),
        Command::Archive(arguments) => archive::run(&arguments),
        Command::Directory(arguments) => directory::run(&arguments),
        Command::Bare(arguments) => directory::bare::run(&arguments),
        Command::Pipeline(arguments) => pipeline::run(&arguments),
        Command::Transfer(arguments) => transfer::run(&arguments),
        Command::Work(arguments) => work::run(&arguments),
    }
}
