//! From the command line to what a command does, and from what came of it to an exit code.

mod explain;
mod list;
mod restore;
mod snapshot;
mod view;

use std::process::ExitCode;

use clap::Parser;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use crate::arguments::{Arguments, Command, Connection};
use crate::cluster::Cluster;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::system::Cancellation;
use crate::wait::Ended;

/// The process.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let json = arguments.json;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(arguments)),
        Err(error) => Err(Failure::told(
            Exit::Internal,
            "INTERNAL",
            format!("cannot start: {error}"),
            "",
        )),
    };
    match outcome {
        Ok(()) => Exit::Success.into(),
        Err(failure) => {
            eprint!("{}", failure.text(json));
            failure.exit()
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut session = Session {
        output: Output::new(arguments.json),
        connection: arguments.connection,
    };
    let outcome = execute(&mut session, arguments.command).await;
    // What was printed before a failure is told all the same.
    let finished = session.output.finish();
    outcome?;
    Ok(finished?)
}

/// Boxed: the futures of commands hold whole objects.
fn execute(session: &mut Session, command: Command) -> LocalBoxFuture<'_, Result<(), Failure>> {
    match command {
        Command::List {
            workspace,
            all_namespaces,
        } => list::run(session, workspace, all_namespaces).boxed_local(),
        Command::Snapshot(arguments) => snapshot::run(session, arguments).boxed_local(),
        Command::Restore(arguments) => restore::run(session, arguments).boxed_local(),
        Command::View(arguments) => view::run(session, arguments).boxed_local(),
        Command::Explain { resource, name } => explain::run(session, resource, name).boxed_local(),
    }
}

/// What every command needs.
struct Session {
    output: Output,
    connection: Connection,
}

impl Session {
    async fn cluster(&self) -> Result<Cluster, Failure> {
        Cluster::of(&self.connection).await
    }
}

/// The end of something that was waited for. `cancelled` says how things stand when a signal came.
fn ended<T>(result: Result<T, Ended>, cancelled: impl FnOnce() -> String) -> Result<T, Failure> {
    result.map_err(|ended| match ended {
        Ended::Failed(failure) => failure,
        Ended::Cancelled => Failure::told(Exit::Cancelled, "CANCELLED", cancelled(), ""),
    })
}

/// Does `work` unless a signal comes. A request that is on its way may have an effect then, which `cancelled` says.
async fn unless_cancelled<T>(
    cancellation: &mut Cancellation,
    work: impl Future<Output = Result<T, Failure>>,
    cancelled: impl FnOnce() -> String,
) -> Result<T, Failure> {
    tokio::select! {
        result = work => result,
        () = cancellation.wait() => Err(Failure::told(Exit::Cancelled, "CANCELLED", cancelled(), "")),
    }
}
