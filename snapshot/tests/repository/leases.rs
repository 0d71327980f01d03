//! The lease between processes and machines.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use cairn_snapshot::repository::{Host, LeaseError, Parts, Repository, RepositoryError, Ticks};
use parking_lot::Mutex;

use crate::harness::{Site, TestClock, lease, parts, parts_with};

const LONG: Duration = Duration::from_secs(120);

/// A monotonic clock that goes on only when somebody waits for it, and only as far.
#[derive(Default)]
struct Leaps(Mutex<Duration>);

impl Ticks for Leaps {
    fn now(&self) -> Duration {
        *self.0.lock()
    }

    fn pause(&self, duration: Duration) {
        *self.0.lock() += duration;
    }
}

/// The same repository as another machine sees it, with a clock of its own that runs as fast as it is waited for.
fn elsewhere(site: &Site) -> Repository {
    let mut parts = parts();
    parts.host.boot = "another boot".to_owned();
    parts.ticks = Arc::new(Leaps::default());
    Repository::open(&site.control(), parts).unwrap()
}

fn none() -> AtomicBool {
    AtomicBool::new(false)
}

/// Starts this test binary as a process that runs one function of this file.
fn start(function: &str, control: &std::path::Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("leases::{function}"), "--nocapture"])
        .env("CAIRN_TEST_CONTROL", control)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads what a process prints, until the line that says `word`; gives the rest of that line.
fn wait_for(output: &mut impl std::io::BufRead, word: &str) -> String {
    let mut line = String::new();
    while output.read_line(&mut line).unwrap() > 0 {
        // The test harness prints the name of the test before, without an end of line.
        if let Some((_, rest)) = line.split_once(word) {
            return rest.trim().to_owned();
        }
        line.clear();
    }
    panic!("the process ended without saying {word}");
}

/// As a process of its own: takes the lease, says so, and holds it until its input ends. As a test: gives it back.
#[test]
fn holds_the_lease_until_its_input_ends() {
    let Some(control) = std::env::var_os("CAIRN_TEST_CONTROL") else {
        let site = Site::new();
        drop(site.lease());
        assert_eq!(site.repository.lease_holder().unwrap(), None);
        return;
    };
    let repository = Repository::open(std::path::Path::new(&control), parts()).unwrap();
    let lease = lease(&repository, LONG);
    println!("\ntoken {}", lease.token());
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
}

/// As a process of its own: takes the lease five times and counts in a file that only the holder may touch. As a test: once.
#[test]
fn counts_in_a_file_that_the_lease_guards() {
    let control = std::env::var_os("CAIRN_TEST_CONTROL");
    let site = control.is_none().then(Site::new);
    let control = control.map_or_else(|| site.as_ref().unwrap().control(), Into::into);
    let repository = Repository::open(&control, parts()).unwrap();
    let file = control.join("cache/count");
    for _ in 0..5 {
        let lease = lease(&repository, LONG);
        let count = std::fs::read_to_string(&file).map_or(0, |text| text.parse::<u64>().unwrap());
        std::thread::yield_now();
        lease.check().unwrap();
        std::fs::write(&file, (count + 1).to_string()).unwrap();
        lease.release().unwrap();
    }
    assert!(std::fs::read_to_string(&file).unwrap().parse::<u64>().unwrap() >= 5);
}

#[test]
fn eight_processes_all_get_their_turns() {
    let site = Site::new();
    let processes: Vec<Child> = (0..8)
        .map(|_| start("counts_in_a_file_that_the_lease_guards", &site.control()))
        .collect();
    for process in processes {
        assert!(process.wait_with_output().unwrap().status.success());
    }
    assert_eq!(
        std::fs::read_to_string(site.control().join("cache/count")).unwrap(),
        "40"
    );
    assert_eq!(site.lease().token(), 41);
    assert_eq!(std::fs::read_dir(site.control().join("lock")).unwrap().count(), 1);
}

#[test]
fn a_holder_is_named_and_a_dead_one_is_succeeded_at_once() {
    let site = Site::new();
    let mut process = start("holds_the_lease_until_its_input_ends", &site.control());
    let mut output = std::io::BufReader::new(process.stdout.take().unwrap());
    let token: u64 = wait_for(&mut output, "token").parse().unwrap();
    let error = site
        .repository
        .lease("test", Duration::ZERO, &none())
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!("process {}", process.id())), "{text}");
    assert_eq!(site.repository.lease_holder().unwrap().unwrap().token, token);
    process.kill().unwrap();
    process.wait().unwrap();
    // Without any wait: only certainty that the holder is dead lets this succeed.
    let lease = lease(&site.repository, Duration::ZERO);
    assert_eq!(lease.token(), token + 1);
}

/// A monotonic clock that goes on by a third of the time of expiry whenever the holder has renewed its lease.
struct Renewals {
    now: Mutex<Duration>,
    step: Duration,
    held: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Ticks for Renewals {
    fn now(&self) -> Duration {
        *self.now.lock()
    }

    fn pause(&self, _: Duration) {
        let before = (self.held)();
        while (self.held)() == before {
            std::thread::yield_now();
        }
        *self.now.lock() += self.step;
    }
}

#[test]
fn a_holder_that_renews_keeps_the_lease_however_long_another_waits() {
    let site = Site::new();
    let mut quick = parts();
    quick.lease_times.renew_every = Duration::from_millis(10);
    let holder = Repository::open(&site.control(), quick).unwrap();
    let held = lease(&holder, LONG);

    let mut patient = parts();
    patient.host.boot = "another boot".to_owned();
    let looking = Repository::open(&site.control(), patient.clone()).unwrap();
    let expire_after = patient.lease_times.expire_after;
    patient.ticks = Arc::new(Renewals {
        now: Mutex::default(),
        step: expire_after / 3,
        held: Arc::new(move || looking.lease_holder().unwrap().unwrap().renewals),
    });
    let waiting = Repository::open(&site.control(), patient).unwrap();
    let error = waiting.lease("test", expire_after * 5, &none()).unwrap_err();
    assert!(matches!(error, LeaseError::Held { .. }), "{error}");
    held.check().unwrap();
    assert!(held.record().renewals >= 15);
}

#[test]
fn an_expired_holder_that_wakes_up_publishes_nothing() {
    let site = Site::new();
    let mut parts = parts();
    // This holder never renews in time.
    parts.lease_times.renew_every = LONG;
    let sleeper = Repository::open(&site.control(), parts).unwrap();
    let stale = lease(&sleeper, LONG);
    let descriptor = crate::harness::descriptor(sleeper.new_snapshot_id(), 1);

    let other = elsewhere(&site);
    let fresh = lease(&other, LONG);
    assert_eq!(fresh.token(), stale.token() + 1);
    for error in [
        RepositoryError::from(stale.check().unwrap_err()),
        sleeper.publish(&stale, &descriptor).unwrap_err(),
        sleeper.unpublish(&stale, descriptor.id).unwrap_err(),
        sleeper.set_state(&stale, &Default::default()).unwrap_err(),
    ] {
        assert!(
            matches!(error, RepositoryError::Lease(LeaseError::Lost { .. })),
            "{error}"
        );
    }
    assert!(matches!(stale.release(), Err(LeaseError::Lost { .. })));
    assert_eq!(sleeper.snapshot_ids().unwrap(), []);
    // And the one that took over is not disturbed.
    other.publish(&fresh, &descriptor).unwrap();
    fresh.release().unwrap();
    assert_eq!(site.lease().token(), 3);
}

#[test]
fn wall_clocks_decide_nothing() {
    let site = Site::new();
    for seconds in [TestClock::START, 0, -5, TestClock::START * 2] {
        let clock = Arc::new(TestClock(AtomicI64::new(seconds)));
        let repository = Repository::open(&site.control(), parts_with(clock.clone())).unwrap();
        let held = lease(&repository, LONG);
        clock.0.store(seconds - 1_000_000, Ordering::Relaxed);
        held.check().unwrap();
        let error = site
            .repository
            .lease("test", Duration::ZERO, &none())
            .unwrap_err();
        assert!(matches!(error, LeaseError::Held { .. }), "{error}");
        clock.0.store(seconds + 1_000_000, Ordering::Relaxed);
        held.check().unwrap();
        held.release().unwrap();
    }
    assert_eq!(site.lease().token(), 5);
}

#[test]
fn a_damaged_lease_expires_as_any_other() {
    let site = Site::new();
    std::fs::write(
        site.control().join("lock/lease-00000000000000000007.json"),
        "garbage",
    )
    .unwrap();
    let error = site
        .repository
        .lease("test", Duration::ZERO, &none())
        .unwrap_err();
    assert!(matches!(error, LeaseError::Held { since: None, .. }), "{error}");
    let taken = lease(&elsewhere(&site), LONG);
    assert_eq!(taken.token(), 8);
}

#[test]
fn waiting_can_be_cancelled() {
    let site = Site::new();
    let _held = site.lease();
    let cancelled = AtomicBool::new(true);
    let error = site.repository.lease("test", LONG, &cancelled).unwrap_err();
    assert!(matches!(error, LeaseError::Cancelled), "{error}");
}

#[test]
fn threads_of_one_process_take_turns_as_well() {
    let site = Site::new();
    let inside = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let lease = site.lease();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    std::thread::yield_now();
                    assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                    lease.release().unwrap();
                }
            });
        }
    });
}

/// What the tests assume of hosts and parts.
#[test]
fn another_boot_is_another_machine() {
    let here: Parts = parts();
    let there = Host {
        boot: "another boot".to_owned(),
        ..here.host.clone()
    };
    assert!(!there.knows_ended(&here.host) && !here.host.knows_ended(&there));
}
