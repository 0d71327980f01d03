//! Start and stop: what is wrong has its own exit code, names the thing and the way out, and changes nothing.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use super::harness::{Daemon, Ended, cairnd, cairnd_at, directory, listing, run_to_end};

/// What is told last, after the log: what went wrong, and what to do on the next line.
fn assert_told(ended: &Ended, code: i32, parts: &[&str]) {
    assert_eq!(ended.code, code, "{ended:?}");
    let told: Vec<&str> = ended
        .stderr
        .lines()
        .skip_while(|line| !line.starts_with("cairnd: "))
        .collect();
    assert!(told.len() >= 2, "no message with a remedy: {ended:?}");
    for part in parts {
        assert!(ended.stderr.contains(part), "{part:?} is missing: {ended:?}");
    }
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_nothing_is_made() {
    let directory = directory();
    let (config, data) = (directory.path().join("c.toml"), directory.path().join("data"));
    fs::write(&config, "[nfs]\nlisten = '127.0.0.1:0'\nlsten = 1\n").unwrap();
    let ended = run_to_end(cairnd(&data).arg("--config").arg(&config));
    assert_told(
        &ended,
        2,
        &[
            &format!("{}:3: unknown key `lsten`", config.display()),
            "--print-default-config",
        ],
    );
    assert!(!data.exists());
}

#[test]
fn a_bad_value_a_missing_file_and_a_bad_flag_are_configuration_errors() {
    let directory = directory();
    let (config, data) = (directory.path().join("c.toml"), directory.path().join("data"));
    fs::write(&config, "\n[content]\nsegment_bytes = '1GB'\n").unwrap();
    let ended = run_to_end(cairnd(&data).arg("--config").arg(&config));
    assert_told(&ended, 2, &[&format!("{}:3: ", config.display()), "1GB", "64MiB"]);
    let ended = run_to_end(cairnd(&data).args(["--config", "/nonexistent.toml"]));
    assert_told(&ended, 2, &["/nonexistent.toml"]);
    let ended = run_to_end(cairnd(&data).args(["--nfs-listn", "x"]));
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(!data.exists());
}

#[test]
fn the_printed_configuration_is_the_documented_one_and_is_accepted() {
    let directory = directory();
    let data = directory.path().join("data");
    let printed = run_to_end(cairnd(&data).arg("--print-default-config"));
    assert_eq!(printed.code, 0);
    let page = include_str!("../../../docs/operations/configuration.md");
    assert!(page.contains(&format!("```toml\n{}```\n", printed.stdout)));
    let config = directory.path().join("c.toml");
    fs::write(&config, &printed.stdout).unwrap();
    let checked = run_to_end(cairnd(&data).arg("--check-config").arg("--config").arg(&config));
    assert_eq!(
        (checked.code, checked.stdout.as_str(), checked.stderr.as_str()),
        (0, "", "")
    );
    assert!(!data.exists());
}

#[test]
fn a_file_and_a_directory_of_somebody_else_are_refused_and_left_alone() {
    let directory = directory();
    let file = directory.path().join("file");
    fs::write(&file, "precious").unwrap();
    let before = listing(directory.path());
    assert_told(
        &run_to_end(&mut cairnd(&file)),
        3,
        &["is not a directory", "--data-dir"],
    );
    assert_told(
        &run_to_end(&mut cairnd(directory.path())),
        3,
        &["not empty", "\"file\"", "--data-dir"],
    );
    assert_told(
        &run_to_end(&mut cairnd(&directory.path().join("no/such"))),
        3,
        &["No such file", "parent"],
    );
    assert_eq!(listing(directory.path()), before);
}

/// A user who may not read the directory: for root, which may read everything, somebody else.
fn as_stranger(data: &Path, binary: &Path) -> Command {
    let mut command = cairnd_at(binary, data);
    if rustix::process::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    command
}

#[test]
fn an_unreadable_directory_is_refused() {
    let directory = directory();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // The target directory may be out of a stranger's reach.
    let binary = directory.path().join("cairnd");
    fs::copy(env!("CARGO_BIN_EXE_cairnd"), &binary).unwrap();
    let data = directory.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o000)).unwrap();
    let ended = run_to_end(&mut as_stranger(&data, &binary));
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    assert_told(&ended, 3, &["Permission denied", "owner"]);
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let directory = directory();
    fs::write(
        directory.path().join("format"),
        "kind = \"cairn data directory\"\nversion = 2\n",
    )
    .unwrap();
    let ended = run_to_end(&mut cairnd(directory.path()));
    assert_told(&ended, 5, &["format version 2", "up to 1", "or a later one"]);
    assert!(!directory.path().join("metadata").exists());
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let directory = directory();
    let daemon = Daemon::start(directory.path());
    let ended = run_to_end(&mut cairnd(directory.path()));
    assert_told(
        &ended,
        4,
        &[&format!("process {}", daemon.process_id()), "stop that daemon"],
    );
    assert_eq!(daemon.cairn(&["status"]).code, 0);
    assert_eq!(daemon.get("/readyz").0, 200);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_taken_port_is_named_with_the_key_to_change() {
    let directory = directory();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (service, flag, key) in [
        ("nfs", "--nfs-listen", "nfs.listen"),
        ("http", "--http-listen", "http.listen"),
    ] {
        let data = directory.path().join(service);
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairnd"));
        command.arg("--data-dir").arg(&data);
        for other in ["--nfs-listen", "--http-listen"] {
            command.args([
                other,
                if other == flag {
                    address.as_str()
                } else {
                    "127.0.0.1:0"
                },
            ]);
        }
        let ended = run_to_end(&mut command);
        assert_told(&ended, 6, &[&address, "in use", key, flag]);
        assert!(
            !data.join("metadata").exists(),
            "the stores were opened before the ports were bound"
        );
    }
}

#[test]
fn a_file_in_the_place_of_the_socket_is_kept() {
    let directory = directory();
    let file = directory.path().join("precious");
    fs::write(&file, "precious").unwrap();
    let ended = run_to_end(
        cairnd(&directory.path().join("data"))
            .arg("--rpc-socket")
            .arg(&file),
    );
    assert_told(&ended, 6, &["not a socket", "rpc.socket"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn a_damaged_store_is_refused() {
    let directory = directory();
    assert_eq!(Daemon::start(directory.path()).stop(), 0);
    fs::write(directory.path().join("metadata/CURRENT"), "nonsense\n").unwrap();
    let ended = run_to_end(&mut cairnd(directory.path()));
    assert_told(&ended, 7, &["metadata"]);
}

#[test]
fn a_stop_leaves_nothing_behind_and_a_start_finds_everything_again() {
    let directory = directory();
    let daemon = Daemon::start(directory.path());
    assert_eq!(daemon.cairn(&["workspace", "create", "w"]).code, 0);
    daemon.json(&["snapshot", "w", "--tag", "v1"]);
    let before = daemon.state();
    assert_eq!(daemon.stop(), 0);
    let names: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        !names
            .iter()
            .any(|name| name == "cairnd.sock" || name == "endpoints.json"),
        "{names:?}"
    );
    let daemon = Daemon::start(directory.path());
    assert_eq!(daemon.state(), before);
    daemon.signal(Signal::INT);
    assert_eq!(daemon.ended(), 0);
}

#[test]
fn what_was_answered_survives_a_kill() {
    let directory = directory();
    let daemon = Daemon::start(directory.path());
    assert_eq!(daemon.cairn(&["workspace", "create", "w"]).code, 0);
    daemon.json(&["snapshot", "w", "--note", "n"]);
    daemon.json(&["restore", "w", "latest"]);
    daemon.json(&["fork", "w", "latest", "x"]);
    let before = daemon.state();
    daemon.signal(Signal::KILL);
    assert_eq!(daemon.ended(), -9);
    // The socket and the endpoints of the dead daemon lie about.
    let daemon = Daemon::start(directory.path());
    assert_eq!(daemon.state(), before);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let directory = directory();
    let daemon = Daemon::start(directory.path());
    // A request that never ends keeps the stop waiting.
    let mut half = TcpStream::connect(daemon.http).unwrap();
    half.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    daemon.get("/healthz");
    daemon.signal(Signal::TERM);
    daemon.wait_for_line("stopping");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ended(), 8);
    assert_eq!(Daemon::start(directory.path()).stop(), 0);
}
