//! Kills a real daemon over and over under load and checks what is left (see `cairn_e2e::crash`).
//!
//! `CAIRN_CRASH_KILLS` (default 200) says how often, `CAIRN_CRASH_SEED` repeats the choices of an earlier run.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use cairn_e2e::crash::{self, CrashSettings};

const KILLS_DEFAULT: u64 = 200;
const WORKERS: usize = 5;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} is {text:?}: give a number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_every_kill() {
    let seed = number("CAIRN_CRASH_SEED");
    let seed = seed.unwrap_or_else(|| std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0));
    let kills = number("CAIRN_CRASH_KILLS").unwrap_or(KILLS_DEFAULT);
    println!("crash test: {kills} kills, CAIRN_CRASH_SEED={seed}");
    let directory = tempfile::tempdir().unwrap();
    let settings = CrashSettings {
        kills,
        seed,
        workers: WORKERS,
        directory: directory.path().to_owned(),
    };
    let started = Instant::now();
    match crash::run(settings).await {
        Ok(report) => {
            println!("crash test: {report}, {:?} in all", started.elapsed());
            assert!(report.kills >= kills);
            assert!(
                report.operations >= kills,
                "the kills came before anything was done: {report}"
            );
            assert!(report.start_max < Duration::from_secs(30));
        }
        Err(error) => {
            let kept = directory.keep();
            panic!(
                "CAIRN_CRASH_SEED={seed}, data kept in {}:\n{error:?}",
                kept.display()
            );
        }
    }
}
