//! Memory does not grow with the number of entries: the same commands on a tree and on one of ten times as many entries, and the most memory
//! that each process has had resident, as it tells with `-vv`.
//!
//! Files are empty, and on tmpfs where there is one: what is measured is what is kept of names and attributes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use tempfile::TempDir;

use crate::place::{Place, object, text, word};

/// Entries of the small tree and of the large one, about.
const FEW: usize = 20_000;
const MANY: usize = 200_000;
/// Files in one directory: the names of one directory are in memory at once.
const FILES: usize = 1000;
/// By how much the peak may be higher for the large tree, in bytes. What the allocator keeps, and which threads have had how much at once, differs from
/// run to run by some MiB; 50 bytes for each of the entries would be more.
const SLACK_BYTES: u64 = 8 << 20;
/// Type of a tmpfs (statfs(2)).
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// A directory on tmpfs; where there is none, among the temporary files.
fn fast() -> TempDir {
    let shared = Path::new("/dev/shm");
    let is_tmpfs = rustix::fs::statfs(shared).is_ok_and(|found| found.f_type == TMPFS_MAGIC);
    match TempDir::new_in(shared) {
        Ok(directory) if is_tmpfs => directory,
        _ => TempDir::new().unwrap(),
    }
}

/// Calls `work` for every directory of the tree, on all processors.
fn each_directory(entries: usize, work: impl Fn(usize) + Sync) {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let work = &work;
            scope.spawn(move || {
                (thread..entries / FILES).step_by(threads).for_each(work);
            });
        }
    });
}

fn fill(root: &Path, entries: usize) {
    each_directory(entries, |number| {
        let directory = root.join(format!("directory-{number:04}"));
        fs::create_dir(&directory).unwrap();
        for file in 0..FILES {
            File::create(directory.join(format!("file-{file:05}"))).unwrap();
        }
    });
}

/// What a command prints, and the most memory that it has had, in bytes.
fn run(place: &Place, arguments: &[&str]) -> (serde_json::Value, u64) {
    let output = place.command(arguments).args(["--json", "-vv"]).output().unwrap();
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {told}");
    let peak = told
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|line| line["memory_peak_bytes"].as_u64());
    (
        object(&text(&output.stdout)),
        peak.unwrap_or_else(|| panic!("{told}")),
    )
}

/// The peaks of all commands on a tree of so many entries, in bytes.
fn peaks(engine: &str, entries: usize) -> BTreeMap<&'static str, u64> {
    let place = Place::within(fast());
    place.ok(&["init", "."]);
    let empty = place.save(&["--engine", engine]);
    let mut peaks = BTreeMap::new();
    fill(&place.work(), entries);
    let (saved, peak) = run(&place, &["save", ".", "--engine", engine]);
    peaks.insert("save", peak);
    let full = word(&saved["snapshot"]["id"]);
    let counts = &saved["snapshot"]["counts"];
    assert_eq!(counts["files"].as_u64(), Some(entries as u64));

    let (status, peak) = run(&place, &["status"]);
    assert_eq!(status["changes"]["total"], 0);
    peaks.insert("status", peak);
    let (again, peak) = run(&place, &["save", ".", "--engine", engine, "--skip-unchanged"]);
    assert_eq!(again["outcome"], "unchanged");
    peaks.insert("save of nothing new", peak);
    let (verified, peak) = run(&place, &["verify", ".", &full]);
    assert_eq!(verified["verified"][0]["files"].as_u64(), Some(entries as u64));
    peaks.insert("verify", peak);

    let (restored, peak) = run(&place, &["restore", ".", &empty]);
    let removed = restored["totals"]["removed"].as_u64().unwrap();
    assert!(removed >= entries as u64, "{restored}");
    peaks.insert("restore that removes", peak);
    let (plan, peak) = run(&place, &["restore", ".", &full, "--plan"]);
    assert!(
        plan["plan"]["totals"]["added"].as_u64().unwrap() >= entries as u64,
        "{plan}"
    );
    peaks.insert("restore --plan", peak);
    let (restored, peak) = run(&place, &["restore", ".", &full]);
    assert!(
        restored["totals"]["added"].as_u64().unwrap() >= entries as u64,
        "{restored}"
    );
    peaks.insert("restore that adds", peak);

    run(&place, &["restore", ".", &empty]);
    place.save(&["--engine", engine]);
    fs::write(
        place.work().join(".jvs/config.toml"),
        "[retention]\nkeep_last = 1\n",
    )
    .unwrap();
    let (plan, peak) = run(&place, &["gc", "plan", "."]);
    peaks.insert("gc plan", peak);
    let (collected, peak) = run(&place, &["gc", "run", ".", &word(&plan["plan"])]);
    let removed = collected["removed"].as_array().unwrap();
    assert!(removed.iter().any(|id| *id == *full), "{collected}");
    peaks.insert("gc run", peak);
    peaks
}

fn is_flat(engine: &str) {
    let (few, many) = (peaks(engine, FEW), peaks(engine, MANY));
    for (command, peak) in &many {
        println!(
            "{engine}: {command}: {} KiB, then {} KiB",
            few[command] >> 10,
            peak >> 10
        );
    }
    for (command, peak) in many {
        let bound = few[command] + SLACK_BYTES;
        assert!(
            peak <= bound,
            "{engine}: {command} of {MANY} entries needs {peak} bytes, more than {bound}"
        );
    }
}

#[test]
fn memory_of_copies_does_not_grow_with_the_tree() {
    is_flat("copy");
}

#[test]
fn memory_of_archives_does_not_grow_with_the_tree() {
    is_flat("archive");
}
