//! The registry with work that waits for a word from the test.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use cairn_api::{ApiError, Reason};
use cairn_snapshot::archive::{PackAction, PackVerdict, Verified};

use super::{
    ENDED_MAX, FindError, Finding, Kind, Operation, Operations, Outcome, RUNNING_MAX, Request, StartError,
    State,
};
use crate::system::{SystemClock, SystemRandomness};

/// Longest wait of a test that would otherwise hang.
const PATIENCE: Duration = Duration::from_secs(60);

fn operations() -> Arc<Operations> {
    Operations::new(Arc::new(SystemClock), Arc::new(SystemRandomness))
}

fn request(kind: Kind, workspace: &str, parameters: &str) -> Request {
    Request {
        kind,
        workspace: workspace.to_owned(),
        reference: String::new(),
        store: "file:///s".to_owned(),
        repository: String::new(),
        parameters: parameters.to_owned(),
    }
}

fn verified(packs: u64) -> Outcome {
    Outcome::Verified(Verified {
        packs,
        ..Verified::default()
    })
}

/// What a piece of work that waits is told to do.
enum Word {
    Succeed,
    Fail,
    Panic,
    /// Wait for the flag.
    UntilCancelled,
}

/// Starts work that waits for a word.
fn waiting(operations: &Arc<Operations>, request: Request) -> (Arc<Operation>, SyncSender<Word>) {
    let (sender, receiver): (SyncSender<Word>, Receiver<Word>) = sync_channel(1);
    let (operation, new) = operations
        .start(request, move |operation| match receiver.recv_timeout(PATIENCE) {
            Ok(Word::Succeed) => Ok(verified(7)),
            Ok(Word::Fail) => Err(ApiError::new(Reason::StoreFull, "full")),
            Ok(Word::Panic) => panic!("this is what the test wants"),
            Ok(Word::UntilCancelled) => {
                while !operation.progress().is_cancelled() {
                    std::thread::yield_now();
                }
                Err(ApiError::new(Reason::Cancelled, "cancelled"))
            }
            Err(error) => Err(ApiError::new(Reason::Internal, error.to_string())),
        })
        .unwrap();
    assert!(new);
    (operation, sender)
}

#[tokio::main(flavor = "current_thread")]
async fn wait_for_end(operation: &Operation) {
    let mut ended = operation.has_ended();
    tokio::time::timeout(PATIENCE, ended.wait_for(|ended| *ended))
        .await
        .expect("the operation ends")
        .expect("the operation lives");
}

#[test]
fn each_way_to_end_is_told() {
    let operations = operations();
    for (word, cancel) in [
        (Word::Succeed, false),
        (Word::Fail, false),
        (Word::Panic, false),
        (Word::UntilCancelled, true),
    ] {
        let (operation, say) = waiting(&operations, request(Kind::Verify, "", ""));
        assert_eq!((operation.state(), operation.ended()), (State::Running, None));
        if cancel {
            operation.progress().cancel();
        }
        let expected = match word {
            Word::Succeed => State::Succeeded(Box::new(verified(7))),
            Word::Fail => State::Failed(Box::new(ApiError::new(Reason::StoreFull, "full"))),
            Word::UntilCancelled => State::Cancelled,
            Word::Panic => State::Running,
        };
        say.send(word).unwrap();
        wait_for_end(&operation);
        match (operation.state(), expected) {
            (State::Failed(error), State::Running) => {
                assert_eq!(error.reason, Reason::Internal);
                assert!(error.message.contains("verify broke off"), "{error}");
            }
            (found, expected) => assert_eq!(found, expected),
        }
        assert!(operation.ended().is_some());
        assert_eq!(operation.elapsed(), operation.elapsed());
        assert_eq!(
            operations.list().first().map(|newest| newest.id),
            Some(operation.id)
        );
    }
    assert_eq!(operations.list().len(), 4);
}

#[test]
fn equal_requests_are_one_operation_while_it_runs() {
    let operations = operations();
    let (first, say) = waiting(&operations, request(Kind::Push, "w", "x"));
    let never = |_: &Operation| -> Result<Outcome, ApiError> { panic!("this is not to be executed") };
    let (again, new) = operations.start(request(Kind::Push, "w", "x"), never).unwrap();
    assert_eq!((again.id, new), (first.id, false));
    let (other, say_other) = waiting(&operations, request(Kind::Push, "w", "y"));
    assert_ne!(other.id, first.id);
    say.send(Word::Succeed).unwrap();
    wait_for_end(&first);
    let (second, say_second) = waiting(&operations, request(Kind::Push, "w", "x"));
    assert_ne!(second.id, first.id);
    // One that is about to stop serves nobody who wants the work done.
    second.progress().cancel();
    let (third, say_third) = waiting(&operations, request(Kind::Push, "w", "x"));
    assert_ne!(third.id, second.id);
    for (operation, say) in [(other, say_other), (second, say_second), (third, say_third)] {
        say.send(Word::Succeed).unwrap();
        wait_for_end(&operation);
    }
}

#[test]
fn two_pulls_into_one_workspace_exclude_each_other() {
    let operations = operations();
    let (first, say) = waiting(&operations, request(Kind::Pull, "w", "a"));
    let refused = operations.start(request(Kind::Pull, "w", "b"), |_| Ok(verified(0)));
    assert!(
        matches!(&refused, Err(StartError::Excluded { running, .. }) if *running == first.id),
        "{refused:?}"
    );
    let (other, say_other) = waiting(&operations, request(Kind::Pull, "v", "b"));
    say_other.send(Word::Succeed).unwrap();
    say.send(Word::Succeed).unwrap();
    wait_for_end(&first);
    wait_for_end(&other);
    assert!(
        operations
            .start(request(Kind::Pull, "w", "b"), |_| Ok(verified(0)))
            .is_ok()
    );
}

#[test]
fn only_so_many_run_at_once() {
    let operations = operations();
    let mut running: Vec<_> = (0..RUNNING_MAX)
        .map(|number| waiting(&operations, request(Kind::Push, &number.to_string(), "")))
        .collect();
    let refused = operations.start(request(Kind::Push, "more", ""), |_| Ok(verified(0)));
    assert!(matches!(refused, Err(StartError::TooMany { .. })), "{refused:?}");
    let (ending, say) = running.pop().unwrap();
    say.send(Word::Succeed).unwrap();
    wait_for_end(&ending);
    running.push(waiting(&operations, request(Kind::Push, "more", "")));
    for (operation, say) in running {
        say.send(Word::Succeed).unwrap();
        wait_for_end(&operation);
    }
}

#[test]
fn the_last_that_ended_are_remembered() {
    let operations = operations();
    let mut ids = Vec::new();
    for number in 0..ENDED_MAX + 3 {
        let (operation, _) = operations
            .start(request(Kind::Push, &number.to_string(), ""), |_| Ok(verified(0)))
            .unwrap();
        wait_for_end(&operation);
        ids.push(operation.id);
    }
    let listed: Vec<_> = operations.list().iter().map(|operation| operation.id).collect();
    assert_eq!(
        listed,
        ids.iter().rev().take(ENDED_MAX).copied().collect::<Vec<_>>()
    );
    assert!(matches!(
        operations.find(&ids[0].to_string()),
        Err(FindError::NotFound { .. })
    ));
    let last = ids[ENDED_MAX + 2].to_string();
    assert_eq!(operations.find(&last).unwrap().id.to_string(), last);
}

#[test]
fn operations_are_found_by_what_they_begin_with() {
    let operations = operations();
    let (operation, say) = waiting(&operations, request(Kind::Verify, "", ""));
    let id = operation.id.to_string();
    assert_eq!(id.len(), 32);
    assert_eq!(operations.find(&id[..12]).unwrap().id, operation.id);
    for wrong in [
        "",
        &id[..3],
        "zzzz",
        &id.to_uppercase().replace(|c: char| c.is_ascii_digit(), "F"),
    ] {
        assert!(
            matches!(operations.find(wrong), Err(FindError::NotFound { .. })),
            "{wrong}"
        );
    }
    say.send(Word::Succeed).unwrap();
    wait_for_end(&operation);
}

#[test]
fn a_stop_cancels_and_waits_and_refuses_more() {
    let operations = operations();
    let (first, say) = waiting(&operations, request(Kind::Push, "a", ""));
    say.send(Word::UntilCancelled).unwrap();
    let (second, say) = waiting(&operations, request(Kind::Push, "b", ""));
    say.send(Word::UntilCancelled).unwrap();
    assert_eq!(operations.stop(PATIENCE), 0);
    assert_eq!(
        (first.state(), second.state()),
        (State::Cancelled, State::Cancelled)
    );
    let refused = operations.start(request(Kind::Push, "c", ""), |_| Ok(verified(0)));
    assert!(matches!(refused, Err(StartError::Stopping)), "{refused:?}");
}

#[test]
fn a_stop_does_not_wait_for_ever() {
    let operations = operations();
    let (operation, say) = waiting(&operations, request(Kind::Push, "a", ""));
    assert_eq!(operations.stop(Duration::ZERO), 1);
    assert!(operation.progress().is_cancelled());
    say.send(Word::Succeed).unwrap();
    wait_for_end(&operation);
    // What was done all the same is told as done.
    assert_eq!(operation.state(), State::Succeeded(Box::new(verified(7))));
}

#[test]
fn findings_of_old_operations_are_forgotten_first() {
    let operations = operations();
    let finding = || {
        Finding::Verdict(PackVerdict {
            object: "p".repeat(1 << 20),
            action: PackAction::Remove,
            stored_bytes: 1,
            live_bytes: 0,
        })
    };
    let all: Vec<_> = (0..4)
        .map(|number| {
            let work = move |operation: &Operation| {
                (0..6).for_each(|_| operation.found(finding()));
                Ok(verified(0))
            };
            let (operation, _) = operations
                .start(request(Kind::Reclaim, "", &number.to_string()), work)
                .unwrap();
            wait_for_end(&operation);
            operation
        })
        .collect();
    let kept: Vec<usize> = all
        .iter()
        .map(|operation| operation.findings_since(0).findings.len())
        .collect();
    assert_eq!(kept, [0, 0, 1, 1]);
    assert_eq!(all[0].findings_since(0).skipped, 6);
    assert!(all[3].findings_since(0).more);
}
