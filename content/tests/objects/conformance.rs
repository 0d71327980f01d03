//! What every store must do.

use cairn_content::objects::{Fence, FenceError, ObjectError, Objects, Owner, OwnerId, TakeOver, Version};
use cairn_types::ErrorKind;
use futures_util::TryStreamExt;

use super::{Fixed, MIB, name, pattern};

/// Runs the suite; `fresh` gives an empty store each time.
pub async fn run(fresh: impl Fn() -> Objects) {
    whole_objects(&fresh()).await;
    absent_objects(&fresh()).await;
    ranges(&fresh()).await;
    large_objects(&fresh()).await;
    new_objects(&fresh()).await;
    replacing(&fresh()).await;
    listing(&fresh()).await;
    removing(&fresh()).await;
    readers_see_whole_objects(&fresh()).await;
    fence(&fresh()).await;
    fence_races(&fresh()).await;
}

async fn names(objects: &Objects, prefix: Option<&str>) -> Vec<String> {
    let found = objects.list_sorted(prefix, 10_000).await.unwrap();
    found.into_iter().map(|info| info.name.to_string()).collect()
}

fn assert_short<T: std::fmt::Debug>(result: Result<T, ObjectError>, lengths: (u64, u64)) {
    match result.unwrap_err() {
        ObjectError::Short { expected, found, .. } => assert_eq!((expected, found), lengths),
        error => panic!("{error:?}"),
    }
}

async fn whole_objects(objects: &Objects) {
    objects.check().await.unwrap();
    for (text, length) in [
        ("empty", 0),
        ("one", 1),
        ("a/b/c-d_e.f", 100_000),
        ("at-the-limit", 5 * MIB),
    ] {
        let bytes = pattern(length, 1);
        objects.put(&name(text), bytes.clone()).await.unwrap();
        assert_eq!(objects.get(&name(text)).await.unwrap(), bytes, "{text}");
        assert_eq!(objects.head(&name(text)).await.unwrap().bytes, length as u64);
        assert_eq!(
            objects.get_parallel(&name(text), length as u64).await.unwrap(),
            bytes
        );
    }
    // Over a longer one.
    objects.put(&name("a/b/c-d_e.f"), pattern(10, 2)).await.unwrap();
    assert_eq!(objects.get(&name("a/b/c-d_e.f")).await.unwrap(), pattern(10, 2));
}

async fn absent_objects(objects: &Objects) {
    objects.put(&name("a/b"), pattern(1, 0)).await.unwrap();
    for absent in ["x", "a/x", "a/b.c", "x/y/z"] {
        let absent = name(absent);
        let error = objects.get(&absent).await.unwrap_err();
        assert!(error.is_not_found(), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains(objects.url().as_str()) && text.contains(absent.as_str()),
            "{text}"
        );
        assert!(objects.head(&absent).await.unwrap_err().is_not_found());
        assert!(objects.get_range(&absent, 0..1).await.unwrap_err().is_not_found());
        assert!(objects.get_parallel(&absent, 0).await.unwrap_err().is_not_found());
        assert!(
            objects
                .get_parallel(&absent, 12 * MIB as u64)
                .await
                .unwrap_err()
                .is_not_found()
        );
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    for absent in ["x", "a/x", "x/y/z"] {
        objects.delete(&name(absent)).await.unwrap();
    }
}

async fn ranges(objects: &Objects) {
    let (a, bytes) = (name("a"), pattern(1000, 1));
    objects.put(&a, bytes.clone()).await.unwrap();
    for range in [0..1, 0..1000, 999..1000, 17..900] {
        let found = objects.get_range(&a, range.clone()).await.unwrap();
        assert_eq!(found, bytes[range.start as usize..range.end as usize]);
    }
    assert!(objects.get_range(&a, 5..5).await.unwrap().is_empty());
    assert_short(objects.get_range(&a, 0..1001).await, (1001, 1000));
    assert_short(objects.get_range(&a, 999..1001).await, (2, 1));
    assert_short(objects.get_range(&a, 1000..1001).await, (1, 0));
    assert_short(objects.get_range(&a, 5000..6000).await, (1000, 0));
    let inverted = std::ops::Range { start: 2, end: 1 };
    assert_eq!(
        objects.get_range(&a, inverted).await.unwrap_err().kind(),
        ErrorKind::Invalid
    );
    objects.put(&name("empty"), pattern(0, 0)).await.unwrap();
    assert_short(objects.get_range(&name("empty"), 0..1).await, (1, 0));
}

async fn large_objects(objects: &Objects) {
    let (a, length) = (name("packs/a"), 17 * MIB + 3);
    let bytes = pattern(length, 1);
    objects.put(&a, bytes.clone()).await.unwrap();
    assert!(objects.get(&a).await.unwrap() == bytes);
    assert!(objects.get_parallel(&a, length as u64).await.unwrap() == bytes);
    for wrong in [length as u64 - 1, length as u64 + 1, 5 * MIB as u64, 1, 0] {
        assert_short(objects.get_parallel(&a, wrong).await, (wrong, length as u64));
    }
    assert_eq!(names(objects, None).await, ["packs/a"]);
    let smaller = pattern(10 * MIB, 2);
    objects.put(&a, smaller.clone()).await.unwrap();
    assert!(objects.get(&a).await.unwrap() == smaller);
}

async fn new_objects(objects: &Objects) {
    let a = name("d/a");
    objects.put_new(&a, pattern(10, 1)).await.unwrap();
    for seed in [1, 2] {
        let error = objects.put_new(&a, pattern(10, seed)).await.unwrap_err();
        assert!(matches!(error, ObjectError::AlreadyExists { .. }), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
    assert_eq!(objects.get(&a).await.unwrap(), pattern(10, 1));
    objects.delete(&a).await.unwrap();
    objects.put_new(&a, pattern(10, 2)).await.unwrap();
    let error = objects
        .put_new(&name("b"), pattern(6 * MIB, 1))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(names(objects, None).await, ["d/a"]);
}

async fn replacing(objects: &Objects) {
    let changed = async |bytes, version: &Version| match objects.replace(&name("a"), bytes, version).await {
        Err(ObjectError::Changed { .. }) => {}
        other => panic!("{other:?}"),
    };
    let a = name("a");
    objects.put(&a, pattern(10, 1)).await.unwrap();
    let (bytes, first) = objects.get_versioned(&a).await.unwrap();
    assert_eq!(bytes, pattern(10, 1));
    objects.replace(&a, pattern(10, 2), &first).await.unwrap();
    changed(pattern(10, 3), &first).await;
    assert_eq!(objects.get(&a).await.unwrap(), pattern(10, 2));
    let (_, second) = objects.get_versioned(&a).await.unwrap();
    objects.delete(&a).await.unwrap();
    changed(pattern(10, 3), &second).await;
    assert!(objects.get(&a).await.unwrap_err().is_not_found());
    assert!(names(objects, None).await.is_empty());
}

async fn listing(objects: &Objects) {
    assert!(names(objects, None).await.is_empty());
    assert!(names(objects, Some("a")).await.is_empty());
    let all = ["a/1", "a/2", "a/b/3", "ab/4", "z"];
    for (index, text) in all.iter().enumerate() {
        objects.put(&name(text), pattern(index, 1)).await.unwrap();
    }
    assert_eq!(names(objects, None).await, all);
    assert_eq!(names(objects, Some("a")).await, ["a/1", "a/2", "a/b/3"]);
    assert_eq!(names(objects, Some("a/")).await, ["a/1", "a/2", "a/b/3"]);
    assert_eq!(names(objects, Some("a/b")).await, ["a/b/3"]);
    assert!(objects.list(Some("../a")).is_err());
    let sizes: Vec<u64> = objects
        .list_sorted(None, 5)
        .await
        .unwrap()
        .iter()
        .map(|info| info.bytes)
        .collect();
    assert_eq!(sizes, [0, 1, 2, 3, 4]);
    assert_eq!(
        objects.list_sorted(None, 4).await.unwrap_err().kind(),
        ErrorKind::Invalid
    );
}

async fn removing(objects: &Objects) {
    // More than one request of S3 removes or lists.
    let all: Vec<_> = (0..1005)
        .map(|index| name(&format!("d{}/{index:04}", index % 3)))
        .collect();
    let tasks = all.iter().map(|name| {
        let (objects, name) = (objects.clone(), name.clone());
        tokio::spawn(async move { objects.put(&name, pattern(1, 0)).await })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap().unwrap();
    }
    let mut seen = 0;
    let mut stream = objects.list(None).unwrap();
    while stream.try_next().await.unwrap().is_some() {
        seen += 1;
    }
    assert_eq!(seen, all.len());
    objects.delete(&all[0]).await.unwrap();
    objects.delete(&all[0]).await.unwrap();
    // One of them, the first, is gone already.
    objects.delete_many(&all[..1004]).await.unwrap();
    assert_eq!(names(objects, None).await, ["d2/1004"]);
    objects.delete_many(&[]).await.unwrap();
    objects.delete_many(&all).await.unwrap();
    assert!(names(objects, None).await.is_empty());
}

async fn readers_see_whole_objects(objects: &Objects) {
    let versions = [pattern(300_000, 1), pattern(200_000, 2)];
    objects.put(&name("a"), versions[0].clone()).await.unwrap();
    let writer = {
        let (objects, versions) = (objects.clone(), versions.clone());
        tokio::spawn(async move {
            for round in 0..40 {
                objects
                    .put(&name("a"), versions[round % 2].clone())
                    .await
                    .unwrap();
            }
        })
    };
    let mut reads = 0;
    while !writer.is_finished() || reads == 0 {
        let found = objects.get(&name("a")).await.unwrap();
        assert!(
            versions.contains(&found),
            "{} bytes that nobody wrote",
            found.len()
        );
        reads += 1;
    }
    writer.await.unwrap();
}

fn owner(number: u8) -> Owner {
    Owner {
        id: OwnerId::new([number; 16]),
        name: format!("node-{number}"),
    }
}

async fn fence(objects: &Objects) {
    let acquire = async |number, take_over| Fence::acquire(objects, owner(number), take_over, &Fixed).await;
    assert_eq!(Fence::read(objects).await.unwrap(), None);
    let first = acquire(1, TakeOver::No).await.unwrap();
    assert_eq!(first.record().epoch, 1);
    let again = acquire(1, TakeOver::Yes).await.unwrap();
    assert_eq!(again.record(), first.record());
    first.check().await.unwrap();
    let error = acquire(2, TakeOver::No).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("node-1") && text.contains(objects.url().as_str()) && text.contains("take"),
        "{text}"
    );
    match error {
        FenceError::Owned { found, .. } => assert_eq!(&*found, first.record()),
        error => panic!("{error:?}"),
    }
    first.check().await.unwrap();
    let second = acquire(2, TakeOver::Yes).await.unwrap();
    assert_eq!(
        (second.record().epoch, second.record().store),
        (2, first.record().store)
    );
    second.check().await.unwrap();
    match first.check().await.unwrap_err() {
        FenceError::Fenced { epoch, found, .. } => assert_eq!((epoch, found.unwrap().epoch), (1, 2)),
        error => panic!("{error:?}"),
    }
    // It comes back: a new epoch, so that what it began before is still fenced.
    let third = acquire(1, TakeOver::Yes).await.unwrap();
    assert_eq!(third.record().epoch, 3);
    assert!(matches!(
        first.check().await.unwrap_err(),
        FenceError::Fenced { .. }
    ));
    objects.delete(&name("fence")).await.unwrap();
    assert!(matches!(
        third.check().await.unwrap_err(),
        FenceError::Fenced { found: None, .. }
    ));
}

async fn fence_races(objects: &Objects) {
    for _ in 0..10 {
        let tasks = [1, 2, 3, 4].map(|number| {
            let objects = objects.clone();
            tokio::spawn(async move { Fence::acquire(&objects, owner(number), TakeOver::No, &Fixed).await })
        });
        let mut winners = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                Ok(fence) => winners.push(fence),
                Err(error) => assert!(matches!(error, FenceError::Owned { .. }), "{error:?}"),
            }
        }
        assert_eq!(winners.len(), 1);
        winners[0].check().await.unwrap();
        objects.delete(&name("fence")).await.unwrap();
    }
}
