//! What goes wrong outside of `cairn`, through the binary: each with an exit code of its own, told by name, and harming nothing else.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use cairn_snapshot::archive::Progress;
use cairn_snapshot::engine::Tools;
use cairn_snapshot::operations::save::{SaveRequest, save};
use cairn_snapshot::repository::Repository;
use serde_json::Value;

use crate::place::{Place, lines, object, parts, parts_at, text, word};

/// The only file in a directory whose name begins so.
fn only(directory: &Path) -> PathBuf {
    let mut entries = fs::read_dir(directory).unwrap();
    let found = entries.next().unwrap().unwrap().path();
    assert!(entries.next().is_none(), "one file in {}", directory.display());
    found
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files_below(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

#[test]
fn links_lead_nowhere_outside() {
    let place = Place::repository();
    place.save(&[]);
    symlink("/etc", place.work().join("link")).unwrap();
    symlink("..", place.work().join("sub/up")).unwrap();
    place.save(&[]);
    // What is behind a link is not in the workspace.
    place.fails(&["restore", ".", "--path", "link/passwd"], 3, "NOT_FOUND");
    place.fails(&["snapshot", ".", "--path", "link/passwd"], 3, "NOT_FOUND");
    place.fails(
        &["restore", ".", "--path", "../../etc/passwd"],
        19,
        "PATH_OUTSIDE",
    );
    // A directory of the snapshot that is a link to elsewhere now: what is elsewhere stays.
    let elsewhere = place.beside("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("b"), "of somebody").unwrap();
    fs::remove_dir_all(place.work().join("sub")).unwrap();
    symlink(&elsewhere, place.work().join("sub")).unwrap();
    place.ok(&["restore", "."]);
    assert_eq!(place.read("sub/b"), "second");
    assert_eq!(fs::read_to_string(elsewhere.join("b")).unwrap(), "of somebody");
    // The same for the control directory.
    let other = Place::new();
    symlink(place.work().join(".jvs"), other.work().join(".jvs")).unwrap();
    other.fails(&["history", "."], 5, "INVALID");
}

#[test]
fn what_a_newer_cairn_has_written_is_told() {
    let place = Place::repository();
    let newer = place.save(&[]);
    let other = place.save(&[]);
    // One file of it: the others can be used.
    let descriptor = place.work().join(format!(".jvs/descriptors/{newer}.json"));
    let written = fs::read_to_string(&descriptor).unwrap();
    fs::write(&descriptor, written.replacen("descriptor 2", "descriptor 3", 1)).unwrap();
    let error = place.fails(&["restore", ".", &newer], 18, "REPOSITORY_FORMAT");
    assert!(word(&error["message"]).contains("version 3"), "{error}");
    place.ok(&["restore", ".", &other]);
    place.save(&[]);
    let told = place.json(&["history"]);
    assert_eq!(word(&told["damaged"][0]["id"]), newer);
    // All of it.
    fs::write(place.work().join(".jvs/format_version"), "3\n").unwrap();
    for arguments in [
        &["status", "."][..],
        &["snapshot", "."],
        &["history", "."],
        &["doctor", "."],
    ] {
        let error = place.fails(arguments, 18, "REPOSITORY_FORMAT");
        assert!(word(&error["message"]).contains("version 3"), "{error}");
    }
    for garbage in ["", "two\n", "2", "-2\n"] {
        fs::write(place.work().join(".jvs/format_version"), garbage).unwrap();
        place.fails(&["status", "."], 10, "REPOSITORY_DAMAGED");
    }
}

/// Every field of every document on the way of a restore is another one, under the old checksum: each is damage, of this file, and harms no other
/// snapshot.
#[test]
fn every_field_of_a_descriptor_is_guarded() {
    let place = Place::repository();
    let bad = place.save(&["--tag", "bad", "-m", "words"]);
    let good = place.save(&["--tag", "good"]);
    let path = place.work().join(format!(".jvs/descriptors/{bad}.json"));
    let whole = fs::read_to_string(&path).unwrap();
    let body = whole.split_once("\"body\":").unwrap().1;
    let document: Value = serde_json::from_str(&body[..body.len() - 2]).unwrap();
    let fields = document.as_object().unwrap();
    assert!(fields.len() > 20);
    for (field, value) in fields {
        let at = format!("\"{field}\":");
        let start = whole.find(&at).unwrap() + at.len();
        // The first character of the value that can be another one.
        let rest = &whole[start..];
        let offset = rest
            .char_indices()
            .find(|(_, found)| found.is_ascii_alphanumeric() || matches!(found, '[' | '{'))
            .map_or(0, |(offset, _)| offset);
        let mut wrong = whole.clone().into_bytes();
        wrong[start + offset] ^= 1;
        fs::write(&path, &wrong).unwrap();
        let error = place.fails(&["restore", ".", &bad, "--plan"], 10, "REPOSITORY_DAMAGED");
        assert!(
            word(&error["message"]).contains(&bad),
            "{field} was {value}: {error}"
        );
    }
    let told = place.json(&["history"]);
    assert_eq!(
        (word(&told["snapshots"][0]["id"]), word(&told["damaged"][0]["id"])),
        (good.clone(), bad.clone())
    );
    let output = place.run(&["verify", ".", "--all", "--json"]);
    assert_eq!(output.status.code(), Some(10));
    assert_eq!(object(&text(&output.stdout))["damaged"], 1);
    place.fails(&["doctor", "."], 10, "DAMAGE_FOUND");
    place.ok(&["restore", ".", &good]);
    place.ok(&["delete", ".", &bad, "--yes"]);
    assert_eq!(place.json(&["doctor", "."])["healthy"], true);
}

#[test]
fn a_damaged_list_or_state_is_told_by_name() {
    let place = Place::repository();
    let bad = place.save(&["--engine", "copy"]);
    let good = place.save(&["--engine", "copy"]);
    let list = place.work().join(format!(".jvs/manifests/{bad}"));
    let whole = fs::read(&list).unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 12) {
        let mut wrong = whole.clone();
        wrong[at] ^= 4;
        fs::write(&list, &wrong).unwrap();
        place.fails(&["restore", ".", &bad, "--plan"], 10, "REPOSITORY_DAMAGED");
    }
    assert_eq!(place.ok(&["diff", ".", &good]), "");
    fs::write(&list, &whole).unwrap();
    let state = place.work().join(".jvs/state.json");
    fs::write(&state, "{}").unwrap();
    let error = place.fails(&["status", "."], 10, "REPOSITORY_DAMAGED");
    assert!(word(&error["message"]).contains("doctor --repair"), "{error}");
    place.ok(&["doctor", ".", "--repair"]);
    assert_eq!(word(&place.json(&["status"])["head"]["id"]), good);
}

#[test]
fn the_audit_log_is_examined_and_stops_nothing() {
    let place = Place::repository();
    for note in ["one", "two", "three"] {
        place.save(&["-m", note]);
    }
    let log = place.work().join(".jvs/audit/log");
    let whole = fs::read(&log).unwrap();
    let line = whole.iter().position(|byte| *byte == b'\n').unwrap();
    let record: Value = serde_json::from_slice(&whole[..line]).unwrap();
    for field in record["record"].as_object().unwrap().keys() {
        let at = text(&whole).find(&format!("\"{field}\":")).unwrap() + field.len() + 4;
        let mut wrong = whole.clone();
        wrong[at] ^= 1;
        fs::write(&log, &wrong).unwrap();
        let output = place.run(&["doctor", ".", "--json"]);
        assert_eq!(output.status.code(), Some(10), "{field}");
        let told = object(&text(&output.stdout));
        assert!(
            word(&told["findings"][0]["what"]).starts_with("line 1, at byte 0: "),
            "{told}"
        );
        assert!(word(&told["findings"][0]["path"]).ends_with("audit/log"));
    }
    // A lost end, which the state knows of.
    fs::write(&log, &whole[..line + 1]).unwrap();
    let output = place.run(&["doctor", ".", "--json"]);
    assert_eq!(output.status.code(), Some(10));
    let told = object(&text(&output.stdout));
    assert!(
        word(&told["findings"][0]["what"]).contains("its end is missing"),
        "{told}"
    );
    // A torn one is no damage, and goes with the next command.
    fs::write(&log, &whole[..whole.len() - 10]).unwrap();
    let told = place.json(&["doctor", "."]);
    assert_eq!(
        (&told["healthy"], &told["findings"][0]["severity"]),
        (&false.into(), &"unfinished".into())
    );
    place.save(&[]);
    assert_eq!(place.json(&["doctor", "."])["healthy"], true);
    fs::write(&log, "garbage").unwrap();
    place.save(&[]);
    place.ok(&["restore", ".", "latest~1"]);
}

#[test]
fn every_pack_and_every_index_of_archives_is_guarded() {
    let place = Place::repository();
    let noise: String = (0..20_000u32)
        .map(|number| format!("{} ", number.wrapping_mul(2_654_435_761)))
        .collect();
    place.write("large", &noise);
    let bad = place.save(&["--engine", "archive"]);
    let store = place.work().join(".jvs/store");
    let packs = files_below(&store.join("packs"));
    let bytes = |path: &PathBuf| fs::metadata(path).unwrap().len();
    let largest = packs.iter().max_by_key(|path| bytes(path)).unwrap();
    assert!(packs.len() > 1);
    for pack in &packs {
        let whole = fs::read(pack).unwrap();
        // Data, and the end, where its index is. What this does not read (first bytes; the archive's own list, which has a small pack of its own)
        // is verified with the whole store.
        if whole.len() < 16 << 10 {
            continue;
        }
        for at in [
            whole.len() / 3,
            whole.len() / 2,
            whole.len() - 60,
            whole.len() - 1,
        ] {
            let mut wrong = whole.clone();
            wrong[at] ^= 1;
            fs::write(pack, &wrong).unwrap();
            // Nothing that was known before helps.
            fs::remove_dir_all(place.work().join(".jvs/cache")).unwrap();
            fs::create_dir(place.work().join(".jvs/cache")).unwrap();
            let code = place.run(&["verify", ".", &bad]).status.code();
            // The other packs hold the archive's copy of the list of entries: the one beside it is whole.
            let expected: &[i32] = if pack == largest { &[10] } else { &[0, 10] };
            assert!(
                code.is_some_and(|code| expected.contains(&code)),
                "{}, byte {at}: {code:?}",
                pack.display()
            );
        }
        fs::write(pack, &whole).unwrap();
    }
    assert_eq!(place.json(&["verify", "."])["damaged"], 0);
    // The root of the archive.
    let root = only(&store.join("archives"));
    let whole = fs::read(&root).unwrap();
    let mut wrong = whole.clone();
    wrong[whole.len() / 2] ^= 1;
    fs::write(&root, &wrong).unwrap();
    let output = place.run(&["verify", ".", &bad]);
    assert_eq!(output.status.code(), Some(10), "{}", text(&output.stderr));
    fs::write(&root, &whole).unwrap();
    // The index on local disk is a cache: whatever is done to it, it is made again.
    for file in files_below(&place.work().join(".jvs/cache")) {
        let whole = fs::read(&file).unwrap();
        for wrong in [
            whole[..whole.len() / 2].to_vec(),
            vec![0xff; whole.len()],
            Vec::new(),
        ] {
            fs::write(&file, &wrong).unwrap();
            assert_eq!(place.json(&["verify", "."])["damaged"], 0, "{}", file.display());
        }
    }
    place.write("a", "changed");
    place.save(&["--engine", "archive"]);
    assert_eq!(place.json(&["verify", ".", "--all"])["damaged"], 0);
}

#[test]
fn a_workspace_that_vanishes_is_told() {
    let place = Place::new();
    place.write("a", "first");
    let control = place.beside("control");
    let control = control.to_str().unwrap();
    place.ok(&["init", ".", "--control-dir", control]);
    let work = place.work();
    let kept = place.beside("kept");
    place.ok(&["snapshot", ".", "--control-dir", control]);
    fs::rename(&work, &kept).unwrap();
    let elsewhere = |arguments: &[&str]| {
        let mut command = place.command(&[arguments, &["--control-dir", control, "--json"]].concat());
        let output = command.current_dir(place.beside("")).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
        assert_eq!(
            object(&text(&output.stderr))["error"]["reason"],
            "WORKSPACE_MISSING"
        );
    };
    elsewhere(&["history", "."]);
    elsewhere(&["snapshot", "."]);
    elsewhere(&["restore", ".", "latest"]);
    // A file in its place is none.
    fs::write(&work, "a file").unwrap();
    let mut command = place.command(&["history", ".", "--control-dir", control]);
    let output = command.current_dir(place.beside("")).output().unwrap();
    assert!(!output.status.success());
    fs::remove_file(&work).unwrap();
    fs::rename(&kept, &work).unwrap();
    assert_eq!(
        place.json(&["history", ".", "--control-dir", control])["snapshots"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn a_clock_that_went_back_confuses_nothing() {
    let place = Place::repository();
    // What was saved and held when the clock said the year 2100.
    let future = Repository::discover(&place.work(), parts_at(4_102_444_800)).unwrap();
    let request = SaveRequest::new("of the future".to_owned());
    let saved = save(&future, &Tools::default(), &request, &Progress::new()).unwrap();
    let old = saved.0.made().unwrap().to_string();
    let lease = future
        .lease("of the future", Duration::ZERO, &AtomicBool::new(false))
        .unwrap();
    place.fails(&["snapshot", ".", "--wait", "0"], 14, "REPOSITORY_BUSY");
    lease.release().unwrap();
    let file = fs::File::options()
        .write(true)
        .open(place.work().join("a"))
        .unwrap();
    let later = std::time::UNIX_EPOCH + Duration::from_secs(4_102_444_900);
    file.set_modified(later).unwrap();
    drop(file);
    let new = place.save(&["-m", "of today"]);
    let told = place.json(&["history"]);
    let ids: Vec<String> = told["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| word(&one["id"]))
        .collect();
    assert_eq!(ids, [new.clone(), old.clone()]);
    assert_eq!(word(&place.json(&["status"])["newest"]["id"]), new);
    // A pin until tomorrow holds, rules by number do not look at clocks, and what is from the future is young.
    place.ok(&["pin", ".", &new, "--for", "1d"]);
    fs::write(
        place.work().join(".jvs/config.toml"),
        "[retention]\nkeep_last = 1\n",
    )
    .unwrap();
    let plan = place.json(&["gc", "plan"]);
    assert_eq!(word(&plan["remove"][0]["id"]), old);
    fs::write(
        place.work().join(".jvs/config.toml"),
        "[retention]\nkeep_last = 1\nminimum_age = \"1d\"\n",
    )
    .unwrap();
    assert_eq!(place.json(&["gc", "plan"])["remove"], serde_json::json!([]));
    place.ok(&["restore", ".", &old]);
    assert_eq!(place.ok(&["diff", ".", &old]), "");
    assert_eq!(place.json(&["doctor", "."])["healthy"], true);
}

/// A file system of its own; unmounted when it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(path: PathBuf, options: &str) -> Option<Mounted> {
        fs::create_dir_all(&path).unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(&path)
            .status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: only root can mount");
            assert!(std::env::var("CI").is_err(), "the tests must run as root");
            return None;
        }
        Some(Mounted(path))
    }

    fn again(&self, options: &str) {
        let status = Command::new("mount")
            .args(["-o", options])
            .arg(&self.0)
            .status()
            .unwrap();
        assert!(status.success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_a_code_of_its_own() {
    let place = Place::new();
    let Some(mounted) = Mounted::new(place.work(), "size=8m") else {
        return;
    };
    place.write("a", "first");
    place.ok(&["init", "."]);
    let id = place.save(&["--engine", "copy"]);
    place.write("a", "changed");
    let kept = place.save(&["--engine", "copy"]);
    let ballast = mounted.0.join("ballast");
    let full = fs::write(&ballast, vec![1; 16 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    for arguments in [
        &["snapshot", ".", "--engine", "copy"][..],
        &["snapshot", ".", "--engine", "archive"],
        &["restore", ".", &id],
        &["fork", ".", &id, "fork"],
        &["restore", ".", &id, "--to", "copy"],
    ] {
        let error = place.fails(arguments, 7, "NO_SPACE");
        assert!(word(&error["remedy"]).contains("free some space"), "{error}");
    }
    assert_eq!(
        place.json(&["history", "--all"])["snapshots"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    // What only reads goes on; so does what frees room.
    place.ok(&["diff", ".", &id, &kept]);
    place.ok(&[
        "restore",
        ".",
        &id,
        "--to",
        place.beside("rescued").to_str().unwrap(),
    ]);
    let verified = place.json(&["verify", ".", &id]);
    assert_eq!(verified["damaged"], 0);
    place.ok(&["tag", ".", &id, "old"]);
    assert_eq!(place.json(&["doctor", ".", "--repair"])["healthy"], true);
    place.ok(&["delete", ".", &id, "--yes"]);
    fs::remove_file(&ballast).unwrap();
    place.save(&["--engine", "archive"]);
    assert_eq!(place.json(&["doctor", "."])["healthy"], true);
}

#[test]
fn a_read_only_file_system_can_be_read() {
    let place = Place::new();
    let Some(mounted) = Mounted::new(place.work(), "size=64m") else {
        return;
    };
    place.write("a", "first");
    place.write("sub/b", "second");
    place.ok(&["init", "."]);
    let copied = place.save(&["--engine", "copy"]);
    place.write("a", "changed");
    let archived = place.save(&["--engine", "archive"]);
    mounted.again("remount,ro");
    for id in [&copied, &archived] {
        let verified = place.json(&["verify", ".", id]);
        assert_eq!(
            (&verified["damaged"], &verified["verified"][0]["error"]),
            (&0.into(), &Value::Null)
        );
        let warnings = verified["verified"][0]["warnings"].as_array().unwrap();
        assert!(word(&warnings[0]).contains("nobody else sees"), "{verified}");
        assert!(word(&warnings[1]).contains("not written down"), "{verified}");
        let to = place.beside(id);
        let written = place.json(&["restore", ".", id, "--to", to.to_str().unwrap()]);
        assert_eq!(written["warnings"].as_array().unwrap().len(), 1, "{written}");
        assert_eq!(fs::read_to_string(to.join("sub/b")).unwrap(), "second");
    }
    assert!(
        place
            .ok(&["verify", ".", &copied])
            .contains("warning: nobody else sees")
    );
    let (told, _) = lines(&place.ok(&["diff", ".", &copied, &archived, "--json"]));
    assert_eq!(told.len(), 1);
    assert_eq!(place.ok(&["diff", ".", &copied]), "M a\n");
    let fork = place.beside("fork");
    place.ok(&["fork", ".", &archived, fork.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(fork.join("a")).unwrap(), "changed");
    for reading in [
        &["status", "."][..],
        &["history", "."],
        &["preview", "."],
        &["restore", ".", &copied, "--plan"],
    ] {
        place.ok(reading);
    }
    assert_eq!(place.json(&["doctor", "."])["healthy"], true);
    for writing in [
        &["snapshot", "."][..],
        &["restore", ".", &copied],
        &["tag", ".", &copied, "x"],
        &["gc", "plan", "."],
        &["delete", ".", &copied, "--yes"],
        &["doctor", ".", "--repair"],
    ] {
        place.fails(writing, 20, "ACCESS_DENIED");
    }
    mounted.again("remount,rw");
    assert_eq!(place.json(&["doctor", "."])["findings"], serde_json::json!([]));
    place.save(&[]);
}

/// What this process says of itself is what the binary goes by.
#[test]
fn plans_and_keys_that_are_damaged_are_told_or_made_again() {
    let place = Place::repository();
    let id = place.save(&["--key", "k", "-m", "n"]);
    let key = only(&place.work().join(".jvs/keys"));
    fs::write(&key, "garbage").unwrap();
    place.fails(
        &["snapshot", ".", "--key", "k", "-m", "n"],
        10,
        "REPOSITORY_DAMAGED",
    );
    place.save(&["--key", "other"]);
    let plan = word(&place.json(&["gc", "plan", "."])["plan"]);
    fs::write(place.work().join(format!(".jvs/plans/{plan}.json")), "garbage").unwrap();
    place.fails(&["gc", "run", ".", &plan], 10, "REPOSITORY_DAMAGED");
    let plan = word(&place.json(&["gc", "plan", "."])["plan"]);
    place.ok(&["gc", "run", ".", &plan]);
    fs::write(place.work().join(format!(".jvs/labels/{id}.json")), "garbage").unwrap();
    place.fails(&["delete", ".", &id, "--yes"], 4, "SNAPSHOT_PROTECTED");
    place.ok(&["note", ".", &id, "set again"]);
    assert!(Repository::discover(&place.work(), parts()).is_ok());
}
