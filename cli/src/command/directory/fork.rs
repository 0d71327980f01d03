//! `cairn fork` of a directory: a snapshot becomes a directory of its own, with a repository of its own.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use cairn_api::{ApiError, proto};
use cairn_snapshot::operations::fork::fork;
use cairn_snapshot::repository::Labels;
use cairn_snapshot::repository::text::escape;
use serde::Serialize;

use super::daemon::Asked;
use super::registered::future;
use super::{open, tools};
use crate::command::Session;
use crate::command::snapshot::short;
use crate::failure::Failure;
use crate::json::directory::{DirectorySnapshot, Losses, path};
use crate::json::shell_word;
use crate::watch::Watch;
use crate::{system, text};

#[derive(Serialize)]
struct Forked {
    repository: String,
    workspace: String,
    control_directory: String,
    snapshot: DirectorySnapshot,
    entries: u64,
    bytes: u64,
    losses: Losses,
    /// Of what, where, and how a person would name it.
    #[serde(skip)]
    shown: Shown,
}

struct Shown {
    /// First digits of the snapshot.
    of: String,
    from: String,
    new: String,
}

pub(in crate::command) fn run(
    session: &mut Session,
    directory: Option<PathBuf>,
    reference: &str,
    new: OsString,
    new_control: Option<PathBuf>,
) -> Result<(), Failure> {
    let opened = open(session, directory)?;
    let id = opened.resolve(Some(reference))?;
    let target = PathBuf::from(new);
    let watch = Watch::start(Some("writing"))?;
    let forked = fork(
        &opened.repository,
        &tools(),
        id,
        &target,
        new_control.as_deref(),
        watch.progress(),
    )?;
    drop(watch);
    let told = Forked {
        repository: forked.repository.to_string(),
        workspace: path(&forked.workspace),
        control_directory: path(&forked.control),
        snapshot: DirectorySnapshot::new(&forked.first, &Labels::first(&forked.first)),
        entries: forked.written.entries,
        bytes: forked.written.bytes,
        losses: Losses::from(&forked.written.losses),
        shown: Shown {
            of: text::short_id(id),
            from: opened.shown(),
            new: shell_word(&target.to_string_lossy()),
        },
    };
    session.output.put(&told, || told.text())?;
    Ok(())
}

/// The same by the daemon.
pub(in crate::command) async fn by_daemon(
    session: &mut Session,
    directory: Option<PathBuf>,
    reference: String,
    new: PathBuf,
    new_control: Option<PathBuf>,
) -> Result<(), Failure> {
    let mut asked = Asked::connect(session, directory).await?;
    let bytes = |path: PathBuf| path.as_os_str().as_bytes().to_vec();
    let control = new_control.as_deref().map(future).transpose()?;
    let request = proto::ForkDirectoryRequest {
        repository: Some(asked.reference()),
        reference,
        workspace: bytes(future(&new)?),
        control_directory: control.map(bytes),
        actor: Some(system::actor()),
    };
    let begun = asked.client.directories.fork(request).await?.into_inner();
    let ended = asked.follow(session, begun.operation).await?;
    let of = ended.reference.clone();
    let Some(proto::operation::Result::DirectoryForked(result)) = ended.result else {
        return Err(ApiError::missing_field("the result").into());
    };
    let snapshot = result
        .snapshot
        .ok_or_else(|| ApiError::missing_field("the snapshot"))?;
    let told = Forked {
        repository: result.repository,
        workspace: escape(&result.workspace),
        control_directory: escape(&result.control_directory),
        snapshot: DirectorySnapshot::try_from(snapshot)?,
        entries: result.entries,
        bytes: result.bytes,
        losses: Losses::from(result.losses.unwrap_or_default()),
        shown: Shown {
            of: short(&of).to_owned(),
            from: asked.shown(),
            new: shell_word(&new.to_string_lossy()),
        },
    };
    session.output.put(&told, || told.text())?;
    Ok(())
}

impl Forked {
    fn text(&self) -> String {
        let lines: String = self
            .losses
            .lines()
            .iter()
            .map(|line| format!("  {line}\n"))
            .collect();
        let Shown { of, from, new } = &self.shown;
        format!(
            "made {new} from snapshot {of} of {from}: {} entries, {}; its first snapshot is {}\n{lines}",
            self.entries,
            text::size(self.bytes),
            short(&self.snapshot.id)
        )
    }
}
