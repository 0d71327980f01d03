//! Plain directories, end to end with the binary: init, save, status, diff, restore, history, labels, verify; and every way to fail that has
//! an exit code of its own. No daemon runs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use cairn_snapshot::repository::Repository;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

mod bad_input;
mod importing;
mod keys;
mod logging;
mod memory;
mod place;
mod viewing;

use place::{Place, lines, object, pair, parts, text, word};

#[test]
fn a_directory_goes_there_and_back_again() {
    let place = Place::repository();
    let status = place.json(&["status"]);
    assert_eq!(
        (&status["head"], &status["changes"]),
        (&Value::Null, &Value::Null)
    );
    assert!(status["engine"]["used"].is_string(), "{status}");

    let first = place.save(&["-m", "the first one", "--tag", "v1"]);
    place.write("a", "changed");
    place.write("c%", "new");
    fs::remove_file(place.work().join("sub/b")).unwrap();

    let status = place.json(&["status", "."]);
    assert_eq!(word(&status["head"]["id"]), first);
    let changes = &status["changes"];
    assert_eq!(
        (
            &changes["total"],
            &changes["added"],
            &changes["removed"],
            &changes["modified"]
        ),
        (&3.into(), &1.into(), &1.into(), &1.into()),
        "{changes}"
    );
    assert!(place.ok(&["status"]).contains("\n  D sub/b\n"));

    let expected = [
        pair("modified", "a"),
        pair("added", "c%25"),
        pair("removed", "sub/b"),
    ];
    let (told, summary) = lines(&place.ok(&["diff", "--json"]));
    assert_eq!(told, expected);
    assert_eq!(summary["bytes_after"], 10);
    assert_eq!(place.ok(&["diff", "."]), "M a\nA c%\nD sub/b\n");
    assert!(
        place
            .ok(&["diff", ".", "v1", "--stat"])
            .starts_with("3 differences")
    );
    assert_eq!(place.ok(&["diff", ".", "--path", "sub"]), "D sub/b\n");

    let plan = place.json(&["restore", ".", "v1", "--plan"]);
    let plan = &plan["plan"];
    assert!(plan["unsaved"].as_u64().unwrap() >= 3, "{plan}");
    assert_eq!(
        (&plan["totals"]["added"], &plan["totals"]["removed"]),
        (&1.into(), &1.into())
    );
    assert_eq!(place.read("a"), "changed");

    let restored = place.json(&["restore", ".", "v1"]);
    let safety = word(&restored["safety"]["id"]);
    assert_eq!(word(&restored["safety"]["origin_of"]), first);
    assert_eq!(
        (place.read("a"), place.read("sub/b")),
        ("first".to_owned(), "second".to_owned())
    );
    assert!(!place.work().join("c%").exists());
    let changes = &place.json(&["status"])["changes"];
    assert_eq!(
        (&changes["total"], &changes["directory_times"]),
        (&0.into(), &0.into())
    );

    // And what was there before is there.
    assert_eq!(
        lines(&place.ok(&["diff", ".", "v1", &safety, "--json"])).0,
        expected
    );
    place.ok(&["restore", ".", &safety, "--path", "a"]);
    assert_eq!(
        (place.read("a"), place.read("sub/b")),
        ("changed".to_owned(), "second".to_owned())
    );
    let status = place.json(&["status"]);
    assert_eq!(
        (&status["parts"][0]["path"], &status["changes"]["total"]),
        (&"a".into(), &0.into())
    );
}

#[test]
fn histories_are_filtered_and_drawn() {
    let place = Place::repository();
    assert!(place.ok(&["history"]).contains("cairn snapshot ."));
    let first = place.save(&["--note", "Alpha", "--tag", "v1"]);
    place.write("a", "again");
    let second = place.save(&["--note", "beta"]);
    place.ok(&["restore", ".", "v1"]);
    place.write("d", "another line");
    let third = place.save(&["--note", "alpha too", "--tag", "v2"]);

    let ids = |arguments: &[&str]| -> Vec<String> {
        let told = place.json(&[&["history", "."], arguments].concat());
        told["snapshots"]
            .as_array()
            .unwrap()
            .iter()
            .map(|snapshot| word(&snapshot["id"]))
            .collect()
    };
    assert_eq!(ids(&[]), [&*third, &second, &first]);
    assert_eq!(ids(&["--limit", "1"]), [&*third]);
    assert_eq!(ids(&["--grep", "ALPHA"]), [&*third, &first]);
    assert_eq!(ids(&["--tag", "v1"]), [&*first]);
    assert_eq!(ids(&["--path", "d"]), [&*third]);
    assert_eq!(ids(&["--path", "a"]), [&*second, &first]);
    assert_eq!(ids(&["--path", "sub"]), [&*first]);

    let told = place.json(&["history"]);
    assert_eq!(word(&told["snapshots"][0]["restored_from"]), first);
    let drawn = place.ok(&["history", "--graph"]);
    let drawn: Vec<&str> = drawn
        .lines()
        .skip(1)
        .map(|line| line.split("  ").next().unwrap())
        .collect();
    assert_eq!(drawn, ["*", "│ *", "├─┘", "*"]);

    // A restore of something that was saved leaves nothing to save.
    assert_eq!(ids(&["--all"]).len(), 3);
    place.write("a", "lost?");
    place.ok(&["restore", ".", "latest~1"]);
    assert_eq!((ids(&["--all"]).len(), ids(&[]).len()), (4, 3));
    assert!(
        place
            .ok(&["history"])
            .contains("safety snapshots that only --all shows: 1")
    );
}

#[test]
fn requests_are_not_done_twice() {
    let place = Place::repository();
    place.save(&[]);
    // The first one was taken too soon after the files were written to know them by their times.
    let second = place.save(&[]);
    let again = place.json(&["save", ".", "--skip-unchanged"]);
    assert_eq!(
        (&again["outcome"], word(&again["snapshot"]["id"])),
        (&"unchanged".into(), second)
    );
    assert_eq!(place.json(&["history"])["snapshots"].as_array().unwrap().len(), 2);
}

#[test]
fn keys_and_templates_are_honoured() {
    let place = Place::repository();
    let first = place.save(&["--key", "build 7", "-m", "n"]);
    let again = place.json(&["snapshot", ".", "--key", "build 7", "-m", "n"]);
    assert_eq!(
        (&again["outcome"], word(&again["snapshot"]["id"])),
        (&"existing".into(), first)
    );
    place.fails(
        &["snapshot", ".", "--key", "build 7", "-m", "other"],
        4,
        "KEY_REUSED",
    );
    assert_eq!(place.json(&["history"])["snapshots"].as_array().unwrap().len(), 1);

    let saved = place.json(&["snapshot", ".", "--template", "release", "--tag", "v9"]);
    let snapshot = &saved["snapshot"];
    assert_eq!(snapshot["tags"], serde_json::json!(["release", "stable", "v9"]));
    assert!(word(&snapshot["note"]).starts_with("release, "), "{snapshot}");
    assert_eq!(snapshot["template"], "release");
    place.fails(&["snapshot", ".", "--template", "nothing"], 5, "INVALID");
    fs::write(
        place.work().join(".jvs/config.toml"),
        "engine = \"juicefs-clone\"\n",
    )
    .unwrap();
    place.fails(&["snapshot", "."], 15, "ENGINE_UNAVAILABLE");
    place.save(&["--engine", "copy"]);
}

#[test]
fn snapshots_are_removed_in_two_steps_or_by_name() {
    let place = Place::repository();
    let first = place.save(&["-m", "one"]);
    place.write("a", "2");
    let second = place.save(&["-m", "two"]);
    place.write("a", "3");
    let third = place.save(&["-m", "three"]);
    assert_eq!(place.json(&["gc", "plan", "."])["remove"], serde_json::json!([]));
    fs::write(
        place.work().join(".jvs/config.toml"),
        "[retention]\nkeep_last = 1\n",
    )
    .unwrap();
    place.ok(&["pin", ".", &first]);
    let plan = place.json(&["gc", "plan"]);
    assert_eq!(word(&plan["remove"][0]["id"]), second);
    assert_eq!(plan["keep"].as_array().unwrap().len(), 2, "{plan}");
    let id = word(&plan["plan"]);
    assert!(place.ok(&["gc", "plan"]).contains("cairn gc run ."));

    place.fails(&["delete", ".", &first], 2, "USAGE");
    place.fails(&["delete", ".", &first, "--yes"], 4, "SNAPSHOT_PROTECTED");
    place.fails(&["delete", ".", &third, "--yes"], 4, "SNAPSHOT_PROTECTED");
    place.ok(&["unpin", ".", &first, "1"]);
    place.fails(&["gc", "run", ".", &id], 4, "PLAN_STALE");
    place.fails(&["gc", "run", ".", &"0".repeat(32)], 3, "PLAN_NOT_FOUND");
    place.fails(&["gc", "run", ".", "x"], 5, "INVALID");
    let removed = place.json(&["delete", ".", &first, "--yes"]);
    assert_eq!(removed["removed"], serde_json::json!([first]));
    let id = word(&place.json(&["gc", "plan", "."])["plan"]);
    assert_eq!(
        place.json(&["gc", "run", ".", &id])["removed"],
        serde_json::json!([second])
    );
    let left = place.json(&["history", "--all"]);
    assert_eq!(
        (
            left["snapshots"].as_array().unwrap().len(),
            word(&left["snapshots"][0]["id"])
        ),
        (1, third)
    );
}

#[test]
fn archives_are_an_engine_too() {
    let place = Place::repository();
    let first = place.save(&["--engine", "archive"]);
    place.write("a", "changed");
    let second = place.save(&["--engine", "archive"]);
    assert_eq!(place.ok(&["diff", ".", &first, &second]), "M a\n");
    let verified = place.json(&["verify", ".", "--all"]);
    assert_eq!(
        (&verified["damaged"], &verified["verified"][1]["files"]),
        (&0.into(), &2.into())
    );
    place.ok(&["restore", ".", &first]);
    assert_eq!(place.read("a"), "first");
    assert_eq!(
        place.json(&["delete", ".", &second, "--yes"])["removed"],
        serde_json::json!([second])
    );
    place.write("a", "");
    place.ok(&["restore", ".", &first]);
    assert_eq!(
        (place.read("a"), place.read("sub/b")),
        ("first".to_owned(), "second".to_owned())
    );
    fs::write(
        place.work().join(".jvs/config.toml"),
        "[store]\nurl = \"tape://x\"\n",
    )
    .unwrap();
    place.fails(&["verify", ".", &first], 5, "STORE_URL_INVALID");
}

/// Bytes of all files below a directory.
fn stored(directory: &std::path::Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(stored(&path)),
            false => found.push(fs::read(&path).unwrap()),
        }
    }
    found
}

#[test]
fn archives_are_compressed_as_asked() {
    let text = "a line of text that is like the others\n".repeat(4000);
    let contains = |files: &[Vec<u8>], bytes: &[u8]| {
        files
            .iter()
            .any(|file| file.windows(bytes.len()).any(|window| window == bytes))
    };
    // A gzip member and a Zstandard frame begin like this (RFC 1952 2.3, RFC 8878 3.1.1); a line is found where nothing was done.
    let kinds: [(&[&str], &[u8]); 4] = [
        (&["--compression", "gzip:9"], &[0x1f, 0x8b, 8]),
        (&["--compression", "zstd:3"], &[0x28, 0xb5, 0x2f, 0xfd]),
        (
            &["--compression", "none", "--engine", "archive"],
            b"like the others\na line",
        ),
        (&["--engine", "archive"], &[0x1f, 0x8b, 8]),
    ];
    for (options, mark) in kinds {
        let place = Place::repository();
        place.write("long", &text);
        fs::write(
            place.work().join(".jvs/config.toml"),
            "engine = \"copy\"\n[store]\ncompression = \"gzip\"\n",
        )
        .unwrap();
        let saved = place.json(&[&["snapshot", "."], options].concat());
        assert_eq!(saved["snapshot"]["engine"]["used"], "archive", "{saved}");
        let packs = stored(&place.work().join(".jvs/store"));
        assert!(contains(&packs, mark), "{options:?}");
        place.write("long", "");
        place.ok(&["restore", "."]);
        assert_eq!(place.read("long"), text);
    }
    let place = Place::repository();
    place.fails(
        &["snapshot", ".", "--compression", "gzip", "--engine", "copy"],
        15,
        "ENGINE_UNAVAILABLE",
    );
    for wrong in ["gzip:10", "zstd:20", "lz4", "none:1"] {
        let output = place
            .command(&["snapshot", ".", "--compression", wrong])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(wrong), "{wrong}");
    }
    fs::write(
        place.work().join(".jvs/config.toml"),
        "[store]\ncompression = \"max\"\n",
    )
    .unwrap();
    place.fails(&["snapshot", "."], 10, "REPOSITORY_DAMAGED");
}

#[test]
fn a_fork_is_a_directory_of_its_own() {
    let place = Place::repository();
    let id = place.save(&["--tag", "v1"]);
    let forked = place.json(&["fork", ".", "v1", "../fork"]);
    assert_eq!(
        (
            &forked["snapshot"]["origin"],
            word(&forked["snapshot"]["origin_of"])
        ),
        (&"fork".into(), id)
    );
    assert_eq!(fs::read_to_string(place.beside("fork/sub/b")).unwrap(), "second");
    assert_eq!(
        place.json(&["history", "../fork"])["snapshots"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(place.ok(&["diff", "../fork"]), "");
    place.fails(&["fork", ".", "v1", "../fork"], 4, "DIRECTORY_OCCUPIED");
}

#[test]
fn the_doctor_tells_what_is_left_and_puts_it_right() {
    let place = Place::repository();
    place.save(&[]);
    assert_eq!(place.json(&["doctor"])["healthy"], true);
    let left = place.work().join(".jvs/staging").join("0".repeat(32));
    fs::create_dir(&left).unwrap();
    let told = place.json(&["doctor", "."]);
    assert_eq!(
        (&told["healthy"], &told["findings"][0]["severity"]),
        (&false.into(), &"unfinished".into())
    );
    assert_eq!(place.json(&["status"])["unfinished"].as_array().unwrap().len(), 1);
    let told = place.json(&["doctor", ".", "--repair"]);
    assert_eq!(
        (&told["healthy"], &told["repaired"][0]["removed"]),
        (&true.into(), &1.into())
    );
    assert!(!left.exists());
    fs::write(place.work().join(".jvs/config.toml"), "unknown = 1\n").unwrap();
    place.fails(&["doctor", "."], 10, "DAMAGE_FOUND");
}

#[test]
fn parts_are_saved_and_written_elsewhere() {
    let place = Place::repository();
    let part = place.save(&["--path", "sub"]);
    let told = place.json(&["history"]);
    assert_eq!(told["snapshots"][0]["paths"], serde_json::json!(["sub"]));
    // Of what it does not hold, it says nothing.
    place.write("a", "other");
    assert_eq!(place.ok(&["diff", ".", &part]), "");
    place.fails(&["restore", ".", &part, "--path", "a"], 3, "NOT_FOUND");
    assert_eq!(place.read("a"), "other");

    place.save(&[]);
    let to = place.beside("out");
    let written = place.json(&["restore", ".", "--to", to.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(to.join("sub/b")).unwrap(), "second");
    assert!(written["entries"].as_u64().unwrap() >= 4, "{written}");
    place.fails(
        &["restore", ".", "--to", to.to_str().unwrap()],
        4,
        "DIRECTORY_OCCUPIED",
    );
}

#[test]
fn paths_mean_what_is_below_the_directory_that_is_given() {
    let place = Place::repository();
    place.save(&[]);
    place.write("sub/b", "changed");
    place.write("a", "changed");
    let whole = place.work().canonicalize().unwrap().join("sub/b");
    for (directory, path) in [
        ("./sub", "b"),
        (".", "sub/b"),
        ("./sub", "../sub/./b"),
        (".", whole.to_str().unwrap()),
    ] {
        assert_eq!(
            place.ok(&["diff", directory, "--path", path]),
            "M sub/b\n",
            "{directory} {path}"
        );
    }
    assert_eq!(place.ok(&["diff", "./sub"]), "M a\nM sub/b\n");
    place.ok(&["restore", "./sub", "latest", "--path", "b"]);
    assert_eq!(
        (place.read("a"), place.read("sub/b")),
        ("changed".to_owned(), "second".to_owned())
    );
    for outside in ["..", "../../x", "/etc/passwd"] {
        place.fails(&["restore", ".", "latest", "--path", outside], 19, "PATH_OUTSIDE");
    }
    place.fails(&["restore", ".", "latest", "--path", "nothing"], 3, "NOT_FOUND");
    place.fails(&["snapshot", ".", "--path", "nothing"], 3, "NOT_FOUND");
}

#[test]
fn names_of_any_bytes_are_told_and_taken() {
    let place = Place::repository();
    let name = OsStr::from_bytes(b"n\xff\n%");
    place.save(&[]);
    fs::write(place.work().join(name), "x").unwrap();
    let (told, _) = lines(&place.ok(&["diff", "--json"]));
    assert_eq!(told, [pair("added", "n%FF%0A%25")]);
    assert_eq!(place.ok(&["diff"]), "A n\\xff\\n%\n");
    place.save(&[]);
    fs::remove_file(place.work().join(name)).unwrap();
    let path = [OsStr::new("restore"), OsStr::new("."), OsStr::new("--path"), name];
    place.ok(&path);
    assert_eq!(fs::read_to_string(place.work().join(name)).unwrap(), "x");
}

#[test]
fn what_is_left_out_is_told_with_its_rule() {
    let place = Place::repository();
    place.write(".jvsignore", "# objects\n*.o\n");
    place.write("sub/x.o", "");
    let told = place.ok(&["preview"]);
    assert!(told.contains("sub/x.o  (.jvsignore:2: *.o)\n"), "{told}");
    let told = place.ok(&["preview", "--json"]);
    let objects: Vec<Value> = told.lines().map(object).collect();
    assert_eq!(objects.last().unwrap()["summary"]["left_out"], 2);
    assert_eq!(objects[0]["rule"]["kind"], "control");
    place.save(&[]);
    assert_eq!(place.ok(&["diff"]), "");
}

#[test]
fn labels_are_changed_after_the_fact() {
    let place = Place::repository();
    let id = place.save(&["--tag", "old"]);
    let tagged = place.json(&["tag", ".", "old", "good", "--remove", "old"]);
    assert_eq!(tagged["snapshot"]["tags"], serde_json::json!(["good"]));
    place.fails(&["note", ".", "old", "x"], 3, "SNAPSHOT_NOT_FOUND");
    assert_eq!(
        place.json(&["note", ".", "good", "words"])["snapshot"]["note"],
        "words"
    );
    let pinned = place.json(&["pin", ".", &id[..8], "--reason", "r", "--for", "30d"]);
    assert_eq!(
        (&pinned["pin"], &pinned["snapshot"]["pins"][0]["reason"]),
        (&1.into(), &"r".into())
    );
    assert!(pinned["snapshot"]["pins"][0]["expires"].is_string());
    place.fails(&["unpin", ".", &id, "2"], 3, "NOT_FOUND");
    assert_eq!(
        place.json(&["unpin", ".", &id, "1"])["removed"],
        serde_json::json!([1])
    );
    place.fails(&["tag", ".", &id, "latest"], 5, "TAG_INVALID");
}

#[test]
fn damage_is_found() {
    let place = Place::repository();
    let id = place.save(&["--engine", "copy"]);
    let whole = place.json(&["verify", "."]);
    assert_eq!(
        (&whole["damaged"], &whole["verified"][0]["first_read"]),
        (&0.into(), &2.into())
    );
    let kept = place.work().join(".jvs/snapshots").join(&id).join("a");
    let before = fs::metadata(&kept).unwrap();
    let file = fs::File::options().write(true).open(&kept).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"F", 0).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    let output = place.run(&["verify", ".", "--all", "--json"]);
    assert_eq!(output.status.code(), Some(10));
    let told = object(&text(&output.stdout));
    assert_eq!(
        (&told["damaged"], &told["verified"][0]["damage"][0]["path"]),
        (&1.into(), &"a".into())
    );
    assert_eq!(object(&text(&output.stderr))["error"]["reason"], "DAMAGE_FOUND");

    let descriptor = place.work().join(".jvs/descriptors").join(format!("{id}.json"));
    fs::write(&descriptor, "{}").unwrap();
    place.fails(&["restore", ".", &id], 10, "REPOSITORY_DAMAGED");
    let told = place.json(&["history"]);
    assert_eq!(word(&told["damaged"][0]["id"]), id);
}

#[test]
fn every_mistake_has_a_code_of_its_own() {
    let place = Place::new();
    for arguments in [
        &["snapshot"][..],
        &["history", "."],
        &["diff"],
        &["restore", ".", "v1"],
        &["status", "."],
    ] {
        place.fails(arguments, 17, "NOT_A_REPOSITORY");
    }
    place.fails(&["snapshot", "./nowhere"], 3, "NOT_FOUND");
    // Without a repository, it is the daemon whose status is asked for.
    place.fails(&["status"], 6, "DAEMON_UNREACHABLE");
    place.ok(&["init"]);
    place.fails(&["status", "--daemon"], 6, "DAEMON_UNREACHABLE");
    place.fails(&["init", "."], 4, "REPOSITORY_EXISTS");
    fs::create_dir(place.work().join("inner")).unwrap();
    place.fails(&["init", "inner"], 4, "REPOSITORY_NESTED");
    place.fails(&["restore", "."], 3, "SNAPSHOT_NOT_FOUND");
}

#[test]
fn engines_and_changes_have_codes_of_their_own() {
    let place = Place::repository();
    place.fails(&["snapshot", ".", "--engine", "tape"], 5, "ENGINE_UNKNOWN");
    place.fails(
        &["snapshot", ".", "--engine", "juicefs-clone"],
        15,
        "ENGINE_UNAVAILABLE",
    );
    let mut command = place.command(&["snapshot", "."]);
    let output = command.env("JVS_SNAPSHOT_ENGINE", "juicefs").output().unwrap();
    assert_eq!(output.status.code(), Some(15), "{}", text(&output.stderr));
    let mut command = place.command(&["snapshot", ".", "--json"]);
    let output = command.env("JVS_SNAPSHOT_ENGINE", "copy").output().unwrap();
    let saved = object(&text(&output.stdout));
    assert_eq!(saved["snapshot"]["engine"]["requested"], "copy");

    place.fails(&["restore", ".", "abcd"], 3, "SNAPSHOT_NOT_FOUND");
    place.fails(&["restore", ".", "a b"], 5, "REFERENCE_INVALID");
    place.write("new", "");
    let error = place.fails(
        &["restore", ".", "latest", "--require-clean"],
        16,
        "UNSAVED_CHANGES",
    );
    assert!(word(&error["remedy"]).contains("cairn snapshot"));
    assert!(place.work().join("new").exists());
    place.ok(&["restore", ".", "latest", "--discard"]);
    assert!(!place.work().join("new").exists());

    fs::write(place.work().join(".jvs/format_version"), "3\n").unwrap();
    place.fails(&["history", "."], 18, "REPOSITORY_FORMAT");
    fs::write(place.work().join(".jvs/format_version"), "1\n").unwrap();
    place.fails(&["history", "."], 18, "REPOSITORY_FORMAT");
    fs::write(place.work().join(".jvs/format_version"), "2\n").unwrap();
    fs::write(place.work().join(".jvs/state.json"), "{").unwrap();
    place.fails(&["status"], 10, "REPOSITORY_DAMAGED");
}

#[test]
fn options_of_directories_are_not_for_workspaces() {
    let place = Place::new();
    for arguments in [
        &["snapshot", "w", "--engine", "copy"][..],
        &["history", "w", "--graph"],
        &["diff", "w", "v1", "--path", "a"],
        &["diff", "w"],
        &["restore", "w", "v1", "--plan"],
        &["restore", "w"],
    ] {
        place.fails(arguments, 2, "USAGE");
    }
    place.fails(&["verify", "w"], 5, "WORKSPACE_NAME_INVALID");
    place.fails(&["fork", "w", "v1", "./x"], 5, "WORKSPACE_NAME_INVALID");
}

#[test]
fn control_directories_may_be_elsewhere() {
    let place = Place::new();
    place.write("a", "first");
    let control = place.beside("control");
    let control = control.to_str().unwrap();
    let made = place.json(&["init", ".", "--control-dir", control]);
    assert!(word(&made["control_directory"]).ends_with("/control"));
    assert!(!place.work().join(".jvs").exists());
    place.fails(&["snapshot", "."], 17, "NOT_A_REPOSITORY");
    place.ok(&["snapshot", ".", "--control-dir", control]);
    let elsewhere = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        command
            .current_dir(place.beside("."))
            .env("CAIRN_CONTROL_DIR", control);
        command.output().unwrap()
    };
    let output = elsewhere(&["history", "--json"]);
    assert_eq!(
        object(&text(&output.stdout))["snapshots"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(elsewhere(&["history", "./work"]).status.code(), Some(0));
    assert_eq!(elsewhere(&["history", "/usr"]).status.code(), Some(19));
    place.write("a", "second");
    assert_eq!(
        text(&elsewhere(&["diff", "./work", "--path", "a"]).stdout),
        "M a\n"
    );
}

#[test]
fn a_repository_in_use_is_a_code_of_its_own() {
    let place = Place::repository();
    place.save(&[]);
    let repository = Repository::discover(&place.work(), parts()).unwrap();
    let lease = repository
        .lease("working", Duration::ZERO, &AtomicBool::new(false))
        .unwrap();
    let error = place.fails(&["snapshot", ".", "--wait", "0"], 14, "REPOSITORY_BUSY");
    assert!(word(&error["remedy"]).contains("--wait"), "{error}");
    place.fails(&["tag", ".", "latest", "x", "--wait", "0"], 14, "REPOSITORY_BUSY");
    assert_eq!(place.json(&["status"])["in_use"]["operation"], "working");
    assert_eq!(place.json(&["history"])["snapshots"].as_array().unwrap().len(), 1);
    lease.release().unwrap();
    place.save(&[]);
}

#[test]
fn an_interrupt_ends_a_command_cleanly() {
    let place = Place::repository();
    let repository = Repository::discover(&place.work(), parts()).unwrap();
    let lease = repository
        .lease("working", Duration::ZERO, &AtomicBool::new(false))
        .unwrap();
    for signal in [Signal::INT, Signal::TERM] {
        let mut command = place.command(&["snapshot", ".", "--json"]);
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_until_caught(&child, signal);
        kill_process(Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(13), "{}", text(&output.stderr));
        assert_eq!(object(&text(&output.stderr))["error"]["reason"], "CANCELLED");
    }
    lease.release().unwrap();
    assert_eq!(place.json(&["history"])["snapshots"], serde_json::json!([]));
    place.save(&[]);
}

/// Returns when a process has said that it handles a signal itself.
fn wait_until_caught(child: &Child, signal: Signal) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:"))
            .unwrap();
        if u64::from_str_radix(caught.trim(), 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1 {
            return;
        }
        std::thread::yield_now();
    }
    panic!("the process does not handle signal {}", signal.as_raw());
}

#[test]
fn saves_at_the_same_time_are_all_in_the_history() {
    let place = Place::repository();
    let children: Vec<_> = (0..8)
        .map(|number| {
            let note = format!("save {number}");
            let mut command = place.command(&["snapshot", ".", "--json", "-m", &note]);
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut ids: Vec<String> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", text(&output.stderr));
            word(&object(&text(&output.stdout))["snapshot"]["id"])
        })
        .collect();
    let told = place.json(&["history", "."]);
    let snapshots = told["snapshots"].as_array().unwrap();
    let mut listed: Vec<String> = snapshots.iter().map(|snapshot| word(&snapshot["id"])).collect();
    let sequences: Vec<u64> = snapshots
        .iter()
        .map(|snapshot| snapshot["sequence"].as_u64().unwrap())
        .collect();
    assert_eq!(sequences, [8, 7, 6, 5, 4, 3, 2, 1]);
    ids.sort();
    listed.sort();
    assert_eq!(ids, listed);
}
