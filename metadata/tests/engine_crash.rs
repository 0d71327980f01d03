//! Crashes of the store on disk: the process is killed at any moment, or the power goes and leaves any part of what was
//! not synced.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use cairn_metadata::engine::rocks::{RocksEngine, RocksSettings};
use cairn_metadata::engine::{Batch, Durability, Engine, EngineError};

/// Set in a process that is to be killed: the directory of the store that it writes to.
const VICTIM: &str = "CAIRN_TEST_ENGINE_VICTIM";
/// Times that the process is killed.
const KILLS: u64 = 30;
/// Threads of the process that write.
const WRITERS: u8 = 3;
/// Records that a writer leaves behind it: it deletes the older ones.
const KEPT: u64 = 400;

/// Buffers so small that kills meet flushes, compactions and recycled WAL files.
fn settings() -> RocksSettings {
    RocksSettings {
        write_buffer_bytes: 64 << 10,
        write_buffers: 2,
        ..RocksSettings::default()
    }
}

/// Numbers that look random, the same in every run (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn record_key(writer: u8, number: u64) -> Vec<u8> {
    [&[writer, b'r'][..], &number.to_be_bytes()].concat()
}

fn head_key(writer: u8) -> Vec<u8> {
    vec![writer, b'h']
}

/// A value that tells its record, of a length that differs from its neighbours' and is now and then beyond a block.
fn record_value(writer: u8, number: u64) -> Vec<u8> {
    let mut numbers = Numbers(number << 8 | u64::from(writer));
    let length = if number.is_multiple_of(97) {
        9000
    } else {
        numbers.below(300)
    };
    (0..length).map(|_| numbers.next() as u8).collect()
}

/// The next record of a writer, together with all else that must change with it.
fn record_batch(writer: u8, number: u64) -> Batch {
    let mut batch = Batch::default();
    batch.put(record_key(writer, number), record_value(writer, number));
    batch.put(head_key(writer), number.to_be_bytes().to_vec());
    if let Some(old) = number.checked_sub(KEPT) {
        if number.is_multiple_of(2) {
            batch.delete(record_key(writer, old));
        } else {
            batch.delete_range(record_key(writer, old), record_key(writer, old + 1));
        }
    }
    batch
}

/// The number of the writer's next record. Fails if its records are not exactly those of one moment.
fn check_writer(engine: &dyn Engine, writer: u8) -> u64 {
    let next = engine
        .get(&head_key(writer))
        .unwrap()
        .map_or(0, |head| u64::from_be_bytes(head[..].try_into().unwrap()) + 1);
    let found = engine
        .scan(&record_key(writer, 0), &record_key(writer, u64::MAX), 10_000)
        .unwrap();
    let expected = next.saturating_sub(KEPT)..next;
    assert_eq!(
        found.len() as u64,
        expected.end - expected.start,
        "records of writer {writer} up to {next}"
    );
    for ((key, value), number) in found.into_iter().zip(expected) {
        assert_eq!(key, record_key(writer, number));
        assert!(
            value == record_value(writer, number),
            "the value of record {number} of writer {writer}"
        );
    }
    next
}

/// Writes until it is killed. Every write is acknowledged on standard error after it has returned: the writer, then the number
/// of the record. (Standard output belongs to the test harness.)
fn be_killed(directory: &Path) {
    let engine = RocksEngine::open(directory, settings()).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let engine = &engine;
            scope.spawn(move || {
                for number in check_writer(engine, writer).. {
                    let durable = number.is_multiple_of(7 + u64::from(writer) * 20);
                    let durability = if durable {
                        Durability::Power
                    } else {
                        Durability::Process
                    };
                    engine.write(record_batch(writer, number), durability).unwrap();
                    let mut acknowledgement = [writer; 9];
                    acknowledgement[1..].copy_from_slice(&number.to_be_bytes());
                    // One write to a pipe of so few bytes is never split. The lock keeps it whole within the process.
                    let mut output = std::io::stderr().lock();
                    output.write_all(&acknowledgement).unwrap();
                }
            });
        }
    });
}

#[test]
fn everything_acknowledged_survives_a_kill() {
    if let Some(directory) = std::env::var_os(VICTIM) {
        return be_killed(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let mut numbers = Numbers(1);
    let mut total = 0;
    for kill in 0..KILLS {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--nocapture",
                "everything_acknowledged_survives_a_kill",
            ])
            .env(VICTIM, directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The moment is a number of acknowledgements; the first kills come before or during the opening.
        let wait_for = if kill < 3 { 0 } else { 1 + numbers.below(2500) };
        let mut output = std::io::BufReader::new(victim.stderr.take().unwrap());
        let mut acknowledged = BTreeMap::new();
        let mut record = [0; 9];
        let mut received = 0;
        if wait_for == 0 {
            victim.kill().unwrap();
        }
        while output.read_exact(&mut record).is_ok() {
            assert!(
                record[0] < WRITERS,
                "the victim failed: {}",
                String::from_utf8_lossy(&record)
            );
            acknowledged.insert(record[0], u64::from_be_bytes(record[1..].try_into().unwrap()));
            received += 1;
            if received == wait_for {
                victim.kill().unwrap();
            }
        }
        let status = victim.wait().unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(9),
            "{status}"
        );
        assert!(received >= wait_for);
        total += received;

        let engine = RocksEngine::open(directory.path(), settings()).unwrap();
        for writer in 0..WRITERS {
            let next = check_writer(&engine, writer);
            if let Some(last) = acknowledged.get(&writer) {
                assert!(
                    next > *last,
                    "writer {writer} was told of {last}, the store ends before {next}"
                );
            }
        }
    }
    assert!(total > KILLS * 100, "only {total} writes were acknowledged");
}

/// All files of a store but its lock.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name == "LOCK" {
            continue;
        }
        match std::fs::read(entry.path()) {
            Ok(bytes) => files.insert(name, bytes),
            // The store removes what it no longer needs when it sees fit.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => panic!("{name}: {error}"),
        };
    }
    files
}

/// All files of a store at a moment when its background work is at rest.
fn settled_files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    loop {
        let found = files(directory);
        if found == files(directory) {
            return found;
        }
    }
}

/// What a power cut may leave of a file: of what changed since it was synced, any sector may be on disk or not, and so may
/// the new length.
fn cut(synced: &[u8], written: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    const SECTOR: usize = 512;
    let length = if numbers.below(4) == 0 {
        synced.len()
    } else {
        written.len()
    };
    let mut left = synced.to_vec();
    left.resize(length, 0);
    // All sectors up to a point, most of the next, few of the rest: the orders that disks prefer.
    let sectors = length.div_ceil(SECTOR) as u64;
    let orderly = numbers.below(sectors + 1);
    for sector in 0..sectors {
        if sector < orderly || numbers.below(3) == 0 {
            let from = sector as usize * SECTOR;
            let to = (from + SECTOR).min(length);
            left[from..to].copy_from_slice(&written[from..to]);
        }
    }
    left
}

/// Cuts the power of a store with `recycled_logs` many times, at many stages of its life.
fn cut_power(recycled_logs: u64) {
    const CUTS_WANTED: u32 = 24;
    // Room for writes between two flushes that span several blocks of the WAL (32 KiB): only there can what follows a
    // damaged record be mistaken for intact.
    const BUFFER_BYTES: u64 = 256 << 10;
    let settings = RocksSettings {
        write_buffer_bytes: BUFFER_BYTES,
        recycled_logs,
        ..settings()
    };
    let directory = tempfile::tempdir().unwrap();
    let engine = RocksEngine::open(directory.path(), settings.clone()).unwrap();
    let mut numbers = Numbers(recycled_logs);
    let mut number = 0;
    let (mut cuts, mut losses) = (0, 0);
    while cuts < CUTS_WANTED {
        for _ in 0..numbers.below(2000) {
            engine
                .write(record_batch(0, number), Durability::Process)
                .unwrap();
            number += 1;
        }
        engine.sync().unwrap();
        let durable = number;
        let synced = settled_files(directory.path());
        for _ in 0..numbers.below(800) {
            engine
                .write(record_batch(0, number), Durability::Process)
                .unwrap();
            number += 1;
        }
        let written = settled_files(directory.path());
        // A flush in between would have synced other files too: only the WAL is cut here.
        let only_log_changed = synced.keys().eq(written.keys())
            && written
                .iter()
                .all(|(name, bytes)| name.ends_with(".log") || synced[name] == *bytes);
        if !only_log_changed {
            continue;
        }
        for _ in 0..4 {
            let left = tempfile::tempdir().unwrap();
            for (name, bytes) in &written {
                let bytes = cut(&synced[name], bytes, &mut numbers);
                std::fs::write(left.path().join(name), bytes).unwrap();
            }
            let engine = RocksEngine::open(left.path(), settings.clone()).unwrap();
            let next = check_writer(&engine, 0);
            assert!(
                (durable..=number).contains(&next),
                "{next} records left: {durable} were durable"
            );
            losses += u32::from(next < number);
            // What is lost must not come back behind what follows it.
            for number in next..next + 20 {
                engine.write(record_batch(0, number), Durability::Power).unwrap();
            }
            drop(engine);
            let engine = RocksEngine::open(left.path(), settings.clone()).unwrap();
            assert_eq!(check_writer(&engine, 0), next + 20);
            cuts += 1;
        }
    }
    assert!(
        losses > CUTS_WANTED / 4,
        "hardly a cut lost anything: {losses} of {cuts}"
    );
}

#[test]
fn a_power_cut_leaves_one_moment() {
    cut_power(0);
}

#[test]
fn a_power_cut_leaves_one_moment_of_recycled_logs() {
    cut_power(2);
}

#[test]
fn a_store_is_open_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made/on/demand");
    let engine = RocksEngine::open(&path, RocksSettings::default()).unwrap();
    let refused = RocksEngine::open(&path, RocksSettings::default()).unwrap_err();
    assert!(matches!(&refused, EngineError::Locked { path: told } if *told == path.display().to_string()));
    assert!(engine.disk_bytes() > 0);
    drop(engine);
    assert!(RocksEngine::open(&path, RocksSettings::default()).is_ok());
}

#[test]
fn a_damaged_table_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let engine = RocksEngine::open(directory.path(), settings()).unwrap();
    for number in 0..2000 {
        engine
            .write(record_batch(0, number), Durability::Process)
            .unwrap();
    }
    drop(engine);
    drop(RocksEngine::open(directory.path(), settings()).unwrap());
    let mut damaged = 0;
    for (name, mut bytes) in files(directory.path())
        .into_iter()
        .filter(|(name, _)| name.ends_with(".sst"))
    {
        // The first block: data in every table.
        bytes[20] ^= 1;
        std::fs::write(directory.path().join(name), bytes).unwrap();
        damaged += 1;
    }
    assert!(damaged > 0);
    let found = RocksEngine::open(directory.path(), settings())
        .and_then(|engine| engine.scan(&[0], &[1], 10_000).map(|found| found.len()));
    assert!(matches!(found, Err(EngineError::Corrupt(_))), "{found:?}");
}
