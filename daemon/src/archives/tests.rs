//! Work on archives between a store and volumes that are fakes; stores that are opened once and shared.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cairn_content::objects::{ObjectError, ObjectStoreUrl};
use cairn_snapshot::archive::{ArchiveError, PackAction, ReclaimOptions};
use cairn_types::{SnapshotId, WorkspaceName};

use super::repositories::{OPEN_MAX, directory_name};
use super::testing::{FakeEnds, FakeRepository, description};
use super::{
    Archives, PullWanted, Repositories, RepositoriesParts, Repository, VerifyWanted, WorkError, identity,
};
use crate::data_directory::HandleSecret;
use crate::operations::{Finding, Kind, Operation, Operations, Outcome, Request};
use crate::system::{SystemClock, SystemRandomness};

const A: SnapshotId = SnapshotId([0xaa; 16]);
const B: SnapshotId = SnapshotId([0xbb; 16]);

/// Stores in directories, each of which is opened as what `open` gives; the number says how often one was.
fn repositories(
    open: impl Fn() -> Arc<FakeRepository> + Send + Sync + 'static,
) -> (Repositories, Arc<AtomicUsize>) {
    let opened = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&opened);
    let repositories = Repositories::new(RepositoriesParts {
        stores: Vec::new(),
        directory: "/nonexistent".into(),
        runtime: tokio::runtime::Handle::current(),
        clock: Arc::new(SystemClock),
        randomness: Arc::new(SystemRandomness),
        owner: identity::owner(&HandleSecret([1; 16]), "h", "/d".as_ref()),
        opener: Box::new(move |parts| {
            assert_eq!(parts.cache.parent(), Some("/nonexistent".as_ref()));
            count.fetch_add(1, Ordering::Relaxed);
            Ok(open() as Arc<dyn Repository>)
        }),
    });
    (repositories, opened)
}

struct World {
    archives: Archives,
    ends: Arc<FakeEnds>,
    store: ObjectStoreUrl,
    _directory: tempfile::TempDir,
}

fn world(repository: &Arc<FakeRepository>) -> World {
    let directory = tempfile::tempdir().unwrap();
    let ends = Arc::new(FakeEnds::default());
    let repository = Arc::clone(repository);
    let (repositories, _) = repositories(move || Arc::clone(&repository));
    World {
        archives: Archives::new(repositories, Arc::clone(&ends) as Arc<dyn super::Ends>),
        ends,
        store: ObjectStoreUrl::from_directory(directory.path()).unwrap(),
        _directory: directory,
    }
}

/// An operation to work for; its own work is nothing.
fn operation() -> Arc<Operation> {
    let operations = Operations::new(Arc::new(SystemClock), Arc::new(SystemRandomness));
    let request = Request {
        kind: Kind::Verify,
        workspace: String::new(),
        reference: String::new(),
        store: String::new(),
        repository: String::new(),
        parameters: String::new(),
    };
    operations
        .start(request, |_| Ok(Outcome::Verified(Default::default())))
        .unwrap()
        .0
}

fn workspace() -> WorkspaceName {
    WorkspaceName::new("w").unwrap()
}

#[tokio::test]
async fn a_push_archives_the_snapshot_that_was_asked_for() {
    let repository = FakeRepository::with(Vec::new());
    let world = world(&repository);
    let outcome = world
        .archives
        .push(&world.store, &workspace(), A, &operation())
        .unwrap();
    let Outcome::Pushed(pushed) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(pushed.archive.description.snapshot, A);
    let listed = world.archives.list(&world.store).unwrap();
    assert_eq!(listed, [pushed.archive]);
    let deleted = world.archives.delete(&world.store, "aaaa").unwrap();
    assert_eq!(deleted, listed[0]);
    assert_eq!(world.archives.list(&world.store).unwrap(), []);
}

fn pull(world: &World, reference: &str) -> PullWanted {
    PullWanted {
        store: world.store.clone(),
        reference: reference.to_owned(),
        workspace: workspace(),
        into_existing: true,
        policy: Default::default(),
        skip_damaged: false,
    }
}

#[tokio::test]
async fn a_pull_is_finished_when_everything_is_there() {
    let repository = FakeRepository::with(vec![description(A, &[]), description(B, &["v1"])]);
    let world = world(&repository);
    let outcome = world.archives.pull(&pull(&world, "v1"), &operation()).unwrap();
    let Outcome::Pulled {
        pulled,
        snapshot,
        safety,
        left_out: 0,
    } = outcome
    else {
        panic!("{outcome:?}")
    };
    assert_eq!(pulled.archive.description.snapshot, B);
    assert_eq!(
        (snapshot, safety),
        (SnapshotId([0xcd; 16]), Some(SnapshotId([0xef; 16])))
    );
    let wanted = world.ends.wanted.lock();
    assert_eq!(wanted.len(), 1);
    assert_eq!((wanted[0].identity, wanted[0].into_existing), ([0xbb; 32], true));
    assert_eq!(wanted[0].archive, pulled.archive);
    assert_eq!(world.ends.finished.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_cancelled_pull_is_not_finished() {
    let repository = Arc::new(FakeRepository {
        cancel_pulls: true,
        ..FakeRepository::default()
    });
    repository.archives.lock().extend(
        FakeRepository::with(vec![description(A, &["v1"])])
            .archives
            .lock()
            .drain(..),
    );
    let world = world(&repository);
    let failed = world
        .archives
        .pull(&pull(&world, "v1"), &operation())
        .unwrap_err();
    assert!(
        matches!(failed, WorkError::Archive(ArchiveError::Cancelled)),
        "{failed:?}"
    );
    assert_eq!(world.ends.finished.load(Ordering::Relaxed), 0);
    let unknown = world
        .archives
        .pull(&pull(&world, "v2"), &operation())
        .unwrap_err();
    assert!(
        matches!(unknown, WorkError::Archive(ArchiveError::NotFound { .. })),
        "{unknown:?}"
    );
    assert_eq!(world.ends.wanted.lock().len(), 1);
}

#[tokio::test]
async fn verifying_names_archives_and_tells_damage() {
    let repository = FakeRepository::with(vec![description(A, &[]), description(B, &["v1"])]);
    let world = world(&repository);
    let operation = operation();
    let mut wanted = VerifyWanted {
        store: world.store.clone(),
        references: vec!["v1".to_owned(), "aaaa".to_owned()],
        deep: true,
        bytes_per_second_max: Some(1 << 20),
    };
    world.archives.verify(&wanted, &operation).unwrap();
    {
        let options = repository.verified.lock();
        assert_eq!(options[0].archives, [B, A]);
        assert_eq!(
            (options[0].deep, options[0].bytes_per_second_max),
            (true, Some(1 << 20))
        );
    }
    let told = operation.findings_since(0).findings;
    assert!(
        matches!(told.as_slice(), [Finding::Damage(damage)] if damage.what == "gone"),
        "{told:?}"
    );
    wanted.references = vec!["v2".to_owned()];
    assert!(world.archives.verify(&wanted, &operation).is_err());
    assert_eq!(repository.verified.lock().len(), 1);
}

#[tokio::test]
async fn packs_that_are_just_kept_are_not_told() {
    let repository = FakeRepository::with(Vec::new());
    let world = world(&repository);
    let operation = operation();
    let options = ReclaimOptions {
        dry_run: true,
        ..ReclaimOptions::default()
    };
    let outcome = world
        .archives
        .reclaim(&world.store, &options, &operation)
        .unwrap();
    assert!(matches!(outcome, Outcome::Reclaimed { dry_run: true, .. }));
    let actions: Vec<PackAction> = operation
        .findings_since(0)
        .findings
        .iter()
        .map(|finding| match finding {
            Finding::Verdict(verdict) => verdict.action,
            Finding::Damage(damage) => panic!("{damage:?}"),
        })
        .collect();
    assert_eq!(actions, [PackAction::Condemn, PackAction::Remove]);
}

#[tokio::test]
async fn sizes_are_found_out_only_when_asked_for() {
    let repository = FakeRepository::with(vec![description(A, &[])]);
    let world = world(&repository);
    let progress = Default::default();
    let (archive, none) = world
        .archives
        .show(&world.store, "aaaa", false, &progress)
        .unwrap();
    assert_eq!((archive.description.snapshot, none), (A, None));
    let (_, sizes) = world
        .archives
        .show(&world.store, "aaaa", true, &progress)
        .unwrap();
    assert_eq!(sizes.map(|sizes| sizes.logical_bytes), Some(9));
    assert_eq!(
        world
            .archives
            .store_sizes(&world.store, &progress)
            .unwrap()
            .archives,
        1
    );
    world.archives.own(&world.store, true).unwrap();
}

#[tokio::test]
async fn a_store_is_opened_once_and_shared() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let text = format!("file://{}", path.display());
    let (repositories, opened) = repositories(|| FakeRepository::with(Vec::new()));
    let url = ObjectStoreUrl::parse(&text).unwrap();
    let absent = repositories.get(&url).map(drop).unwrap_err();
    assert!(
        matches!(
            absent,
            WorkError::Archive(ArchiveError::Objects(ObjectError::NoBucket { .. }))
        ),
        "{absent:?}"
    );
    // What has failed is tried again.
    std::fs::create_dir(&path).unwrap();
    let first = repositories.get(&url).unwrap();
    let second = repositories
        .get(&ObjectStoreUrl::parse(&format!("{text}/")).unwrap())
        .unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(opened.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn stores_that_nobody_uses_are_closed_when_there_are_too_many() {
    let directory = tempfile::tempdir().unwrap();
    let (repositories, opened) = repositories(|| FakeRepository::with(Vec::new()));
    let url = |number: usize| {
        let path = directory.path().join(number.to_string());
        if !path.exists() {
            std::fs::create_dir(&path).unwrap();
        }
        ObjectStoreUrl::from_directory(&path).unwrap()
    };
    let used = repositories.get(&url(0)).unwrap();
    for number in 1..=OPEN_MAX {
        repositories.get(&url(number)).unwrap();
    }
    assert_eq!(opened.load(Ordering::Relaxed), OPEN_MAX + 1);
    assert!(Arc::ptr_eq(&used, &repositories.get(&url(0)).unwrap()));
    assert_eq!(opened.load(Ordering::Relaxed), OPEN_MAX + 1);
    repositories.get(&url(1)).unwrap();
    assert_eq!(opened.load(Ordering::Relaxed), OPEN_MAX + 2);
}

#[test]
fn directories_of_stores_have_names_that_never_change() {
    let url = ObjectStoreUrl::parse("s3://bucket/prefix").unwrap();
    assert_eq!(directory_name(&url), "982985dbaa9d9b4a04536e8d0dc4e395");
    assert_ne!(
        directory_name(&url),
        directory_name(&ObjectStoreUrl::parse("s3://bucket/prefi").unwrap())
    );
}
