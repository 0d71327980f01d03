//! Two hosts work on one repository: processes with mount and UTS namespaces of their own, other names, and other boot ids (the file that tells it is
//! another one in each), each with the directory mounted at a place of its own. They fence each other: one that stands still for too long is
//! succeeded, and when it goes on, it does no harm.
//!
//! Where the first host stands still is decided by strace(1), which sends it SIGSTOP at its Nth call that changes something.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_snapshot::archive::Progress;
use cairn_snapshot::engine::{EngineKind, Tools};
use cairn_snapshot::operations::collect;
use cairn_snapshot::operations::doctor::{Severity, examine};
use cairn_snapshot::operations::restore::{Unsaved, restore};
use cairn_snapshot::operations::save::{SaveRequest, Saved, save};
use cairn_snapshot::operations::verify::{VerifyRequest, verify};
use cairn_snapshot::repository::{Host, LeaseError, Parts, Repository, RepositoryError, Ticks};
use cairn_types::SnapshotId;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

#[path = "../operations/place.rs"]
#[allow(dead_code, reason = "shared with another test program")]
mod place;
#[path = "../directory/replica.rs"]
#[allow(dead_code, reason = "shared with another test program")]
mod replica;

use place::{assert_same, entries, parts, request};

const ORDER: &str = "CAIRN_HOST_ORDER";
/// The waits of this host take no time: it takes over what does not change while it looks.
const LEAPS: &str = "CAIRN_HOST_LEAPS";
const CALLS: &str = "renameat,renameat2,mkdirat,linkat,symlinkat,unlinkat,openat,write,pwrite64,fsync,syncfs,fchmod,\
                     utimensat,copy_file_range";

/// Makes a host: its name, its boot id, and its place of the shared directory; then runs the rest of the command line.
const HOST: &str = "echo \"$1\" > /proc/sys/kernel/hostname && mount --bind \"$2\" /proc/sys/kernel/random/boot_id && \
                    mount --bind \"$3\" \"$4\" && shift 4 && exec \"$@\"";

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

fn leaping() -> Parts {
    Parts {
        ticks: Arc::new(Leaps::default()),
        ..parts()
    }
}

/// What a host does, when this program is one.
#[test]
fn worker() {
    let Ok(order) = std::env::var(ORDER) else {
        return;
    };
    let parts = match std::env::var_os(LEAPS) {
        Some(_) => leaping(),
        None => parts(),
    };
    let mut words = order.split(' ');
    let repository = Repository::open(Path::new(words.next().unwrap()), parts).unwrap();
    let (tools, progress) = (Tools::default(), Progress::new());
    let wait = Duration::from_secs(120);
    let id = |word: Option<&str>| SnapshotId::parse(word.unwrap()).unwrap();
    match words.next().unwrap() {
        "host" => {
            let host = Host::detect().unwrap();
            println!("\nhost {} {}", host.name, host.boot);
        }
        "hold" => {
            let lease = repository.lease("holding", wait, progress.cancel_flag()).unwrap();
            println!("\nheld {}", lease.token());
            std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
            lease.release().unwrap();
        }
        "try" => {
            let error = repository
                .lease("trying", Duration::ZERO, progress.cancel_flag())
                .unwrap_err();
            assert!(matches!(error, LeaseError::Held { .. }));
            println!("\nrefused {error}");
        }
        "save" => {
            let wanted = SaveRequest {
                engine: EngineKind::requested(words.next().unwrap()).unwrap(),
                wait,
                ..SaveRequest::new(Host::detect().unwrap().name)
            };
            match save(&repository, &tools, &wanted, &progress).unwrap().0 {
                Saved::New(descriptor) => println!("\nsaved {}", descriptor.id),
                other => panic!("{other:?}"),
            }
        }
        "restore" => {
            let wanted = request(id(words.next()), &[], Unsaved::Save);
            restore(&repository, &tools, &wanted, &progress).unwrap();
        }
        "delete" => drop(collect::delete(&repository, &tools, id(words.next()), wait, &progress).unwrap()),
        other => panic!("{other}"),
    }
}

/// The shared directory, and what the hosts are made of.
struct Site {
    directory: tempfile::TempDir,
}

impl Site {
    /// Nothing where hosts cannot be made, with words on standard error.
    fn new() -> Option<Site> {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["shared", "at-a", "at-b"] {
            fs::create_dir(at(name)).unwrap();
        }
        for (number, name) in ["a", "b"].into_iter().enumerate() {
            let boot = format!("{number}0000000-0000-4000-8000-00000000000{number}\n");
            fs::write(at(&format!("boot-{name}")), boot).unwrap();
        }
        for number in 0..6 {
            fs::write(at(&format!("shared/{number}")), vec![number; 5000]).unwrap();
        }
        fs::create_dir(at("shared/sub")).unwrap();
        fs::write(at("shared/sub/file"), "in it").unwrap();
        Repository::init(&at("shared"), None, leaping()).unwrap();
        let site = Site { directory };
        let strace = Command::new("strace").arg("-V").stdout(Stdio::null()).status();
        let made = site.run("a", "host");
        if strace.is_err() || !made.status.success() {
            eprintln!(
                "SKIPPED: no hosts can be made here: {}",
                String::from_utf8_lossy(&made.stderr)
            );
            assert!(
                std::env::var("CI").is_err(),
                "root, unshare(1) and strace(1) are needed"
            );
            return None;
        }
        Some(site)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A process on a host; its command line begins with `before`.
    fn host(&self, name: &str, before: &[&str], order: &str) -> Command {
        let mut command = Command::new("unshare");
        let place = self.at(&format!("at-{name}"));
        command
            .args(["-m", "-u", "--propagation", "private", "sh", "-c", HOST, "sh"])
            .arg(format!("host-{name}"))
            .arg(self.at(&format!("boot-{name}")))
            .arg(self.at("shared"))
            .arg(&place)
            .args(before)
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "worker", "--nocapture", "--test-threads=1"])
            .env(ORDER, format!("{} {order}", place.join(".jvs").display()))
            // Cargo sets it: the dynamic linker would look for each library in a hundred places, and stand still at nothing else.
            .env_remove("LD_LIBRARY_PATH")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, name: &str, order: &str) -> Output {
        self.host(name, &[], order)
            .env(LEAPS, "1")
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap()
    }

    /// What a host says behind a word.
    #[track_caller]
    fn told(&self, name: &str, order: &str, word: &str) -> String {
        let output = self.run(name, order);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{told}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let line = told.lines().find_map(|line| line.strip_prefix(word));
        line.unwrap_or_else(|| panic!("{told}")).trim().to_owned()
    }

    fn open(&self) -> Repository {
        Repository::open(&self.at("shared/.jvs"), leaping()).unwrap()
    }

    fn save(&self) -> SnapshotId {
        let saved = save(
            &self.open(),
            &Tools::default(),
            &SaveRequest::new("here".to_owned()),
            &Progress::new(),
        );
        saved.unwrap().0.made().unwrap()
    }

    /// Every snapshot is whole, these are there, and the doctor finds nothing.
    fn check(&self, there: &[SnapshotId]) {
        let repository = self.open();
        let ids = repository.snapshot_ids().unwrap();
        for id in there {
            assert!(ids.contains(id), "snapshot {id} is there");
        }
        for id in there.iter().copied() {
            let found = verify(&repository, id, VerifyRequest::default(), &Progress::new()).unwrap();
            assert_eq!(found.damaged, 0, "{:?}", found.damage);
        }
        let found = examine(&repository, &Tools::default(), false, &Progress::new()).unwrap();
        let wrong: Vec<_> = found
            .findings
            .iter()
            .filter(|finding| finding.severity > Severity::Note)
            .collect();
        assert!(wrong.is_empty(), "the doctor finds {wrong:?}");
    }
}

#[test]
fn hosts_are_told_apart_and_wait_for_each_other() {
    let Some(site) = Site::new() else { return };
    let (a, b) = (site.told("a", "host", "host "), site.told("b", "host", "host "));
    assert_eq!(a, "host-a 00000000-0000-4000-8000-000000000000");
    assert_eq!(b, "host-b 10000000-0000-4000-8000-000000000001");
    let mut holder = site.host("a", &[], "hold").spawn().unwrap();
    let mut said = std::io::BufReader::new(holder.stdout.take().unwrap());
    wait_for(&mut said, "held ");
    let refused = site.told("b", "try", "refused ");
    assert!(
        refused.contains("holding") && refused.contains("on host-a"),
        "{refused}"
    );
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    let saved = site.told("b", "save copy", "saved ");
    let descriptor = site
        .open()
        .descriptor(SnapshotId::parse(&saved).unwrap())
        .unwrap();
    assert_eq!(
        (descriptor.host.name.as_str(), &descriptor.host.boot[..1]),
        ("host-b", "1")
    );
    // A process that has ended on another host holds the lease until it expires: nobody here can know.
    let mut holder = site.host("a", &[], "hold").spawn().unwrap();
    let mut said = std::io::BufReader::new(holder.stdout.take().unwrap());
    wait_for(&mut said, "held ");
    holder.kill().unwrap();
    holder.wait().unwrap();
    site.told("b", "try", "refused ");
    site.told("b", "save copy", "saved ");
    site.check(&[]);
}

fn wait_for(output: &mut impl std::io::BufRead, word: &str) {
    let mut line = String::new();
    while output.read_line(&mut line).unwrap() > 0 {
        if line.starts_with(word) {
            return;
        }
        line.clear();
    }
    panic!("the process ended without saying {word}");
}

/// A process on host a that stands still at its `call`th call.
struct Stalled {
    child: Child,
    log: PathBuf,
}

/// The last thread that strace says stands still.
fn stopped(log: &Path) -> Option<Pid> {
    let told = fs::read_to_string(log).unwrap_or_default();
    let line = told
        .lines()
        .rev()
        .find(|line| line.contains("stopped by SIGSTOP"))?;
    Pid::from_raw(line.split_whitespace().next()?.parse().ok()?)
}

impl Stalled {
    /// Starts it; nothing if it came to its end without standing still.
    fn start(site: &Site, order: &str, call: usize) -> Option<Stalled> {
        let log = site.at("trace");
        let _ = fs::remove_file(&log);
        let (trace, inject) = (
            format!("trace={CALLS}"),
            format!("inject={CALLS}:signal=STOP:when={call}"),
        );
        let strace = [
            "strace",
            "-f",
            "-qq",
            "-o",
            log.to_str().unwrap(),
            "-e",
            &trace,
            "-e",
            &inject,
        ];
        let mut child = site
            .host("a", &strace, order)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        loop {
            if stopped(&log).is_some() {
                return Some(Stalled { child, log });
            }
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success(), "nobody disturbed it");
                return None;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "it neither ends nor stands still"
            );
            std::thread::yield_now();
        }
    }

    /// Lets it go on, however often it stands still, until it ends. Whether it succeeded.
    fn wake(mut self) -> bool {
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            if let Some(pid) = stopped(&self.log) {
                let _ = kill_process(pid, Signal::CONT);
            }
            std::thread::yield_now();
        }
    }
}

/// Every so many calls: every one with `CAIRN_KILLS=all`.
fn stride(usual: usize) -> usize {
    match std::env::var("CAIRN_KILLS").as_deref() {
        Ok("all") => 1,
        _ => usual,
    }
}

/// Host a stands still at one call after the other of what `order` says; host b takes over and saves; host a goes on.
fn stalls(site: &Site, step: usize, mut order: impl FnMut(usize) -> (String, Vec<SnapshotId>)) {
    let (mut call, mut fenced, mut stalled) = (1, 0, 0);
    loop {
        let (order, kept) = order(call);
        let Some(sleeper) = Stalled::start(site, &order, call) else {
            break;
        };
        stalled += 1;
        fs::OpenOptions::new()
            .append(true)
            .open(site.at("shared/0"))
            .unwrap()
            .write_all(b"b")
            .unwrap();
        let taken = SnapshotId::parse(&site.told("b", "save copy", "saved ")).unwrap();
        let before = entries(&site.at("shared"));
        let succeeded = sleeper.wake();
        fenced += usize::from(!succeeded);
        if order.starts_with("restore") && !succeeded {
            // Another one has decided what becomes of it.
            assert_same(&before, &entries(&site.at("shared")));
        }
        let next = site.save();
        site.check(&[&kept[..], &[taken, next]].concat());
        // The more snapshots, the more calls: with all of them there would be no end.
        for id in site.open().snapshot_ids().unwrap() {
            if !kept.contains(&id) {
                let _ = collect::delete(
                    &site.open(),
                    &Tools::default(),
                    id,
                    Duration::ZERO,
                    &Progress::new(),
                );
            }
        }
        call += stride(step);
    }
    assert!(
        fenced > 2 && stalled > fenced,
        "{stalled} stood still, {fenced} were fenced"
    );
}

#[test]
fn a_save_that_stood_still_for_too_long_harms_nothing() {
    let Some(site) = Site::new() else { return };
    let first = site.save();
    for engine in ["copy", "archive"] {
        stalls(&site, 9, |_| (format!("save {engine}"), vec![first]));
    }
}

#[test]
fn a_restore_that_stood_still_for_too_long_harms_nothing() {
    let Some(site) = Site::new() else { return };
    let first = site.save();
    stalls(&site, 9, |call| {
        fs::write(site.at("shared/1"), format!("changed {call}")).unwrap();
        let _ = fs::remove_dir_all(site.at("shared/sub"));
        fs::write(site.at("shared/new"), "new").unwrap();
        (format!("restore {first}"), vec![first])
    });
}

#[test]
fn a_removal_that_stood_still_for_too_long_harms_no_other_snapshot() {
    let Some(site) = Site::new() else { return };
    let first = site.save();
    stalls(&site, 9, |_| {
        let removed = site.save();
        let kept = site.save();
        (format!("delete {removed}"), vec![first, kept])
    });
}

/// What a holder finds that was succeeded, at each place where it would publish.
#[test]
fn who_was_succeeded_publishes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let sleeper = Repository::init(directory.path(), None, leaping()).unwrap();
    let wait = Duration::from_secs(120);
    let progress = Progress::new();
    let saved = save(
        &sleeper,
        &Tools::default(),
        &SaveRequest::new(String::new()),
        &progress,
    );
    let Saved::New(descriptor) = saved.unwrap().0 else {
        panic!("it is new")
    };
    let stale = sleeper.lease("sleeping", wait, progress.cancel_flag()).unwrap();
    let mut elsewhere = leaping();
    elsewhere.host.boot = "another boot".to_owned();
    let other = Repository::open(sleeper.control().path(), elsewhere).unwrap();
    let fresh = other.lease("taking over", wait, progress.cancel_flag()).unwrap();
    let before = other.state().unwrap();
    let lost = |error: RepositoryError| matches!(error, RepositoryError::Lease(LeaseError::Lost { .. }));
    let mut forged = (*descriptor).clone();
    forged.id = sleeper.new_snapshot_id();
    assert!(lost(sleeper.publish(&stale, &forged).unwrap_err()));
    assert!(lost(sleeper.unpublish(&stale, descriptor.id).unwrap_err()));
    assert!(lost(sleeper.set_state(&stale, &Default::default()).unwrap_err()));
    assert!(lost(
        sleeper.change_labels(&stale, descriptor.id, |_| {}).unwrap_err()
    ));
    assert!(lost(sleeper.remove_unfinished(&stale).unwrap_err()));
    assert_eq!(other.snapshot_ids().unwrap(), [descriptor.id]);
    assert_eq!(other.state().unwrap(), before);
    assert_eq!(other.labels(&descriptor).unwrap().revision, 0);
    fresh.release().unwrap();
}
