//! A store in a directory, and repositories over it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use cairn_content::objects::{ObjectOptions, ObjectStoreUrl, Objects, Owner, OwnerId};
use cairn_content::pipeline::PipelineSettings;
use cairn_content::sealing::KeyEncryptionKey;
use cairn_snapshot::archive::{
    Archive, ArchiveError, Description, Progress, Pulled, Pushed, ReclaimOptions, Reclaimed, Repository,
    RepositoryParts, RepositorySettings, VerifyOptions, encrypt_new, sealing_of,
};
use cairn_snapshot::archive::{Damage, Verified};
use cairn_types::{Clock, Randomness, SnapshotId, Timestamp};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::model::{ModelSource, ModelTarget, Tree};

/// A clock that moves only when it is told to.
#[derive(Default)]
pub struct Ticks(pub AtomicI64);

impl Clock for Ticks {
    fn now(&self) -> Timestamp {
        Timestamp::new(1_795_000_000 + self.0.load(Ordering::Relaxed), 0)
    }
}

pub struct Chance;

impl Randomness for Chance {
    fn fill(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer).unwrap();
    }
}

/// A directory with a store and the caches of those who use it.
pub struct Place {
    pub root: TempDir,
    pub runtime: Runtime,
    pub clock: Arc<Ticks>,
    /// What unlocks the store, if it is encrypted.
    pub key: Option<KeyEncryptionKey>,
}

impl Place {
    /// A place whose store is encrypted, and owned by 1.
    pub fn encrypted() -> Self {
        let mut place = Place::new();
        let key = KeyEncryptionKey::new([5; 32].into());
        let owner = Place::owner(1);
        encrypt_new(
            &place.objects(),
            place.runtime.handle(),
            owner,
            &*place.clock,
            &key,
            Arc::new(Chance),
        )
        .unwrap();
        place.key = Some(key);
        place
    }

    pub fn objects(&self) -> Objects {
        let url = ObjectStoreUrl::from_directory(&self.store()).unwrap();
        Objects::open(&url, ObjectOptions::default(), Arc::new(Chance)).unwrap()
    }

    fn owner(number: u8) -> Owner {
        Owner {
            id: OwnerId::new([number; 16]),
            name: format!("node-{number}:/data"),
        }
    }

    pub fn new() -> Self {
        let root = TempDir::new().unwrap();
        std::fs::create_dir(root.path().join("store")).unwrap();
        Place {
            root,
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap(),
            clock: Arc::default(),
            key: None,
        }
    }

    pub fn store(&self) -> PathBuf {
        self.root.path().join("store")
    }

    /// A repository of the owner of this number.
    pub fn open(&self, owner: u8) -> Repository {
        let objects = self.objects();
        let sealing = sealing_of(
            &objects,
            self.runtime.handle(),
            self.key.as_ref(),
            Arc::new(Chance),
        )
        .unwrap();
        let small = |workers| PipelineSettings {
            workers,
            stores_max: 2,
            frame_bytes: 128 << 10,
            pack_bytes: 512 << 10,
            ..PipelineSettings::default()
        };
        let settings = RepositorySettings {
            data: small(2),
            tree: small(1),
            ..RepositorySettings::default()
        };
        let parts = RepositoryParts {
            objects,
            runtime: self.runtime.handle().clone(),
            cache: self.root.path().join(format!("cache-{owner}")),
            clock: self.clock.clone(),
            owner: Place::owner(owner),
            sealing,
        };
        Repository::open(parts, settings).unwrap()
    }

    /// All files of the store, relative to it.
    pub fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        walk(&self.store(), &self.store(), &mut files);
        files.sort();
        files
    }

    /// The packs of the store.
    pub fn packs(&self) -> Vec<String> {
        let files = self.files();
        files
            .into_iter()
            .filter(|file| file.starts_with("packs/"))
            .collect()
    }
}

fn walk(root: &Path, directory: &Path, files: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(root, &path, files);
        } else {
            files.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}

pub fn id(number: u8) -> SnapshotId {
    SnapshotId([number; 16])
}

pub fn description(number: u8) -> Description {
    Description {
        snapshot: id(number),
        workspace: "w".to_owned(),
        origin: [7; 32],
        created: Timestamp::new(1_794_000_000 + i64::from(number), 0),
        note: String::new(),
        tags: vec![format!("tag-{number}")],
    }
}

pub fn push(repository: &Repository, source: &ModelSource, number: u8) -> Result<Pushed, ArchiveError> {
    repository.push(source, description(number), &Progress::new())
}

pub fn pull(repository: &Repository, archive: &Archive) -> Result<(Tree, Pulled), ArchiveError> {
    let mut target = ModelTarget::default();
    let pulled = repository.pull(archive, &mut target, &Default::default(), &Progress::new())?;
    Ok((target.tree, pulled))
}

/// The archive of this number holds this tree.
pub fn assert_holds(repository: &Repository, number: u8, tree: &Tree) {
    let archive = repository.find(Some(&id(number).to_string())).unwrap();
    let (found, _) = pull(repository, &archive).unwrap();
    assert_same(&found, tree);
}

pub fn assert_same(found: &Tree, expected: &Tree) {
    for (inode, object) in &expected.0 {
        let other = found.0.get(inode);
        assert!(
            other == Some(object),
            "inode {inode}: {:?} {:?}",
            object.node,
            other.map(|other| other.node)
        );
    }
    assert_eq!(found.0.len(), expected.0.len());
}

pub fn verify(repository: &Repository, deep: bool) -> (Verified, Vec<Damage>) {
    let options = VerifyOptions {
        archives: Vec::new(),
        deep,
        bytes_per_second_max: None,
    };
    let mut damages = Vec::new();
    let verified = repository.verify(&options, &Progress::new(), &mut |damage| damages.push(damage));
    (verified.unwrap(), damages)
}

pub fn reclaim(repository: &Repository, grace: u64) -> Reclaimed {
    let options = ReclaimOptions {
        grace: std::time::Duration::from_secs(grace),
        ..ReclaimOptions::default()
    };
    repository
        .reclaim(&options, &Progress::new(), &mut |_| {})
        .unwrap()
}
