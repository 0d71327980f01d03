//! `cairn view`: what it prints, how it ends, what it leaves. What the mounted tree is like is tested with the library.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use cairn_fuse::mounts::mounted_at;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::place::{Place, object, text, word};

/// Whether snapshots can be mounted here; told loudly if not, and a failure where `CI=true`.
fn can_mount() -> bool {
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    if device.is_ok() && rustix::process::geteuid().is_root() {
        return true;
    }
    assert_ne!(
        std::env::var("CI").as_deref(),
        Ok("true"),
        "nothing can be mounted"
    );
    eprintln!("SKIPPED: nothing can be mounted: no /dev/fuse, or not root");
    false
}

fn is_mounted(at: &Path) -> bool {
    let at = at
        .parent()
        .unwrap()
        .canonicalize()
        .unwrap()
        .join(at.file_name().unwrap());
    mounted_at(&at).unwrap().is_some()
}

/// A repository with a snapshot `v1` of what is not there any more, and a directory to mount on.
fn viewed() -> (Place, PathBuf) {
    let place = Place::repository();
    place.save(&["--tag", "v1"]);
    place.write("a", "changed");
    place.save(&[]);
    let at = place.beside("view");
    fs::create_dir(&at).unwrap();
    (place, at)
}

/// A view in the foreground, and what it has printed first.
struct Viewing {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    mounted: Value,
}

impl Viewing {
    fn start(place: &Place, arguments: &[&str]) -> Self {
        let mut child = place
            .command(&[&["view"], arguments, &["--json"]].concat())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut mounted = object(&lines.next().unwrap().unwrap());
        Viewing {
            child,
            lines,
            mounted: mounted["mounted"].take(),
        }
    }

    /// How it ends.
    fn ended(mut self) -> Value {
        let mut told = object(&self.lines.next().unwrap().unwrap());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        told["ended"].take()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

fn readers(place: &Place) -> usize {
    fs::read_dir(place.work().join(".jvs/readers")).unwrap().count()
}

#[test]
fn a_view_lasts_until_it_is_told_to_end() {
    if !can_mount() {
        return;
    }
    let (place, at) = viewed();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let viewing = Viewing::start(&place, &[".", "v1", at.to_str().unwrap()]);
        let mounted = &viewing.mounted;
        assert_eq!(
            (word(&mounted["mount_point"]), &mounted["leased"]),
            (
                at.canonicalize().unwrap().to_str().unwrap().to_owned(),
                &true.into()
            )
        );
        assert_eq!(mounted["process"], viewing.child.id());
        assert_eq!(fs::read_to_string(at.join("a")).unwrap(), "first");
        assert_eq!(fs::read_to_string(at.join("sub/b")).unwrap(), "second");
        assert_eq!(readers(&place), 1);
        viewing.signal(signal);
        let ended = viewing.ended();
        assert_eq!(
            (&ended["by"], &ended["in_use"]),
            (&"signal".into(), &false.into())
        );
        assert!(!is_mounted(&at));
        assert_eq!((readers(&place), fs::read_dir(&at).unwrap().count()), (0, 0));
    }
    // Somebody has a file open: nothing stays mounted all the same.
    let viewing = Viewing::start(&place, &[".", at.to_str().unwrap()]);
    let open = fs::File::open(at.join("a")).unwrap();
    viewing.signal(Signal::TERM);
    let ended = viewing.ended();
    assert_eq!(ended["in_use"], true);
    assert!(!is_mounted(&at) && readers(&place) == 0);
    assert!(std::io::read_to_string(&open).is_err());
}

#[test]
fn who_unmounts_a_view_ends_it() {
    if !can_mount() {
        return;
    }
    let (place, at) = viewed();
    let shown = at.to_str().unwrap();
    let viewing = Viewing::start(&place, &["./sub", "v1", shown]);
    let open = fs::File::open(at.join("a")).unwrap();
    place.fails(&["view", "--unmount", shown], 4, "MOUNT_BUSY");
    drop(open);
    // The kernel tells of a closed file a little later.
    let closed = Instant::now();
    while place.run(&["view", "--unmount", shown, "--json"]).status.code() == Some(4) {
        assert!(closed.elapsed() < Duration::from_secs(20), "it stays in use");
    }
    assert!(!is_mounted(&at));
    let ended = viewing.ended();
    assert_eq!((&ended["by"], readers(&place)), (&"unmount".into(), 0));
    place.fails(&["view", "--unmount", shown], 3, "NOT_MOUNTED");
    place.fails(&["view", "--unmount", "/proc"], 3, "NOT_MOUNTED");
    place.fails(&["view", "--unmount", "./nothing"], 3, "NOT_FOUND");
}

#[test]
fn a_killed_view_can_be_taken_off() {
    if !can_mount() {
        return;
    }
    let (place, at) = viewed();
    let shown = at.to_str().unwrap();
    let mut viewing = Viewing::start(&place, &[".", "v1", shown]);
    viewing.signal(Signal::KILL);
    viewing.child.wait().unwrap();
    assert!(is_mounted(&at) && fs::read_dir(&at).is_err());
    place.fails(&["view", ".", "v1", shown], 21, "MOUNT_POINT_UNUSABLE");
    place.ok(&["view", "--unmount", shown]);
    assert!(!is_mounted(&at));
    // Its lease is that of a process that has ended, and keeps nothing.
    place.ok(&["delete", ".", "v1", "--yes"]);
}

#[test]
fn a_view_in_the_background_outlives_the_command() {
    if !can_mount() {
        return;
    }
    let (place, at) = viewed();
    let shown = at.to_str().unwrap();
    let log = place.beside("log");
    let told = place.json(&[
        "view",
        ".",
        "v1",
        shown,
        "--background",
        "--log",
        log.to_str().unwrap(),
    ]);
    let process = told["mounted"]["process"].as_u64().unwrap();
    assert_eq!(fs::read_to_string(at.join("a")).unwrap(), "first");
    assert!(Path::new(&format!("/proc/{process}")).exists());
    let tree = fs::read_dir(place.work().join(".jvs/snapshots")).unwrap();
    for tree in tree {
        let _ = fs::remove_file(tree.unwrap().path().join("sub/b"));
    }
    assert_eq!(fs::read(at.join("sub/b")).unwrap_err().raw_os_error(), Some(5));
    let logged = fs::read_to_string(&log).unwrap();
    assert!(
        logged.contains("sub/b cannot be read") && logged.contains("ERROR"),
        "{logged}"
    );
    place.ok(&["view", "--unmount", shown]);
    assert!(!is_mounted(&at));
    // Nothing of it is mounted, so its failure is the command's.
    place.fails(
        &["view", ".", "nonesuch", shown, "--background"],
        3,
        "SNAPSHOT_NOT_FOUND",
    );
}

#[test]
fn archives_are_viewed_by_url() {
    if !can_mount() {
        return;
    }
    let place = Place::repository();
    let at = place.beside("view");
    fs::create_dir(&at).unwrap();
    // Tags stay in the control directory: an archive of a repository is known by its id.
    let snapshot = place.save(&["--engine", "archive"]);
    let url = format!("file://{}@{snapshot}", place.work().join(".jvs/store").display());
    let viewing = Viewing::start(&place, &[&url, at.to_str().unwrap()]);
    assert_eq!(viewing.mounted["leased"], false);
    assert_eq!(fs::read_to_string(at.join("sub/b")).unwrap(), "second");
    viewing.signal(Signal::INT);
    viewing.ended();
    let nowhere = format!("file://{}", place.beside("nowhere").display());
    let output = place.run(&["view", &nowhere, at.to_str().unwrap()]);
    assert_ne!(output.status.code(), Some(0));
    place.fails(
        &["view", "ftp://host/a", at.to_str().unwrap()],
        5,
        "STORE_URL_INVALID",
    );
}

#[test]
fn what_cannot_be_mounted_on_is_told() {
    let (place, at) = viewed();
    let shown = at.to_str().unwrap();
    fs::write(at.join("there"), "is something").unwrap();
    place.fails(&["view", ".", "v1", shown], 21, "MOUNT_POINT_UNUSABLE");
    fs::remove_file(at.join("there")).unwrap();
    place.fails(&["view", ".", "v1", "./a"], 21, "MOUNT_POINT_UNUSABLE");
    place.fails(&["view", ".", "v1", "./nothing"], 3, "NOT_FOUND");
    let output = place.run(&["view", shown]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    if !can_mount() {
        return;
    }
    place.fails(&["view", ".", "nonesuch", shown], 3, "SNAPSHOT_NOT_FOUND");
    // Somebody who may not use the device.
    let outside = at.parent().unwrap();
    fs::set_permissions(outside, Permissions::from_mode(0o755)).unwrap();
    if fs::metadata("/dev/fuse").unwrap().permissions().mode() & 0o006 != 0 {
        return;
    }
    let output = place
        .command(&["view", ".", "v1", shown])
        .current_dir("/")
        .uid(65_534)
        .gid(65_534)
        .output();
    // Where the program cannot be reached by others, there is nothing to see.
    if let Ok(output) = output {
        assert_eq!(output.status.code(), Some(22), "{}", text(&output.stderr));
    }
}

/// As a user who is not root everything goes by fusermount3, which is run for the mount and for its end. In mount namespaces of its own, where the
/// device can be opened by others.
const AS_NOBODY: &str = r#"
set -e
mknod "$1/fuse" c 10 229 && chmod 666 "$1/fuse"
mount --bind "$1/fuse" /dev/fuse
exec setpriv --reuid 65534 --regid 65534 --clear-groups sh -ec '
    cd "$1/work"
    "$1/cairn" init . && "$1/cairn" snapshot . --tag v1
    echo changed > a
    "$1/cairn" view . v1 "$1/view" --background
    test "$(cat "$1/view/a")" = first
    if "$1/cairn" view . "$1/view"; then exit 1; fi
    grep -q " $1/view .*fuse.*user_id=65534" /proc/self/mountinfo
    "$1/cairn" view --unmount "$1/view"
    if grep " $1/view " /proc/self/mountinfo; then exit 1; fi
    "$1/cairn" view . v1 "$1/view" > "$1/told" & view=$!
    until grep -q mounted "$1/told"; do kill -0 $view; done
    test "$(cat "$1/view/a")" = first
    kill -TERM $view && wait $view
    if grep " $1/view " /proc/self/mountinfo; then exit 1; fi
    until test -z "$(ls .jvs/readers)"; do :; done
' sh "$1"
"#;

#[test]
fn others_than_root_mount_by_the_helper() {
    let is_there = |program: &str| {
        let status = std::process::Command::new("sh")
            .args(["-c", "command -v \"$0\" > /dev/null", program])
            .status();
        status.unwrap().success()
    };
    if !can_mount() {
        return;
    }
    let missing = ["unshare", "setpriv", "fusermount3"]
        .into_iter()
        .find(|program| !is_there(program));
    if let Some(program) = missing {
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "there is no {program}"
        );
        eprintln!("SKIPPED: a view of somebody else: there is no {program}");
        return;
    }
    let place = Place::new();
    let outside = place.beside("").canonicalize().unwrap();
    place.write("a", "first\n");
    fs::create_dir(outside.join("view")).unwrap();
    fs::set_permissions(&outside, Permissions::from_mode(0o777)).unwrap();
    for path in ["work", "work/a", "view"] {
        std::os::unix::fs::chown(outside.join(path), Some(65_534), Some(65_534)).unwrap();
    }
    // Where others can reach it.
    fs::copy(env!("CARGO_BIN_EXE_cairn"), outside.join("cairn")).unwrap();
    fs::set_permissions(outside.join("cairn"), Permissions::from_mode(0o755)).unwrap();
    let output = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", AS_NOBODY, "sh"])
        .arg(&outside)
        .env_remove("CAIRN_CONTROL_DIR")
        .env_remove("XDG_CACHE_HOME")
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}
