//! `cairn status` of a directory: where its content comes from, what has changed since, and what a save would do.

use std::path::PathBuf;

use cairn_api::{ApiError, convert, proto};
use cairn_snapshot::operations::status::{self, Unfinished, status};
use cairn_snapshot::repository::Snapshot;
use cairn_snapshot::repository::text::escape;
use cairn_types::{SnapshotId, Timestamp};
use jiff::tz::TimeZone;
use serde::Serialize;

use super::daemon::Asked;
use super::diff::message;
use super::init::engine_text;
use super::{engine, engine_variable, open, tools};
use crate::command::Session;
use crate::command::diff::line;
use crate::failure::Failure;
use crate::json::directory::{DamagedSnapshot, DirectorySnapshot, Engine, Holder, damaged, path};
use crate::json::{self, DiffSummary};
use crate::progress::while_waiting;
use crate::text;
use crate::watch::Watch;

#[derive(Serialize)]
struct Status {
    repository: String,
    workspace: String,
    control_directory: String,
    snapshots: u64,
    damaged: Vec<DamagedSnapshot>,
    newest: Option<DirectorySnapshot>,
    head: Option<DirectorySnapshot>,
    parts: Vec<Part>,
    changes: Option<Changes>,
    engine: Engine,
    unfinished: Vec<String>,
    in_use: Option<Holder>,
    /// How a person would name it.
    #[serde(skip)]
    named: String,
    /// The workspace, the newest snapshot and head as people see them, and the engine.
    #[serde(skip)]
    shown: Shown,
}

/// What people see, where it is not what programs do.
struct Shown {
    workspace: String,
    newest: Option<String>,
    head: Option<String>,
    engine: String,
}

/// A path whose content comes from another snapshot.
#[derive(Serialize)]
struct Part {
    path: String,
    snapshot: String,
    #[serde(skip)]
    shown: String,
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

impl From<proto::DirectoryChanges> for Changes {
    fn from(message: proto::DirectoryChanges) -> Self {
        let summary = DiffSummary {
            added: message.added,
            removed: message.removed,
            modified: message.modified,
            retyped: message.retyped,
            attributes: message.attributes,
            ..DiffSummary::default()
        };
        Changes {
            total: summary.total(),
            added: message.added,
            removed: message.removed,
            modified: message.modified,
            retyped: message.retyped,
            attributes: message.attributes,
            directory_times: message.directory_times,
            lines: message.first.iter().map(line).collect(),
            first: message
                .first
                .into_iter()
                .map(json::Difference::of_directory)
                .collect(),
        }
    }
}

impl From<&status::Changes> for Changes {
    fn from(changes: &status::Changes) -> Self {
        Changes::from(proto::DirectoryChanges {
            added: changes.added,
            removed: changes.removed,
            modified: changes.modified,
            retyped: changes.retyped,
            attributes: changes.attributes,
            directory_times: changes.directory_times,
            first: changes.first.iter().map(message).collect(),
        })
    }
}

/// A snapshot in a line.
fn snapshot_text(id: SnapshotId, created: Timestamp, note: &str) -> String {
    let taken = text::local_time(created, &TimeZone::system());
    let note = match note.is_empty() {
        true => String::new(),
        false => format!("  {}", text::line(note)),
    };
    format!("{} of {taken}{note}", text::short_id(id))
}

fn unfinished_text(unfinished: &Unfinished) -> String {
    match unfinished {
        Unfinished::Save => "a save was interrupted".to_owned(),
        Unfinished::Restore(id) => format!("a restore of {} was interrupted", text::short_id(*id)),
        Unfinished::Fork => "a fork was interrupted".to_owned(),
        Unfinished::Collect => "a removal of snapshots was interrupted".to_owned(),
        Unfinished::Unreadable(error) => text::line(error),
        Unfinished::Captures(count) => format!("captures that were left in the staging area: {count}"),
    }
}

pub(in crate::command) fn run(session: &mut Session, directory: Option<PathBuf>) -> Result<(), Failure> {
    let opened = open(session, directory)?;
    let repository = &opened.repository;
    let wished = engine(None, None, repository.config()?.engine())?;
    let watch = Watch::start(Some("comparing"))?;
    let found = status(repository, &tools(), wished, watch.progress())?;
    drop(watch);
    let line_of = |snapshot: &Snapshot| {
        let descriptor = &snapshot.descriptor;
        snapshot_text(descriptor.id, descriptor.created, &snapshot.labels.note)
    };
    let part = |part: &cairn_snapshot::repository::PartSource| Part {
        path: escape(part.path.as_bytes()),
        snapshot: part.snapshot.to_string(),
        shown: text::path(part.path.as_bytes()),
    };
    let told = Status {
        repository: repository.identity().id.to_string(),
        workspace: path(repository.workspace_path()),
        control_directory: path(repository.control().path()),
        snapshots: found.snapshots as u64,
        damaged: damaged(&found.damaged),
        newest: found.newest.as_ref().map(DirectorySnapshot::from),
        head: found.head().map(DirectorySnapshot::from),
        parts: found.state.parts.iter().map(part).collect(),
        changes: found.changes.as_ref().map(Changes::from),
        engine: match &found.engine {
            Ok(choice) => Engine::of_choice(choice),
            Err(error) => Engine::unknown(text::line(error)),
        },
        unfinished: found.unfinished.iter().map(unfinished_text).collect(),
        in_use: found.in_use.as_ref().map(Holder::from),
        named: opened.named.clone(),
        shown: Shown {
            workspace: opened.shown(),
            newest: found.newest.as_ref().map(line_of),
            head: found.head().map(line_of),
            engine: match &found.engine {
                Ok(choice) => engine_text(choice),
                Err(error) => format!("unknown: {}", text::line(error)),
            },
        },
    };
    session.output.put(&told, || told.text())?;
    Ok(())
}

/// The same by the daemon.
pub(in crate::command) async fn by_daemon(
    session: &mut Session,
    directory: Option<PathBuf>,
) -> Result<(), Failure> {
    let mut asked = Asked::connect(session, directory).await?;
    let request = proto::InspectDirectoryRequest {
        repository: Some(asked.reference()),
        engine: engine_variable(),
    };
    let asking = asked.client.directories.inspect(request);
    let found = while_waiting("comparing", asking).await?.into_inner();
    let line_of = |message: &proto::DirectorySnapshot| {
        let id = SnapshotId::parse(&message.id);
        let id = id.ok_or_else(|| ApiError::missing_field("the identity of a snapshot"))?;
        let created = convert::timestamp(message.created.as_ref())?;
        Ok::<_, ApiError>(snapshot_text(id, created, &message.note))
    };
    let part = |part: proto::DirectoryPart| Part {
        path: escape(&part.path),
        snapshot: part.snapshot,
        shown: text::path(&part.path),
    };
    let unfinished = found.unfinished.iter().filter_map(unfinished_of);
    let (engine, engine_shown) = match found.engine {
        Some(engine) => {
            let engine = Engine::of_message(engine);
            let shown = engine.text();
            (engine, shown)
        }
        None => {
            let error = text::line(&found.engine_error);
            (Engine::unknown(error.clone()), format!("unknown: {error}"))
        }
    };
    let told = Status {
        repository: asked.directory.repository.clone(),
        workspace: escape(&asked.directory.workspace),
        control_directory: escape(&asked.directory.control_directory),
        snapshots: found.snapshots,
        parts: found.parts.into_iter().map(part).collect(),
        changes: found.changes.map(Changes::from),
        engine,
        unfinished: unfinished
            .map(|unfinished| unfinished_text(&unfinished))
            .collect(),
        in_use: found.holder.map(Holder::try_from).transpose()?,
        named: asked.named.clone(),
        shown: Shown {
            workspace: asked.shown(),
            newest: found.newest.as_ref().map(line_of).transpose()?,
            head: found.head.as_ref().map(line_of).transpose()?,
            engine: engine_shown,
        },
        damaged: found.damaged.into_iter().map(DamagedSnapshot::from).collect(),
        newest: found.newest.map(DirectorySnapshot::try_from).transpose()?,
        head: found.head.map(DirectorySnapshot::try_from).transpose()?,
    };
    session.output.put(&told, || told.text())?;
    Ok(())
}

/// What was interrupted; nothing of what a later version may tell.
fn unfinished_of(message: &proto::DirectoryUnfinished) -> Option<Unfinished> {
    use proto::DirectoryUnfinishedKind as Kind;
    Some(match message.what() {
        Kind::Unspecified => return None,
        Kind::Save => Unfinished::Save,
        Kind::Restore => Unfinished::Restore(SnapshotId::parse(message.snapshot.as_deref()?)?),
        Kind::Fork => Unfinished::Fork,
        Kind::Collect => Unfinished::Collect,
        Kind::Unreadable => Unfinished::Unreadable(message.error.clone().unwrap_or_default()),
        Kind::Captures => Unfinished::Captures(message.captures.unwrap_or_default()),
    })
}

impl Status {
    fn text(&self) -> String {
        let shown = &self.shown;
        let mut lines = vec![
            ("directory", shown.workspace.clone()),
            ("control", text::line(&self.control_directory)),
            ("snapshots", self.snapshots.to_string()),
        ];
        for damaged in &self.damaged {
            lines.push(("damaged", damaged.text()));
        }
        match (&shown.newest, &shown.head) {
            (Some(newest), Some(head)) if newest == head => {
                lines.push(("newest", format!("{newest}, and head")));
            }
            (newest, head) => {
                lines.extend(newest.as_ref().map(|newest| ("newest", newest.clone())));
                lines.extend(
                    head.as_ref()
                        .map(|head| ("head", format!("{head}: the content comes from it"))),
                );
            }
        }
        for part in &self.parts {
            let from = part.snapshot.get(..SnapshotId::SHORT_DIGITS);
            let from = from.unwrap_or(&part.snapshot);
            lines.push(("part", format!("{} comes from {from}", part.shown)));
        }
        lines.push(("changes", self.changes_text()));
        lines.push(("engine", shown.engine.clone()));
        for unfinished in &self.unfinished {
            lines.push((
                "unfinished",
                format!("{unfinished}; the next command that changes something puts it right"),
            ));
        }
        if let Some(holder) = &self.in_use {
            lines.push(("in use", holder.text()));
        }
        lines
            .iter()
            .map(|(name, value)| format!("{name:<11} {value}\n"))
            .collect()
    }

    fn changes_text(&self) -> String {
        let named = &self.named;
        let Some(changes) = &self.changes else {
            return format!("nothing is saved yet; to take a snapshot: cairn snapshot {named}");
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
            changes.total,
            changes.added,
            changes.removed,
            changes.modified,
            changes.retyped,
            changes.attributes
        );
        for line in &changes.lines {
            told.push_str(&format!("\n  {}", line.trim_end_matches('\n')));
        }
        let more = changes.total.saturating_sub(changes.lines.len() as u64);
        if more > 0 {
            told.push_str(&format!("\n  and {more} more: cairn diff {named}"));
        }
        told
    }
}
