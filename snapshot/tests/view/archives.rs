//! Archives in object stores, of directories and of volumes, looked at without anything of this machine.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use cairn_content::objects::testing::Faulty;
use cairn_content::objects::{ObjectOptions, Owner, OwnerId};
use cairn_content::pipeline::PipelineSettings;
use cairn_content::sealing::Sealing;
use cairn_content::testing::random;
use cairn_fuse::{Detail, Seek, Taken, Tree as _, Unmounted};
use cairn_snapshot::archive::{Progress, Repository, RepositoryParts, RepositorySettings};
use cairn_snapshot::directory::WalkOptions;
use cairn_snapshot::engine::chunks::{ChunksCapture, capture};
use cairn_snapshot::manifest::{ManifestOptions, ManifestWriter};
use cairn_snapshot::view::{SnapshotTree, View, open_in};
use cairn_types::{FileKind, InodeId, Timestamp};
use tempfile::TempDir;

use crate::harness::{Chance, Ticks, description, push};
use crate::model::{ModelSource, Object, Random, Tree};
use crate::place::assert_same;
use crate::replica;
use crate::shown::{Shown, can_mount};

/// An object store in memory that counts requests, and who uses it.
struct Site {
    store: Arc<Faulty>,
    runtime: tokio::runtime::Runtime,
    caches: TempDir,
}

impl Site {
    fn new() -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        Site {
            store: Faulty::new(),
            runtime: builder.worker_threads(2).enable_all().build().unwrap(),
            caches: tempfile::tempdir().unwrap(),
        }
    }

    /// The archives, by somebody with this name. Frames of at most 64 KiB, about, so that requests tell bytes.
    fn open(&self, name: &str) -> Repository {
        let small = PipelineSettings {
            workers: 1,
            stores_max: 1,
            frame_bytes: 64 << 10,
            pack_bytes: 1 << 20,
            ..PipelineSettings::default()
        };
        let settings = RepositorySettings {
            data: small.clone(),
            tree: small,
            ..RepositorySettings::default()
        };
        let parts = RepositoryParts {
            objects: self
                .store
                .objects(ObjectOptions::default(), Arc::new(Chance))
                .unwrap(),
            runtime: self.runtime.handle().clone(),
            cache: self.caches.path().join(name),
            clock: Arc::new(Ticks::default()),
            owner: Owner {
                id: OwnerId::new([1; 16]),
                name: "somebody".to_owned(),
            },
            sealing: Sealing::plain(),
        };
        Repository::open(parts, settings).unwrap()
    }

    fn archive_directory(&self, work: &Path, number: u8) {
        let source = File::open(work).unwrap();
        let manifest = File::create(self.caches.path().join("manifest")).unwrap();
        let chunks = ChunksCapture {
            source: source.as_fd(),
            description: description(number),
            walk: WalkOptions {
                threads: 1,
                ..WalkOptions::default()
            },
            previous: None,
            manifest: ManifestWriter::create(manifest, ManifestOptions::default()).unwrap(),
            racy_after: Timestamp::new(1 << 40, 0),
            readers: 1,
            compression: None,
            progress: &Progress::new(),
        };
        capture(&self.open("writer"), chunks).unwrap();
    }

    fn view(&self, name: &str) -> View {
        open_in(self.open(name), None, &Progress::new()).unwrap()
    }

    /// Requests since the last call.
    fn requests(&self) -> usize {
        let asked = self.store.log().len();
        self.store.script([], None);
        asked
    }
}

#[test]
fn of_a_directorys_archive_only_what_is_read_is_fetched() {
    if !can_mount() {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    fs::create_dir(work.path().join("sub")).unwrap();
    let data = random(1, 12 << 20);
    fs::write(work.path().join("sub/large"), &data).unwrap();
    fs::write(work.path().join("small"), "small").unwrap();
    let site = Site::new();
    site.archive_directory(work.path(), 1);
    let expected = replica::entries(&File::open(work.path()).unwrap());
    site.requests();
    let shown = Shown::new(site.view("reader"));
    // The root, the packs, their ends, and the index of the list.
    let opened = site.requests();
    assert!(opened < 60, "{opened} requests to open");
    assert_eq!(fs::read_dir(shown.path().join("sub")).unwrap().count(), 1);
    assert_eq!(
        fs::metadata(shown.path().join("sub/large")).unwrap().len(),
        12 << 20
    );
    let listed = site.requests();
    assert!(listed <= 4, "{listed} requests to list");
    let large = File::open(shown.path().join("sub/large")).unwrap();
    // By the kernel's notion of reading on, at most as much around it.
    rustix::fs::fadvise(&large, 0, None, rustix::fs::Advice::Random).unwrap();
    let mut part = vec![0; 4096];
    large.read_exact_at(&mut part, 7 << 20).unwrap();
    assert_eq!(part, data[7 << 20..(7 << 20) + 4096]);
    let read = site.requests();
    // All of it would be 12 MiB in frames of 64 KiB and chunks of at most 4 MiB each.
    assert!((1..=6).contains(&read), "{read} requests to read 4 KiB");
    large.read_exact_at(&mut part, 7 << 20).unwrap();
    assert_eq!(site.requests(), 0, "it was kept");
    drop(large);
    assert_same(&expected, &shown.entries());
    assert_eq!(shown.end(), Unmounted::Clean);
}

/// The entries of a directory as the view lists them, a few at a time.
fn listed(tree: &SnapshotTree, directory: InodeId) -> BTreeMap<Vec<u8>, (InodeId, FileKind)> {
    let (mut found, mut after) = (BTreeMap::new(), 0);
    loop {
        let mut taken = 0;
        tree.list(directory, after, Detail::Attributes, &mut |listed| {
            if taken == 3 {
                return Taken::Full;
            }
            taken += 1;
            after = listed.cookie;
            assert_eq!(listed.attributes.unwrap().kind, listed.kind);
            found.insert(listed.name.to_vec(), (listed.inode, listed.kind));
            Taken::More
        })
        .unwrap();
        if taken == 0 {
            return found;
        }
    }
}

fn check_object(tree: &SnapshotTree, inode: InodeId, object: &Object) {
    let attributes = tree.attributes(inode).unwrap();
    let node = &object.node;
    assert_eq!(
        (
            attributes.kind,
            attributes.mode,
            attributes.uid,
            attributes.size,
            attributes.links
        ),
        (node.kind, node.mode, node.uid, node.size, node.links),
        "inode {inode}"
    );
    assert_eq!(
        (attributes.modified, attributes.changed, attributes.device),
        (node.modified, node.changed, node.device)
    );
    match node.kind {
        FileKind::Directory => {
            assert_eq!(listed(tree, inode), object.entries);
            assert_eq!(tree.parent(inode).unwrap(), node.parent);
            for (name, (named, _)) in &object.entries {
                assert_eq!(tree.find(inode, name).unwrap().unwrap().0, *named);
            }
            assert!(tree.find(inode, b"\xffno such name").unwrap().is_none());
        }
        FileKind::Symlink => assert_eq!(tree.read_link(inode).unwrap(), object.target),
        FileKind::Regular => {
            let mut found = vec![1; object.data.len() + 10];
            let read = tree.read(inode, 0, &mut found).unwrap();
            assert!(found[..read] == object.data[..], "inode {inode}");
            let middle = object.data.len() / 2;
            let mut part = vec![1; 100];
            let read = tree.read(inode, middle as u64, &mut part).unwrap();
            assert!(part[..read] == object.data[middle..(middle + 100).min(object.data.len())]);
            // Nothing is said to be a hole that has data.
            let mut at = 0;
            while let Some(hole) = tree
                .seek(inode, at, Seek::Hole)
                .unwrap()
                .filter(|hole| *hole < node.size)
            {
                let end = tree.seek(inode, hole, Seek::Data).unwrap().unwrap_or(node.size);
                assert!(hole < end, "inode {inode}: {hole} {end}");
                assert!(
                    object.data[hole as usize..end as usize]
                        .iter()
                        .all(|byte| *byte == 0)
                );
                at = end;
            }
        }
        FileKind::BlockDevice | FileKind::CharacterDevice | FileKind::Fifo | FileKind::Socket => {
            assert!(tree.read(inode, 0, &mut [0; 4]).is_err());
        }
    }
}

#[test]
fn a_volumes_archive_is_the_volume() {
    let site = Site::new();
    let random = &mut Random::new(11);
    let model = Tree::random(random, 500);
    push(&site.open("writer"), &ModelSource::new(&model), 1).unwrap();
    let view = site.view("reader");
    let tree = view.tree();
    for (inode, object) in &model.0 {
        check_object(&tree, *inode, object);
    }
    assert_eq!(tree.totals().inodes, model.0.len() as u64);
    assert!(tree.attributes(InodeId(1 << 40)).is_err());
}

#[test]
fn a_volumes_archive_is_mounted() {
    if !can_mount() {
        return;
    }
    let site = Site::new();
    let mut model = Tree::random(&mut Random::new(12), 120);
    // The kernel knows no group of this number.
    model.0.values_mut().for_each(|object| object.node.gid = 9);
    push(&site.open("writer"), &ModelSource::new(&model), 1).unwrap();
    let shown = Shown::new(site.view("reader"));
    let root = &model.0[&InodeId::ROOT];
    assert_eq!(fs::read_dir(shown.path()).unwrap().count(), root.entries.len());
    let mut files = 0;
    for entry in fs::read_dir(shown.path()).unwrap() {
        let entry = entry.unwrap();
        let name = std::os::unix::ffi::OsStrExt::as_bytes(&*entry.file_name()).to_vec();
        let (inode, kind) = root.entries[&name];
        assert_eq!(std::os::unix::fs::DirEntryExt::ino(&entry), inode.0);
        if kind == FileKind::Regular {
            files += 1;
            assert!(fs::read(entry.path()).unwrap() == *model.0[&inode].data);
        }
    }
    assert!(files > 0);
    assert_eq!(shown.end(), Unmounted::Clean);
}
