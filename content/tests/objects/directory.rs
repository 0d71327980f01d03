//! What is particular about a directory.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use cairn_content::objects::{ObjectError, ObjectOptions, ObjectStoreUrl, Objects};
use cairn_types::{ErrorKind, Timestamp};

use super::{Random, conformance, name, options, pattern};

fn open_directory(path: &std::path::Path, options: ObjectOptions) -> Result<Objects, ObjectError> {
    Objects::open(
        &ObjectStoreUrl::from_directory(path).unwrap(),
        options,
        Arc::new(Random),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_conforms() {
    let root = tempfile::tempdir().unwrap();
    let number = AtomicU32::new(0);
    let fresh = || {
        let path = root
            .path()
            .join(number.fetch_add(1, Ordering::Relaxed).to_string());
        let options = ObjectOptions {
            create_directory: true,
            ..options()
        };
        open_directory(&path, options).unwrap()
    };
    conformance::run(fresh).await;
}

#[tokio::test]
async fn a_directory_that_is_absent_is_not_made_by_accident() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("store");
    let error = open_directory(&path, options()).unwrap_err();
    assert!(matches!(error, ObjectError::NoBucket { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    let create = ObjectOptions {
        create_directory: true,
        ..options()
    };
    let error = open_directory(&path.join("deeper"), create.clone()).unwrap_err();
    assert!(matches!(error, ObjectError::NoBucket { .. }), "{error:?}");
    fs::write(root.path().join("file"), "").unwrap();
    let error = open_directory(&root.path().join("file"), options()).unwrap_err();
    assert!(matches!(error, ObjectError::NoBucket { .. }), "{error:?}");

    // It goes while it is used, as when a disk is unmounted.
    let objects = open_directory(&path, create).unwrap();
    objects.put(&name("a"), pattern(1, 0)).await.unwrap();
    fs::remove_dir_all(&path).unwrap();
    let gone = |error: ObjectError| assert!(matches!(error, ObjectError::NoBucket { .. }), "{error:?}");
    gone(objects.put(&name("a"), pattern(1, 0)).await.unwrap_err());
    gone(objects.put_new(&name("b/c"), pattern(1, 0)).await.unwrap_err());
    gone(objects.get(&name("a")).await.unwrap_err());
    gone(objects.head(&name("a")).await.unwrap_err());
    gone(objects.check().await.unwrap_err());
    gone(objects.delete(&name("a")).await.unwrap_err());
    gone(objects.delete_many(&[name("a"), name("b")]).await.unwrap_err());
    assert!(!path.exists());
}

#[tokio::test]
async fn a_directory_within_is_no_object() {
    let root = tempfile::tempdir().unwrap();
    let objects = open_directory(root.path(), options()).unwrap();
    objects.put(&name("a/b"), pattern(1, 0)).await.unwrap();
    assert!(objects.get(&name("a")).await.unwrap_err().is_not_found());
    assert!(objects.head(&name("a")).await.unwrap_err().is_not_found());
    assert!(
        objects
            .get_range(&name("a"), 0..1)
            .await
            .unwrap_err()
            .is_not_found()
    );
    assert_eq!(objects.get(&name("a/b")).await.unwrap(), pattern(1, 0));
}

#[tokio::test]
async fn what_an_interrupted_put_left_is_not_listed_and_is_cleaned() {
    let root = tempfile::tempdir().unwrap();
    let objects = open_directory(root.path(), options()).unwrap();
    objects.put(&name("packs/a"), pattern(10, 1)).await.unwrap();
    let (bytes, version) = objects.get_versioned(&name("packs/a")).await.unwrap();
    objects.replace(&name("packs/a"), bytes, &version).await.unwrap();
    let old = root.path().join("packs/a#1");
    let young = root.path().join("packs/b#2");
    let foreign = root.path().join("some file#1");
    for file in [&old, &young, &foreign] {
        fs::write(file, "half of it").unwrap();
    }
    let hours = |hours: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000 + hours * 3600);
    for (file, time) in [(&old, hours(0)), (&foreign, hours(0)), (&young, hours(5))] {
        fs::File::options()
            .write(true)
            .open(file)
            .unwrap()
            .set_modified(time)
            .unwrap();
    }
    let listed: Vec<_> = objects.list_sorted(None, 10).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].name, name("packs/a"));
    // A put is not in the way of what another one left.
    objects.put(&name("packs/a"), pattern(20, 2)).await.unwrap();
    assert_eq!(objects.get(&name("packs/a")).await.unwrap(), pattern(20, 2));
    let before = Timestamp::new(1_795_000_000 + 3600, 0);
    assert_eq!(objects.clean_unfinished(before).await.unwrap(), 1);
    assert!(!old.exists() && young.exists() && foreign.exists());
    assert_eq!(objects.clean_unfinished(before).await.unwrap(), 0);
    assert_eq!(objects.get(&name("packs/a")).await.unwrap(), pattern(20, 2));
}
