//! Object stores and long work through the command line: who owns a store, and each way to be wrong.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::harness::{Daemon, Ended, cairnd, directory, listing};

fn url(path: &Path) -> String {
    format!("file://{}", path.display())
}

#[track_caller]
fn assert_refused(ended: &Ended, reason: &str, code: i32) {
    let error = ended.error();
    assert_eq!(
        (error["reason"].as_str(), ended.code),
        (Some(reason), code),
        "{ended:?}"
    );
    assert!(
        !error["remedy"].as_str().unwrap_or_default().is_empty(),
        "{ended:?}"
    );
    assert!(ended.stdout.is_empty(), "{ended:?}");
}

#[test]
fn a_store_has_one_owner_until_another_takes_it_over() {
    let directory = directory();
    let store = directory.path().join("store");
    fs::create_dir(&store).unwrap();
    let url = url(&store);
    let first = Daemon::start(&directory.path().join("first"));
    let second = Daemon::start(&directory.path().join("second"));
    assert_eq!(
        first.json(&["archive", "init", &url]),
        json!({ "initialized": url })
    );
    // Said again, it is the same.
    assert_eq!(first.cairn(&["archive", "init", &url]).code, 0);
    let fence = fs::read(store.join("fence")).unwrap();
    let refused = second.cairn(&["archive", "init", &url, "--json"]);
    assert_refused(&refused, "STORE_FOREIGN", 4);
    let error = refused.error();
    let owner = error["details"]["owner"].as_str().unwrap();
    assert!(owner.ends_with(&first.data.display().to_string()), "{owner}");
    assert!(
        error["remedy"]
            .as_str()
            .unwrap()
            .contains(&format!("cairn archive take-over {url}"))
    );
    assert_eq!(fs::read(store.join("fence")).unwrap(), fence);

    // Not without being asked for twice.
    assert_eq!(second.cairn(&["archive", "take-over", &url]).code, 2);
    assert_eq!(
        second.json(&["archive", "take-over", &url, "--yes"]),
        json!({ "taken_over": url })
    );
    assert_refused(
        &first.cairn(&["archive", "init", &url, "--json"]),
        "STORE_FOREIGN",
        4,
    );
    // The owner is the data directory, and not the process.
    assert_eq!(second.stop(), 0);
    let second = Daemon::start(&directory.path().join("second"));
    assert_eq!(second.cairn(&["archive", "init", &url]).code, 0);
    assert_eq!((first.stop(), second.stop()), (0, 0));
}

#[test]
fn each_wrong_store_has_its_reason_and_code_and_changes_nothing() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    let daemon = Daemon::start(&path("data"));
    assert_eq!(daemon.cairn(&["workspace", "create", "w"]).code, 0);
    daemon.json(&["snapshot", "w", "--tag", "v1"]);
    let good = path("good");
    fs::create_dir(&good).unwrap();
    fs::write(path("file"), "precious").unwrap();
    for (name, fence) in [
        ("newer", "{\"kind\":\"cairn object store\",\"version\":99}"),
        ("broken", "nonsense"),
        ("other", "{\"kind\":\"a garden fence\",\"version\":1}"),
    ] {
        fs::create_dir(path(name)).unwrap();
        fs::write(path(name).join("fence"), fence).unwrap();
    }
    let before = listing(&good);
    let of = |name: &str| url(&path(name));
    let cases: Vec<(Vec<String>, &str, i32)> = [
        (vec!["archive", "init", "ftp://host/x"], "STORE_URL_INVALID", 5),
        (vec!["archive", "init", "memory://"], "STORE_URL_INVALID", 5),
        (
            vec!["archive", "init", "s3://me:hunter2@bucket"],
            "STORE_URL_INVALID",
            5,
        ),
        (vec!["archive", "init", "relative"], "STORE_URL_INVALID", 5),
        (vec!["archive", "list", "s3://"], "STORE_URL_INVALID", 5),
        (vec!["push", "w@v1", "gopher://x"], "STORE_URL_INVALID", 5),
        (vec!["push", "x", &url(&good)], "WORKSPACE_NOT_FOUND", 3),
        (vec!["push", "w@v2", &url(&good)], "SNAPSHOT_NOT_FOUND", 3),
        (vec!["pull", &url(&good), "w"], "WORKSPACE_EXISTS", 4),
        (
            vec!["pull", &url(&good), "x", "--into-existing"],
            "WORKSPACE_NOT_FOUND",
            3,
        ),
        (vec!["push", "w@v1", &of("absent")], "STORE_NOT_FOUND", 3),
        (vec!["archive", "list", &of("absent")], "STORE_NOT_FOUND", 3),
        (vec!["archive", "verify", &of("absent")], "STORE_NOT_FOUND", 3),
        (vec!["archive", "init", &of("absent")], "STORE_NOT_FOUND", 3),
        (vec!["archive", "init", &of("newer")], "STORE_NEWER", 9),
        (
            vec!["archive", "take-over", &of("newer"), "--yes"],
            "STORE_NEWER",
            9,
        ),
        (vec!["archive", "init", &of("broken")], "STORE_DAMAGED", 10),
        (
            vec!["archive", "take-over", &of("other"), "--yes"],
            "STORE_DAMAGED",
            10,
        ),
        (
            vec!["archive", "init", &url(&good), "--encrypt"],
            "STORE_KEY_MISSING",
            12,
        ),
        (
            vec!["archive", "rotate-key", &url(&good), "--new-key-file", "/k"],
            "STORE_KEY_MISSING",
            12,
        ),
        (
            vec!["archive", "rotate-key", &url(&good), "--new-key-file", "k"],
            "STORE_OPTION_INVALID",
            5,
        ),
        (
            vec!["archive", "verify", &url(&good), "--limit-rate", "1KiB"],
            "LIMIT_EXCEEDED",
            5,
        ),
        (
            vec!["archive", "reclaim", &url(&good), "--grace", "4000d"],
            "LIMIT_EXCEEDED",
            5,
        ),
        (vec!["operation", "show", "0000"], "OPERATION_NOT_FOUND", 3),
        (vec!["operation", "cancel", "00"], "OPERATION_NOT_FOUND", 3),
        (vec!["operation", "watch", "nonsense"], "OPERATION_NOT_FOUND", 3),
    ]
    .into_iter()
    .map(|(arguments, reason, code)| {
        let arguments = arguments.into_iter().map(ToOwned::to_owned).collect();
        (arguments, reason, code)
    })
    .collect();
    for (arguments, reason, code) in cases {
        let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        arguments.push("--json");
        let ended = daemon.cairn(&arguments);
        assert_refused(&ended, reason, code);
        assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
    }
    assert_eq!(listing(&good), before);
    assert_eq!(fs::read_to_string(path("file")).unwrap(), "precious");
    assert_eq!(
        fs::read_to_string(path("broken").join("fence")).unwrap(),
        "nonsense"
    );
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_file_in_the_place_of_a_store_is_kept() {
    let directory = directory();
    let daemon = Daemon::start(&directory.path().join("data"));
    let file = directory.path().join("file");
    fs::write(&file, "precious").unwrap();
    let ended = daemon.cairn(&["archive", "init", &url(&file), "--json"]);
    assert_ne!(ended.code, 0, "{ended:?}");
    assert!(
        ended.error()["message"].as_str().unwrap().contains(&url(&file)),
        "{ended:?}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn a_store_that_does_not_answer_is_named_and_holds_nothing_up() {
    let directory = directory();
    let (config, data) = (directory.path().join("c.toml"), directory.path().join("data"));
    // A port that somebody listens on and nobody answers at.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let keys = directory.path().join("keys");
    fs::write(
        &keys,
        "[default]\naws_access_key_id = a\naws_secret_access_key = hunter2\n",
    )
    .unwrap();
    let table = |bucket: &str, port: u16| {
        format!(
            "[[store]]\nurl = 's3://{bucket}'\nendpoint = 'http://127.0.0.1:{port}'\nallow_http = true\n\
             credentials_file = '{}'\nattempts_max = 1\nrequest_timeout_seconds = 1\nconnect_timeout_seconds = 1\n",
            keys.display()
        )
    };
    let text = table("closed", closed.port()) + &table("silent", silent.local_addr().unwrap().port());
    fs::write(&config, text).unwrap();
    let daemon = Daemon::start_with(&data, cairnd(&data).arg("--config").arg(&config));
    for bucket in ["closed", "silent"] {
        let ended = daemon.cairn(&["archive", "init", &format!("s3://{bucket}/p"), "--json"]);
        assert_refused(&ended, "STORE_UNREACHABLE", 11);
        let error = ended.error();
        assert_eq!(error["details"]["store"], format!("s3://{bucket}/p"));
        assert_eq!(error["details"]["object"], "fence");
        assert!(!ended.stderr.contains("hunter2"));
    }
    fs::remove_file(&keys).unwrap();
    // A store that was not opened yet needs its credentials.
    let ended = daemon.cairn(&["archive", "init", "s3://closed/q", "--json"]);
    assert_refused(&ended, "STORE_DENIED", 12);
    assert_eq!(daemon.cairn(&["status"]).code, 0);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn an_operation_that_failed_is_remembered_with_its_reason() {
    let directory = directory();
    let daemon = Daemon::start(&directory.path().join("data"));
    assert_eq!(daemon.cairn(&["operation", "list"]).code, 0);
    assert_eq!(daemon.json(&["operation", "list"]), json!({ "operations": [] }));
    let absent = url(&directory.path().join("absent"));
    let begun = daemon.json(&["archive", "verify", &absent, "v1", "--detach"]);
    assert_eq!(
        (&begun["kind"], &begun["reference"]),
        (&json!("verify"), &json!("v1"))
    );
    let id = begun["id"].as_str().unwrap();
    assert_refused(
        &daemon.cairn(&["operation", "watch", &id[..12], "--json"]),
        "STORE_NOT_FOUND",
        3,
    );
    let shown = daemon.json(&["operation", "show", id]);
    assert_eq!(
        (
            &shown["state"],
            &shown["failure"]["reason"],
            &shown["failure"]["details"]["store"]
        ),
        (&json!("failed"), &json!("STORE_NOT_FOUND"), &json!(absent))
    );
    assert_eq!(daemon.json(&["operation", "list"])["operations"][0], shown);
    // It has ended: there is nothing to cancel.
    assert_eq!(daemon.json(&["operation", "cancel", id])["state"], "failed");
    assert!(daemon.cairn(&["operation", "list"]).stdout.contains(&id[..12]));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn an_empty_store_is_a_store() {
    let directory = directory();
    let store = directory.path().join("store");
    fs::create_dir(&store).unwrap();
    let url = url(&store);
    let daemon = Daemon::start(&directory.path().join("data"));
    assert_eq!(daemon.json(&["archive", "list", &url]), json!({ "archives": [] }));
    let sizes = daemon.json(&["archive", "show", &url]);
    assert_eq!(
        (&sizes["store_sizes"]["archives"], &sizes["store_sizes"]["packs"]),
        (&json!(0), &json!(0))
    );
    let verified = daemon.json(&["archive", "verify", &url, "--deep"]);
    assert_eq!(
        (&verified["state"], &verified["result"]["archives"]),
        (&json!("succeeded"), &json!(0))
    );
    // Looking does not make a store anybody's.
    assert!(!store.join("fence").exists());
    let reclaimed = daemon.json(&["archive", "reclaim", &url, "--dry-run"]);
    assert_eq!(reclaimed["result"]["dry_run"], true);
    for arguments in [
        &["archive", "show", &url, "latest"][..],
        &["archive", "show", &url, "3f0c", "--sizes"],
        &["archive", "delete", &url, "v1", "--yes"],
        &["archive", "verify", &url, "v1"],
        &["pull", &url, "w"],
        &["pull", &format!("{url}@v1"), "w"],
    ] {
        let ended = daemon.cairn(&[arguments, &["--json"]].concat());
        assert_refused(&ended, "ARCHIVE_NOT_FOUND", 3);
        assert_eq!(ended.error()["details"]["store"], url);
    }
    assert_eq!(daemon.json(&["workspace", "list"]), json!({ "workspaces": [] }));
    assert_eq!(daemon.stop(), 0);
}
