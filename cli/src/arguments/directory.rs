//! The part of the command line that is about plain directories only, and what commands of workspaces have in addition for them.

use std::ffi::OsString;
use std::path::PathBuf;

use cairn_snapshot::repository::config::Compression;
use clap::{Args, Subcommand};

use crate::units;

/// Heading of the options that workspaces of the daemon do not have.
const HEADING: &str = "Options of directories";

/// How a directory is put under version control.
#[derive(Debug, Args)]
pub struct InitArguments {
    /// The directory. Default: the current one
    #[arg(value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,
}

/// What of a repository of the Go tools is taken over.
#[derive(Debug, Args)]
pub struct ImportJvsArguments {
    /// The directory with the repository of the Go tools
    #[arg(value_name = "DIRECTORY")]
    pub directory: PathBuf,
    /// Only the snapshots of this workspace, or worktree, and those that they come from. Default: all, and the workspace is main
    #[arg(long, value_name = "NAME")]
    pub workspace: Option<String>,
    /// Wait at most so long while somebody else works in the repository
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub wait: u64,
}

/// How a directory is saved.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = HEADING)]
pub struct SaveArguments {
    /// Save this path only, with what is below it; may be repeated. Relative to the directory that is given
    #[arg(long = "path", value_name = "PATH")]
    pub paths: Vec<OsString>,
    /// How to keep the data: auto, btrfs-subvolume, juicefs-clone, reflink-copy, copy or archive. Default: the variable
    /// JVS_SNAPSHOT_ENGINE, or auto, the best one that can be used
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<String>,
    /// How to compress the data: zstd, gzip (with a level if wanted: zstd:3, gzip:9) or none. Only the engine archive compresses; it is used
    /// if no other one is asked for. Default: `compression` of config.toml
    #[arg(long, value_name = "HOW")]
    pub compression: Option<Compression>,
    /// Take note, tags, paths and engine from a template of config.toml, or from archive, checkpoint, pre-deploy, pre-experiment,
    /// release or work; what is given besides wins, and tags come together
    #[arg(long, value_name = "NAME")]
    pub template: Option<String>,
    /// A key of yours: a second request with it gets the first one's snapshot. Of a workspace, too
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Make no snapshot if nothing has changed since the newest one
    #[arg(long)]
    pub skip_unchanged: bool,
    /// Wait at most so long while somebody else works in the repository. Default: 60
    #[arg(long, value_name = "SECONDS")]
    pub wait: Option<u64>,
    /// Let the daemon do it: it goes on if this command does not, and the directory must be registered (cairn directory register)
    #[arg(long)]
    pub daemon: bool,
}

impl SaveArguments {
    /// The first option that was given.
    pub fn given(&self) -> Option<&'static str> {
        first(&[
            (!self.paths.is_empty(), "--path"),
            (self.engine.is_some(), "--engine"),
            (self.compression.is_some(), "--compression"),
            (self.template.is_some(), "--template"),
            (self.key.is_some(), "--key"),
            (self.skip_unchanged, "--skip-unchanged"),
            (self.wait.is_some(), "--wait"),
            (self.daemon, "--daemon"),
        ])
    }
}

fn first(options: &[(bool, &'static str)]) -> Option<&'static str> {
    options
        .iter()
        .find(|(given, _)| *given)
        .map(|(_, option)| *option)
}

/// Which snapshots of a directory are listed, and how.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = HEADING)]
pub struct HistoryArguments {
    /// Only those whose note has this text in it, whatever the case of its letters
    #[arg(long, value_name = "TEXT")]
    pub grep: Option<String>,
    /// Only those with this tag; may be repeated: then with all of them
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Only those in which this path, or something below it, is not as in the snapshot before
    #[arg(long, value_name = "PATH")]
    pub path: Option<OsString>,
    /// At most so many
    #[arg(long, short = 'n', value_name = "COUNT")]
    pub limit: Option<usize>,
    /// Draw which snapshot comes from which
    #[arg(long)]
    pub graph: bool,
    /// Safety snapshots too
    #[arg(long)]
    pub all: bool,
    /// Ask the daemon, with which the directory must be registered (cairn directory register)
    #[arg(long)]
    pub daemon: bool,
}

impl HistoryArguments {
    /// The first option that was given.
    pub fn given(&self) -> Option<&'static str> {
        first(&[
            (self.grep.is_some(), "--grep"),
            (!self.tags.is_empty(), "--tag"),
            (self.path.is_some(), "--path"),
            (self.limit.is_some(), "--limit"),
            (self.graph, "--graph"),
            (self.all, "--all"),
            (self.daemon, "--daemon"),
        ])
    }
}

/// How a directory is restored.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = HEADING)]
pub struct RestoreArguments {
    /// Restore this path only, with what is below it; may be repeated. Relative to the directory that is given
    #[arg(long = "path", value_name = "PATH")]
    pub paths: Vec<OsString>,
    /// Tell what would be done, and do nothing
    #[arg(long)]
    pub plan: bool,
    /// Lose changes that no snapshot has: without this, a safety snapshot is taken of them
    #[arg(long, conflicts_with = "require_clean")]
    pub discard: bool,
    /// Do nothing if there are changes that no snapshot has
    #[arg(long)]
    pub require_clean: bool,
    /// Write the snapshot into this new directory, and leave the workspace as it is
    #[arg(long, value_name = "NEW_DIRECTORY", conflicts_with_all = ["plan", "discard", "require_clean", "daemon"])]
    pub to: Option<PathBuf>,
    /// Wait at most so long while somebody else works in the repository. Default: 60
    #[arg(long, value_name = "SECONDS")]
    pub wait: Option<u64>,
    /// Let the daemon do it: it goes on if this command does not, and the directory must be registered (cairn directory register)
    #[arg(long)]
    pub daemon: bool,
}

impl RestoreArguments {
    /// The first option that was given.
    pub fn given(&self) -> Option<&'static str> {
        first(&[
            (!self.paths.is_empty(), "--path"),
            (self.plan, "--plan"),
            (self.discard, "--discard"),
            (self.require_clean, "--require-clean"),
            (self.to.is_some(), "--to"),
            (self.wait.is_some(), "--wait"),
            (self.daemon, "--daemon"),
        ])
    }
}

/// What is verified.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// The directory. Default: the current one
    #[arg(value_name = "DIRECTORY")]
    pub target: Option<OsString>,
    /// `latest`, `latest~N`, a tag, an id or at least 4 first digits of one. Default: latest
    #[arg(value_name = "SNAPSHOT", conflicts_with = "all")]
    pub reference: Option<String>,
    /// All snapshots, the newest first
    #[arg(long)]
    pub all: bool,
    /// Read at most so much each second, such as 100MiB
    #[arg(long = "limit-rate", visible_alias = "rate", value_name = "SIZE", value_parser = units::size)]
    pub rate: Option<u64>,
    /// Let the daemon do it: it goes on if this command does not, and the directory must be registered (cairn directory register)
    #[arg(long)]
    pub daemon: bool,
}

/// A snapshot that is deleted, or whose labels are changed.
#[derive(Debug, Args)]
pub struct LabelTarget {
    /// The directory; or WORKSPACE@SNAPSHOT, and then no SNAPSHOT follows
    #[arg(value_name = "TARGET")]
    pub target: OsString,
    /// Of a directory: `latest`, `latest~N`, a tag, an id or at least 4 first digits of one
    #[arg(value_name = "SNAPSHOT")]
    pub reference: Option<String>,
    /// Of a directory: wait at most so long while somebody else works in the repository
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub wait: u64,
    /// Of a directory: let the daemon do it; the directory must be registered (cairn directory register)
    #[arg(long)]
    pub daemon: bool,
}

/// Changes of tags.
#[derive(Debug, Args)]
pub struct TagArguments {
    #[command(flatten)]
    pub of: LabelTarget,
    /// Tags that it gets
    #[arg(value_name = "TAG")]
    pub add: Vec<String>,
    /// Tag that it loses; may be repeated
    #[arg(long, value_name = "TAG")]
    pub remove: Vec<String>,
}

/// Another note.
#[derive(Debug, Args)]
pub struct NoteArguments {
    #[command(flatten)]
    pub of: LabelTarget,
    /// The words; "" for none
    #[arg(value_name = "TEXT")]
    pub note: Option<String>,
}

/// A new pin.
#[derive(Debug, Args)]
pub struct PinArguments {
    #[command(flatten)]
    pub of: LabelTarget,
    /// Why, for people
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// It keeps the snapshot for so long, such as 30d. Default: until it is removed
    #[arg(long = "for", value_name = "TIME", value_parser = units::duration)]
    pub duration: Option<std::time::Duration>,
}

/// A pin that goes.
#[derive(Debug, Args)]
pub struct UnpinArguments {
    #[command(flatten)]
    pub of: LabelTarget,
    /// The pin's number
    #[arg(value_name = "NUMBER")]
    pub number: Option<u64>,
    /// All pins of the snapshot
    #[arg(long)]
    pub all: bool,
}

/// A snapshot that is deleted.
#[derive(Debug, Args)]
pub struct DeleteArguments {
    #[command(flatten)]
    pub of: LabelTarget,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// What the doctor does.
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// The directory. Default: the current one
    #[arg(value_name = "DIRECTORY")]
    pub target: Option<OsString>,
    /// Put right what was interrupted, and what can be made again
    #[arg(long)]
    pub repair: bool,
}

/// What is looked at, and where.
#[derive(Debug, Args)]
pub struct ViewArguments {
    /// The directory, the snapshot (`latest`, `latest~N`, a tag, an id or at least 4 first digits of one; default: latest), and the empty directory to
    /// mount it on; or an object store with @ and an archive in it, and the empty directory
    #[arg(value_name = "WHAT", required = true, num_args = 1..=3)]
    pub operands: Vec<OsString>,
    /// Take off what is mounted on MOUNT_POINT; also what a process that was killed has left
    #[arg(long, conflicts_with_all = ["background", "allow_other", "threads", "log", "key_file", "endpoint", "region", "account", "allow_http"])]
    pub unmount: bool,
    /// Return once it is mounted; another process serves it until it is unmounted
    #[arg(long)]
    pub background: bool,
    /// Other users may look at it too, as far as the permissions in it allow; of root's views they always may
    #[arg(long)]
    pub allow_other: bool,
    /// So many files are read at once
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
    /// Append to this file what is told of files that cannot be read. Default: standard error; with --background nothing
    #[arg(long, value_name = "PATH")]
    pub log: Option<PathBuf>,
    /// The key file of an encrypted object store
    #[arg(long, value_name = "PATH", help_heading = "Options of object stores")]
    pub key_file: Option<PathBuf>,
    /// The server to speak to, if it is not the provider's own
    #[arg(long, value_name = "URL", help_heading = "Options of object stores")]
    pub endpoint: Option<String>,
    /// The region of an S3 bucket. Default: the environment's, or us-east-1
    #[arg(long, value_name = "REGION", help_heading = "Options of object stores")]
    pub region: Option<String>,
    /// The storage account of an Azure container. Default: the environment's
    #[arg(long, value_name = "ACCOUNT", help_heading = "Options of object stores")]
    pub account: Option<String>,
    /// Speak HTTP without TLS, which shows every byte to the network
    #[arg(long, help_heading = "Options of object stores")]
    pub allow_http: bool,
    /// It is the process that serves a view in the background
    #[arg(long, hide = true, conflicts_with = "background")]
    pub detached: bool,
}

/// The two steps of removing what retention does not keep.
#[derive(Debug, Subcommand)]
pub enum CollectCommand {
    /// Tell of every snapshot of a directory whether retention keeps it, and why
    #[command(
        after_help = "What is kept stands in [retention] of config.toml in the control directory. Without rules, everything is.\n\n\
        Example:\n  cairn gc plan .\n\n\
        --json prints {\"plan\":\"77aa…\",\"created\":…,\"remove\":[{\"id\":…,\"reasons\":[…],\"bytes\":…},…],\"keep\":[{\"id\":…,\
        \"reasons\":[…]},…],\"bytes\":…,\"over_count\":0,\"over_bytes\":0,\"damaged\":[…]}."
    )]
    Plan {
        /// The directory. Default: the current one
        #[arg(value_name = "DIRECTORY")]
        target: Option<OsString>,
        /// Wait at most so long while somebody else works in the repository
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        wait: u64,
        /// Let the daemon do it: it goes on if this command does not, and the directory must be registered (cairn directory register)
        #[arg(long)]
        daemon: bool,
    },
    /// Remove what a plan says, if the same would be decided now
    #[command(
        after_help = "Example:\n  cairn gc run . 77aa0c5d1e2f43958a6b7c8d9e0f1a2b\n\n\
        --json prints {\"removed\":[\"3f0c…\",…],\"entries\":…}."
    )]
    Run {
        /// The directory
        #[arg(value_name = "DIRECTORY")]
        target: OsString,
        /// The plan
        #[arg(value_name = "PLAN")]
        plan: String,
        /// Wait at most so long while somebody else works in the repository
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        wait: u64,
        /// Let the daemon do it: it goes on if this command does not, and the directory must be registered (cairn directory register)
        #[arg(long)]
        daemon: bool,
    },
}

/// Commands that take plain directories, some of them also snapshots of workspaces.
#[derive(Debug, Subcommand)]
pub enum DirectoryCommand {
    /// Put a plain directory under version control
    #[command(
        after_help = "The control directory is DIRECTORY/.jvs, or elsewhere with --control-dir: then nobody who works in the \
        directory can damage it, and all commands need the option, or the variable CAIRN_CONTROL_DIR.\n\n\
        Examples:\n  cairn init .\n  cairn init /data/model --control-dir /var/lib/cairn/control/model\n\n\
        --json prints {\"repository\":\"5d1e…\",\"workspace\":\"/data/model\",\"control_directory\":\"/data/model/.jvs\",\
        \"engine\":{\"used\":\"reflink-copy\",\"degraded\":[{\"from\":\"btrfs-subvolume\",\"reason\":…},…]}}."
    )]
    Init(InitArguments),
    /// Take over the snapshots of a repository that the Go tools named JVS have made
    #[command(
        after_help = "The old repository is read, and stays as it is. The new control directory must be elsewhere: --control-dir is \
        needed. All other commands need it from then on. Times, notes, tags and pins come along. Every snapshot is verified by its own hash before; \
        one that is damaged does not come over, which ends with code 10. After an interruption the same command goes on.\n\n\
        Examples:\n  cairn import-jvs /data/model --control-dir /data/model.cairn\n  \
        cairn import-jvs . --control-dir ../control --workspace experiment\n\n\
        --json prints {\"repository\":\"5d1e…\",\"workspace\":\"/data/model\",\"control_directory\":\"/data/model.cairn\",\"line\":\"new\",\
        \"taken\":[{\"from\":\"1795225687613-aac771dd\",\"snapshot\":\"3f0c…\",\"warnings\":[],\"files_of\":null},…],\"present\":0,\
        \"left\":[{\"from\":…,\"why\":…},…],\"pins\":1,\"head\":\"3f0c…\",\"findings\":[…],\"recovered\":[]}: what came over now, how many had \
        come before, what did not come, and what else is wrong with the old repository."
    )]
    ImportJvs(ImportJvsArguments),
    /// Tell what of a directory is not versioned, and by which rule
    #[command(
        after_help = "Rules are lines of files named .jvsignore, in the syntax of gitignore(5).\n\n\
        Example:\n  cairn preview .\n\n\
        --json prints one object a line, {\"path\":\"a.o\",\"directory\":false,\"rule\":{\"kind\":\"file\",\"file\":\".jvsignore\",\
        \"line\":3,\"pattern\":\"*.o\"}}, the kind being control, restore, configuration, file or other. The last line is \
        {\"summary\":{\"left_out\":1}}: without it the directory was not read to its end."
    )]
    Preview {
        /// The directory. Default: the current one
        #[arg(value_name = "DIRECTORY")]
        target: Option<OsString>,
    },
    /// Read all data of snapshots of a directory, and tell what is damaged
    #[command(
        after_help = "Ends with code 10 if something is damaged. The first verification of a snapshot whose engine has not read the \
        data notes its hashes; later ones compare with them.\n\n\
        Examples:\n  cairn verify . v1\n  cairn verify . --all --limit-rate 100MiB\n\n\
        --json prints {\"verified\":[{\"snapshot\":\"3f0c…\",\"files\":4,\"bytes\":4096,\"first_read\":4,\"tree_hash\":\"9a…\",\
        \"damaged\":0,\"damage\":[{\"path\":…,\"what\":…},…],\"error\":null,\"warnings\":[]},…],\"damaged\":0}: damaged \
        files, and damaged snapshots that cannot be read at all, whose error tells why. Where nothing may be written, the warnings say that \
        the outcome is not written down."
    )]
    Verify(VerifyArguments),
    /// Mount a snapshot of a directory, or an archive in an object store, to look at it: read-only, nothing is copied
    #[command(
        override_usage = "cairn view [OPTIONS] DIRECTORY [SNAPSHOT] MOUNT_POINT\n       cairn view [OPTIONS] URL[@SNAPSHOT] MOUNT_POINT\n       \
        cairn view --unmount MOUNT_POINT",
        after_help = "Of an archive only what is looked at is fetched. The snapshot is not removed while it is mounted. Ctrl-C ends it; with \
        --background, cairn view --unmount does.\n\n\
        Examples:\n  cairn view . v1 /mnt/before\n  cairn view s3://bucket/cairn@v1 /mnt/v1 --background\n  cairn view --unmount /mnt/v1\n\n\
        --json prints {\"mounted\":{\"mount_point\":\"/mnt/before\",\"snapshot\":\"3f0c…\",\"source\":\"/data/model\",\"leased\":true,\"process\":4711}} \
        once it can be used, and {\"ended\":{\"by\":\"signal\",\"in_use\":false}} at the end, by being signal or unmount; with --unmount \
        {\"unmounted\":\"/mnt/before\"}."
    )]
    View(ViewArguments),
    /// Change the tags of a snapshot
    #[command(
        after_help = "Examples:\n  cairn tag . 3f0c good\n  cairn tag . good better --remove good\n  cairn tag model@3f0c good\n\n\
        --json prints {\"snapshot\":{…}} with the object that `cairn history --json` prints."
    )]
    Tag(TagArguments),
    /// Change the note of a snapshot
    #[command(
        after_help = "Examples:\n  cairn note . v1 'before the migration'\n  cairn note model@v1 'before the migration'\n\n\
        --json prints {\"snapshot\":{…}} with the object that `cairn history --json` prints."
    )]
    Note(NoteArguments),
    /// Keep a snapshot from being removed
    #[command(
        after_help = "Examples:\n  cairn pin . v1 --reason 'shipped to customers'\n  cairn pin . latest --for 30d\n  cairn pin model@v1 --for 30d\n\n\
        --json prints {\"snapshot\":{…},\"pin\":1}: the object that `cairn history --json` prints, and the pin's number."
    )]
    Pin(PinArguments),
    /// Remove a pin of a snapshot
    #[command(
        after_help = "Examples:\n  cairn unpin . v1 1\n  cairn unpin . v1 --all\n  cairn unpin model@v1 1\n\n\
        --json prints {\"snapshot\":{…},\"removed\":[1]}: the object that `cairn history --json` prints, and the pins that \
        are gone."
    )]
    Unpin(UnpinArguments),
    /// Delete a snapshot
    #[command(
        after_help = "One that is pinned, read, where the directory's content comes from, or that a workspace was forked from is kept.\n\n\
        Examples:\n  cairn delete . 3f0c --yes\n  cairn delete model@3f0c --yes\n\n\
        --json prints {\"removed\":[\"3f0c…\"],\"entries\":…}; of a workspace {\"removed\":[\"3f0c…\"]}: the space is freed in the \
        background."
    )]
    Delete(DeleteArguments),
    /// Remove snapshots of a directory that retention does not keep
    #[command(subcommand)]
    Gc(CollectCommand),
    /// Tell whether the repository of a directory is in order, and put right what can be
    #[command(
        after_help = "Ends with code 10 if something is damaged. Data of files is not read: `cairn verify` does that.\n\n\
        Examples:\n  cairn doctor .\n  cairn doctor . --repair\n\n\
        --json prints {\"healthy\":true,\"snapshots\":2,\"findings\":[{\"severity\":\"unfinished\",\"path\":…,\"what\":…},…],\
        \"repaired\":[…]}, severity being note, unfinished or damage."
    )]
    Doctor(DoctorArguments),
}
