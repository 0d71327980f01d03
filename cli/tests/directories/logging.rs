//! What libraries say beside the outcome reaches somebody.

use std::fs;

use serde_json::Value;

use crate::place::{Place, object, text};

#[test]
fn warnings_of_libraries_are_told() {
    let place = Place::repository();
    place.save(&[]);
    // The audit log cannot be written where a directory is in its place.
    let log = place.work().join(".jvs/audit/log");
    fs::remove_file(&log).unwrap();
    fs::create_dir(&log).unwrap();
    let output = place.run(&["snapshot", "."]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("WARN") && told.contains("audit log"), "{told}");
    // A program gets nothing but what it asks for.
    let output = place.run(&["snapshot", ".", "--json"]);
    assert_eq!(text(&output.stderr), "");
    let mut command = place.command(&["snapshot", ".", "--json"]);
    let output = command.env("RUST_LOG", "cairn_snapshot=warn").output().unwrap();
    let told = text(&output.stderr);
    let lines: Vec<Value> = told.lines().map(object).collect();
    assert!(lines.iter().any(|line| line["level"] == "WARN"), "{told}");
    let output = place
        .command(&["status"])
        .env("RUST_LOG", "a=b=c")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let output = place.run(&["status", "-vv"]);
    assert!(text(&output.stderr).contains("memory_peak_bytes"));
}
