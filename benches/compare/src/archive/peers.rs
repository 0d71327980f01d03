//! The other archivers, each as its manual says and with its default settings: restic, rustic, borg, bupstash.
//!
//! What is not default: rustic prunes at once instead of marking first (`--instant-delete`), as one prune is to free what it
//! can; borg is told its own default compression and no encryption. The other three always encrypt.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use cairn_e2e::tree::compare::{Comparison, Leniency, compare};
use cairn_e2e::tree::{Tree, local};
use clap::ValueEnum;
use tokio::runtime::Runtime;

use super::measure::{Cost, Tool, stored_bytes};
use super::server::{ACCESS_KEY, BUCKET, REGION, S3Server, SECRET_KEY};
use super::source::Source;

/// What archives are sealed with where a tool insists on it.
const PASSWORD: &str = "compare";
/// Names of the archives, in the order in which they are made.
pub const ARCHIVES: [&str; 3] = ["first", "second", "third"];

/// Where archives go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StoreKind {
    /// A directory.
    Local,
    /// An S3 server on loopback.
    S3,
}

impl StoreKind {
    /// Its name on the command line and in the tables.
    pub fn name(self) -> &'static str {
        match self {
            StoreKind::Local => "local",
            StoreKind::S3 => "s3",
        }
    }

    /// What the tables call it.
    pub fn shown(self) -> &'static str {
        match self {
            StoreKind::Local => "local store",
            StoreKind::S3 => "s3 store",
        }
    }
}

/// What one turn of a subject has to itself.
#[derive(Debug, Clone)]
pub struct Place {
    /// For caches, keys and temporary files. It is there.
    pub scratch: PathBuf,
    /// Where the bytes of the store lie, however they get there; a directory that is not there yet.
    pub stored: PathBuf,
    /// The server and the prefix in its bucket; without, the store is the directory itself.
    pub s3: Option<(String, String)>,
}

impl Place {
    /// A place for one turn.
    pub fn make(directory: &Path, server: Option<&S3Server>, name: &str) -> anyhow::Result<Self> {
        let scratch = directory.join("scratch");
        fs::create_dir_all(&scratch)?;
        Ok(Place {
            scratch,
            stored: server.map_or_else(|| directory.join("store"), |server| server.directory(name)),
            s3: server.map(|server| (server.endpoint.clone(), name.to_owned())),
        })
    }

    /// Bytes in the store.
    pub fn stored_bytes(&self) -> anyhow::Result<u64> {
        stored_bytes(&self.stored)
    }
}

/// Who can be compared.
pub trait Archiver {
    /// Archives the tree as it is now, as the `number`th of [`ARCHIVES`].
    fn push(&mut self, source: &Source, number: usize) -> anyhow::Result<Cost>;
    /// Brings what is archived to the changed state of the tree, which the tree on disk has already.
    fn follow_change(&mut self, source: &Source) -> anyhow::Result<()>;
    /// Looks whether anything has changed since the last archive, when nothing has, and makes none; `None` if it cannot do that.
    fn skip(&mut self, _: &Source) -> anyhow::Result<Option<Cost>> {
        Ok(None)
    }
    /// Checks the store's structure, or all data; `None` if it has no such command.
    fn verify(&mut self, data: bool) -> anyhow::Result<Option<Cost>>;
    /// Whether it can restore, and what comes after.
    fn restores(&self) -> bool {
        true
    }
    /// Restores the newest archive.
    fn restore(&mut self) -> anyhow::Result<Cost>;
    /// Compares what was restored with the tree, and removes it.
    fn compare(&mut self, expected: &Tree) -> anyhow::Result<Comparison>;
    /// Deletes all archives but the newest.
    fn forget(&mut self) -> anyhow::Result<()>;
    /// Frees what no archive needs any more.
    fn reclaim(&mut self) -> anyhow::Result<Cost>;
}

/// A tool that is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// bupstash.io.
    Bupstash,
    /// restic.net.
    Restic,
    /// rustic.cli.rs.
    Rustic,
    /// borgbackup.org.
    Borg,
}

impl Peer {
    /// The name of its program.
    pub fn name(self) -> &'static str {
        match self {
            Peer::Bupstash => "bupstash",
            Peer::Restic => "restic",
            Peer::Rustic => "rustic",
            Peer::Borg => "borg",
        }
    }

    /// Whether it speaks S3.
    pub fn can(self, store: StoreKind) -> bool {
        match self {
            Peer::Restic | Peer::Rustic => true,
            Peer::Bupstash | Peer::Borg => store == StoreKind::Local,
        }
    }

    /// Its program: below `$CAIRN_PEERS` (default `~/.cache/cairn/peers`), or on the path.
    fn program(self) -> anyhow::Result<PathBuf> {
        let peers = std::env::var_os("CAIRN_PEERS").map(PathBuf::from).or_else(|| {
            let home = PathBuf::from(std::env::var_os("HOME")?);
            Some(home.join(".cache/cairn/peers"))
        });
        let paths = std::env::var_os("PATH").unwrap_or_default();
        peers
            .into_iter()
            .map(|root| root.join("bin"))
            .chain(std::env::split_paths(&paths))
            .map(|directory| directory.join(self.name()))
            .find(|program| program.is_file())
            .with_context(|| {
                format!(
                    "{} is not installed: `make compare ARGS=archive` installs it",
                    self.name()
                )
            })
    }

    /// What it says about its version.
    pub fn version(self, scratch: &Path) -> anyhow::Result<String> {
        let arguments = match self {
            Peer::Restic => ["version"],
            Peer::Bupstash | Peer::Rustic | Peer::Borg => ["--version"],
        };
        let said = Tool::new(self.program()?, scratch).run(scratch, &arguments)?;
        let first = said.output.lines().next().unwrap_or_default();
        Ok(first.trim().to_owned())
    }

    /// An empty store at a place.
    pub fn begin<'a>(self, runtime: &'a Runtime, place: &'a Place) -> anyhow::Result<Running<'a>> {
        ensure!(
            place.s3.is_none() || self.can(StoreKind::S3),
            "{} speaks no S3",
            self.name()
        );
        let scratch = &place.scratch;
        let tool = Tool::new(self.program()?, scratch)
            .with("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .with("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .with("AWS_DEFAULT_REGION", REGION);
        let stored = place.stored.display().to_string();
        let tool = match self {
            Peer::Bupstash => tool
                .with("BUPSTASH_REPOSITORY", &stored)
                .with("BUPSTASH_KEY", scratch.join("key"))
                .with("BUPSTASH_SEND_LOG", scratch.join("send-log"))
                .with("BUPSTASH_QUERY_CACHE", scratch.join("query-cache")),
            Peer::Restic => {
                let s3 = |(endpoint, prefix): &(String, String)| format!("s3:{endpoint}/{BUCKET}/{prefix}");
                tool.with("RESTIC_REPOSITORY", place.s3.as_ref().map_or(stored, s3))
                    .with("RESTIC_PASSWORD", PASSWORD)
                    .with("RESTIC_CACHE_DIR", scratch.join("cache"))
            }
            Peer::Rustic => {
                if let Some((endpoint, prefix)) = &place.s3 {
                    let directory = scratch.join(".config/rustic");
                    fs::create_dir_all(&directory)?;
                    fs::write(directory.join("rustic.toml"), rustic_s3(endpoint, prefix))?;
                }
                let repository = if place.s3.is_some() { "opendal:s3" } else { &stored };
                tool.with("RUSTIC_REPOSITORY", repository)
                    .with("RUSTIC_PASSWORD", PASSWORD)
                    .with("RUSTIC_CACHE_DIR", scratch.join("cache"))
                    .with("RUSTIC_NO_PROGRESS", "true")
            }
            Peer::Borg => tool
                .with("BORG_REPO", &stored)
                .with("BORG_BASE_DIR", scratch.join("borg")),
        };
        let running = Running {
            peer: self,
            tool,
            runtime,
            place,
            restored: place.scratch.join("restored"),
        };
        let init: &[&str] = match self {
            Peer::Bupstash => {
                let key = scratch.join("key").display().to_string();
                running.run(&["new-key", "-o", &key])?;
                &["init"]
            }
            Peer::Restic | Peer::Rustic => &["init"],
            Peer::Borg => &["init", "--encryption", "none"],
        };
        running.run(init)?;
        Ok(running)
    }
}

/// rustic has no other way to be told these.
fn rustic_s3(endpoint: &str, prefix: &str) -> String {
    format!(
        "[repository.options]\nbucket = \"{BUCKET}\"\nroot = \"/{prefix}\"\nendpoint = \"{endpoint}\"\nregion = \"{REGION}\"\n"
    )
}

/// A tool with its store.
pub struct Running<'a> {
    peer: Peer,
    tool: Tool,
    runtime: &'a Runtime,
    place: &'a Place,
    restored: PathBuf,
}

impl Running<'_> {
    fn run(&self, arguments: &[&str]) -> anyhow::Result<Cost> {
        Ok(self.tool.run(&self.place.scratch, arguments)?.cost)
    }
}

impl Archiver for Running<'_> {
    fn push(&mut self, source: &Source, number: usize) -> anyhow::Result<Cost> {
        let name = ARCHIVES[number];
        let root = source.root.display().to_string();
        let borg = format!("::{name}");
        let bupstash = format!("name={name}");
        let arguments: &[&str] = match self.peer {
            Peer::Bupstash => &["put", "--no-progress", &bupstash, &root],
            // What stands in the store is relative to the tree, which is where they run.
            Peer::Restic | Peer::Rustic => &["backup", "--host", "compare", "."],
            Peer::Borg => &["create", "--compression", "lz4", &borg, "."],
        };
        Ok(self.tool.run(&source.root, arguments)?.cost)
    }

    fn follow_change(&mut self, _: &Source) -> anyhow::Result<()> {
        Ok(())
    }

    fn verify(&mut self, data: bool) -> anyhow::Result<Option<Cost>> {
        let arguments: &[&str] = match (self.peer, data) {
            (Peer::Bupstash, _) => return Ok(None),
            (Peer::Restic | Peer::Rustic | Peer::Borg, false) => &["check"],
            (Peer::Restic | Peer::Rustic, true) => &["check", "--read-data"],
            (Peer::Borg, true) => &["check", "--verify-data"],
        };
        self.run(arguments).map(Some)
    }

    fn restore(&mut self) -> anyhow::Result<Cost> {
        fs::create_dir(&self.restored)?;
        let into = self.restored.display().to_string();
        let newest = ARCHIVES[ARCHIVES.len() - 1];
        let borg = format!("::{newest}");
        let bupstash = format!("name={newest}");
        let arguments: &[&str] = match self.peer {
            Peer::Bupstash => &["restore", "--no-progress", "--into", &into, &bupstash],
            Peer::Restic => &["restore", "latest", "--target", &into],
            Peer::Rustic => &["restore", "latest", &into],
            Peer::Borg => &["extract", &borg],
        };
        Ok(self.tool.run(&self.restored, arguments)?.cost)
    }

    fn compare(&mut self, expected: &Tree) -> anyhow::Result<Comparison> {
        let found = local::list(&self.restored, &|_| true)?;
        // The directory that it was restored into is not the archive's.
        let leniency = Leniency {
            root: true,
            ..Leniency::default()
        };
        let comparison = self.runtime.block_on(compare(expected, &found, leniency))?;
        fs::remove_dir_all(&self.restored)?;
        Ok(comparison)
    }

    fn forget(&mut self) -> anyhow::Result<()> {
        let old = &ARCHIVES[..ARCHIVES.len() - 1];
        match self.peer {
            Peer::Bupstash => {
                for name in old {
                    self.run(&["rm", &format!("name={name}")])?;
                }
            }
            Peer::Restic | Peer::Rustic => {
                self.run(&["forget", "--keep-last", "1", "--group-by", ""])?;
            }
            Peer::Borg => {
                for name in old {
                    self.run(&["delete", &format!("::{name}")])?;
                }
            }
        }
        Ok(())
    }

    fn reclaim(&mut self) -> anyhow::Result<Cost> {
        let arguments: &[&str] = match self.peer {
            Peer::Bupstash => &["gc"],
            Peer::Restic => &["prune"],
            Peer::Rustic => &["prune", "--instant-delete"],
            Peer::Borg => &["compact"],
        };
        self.run(arguments)
    }
}
