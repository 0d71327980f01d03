//! `cairn fork` of a directory: a snapshot becomes a directory of its own, with a repository of its own.

use std::ffi::OsString;
use std::path::PathBuf;

use cairn_snapshot::operations::fork::fork;
use cairn_snapshot::repository::{Labels, Repository};
use serde::Serialize;

use super::{open, tools};
use crate::command::Session;
use crate::failure::Failure;
use crate::json::directory::{DirectorySnapshot, Losses, path};
use crate::json::shell_word;
use crate::text;
use crate::watch::Watch;

#[derive(Serialize)]
struct Forked {
    repository: String,
    workspace: String,
    control_directory: String,
    snapshot: DirectorySnapshot,
    entries: u64,
    bytes: u64,
    losses: Losses,
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
    let repository: &Repository = &forked.repository;
    let first = repository.descriptor(forked.first)?;
    let told = Forked {
        repository: repository.identity().id.to_string(),
        workspace: path(repository.workspace_path()),
        control_directory: path(repository.control().path()),
        snapshot: DirectorySnapshot::new(&first, &Labels::first(&first)),
        entries: forked.written.entries,
        bytes: forked.written.bytes,
        losses: Losses::from(&forked.written.losses),
    };
    let lines: String = told
        .losses
        .lines()
        .iter()
        .map(|line| format!("  {line}\n"))
        .collect();
    session.output.put(&told, || {
        format!(
            "made {} from snapshot {} of {}: {} entries, {}; its first snapshot is {}\n{lines}",
            shell_word(&target.to_string_lossy()),
            text::short_id(id),
            opened.shown(),
            forked.written.entries,
            text::size(forked.written.bytes),
            text::short_id(forked.first)
        )
    })?;
    Ok(())
}
