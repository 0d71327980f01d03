//! `cairn directory`: which plain directories the daemon looks after.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use cairn_api::{ApiError, proto};
use serde::Serialize;

use super::canonical;
use super::daemon::reference;
use crate::arguments::RegisteredCommand;
use crate::command::Session;
use crate::failure::Failure;
use crate::json::directory::{Registered, Status};
use crate::progress::while_waiting;
use crate::target::Target;
use crate::text;

#[derive(Serialize)]
struct Registering {
    directory: Registered,
    registered: bool,
    initialized: bool,
}

#[derive(Serialize)]
struct Unregistered {
    directory: Registered,
}

#[derive(Serialize)]
struct Listed {
    directories: Vec<Registered>,
}

#[derive(Serialize)]
struct Shown {
    directory: Registered,
    status: Option<Status>,
}

pub(in crate::command) async fn run(
    session: &mut Session,
    command: RegisteredCommand,
) -> Result<(), Failure> {
    match command {
        RegisteredCommand::Register { target, init } => register(session, target, init).await,
        RegisteredCommand::Unregister { target } => unregister(session, target).await,
        RegisteredCommand::List => list(session).await,
        RegisteredCommand::Show { target, changes } => show(session, target, changes).await,
    }
}

/// The directory that is named, or the repository by its identity.
fn named(target: Option<OsString>) -> Result<proto::DirectoryRef, Failure> {
    if let Some(id) = target.as_deref().and_then(|target| target.to_str())
        && id.len() == 32
        && id.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        let by = proto::directory_ref::By::Repository(id.to_owned());
        return Ok(proto::DirectoryRef { by: Some(by) });
    }
    let directory = Target::directory(target)?;
    // One that is gone can be unregistered: its path is taken as it is written.
    match reference(directory.as_deref()) {
        Ok((reference, _)) => Ok(reference),
        Err(error) => match directory.filter(|directory| directory.is_absolute()) {
            Some(directory) => {
                let by = proto::directory_ref::By::Path(directory.as_os_str().as_bytes().to_vec());
                Ok(proto::DirectoryRef { by: Some(by) })
            }
            None => Err(error),
        },
    }
}

fn received(directory: Option<proto::RegisteredDirectory>) -> Result<Registered, ApiError> {
    Registered::try_from(directory.ok_or_else(|| ApiError::missing_field("the directory"))?)
}

/// A path as it will be found: the directory that it is in exists, itself it need not.
pub(super) fn future(path: &std::path::Path) -> Result<PathBuf, Failure> {
    match (path.symlink_metadata(), path.parent(), path.file_name()) {
        (Err(_), Some(parent), Some(name)) => {
            let parent = match parent.as_os_str().is_empty() {
                true => std::path::Path::new("."),
                false => parent,
            };
            Ok(canonical(parent)?.join(name))
        }
        _ => canonical(path),
    }
}

async fn register(session: &mut Session, target: OsString, init: bool) -> Result<(), Failure> {
    let directory = Target::directory(Some(target))?;
    let workspace = canonical(&directory.unwrap_or_else(|| PathBuf::from(".")))?;
    let control = session.control_directory.as_deref().map(future).transpose()?;
    let mut client = session.connect().await?;
    let asking = client.directories.register(proto::RegisterDirectoryRequest {
        workspace: workspace.as_os_str().as_bytes().to_vec(),
        control_directory: control.map(|control| control.as_os_str().as_bytes().to_vec()),
        init,
    });
    let answer = while_waiting("registering", asking).await?.into_inner();
    let told = Registering {
        directory: received(answer.directory)?,
        registered: answer.registered,
        initialized: answer.initialized,
    };
    session.output.put(&told, || {
        let at = &told.directory.workspace;
        let init = match told.initialized {
            true => format!("{at} is under version control now\n"),
            false => String::new(),
        };
        init + &match told.registered {
            true => format!("the daemon looks after {at} from now on\n"),
            false => format!("the daemon looks after {at} already\n"),
        }
    })?;
    Ok(())
}

async fn unregister(session: &mut Session, target: OsString) -> Result<(), Failure> {
    let repository = named(Some(target))?;
    let mut client = session.connect().await?;
    let asking = client.directories.unregister(proto::UnregisterDirectoryRequest {
        repository: Some(repository),
    });
    let answer = while_waiting("unregistering", asking).await?.into_inner();
    let told = Unregistered {
        directory: received(answer.directory)?,
    };
    session.output.put(&told, || {
        format!(
            "the daemon looks after {} no more; its snapshots stay as they are\n",
            told.directory.workspace
        )
    })?;
    Ok(())
}

async fn list(session: &mut Session) -> Result<(), Failure> {
    let mut client = session.connect().await?;
    let asking = client.directories.list(proto::ListDirectoriesRequest {});
    let answer = while_waiting("listing directories", asking).await?.into_inner();
    let directories = answer.directories.into_iter().map(Registered::try_from);
    let told = Listed {
        directories: directories.collect::<Result<_, _>>()?,
    };
    session.output.put(&told, || list_text(&told.directories))?;
    Ok(())
}

fn list_text(directories: &[Registered]) -> String {
    if directories.is_empty() {
        return "the daemon looks after no directory; to let it: cairn directory register DIRECTORY\n"
            .to_owned();
    }
    let row = |directory: &Registered| {
        let next = directory
            .schedules
            .iter()
            .filter_map(|schedule| schedule.next_due.clone())
            .min();
        vec![
            text::line(&directory.workspace),
            directory.condition.to_owned(),
            directory.schedules.len().to_string(),
            next.unwrap_or_else(|| "-".to_owned()),
            directory.operations.len().to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = directories.iter().map(row).collect();
    text::table(
        &["DIRECTORY", "STATE", ">SCHEDULES", "NEXT", ">OPERATIONS"],
        &rows,
    )
}

async fn show(session: &mut Session, target: Option<OsString>, changes: bool) -> Result<(), Failure> {
    let repository = named(target)?;
    let mut client = session.connect().await?;
    let asking = client.directories.get(proto::GetDirectoryRequest {
        repository: Some(repository),
        changes,
    });
    let answer = while_waiting("asking for the directory", asking)
        .await?
        .into_inner();
    let told = Shown {
        directory: received(answer.directory)?,
        status: answer.status.map(Status::try_from).transpose()?,
    };
    session.output.put(&told, || show_text(&told))?;
    Ok(())
}

fn show_text(told: &Shown) -> String {
    let Shown { directory, status } = told;
    let mut shown = format!(
        "{}: {}\n",
        text::line(&directory.workspace),
        match directory.message.is_empty() {
            true => directory.condition.to_owned(),
            false => format!("{}: {}", directory.condition, text::line(&directory.message)),
        }
    );
    if let Some(status) = status {
        shown.push_str(&format!(
            "  {} snapshots: {} verified, {} not read yet, {} damaged\n",
            status.snapshots, status.verified, status.unverified, status.damaged
        ));
        for id in &status.damaged_snapshots {
            shown.push_str(&format!("    {id} is damaged: cairn verify tells what of it\n"));
        }
        if let Some(id) = &status.verifying {
            shown.push_str(&format!("  snapshot {id} is being verified\n"));
        }
        if let Some(changes) = status.changes {
            shown.push_str(&format!("  {changes} changes that no snapshot has\n"));
        }
    }
    for schedule in &directory.schedules {
        let next = schedule.next_due.as_deref().unwrap_or("never");
        shown.push_str(&format!(
            "  schedule {}: next {next}; {} saves, {} failed, {} missed\n",
            schedule.name, schedule.runs, schedule.failures, schedule.missed
        ));
        if !schedule.last_failure.is_empty() {
            shown.push_str(&format!(
                "    the last one failed: {}\n",
                text::line(&schedule.last_failure)
            ));
        }
    }
    for id in &directory.operations {
        shown.push_str(&format!(
            "  operation {id} works on it: cairn operation watch {id}\n"
        ));
    }
    shown
}
