//! POSIX semantics of a volume, by comparison: generated sequences of operations run on a subject and on a small
//! reference model, and everything that can be seen is compared after every operation. `tree` states the rules.
//!
//! `CAIRN_MODEL_CASES` sets the number of sequences of each test in memory, a tenth of which run on disk, and
//! `CAIRN_MODEL_LENGTH` their greatest length. A sequence that fails is shrunk and printed; it is then kept by name in
//! `regressions`. What sequences reach badly, limits above all, is in `corners`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod compare;
mod corners;
mod execute;
mod harness;
mod identity;
mod model;
mod mutants;
mod operations;
mod refusal;
mod regressions;
mod subject;
mod subjects;
mod tree;

use std::sync::Arc;

use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

use crate::model::Model;
use crate::operations::{Operation, sequence};
use crate::subject::{Stop, Subject, TestClock};
use crate::subjects::{Background, Disk, Memory, Real};

/// A number from the environment.
fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().expect("a number"))
}

fn cases() -> u32 {
    setting("CAIRN_MODEL_CASES", 300)
}

fn cases_on_disk() -> u32 {
    cases().div_ceil(10)
}

/// Runs generated sequences, each on a new subject; panics with the shortest sequence found that fails.
fn check<S: Subject>(cases: u32, stops: &'static [Stop], subject: impl Fn(Arc<TestClock>) -> S) {
    let length = setting("CAIRN_MODEL_LENGTH", 120) as usize;
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
    match tested {
        Ok(()) => {}
        Err(TestError::Fail(why, operations)) => {
            let lines: Vec<String> = operations
                .iter()
                .map(|operation| format!("  {operation:?},"))
                .collect();
            panic!("{why}\nThe shortest sequence that fails:\n{}", lines.join("\n"));
        }
        Err(other) => panic!("{other}"),
    }
}

/// The model is the model: the harness sees no difference where there is none.
#[test]
fn the_model_agrees_with_itself() {
    check(cases(), &[Stop::Drop, Stop::Kill, Stop::PowerCut], Model::new);
}

#[test]
fn volumes_in_memory_agree_with_the_model() {
    let stops = &[Stop::Drop, Stop::PowerCut];
    check(cases(), stops, |clock| {
        Real::new(Memory::default(), clock, Background::Never)
    });
}

#[test]
fn volumes_in_memory_agree_with_the_model_while_they_clean_up() {
    let stops = &[Stop::Drop, Stop::PowerCut];
    check(cases(), stops, |clock| {
        Real::new(Memory::default(), clock, Background::Always)
    });
}

#[test]
fn volumes_on_disk_agree_with_the_model() {
    let stops = &[Stop::Drop, Stop::Kill];
    check(cases_on_disk(), stops, |clock| {
        Real::new(Disk::new(), clock, Background::Never)
    });
}

#[test]
fn volumes_on_disk_agree_with_the_model_while_they_clean_up() {
    let stops = &[Stop::Drop, Stop::Kill];
    check(cases_on_disk(), stops, |clock| {
        Real::new(Disk::new(), clock, Background::Always)
    });
}
