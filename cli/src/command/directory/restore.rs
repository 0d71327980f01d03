//! `cairn restore` of a directory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_snapshot::directory::RelativePath;
use cairn_snapshot::directory::beneath::open_entry;
use cairn_snapshot::operations::OperationError;
use cairn_snapshot::operations::live::Difference;
use cairn_snapshot::operations::materialize::{Materialized, materialize};
use cairn_snapshot::operations::restore::{
    RestorePlan, RestoreRequest, RestoreTotals, Restored, Unsaved, plan, restore,
};
use cairn_snapshot::operations::snapshots::manifest;
use cairn_snapshot::repository::{Descriptor, text::escape};
use cairn_types::SnapshotId;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::{Opened, WAIT_SECONDS, open, recovered_json, recovered_text, tools, warnings_text};
use crate::arguments::RestoreArguments;
use crate::command::Session;
use crate::failure::Failure;
use crate::json::directory::{DirectorySnapshot, Losses, Recovered, Totals, path};
use crate::text;
use crate::watch::Watch;

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
    opened.scope(&[&descriptor], &paths)?;
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
        return tell_plan(session, &opened, &descriptor, &request);
    }
    let watch = Watch::start(Some("restoring"))?;
    let restored = restore(&opened.repository, &tools(), &request, watch.progress())?;
    drop(watch);
    let done = Done {
        snapshot: opened.snapshot(descriptor.id)?,
        safety: restored.safety.map(|id| opened.snapshot(id)).transpose()?,
        totals: Totals::from(&restored.totals),
        kept: restored.kept.iter().map(|path| escape(path.as_bytes())).collect(),
        losses: Losses::from(&restored.losses),
        recovered: recovered_json(&restored.recovered),
    };
    session.output.put(&done, || {
        recovered_text(&restored.recovered) + &restored_text(&opened, &descriptor, &request, &restored)
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
    opened: &Opened,
    descriptor: &Descriptor,
    request: &RestoreRequest,
) -> Result<(), Failure> {
    let watch = Watch::start(Some("comparing"))?;
    let planned = plan(&opened.repository, request, watch.progress())?;
    drop(watch);
    let totals = &planned.totals;
    let all = totals.added + totals.changed + totals.removed;
    let told = Planned {
        plan: Plan {
            snapshot: opened.snapshot(descriptor.id)?,
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
    session
        .output
        .put(&told, || plan_text(opened, descriptor.id, request, &planned))?;
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

fn plan_text(opened: &Opened, id: SnapshotId, request: &RestoreRequest, plan: &RestorePlan) -> String {
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
        "a restore of {} would do this: {}\n",
        text::short_id(id),
        totals_text(totals)
    ));
    told.push_str(&match (plan.unsaved, request.unsaved) {
        (0, _) => "there are no changes that no snapshot has\n".to_owned(),
        (unsaved, Unsaved::Save) => format!("{unsaved} changes that no snapshot has would be saved first\n"),
        (unsaved, Unsaved::Discard) => format!("{unsaved} changes that no snapshot has would be lost\n"),
        (unsaved, Unsaved::Refuse) => {
            format!(
                "{unsaved} changes that no snapshot has are in the way: cairn snapshot {}\n",
                opened.named
            )
        }
    });
    told
}

fn restored_text(
    opened: &Opened,
    descriptor: &Descriptor,
    request: &RestoreRequest,
    restored: &Restored,
) -> String {
    let taken = text::local_time(descriptor.created, &TimeZone::system());
    let id = text::short_id(descriptor.id);
    let what = match request.paths.as_slice() {
        [] => opened.shown(),
        paths => {
            let shown: Vec<String> = paths.iter().map(|path| text::path(path.as_bytes())).collect();
            format!("{} of {}", shown.join(", "), opened.shown())
        }
    };
    let verb = if request.paths.len() > 1 { "are" } else { "is" };
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
    for line in Losses::from(&restored.losses).lines() {
        told.push_str(&format!("  {line}\n"));
    }
    if let Some(safety) = restored.safety {
        told.push_str(&format!(
            "what was there before is snapshot {}; to undo: cairn restore {} {safety}\n",
            text::short_id(safety),
            opened.named
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
