//! `cairn status` of a directory: where its content comes from, what has changed since, and what a save would do.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cairn_snapshot::directory::RelativePath;
use cairn_snapshot::repository::{Area, Intent, LeaseRecord, PartSource, State};
use cairn_types::SnapshotId;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::diff::{Told, live};
use super::init::{engine_text, probe};
use super::{Opened, engine, open};
use crate::command::Session;
use crate::command::diff::line;
use crate::failure::{Failure, chain};
use crate::json::directory::{DamagedSnapshot, DirectorySnapshot, Engine, Holder, damaged, path};
use crate::json::{self, DiffSummary};
use crate::text;
use crate::watch::Watch;

/// Changes that are shown.
const CHANGES_SHOWN_MAX: usize = 20;

#[derive(Serialize)]
struct Status {
    repository: String,
    workspace: String,
    control_directory: String,
    snapshots: usize,
    damaged: Vec<DamagedSnapshot>,
    newest: Option<DirectorySnapshot>,
    head: Option<DirectorySnapshot>,
    parts: Vec<Part>,
    changes: Option<Changes>,
    engine: Engine,
    unfinished: Vec<String>,
    in_use: Option<Holder>,
}

/// A path whose content comes from another snapshot.
#[derive(Serialize)]
struct Part {
    path: String,
    snapshot: String,
}

/// What has changed since head.
#[derive(Default, Serialize)]
struct Changes {
    total: u64,
    added: u64,
    removed: u64,
    modified: u64,
    retyped: u64,
    attributes: u64,
    directory_times: u64,
    first: Vec<json::Difference>,
    #[serde(skip)]
    lines: Vec<String>,
}

pub(in crate::command) fn run(session: &mut Session, directory: Option<PathBuf>) -> Result<(), Failure> {
    let opened = open(session, directory)?;
    let repository = &opened.repository;
    let state = repository.state()?;
    let listing = repository.list()?;
    let in_use = repository.lease_holder()?;
    let changes = state
        .head
        .map(|head| changes(&opened, &state, head))
        .transpose()?;
    let wished = engine(None, None, repository.config()?.engine())?;
    // Who works in the repository removes what is probed with.
    let choice = match &in_use {
        None => probe(repository, wished).map_err(|error| chain(&error)),
        Some(_) => Err("not looked for while somebody works in the repository".to_owned()),
    };
    let unfinished = match &in_use {
        None => unfinished(&opened)?,
        Some(_) => Vec::new(),
    };
    let snapshot = |id: Option<SnapshotId>| id.map(|id| opened.snapshot(id)).transpose();
    let status = Status {
        repository: repository.identity().id.to_string(),
        workspace: path(repository.workspace_path()),
        control_directory: path(repository.control().path()),
        snapshots: listing.snapshots.len(),
        damaged: damaged(&listing),
        newest: snapshot(state.newest)?,
        head: snapshot(state.head)?,
        parts: state
            .parts
            .iter()
            .map(|part| Part {
                path: cairn_snapshot::repository::text::escape(part.path.as_bytes()),
                snapshot: part.snapshot.to_string(),
            })
            .collect(),
        changes,
        engine: match &choice {
            Ok(choice) => Engine::of_choice(choice),
            Err(error) => Engine::unknown(error.clone()),
        },
        unfinished,
        in_use: in_use.as_ref().map(Holder::from),
    };
    let engine_shown = choice
        .as_ref()
        .map_or_else(|error| format!("unknown: {error}"), engine_text);
    let text = status_text(&opened, &state, &status, &engine_shown, in_use.as_ref());
    session.output.put(&status, || text)?;
    Ok(())
}

/// Compares the directory with what its content comes from: head, but for the parts that were restored from other snapshots since.
fn changes(opened: &Opened, state: &State, head: SnapshotId) -> Result<Changes, Failure> {
    let watch = Watch::start(Some("comparing"))?;
    let mut changes = Changes::default();
    let mut summary = DiffSummary::default();
    let exists = |part: &&PartSource| opened.repository.descriptor(part.snapshot).is_ok();
    let parts: Vec<&PartSource> = state.parts.iter().filter(exists).collect();
    // The part that was restored last counts.
    let source = |path: &[u8]| {
        let path = RelativePath::new(path).unwrap_or_default();
        let part = parts.iter().rev().find(|part| path.is_within(&part.path));
        part.map_or(head, |part| part.snapshot)
    };
    let mut sources: BTreeMap<SnapshotId, Vec<RelativePath>> = BTreeMap::new();
    for part in parts.iter().filter(|part| part.snapshot != head) {
        sources.entry(part.snapshot).or_default().push(part.path.clone());
    }
    let all = std::iter::once((head, Vec::new())).chain(sources);
    for (from, paths) in all {
        live(opened, from, &paths, watch.progress(), |told| {
            match told {
                Told::DirectoryTime(path) if source(path.as_bytes()) == from => changes.directory_times += 1,
                Told::Difference(difference) if source(&difference.path) == from => {
                    summary.count(&difference);
                    if changes.first.len() < CHANGES_SHOWN_MAX {
                        changes.lines.push(line(&difference));
                        changes.first.push(json::Difference::of_directory(difference));
                    }
                }
                Told::DirectoryTime(_) | Told::Difference(_) => {}
            }
            Ok(())
        })?;
    }
    changes.total = summary.total();
    changes.added = summary.added;
    changes.removed = summary.removed;
    changes.modified = summary.modified;
    changes.retyped = summary.retyped;
    changes.attributes = summary.attributes;
    Ok(changes)
}

/// What an interrupted command has left, for the next one to put right. Nobody works in the repository.
fn unfinished(opened: &Opened) -> Result<Vec<String>, Failure> {
    let journal = opened.repository.journal()?;
    let mut unfinished: Vec<String> = journal
        .iter()
        .map(|file| match file.record.as_ref().map(|record| &record.intent) {
            Ok(Intent::Save { .. }) => "a save was interrupted".to_owned(),
            Ok(Intent::Restore { target, .. }) => {
                format!("a restore of {} was interrupted", text::short_id(*target))
            }
            Ok(Intent::Fork { .. }) => "a fork was interrupted".to_owned(),
            Ok(Intent::Collect { .. }) => "a removal of snapshots was interrupted".to_owned(),
            Err(error) => chain(error),
        })
        .collect();
    let control = opened.repository.control();
    let staged = control.list(Area::Staging)?.len();
    if staged > 0 {
        unfinished.push(format!("captures that were left in the staging area: {staged}"));
    }
    Ok(unfinished)
}

fn status_text(
    opened: &Opened,
    state: &State,
    status: &Status,
    engine: &str,
    in_use: Option<&LeaseRecord>,
) -> String {
    let zone = TimeZone::system();
    let snapshot = |id: SnapshotId| {
        let Ok(descriptor) = opened.repository.descriptor(id) else {
            return text::short_id(id);
        };
        let taken = text::local_time(descriptor.created, &zone);
        let note = text::line(&opened.labels(&descriptor).note);
        let note = if note.is_empty() {
            note
        } else {
            format!("  {note}")
        };
        format!("{} of {taken}{note}", text::short_id(id))
    };
    let mut lines = vec![
        ("directory", opened.shown()),
        ("control", text::line(&status.control_directory)),
        ("snapshots", status.snapshots.to_string()),
    ];
    for damaged in &status.damaged {
        lines.push(("damaged", damaged.text()));
    }
    match (state.newest, state.head) {
        (Some(newest), Some(head)) if newest == head => {
            lines.push(("newest", format!("{}, and head", snapshot(newest))))
        }
        (newest, head) => {
            lines.extend(newest.map(|newest| ("newest", snapshot(newest))));
            lines.extend(head.map(|head| ("head", format!("{}: the content comes from it", snapshot(head)))));
        }
    }
    for part in &state.parts {
        let from = text::short_id(part.snapshot);
        lines.push((
            "part",
            format!("{} comes from {from}", text::path(part.path.as_bytes())),
        ));
    }
    lines.push(("changes", changes_text(opened, status.changes.as_ref())));
    lines.push(("engine", engine.to_owned()));
    for unfinished in &status.unfinished {
        lines.push((
            "unfinished",
            format!("{unfinished}; the next command that changes something puts it right"),
        ));
    }
    if let Some(record) = in_use {
        let since = text::local_time(record.acquired, &zone);
        lines.push((
            "in use",
            format!("{} by {} since {since}", record.operation, record.holder),
        ));
    }
    lines
        .iter()
        .map(|(name, value)| format!("{name:<11} {value}\n"))
        .collect()
}

fn changes_text(opened: &Opened, changes: Option<&Changes>) -> String {
    let Some(changes) = changes else {
        return format!(
            "nothing is saved yet; to take a snapshot: cairn snapshot {}",
            opened.named
        );
    };
    let times = match changes.directory_times {
        0 => String::new(),
        times => format!("; directories that have another time: {times}"),
    };
    if changes.total == 0 {
        return format!("none{times}");
    }
    let mut told = format!(
        "{}: {} added, {} deleted, {} with other data, {} of another type, {} with other properties{times}",
        changes.total, changes.added, changes.removed, changes.modified, changes.retyped, changes.attributes
    );
    for line in &changes.lines {
        told.push_str(&format!("\n  {}", line.trim_end_matches('\n')));
    }
    let more = changes.total.saturating_sub(changes.lines.len() as u64);
    if more > 0 {
        told.push_str(&format!("\n  and {more} more: cairn diff {}", opened.named));
    }
    told
}
