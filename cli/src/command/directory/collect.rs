//! `cairn gc` and `cairn delete`: removing snapshots, by retention in two steps, or one by name.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::time::Duration;

use cairn_snapshot::operations::collect::{CollectPlan, Collected, delete as remove, plan, run as collect};
use cairn_snapshot::repository::OperationId;
use cairn_snapshot::repository::text::Text;
use cairn_types::SnapshotId;
use serde::Serialize;

use super::{open, tools};
use crate::arguments::{CollectCommand, DeleteArguments};
use crate::command::Session;
use crate::confirm::confirm;
use crate::failure::{DirectoryFailure, DirectoryReason, Failure};
use crate::target::Target;
use crate::text;
use crate::watch::Watch;

#[derive(Serialize)]
struct Planned {
    plan: String,
    created: Option<String>,
    remove: Vec<Verdict>,
    keep: Vec<Verdict>,
    bytes: u64,
    over_count: u64,
    over_bytes: u64,
    damaged: Vec<String>,
}

#[derive(Serialize)]
struct Verdict {
    id: String,
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
        CollectCommand::Plan { target, wait } => tell_plan(session, target, Duration::from_secs(wait)),
        CollectCommand::Run { target, plan, wait } => {
            let opened = open(session, Target::directory(Some(target))?)?;
            let id = OperationId::from_text(&plan).ok_or_else(|| {
                let message = format!("{plan:?} is no plan: `cairn gc plan` prints one, 32 digits");
                DirectoryFailure::new(DirectoryReason::Invalid, message)
            })?;
            let watch = Watch::start(Some("removing"))?;
            let wait = Duration::from_secs(wait);
            let collected = collect(&opened.repository, &tools(), id, wait, watch.progress())?;
            drop(watch);
            tell_removed(session, &collected)
        }
    }
}

fn tell_plan(session: &mut Session, target: Option<OsString>, wait: Duration) -> Result<(), Failure> {
    let opened = open(session, Target::directory(target)?)?;
    let watch = Watch::start(Some("planning"))?;
    let made = plan(&opened.repository, &tools(), wait, watch.progress())?;
    drop(watch);
    let verdicts = |keep: bool| {
        let chosen = made.verdicts.iter().filter(|verdict| verdict.keep == keep);
        chosen
            .map(|verdict| Verdict {
                id: verdict.id.to_string(),
                reasons: verdict.reasons.iter().map(ToString::to_string).collect(),
                bytes: made.bytes.get(&verdict.id).copied(),
            })
            .collect()
    };
    let told = Planned {
        plan: made.id.to_string(),
        created: text::utc_time(made.created),
        remove: verdicts(false),
        keep: verdicts(true),
        bytes: made.bytes.values().sum(),
        over_count: made.over.0,
        over_bytes: made.over.1,
        damaged: made.damaged.iter().map(ToString::to_string).collect(),
    };
    session.output.put(&told, || plan_text(&made, &opened.named))?;
    Ok(())
}

fn plan_text(plan: &CollectPlan, named: &str) -> String {
    let mut told = String::new();
    for verdict in &plan.verdicts {
        let what = if verdict.keep { "keep  " } else { "remove" };
        let reasons: Vec<String> = verdict.reasons.iter().map(ToString::to_string).collect();
        told.push_str(&format!(
            "{what}  {}  {}\n",
            text::short_id(verdict.id),
            reasons.join(", ")
        ));
    }
    for id in &plan.damaged {
        told.push_str(&format!(
            "keep    {}  its descriptor cannot be read\n",
            text::short_id(*id)
        ));
    }
    if plan.over != (0, 0) {
        told.push_str(&format!(
            "what is protected exceeds the maxima by {} snapshots and {}\n",
            plan.over.0,
            text::size(plan.over.1)
        ));
    }
    let removed: BTreeSet<SnapshotId> = plan.removed().collect();
    match removed.len() {
        0 => told.push_str("nothing is to be removed\n"),
        count => told.push_str(&format!(
            "{count} snapshots with files of {} would go; to remove them: cairn gc run {named} {}\n",
            text::size(plan.bytes.values().sum()),
            plan.id
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
        let short = text::short_id(id);
        confirm(
            &format!("deleting snapshot {short} of {}", opened.shown()),
            &format!(
                "Delete snapshot {short} of {}? It cannot be undone. Type its first digits, {short}:",
                opened.shown()
            ),
            &short,
        )?;
    }
    let watch = Watch::start(Some("removing"))?;
    let wait = Duration::from_secs(arguments.of.wait);
    let collected = remove(&opened.repository, &tools(), id, wait, watch.progress())?;
    drop(watch);
    tell_removed(session, &collected)
}
