//! The part of the command line that is about object stores and about long work.

use clap::{Args, Subcommand};

use super::PolicyArguments;
use crate::units;

/// What shall be pushed.
#[derive(Debug, Args)]
pub struct PushArguments {
    /// The workspace, with @ and a snapshot of it: `latest`, a tag, an id or at least 4 first digits of one. Default: the
    /// latest
    #[arg(value_name = "WORKSPACE[@SNAPSHOT]")]
    pub target: String,
    /// The object store
    #[arg(value_name = "URL")]
    pub store: String,
    /// Print the operation's id and do not wait for its end
    #[arg(long)]
    pub detach: bool,
}

/// What shall be pulled.
#[derive(Debug, Args)]
pub struct PullArguments {
    /// The object store, with @ and an archive in it: `latest`, a tag, an id or at least 4 first digits of one. Default: the
    /// newest snapshot in it
    #[arg(value_name = "URL[@SNAPSHOT]")]
    pub source: String,
    /// The workspace to make
    #[arg(value_name = "WORKSPACE")]
    pub target: String,
    /// The workspace exists: make it equal to the archive; what it was before is kept as a snapshot
    #[arg(long)]
    pub into_existing: bool,
    /// Leave out files that cannot be read, and tell which; the exit code is 10 if there is one. Without this, nothing is
    /// pulled then
    #[arg(long)]
    pub skip_damaged: bool,
    #[command(flatten)]
    pub policy: PolicyArguments,
    /// Print the operation's id and do not wait for its end
    #[arg(long)]
    pub detach: bool,
}

/// Commands about what is in an object store.
#[derive(Debug, Subcommand)]
pub enum ArchiveCommand {
    /// List the archives of an object store, newest snapshot first
    #[command(after_help = "Example:\n  cairn archive list s3://bucket/cairn\n\n\
        --json prints {\"archives\":[…]} with the objects that `cairn archive show --json` prints.")]
    List {
        /// The object store
        #[arg(value_name = "URL")]
        store: String,
    },
    /// Show one archive, or what the whole object store takes up
    #[command(
        after_help = "Examples:\n  cairn archive show s3://bucket/cairn v1 --sizes\n  cairn archive show s3://bucket/cairn\n\n\
        --json prints the archive:\n  {\"snapshot\":\"3f0c…\",\"workspace\":\"model\",\"created\":\"2026-01-02T03:04:05Z\",\"archived\":…,\
        \"note\":\"\",\"tags\":[\"v1\"],\"inodes\":4,\"files\":2,\"directories\":2,\"bytes\":4096,\"added_bytes\":900,\"base\":null}\n\
        with --sizes also \"sizes\":{\"logical_bytes\":…,\"referred_bytes\":…,\"unique_bytes\":…,\"shared_bytes\":…,\
        \"reclaimable_stored_bytes\":…};\nof a store {\"store_sizes\":{\"archives\":…,\"packs\":…,\"stored_bytes\":…,\
        \"live_bytes\":…,\"reclaimable_stored_bytes\":…}}."
    )]
    Show {
        /// The object store
        #[arg(value_name = "URL")]
        store: String,
        /// `latest`, a tag, an id or at least 4 first digits of one; without it, the store as a whole
        #[arg(value_name = "SNAPSHOT")]
        reference: Option<String>,
        /// Find out what the archive takes up, which reads the trees of all archives
        #[arg(long, requires = "reference")]
        sizes: bool,
    },
    /// Compare what is stored with its checksums, and tell what is damaged
    #[command(after_help = "Ends with code 10 if something is damaged.\n\n\
        Examples:\n  cairn archive verify s3://bucket/cairn\n  cairn archive verify s3://bucket/cairn v1 --deep --limit-rate 100MiB\n\n\
        --json prints one object a line for each damage, {\"damage\":{\"archive\":…,\"path\":…,\"range_start\":…,\"range_bytes\":…,\
        \"object\":…,\"offset\":…,\"what\":…}}, and at last the operation as `cairn operation show --json` does: without it \
        verifying was not finished.")]
    Verify {
        /// The object store
        #[arg(value_name = "URL")]
        store: String,
        /// Only these archives: `latest`, a tag, an id or at least 4 first digits of one
        #[arg(value_name = "SNAPSHOT")]
        references: Vec<String>,
        /// Read every byte, and not only the structure
        #[arg(long)]
        deep: bool,
        /// Read at most so much each second, such as 100MiB
        #[arg(long, value_name = "SIZE", value_parser = units::size)]
        limit_rate: Option<u64>,
        /// Print the operation's id and do not wait for its end
        #[arg(long)]
        detach: bool,
    },
    /// Delete archives; what only they needed is freed by `reclaim`
    #[command(after_help = "Examples:\n  cairn archive delete s3://bucket/cairn v1\n  \
        cairn archive delete s3://bucket/cairn 3f0c 77aa --yes\n\n\
        --json prints {\"deleted\":[…]} with the objects that `cairn archive show --json` prints.")]
    Delete {
        /// The object store
        #[arg(value_name = "URL")]
        store: String,
        /// `latest`, a tag, an id or at least 4 first digits of one
        #[arg(value_name = "SNAPSHOT", required = true)]
        references: Vec<String>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Free what no archive needs any more: packs are condemned first, and removed by a later run once the grace period is over
    #[command(
        after_help = "Examples:\n  cairn archive reclaim s3://bucket/cairn --dry-run\n  \
        cairn archive reclaim s3://bucket/cairn --grace 7d --rewrite-below 30\n\n\
        --json prints one object a line for each pack that is not just kept, {\"verdict\":{\"object\":…,\"action\":\"condemn\",\
        \"stored_bytes\":…,\"live_bytes\":…}}, action being condemn, reinstate, wait, rewrite or remove, and at last the operation \
        as `cairn operation show --json` does."
    )]
    Reclaim {
        /// The object store
        #[arg(value_name = "URL")]
        store: String,
        /// How long a pack must have been condemned before it is removed, such as 90m, 24h or 7d
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = units::duration)]
        grace: std::time::Duration,
        /// Tell what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
        /// Rewrite packs of which less than this is live, in per cent
        #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=100))]
        rewrite_below: u32,
        /// Print the operation's id and do not wait for its end
        #[arg(long)]
        detach: bool,
    },
    /// Make an object store this daemon's that belonged to another one, which must not run any more
    #[command(name = "take-over")]
    #[command(
        after_help = "Example:\n  cairn archive take-over s3://bucket/cairn\n\n--json prints {\"taken_over\":\"s3://bucket/cairn\"}."
    )]
    TakeOver {
        /// The object store
        #[arg(value_name = "URL")]
        store: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Make an empty object store this daemon's; the first push does so, too
    #[command(
        after_help = "Example:\n  cairn archive init s3://bucket/cairn\n\n--json prints {\"initialized\":\"s3://bucket/cairn\"}."
    )]
    Init {
        /// The object store
        #[arg(value_name = "URL")]
        store: String,
        /// Encrypt what is stored, by the key in cairnd's configuration
        #[arg(long)]
        encrypt: bool,
    },
    /// Wrap the data key of an encrypted object store with another key
    #[command(name = "rotate-key")]
    #[command(
        after_help = "Example:\n  cairn archive rotate-key s3://bucket/cairn --new-key-file /etc/cairn/new.key\n\n\
        --json prints {\"rotated\":\"s3://bucket/cairn\"}."
    )]
    RotateKey {
        /// The object store
        #[arg(value_name = "URL")]
        store: String,
        /// File on cairnd's machine that holds the new key
        #[arg(long, value_name = "FILE")]
        new_key_file: std::path::PathBuf,
    },
}

/// Commands about long work.
#[derive(Debug, Subcommand)]
pub enum OperationCommand {
    /// List what runs, and what has ended since the daemon started, newest first
    #[command(after_help = "Example:\n  cairn operation list\n\n\
        --json prints {\"operations\":[…]} with the objects that `cairn operation show --json` prints.")]
    List,
    /// Show one operation
    #[command(after_help = "Example:\n  cairn operation show 9f3e\n\n\
        --json prints the operation:\n  {\"id\":\"9f3e…\",\"kind\":\"push\",\"workspace\":\"model\",\"reference\":\"3f0c…\",\
        \"store\":\"s3://bucket/cairn\",\"state\":\"running\",\"cancel_requested\":false,\"started\":…,\"ended\":null,\"progress\":\
        {\"phase\":\"transferring\",\"files\":3,\"files_total\":10,\"bytes\":…,\"bytes_total\":…,\"transferred_bytes\":…,\
        \"elapsed_milliseconds\":…},\"result\":null,\"failure\":null}\n\
        state is running, succeeded, failed or cancelled; kind is push, pull, verify or reclaim.")]
    Show {
        /// Its id, or at least 4 first digits of it
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Ask an operation to stop
    #[command(after_help = "Example:\n  cairn operation cancel 9f3e\n\n\
        --json prints the operation as `cairn operation show --json` does.")]
    Cancel {
        /// Its id, or at least 4 first digits of it
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Follow an operation to its end; Ctrl-C ends the following and not the operation
    #[command(after_help = "Example:\n  cairn operation watch 9f3e\n\n\
        --json prints what the command that began the operation prints.")]
    Watch {
        /// Its id, or at least 4 first digits of it
        #[arg(value_name = "ID")]
        id: String,
    },
}
