//! What `cairn` does without a daemon: help, wrong command lines, wrong names, nobody to talk to.

use std::process::{Command, Output, Stdio};

fn cairn(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cairn"))
        .args(arguments)
        .env("CAIRN_SOCKET", "/nonexistent/cairnd.sock")
        .stdin(Stdio::null())
        .output()
        .expect("cairn can be executed")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_has_the_exit_codes() {
    for flag in ["--help", "-h"] {
        let output = cairn(&[flag]);
        assert_eq!(output.status.code(), Some(0));
        let help = text(&output.stdout);
        assert!(
            help.contains("Exit codes:") && help.contains("  6  no daemon answers"),
            "{help}"
        );
    }
}

#[test]
fn a_wrong_command_line_is_code_2() {
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["restore"],
        &["restore", ".", "--discard", "--require-clean"],
        &["restore", ".", "--to", "x", "--plan"],
        &["tag", ".", "v1"],
        &["unpin", ".", "v1"],
        &["verify", ".", "v1", "--all"],
        &["workspace", "create", "w", "--mode", "999"],
        &["fork", "w", "v1"],
        &["push", "w"],
        &["pull", "file:///s", "w", "--into-existing", "--any-port"],
        &["archive", "delete", "file:///s"],
        &["archive", "verify", "file:///s", "--limit-rate", "fast"],
        &["archive", "reclaim", "file:///s", "--grace", "24"],
        &["archive", "reclaim", "file:///s", "--rewrite-below", "101"],
        &["archive", "show", "file:///s", "--sizes"],
    ] {
        let output = cairn(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn wrong_names_need_no_daemon_to_be_told() {
    for arguments in [
        &["workspace", "create", "a/b"][..],
        &["workspace", "show", "../w"],
        &["preview", "w"],
        &["diff", "w", "a b"],
        &["restore", "w", "-"],
        &["fork", "w", "v1", ".."],
        &["snapshot", "w", "--tag", "latest"],
        &["workspace", "create", "w", "--allow", "everybody"],
        &["push", "../w", "file:///s"],
        &["push", "w@", "file:///s"],
        &["push", "w@a b", "file:///s"],
        &["pull", "file:///s@-", "w"],
        &["pull", "file:///s", "a/b"],
        &["archive", "show", "file:///s", "a b"],
        &["archive", "verify", "file:///s", "a b"],
        &["archive", "delete", "file:///s", "a b", "--yes"],
    ] {
        let output = cairn(arguments);
        assert_eq!(
            output.status.code(),
            Some(5),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
        assert!(text(&output.stderr).starts_with("cairn: "));
    }
}

#[test]
fn without_a_daemon_every_command_says_which_socket() {
    for arguments in [
        &["workspace", "list"][..],
        &["workspace", "create", "w"],
        &["workspace", "show", "w"],
        &["workspace", "delete", "w", "--yes"],
        &["snapshot", "w"],
        &["history", "w"],
        &["diff", "w", "v1"],
        &["restore", "w", "v1"],
        &["fork", "w", "v1", "x"],
        &["mount-command", "w"],
        &["push", "w", "file:///s"],
        &["pull", "file:///s", "w"],
        &["archive", "list", "file:///s"],
        &["archive", "show", "file:///s"],
        &["archive", "verify", "file:///s"],
        &["archive", "delete", "file:///s", "v1", "--yes"],
        &["archive", "reclaim", "file:///s"],
        &["archive", "take-over", "file:///s", "--yes"],
        &["archive", "init", "file:///s"],
        &["archive", "rotate-key", "file:///s", "--new-key-file", "/k"],
        &["operation", "list"],
        &["operation", "show", "9f3e"],
        &["operation", "cancel", "9f3e"],
        &["operation", "watch", "9f3e"],
        &["status"],
    ] {
        let output = cairn(arguments);
        assert_eq!(output.status.code(), Some(6), "{arguments:?}");
        let told = text(&output.stderr);
        assert!(
            told.contains("/nonexistent/cairnd.sock") && told.contains("start the daemon"),
            "{told}"
        );
        let told = text(&cairn(&[arguments, &["--json"]].concat()).stderr);
        assert!(
            told.starts_with("{\"error\":{\"reason\":\"DAEMON_UNREACHABLE\","),
            "{told}"
        );
    }
}

#[test]
fn a_deletion_is_not_done_without_being_asked_for_twice() {
    let output = cairn(&["workspace", "delete", "w"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--yes"));
}
