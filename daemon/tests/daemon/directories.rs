//! Plain directories through the daemon, asked by the command line: what may be touched, the same answers as without a daemon, and what
//! becomes of work when the daemon is killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::harness::{Daemon, Ended, cairn, cairnd, directory};

/// Files of a tree that takes some time to save and to restore.
const FILES: usize = 1200;
/// Kills in the middle of saves, and of restores.
const SAVES: usize = 8;
const RESTORES: usize = 5;

/// A place with a data directory and a root for plain directories.
struct Site {
    place: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let place = directory();
        fs::create_dir(place.path().join("root")).unwrap();
        let site = Site { place };
        let text = format!(
            "[directories]\nroots = [{:?}]\njobs_max = 2\nverify_bytes_per_second = 0\n",
            site.root().display().to_string()
        );
        fs::write(site.place.path().join("cairnd.toml"), text).unwrap();
        site
    }

    fn root(&self) -> PathBuf {
        self.place.path().canonicalize().unwrap().join("root")
    }

    fn start(&self) -> Daemon {
        let data = self.place.path().join("data");
        let mut command = cairnd(&data);
        command.arg("--config").arg(self.place.path().join("cairnd.toml"));
        Daemon::start_with(&data, &mut command)
    }

    /// A directory with files in it.
    fn workspace(&self, name: &str, files: usize) -> String {
        let path = self.root().join(name);
        fs::create_dir(&path).unwrap();
        fill(&path, files, "first");
        path.display().to_string()
    }
}

fn fill(path: &Path, files: usize, words: &str) {
    for number in 0..files {
        let directory = path.join(format!("d{}", number % 10));
        fs::create_dir_all(&directory).unwrap();
        fs::write(
            directory.join(format!("f{number}")),
            format!("{words} {number}").repeat(40),
        )
        .unwrap();
    }
}

#[track_caller]
fn assert_refused(ended: &Ended, reason: &str, code: i32) {
    let error = ended.error();
    assert_eq!(
        (error["reason"].as_str(), ended.code),
        (Some(reason), code),
        "{ended:?}"
    );
}

/// `cairn` without a daemon.
fn offline(arguments: &[&str]) -> Ended {
    cairn(Path::new("/nonexistent/cairnd.sock"), arguments)
}

fn snapshots(workspace: &str) -> Vec<Value> {
    let history = offline(&["history", workspace, "--all", "--json"]).json();
    history["snapshots"].as_array().unwrap().clone()
}

fn operations(daemon: &Daemon) -> Vec<Value> {
    daemon.json(&["operation", "list"])["operations"]
        .as_array()
        .unwrap()
        .clone()
}

/// The identities of all operations.
fn known(daemon: &Daemon) -> Vec<Value> {
    operations(daemon)
        .iter()
        .map(|operation| operation["id"].clone())
        .collect()
}

/// Records of work that was accepted and has not ended.
fn jobs(daemon: &Daemon) -> usize {
    let listed = fs::read_dir(daemon.data.join("directories/jobs")).unwrap();
    let is_record = |name: std::ffi::OsString| name.to_string_lossy().ends_with(".json");
    listed
        .filter(|entry| is_record(entry.as_ref().unwrap().file_name()))
        .count()
}

/// Starts `cairn` and does not wait for it.
fn begin(daemon: &Daemon, arguments: &[&str]) -> std::process::Child {
    let binary = Path::new(env!("CARGO_BIN_EXE_cairnd")).with_file_name("cairn");
    Command::new(binary)
        .args(arguments)
        .env("CAIRN_SOCKET", daemon.data.join("cairnd.sock"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until an operation is as it is wanted; gives it.
fn until(daemon: &Daemon, wanted: impl Fn(&Value) -> bool) -> Value {
    loop {
        if let Some(found) = operations(daemon).into_iter().find(&wanted) {
            return found;
        }
    }
}

#[test]
fn only_what_is_below_a_root_is_touched() {
    let site = Site::new();
    let outside = site.place.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let outside = outside.canonicalize().unwrap().display().to_string();
    let workspace = site.workspace("w", 3);
    let refused = |daemon: &Daemon, path: &str| {
        let ended = daemon.cairn(&["directory", "register", path, "--init", "--json"]);
        assert_refused(&ended, "DIRECTORY_NOT_ALLOWED", 20);
        assert!(
            ended.error()["remedy"]
                .as_str()
                .unwrap()
                .contains("[directories]"),
            "{ended:?}"
        );
        assert!(!Path::new(path).join(".jvs").exists());
    };
    // By default, nothing.
    let plain = Daemon::start(&site.place.path().join("plain"));
    refused(&plain, &workspace);
    assert_eq!(plain.stop(), 0);

    let daemon = site.start();
    refused(&daemon, &outside);
    std::os::unix::fs::symlink(&outside, site.root().join("link")).unwrap();
    refused(&daemon, &site.root().join("link").display().to_string());
    let ended = daemon.cairn(&["directory", "register", &workspace, "--json"]);
    assert_refused(&ended, "NOT_A_REPOSITORY", 17);
    let control = format!("{outside}/control");
    let ended = daemon.cairn(&[
        "directory",
        "register",
        &workspace,
        "--init",
        "--control-dir",
        &control,
        "--json",
    ]);
    assert_refused(&ended, "DIRECTORY_NOT_ALLOWED", 20);
    assert!(!Path::new(&control).exists());
    let ended = daemon.cairn(&["snapshot", &workspace, "--daemon", "--json"]);
    assert_refused(&ended, "DIRECTORY_NOT_REGISTERED", 3);

    let told = daemon.json(&["directory", "register", &workspace, "--init"]);
    assert_eq!(
        (&told["registered"], &told["initialized"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(told["directory"]["workspace"], workspace);
    let again = daemon.json(&["directory", "register", &workspace]);
    assert_eq!(
        (&again["registered"], &again["initialized"]),
        (&json!(false), &json!(false))
    );
    // The directory becomes a link that leads out: it is not followed.
    fs::rename(&workspace, format!("{outside}/w")).unwrap();
    std::os::unix::fs::symlink(format!("{outside}/w"), &workspace).unwrap();
    let id = told["directory"]["repository"].as_str().unwrap();
    let shown = daemon.json(&["directory", "show", id]);
    assert_eq!(
        (shown["directory"]["condition"].as_str(), &shown["status"]),
        (Some("unusable"), &Value::Null)
    );
    fs::remove_file(&workspace).unwrap();
    let shown = daemon.json(&["directory", "show", id]);
    assert_eq!(shown["directory"]["condition"], "missing");
    fs::rename(format!("{outside}/w"), &workspace).unwrap();

    // Everything is there again after a restart, and what is missing is no reason not to start.
    assert_eq!(daemon.stop(), 0);
    fs::rename(&workspace, format!("{workspace}.away")).unwrap();
    let daemon = site.start();
    let listed = daemon.json(&["directory", "list"]);
    assert_eq!(listed["directories"].as_array().unwrap().len(), 1);
    fs::rename(format!("{workspace}.away"), &workspace).unwrap();
    let shown = daemon.json(&["directory", "show", &workspace, "--changes"]);
    assert_eq!(shown["directory"]["condition"], "ready");
    assert!(shown["status"]["changes"].as_u64().unwrap() >= 3);
    let (_, metrics) = daemon.get("/metrics");
    assert!(metrics.contains("cairn_directories 1"), "{metrics}");
    daemon.json(&["directory", "unregister", &workspace]);
    assert_eq!(daemon.json(&["directory", "list"])["directories"], json!([]));
    assert_eq!(daemon.stop(), 0);
}

/// What two answers have in common: the shape of values, and those that do not depend on when and where.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| (name.clone(), shape(value)));
            Value::Object(members.collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(shape).collect()),
        Value::String(text) if text.len() >= 20 => json!("text"),
        other => other.clone(),
    }
}

#[test]
fn the_daemon_answers_as_the_command_does_without_it() {
    let site = Site::new();
    let daemon = site.start();
    // Two directories, with the same done to both: to one by the daemon.
    let (by_daemon, alone) = (site.workspace("a", 5), site.workspace("b", 5));
    for workspace in [&by_daemon, &alone] {
        assert_eq!(offline(&["init", workspace]).code, 0);
    }
    daemon.json(&["directory", "register", &by_daemon]);
    let both = |arguments: &[&str]| {
        let with = |workspace: &str| -> Vec<String> {
            let words = arguments.iter().map(|word| word.replace("DIR", workspace));
            words.collect()
        };
        let words = with(&by_daemon);
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        words.extend(["--daemon", "--json"]);
        let told = daemon.cairn(&words);
        let words = with(&alone);
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        words.push("--json");
        let expected = offline(&words);
        assert_eq!(told.code, expected.code, "{arguments:?}: {told:?} {expected:?}");
        match expected.code {
            0 | 10 if !expected.stdout.is_empty() => {
                let (told, expected) = (told.json(), expected.json());
                assert_eq!(shape(&told), shape(&expected), "{arguments:?}");
                (told, expected)
            }
            _ => {
                let (told, expected) = (told.error(), expected.error());
                assert_eq!(
                    told["reason"], expected["reason"],
                    "{arguments:?}: {told} {expected}"
                );
                (told, expected)
            }
        }
    };
    both(&["snapshot", "DIR", "-m", "one", "--tag", "v1", "--key", "k"]);
    both(&["snapshot", "DIR", "-m", "one", "--tag", "v1", "--key", "k"]);
    both(&["snapshot", "DIR", "-m", "other", "--key", "k"]);
    both(&["snapshot", "DIR", "--skip-unchanged"]);
    both(&["snapshot", "DIR", "--template", "checkpoint", "--path", "DIR/d1"]);
    both(&["snapshot", "DIR", "--template", "none"]);
    both(&["snapshot", "DIR", "--engine", "none"]);
    both(&["snapshot", "DIR", "--engine", "juicefs-clone"]);
    both(&["snapshot", "DIR", "--engine", "copy", "--compression", "zstd"]);
    both(&["snapshot", "DIR", "--path", "DIR/../x"]);
    both(&["snapshot", "DIR", "--path", "DIR/missing"]);
    both(&["snapshot", "DIR", "--compression", "gzip:6", "--tag", "packed"]);
    for workspace in [&by_daemon, &alone] {
        fs::write(Path::new(workspace).join("d1/f1"), "changed").unwrap();
        fs::write(Path::new(workspace).join("new"), "new").unwrap();
    }
    let (status, _) = both(&["status", "DIR"]);
    assert_eq!(
        (&status["changes"]["total"], &status["changes"]["modified"]),
        (&json!(2), &json!(1))
    );
    both(&["status", "DIR/d1"]);
    let (difference, _) = both(&["diff", "DIR", "v1", "--stat"]);
    assert_eq!(difference["summary"]["added"], 1, "{difference}");
    both(&["diff", "DIR", "v1", "latest", "--stat"]);
    both(&["diff", "DIR", "v1", "--stat", "--path", "DIR/d1"]);
    both(&["diff", "DIR", "v1", "zzzz"]);
    both(&["diff", "DIR", "v1", "--path", "DIR/../x"]);
    let (lines, told) = (
        daemon.cairn(&["diff", &by_daemon, "v1", "--daemon"]),
        offline(&["diff", &alone, "v1"]),
    );
    assert_eq!((&lines.stdout, lines.code), (&told.stdout, 0));
    assert_eq!(lines.stdout, "M d1/f1\nA new\n");
    let (found, _) = both(&["history", "DIR", "--path", "DIR/d1"]);
    assert!(!found["snapshots"].as_array().unwrap().is_empty(), "{found}");
    let (found, _) = both(&["history", "DIR", "--grep", "ONE"]);
    assert_eq!(found["snapshots"].as_array().unwrap().len(), 1, "{found}");
    both(&["history", "DIR", "--tag", "v1"]);
    both(&["history", "DIR", "--tag", "no tag"]);
    both(&["history", "DIR", "--all", "--limit", "2"]);
    both(&["history", "DIR", "--limit", "0"]);
    let drawn = |ended: Ended| -> Vec<String> {
        let lines = ended.stdout.lines();
        lines
            .map(|line| line.split("  ").next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        drawn(daemon.cairn(&["history", &by_daemon, "--graph", "--daemon"])),
        drawn(offline(&["history", &alone, "--graph"]))
    );
    both(&["tag", "DIR", "v1", "good", "better"]);
    both(&["tag", "DIR", "v1", "--remove", "better"]);
    both(&["tag", "DIR", "v1"]);
    both(&["tag", "DIR", "none", "x"]);
    both(&["note", "DIR", "v1", "other words"]);
    let (pinned, _) = both(&["pin", "DIR", "v1", "--for", "30d", "--reason", "shipped"]);
    assert_eq!(pinned["pin"], 1);
    both(&["delete", "DIR", "v1", "--yes"]);
    both(&["unpin", "DIR", "v1", "7"]);
    both(&["unpin", "DIR", "v1", "1"]);
    both(&["unpin", "DIR", "v1", "--all"]);
    both(&["fork", "DIR", "v1", "DIR-fork"]);
    both(&["fork", "DIR", "v1", "DIR-fork"]);
    both(&["fork", "DIR", "v1", "DIR-two", "--new-control-dir", "DIR-control"]);
    for workspace in [&by_daemon, &alone] {
        for fork in ["fork", "two"] {
            let fork = format!("{workspace}-{fork}");
            assert!(
                fs::read_to_string(Path::new(&fork).join("d1/f1"))
                    .unwrap()
                    .starts_with("first")
            );
        }
    }
    let fork = format!("{by_daemon}-fork");
    assert_eq!(
        daemon.json(&["directory", "show", &fork])["status"]["snapshots"],
        1
    );
    both(&["restore", "DIR", "v1", "--plan"]);
    both(&["restore", "DIR", "v1", "--require-clean"]);
    both(&["restore", "DIR", "v1", "--path", "DIR/nowhere"]);
    both(&["restore", "DIR", "v2"]);
    both(&["restore", "DIR", "v1"]);
    for workspace in [&by_daemon, &alone] {
        assert!(!Path::new(workspace).join("new").exists());
    }
    both(&["restore", "DIR", "latest~1", "--path", "DIR/d1"]);
    both(&["verify", "DIR", "--all"]);
    both(&["verify", "DIR", "zzzz"]);
    let (plan, _) = both(&["gc", "plan", "DIR"]);
    assert_eq!(plan["remove"], json!([]));
    both(&["gc", "run", "DIR", &"7".repeat(32)]);
    both(&["gc", "run", "DIR", "seven"]);
    both(&["delete", "DIR", "packed", "--yes"]);
    both(&["delete", "DIR", "packed", "--yes"]);
    // Damage.
    for workspace in [&by_daemon, &alone] {
        let id = snapshots(workspace)
            .iter()
            .find(|snapshot| snapshot["tags"].as_array().unwrap().contains(&json!("v1")))
            .map(|snapshot| snapshot["id"].as_str().unwrap().to_owned())
            .unwrap();
        let file = Path::new(workspace).join(".jvs/snapshots").join(id).join("d1/f1");
        let text = fs::read_to_string(&file).unwrap();
        fs::remove_file(&file).unwrap();
        fs::write(&file, text.replace("first", "FIRST")).unwrap();
    }
    both(&["verify", "DIR", "v1"]);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn eight_saves_at_once_are_eight_snapshots() {
    let site = Site::new();
    let daemon = site.start();
    let workspace = site.workspace("w", 100);
    daemon.json(&["directory", "register", &workspace, "--init"]);
    let saves: Vec<_> = (0..8)
        .map(|_| begin(&daemon, &["snapshot", &workspace, "--daemon", "--json"]))
        .collect();
    let mut ids: Vec<String> = saves
        .into_iter()
        .map(|save| {
            let ended = Ended::from(save.wait_with_output().unwrap());
            assert_eq!(ended.code, 0, "{ended:?}");
            ended.json()["snapshot"]["id"].as_str().unwrap().to_owned()
        })
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), snapshots(&workspace).len()), (8, 8));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_save_that_is_killed_makes_one_snapshot() {
    let site = Site::new();
    let workspace = site.workspace("w", FILES);
    let mut daemon = site.start();
    daemon.json(&["directory", "register", &workspace, "--init"]);
    let mut resumed = 0;
    for round in 0..SAVES {
        fill(Path::new(&workspace), FILES, &format!("round {round}"));
        let key = format!("k{round}");
        let arguments = [
            "snapshot", &workspace, "--engine", "copy", "--key", &key, "--daemon", "--json",
        ];
        let before = known(&daemon);
        let mut asking = begin(&daemon, &arguments);
        // At some moment: as soon as it is known, or when so many files are done.
        let files = (round * 150) as u64;
        let found = until(&daemon, |operation| {
            let done = operation["progress"]["files"].as_u64().unwrap_or(0);
            let began = round == 0 || done >= files || operation["state"] != "running";
            !before.contains(&operation["id"]) && began
        });
        daemon.signal(Signal::KILL);
        assert_eq!(daemon.ended(), -9);
        asking.wait().unwrap();

        daemon = site.start();
        let listed = operations(&daemon);
        if let Some(same) = listed.iter().find(|operation| operation["id"] == found["id"]) {
            assert_eq!(same["resumed"], json!(true), "{same}");
            resumed += 1;
        }
        // Asked again with the same key: the one that goes on, or what it has made.
        let told = daemon.json(&arguments[..arguments.len() - 1]);
        let id = told["snapshot"]["id"].clone();
        let all = snapshots(&workspace);
        assert_eq!(all.len(), round + 1, "round {round}");
        assert_eq!(all[0]["id"], id);
        assert_eq!(jobs(&daemon), 0);
    }
    assert!(resumed > 0, "no kill came in the middle of a save");
    let verified = daemon.cairn(&["verify", &workspace, "--all", "--daemon"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    let doctor = offline(&["doctor", &workspace, "--json"]);
    assert_eq!(doctor.json()["healthy"], json!(true), "{doctor:?}");
    assert_eq!(daemon.stop(), 0);
}

/// Names and contents of a workspace.
fn contents(workspace: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = super::harness::listing(Path::new(workspace));
    found.retain(|(path, _)| !path.to_string_lossy().contains("/.jvs"));
    found
}

#[test]
fn a_restore_that_is_killed_is_finished() {
    let site = Site::new();
    let workspace = site.workspace("w", FILES);
    let mut daemon = site.start();
    daemon.json(&["directory", "register", &workspace, "--init"]);
    daemon.json(&[
        "snapshot", &workspace, "--tag", "v1", "--engine", "copy", "--daemon",
    ]);
    let expected = contents(&workspace);
    for round in 0..RESTORES {
        fill(Path::new(&workspace), FILES + 50, &format!("other {round}"));
        let before = known(&daemon);
        let mut asking = begin(&daemon, &["restore", &workspace, "v1", "--daemon", "--json"]);
        let files = (round * 300) as u64;
        until(&daemon, |operation| {
            let done = operation["progress"]["files"].as_u64().unwrap_or(0);
            !before.contains(&operation["id"]) && (done >= files || operation["state"] != "running")
        });
        daemon.signal(Signal::KILL);
        assert_eq!(daemon.ended(), -9);
        asking.wait().unwrap();
        daemon = site.start();
        for operation in operations(&daemon) {
            let id = operation["id"].as_str().unwrap();
            let ended = daemon.cairn(&["operation", "watch", id]);
            assert_eq!(ended.code, 0, "round {round}: {ended:?}");
        }
        assert_eq!(contents(&workspace), expected, "round {round}");
    }
    let doctor = offline(&["doctor", &workspace, "--json"]);
    assert_eq!(doctor.json()["healthy"], json!(true), "{doctor:?}");
    // What was overwritten is in safety snapshots.
    let safety = snapshots(&workspace)
        .iter()
        .filter(|snapshot| snapshot["origin"] == "safety")
        .count();
    assert!(safety >= RESTORES, "{safety}");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn work_waits_for_its_turn_is_cancelled_and_goes_on_after_a_stop() {
    let site = Site::new();
    let workspace = site.workspace("w", 5);
    fs::write(Path::new(&workspace).join("large"), vec![7; 24 << 20]).unwrap();
    fs::write(Path::new(&workspace).join("larger"), vec![8; 24 << 20]).unwrap();
    let daemon = site.start();
    daemon.json(&["directory", "register", &workspace, "--init"]);
    daemon.json(&["snapshot", &workspace, "--engine", "copy", "--daemon"]);
    // Two that take minutes: as many as may run.
    let slow = |rate: &'static str| {
        ["verify", &workspace, "--limit-rate", rate, "--daemon", "--json"].map(str::to_owned)
    };
    let [first, second] = ["100KiB", "101KiB"].map(|rate| {
        let words = slow(rate);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        begin(&daemon, &words)
    });
    until(&daemon, |_| {
        let reading =
            |operation: &&Value| operation["kind"] == "read" && operation["progress"]["phase"] == "verifying";
        operations(&daemon).iter().filter(reading).count() == 2
    });
    let third = begin(&daemon, &["snapshot", &workspace, "--daemon", "--json"]);
    let waiting = until(&daemon, |operation| {
        operation["kind"] == "save" && operation["progress"]["phase"] == "waiting"
    });
    let ended = daemon.cairn(&["directory", "unregister", &workspace, "--json"]);
    assert_refused(&ended, "OPERATION_CONFLICT", 4);
    let id = waiting["id"].as_str().unwrap();
    daemon.json(&["operation", "cancel", id]);
    assert_refused(&third.wait_with_output().unwrap().into(), "CANCELLED", 13);
    let reading = operations(&daemon)
        .into_iter()
        .find(|operation| operation["kind"] == "read")
        .unwrap();
    // One that runs is cancelled, too; the other is put off by the stop.
    daemon.json(&["operation", "cancel", reading["id"].as_str().unwrap()]);
    let left = until(&daemon, |operation| {
        operation["kind"] == "read" && operation["id"] != reading["id"] && operation["state"] == "running"
    });
    assert_eq!(daemon.stop(), 0);
    let codes: Vec<i32> = [first, second]
        .into_iter()
        .map(|child| Ended::from(child.wait_with_output().unwrap()))
        .map(|ended| {
            assert!(
                ["CANCELLED", "SHUTTING_DOWN", "DAEMON_UNREACHABLE"]
                    .contains(&ended.error()["reason"].as_str().unwrap()),
                "{ended:?}"
            );
            ended.code
        })
        .collect();
    // Who waits for the cancelled one hears of that, or of the daemon's end if that is sooner.
    assert!(
        codes.contains(&6) && codes.iter().all(|code| [6, 13].contains(code)),
        "{codes:?}"
    );
    let daemon = site.start();
    let listed = operations(&daemon);
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&listed[0]["id"], &listed[0]["resumed"]),
        (&left["id"], &json!(true))
    );
    // What was cancelled does not come back, also if the daemon dies before the work has noticed.
    daemon.json(&["operation", "cancel", left["id"].as_str().unwrap()]);
    assert_eq!(jobs(&daemon), 0);
    daemon.signal(rustix::process::Signal::KILL);
    daemon.ended();
    let daemon = site.start();
    assert!(operations(&daemon).is_empty());
    assert_eq!(daemon.stop(), 0);
}
