//! The command line of `kubectl cairn`.

use std::path::PathBuf;
use std::time::Duration;

use cairn_crds::validation::duration_seconds;
use cairn_crds::workspace::Template;
use clap::{ArgGroup, Args, Parser, Subcommand};

use crate::failure::TABLE;

/// Workspaces of a cluster: list them, take snapshots, go back to them, look into them, and learn what is wrong.
#[derive(Debug, Parser)]
#[command(name = "kubectl-cairn", bin_name = "kubectl cairn", version, after_help = TABLE, after_long_help = TABLE)]
pub struct Arguments {
    #[command(flatten)]
    pub connection: Connection,

    /// Print JSON objects instead of text; errors too, on standard error
    #[arg(long, global = true)]
    pub json: bool,

    #[command(subcommand)]
    pub command: Command,
}

/// Which cluster, as whom, and where in it: what `kubectl` takes, too.
#[derive(Debug, Clone, Args)]
pub struct Connection {
    /// File with clusters and users. Default: $KUBECONFIG, or ~/.kube/config, or the service account of the pod
    #[arg(long, global = true, value_name = "PATH")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of that file. Default: its current one
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Cluster of that file, instead of the context's
    #[arg(long, global = true, value_name = "NAME")]
    pub cluster: Option<String>,
    /// User of that file, instead of the context's
    #[arg(long, global = true, value_name = "NAME")]
    pub user: Option<String>,
    /// Namespace. Default: the context's
    #[arg(short = 'n', long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List workspaces, or the snapshots of one, newest first
    #[command(
        after_help = "Examples:\n  kubectl cairn list\n  kubectl cairn list -A\n  kubectl cairn list notes\n\n\
        --json prints {\"workspaces\":[{\"namespace\":\"team\",\"name\":\"notes\",\"ready\":\"True\",\"reason\":\"Ready\",\"message\":…,\
        \"node\":…,\"claim\":\"notes\",\"capacity\":\"10Gi\",\"snapshots\":2,\"last_snapshot\":…,\"next_snapshot\":…,\"created\":…},…],\
        \"unreadable\":[{\"namespace\":…,\"name\":…,\"error\":…}]};\n\
        of one workspace {\"workspace\":\"notes\",\"snapshots\":[{\"namespace\":\"team\",\"name\":\"before\",\"workspace\":\"notes\",\
        \"id\":\"3f0c…\",\"ready\":\"True\",\"reason\":…,\"message\":…,\"created\":…,\"bytes\":4096,\"verified\":\"True\",\"engine\":…,\
        \"node\":…,\"tags\":[…],\"note\":…},…],\"unreadable\":[…]}. Times are RFC 3339, null if there is none."
    )]
    List {
        /// The workspace whose snapshots are listed
        #[arg(value_name = "WORKSPACE")]
        workspace: Option<String>,
        /// Those of all namespaces
        #[arg(short = 'A', long, conflicts_with = "workspace")]
        all_namespaces: bool,
    },
    /// Take a snapshot of a workspace
    #[command(
        after_help = "Examples:\n  kubectl cairn snapshot notes --note 'before the upgrade' --tag keep --wait\n  \
        kubectl cairn snapshot notes --template pre-deploy\n\n\
        --json prints {\"snapshot\":{…}} with the object that `kubectl cairn list WORKSPACE --json` prints."
    )]
    Snapshot(SnapshotArguments),
    /// Restore a snapshot: into its workspace, single paths of it, or into a new workspace
    #[command(
        after_help = "The plan is told first, and nothing is done before it is agreed to. What a restore in place replaces is a safety snapshot \
        then.\n\n\
        Examples:\n  kubectl cairn restore before --in-place --plan\n  kubectl cairn restore before --in-place --path src/main.rs --yes --wait\n  \
        kubectl cairn restore before --into notes-as-before\n\n\
        --json prints {\"restore\":{\"namespace\":\"team\",\"name\":\"before-x2k4p\",\"workspace\":\"notes\",\"snapshot\":\"before\",\
        \"mode\":\"Run\",\"ready\":\"True\",\"reason\":\"Completed\",\"message\":…,\"plan\":{\"adds\":3,\"changes\":2,\"deletes\":1,\"bytes\":42},\
        \"safety_snapshot\":\"3f0c…\",\"into\":null},\"done\":true}; done is false after --plan, and while it still runs."
    )]
    Restore(RestoreArguments),
    /// Look into a snapshot, read-only, from a pod
    #[command(
        after_help = "A pod is made, and with it a read-only workspace that begins as the snapshot; nothing is copied. A shell in the pod is opened, \
        or the COMMAND run, in the snapshot's root. When it ends both are removed, unless --keep is given; whoever removes the pod removes both.\n\n\
        Examples:\n  kubectl cairn view before\n  kubectl cairn view before -- tar c . > before.tar\n  kubectl cairn view before --keep\n  \
        kubectl cairn view before --print | less\n\n\
        --json (with --keep) prints {\"view\":{\"namespace\":\"team\",\"pod\":\"view-before-x2k4p\",\"workspace\":\"view-before-x2k4p\",\
        \"path\":\"/snapshot\",\"command\":[\"kubectl\",\"exec\",…],\"remove\":[\"kubectl\",\"delete\",…]}}."
    )]
    View(ViewArguments),
    /// Tell what is wrong with an object, and what to do
    #[command(
        visible_alias = "doctor",
        after_help = "KIND is workspace, snapshot, restore, storagenode or dittoserver, or one of the short names that kubectl knows; without one, NAME \
        is a workspace.\n\n\
        Examples:\n  kubectl cairn explain notes\n  kubectl cairn explain snapshot/before\n  kubectl cairn explain dittoserver my-nfs\n\n\
        --json prints {\"kind\":\"Workspace\",\"namespace\":\"team\",\"name\":\"notes\",\"healthy\":false,\"findings\":[{\"about\":\"Workspace \
        notes\",\"condition\":\"NodeReachable\",\"status\":\"False\",\"reason\":\"NodeAway\",\"message\":…,\"since\":…,\"advice\":[…]},…],\
        \"events\":[{\"time\":…,\"reason\":…,\"message\":…},…]}. Something that is wrong is no failure of this command."
    )]
    Explain {
        /// KIND/NAME, KIND, or the name of a workspace
        #[arg(value_name = "RESOURCE")]
        resource: String,
        /// Name, if RESOURCE is a kind
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
}

/// How long is waited.
#[derive(Debug, Clone, Copy, Args)]
pub struct WaitArguments {
    /// Longest wait, such as 90s or 10m
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub timeout: Duration,
}

/// Arguments of `snapshot`.
#[derive(Debug, Args)]
pub struct SnapshotArguments {
    /// The workspace
    #[arg(value_name = "WORKSPACE")]
    pub workspace: String,
    /// Name of the Snapshot. Default: the workspace's, and some characters. A name that is taken is refused: nothing is done twice
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// What people want to know about it later
    #[arg(short = 'm', long, value_name = "TEXT")]
    pub note: Option<String>,
    /// A word by which it is found, and which retention can keep; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Adds note and tags of a template: pre-experiment, pre-deploy, checkpoint, work, release or archive
    #[arg(long, value_name = "NAME", value_parser = template)]
    pub template: Option<Template>,
    /// Read the data back and compare it with its checksums
    #[arg(long)]
    pub verify: bool,
    /// Wait until it is there
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub waiting: WaitArguments,
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("target").required(true).args(["into", "in_place"])))]
pub struct RestoreArguments {
    /// The snapshot: the name of a Snapshot, or its id
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: String,
    /// Make a new workspace of this name that begins as the snapshot
    #[arg(long, value_name = "NAME", conflicts_with = "paths")]
    pub into: Option<String>,
    /// Make the workspace equal to the snapshot, while it is mounted
    #[arg(long)]
    pub in_place: bool,
    /// Restore this path only, relative to the workspace's root; may be repeated
    #[arg(long = "path", value_name = "PATH")]
    pub paths: Vec<String>,
    /// Workspace of the snapshot, if no Snapshot tells it
    #[arg(long, value_name = "NAME")]
    pub workspace: Option<String>,
    /// Take no snapshot of what is replaced
    #[arg(long, conflicts_with = "into")]
    pub no_safety_snapshot: bool,
    /// Only tell what would be done
    #[arg(long, conflicts_with_all = ["yes", "wait"])]
    pub plan: bool,
    /// Do it without asking
    #[arg(long)]
    pub yes: bool,
    /// Wait until it is done
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub waiting: WaitArguments,
}

/// Arguments of `view`.
#[derive(Debug, Args)]
pub struct ViewArguments {
    /// The Snapshot
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: String,
    /// What is run in the pod. Default: sh, if somebody sits at a terminal
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Image of the pod: one with the COMMAND and a `sleep`
    #[arg(long, value_name = "IMAGE", default_value = "docker.io/library/busybox:1.37")]
    pub image: String,
    /// Number of the user in the pod, who sees what its rights allow. Default: the image's, mostly root
    #[arg(long, value_name = "UID")]
    pub uid: Option<u32>,
    /// Leave pod and workspace, and print how to use and how to remove them
    #[arg(long)]
    pub keep: bool,
    /// Print the manifests only
    #[arg(long, conflicts_with_all = ["keep", "command"])]
    pub print: bool,
    /// The pod ends by itself after this time
    #[arg(long, value_name = "TIME", default_value = "8h", value_parser = duration)]
    pub lifetime: Duration,
    #[command(flatten)]
    pub waiting: WaitArguments,
}

/// Longest time that can be given, in seconds: 30 days.
const SECONDS_MAX: u64 = 30 * 86_400;

fn duration(text: &str) -> Result<Duration, String> {
    match duration_seconds(text) {
        Some(seconds @ 1..=SECONDS_MAX) => Ok(Duration::from_secs(seconds)),
        _ => Err("give a time between 1s and 30d, such as 90s, 10m or 2h".to_owned()),
    }
}

fn template(text: &str) -> Result<Template, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|_| "there are pre-experiment, pre-deploy, checkpoint, work, release and archive".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Arguments, Command};

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn restores_say_where_to() {
        for line in [
            &["restore", "s"][..],
            &["restore", "s", "--in-place", "--into", "x"],
            &["restore", "s", "--into", "x", "--path", "a"],
            &["restore", "s", "--in-place", "--plan", "--yes"],
            &["snapshot", "w", "--template", "none"],
            &["snapshot", "w", "--wait", "--timeout", "0s"],
            &["view", "s", "--print", "--keep"],
        ] {
            let whole = [&["kubectl-cairn"], line].concat();
            assert!(Arguments::try_parse_from(whole).is_err(), "{line:?}");
        }
        let whole = [
            "kubectl-cairn",
            "view",
            "s",
            "-n",
            "team",
            "--context",
            "c",
            "--",
            "ls",
            "-l",
        ];
        let arguments = Arguments::try_parse_from(whole).unwrap();
        assert_eq!(arguments.connection.namespace.as_deref(), Some("team"));
        let Command::View(view) = arguments.command else {
            panic!("another command");
        };
        assert_eq!(view.command, ["ls", "-l"]);
        assert_eq!(view.lifetime.as_secs(), 8 * 3600);
    }
}
