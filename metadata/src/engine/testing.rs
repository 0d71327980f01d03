//! The conformance suite: what every [`Engine`] must do, as named checks that run on any of them.
//!
//! The checks use nothing but the trait. What only one engine can do (a power cut in memory, a kill of the process) is
//! tested with that engine.

use std::sync::Arc;

use super::Engine;

mod batches;
mod preconditions;
mod reads;

/// A store that outlives its engine: what is opened again holds what was written with any durability.
pub trait Subject {
    /// Opens the store. Never called while an engine from an earlier call still exists.
    fn open(&self) -> Arc<dyn Engine>;
}

impl<F: Fn() -> Arc<dyn Engine>> Subject for F {
    fn open(&self) -> Arc<dyn Engine> {
        self()
    }
}

/// One thing that every engine must do.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// What it is, as in "the engine ...".
    pub name: &'static str,
    run: fn(&dyn Subject),
}

impl Check {
    const fn new(name: &'static str, run: fn(&dyn Subject)) -> Self {
        Check { name, run }
    }

    /// Runs the check on an empty store.
    ///
    /// # Panics
    /// If the engine does something else.
    pub fn run(&self, empty: &dyn Subject) {
        (self.run)(empty);
    }
}

/// All checks.
pub const CHECKS: &[Check] = &[
    Check::new(
        "returns what was put, and nothing for the rest",
        reads::returns_what_was_put,
    ),
    Check::new("keeps any bytes as key and value", reads::keeps_any_bytes),
    Check::new("answers many keys in their order", reads::answers_many_in_order),
    Check::new("never answers otherwise from memory", reads::cached_answers_agree),
    Check::new("scans exactly the range", reads::scans_exactly_the_range),
    Check::new("stops a scan at the limit", reads::stops_at_the_limit),
    Check::new("scans as of one moment", reads::scans_as_of_one_moment),
    Check::new("applies operations in their order", batches::applies_in_order),
    Check::new("deletes exactly a range", batches::deletes_exactly_a_range),
    Check::new("accepts an empty batch", batches::accepts_an_empty_batch),
    Check::new("takes large batches whole", batches::takes_large_batches),
    Check::new(
        "refuses what is beyond the limits, and changes nothing",
        batches::refuses_beyond_limits,
    ),
    Check::new("keeps everything when opened again", batches::keeps_everything),
    Check::new("shows a batch whole or not at all", batches::shows_batches_whole),
    Check::new("checks that keys are absent", preconditions::checks_absence),
    Check::new("checks values", preconditions::checks_values),
    Check::new("refuses a batch as a whole", preconditions::refuses_as_a_whole),
    Check::new("isolates batches with preconditions", preconditions::isolates),
    Check::new("lets one of many create a key", preconditions::lets_one_create),
];

/// Runs all checks, each on a store of its own that `empty` makes.
///
/// # Panics
/// If a check fails. Its name is then on standard error.
pub fn conformance<S: Subject>(empty: impl Fn() -> S) {
    for check in CHECKS {
        let named = Named(check.name);
        check.run(&empty());
        drop(named);
    }
}

/// Says on standard error which check failed.
struct Named(&'static str);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the engine does not conform: it must be one that {}", self.0);
        }
    }
}
