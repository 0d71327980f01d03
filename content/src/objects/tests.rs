//! Every operation under faults: it succeeds because it tries again, or fails with the error that is typed for it; it
//! never gives wrong bytes, and sends no more requests than it may. Time is tokio's, paused: nothing waits.

mod fence;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_types::{ErrorKind, Randomness};
use futures_util::TryStreamExt;
use tokio::time::Instant;

use super::testing::{Fault, Faulty};
use super::{ObjectError, ObjectName, ObjectOptions, Objects};

const MIB: usize = 1 << 20;
const ATTEMPTS: u32 = 4;

/// What may pass, and so must be survived.
const PASSING: [Fault; 8] = [
    Fault::Hang,
    Fault::Status(500),
    Fault::Status(503),
    Fault::Status(429),
    Fault::Torn,
    Fault::LostAnswer,
    Fault::LostAndHang,
    Fault::Slow(Duration::from_secs(61)),
];

/// The largest values: every pause is as long as it can be.
struct Largest;

impl Randomness for Largest {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(255);
    }
}

fn options() -> ObjectOptions {
    ObjectOptions {
        attempts_max: ATTEMPTS,
        part_bytes: 5 * MIB as u64,
        whole_put_bytes_max: 5 * MIB as u64,
        ..ObjectOptions::default()
    }
}

fn over(store: &Arc<Faulty>, options: ObjectOptions, randomness: Arc<dyn Randomness>) -> Objects {
    store.objects(options, randomness).unwrap()
}

fn faulty() -> (Arc<Faulty>, Objects) {
    let store = Faulty::new();
    let objects = over(&store, options(), Arc::new(Largest));
    (store, objects)
}

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

/// Bytes that differ everywhere.
fn pattern(length: usize) -> Bytes {
    (0..length)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

async fn names(objects: &Objects) -> Vec<String> {
    let found = objects.list_sorted(None, 100).await.unwrap();
    found.into_iter().map(|info| info.name.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn one_fault_of_each_kind_is_survived_by_each_operation() {
    for fault in PASSING {
        let (store, objects) = faulty();
        let (a, b) = (name("a"), name("b"));
        let bytes = pattern(1000);

        store.script([(1, fault)], None);
        objects.put(&a, bytes.clone()).await.unwrap();
        assert_eq!(store.log(), ["put"; 2], "{fault:?}");

        store.script([(1, fault)], None);
        objects.put_new(&b, pattern(10)).await.unwrap();
        // If the first attempt took effect, the second was refused and the object was compared.
        let lost = matches!(fault, Fault::LostAnswer | Fault::LostAndHang);
        assert_eq!(
            store.log(),
            ["put", "put", "get"][..if lost { 3 } else { 2 }],
            "{fault:?}"
        );

        store.script([(1, fault)], None);
        assert_eq!(objects.get(&a).await.unwrap(), bytes);
        assert_eq!(store.log(), ["get"; 2], "{fault:?}");

        store.script([(1, fault)], None);
        assert_eq!(objects.get_range(&a, 100..900).await.unwrap(), bytes[100..900]);
        assert_eq!(store.log(), ["get"; 2], "{fault:?}");

        store.script([(1, fault)], None);
        assert_eq!(objects.head(&a).await.unwrap().bytes, 1000);
        assert_eq!(store.log(), ["head"; 2], "{fault:?}");

        let (_, version) = objects.get_versioned(&b).await.unwrap();
        store.script([(1, fault)], None);
        objects.replace(&b, pattern(20), &version).await.unwrap();
        assert_eq!(
            store.log(),
            ["put", "put", "get"][..if lost { 3 } else { 2 }],
            "{fault:?}"
        );
        assert_eq!(objects.get(&b).await.unwrap(), pattern(20));

        store.script([(1, fault)], None);
        assert_eq!(names(&objects).await, ["a", "b"]);
        assert_eq!(store.log(), ["list"; 2], "{fault:?}");

        store.script([(1, fault)], None);
        objects.delete(&a).await.unwrap();
        assert_eq!(store.log(), ["delete"; 2], "{fault:?}");

        store.script([(1, fault)], None);
        objects.delete_many(&[a, b]).await.unwrap();
        assert_eq!(store.log(), ["delete"; 2], "{fault:?}");
        store.script([], None);
        assert!(names(&objects).await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_down_gives_the_typed_error_after_all_attempts() {
    for fault in PASSING {
        let (store, objects) = faulty();
        let a = name("a");
        objects.put(&a, pattern(10)).await.unwrap();
        let (_, version) = objects.get_versioned(&a).await.unwrap();
        if matches!(fault, Fault::LostAnswer | Fault::LostAndHang) {
            continue;
        }
        let timeout = matches!(fault, Fault::Hang | Fault::Slow(_));
        let check = |error: ObjectError| {
            assert_eq!(store.log().len() as u32, ATTEMPTS, "{fault:?}");
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert_eq!(
                matches!(error, ObjectError::Timeout { .. }),
                timeout,
                "{fault:?}: {error:?}"
            );
            let text = error.to_string();
            assert!(
                text.contains("s3://bucket/pre") && text.contains("4 attempts"),
                "{text}"
            );
            store.script([], Some(fault));
        };
        store.script([], Some(fault));
        check(objects.put(&name("new"), pattern(9)).await.unwrap_err());
        check(objects.put_new(&name("new"), pattern(9)).await.unwrap_err());
        check(objects.replace(&a, pattern(9), &version).await.unwrap_err());
        check(objects.get(&a).await.unwrap_err());
        check(objects.get_range(&a, 0..5).await.unwrap_err());
        check(objects.get_parallel(&a, 10).await.unwrap_err());
        check(objects.head(&a).await.unwrap_err());
        check(objects.list_sorted(None, 10).await.unwrap_err());
        check(objects.check().await.unwrap_err());
        check(objects.delete(&a).await.unwrap_err());
        check(objects.delete_many(std::slice::from_ref(&a)).await.unwrap_err());
        store.script([], None);
        assert_eq!(objects.get(&a).await.unwrap(), pattern(10));
        assert!(
            objects.get(&name("new")).await.unwrap_err().is_not_found(),
            "a torn put is visible"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_will_not_pass_is_not_tried_again() {
    let (store, objects) = faulty();
    let a = name("a");
    objects.put(&a, pattern(10)).await.unwrap();
    for (status, kind) in [
        (401, ErrorKind::Denied),
        (403, ErrorKind::Denied),
        (404, ErrorKind::NotFound),
        (507, ErrorKind::NoSpace),
        (301, ErrorKind::Invalid),
        (400, ErrorKind::Invalid),
    ] {
        let fault = Some(Fault::Status(status));
        store.script([], fault);
        assert_eq!(
            objects.put(&a, pattern(9)).await.unwrap_err().kind(),
            kind,
            "{status}"
        );
        assert_eq!(objects.get(&a).await.unwrap_err().kind(), kind, "{status}");
        assert_eq!(objects.head(&a).await.unwrap_err().kind(), kind, "{status}");
        assert_eq!(objects.check().await.unwrap_err().kind(), kind, "{status}");
        assert_eq!(store.log(), ["put", "get", "head", "list"], "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_body_is_tried_again_and_never_returned() {
    let (store, objects) = faulty();
    let a = name("a");
    objects.put(&a, pattern(1000)).await.unwrap();
    for cut in [1, 500, 1000] {
        store.script([(1, Fault::Short(cut)), (2, Fault::Short(cut))], None);
        assert_eq!(objects.get(&a).await.unwrap(), pattern(1000));
        store.script([(1, Fault::Short(cut))], None);
        assert_eq!(objects.get_range(&a, 0..1000).await.unwrap(), pattern(1000));
        store.script([], Some(Fault::Short(cut)));
        let expected = |error: ObjectError| match error {
            ObjectError::Short { expected, found, .. } => {
                assert_eq!((expected, found), (1000, 1000 - cut as u64))
            }
            error => panic!("{error:?}"),
        };
        expected(objects.get(&a).await.unwrap_err());
        assert_eq!(store.log().len() as u32, ATTEMPTS);
        expected(objects.get_range(&a, 0..1000).await.unwrap_err());
        expected(objects.get_parallel(&a, 1000).await.unwrap_err());
    }
}

#[tokio::test(start_paused = true)]
async fn parts_survive_a_fault_at_every_request() {
    let bytes = pattern(12 * MIB + 5);
    let a = name("a");
    for fault in PASSING {
        // create, three parts, complete
        for number in 1..=5 {
            let (store, objects) = faulty();
            store.script([(number, fault)], None);
            objects.put(&a, bytes.clone()).await.unwrap();
            let log = store.log();
            assert!(log.contains(&"complete") && !log.contains(&"put"), "{log:?}");
            // Completing twice may mean a second upload, never a third.
            assert!(log.len() <= 12, "{fault:?} at {number}: {log:?}");
            store.script([], None);
            assert_eq!(objects.get(&a).await.unwrap(), bytes);

            store.script([(number, fault)], None);
            assert_eq!(objects.get_parallel(&a, bytes.len() as u64).await.unwrap(), bytes);
            assert_eq!(
                store.log().len(),
                if number <= 3 { 4 } else { 3 },
                "{fault:?} at {number}"
            );
        }
    }
    let (store, objects) = faulty();
    objects.put(&a, bytes.clone()).await.unwrap();
    for number in 1..=3 {
        store.script([(number, Fault::Short(7))], None);
        assert_eq!(objects.get_parallel(&a, bytes.len() as u64).await.unwrap(), bytes);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_upload_is_discarded_and_the_old_object_stays() {
    let (store, objects) = faulty();
    let a = name("a");
    objects.put(&a, pattern(3)).await.unwrap();
    // The second part fails in every attempt.
    for number in [3, 5] {
        store.script([(number, Fault::Status(403))], None);
        let error = objects.put(&a, pattern(12 * MIB)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert_eq!(store.log().last(), Some(&"abort"));
        assert_eq!(objects.get(&a).await.unwrap(), pattern(3));
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_is_aborted_when_none_of_its_parts_is_in_flight() {
    let bytes = pattern(27 * MIB);
    let slow = Fault::Slow(Duration::from_secs(30));
    // Of six parts, four go at once: the fourth is refused while two are on their way and one waits to be sent again.
    let options = ObjectOptions {
        requests_in_flight_max: 4,
        ..options()
    };
    let store = Faulty::new();
    let objects = over(&store, options, Arc::new(Largest));
    store.script(
        [
            (2, slow),
            (3, Fault::Status(503)),
            (4, slow),
            (5, Fault::Status(403)),
        ],
        None,
    );
    let start = Instant::now();
    let error = objects.put(&name("a"), bytes).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    // What is in flight is waited for; nothing is begun or tried again.
    assert_eq!(store.log(), ["create", "part", "part", "part", "part", "abort"]);
    assert!(store.given_up().is_empty(), "{:?}", store.given_up());
    assert_eq!(start.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_replaced_while_it_is_read_is_not_mixed() {
    let (store, objects) = faulty();
    let a = name("a");
    let size = 12 * MIB;
    objects.put(&a, pattern(size)).await.unwrap();
    store.script([(2, Fault::Slow(Duration::from_secs(10)))], None);
    let reader = objects.clone();
    let reading = tokio::spawn(async move { reader.get_parallel(&name("a"), size as u64).await });
    // Behind the writer's requests stand the slow one's ten seconds.
    tokio::time::sleep(Duration::from_secs(1)).await;
    objects.put(&a, Bytes::from(vec![0; size])).await.unwrap();
    let error = reading.await.unwrap().unwrap_err();
    assert!(matches!(error, ObjectError::Corrupt { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_broken_list_is_taken_up_again() {
    let (store, objects) = faulty();
    let expected: Vec<String> = (0..7).map(|index| format!("n{index}")).collect();
    for text in &expected {
        objects.put(&name(text), pattern(1)).await.unwrap();
    }
    store.script([], Some(Fault::Short(0)));
    // Two names a page, and each page breaks: every failure is followed by progress, so that the list ends.
    let mut list = objects.list(None).unwrap();
    let mut found = Vec::new();
    while found.len() < expected.len() {
        found.push(list.try_next().await.unwrap().unwrap().name.to_string());
    }
    assert_eq!(found, expected);
    // Nothing comes any more, and that is no end of the list.
    let error = list.try_next().await.unwrap_err();
    assert!(matches!(error, ObjectError::Unavailable { .. }), "{error:?}");
    assert_eq!(list.try_next().await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_stale_list_hides_and_shows_but_reads_are_right() {
    let (store, objects) = faulty();
    let (a, b) = (name("a"), name("b"));
    objects.put(&a, pattern(1)).await.unwrap();
    store.stale(&["a".to_owned()], &[("b".to_owned(), 5)]);
    assert_eq!(names(&objects).await, ["b"]);
    assert_eq!(objects.get(&a).await.unwrap(), pattern(1));
    assert!(objects.get(&b).await.unwrap_err().is_not_found());
    objects.delete_many(&[b]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_to_their_bound_and_requests_have_a_limit() {
    let (store, objects) = faulty();
    store.script([], Some(Fault::Status(500)));
    let start = Instant::now();
    objects.get(&name("a")).await.unwrap_err();
    assert_eq!(start.elapsed().as_millis() / 10, 70, "100 + 200 + 400 ms");

    let options = ObjectOptions {
        requests_in_flight_max: 3,
        ..options()
    };
    let objects = over(&store, options, Arc::new(Largest));
    let all: Vec<ObjectName> = (0..10).map(|index| name(&format!("n{index}"))).collect();
    store.script([], Some(Fault::Slow(Duration::from_secs(1))));
    let start = Instant::now();
    let puts = all.iter().map(|name| {
        let (objects, name) = (objects.clone(), name.clone());
        tokio::spawn(async move { objects.put(&name, pattern(1)).await })
    });
    for put in puts.collect::<Vec<_>>() {
        put.await.unwrap().unwrap();
    }
    assert_eq!((store.under_way_peak(), start.elapsed().as_secs()), (3, 4));
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_within_the_timeout_is_waited_for() {
    let (store, objects) = faulty();
    store.script([], Some(Fault::Slow(Duration::from_secs(59))));
    objects.put(&name("a"), pattern(1)).await.unwrap();
    assert_eq!(objects.get(&name("a")).await.unwrap(), pattern(1));
    assert_eq!(store.log(), ["put", "get"]);
}

#[tokio::test(start_paused = true)]
async fn a_store_without_bulk_delete_is_served_one_by_one() {
    let (store, objects) = faulty();
    let all = [name("a"), name("b")];
    for name in &all {
        objects.put(name, pattern(1)).await.unwrap();
    }
    store.script([(1, Fault::Status(501))], None);
    objects.delete_many(&all).await.unwrap();
    assert_eq!(store.log(), ["delete"; 3]);
    assert!(names(&objects).await.is_empty());
}
