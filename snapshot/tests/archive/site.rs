//! A store in memory that fails as it is told to, and repositories over it with small packs, so that operations send many requests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use cairn_content::chunking::ChunkSizes;
use cairn_content::objects::testing::{Fault, Faulty};
use cairn_content::objects::{ObjectOptions, Objects, Owner, OwnerId};
use cairn_content::pipeline::PipelineSettings;
use cairn_content::sealing::KeyEncryptionKey;
use cairn_content::store::{ChunkStoreError, ChunkStoreSettings};
use cairn_snapshot::archive::{
    ArchiveError, PackAction, Progress, ReclaimOptions, Repository, RepositoryParts, RepositorySettings,
    encrypt_new, sealing_of,
};
use cairn_types::{FileKind, SnapshotId};
use tempfile::TempDir;
use tokio::runtime::{Handle, Runtime};

use crate::harness::{Chance, Ticks, assert_same, id, pull, reclaim, verify};
use crate::model::{Random, Tree};

/// How requests fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// One fails, and is not tried again.
    Unavailable,
    /// One is refused.
    Denied,
    /// One takes effect, and what waits for it hears of a failure.
    LostAnswer,
    /// The same, but it is sent again.
    Repeated,
    /// None from one on is answered.
    Killed,
    /// None from one on is answered; that one takes effect.
    KilledLate,
}

impl How {
    pub const ALL: [How; 6] = [
        How::Unavailable,
        How::Denied,
        How::LostAnswer,
        How::Repeated,
        How::Killed,
        How::KilledLate,
    ];

    /// Lets the store's request `at` fail so.
    pub fn script(self, store: &Faulty, at: u64) {
        match self {
            How::Unavailable => store.script([(at, Fault::Status(503))], None),
            How::Denied => store.script([(at, Fault::Status(403))], None),
            How::LostAnswer | How::Repeated => store.script([(at, Fault::LostAnswer)], None),
            How::Killed => store.cut_off(at, Fault::Torn),
            How::KilledLate => store.cut_off(at, Fault::LostAnswer),
        }
    }

    /// How often a request is sent.
    pub fn attempts(self) -> u32 {
        match self {
            How::Repeated => 3,
            _ => 1,
        }
    }
}

/// One for all tests: there are thousands of repositories.
pub fn runtime() -> Handle {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let made = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    });
    made.handle().clone()
}

/// A directory in memory if there is such a file system: what is in it is a cache.
fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => TempDir::new_in(memory).unwrap(),
        false => TempDir::new().unwrap(),
    }
}

/// A small tree whose data fills several packs.
pub fn small_tree(random: &mut Random, objects: u64, bytes: u64) -> Tree {
    let mut tree = Tree::random(random, objects);
    for inode in regular_files(&tree) {
        let length = bytes / 2 + random.below(bytes);
        tree.set_data(inode, random.bytes(length as usize), random);
    }
    tree
}

pub fn regular_files(tree: &Tree) -> Vec<cairn_types::InodeId> {
    let regular = tree
        .0
        .iter()
        .filter(|(_, object)| object.node.kind == FileKind::Regular);
    regular.map(|(inode, _)| *inode).collect()
}

/// The trees of archives, by the number of the archive.
pub type Trees = BTreeMap<u8, Tree>;

/// A store, and the caches of those who use it.
pub struct Site {
    pub store: Arc<Faulty>,
    pub clock: Arc<Ticks>,
    pub root: TempDir,
    /// What unlocks the store, if it is or will be encrypted.
    pub key: Option<u8>,
}

impl Site {
    pub fn new() -> Self {
        Site {
            store: Faulty::new(),
            clock: Arc::default(),
            root: directory(),
            key: None,
        }
    }

    /// The same store, and the same caches, to do something else with.
    pub fn fork(&self) -> Self {
        let site = Site {
            store: self.store.fork(),
            clock: Arc::default(),
            root: directory(),
            key: self.key,
        };
        for cache in std::fs::read_dir(self.root.path()).unwrap() {
            let cache = cache.unwrap();
            let copy = site.root.path().join(cache.file_name());
            std::fs::create_dir(&copy).unwrap();
            for file in std::fs::read_dir(cache.path()).unwrap() {
                let file = file.unwrap();
                std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
            }
        }
        site
    }

    pub fn objects(&self, attempts: u32) -> Objects {
        let options = ObjectOptions {
            attempts_max: attempts,
            backoff_start: Duration::from_millis(1),
            backoff_max: Duration::from_millis(1),
            ..ObjectOptions::default()
        };
        self.store.objects(options, Arc::new(Chance)).unwrap()
    }

    pub fn owner(number: u8) -> Owner {
        Owner {
            id: OwnerId::new([number; 16]),
            name: format!("node-{number}:/data"),
        }
    }

    pub fn cache(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn key(&self) -> Option<KeyEncryptionKey> {
        self.key.map(|key| KeyEncryptionKey::new([key; 32].into()))
    }

    /// Makes the store an encrypted one.
    pub fn encrypt(&self, attempts: u32) -> Result<(), ArchiveError> {
        let (objects, key) = (self.objects(attempts), self.key().unwrap());
        let owner = Site::owner(1);
        encrypt_new(&objects, &runtime(), owner, &*self.clock, &key, Arc::new(Chance)).map(drop)
    }

    /// A repository of the owner of this number, which tries each request so many times.
    pub fn try_open(&self, owner: u8, cache: &str, attempts: u32) -> Result<Repository, ArchiveError> {
        let objects = self.objects(attempts);
        let sealing = sealing_of(&objects, &runtime(), self.key().as_ref(), Arc::new(Chance))?;
        let small = PipelineSettings {
            workers: 1,
            stores_max: 1,
            chunk_sizes: ChunkSizes::around(4 << 10).unwrap(),
            frame_bytes: 64 << 10,
            pack_bytes: 64 << 10,
            ..PipelineSettings::default()
        };
        let settings = RepositorySettings {
            data: small.clone(),
            tree: small,
            store: ChunkStoreSettings {
                // So few that the index on local disk is at work.
                table_chunks_max: 50,
                ends_in_flight: 4,
                ..ChunkStoreSettings::default()
            },
            ..RepositorySettings::default()
        };
        let started = Instant::now();
        loop {
            let parts = RepositoryParts {
                objects: objects.clone(),
                runtime: runtime(),
                cache: self.cache(cache),
                clock: self.clock.clone(),
                owner: Site::owner(owner),
                sealing: sealing.clone(),
            };
            match Repository::open(parts, settings.clone()) {
                // The thread that reads ahead for a pull lets go of the index a moment after the pull has ended.
                Err(ArchiveError::Store(ChunkStoreError::Locked { .. }))
                    if started.elapsed() < Duration::from_secs(10) =>
                {
                    std::thread::yield_now();
                }
                opened => return opened,
            }
        }
    }

    /// A repository of owner 1 with its usual cache.
    pub fn open(&self) -> Repository {
        self.try_open(1, "cache", 1).unwrap()
    }

    /// The names of all objects, in order.
    pub fn names(&self) -> Vec<String> {
        self.store.contents().into_iter().map(|(name, _)| name).collect()
    }

    /// The names of the objects that begin with this.
    pub fn names_of(&self, prefix: &str) -> Vec<String> {
        let names = self.names().into_iter();
        names.filter(|name| name.starts_with(prefix)).collect()
    }
}

/// The snapshots that have an archive.
pub fn archived(repository: &Repository) -> BTreeSet<SnapshotId> {
    let archives = repository.archives().unwrap();
    archives
        .iter()
        .map(|archive| archive.description.snapshot)
        .collect()
}

/// Everything in the store is sound, every archive is there that must be, and each that is there holds its tree.
pub fn assert_whole(repository: &Repository, trees: &Trees, must: &[u8], story: &str) {
    let there = archived(repository);
    for number in must {
        assert!(there.contains(&id(*number)), "{story}: archive {number} is lost");
    }
    let (verified, damages) = verify(repository, true);
    assert!(damages.is_empty(), "{story}: {damages:?}");
    assert_eq!(verified.archives_sound, there.len() as u64, "{story}");
    for (number, tree) in trees.iter().filter(|(number, _)| there.contains(&id(**number))) {
        let archive = repository.find(Some(&id(*number).to_string())).unwrap();
        assert_same(&pull(repository, &archive).unwrap().0, tree);
    }
}

/// Once reclaimed there is nothing left over, and nothing lost.
pub fn assert_tidy(site: &Site, repository: &Repository, trees: &Trees, left: &[u8], story: &str) {
    reclaim(repository, 0);
    reclaim(repository, 0);
    let dry = ReclaimOptions {
        dry_run: true,
        ..ReclaimOptions::default()
    };
    let told = repository.reclaim(&dry, &Progress::new(), &mut |verdict| {
        assert_eq!(verdict.action, PackAction::Keep, "{story}: {verdict:?}");
        assert!(verdict.live_bytes > 0, "{story}: {verdict:?}");
    });
    assert_eq!(
        told.unwrap().packs,
        site.names_of("packs/").len() as u64,
        "{story}"
    );
    let expected: Vec<String> = left
        .iter()
        .map(|number| format!("archives/{}", id(*number)))
        .collect();
    let others = site
        .names()
        .into_iter()
        .filter(|name| !name.starts_with("packs/"));
    let others: Vec<String> = others.filter(|name| name != "fence" && name != "keys").collect();
    assert_eq!(others, expected, "{story}");
    assert_whole(repository, trees, left, story);
    for number in left {
        repository.delete(id(*number)).unwrap();
    }
    reclaim(repository, 0);
    reclaim(repository, 0);
    let expected: &[&str] = match site.key {
        Some(_) => &["fence", "keys"],
        None => &["fence"],
    };
    assert_eq!(site.names(), expected, "{story}");
}
