//! `cairn gc` and `cairn delete`: removing snapshots, by retention in two steps, or one by name.

use std::ffi::OsString;
use std::time::Duration;

use cairn_api::{ApiError, convert, proto};
use cairn_snapshot::operations::collect::{Collected, delete as remove, plan, run as collect};
use cairn_snapshot::repository::OperationId;
use cairn_snapshot::repository::text::Text;
use cairn_types::SnapshotId;
use serde::Serialize;

use super::daemon::{Asked, seconds};
use super::{open, tools};
use crate::arguments::{CollectCommand, DeleteArguments};
use crate::command::Session;
use crate::command::snapshot::short;
use crate::confirm::confirm;
use crate::failure::{DirectoryFailure, DirectoryReason, Failure};
use crate::progress::while_waiting;
use crate::target::Target;
use crate::watch::Watch;
use crate::{system, text};

/// A plan, whoever has made it.
struct Planned {
    plan: String,
    created: Option<String>,
    /// Of every snapshot, oldest first.
    all: Vec<Verdict>,
    bytes: u64,
    over_count: u64,
    over_bytes: u64,
    damaged: Vec<String>,
}

#[derive(Serialize)]
struct Told<'a> {
    plan: &'a str,
    created: Option<&'a str>,
    remove: Vec<&'a Verdict>,
    keep: Vec<&'a Verdict>,
    bytes: u64,
    over_count: u64,
    over_bytes: u64,
    damaged: &'a [String],
}

#[derive(Serialize)]
struct Verdict {
    id: String,
    #[serde(skip)]
    keep: bool,
    reasons: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

#[derive(Serialize)]
struct Removed {
    removed: Vec<String>,
    entries: u64,
}

pub(super) fn run(session: &mut Session, command: CollectCommand) -> Result<(), Failure> {
    match command {
        CollectCommand::Plan { target, wait, .. } => make_plan(session, target, Duration::from_secs(wait)),
        CollectCommand::Run {
            target, plan, wait, ..
        } => {
            let opened = open(session, Target::directory(Some(target))?)?;
            let id = plan_id(&plan)?;
            let watch = Watch::start(Some("removing"))?;
            let wait = Duration::from_secs(wait);
            let collected = collect(&opened.repository, &tools(), id, wait, watch.progress())?;
            drop(watch);
            tell_removed(session, &collected)
        }
    }
}

fn plan_id(plan: &str) -> Result<OperationId, Failure> {
    OperationId::from_text(plan).ok_or_else(|| {
        let message = format!("{plan:?} is no plan: `cairn gc plan` prints one, 32 digits");
        DirectoryFailure::new(DirectoryReason::Invalid, message).into()
    })
}

/// The same by the daemon.
pub(super) async fn by_daemon(session: &mut Session, command: CollectCommand) -> Result<(), Failure> {
    match command {
        CollectCommand::Plan { target, wait, .. } => {
            let mut asked = Asked::connect(session, Target::directory(target)?).await?;
            let request = proto::PlanCollectDirectoryRequest {
                repository: Some(asked.reference()),
                wait_seconds: Some(seconds(wait)),
            };
            let asking = asked.client.directories.plan_collect(request);
            let plan = while_waiting("planning", asking).await?.into_inner();
            tell_plan(session, &planned_by_daemon(plan)?, &asked.named)
        }
        CollectCommand::Run {
            target, plan, wait, ..
        } => {
            plan_id(&plan)?;
            let mut asked = Asked::connect(session, Target::directory(Some(target))?).await?;
            let request = proto::CollectDirectoryRequest {
                repository: Some(asked.reference()),
                plan,
                wait_seconds: Some(seconds(wait)),
                actor: Some(system::actor()),
            };
            let begun = asked.client.directories.collect(request).await?.into_inner();
            let ended = asked.follow(session, begun.operation).await?;
            tell_removed(session, &collected_by_daemon(ended)?)
        }
    }
}

/// `cairn delete` by the daemon.
pub(super) async fn delete_by_daemon(
    session: &mut Session,
    arguments: DeleteArguments,
) -> Result<(), Failure> {
    let reference = arguments.of.reference;
    let reference = reference.ok_or_else(|| super::labels::missing("a snapshot"))?;
    let mut asked = Asked::connect(session, Target::directory(Some(arguments.of.target))?).await?;
    let by = proto::get_directory_snapshot_request::By::Reference(reference);
    let request = proto::GetDirectorySnapshotRequest {
        repository: Some(asked.reference()),
        by: Some(by),
    };
    let answer = asked.client.directories.get_snapshot(request).await?.into_inner();
    let snapshot = answer
        .snapshot
        .ok_or_else(|| ApiError::missing_field("the snapshot"))?;
    if !arguments.yes {
        ask(&asked.shown(), short(&snapshot.id))?;
    }
    let request = proto::DeleteDirectorySnapshotRequest {
        repository: Some(asked.reference()),
        reference: snapshot.id,
        wait_seconds: Some(seconds(arguments.of.wait)),
        actor: Some(system::actor()),
    };
    let begun = asked.client.directories.delete(request).await?.into_inner();
    let ended = asked.follow(session, begun.operation).await?;
    tell_removed(session, &collected_by_daemon(ended)?)
}

fn ids(texts: &[String]) -> Result<Vec<SnapshotId>, ApiError> {
    let id = |text: &String| {
        SnapshotId::parse(text).ok_or_else(|| ApiError::missing_field("the identity of a snapshot"))
    };
    texts.iter().map(id).collect()
}

fn collected_by_daemon(ended: proto::Operation) -> Result<Collected, ApiError> {
    let Some(proto::operation::Result::DirectoryCollected(result)) = ended.result else {
        return Err(ApiError::missing_field("the result"));
    };
    Ok(Collected {
        removed: ids(&result.removed)?,
        read: ids(&result.read)?,
        entries: result.entries,
    })
}

fn planned_by_daemon(plan: proto::PlanCollectDirectoryResponse) -> Result<Planned, ApiError> {
    let verdicts = plan.verdicts.into_iter().map(|verdict| Verdict {
        keep: verdict.keep,
        id: verdict.snapshot,
        reasons: verdict.reasons,
        bytes: verdict.bytes,
    });
    let verdicts: Vec<Verdict> = verdicts.collect();
    Ok(Planned {
        created: text::utc_time(convert::timestamp(plan.created.as_ref())?),
        plan: plan.plan,
        bytes: verdicts.iter().filter_map(|verdict| verdict.bytes).sum(),
        all: verdicts,
        over_count: plan.over_count,
        over_bytes: plan.over_bytes,
        damaged: plan.damaged,
    })
}

fn make_plan(session: &mut Session, target: Option<OsString>, wait: Duration) -> Result<(), Failure> {
    let opened = open(session, Target::directory(target)?)?;
    let watch = Watch::start(Some("planning"))?;
    let made = plan(&opened.repository, &tools(), wait, watch.progress())?;
    drop(watch);
    let verdicts = made.verdicts.iter().map(|verdict| Verdict {
        id: verdict.id.to_string(),
        keep: verdict.keep,
        reasons: verdict.reasons.iter().map(ToString::to_string).collect(),
        bytes: made.bytes.get(&verdict.id).copied(),
    });
    let planned = Planned {
        plan: made.id.to_string(),
        created: text::utc_time(made.created),
        all: verdicts.collect(),
        bytes: made.bytes.values().sum(),
        over_count: made.over.0,
        over_bytes: made.over.1,
        damaged: made.damaged.iter().map(ToString::to_string).collect(),
    };
    tell_plan(session, &planned, &opened.named)
}

fn tell_plan(session: &mut Session, planned: &Planned, named: &str) -> Result<(), Failure> {
    let chosen = |keep: bool| {
        planned
            .all
            .iter()
            .filter(|verdict| verdict.keep == keep)
            .collect()
    };
    let told = Told {
        plan: &planned.plan,
        created: planned.created.as_deref(),
        remove: chosen(false),
        keep: chosen(true),
        bytes: planned.bytes,
        over_count: planned.over_count,
        over_bytes: planned.over_bytes,
        damaged: &planned.damaged,
    };
    session.output.put(&told, || plan_text(planned, named))?;
    Ok(())
}

fn plan_text(plan: &Planned, named: &str) -> String {
    let mut told = String::new();
    for verdict in &plan.all {
        let what = if verdict.keep { "keep  " } else { "remove" };
        told.push_str(&format!(
            "{what}  {}  {}\n",
            short(&verdict.id),
            verdict.reasons.join(", ")
        ));
    }
    for id in &plan.damaged {
        told.push_str(&format!("keep    {}  its descriptor cannot be read\n", short(id)));
    }
    if (plan.over_count, plan.over_bytes) != (0, 0) {
        told.push_str(&format!(
            "what is protected exceeds the maxima by {} snapshots and {}\n",
            plan.over_count,
            text::size(plan.over_bytes)
        ));
    }
    match plan.all.iter().filter(|verdict| !verdict.keep).count() {
        0 => told.push_str("nothing is to be removed\n"),
        count => told.push_str(&format!(
            "{count} snapshots with files of {} would go; to remove them: cairn gc run {named} {}\n",
            text::size(plan.bytes),
            plan.plan
        )),
    }
    told
}

fn tell_removed(session: &mut Session, collected: &Collected) -> Result<(), Failure> {
    let told = Removed {
        removed: collected.removed.iter().map(ToString::to_string).collect(),
        entries: collected.entries,
    };
    session.output.put(&told, || {
        let mut shown = String::new();
        for id in &collected.removed {
            shown.push_str(&format!("removed snapshot {id}\n"));
        }
        match collected.removed.is_empty() {
            true => "nothing was removed\n".to_owned(),
            false => shown,
        }
    })?;
    Ok(())
}

pub(super) fn delete(session: &mut Session, arguments: DeleteArguments) -> Result<(), Failure> {
    let (opened, id) = super::labels::named(session, arguments.of.target, arguments.of.reference)?;
    if !arguments.yes {
        ask(&opened.shown(), &text::short_id(id))?;
    }
    let watch = Watch::start(Some("removing"))?;
    let wait = Duration::from_secs(arguments.of.wait);
    let collected = remove(&opened.repository, &tools(), id, wait, watch.progress())?;
    drop(watch);
    tell_removed(session, &collected)
}

/// Asks whether a snapshot shall go; `short` are its first digits.
fn ask(shown: &str, short: &str) -> Result<(), Failure> {
    confirm(
        &format!("deleting snapshot {short} of {shown}"),
        &format!("Delete snapshot {short} of {shown}? It cannot be undone. Type its first digits, {short}:"),
        short,
    )
}
