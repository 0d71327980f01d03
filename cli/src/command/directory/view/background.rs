//! A view in the background: this program once more, as a process of its own session, which serves the view; the one that was called waits until
//! it is mounted, or has failed.
//!
//! The other one has the same arguments, with `--detached` in place of `--background`. What it prints first says that it is mounted; then it lets go of
//! standard output and standard error. Before that its errors are those of the command.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};

use crate::command::Session;
use crate::exit::Exit;
use crate::failure::{DirectoryFailure, DirectoryReason, Failure};

/// Longest line that is read, in bytes.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// Starts the other process, and prints what it has printed.
pub(super) fn start(session: &mut Session) -> Result<(), Failure> {
    let (line, ended) = begin().map_err(|error| {
        let message = format!("a process for the view cannot be started: {error}");
        Failure::from(DirectoryFailure::new(DirectoryReason::FileSystem, message))
    })?;
    match ended {
        None => Ok(session.output.text(&line)?),
        // It has said why.
        Some(status) => {
            let code = status.code().unwrap_or(i32::from(Exit::Internal.code()));
            std::process::exit(code)
        }
    }
}

/// The line that says that it is mounted, or how the process ended.
fn begin() -> io::Result<(String, Option<ExitStatus>)> {
    let arguments = std::env::args_os().skip(1);
    let other = |argument: OsString| match argument.to_str() {
        Some("--background") => OsString::from("--detached"),
        _ => argument,
    };
    let mut child = Command::new(std::env::current_exe()?)
        .args(arguments.map(other))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output.take(LINE_BYTES_MAX)).read_line(&mut line)?;
    }
    match line.ends_with('\n') {
        true => Ok((line, None)),
        false => Ok((line, Some(child.wait()?))),
    }
}

/// Leaves the session of the terminal, so that its Ctrl-C and its end do not reach this process.
pub(super) fn become_own_session() {
    // Fails only for the leader of a group, which has a session of its own already.
    let _ = rustix::process::setsid();
}

/// Leaves the directory and the output of whoever called. Errors: /dev/null, or `/`, cannot be opened.
pub(super) fn let_go() -> io::Result<()> {
    std::env::set_current_dir("/")?;
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}
