//! What each command does: check the arguments, ask the daemon, print the answer.

use std::path::PathBuf;
use std::process::ExitCode;

use cairn_api::Client;
use clap::Parser;

use crate::arguments::{Arguments, Command};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::{connection, progress};

mod archive;
mod diff;
mod follow;
mod mount;
mod operation;
mod outcome;
mod snapshot;
mod status;
mod workspace;

/// The whole process. clap ends it for `--help`, `--version` and a wrong command line.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let json = arguments.json;
    let failure = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => match runtime.block_on(run(arguments)) {
            Ok(()) => return Exit::Success.into(),
            Err(failure) => failure,
        },
        Err(error) => Failure::Usage {
            message: format!("cannot start: {error}"),
            remedy: String::new(),
        },
    };
    eprint!("{}", failure.text(json));
    failure.exit().into()
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments {
        socket,
        json,
        command,
    } = arguments;
    let mut session = Session {
        socket,
        output: Output::new(json),
    };
    let outcome = execute(&mut session, command).await;
    // What was printed before a failure is told all the same.
    let finished = session.output.finish();
    outcome?;
    Ok(finished?)
}

async fn execute(session: &mut Session, command: Command) -> Result<(), Failure> {
    match command {
        Command::Workspace(command) => workspace::run(session, command).await,
        Command::Snapshot(arguments) => snapshot::take(session, arguments).await,
        Command::History { target } => snapshot::history(session, &target).await,
        Command::Diff {
            target,
            from,
            to,
            stat,
        } => diff::run(session, &target, from, to, stat).await,
        Command::Restore { target, reference } => snapshot::restore(session, &target, reference).await,
        Command::Fork {
            target,
            reference,
            new,
        } => snapshot::fork(session, &target, reference, new).await,
        Command::Push(arguments) => archive::push(session, arguments).await,
        Command::Pull(arguments) => archive::pull(session, arguments).await,
        Command::Archive(command) => archive::run(session, command).await,
        Command::Operation(command) => operation::run(session, command).await,
        Command::Mount { target, mount_point } => mount::run(session, &target, mount_point).await,
        Command::Status => status::run(session).await,
    }
}

/// What every command needs.
struct Session {
    socket: Option<PathBuf>,
    output: Output,
}

impl Session {
    /// Connects to the daemon. Arguments are checked before, so that a wrong one is told without a daemon.
    async fn connect(&self) -> Result<Client, Failure> {
        let connecting = connection::connect(self.socket.clone());
        Ok(progress::while_waiting("connecting to cairnd", connecting).await?)
    }
}
