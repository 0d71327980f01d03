//! POSIX semantics of a volume, by comparison: generated sequences of operations run on a subject and on a small
//! reference model, and everything that can be seen is compared after every operation. `tree` states the rules.
//!
//! `CAIRN_MODEL_CASES` sets the number of sequences of each test, and `CAIRN_MODEL_LENGTH` their greatest length. A
//! sequence that fails is shrunk and printed; it is then kept by name in `regressions`.
// A test program: what fails here fails the test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod compare;
mod execute;
mod harness;
mod identity;
mod model;
mod mutants;
mod operations;
mod refusal;
mod subject;
mod tree;

use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::model::Model;
use crate::operations::{Operation, sequence};
use crate::subject::{Stop, Subject, TestClock};

/// A number from the environment.
fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().expect("a number"))
}

/// Runs generated sequences, each on a new subject; panics with the shortest sequence found that fails.
fn check<S: Subject>(
    cases: u32,
    length: usize,
    stops: &'static [Stop],
    subject: impl Fn(std::sync::Arc<TestClock>) -> S,
) {
    let cases = setting("CAIRN_MODEL_CASES", cases);
    let length = setting("CAIRN_MODEL_LENGTH", length as u32) as usize;
    let config = Config {
        cases,
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..Config::default()
    };
    let tested = TestRunner::new(config).run(&sequence(length, stops), |operations: Vec<Operation>| {
        let clock = TestClock::new();
        let outcome = harness::run(&mut subject(clock.clone()), &clock, &operations);
        outcome.map_err(|mismatch| TestCaseError::fail(format!("{}: {}", mismatch.step, mismatch.what)))
    });
    if let Err(failure) = tested {
        panic!("{failure}");
    }
}

/// The model is the model: the harness sees no difference where there is none.
#[test]
fn the_model_agrees_with_itself() {
    check(100, 120, &[Stop::Drop, Stop::Kill, Stop::PowerCut], Model::new);
}
