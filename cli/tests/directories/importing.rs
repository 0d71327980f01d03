//! `cairn import-jvs` with the binary: both lines of the Go tools come over, once, and what cannot be is told.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::place::{Place, text, word};

const SAMPLES: &str = "../snapshot/tests/fixtures/jvs/repositories.tar.zst";

/// Unpacks the repositories beside the working directory, and gives the one of that name.
fn unpack(place: &Place, name: &str) -> PathBuf {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join(SAMPLES);
    let plain = zstd::decode_all(fs::File::open(packed).unwrap()).unwrap();
    let file = place.beside("samples.tar");
    fs::write(&file, plain).unwrap();
    let status = Command::new("tar")
        .args(["-x", "-p", "--no-same-owner", "-f"])
        .arg(&file)
        .arg("-C")
        .arg(place.beside(""))
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    place.beside(name)
}

#[test]
fn repositories_of_the_go_tools_come_over_once() {
    let place = Place::new();
    for (name, workspace, snapshots) in [("old/repo", "old/repo/main", 6), ("new/repo", "new/repo", 3)] {
        let old = unpack(&place, name);
        let old = old.to_str().unwrap();
        let control = place.beside(&name.replace('/', "-"));
        let control = control.to_str().unwrap();
        let failure = place.fails(&["import-jvs", old], 4, "DIRECTORY_OCCUPIED");
        assert!(word(&failure["message"]).contains("--control-dir"), "{failure}");
        let told = place.ok(&["import-jvs", old, "--control-dir", control]);
        assert!(
            told.starts_with(&format!("took over {snapshots} snapshots into ")),
            "{told}"
        );
        let again = place.json(&["import-jvs", old, "--control-dir", control]);
        assert_eq!(
            (&again["present"], &again["taken"]),
            (&snapshots.into(), &Value::Array(Vec::new()))
        );
        assert_eq!(word(&again["line"]), name[..3]);
        let workspace = place.beside(workspace);
        let history = place.ok(&["history", workspace.to_str().unwrap(), "--control-dir", control]);
        assert!(history.contains("second"), "{history}");
        let verified = place.json(&[
            "verify",
            workspace.to_str().unwrap(),
            "--all",
            "--control-dir",
            control,
        ]);
        assert_eq!(verified["damaged"], 0, "{verified}");
        // The old one is still there, and still refused by everything else.
        place.fails(&["status", old], 18, "REPOSITORY_FORMAT");
    }
}

#[test]
fn what_does_not_come_over_is_code_10() {
    let place = Place::new();
    let old = unpack(&place, "old/repo");
    let first = old.join(".jvs/snapshots/1795225687613-aac771dd");
    fs::remove_dir_all(first).unwrap();
    let control = place.beside("control");
    let arguments = [
        "import-jvs",
        old.to_str().unwrap(),
        "--control-dir",
        control.to_str().unwrap(),
    ];
    let output = place.run(&arguments);
    assert_eq!(output.status.code(), Some(10), "{}", text(&output.stderr));
    let told = text(&output.stdout);
    assert!(
        told.contains("  1795225687613-aac771dd did not come over: "),
        "{told}"
    );
    let nobody = [&arguments[..], &["--workspace", "nobody"]].concat();
    let failure = place.fails(&nobody, 3, "NOT_FOUND");
    assert!(
        word(&failure["message"]).contains("experiment, main"),
        "{failure}"
    );
    place.fails(&["import-jvs", "."], 17, "NOT_A_REPOSITORY");
}
