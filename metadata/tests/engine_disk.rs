//! Disks that fill up and disks that fail, as small file systems of their own. They need root and, for the failing one,
//! loop devices and mkfs.ext4: without, the tests say loudly that they did not run, and fail if `CI=true`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cairn_metadata::engine::rocks::{RocksEngine, RocksSettings};
use cairn_metadata::engine::{Batch, Durability, Engine, EngineError};

/// RocksDB looks for space every 5 seconds; this is ample.
const RECOVERY_MAX: Duration = Duration::from_secs(60);

/// A file system that is unmounted in the end. Drop what is open on it first.
struct Mounted {
    // In this order: the mount point is removed after the drop has unmounted it.
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Mounted {
    fn new(arguments: &[&str]) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        run(Command::new("mount").args(arguments).arg(&path)).then_some(Mounted {
            path,
            _directory: directory,
        })
    }

    /// A file system in memory of so many bytes.
    fn in_memory(bytes: u64) -> Option<Self> {
        Self::new(&["-t", "tmpfs", "-o", &format!("size={bytes}"), "cairn-test"])
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run(Command::new("umount").arg(&self.path));
    }
}

/// Whether a command succeeds. If not, why is on standard error.
fn run(command: &mut Command) -> bool {
    match command.output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            eprintln!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
            false
        }
        Err(error) => {
            eprintln!("{command:?}: {error}");
            false
        }
    }
}

/// Says that a test could not run, which is a failure where tests are expected to run.
fn skip(reason: &str) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "could not run: {reason}"
    );
    eprintln!("SKIPPED, NOT TESTED: {reason}");
}

fn record(number: u64) -> Batch {
    let mut batch = Batch::default();
    let noise = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    // Values that do not compress.
    let mut state = u64::from_be_bytes(noise);
    let value = (0..500)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect();
    batch.put(number.to_be_bytes().to_vec(), value);
    batch
}

fn removal(number: u64) -> Batch {
    let mut batch = Batch::default();
    batch.delete(number.to_be_bytes().to_vec());
    batch
}

fn count(engine: &RocksEngine, numbers: std::ops::Range<u64>) -> u64 {
    let found = engine
        .scan(
            &numbers.start.to_be_bytes(),
            &numbers.end.to_be_bytes(),
            usize::MAX,
        )
        .unwrap();
    found.len() as u64
}

fn occupy(path: &Path, bytes: u64) {
    std::fs::write(path, vec![1; usize::try_from(bytes).unwrap()]).unwrap();
}

/// Tries until it succeeds. Only lack of space may stand in the way.
fn await_space(mut attempt: impl FnMut() -> Result<(), EngineError>) -> Duration {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(()) => return start.elapsed(),
            Err(EngineError::NoSpace(_)) => {}
            Err(other) => panic!("there is space again, but: {other:?}"),
        }
        assert!(start.elapsed() < RECOVERY_MAX, "no recovery");
        // What is waited for is RocksDB's own clock, which nothing announces.
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// The flush of a buffer is what first finds no space.
#[test]
fn writes_go_on_when_a_flush_has_space_again() {
    fill_and_free(1 << 20, 16 << 20, ".sst");
}

/// The WAL is what first finds no space: less is left than a buffer takes.
#[test]
fn writes_go_on_when_the_log_has_space_again() {
    fill_and_free(8 << 20, 27 << 20, ".log");
}

/// RocksDB itself on a full disk, with no reserve to keep it from that.
fn fill_and_free(write_buffer_bytes: u64, ballast_bytes: u64, full: &str) {
    let Some(disk) = Mounted::in_memory(32 << 20) else {
        return skip("cannot mount a file system in memory");
    };
    let ballast = disk.path.join("ballast");
    occupy(&ballast, ballast_bytes);
    let settings = RocksSettings {
        write_buffer_bytes,
        space_reserve_bytes: 0,
        ..RocksSettings::default()
    };
    let store = disk.path.join("store");
    let engine = RocksEngine::open(&store, settings.clone()).unwrap();
    let mut next = 0;
    for round in 0..2 {
        let refused = loop {
            match engine.write(record(next), Durability::Process) {
                Ok(()) => next += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, EngineError::NoSpace(_)), "{refused:?}");
        let cause = std::error::Error::source(&refused).unwrap().to_string();
        assert!(
            round > 0 || cause.contains(full),
            "no space, but somewhere else: {cause}"
        );
        assert!(
            engine.get(&next.to_be_bytes()).unwrap().is_none(),
            "a refused write is not visible"
        );
        assert_eq!(count(&engine, 0..next + 1), next, "reads go on");
        match engine.sync() {
            Ok(()) | Err(EngineError::NoSpace(_)) => {}
            Err(other) => panic!("a sync on a full disk: {other:?}"),
        }
        if round == 0 {
            std::fs::remove_file(&ballast).unwrap();
            let waited = await_space(|| engine.write(record(next), Durability::Power));
            eprintln!("writes went on {waited:?} after there was space again");
            next += 1;
            engine.sync().unwrap();
        }
    }
    drop(engine);
    // Space for the flush that follows recovery: this is about what is in the store, not about opening it on a full disk.
    assert!(run(Command::new("mount")
        .args(["-o", "remount,size=96m"])
        .arg(&disk.path)));
    let engine = RocksEngine::open(&store, settings).unwrap();
    assert_eq!(
        count(&engine, 0..next + 1),
        next,
        "everything acknowledged is there, nothing refused is"
    );
}

/// Threads that write and threads that sync all the time meet the full disk at the same moment.
#[test]
fn a_full_disk_under_load_does_not_stop_the_store() {
    const WRITERS: u64 = 2;
    let Some(disk) = Mounted::in_memory(24 << 20) else {
        return skip("cannot mount a file system in memory");
    };
    let ballast = disk.path.join("ballast");
    occupy(&ballast, 12 << 20);
    let settings = RocksSettings {
        write_buffer_bytes: 1 << 20,
        space_reserve_bytes: 0,
        ..RocksSettings::default()
    };
    let engine = RocksEngine::open(disk.path.join("store"), settings).unwrap();
    let writing = AtomicU64::new(WRITERS);
    let acknowledged: Vec<u64> = std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                while writing.load(Ordering::Acquire) > 0 {
                    match engine.sync() {
                        Ok(()) | Err(EngineError::NoSpace(_)) => {}
                        Err(other) => panic!("a sync on a full disk: {other:?}"),
                    }
                }
            });
        }
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (engine, writing) = (&engine, &writing);
                scope.spawn(move || {
                    let mut written = 0;
                    let refused = loop {
                        match engine.write(record(writer << 32 | written), Durability::Process) {
                            Ok(()) => written += 1,
                            Err(error) => break error,
                        }
                    };
                    writing.fetch_sub(1, Ordering::Release);
                    assert!(
                        matches!(refused, EngineError::NoSpace(_)),
                        "on a full disk: {refused:?}"
                    );
                    written
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    std::fs::remove_file(&ballast).unwrap();
    await_space(|| engine.write(record(u64::MAX), Durability::Power));
    for (writer, written) in (0..WRITERS).zip(acknowledged) {
        assert_eq!(
            count(&engine, writer << 32..writer << 32 | u64::from(u32::MAX)),
            written
        );
    }
}

/// As above, but it is the WAL that has no space left when a sync comes: RocksDB takes that sync for a failed disk. The
/// store may stop then, as after any failed sync, but nothing acknowledged may be lost.
#[test]
fn a_full_log_under_load_loses_nothing() {
    let Some(disk) = Mounted::in_memory(32 << 20) else {
        return skip("cannot mount a file system in memory");
    };
    let ballast = disk.path.join("ballast");
    occupy(&ballast, 27 << 20);
    let settings = RocksSettings {
        write_buffer_bytes: 8 << 20,
        space_reserve_bytes: 0,
        ..RocksSettings::default()
    };
    let store = disk.path.join("store");
    let engine = RocksEngine::open(&store, settings.clone()).unwrap();
    let writing = AtomicBool::new(true);
    let written = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut synced = true;
            while synced && writing.load(Ordering::Acquire) {
                synced = engine.sync().is_ok();
            }
        });
        let written = (0..).find(|number| engine.write(record(*number), Durability::Process).is_err());
        writing.store(false, Ordering::Release);
        written.unwrap()
    });
    assert_eq!(
        count(&engine, 0..u64::MAX),
        written,
        "reads go on, and what was refused is not visible"
    );
    std::fs::remove_file(&ballast).unwrap();
    drop(engine);
    let engine = RocksEngine::open(&store, settings).unwrap();
    assert_eq!(count(&engine, 0..u64::MAX), written);
    engine.write(record(written), Durability::Power).unwrap();
}

/// With the reserve RocksDB never meets the full disk: writes are refused and accepted from one moment to the next.
#[test]
fn the_reserve_leaves_room_to_remove() {
    const RESERVE: u64 = 4 << 20;
    let Some(disk) = Mounted::in_memory(64 << 20) else {
        return skip("cannot mount a file system in memory");
    };
    let settings = RocksSettings {
        write_buffer_bytes: 1 << 20,
        space_reserve_bytes: RESERVE,
        ..RocksSettings::default()
    };
    let engine = RocksEngine::open(disk.path.join("store"), settings).unwrap();
    let mut next = 0;
    while engine.disk_bytes() < 8 << 20 {
        engine.write(record(next), Durability::Process).unwrap();
        next += 1;
    }
    let ballast = disk.path.join("ballast");
    let free = |path: &Path| {
        let found = rustix::fs::statvfs(path).unwrap();
        found.f_bavail * found.f_frsize
    };
    occupy(&ballast, free(&disk.path) - RESERVE / 2);
    let refused = loop {
        // The reserve is looked at now and then, so a few more may pass.
        match engine.write(record(next), Durability::Process) {
            Ok(()) => next += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, EngineError::NoSpace(_)), "{refused:?}");
    assert!(free(&disk.path) > RESERVE / 4, "the disk is not full");
    for number in 0..100 {
        engine.write(removal(number), Durability::Power).unwrap();
    }
    engine.sync().unwrap();
    assert!(matches!(
        engine.write(record(next), Durability::Process),
        Err(EngineError::NoSpace(_))
    ));
    std::fs::remove_file(&ballast).unwrap();
    engine.write(record(next), Durability::Power).unwrap();
    assert_eq!(count(&engine, 0..next + 1), next + 1 - 100);
}

/// A file system on a disk that reports errors: an image in a file system in memory that cannot hold it.
#[test]
fn a_failed_sync_stops_the_store() {
    let Some(memory) = Mounted::in_memory(24 << 20) else {
        return skip("cannot mount a file system in memory");
    };
    let image = memory.path.join("image");
    std::fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
    let made = run(Command::new("mkfs.ext4")
        .args(["-q", "-E", "lazy_itable_init=1,nodiscard"])
        .arg(&image));
    if !made {
        return skip("cannot make an ext4 file system");
    }
    let Some(disk) = Mounted::new(&["-o", "loop,errors=continue", &image.display().to_string()]) else {
        return skip("cannot mount a file as a file system");
    };
    let settings = RocksSettings {
        write_buffer_bytes: 8 << 20,
        ..RocksSettings::default()
    };
    let engine = RocksEngine::open(disk.path.join("store"), settings).unwrap();
    let mut next = 0;
    let failed = loop {
        let synced = next % 50 == 49;
        let durability = if synced {
            Durability::Power
        } else {
            Durability::Process
        };
        match engine.write(record(next), durability) {
            Ok(()) => next += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(failed, EngineError::Failed(_)), "{failed:?}");
    eprintln!(
        "after {next} records: {}",
        std::error::Error::source(&failed).unwrap()
    );
    for durability in [Durability::Process, Durability::Power] {
        assert!(matches!(
            engine.write(record(next + 1), durability),
            Err(EngineError::Poisoned)
        ));
    }
    assert!(matches!(engine.sync(), Err(EngineError::Poisoned)));
    assert!(engine.get(&0u64.to_be_bytes()).unwrap().is_some(), "reads go on");
}
