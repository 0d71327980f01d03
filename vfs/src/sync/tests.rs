//! Who syncs, for whom, and what they hear when it fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::{GroupSync, SyncBarrier};
use crate::Barrier;

type Outcome = Result<u64, String>;
/// The group, the threads that syncs began on, how they shall end, and how often a failure was announced.
type Parts = (GroupSync, Receiver<String>, SyncSender<Outcome>, Arc<AtomicU64>);

const SYNCS_MAX: usize = 8;

fn group() -> Parts {
    let (started, syncs) = sync_channel(SYNCS_MAX);
    let (answer, answers) = sync_channel::<Outcome>(SYNCS_MAX);
    let failures = Arc::new(AtomicU64::new(0));
    let counted = failures.clone();
    let group = GroupSync::start(
        "sync-test",
        move || {
            let thread = std::thread::current();
            started
                .send(thread.name().unwrap_or_default().to_owned())
                .unwrap();
            answers.recv().unwrap()
        },
        move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        },
    );
    (group.unwrap(), syncs, answer, failures)
}

fn ended(barrier: SyncBarrier) -> Option<Result<(), crate::Error>> {
    let mut wait = Box::new(barrier).wait();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match wait.as_mut().poll(&mut context) {
        std::task::Poll::Ready(outcome) => Some(outcome),
        std::task::Poll::Pending => None,
    }
}

#[test]
fn a_lone_waiter_syncs_on_its_own_thread() {
    let (group, syncs, answer, _) = group();
    answer.send(Ok(1)).unwrap();
    let barrier = group.barrier(1);
    let mine = std::thread::current().name().unwrap_or_default().to_owned();
    barrier.assist();
    assert_eq!(syncs.recv().unwrap(), mine);
    assert!(ended(barrier).unwrap().is_ok());
    // What is durable is not synced again.
    group.barrier(1).assist();
    assert!(syncs.try_recv().is_err());
}

#[tokio::test]
async fn who_comes_while_another_syncs_is_served_by_the_next_sync() {
    let (group, syncs, answer, _) = group();
    let first = tokio::spawn(Box::new(group.barrier(1)).wait());
    let begun = tokio::task::spawn_blocking(move || (syncs.recv().unwrap(), syncs));
    let (thread, syncs) = begun.await.unwrap();
    assert_eq!(thread, "sync-test");
    // The thread syncs: assisting does not wait for it.
    let (second, third) = (group.barrier(2), group.barrier(3));
    second.assist();
    third.assist();
    let second = tokio::spawn(Box::new(second).wait());
    let third = tokio::spawn(Box::new(third).wait());
    answer.send(Ok(1)).unwrap();
    first.await.unwrap().unwrap();
    answer.send(Ok(3)).unwrap();
    second.await.unwrap().unwrap();
    third.await.unwrap().unwrap();
    assert_eq!(syncs.try_iter().count(), 1);
}

#[test]
fn a_failure_is_told_to_all_and_nothing_is_synced_again() {
    let (group, syncs, answer, failures) = group();
    answer.send(Err("no disk".into())).unwrap();
    let (first, second) = (group.barrier(1), group.barrier(2));
    first.assist();
    second.assist();
    for barrier in [first, second] {
        let error = ended(barrier).unwrap().unwrap_err();
        assert!(error.to_string().contains("no disk"), "{error}");
    }
    assert_eq!(
        (syncs.try_iter().count(), failures.load(Ordering::SeqCst)),
        (1, 1)
    );
    assert!(group.has_failed());
}

#[test]
fn the_end_of_a_group_ends_the_waits_and_lets_go_of_what_it_syncs() {
    let held = Arc::new(());
    let inside = held.clone();
    let sync = move || {
        let _held = &inside;
        Ok(0)
    };
    let group = GroupSync::start("sync-test", sync, |_| {}).unwrap();
    let barrier = group.barrier(7);
    drop(group);
    assert_eq!(Arc::strong_count(&held), 1);
    barrier.assist();
    assert!(ended(barrier).unwrap().is_err());
}
