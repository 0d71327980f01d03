//! The command line about plain directories that the daemon looks after.

use std::ffi::OsString;

use clap::Subcommand;

/// What the daemon looks after.
#[derive(Debug, Subcommand)]
pub enum RegisteredCommand {
    /// Let the daemon look after a directory: its schedules, its verification, and what is asked for with --daemon
    #[command(
        after_help = "The daemon touches what is below the roots of its configuration ([directories] roots), and nothing else. Schedules stand in \
        config.toml of the control directory.\n\n\
        Examples:\n  cairn directory register . --init\n  cairn directory register /data/model --control-dir /var/lib/cairn/control/model\n\n\
        --json prints {\"directory\":{…},\"registered\":true,\"initialized\":false} with the object that `cairn directory list --json` \
        prints: registered is false if it was before, initialized is true if it was under no version control before."
    )]
    Register {
        /// The directory
        #[arg(value_name = "DIRECTORY")]
        target: OsString,
        /// Put it under version control if it is not
        #[arg(long)]
        init: bool,
    },
    /// Let the daemon look after a directory no more; it and its snapshots stay as they are
    #[command(after_help = "Example:\n  cairn directory unregister /data/model\n\n\
        --json prints {\"directory\":{…}} with the object that `cairn directory list --json` prints.")]
    Unregister {
        /// The directory, or the identity of its repository
        #[arg(value_name = "DIRECTORY")]
        target: OsString,
    },
    /// List the directories that the daemon looks after
    #[command(after_help = "Example:\n  cairn directory list\n\n\
        --json prints {\"directories\":[{\"repository\":\"5d1e…\",\"workspace\":\"/data/model\",\"control_directory\":\
        \"/data/model/.jvs\",\"registered\":\"2026-01-02T03:04:05Z\",\"condition\":\"ready\",\"message\":\"\",\"schedules\":[{\"name\":\
        \"nightly\",\"suspended\":false,\"last_due\":…,\"last_started\":…,\"next_due\":…,\"runs\":3,\"failures\":0,\"missed\":0,\
        \"last_failure\":\"\",\"last_snapshot\":\"3f0c…\"},…],\"operations\":[…]},…]}, condition being ready, missing or unusable.")]
    List,
    /// Show how a directory is that the daemon looks after
    #[command(after_help = "Example:\n  cairn directory show .\n\n\
        --json prints {\"directory\":{…},\"status\":{\"head\":\"3f0c…\",\"latest\":\"3f0c…\",\"snapshots\":3,\"unverified\":1,\"verified\":2,\
        \"damaged\":0,\"damaged_snapshots\":[],\"verifying\":null,\"holder\":null,\"changes\":null}}: the object that `cairn directory list --json` \
        prints, and a status, which is null if the directory cannot be used. Changes are counted with --changes.")]
    Show {
        /// The directory, or the identity of its repository. Default: the current directory
        #[arg(value_name = "DIRECTORY")]
        target: Option<OsString>,
        /// Count the changes that no snapshot has, which may take long
        #[arg(long)]
        changes: bool,
    },
}
