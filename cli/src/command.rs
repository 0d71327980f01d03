//! What each command does: check the arguments, ask the daemon, or the library where it is about a plain directory, print the answer.

use std::path::PathBuf;
use std::process::ExitCode;

use cairn_api::Client;
use cairn_types::WorkspaceName;
use clap::Parser;

use crate::arguments::{Arguments, Command, DirectoryCommand};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::logging::Logging;
use crate::output::Output;
use crate::target::Target;
use crate::{connection, progress, system};

mod archive;
mod diff;
mod directory;
mod follow;
mod labels;
mod mount;
mod operation;
mod outcome;
mod snapshot;
mod status;
mod workspace;

/// Stack of the thread that commands on directories run on, as that of a main thread.
const STACK_BYTES: usize = 8 << 20;

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
        control_directory,
        verbose,
        command,
    } = arguments;
    let logging = Logging { verbose, json };
    // A view may have a file for it.
    if !matches!(command, Command::Directory(DirectoryCommand::View(_))) {
        logging.start()?;
    }
    let mut session = Session {
        socket,
        control_directory,
        logging,
        output: Output::new(json),
    };
    let outcome = execute(&mut session, command).await;
    if tracing::enabled!(tracing::Level::DEBUG) {
        let memory_peak_bytes = system::memory_peak();
        tracing::debug!(memory_peak_bytes, "the command has ended");
    }
    // What was printed before a failure is told all the same.
    let finished = session.output.finish();
    outcome?;
    Ok(finished?)
}

async fn execute(session: &mut Session, command: Command) -> Result<(), Failure> {
    match command {
        Command::Workspace(command) => workspace::run(session, command).await,
        Command::Directory(command) => match labels::of_workspace(&command)? {
            Some(change) => labels::run(session, change).await,
            None if directory::is_for_daemon(&command) => directory::run_by_daemon(session, command).await,
            None => apart(|| directory::run(session, command)),
        },
        Command::Registered(command) => directory::registered(session, command).await,
        Command::Snapshot(mut arguments) => match Target::parse_or_here(arguments.target.take())? {
            Target::Directory(directory) if arguments.directory.daemon => {
                directory::save_by_daemon(session, directory, arguments).await
            }
            Target::Directory(directory) => apart(|| directory::save(session, directory, arguments)),
            Target::Workspace(name) => {
                let key = arguments.directory.key.take();
                for_directories(arguments.directory.given())?;
                snapshot::take(session, &name, arguments, key).await
            }
        },
        Command::History {
            target,
            directory: arguments,
        } => match Target::parse_or_here(target)? {
            Target::Directory(directory) if arguments.daemon => {
                directory::history_by_daemon(session, directory, arguments).await
            }
            Target::Directory(directory) => apart(|| directory::history(session, directory, arguments)),
            Target::Workspace(name) => {
                for_directories(arguments.given())?;
                snapshot::history(session, &name).await
            }
        },
        Command::Diff {
            target,
            from,
            to,
            stat,
            paths,
            daemon,
        } => match Target::parse_or_here(target)? {
            Target::Directory(directory) => {
                let asked = directory::Asked {
                    from,
                    to,
                    stat,
                    paths,
                };
                match daemon {
                    true => directory::diff_by_daemon(session, directory, asked).await,
                    false => apart(|| directory::diff(session, directory, asked)),
                }
            }
            Target::Workspace(name) => {
                for_directories((!paths.is_empty()).then_some("--path"))?;
                for_directories(daemon.then_some("--daemon"))?;
                let from = from.ok_or_else(|| snapshot_missing("diff", &name))?;
                diff::run(session, &name, from, to, stat).await
            }
        },
        Command::Restore {
            target,
            reference,
            directory: arguments,
        } => match Target::parse(target)? {
            Target::Directory(directory) if arguments.daemon => {
                directory::restore_by_daemon(session, directory, reference, arguments).await
            }
            Target::Directory(directory) => {
                apart(|| directory::restore(session, directory, reference.as_deref(), arguments))
            }
            Target::Workspace(name) => {
                for_directories(arguments.given())?;
                let reference = reference.ok_or_else(|| snapshot_missing("restore", &name))?;
                snapshot::restore(session, &name, reference).await
            }
        },
        Command::Fork {
            target,
            reference,
            new,
            new_control_dir,
            daemon,
        } => match Target::parse(target)? {
            Target::Directory(directory) if daemon => {
                let new = PathBuf::from(new);
                directory::fork_by_daemon(session, directory, reference, new, new_control_dir).await
            }
            Target::Directory(directory) => {
                apart(|| directory::fork(session, directory, &reference, new, new_control_dir))
            }
            Target::Workspace(name) => {
                for_directories(new_control_dir.map(|_| "--new-control-dir"))?;
                for_directories(daemon.then_some("--daemon"))?;
                let new = Target::parse(new)?.into_workspace()?;
                snapshot::fork(session, &name, reference, new).await
            }
        },
        Command::Push(arguments) => archive::push(session, arguments).await,
        Command::Pull(arguments) => archive::pull(session, arguments).await,
        Command::Archive(command) => archive::run(session, command).await,
        Command::Operation(command) => operation::run(session, command).await,
        Command::Mount { target, mount_point } => mount::run(session, &target, mount_point).await,
        Command::Status { target, daemon } => match Target::directory(target)? {
            Some(directory) if daemon => directory::status_by_daemon(session, Some(directory)).await,
            Some(directory) => apart(|| directory::status(session, Some(directory))),
            None if !daemon && directory::is_repository_here(session)? => {
                apart(|| directory::status(session, None))
            }
            None => status::run(session).await,
        },
    }
}

/// Runs a command on a directory on a thread of its own: it waits for disks, and for requests to object stores, which the thread of this
/// process's runtime must not. Nothing else is done meanwhile.
fn apart(work: impl FnOnce() -> Result<(), Failure> + Send) -> Result<(), Failure> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("command".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work);
        let thread = thread.map_err(|error| Failure::Usage {
            message: format!("cannot start: {error}"),
            remedy: String::new(),
        })?;
        match thread.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Refuses an option of directories that was given for a workspace.
fn for_directories(option: Option<&'static str>) -> Result<(), Failure> {
    match option {
        None => Ok(()),
        Some(option) => Err(Failure::Usage {
            message: format!("{option} is for directories, and this is a workspace of the daemon"),
            remedy: "leave it out, or write a directory with a slash: ./NAME".to_owned(),
        }),
    }
}

fn snapshot_missing(verb: &str, workspace: &WorkspaceName) -> Failure {
    Failure::Usage {
        message: "name a snapshot of the workspace".to_owned(),
        remedy: format!("for instance: cairn {verb} {workspace} latest"),
    }
}

/// What every command needs.
struct Session {
    socket: Option<PathBuf>,
    /// The control directory of plain directories, if it is not inside them.
    control_directory: Option<PathBuf>,
    /// What is told beside the outcome.
    logging: Logging,
    output: Output,
}

impl Session {
    /// Connects to the daemon. Arguments are checked before, so that a wrong one is told without a daemon.
    async fn connect(&self) -> Result<Client, Failure> {
        let connecting = connection::connect(self.socket.clone());
        Ok(progress::while_waiting("connecting to cairnd", connecting).await?)
    }
}
