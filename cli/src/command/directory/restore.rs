//! `cairn restore` of a directory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_api::{ApiError, convert, proto};
use cairn_snapshot::directory::RelativePath;
use cairn_snapshot::directory::beneath::open_entry;
use cairn_snapshot::operations::OperationError;
use cairn_snapshot::operations::differences::scope;
use cairn_snapshot::operations::live::Difference;
use cairn_snapshot::operations::materialize::{Materialized, materialize};
use cairn_snapshot::operations::restore::{
    RestorePlan, RestoreRequest, RestoreTotals, Restored, Unsaved, plan, restore,
};
use cairn_snapshot::operations::snapshots::manifest;
use cairn_snapshot::repository::{Descriptor, text::escape};
use cairn_types::{SnapshotId, Timestamp};
use jiff::tz::TimeZone;
use serde::Serialize;

use super::daemon::{Asked, seconds};
use super::{Opened, WAIT_SECONDS, open, recovered_json, recovered_text, tools, warnings_text};
use crate::arguments::RestoreArguments;
use crate::command::Session;
use crate::command::snapshot::short;
use crate::failure::Failure;
use crate::json::directory::{DirectorySnapshot, Losses, Recovered, Totals, path, recovered_of, totals_of};
use crate::progress::while_waiting;
use crate::watch::Watch;
use crate::{system, text};

#[derive(Serialize)]
struct Planned {
    plan: Plan,
}

#[derive(Serialize)]
struct Plan {
    snapshot: DirectorySnapshot,
    unsaved: u64,
    totals: Totals,
    changes: Vec<PlannedChange>,
    changes_left_out: u64,
}

#[derive(Serialize)]
struct PlannedChange {
    action: &'static str,
    path: String,
}

#[derive(Serialize)]
struct Done {
    snapshot: DirectorySnapshot,
    safety: Option<DirectorySnapshot>,
    totals: Totals,
    kept: Vec<String>,
    losses: Losses,
    recovered: Vec<Recovered>,
}

#[derive(Serialize)]
struct Written {
    snapshot: DirectorySnapshot,
    directory: String,
    entries: u64,
    bytes: u64,
    losses: Losses,
    warnings: Vec<String>,
}

pub(in crate::command) fn run(
    session: &mut Session,
    directory: Option<PathBuf>,
    reference: Option<&str>,
    arguments: RestoreArguments,
) -> Result<(), Failure> {
    let opened = open(session, directory)?;
    let descriptor = opened.repository.descriptor(opened.resolve(reference)?)?;
    let paths = opened.paths(&arguments.paths)?;
    // What the snapshot does not hold cannot be asked of it.
    scope(&[&descriptor], &paths)?;
    if let Some(to) = &arguments.to {
        return write(session, &opened, &descriptor, &paths, to);
    }
    for path in &paths {
        check(&opened, &descriptor, path)?;
    }
    let request = RestoreRequest {
        snapshot: descriptor.id,
        paths,
        unsaved: match (arguments.discard, arguments.require_clean) {
            (true, _) => Unsaved::Discard,
            (false, true) => Unsaved::Refuse,
            (false, false) => Unsaved::Save,
        },
        wait: Duration::from_secs(arguments.wait.unwrap_or(WAIT_SECONDS)),
    };
    if arguments.plan {
        let watch = Watch::start(Some("comparing"))?;
        let planned = plan(&opened.repository, &request, watch.progress())?;
        drop(watch);
        let snapshot = opened.snapshot(descriptor.id)?;
        return tell_plan(session, &opened.named, snapshot, request.unsaved, &planned);
    }
    let watch = Watch::start(Some("restoring"))?;
    let restored = restore(&opened.repository, &tools(), &request, watch.progress())?;
    drop(watch);
    let subject = Subject {
        shown: opened.shown(),
        named: &opened.named,
        paths: &request.paths,
        id: descriptor.id,
        created: descriptor.created,
    };
    let snapshot = opened.snapshot(descriptor.id)?;
    let safety = restored.safety.map(|id| opened.snapshot(id)).transpose()?;
    tell(session, &subject, snapshot, safety, &restored)
}

/// What was restored, as people read it.
struct Subject<'a> {
    shown: String,
    named: &'a str,
    paths: &'a [RelativePath],
    id: SnapshotId,
    created: Timestamp,
}

/// The same by the daemon.
pub(in crate::command) async fn by_daemon(
    session: &mut Session,
    directory: Option<PathBuf>,
    reference: Option<String>,
    arguments: RestoreArguments,
) -> Result<(), Failure> {
    let mut asked = Asked::connect(session, directory).await?;
    let paths = asked.paths(&arguments.paths)?;
    let (unsaved, wanted) = match (arguments.discard, arguments.require_clean) {
        (true, _) => (Unsaved::Discard, proto::DirectoryUnsaved::Discard),
        (false, true) => (Unsaved::Refuse, proto::DirectoryUnsaved::Refuse),
        (false, false) => (Unsaved::Save, proto::DirectoryUnsaved::Save),
    };
    let request = proto::RestoreDirectoryRequest {
        repository: Some(asked.reference()),
        reference: reference.unwrap_or_else(|| "latest".to_owned()),
        paths: paths.clone(),
        unsaved: wanted.into(),
        wait_seconds: Some(seconds(arguments.wait.unwrap_or(WAIT_SECONDS))),
        actor: Some(system::actor()),
    };
    if arguments.plan {
        let asking = asked.client.directories.plan_restore(request);
        let answer = while_waiting("comparing", asking).await?.into_inner();
        let snapshot = answer
            .snapshot
            .ok_or_else(|| ApiError::missing_field("the snapshot"))?;
        let planned = RestorePlan {
            totals: totals_of(answer.totals),
            changes: answer.changes.iter().map(change).collect::<Result<_, _>>()?,
            unsaved: answer.unsaved,
        };
        let snapshot = DirectorySnapshot::try_from(snapshot)?;
        return tell_plan(session, &asked.named, snapshot, unsaved, &planned);
    }
    let begun = asked.client.directories.restore(request).await?.into_inner();
    let ended = asked.follow(session, begun.operation).await?;
    let Some(proto::operation::Result::DirectoryRestored(result)) = ended.result else {
        return Err(ApiError::missing_field("the result").into());
    };
    let snapshot = result
        .snapshot
        .ok_or_else(|| ApiError::missing_field("the snapshot"))?;
    let restored = Restored {
        totals: totals_of(result.totals),
        safety: result.safety.as_ref().map(snapshot_id).transpose()?,
        kept: relative(&result.kept)?,
        losses: Default::default(),
        recovered: recovered_of(&result.recovered)?,
    };
    let paths = relative(&paths)?;
    let subject = Subject {
        shown: asked.shown(),
        named: &asked.named,
        paths: &paths,
        id: snapshot_id(&snapshot)?,
        created: convert::timestamp(snapshot.created.as_ref())?,
    };
    let safety = result.safety.map(DirectorySnapshot::try_from).transpose()?;
    let losses = Losses::from(result.losses.unwrap_or_default());
    tell_with(
        session,
        &subject,
        DirectorySnapshot::try_from(snapshot)?,
        safety,
        (&restored, losses),
    )
}

fn snapshot_id(snapshot: &proto::DirectorySnapshot) -> Result<SnapshotId, ApiError> {
    SnapshotId::parse(&snapshot.id).ok_or_else(|| ApiError::missing_field("the identity of a snapshot"))
}

fn relative(paths: &[Vec<u8>]) -> Result<Vec<RelativePath>, ApiError> {
    let path = |path: &Vec<u8>| RelativePath::new(path).map_err(|_| ApiError::missing_field("a path"));
    paths.iter().map(path).collect()
}

fn change(change: &proto::PlannedDirectoryChange) -> Result<(RelativePath, Difference), ApiError> {
    let difference = match change.change() {
        proto::DirectoryChange::Add => Difference::Missing,
        proto::DirectoryChange::Remove => Difference::Surplus,
        proto::DirectoryChange::ReplaceKind => Difference::Kind,
        proto::DirectoryChange::ReplaceData => Difference::Data,
        proto::DirectoryChange::Attributes | proto::DirectoryChange::Unspecified => Difference::Attributes,
    };
    let path = RelativePath::new(&change.path).map_err(|_| ApiError::missing_field("a path"))?;
    Ok((path, difference))
}

/// Prints what a restore has done.
fn tell(
    session: &mut Session,
    subject: &Subject<'_>,
    snapshot: DirectorySnapshot,
    safety: Option<DirectorySnapshot>,
    restored: &Restored,
) -> Result<(), Failure> {
    let losses = Losses::from(&restored.losses);
    tell_with(session, subject, snapshot, safety, (restored, losses))
}

fn tell_with(
    session: &mut Session,
    subject: &Subject<'_>,
    snapshot: DirectorySnapshot,
    safety: Option<DirectorySnapshot>,
    (restored, losses): (&Restored, Losses),
) -> Result<(), Failure> {
    let done = Done {
        snapshot,
        safety,
        totals: Totals::from(&restored.totals),
        kept: restored.kept.iter().map(|path| escape(path.as_bytes())).collect(),
        losses,
        recovered: recovered_json(&restored.recovered),
    };
    session.output.put(&done, || {
        recovered_text(&restored.recovered) + &restored_text(subject, restored, &done.losses)
    })?;
    Ok(())
}

/// A path that is neither in the snapshot nor in the directory is a mistake. What is behind a link is in neither.
fn check(opened: &Opened, descriptor: &Descriptor, path: &RelativePath) -> Result<(), Failure> {
    let held = manifest(&opened.repository, descriptor)?.find(path)?.is_some();
    match held || open_entry(opened.repository.workspace(), path).is_ok() {
        true => Ok(()),
        false => Err(OperationError::NoPath { path: path.clone() }.into()),
    }
}

fn tell_plan(
    session: &mut Session,
    named: &str,
    snapshot: DirectorySnapshot,
    unsaved: Unsaved,
    planned: &RestorePlan,
) -> Result<(), Failure> {
    let totals = &planned.totals;
    let all = totals.added + totals.changed + totals.removed;
    let told = Planned {
        plan: Plan {
            snapshot,
            unsaved: planned.unsaved,
            totals: Totals::from(totals),
            changes: planned
                .changes
                .iter()
                .map(|(path, difference)| PlannedChange {
                    action: action(*difference).0,
                    path: escape(path.as_bytes()),
                })
                .collect(),
            changes_left_out: all.saturating_sub(planned.changes.len() as u64),
        },
    };
    session.output.put(&told, || {
        plan_text(named, short(&told.plan.snapshot.id), unsaved, planned)
    })?;
    Ok(())
}

/// What a restore does about a difference: as a word, and as a letter.
fn action(difference: Difference) -> (&'static str, char) {
    match difference {
        Difference::Missing => ("add", 'A'),
        Difference::Surplus => ("remove", 'D'),
        Difference::Kind => ("replace", 'T'),
        Difference::Data | Difference::Links => ("replace", 'M'),
        Difference::Same | Difference::Attributes => ("attributes", 'P'),
    }
}

fn totals_text(totals: &RestoreTotals) -> String {
    format!(
        "{} added, {} changed, {} removed; {} written",
        totals.added,
        totals.changed,
        totals.removed,
        text::size(totals.bytes)
    )
}

fn plan_text(named: &str, id: &str, unsaved: Unsaved, plan: &RestorePlan) -> String {
    let mut told = String::new();
    for (path, difference) in &plan.changes {
        let shown = match path.is_root() {
            true => ".".to_owned(),
            false => text::path(path.as_bytes()),
        };
        told.push_str(&format!("{} {shown}\n", action(*difference).1));
    }
    let totals = &plan.totals;
    let all = totals.added + totals.changed + totals.removed;
    let left_out = all.saturating_sub(plan.changes.len() as u64);
    if left_out > 0 {
        told.push_str(&format!("and {left_out} more\n"));
    }
    told.push_str(&format!(
        "a restore of {id} would do this: {}\n",
        totals_text(totals)
    ));
    told.push_str(&match (plan.unsaved, unsaved) {
        (0, _) => "there are no changes that no snapshot has\n".to_owned(),
        (unsaved, Unsaved::Save) => format!("{unsaved} changes that no snapshot has would be saved first\n"),
        (unsaved, Unsaved::Discard) => format!("{unsaved} changes that no snapshot has would be lost\n"),
        (unsaved, Unsaved::Refuse) => {
            format!("{unsaved} changes that no snapshot has are in the way: cairn snapshot {named}\n")
        }
    });
    told
}

fn restored_text(subject: &Subject<'_>, restored: &Restored, losses: &Losses) -> String {
    let taken = text::local_time(subject.created, &TimeZone::system());
    let id = text::short_id(subject.id);
    let what = match subject.paths {
        [] => subject.shown.clone(),
        paths => {
            let shown: Vec<String> = paths.iter().map(|path| text::path(path.as_bytes())).collect();
            format!("{} of {}", shown.join(", "), subject.shown)
        }
    };
    let verb = if subject.paths.len() > 1 { "are" } else { "is" };
    let mut told = format!(
        "{what} {verb} now as in snapshot {id} of {taken}\n  {}\n",
        totals_text(&restored.totals)
    );
    for path in &restored.kept {
        told.push_str(&format!(
            "  {}/ stays: something is in it that no snapshot holds\n",
            text::path(path.as_bytes())
        ));
    }
    for line in losses.lines() {
        told.push_str(&format!("  {line}\n"));
    }
    if let Some(safety) = restored.safety {
        told.push_str(&format!(
            "what was there before is snapshot {}; to undo: cairn restore {} {safety}\n",
            text::short_id(safety),
            subject.named
        ));
    }
    told
}

/// Writes a snapshot into a new directory.
fn write(
    session: &mut Session,
    opened: &Opened,
    descriptor: &Descriptor,
    paths: &[RelativePath],
    to: &Path,
) -> Result<(), Failure> {
    let watch = Watch::start(Some("writing"))?;
    let written: Materialized = materialize(&opened.repository, descriptor.id, paths, to, watch.progress())?;
    drop(watch);
    let told = Written {
        snapshot: opened.snapshot(descriptor.id)?,
        directory: path(to),
        entries: written.entries,
        bytes: written.bytes,
        losses: Losses::from(&written.losses),
        warnings: written.warnings.clone(),
    };
    let lines: String = told
        .losses
        .lines()
        .iter()
        .map(|line| format!("  {line}\n"))
        .collect();
    session.output.put(&told, || {
        let id = text::short_id(descriptor.id);
        let shown = text::path(std::os::unix::ffi::OsStrExt::as_bytes(to.as_os_str()));
        format!(
            "wrote snapshot {id} to {shown}: {} entries, {}\n{lines}{}",
            written.entries,
            text::size(written.bytes),
            warnings_text(&written.warnings)
        )
    })?;
    Ok(())
}
