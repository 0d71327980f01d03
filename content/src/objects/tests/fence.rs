//! The fence under faults at every request, and in races.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_types::{Clock, ErrorKind, Randomness, Timestamp};

use super::{Fault, Faulty, PASSING, faulty, name, options, over};
use crate::objects::{Fence, FenceError, Objects, Owner, OwnerId, TakeOver};

/// Different at each call, as chance is.
#[derive(Default)]
struct Counting(AtomicU64);

impl Randomness for Counting {
    fn fill(&self, buffer: &mut [u8]) {
        for byte in buffer {
            let next = self.0.fetch_add(1, Ordering::Relaxed);
            *byte = (next.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8;
        }
    }
}

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::new(1_795_000_000, 0)
    }
}

fn store() -> (Arc<Faulty>, Objects) {
    let (store, _) = faulty();
    let objects = over(&store, options(), Arc::new(Counting::default()));
    (store, objects)
}

fn owner(number: u8) -> Owner {
    Owner {
        id: OwnerId::new([number; 16]),
        name: format!("node-{number}"),
    }
}

async fn acquire(objects: &Objects, number: u8, take_over: TakeOver) -> Result<Fence, FenceError> {
    Fence::acquire(objects, owner(number), take_over, &Fixed).await
}

#[tokio::test(start_paused = true)]
async fn acquiring_survives_a_fault_at_every_request() {
    for fault in PASSING {
        for number in 1..=4 {
            let (store, objects) = store();
            store.script([(number, fault)], None);
            let first = acquire(&objects, 1, TakeOver::No).await.unwrap();
            first.check().await.unwrap();
            assert_eq!(first.record().epoch, 1);

            store.script([(number, fault)], None);
            let second = acquire(&objects, 2, TakeOver::Yes).await.unwrap();
            second.check().await.unwrap();
            assert_eq!(second.record().epoch, 2, "{fault:?} at {number}");
            assert_eq!(second.record().store, first.record().store);
            let error = first.check().await.unwrap_err();
            assert!(matches!(error, FenceError::Fenced { epoch: 1, .. }), "{error:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_makes_nobody_its_owner() {
    let (store, objects) = store();
    store.script([], Some(Fault::Status(500)));
    let error = acquire(&objects, 1, TakeOver::No).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    store.script([], None);
    assert_eq!(Fence::read(&objects).await.unwrap(), None);
    let fence = acquire(&objects, 2, TakeOver::No).await.unwrap();
    store.script([], Some(Fault::Hang));
    assert_eq!(fence.check().await.unwrap_err().kind(), ErrorKind::Unavailable);
    store.script([], Some(Fault::Status(404)));
    let error = fence.check().await.unwrap_err();
    assert!(
        matches!(error, FenceError::Fenced { found: None, .. }),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn of_those_who_race_one_wins_whatever_answers_are_lost() {
    for fault in [
        None,
        Some(Fault::LostAnswer),
        Some(Fault::LostAndHang),
        Some(Fault::Torn),
    ] {
        for number in 1..=9 {
            let (store, objects) = store();
            store.script(fault.map(|fault| (number, fault)), None);
            race(&objects, [1, 2, 3], TakeOver::No, 1).await;
            store.script(fault.map(|fault| (number, fault)), None);
            race(&objects, [4, 5, 6], TakeOver::Yes, 2).await;
        }
    }
}

async fn race(objects: &Objects, owners: [u8; 3], take_over: TakeOver, epoch: u64) {
    let tasks = owners.map(|number| {
        let objects = objects.clone();
        tokio::spawn(async move { acquire(&objects, number, take_over).await })
    });
    let mut holders = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(fence) => holders.push(fence),
            Err(error) => assert!(matches!(error, FenceError::Owned { .. }), "{error:?}"),
        }
    }
    // One who was slow may meet the winner's fence and take that over in turn. Then the winner is fenced.
    let mut held = Vec::new();
    for fence in &holders {
        if fence.check().await.is_ok() {
            held.push(fence.record().clone());
        }
    }
    assert_eq!(held.len(), 1);
    let found = Fence::read(objects).await.unwrap().unwrap();
    assert_eq!(found, held[0]);
    // Who took over and lost the answer before the next one took over from it is told that it does not own the store.
    assert!(
        (epoch + holders.len() as u64 - 1..=epoch + 2).contains(&found.epoch),
        "{found:?}"
    );
    if take_over == TakeOver::No {
        assert_eq!(holders.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fence_that_cannot_be_read_is_left_alone() {
    let (_, objects) = store();
    let fence = name("fence");
    let newer = br#"{"kind":"cairn object store","version":2,"leases":[]}"#;
    objects.put(&fence, newer.to_vec().into()).await.unwrap();
    for take_over in [TakeOver::No, TakeOver::Yes] {
        let error = acquire(&objects, 1, take_over).await.unwrap_err();
        assert!(matches!(error, FenceError::Newer { found: 2, .. }), "{error:?}");
    }
    objects.put(&fence, b"not a fence".to_vec().into()).await.unwrap();
    let error = acquire(&objects, 1, TakeOver::Yes).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("s3://bucket/pre"), "{error}");
    assert_eq!(objects.get(&fence).await.unwrap(), b"not a fence"[..]);
}

#[tokio::test(start_paused = true)]
async fn an_impossible_owner_name_is_refused() {
    let (_, objects) = store();
    for bad in ["a\nb".to_owned(), "x".repeat(256)] {
        let owner = Owner {
            id: OwnerId::new([1; 16]),
            name: bad,
        };
        let error = Fence::acquire(&objects, owner, TakeOver::No, &Fixed)
            .await
            .unwrap_err();
        assert!(matches!(error, FenceError::OwnerName { .. }));
    }
    assert_eq!(Fence::read(&objects).await.unwrap(), None);
}
