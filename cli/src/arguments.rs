//! The command line of `cairn`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::exit::TABLE;
use crate::units;

mod archive;
mod directory;
mod registered;

pub use archive::{ArchiveCommand, OperationCommand, PullArguments, PushArguments};
pub use directory::{
    CollectCommand, DeleteArguments, DirectoryCommand, DoctorArguments, HistoryArguments, ImportJvsArguments,
    InitArguments, LabelTarget, NoteArguments, PinArguments, RestoreArguments, SaveArguments, TagArguments,
    UnpinArguments, VerifyArguments, ViewArguments,
};
pub use registered::RegisteredCommand;

/// Workspaces with snapshots: take them, compare them, go back to them, fork from them.
///
/// A TARGET is a workspace of the daemon, or a plain directory under version control (`cairn init`). A directory is written with a slash
/// (./model, /data/model), or as `.` or `..`; any directory in a repository stands for the whole of it. Directories need no daemon.
#[derive(Debug, Parser)]
#[command(name = "cairn", version, after_help = TABLE, after_long_help = TABLE)]
pub struct Arguments {
    /// Socket of the daemon. Default: cairnd.sock in the default data directory: /var/lib/cairn for root, for others
    /// $XDG_DATA_HOME/cairn, usually ~/.local/share/cairn
    #[arg(long, global = true, value_name = "PATH", env = "CAIRN_SOCKET")]
    pub socket: Option<PathBuf>,

    /// Print JSON objects instead of text; errors too, on standard error
    #[arg(long, global = true)]
    pub json: bool,

    /// Control directory of the plain directory, if it is not the .jvs in it
    #[arg(
        long = "control-dir",
        global = true,
        value_name = "PATH",
        env = "CAIRN_CONTROL_DIR"
    )]
    pub control_directory: Option<PathBuf>,

    /// Say more on standard error: -v what is done, -vv how, -vvv everything. RUST_LOG can say it in detail
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make, list, show and delete workspaces
    #[command(subcommand)]
    Workspace(WorkspaceCommand),
    #[command(flatten)]
    Directory(DirectoryCommand),
    /// Let the daemon look after plain directories, list and show them
    #[command(subcommand, name = "directory")]
    Registered(RegisteredCommand),
    /// Take a snapshot of everything written so far
    #[command(
        visible_alias = "save",
        after_help = "Examples:\n  cairn snapshot model --note 'before the migration' --tag v1\n  cairn snapshot . -m 'before the migration' --skip-unchanged\n\n\
        --json prints the snapshot:\n  {\"id\":\"3f0c…\",\"origin\":\"requested\",\"created\":\"2026-01-02T03:04:05Z\",\
        \"note\":\"before the migration\",\"tags\":[\"v1\"],\"inodes\":4,\"bytes\":4096,\"parent\":null,\"pins\":[]}; \
        with \"existing\":true if the key was used before\n\
        of a directory {\"outcome\":\"new\",\"snapshot\":{…},\"recovered\":[…]}: the outcome is new, existing (the key was used before) or \
        unchanged, the snapshot the object that `cairn history --json` prints, recovered what was put right before."
    )]
    Snapshot(SnapshotArguments),
    /// List the snapshots of a workspace or directory, newest first
    #[command(
        after_help = "Examples:\n  cairn history model\n  cairn history . --graph --limit 20\n\n\
        --json prints {\"snapshots\":[…]} with the objects that `cairn snapshot --json` prints;\nof a directory \
        {\"head\":\"3f0c…\",\"snapshots\":[{\"id\":\"3f0c…\",\"sequence\":2,\"created\":…,\"origin\":\"requested\",\"origin_of\":null,\
        \"note\":…,\"tags\":[…],\"pins\":[…],\"template\":null,\"engine\":{\"requested\":null,\"used\":\"copy\",\"degraded\":[…]},\
        \"counts\":{…},\"paths\":null,\"parent\":…,\"restored_from\":null,\"tree_hash\":null,\"losses\":{…},\"torn\":{…},\
        \"vanished\":0,\"actor\":…,\"host\":…},…],\"damaged\":[{\"id\":…,\"error\":…}]}."
    )]
    History {
        /// The workspace or directory. Default: the current directory
        #[arg(value_name = "TARGET")]
        target: Option<OsString>,
        #[command(flatten)]
        directory: HistoryArguments,
    },
    /// Compare a snapshot with another one, or with the workspace or directory as it is now
    #[command(
        after_help = "Each line is a letter and a path: A added, D deleted, M other data, T other type, \
        P same data with other properties (mode, owner, times, links). Of directories that lost or got entries, and did not change otherwise, \
        nothing is told.\n\n\
        Examples:\n  cairn diff model v1\n  cairn diff model 3f0c latest --stat\n  cairn diff .\n  cairn diff . latest~1 latest --path src\n\n\
        --json prints one object a line, {\"kind\":\"added\",\"path\":\"a/b\",\"directory\":false,\"bytes_before\":null,\
        \"bytes_after\":7}, kind being added, removed, modified, retyped or attributes; a path that is no UTF-8 has its \
        bytes in path_hex (of plain directories such bytes are written as %FF). The last line is {\"summary\":{…}}: without it the comparison was not finished."
    )]
    Diff {
        /// The workspace or directory. Default: the current directory
        #[arg(value_name = "TARGET")]
        target: Option<OsString>,
        /// The first state: `latest`, a tag, an id or at least 4 first digits of one; of directories also `latest~N`. Default, of
        /// directories: latest
        #[arg(value_name = "SNAPSHOT")]
        from: Option<String>,
        /// The second state; without it, what is there now
        #[arg(value_name = "SNAPSHOT")]
        to: Option<String>,
        /// Print the numbers only
        #[arg(long)]
        stat: bool,
        /// Compare this path only, with what is below it; may be repeated. Relative to the directory that is given
        #[arg(long = "path", value_name = "PATH", help_heading = "Options of directories")]
        paths: Vec<OsString>,
        /// Let the daemon compare; the directory must be registered (cairn directory register)
        #[arg(long, help_heading = "Options of directories")]
        daemon: bool,
    },
    /// Make a workspace or directory equal to a snapshot; what it was before is kept as another snapshot
    #[command(
        after_help = "Examples:\n  cairn restore model v1\n  cairn restore . v1 --plan\n  cairn restore . latest --path src/main.rs\n  \
        cairn restore . v1 --to ../as-it-was\n\n\
        --json prints {\"snapshot\":{…},\"safety\":{…}}: the snapshot that the workspace now equals, and the one of what it \
        was before.\nOf a directory also \"totals\":{\"added\":…,\"changed\":…,\"removed\":…,\"bytes\":…},\"kept\":[…],\"losses\":{…},\
        \"recovered\":[…], and safety is null if there was nothing to save; with --plan {\"plan\":{\"snapshot\":{…},\"unsaved\":…,\
        \"totals\":{…},\"changes\":[{\"action\":\"add\",\"path\":\"a\"},…],\"changes_left_out\":0}}, action being add, remove, replace or \
        attributes; with --to {\"snapshot\":{…},\"directory\":…,\"entries\":…,\"bytes\":…,\"losses\":{…}}."
    )]
    Restore {
        /// The workspace or directory
        #[arg(value_name = "TARGET")]
        target: OsString,
        /// `latest`, a tag, an id or at least 4 first digits of one; of directories also `latest~N`. Default, of directories: latest
        #[arg(value_name = "SNAPSHOT")]
        reference: Option<String>,
        #[command(flatten)]
        directory: RestoreArguments,
    },
    /// Make a new workspace or directory that starts as a snapshot of another
    #[command(
        after_help = "Examples:\n  cairn fork model v1 experiment\n  cairn fork . v1 ../experiment\n\n\
        --json prints the new workspace as `cairn workspace show --json` does;\nof a directory {\"repository\":…,\"workspace\":…,\
        \"control_directory\":…,\"snapshot\":{…},\"entries\":…,\"bytes\":…,\"losses\":{…}}, the snapshot being its first one."
    )]
    Fork {
        /// The workspace or directory that has the snapshot
        #[arg(value_name = "TARGET")]
        target: OsString,
        /// `latest`, a tag, an id or at least 4 first digits of one; of directories also `latest~N`
        #[arg(value_name = "SNAPSHOT")]
        reference: String,
        /// Name of the new workspace, or the new directory
        #[arg(value_name = "NEW")]
        new: OsString,
        /// Where the control directory of the new directory will be. Default: .jvs in it
        #[arg(long, value_name = "PATH", help_heading = "Options of directories")]
        new_control_dir: Option<PathBuf>,
        /// Let the daemon do it: it goes on if this command does not; the directory must be registered (cairn directory register), and the new one is
        #[arg(long, help_heading = "Options of directories")]
        daemon: bool,
    },
    /// Archive a snapshot in an object store
    #[command(
        after_help = "Only what the store does not have is sent. Ctrl-C cancels; the same command again goes on.\n\n\
        Examples:\n  cairn push model@v1 s3://bucket/cairn\n  cairn push model file:///mnt/backup/cairn --detach\n\n\
        --json prints the operation as `cairn operation show --json` does, with \"result\":{\"archive\":{…},\"already_there\":false,\
        \"files_read\":…,\"bytes_read\":…,\"bytes_new\":…,\"bytes_stored\":…,\"packs\":…}."
    )]
    Push(PushArguments),
    /// Make a workspace from an archive in an object store
    #[command(
        after_help = "Nobody sees the workspace before everything is there. Ctrl-C cancels; the same command again goes on.\n\n\
        Examples:\n  cairn pull s3://bucket/cairn@v1 model\n  cairn pull file:///mnt/backup/cairn model --into-existing\n\n\
        --json prints the operation as `cairn operation show --json` does, with \"result\":{\"archive\":{…},\"files\":…,\"bytes\":…,\
        \"resumed\":false,\"snapshot\":\"3f0c…\",\"safety\":null}."
    )]
    Pull(PullArguments),
    /// List, verify, delete and reclaim what is in an object store
    #[command(subcommand)]
    Archive(ArchiveCommand),
    /// List, watch and cancel long work
    #[command(subcommand)]
    Operation(OperationCommand),
    /// Print the command that mounts a workspace on this node
    #[command(
        after_help = "Example:\n  sudo sh -c \"$(cairn mount-command model /mnt/model)\"\n\n\
        --json prints {\"command\":\"mount -t nfs …\",\"file_system\":\"nfs\",\"server\":\"127.0.0.1\",\"port\":12049,\
        \"export\":\"/model\",\"options\":[\"vers=3\",…],\"mount_point\":\"/mnt/model\"}."
    )]
    #[command(name = "mount-command")]
    Mount {
        /// The workspace
        #[arg(value_name = "WORKSPACE")]
        target: String,
        /// Directory to mount it on. Default: /mnt and the workspace's name
        #[arg(value_name = "DIRECTORY")]
        mount_point: Option<String>,
    },
    /// Show how a directory is, or the daemon
    #[command(
        after_help = "Without a directory, and if the current one is in no repository: how the daemon is, where it listens and what it \
        holds. --daemon alone says so wherever it is called.\n\n\
        Examples:\n  cairn status\n  cairn status .\n  cairn status --daemon\n\n\
        --json prints {\"version\":…,\"process_id\":…,\"started\":…,\"uptime_seconds\":…,\"data_directory\":…,\"ready\":…,\
        \"listeners\":[{\"service\":\"nfs\",\"address\":…},…],\"usage\":{…},\"conditions\":[{\"name\":…,\"holds\":…,\
        \"message\":…},…]}. A daemon that is not ready is no failure of this command.\n\
        Of a directory {\"repository\":\"5d1e…\",\"workspace\":…,\"control_directory\":…,\"snapshots\":2,\"damaged\":[…],\
        \"newest\":{…},\"head\":{…},\"parts\":[{\"path\":…,\"snapshot\":…}],\"changes\":{\"total\":1,\"added\":1,\"removed\":0,\
        \"modified\":0,\"retyped\":0,\"attributes\":0,\"directory_times\":1,\"first\":[{\"kind\":\"added\",\"path\":\"a\"},…]},\
        \"engine\":{\"used\":…,\"degraded\":[…],\"error\":null},\"unfinished\":[…],\"in_use\":null}: changes are those since head, the \
        snapshot that the directory's content comes from; without one, changes is null."
    )]
    Status {
        /// The directory
        #[arg(value_name = "DIRECTORY")]
        target: Option<OsString>,
        /// Show how the daemon is, wherever this is called; with a directory, ask the daemon how that is
        #[arg(long)]
        daemon: bool,
    },
}

/// Commands about workspaces.
#[derive(Debug, Subcommand)]
pub enum WorkspaceCommand {
    /// Make an empty workspace
    #[command(after_help = "Examples:\n  cairn workspace create model\n  \
        cairn workspace create team --uid 1000 --gid 1000 --mode 2775 --allow 10.0.0.0/8 --squash root\n\n\
        --json prints the workspace as `cairn workspace show --json` does.")]
    Create(CreateArguments),
    /// List all workspaces
    #[command(after_help = "Example:\n  cairn workspace list\n\n\
        --json prints {\"workspaces\":[…]} with the objects that `cairn workspace show --json` prints.")]
    List,
    /// Show one workspace
    #[command(after_help = "Example:\n  cairn workspace show model\n\n\
        --json prints the workspace:\n  {\"name\":\"model\",\"volume\":1,\"created\":\"2026-01-02T03:04:05Z\",\"policy\":\
        {\"squash\":\"none\",\"anonymous_uid\":65534,\"anonymous_gid\":65534,\"allow\":[\"127.0.0.0/8\",\"::1/128\"],\
        \"read_only\":false,\"privileged_port\":true},\"forked_from\":null,\"snapshots\":2,\"inodes\":4,\"bytes\":4096,\
        \"limits\":{\"bytes\":null,\"inodes\":null}}")]
    Show {
        /// The workspace
        #[arg(value_name = "WORKSPACE")]
        target: String,
    },
    /// Change what a workspace may hold
    #[command(
        after_help = "Writes beyond it fail with \"Disk quota exceeded\". What is not given stays; `any` lifts a limit. Bytes are the \
        sum of the sizes of the files, holes included; inodes are files, directories and all else, the root directory included.\n\n\
        Examples:\n  cairn workspace limit model --bytes 10GiB --inodes 100000\n  cairn workspace limit model --bytes any\n\n\
        --json prints the workspace as `cairn workspace show --json` does."
    )]
    Limit {
        /// The workspace
        #[arg(value_name = "WORKSPACE")]
        target: String,
        #[command(flatten)]
        limits: LimitArguments,
    },
    /// Change who may mount a workspace, and as whom
    #[command(
        after_help = "It holds at once, also for clients that have it mounted. Options that are not given get their default.\n\n\
        Example:\n  cairn workspace export model --allow 10.0.0.0/8 --squash root\n\n\
        --json prints the workspace as `cairn workspace show --json` does."
    )]
    Export {
        /// The workspace
        #[arg(value_name = "WORKSPACE")]
        target: String,
        #[command(flatten)]
        policy: PolicyArguments,
    },
    /// Count what a workspace holds, and put the figures right
    #[command(after_help = "Example:\n  cairn workspace check model\n\n\
        --json prints {\"recorded\":{\"inodes\":4,\"bytes\":4096},\"counted\":{\"inodes\":4,\"bytes\":4096}}.")]
    Check {
        /// The workspace
        #[arg(value_name = "WORKSPACE")]
        target: String,
    },
    /// Delete a workspace with all its files
    #[command(after_help = "Examples:\n  cairn workspace delete scratch\n  \
        cairn workspace delete scratch --with-snapshots --yes\n\n--json prints {\"deleted\":\"scratch\"}.")]
    Delete {
        /// The workspace
        #[arg(value_name = "WORKSPACE")]
        target: String,
        /// Delete its snapshots too; without this, a workspace that has any is kept
        #[arg(long)]
        with_snapshots: bool,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// What a new workspace shall be.
#[derive(Debug, Args)]
pub struct CreateArguments {
    /// Its name: 1 to 128 letters, digits, '.', '_' and '-'
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Owner of the root directory
    #[arg(long, value_name = "UID", default_value_t = 0)]
    pub uid: u32,
    /// Group of the root directory
    #[arg(long, value_name = "GID", default_value_t = 0)]
    pub gid: u32,
    /// Permission bits of the root directory, in octal
    #[arg(long, value_name = "OCTAL", default_value = "755", value_parser = octal)]
    pub mode: u32,
    #[command(flatten)]
    pub policy: PolicyArguments,
    #[command(flatten)]
    pub limits: LimitArguments,
}

/// What a workspace may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Args)]
pub struct LimitArguments {
    /// Sum of the sizes of its files, such as 10GiB; or `any`
    #[arg(long = "bytes", value_name = "SIZE", value_parser = units::limited_size)]
    pub bytes: Option<units::Limit>,
    /// Files, directories and all else; or `any`
    #[arg(long = "inodes", value_name = "COUNT", value_parser = units::limited_count)]
    pub inodes: Option<units::Limit>,
}

/// Who may mount a new workspace, and as whom.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PolicyArguments {
    /// Whose identity the anonymous one replaces
    #[arg(long, value_enum, default_value_t = Squash::None)]
    pub squash: Squash,
    /// The anonymous uid
    #[arg(long, value_name = "UID", default_value_t = 65_534)]
    pub anon_uid: u32,
    /// The anonymous gid
    #[arg(long, value_name = "GID", default_value_t = 65_534)]
    pub anon_gid: u32,
    /// Network whose clients may mount it, such as 10.0.0.0/8; may be repeated. Default: this machine only
    #[arg(long, value_name = "CIDR")]
    pub allow: Vec<String>,
    /// Refuse every change by clients
    #[arg(long)]
    pub read_only: bool,
    /// Serve clients from any source port, not only from those below 1024 that root alone can use
    #[arg(long)]
    pub any_port: bool,
}

/// Whose identity the anonymous one replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Squash {
    /// Nobody's
    None,
    /// Root's
    Root,
    /// Everybody's
    All,
}

/// What a new snapshot shall carry.
#[derive(Debug, Args)]
pub struct SnapshotArguments {
    /// The workspace or directory. Default: the current directory
    #[arg(value_name = "TARGET")]
    pub target: Option<OsString>,
    /// Words for people
    #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
    pub note: String,
    /// Label to find it by; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    #[command(flatten)]
    pub directory: SaveArguments,
}

fn octal(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let sound = !digits.is_empty() && digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    match u32::from_str_radix(digits, 8) {
        Ok(mode) if sound && mode <= 0o7777 => Ok(mode),
        _ => Err("give permission bits in octal, 0 to 7777".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Arguments, Command, WorkspaceCommand, octal};

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(octal("0755"), Ok(0o755));
        assert_eq!(octal("0o2775"), Ok(0o2775));
        for text in ["", "8", "10000", "-1", "+1", "0x1"] {
            assert!(octal(text).is_err(), "{text}");
        }
    }

    /// The commands that do something, with their path.
    fn leaves(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
        let path = format!("{path} {}", command.get_name());
        if command.get_subcommands().next().is_none() {
            found.push((path.clone(), command.clone()));
        }
        command
            .get_subcommands()
            .for_each(|sub| leaves(sub, &path, found));
    }

    #[test]
    fn every_command_has_an_example() {
        let mut found = Vec::new();
        leaves(&Arguments::command(), "", &mut found);
        assert_eq!(found.len(), 45);
        for (path, command) in found {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.contains(path.trim()), "{path} has no example");
            assert!(
                help.contains("--json prints"),
                "{path} does not say what --json prints"
            );
        }
    }

    #[test]
    fn global_options_go_anywhere() {
        let arguments = Arguments::parse_from([
            "cairn",
            "workspace",
            "delete",
            "w",
            "--json",
            "-y",
            "--socket",
            "/s",
        ]);
        assert!(arguments.json);
        assert_eq!(arguments.socket.as_deref(), Some(std::path::Path::new("/s")));
        assert!(matches!(
            arguments.command,
            Command::Workspace(WorkspaceCommand::Delete {
                yes: true,
                with_snapshots: false,
                ..
            })
        ));
    }
}
