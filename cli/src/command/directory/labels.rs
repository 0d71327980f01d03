//! `cairn tag`, `note`, `pin` and `unpin`: what people say of a snapshot after the fact.

use std::collections::BTreeMap;
use std::time::Duration;

use cairn_api::convert;
use cairn_snapshot::operations::labels::{LabelRequest, change_labels};
use cairn_snapshot::operations::recover::Recovered;
use cairn_snapshot::repository::{AuditEvent, Labels};
use cairn_types::{SnapshotId, Timestamp};
use serde::Serialize;

use super::{Opened, open, recovered_json, recovered_text, tools};
use crate::arguments::{NoteArguments, PinArguments, TagArguments, UnpinArguments};
use crate::command::Session;
use crate::failure::{DirectoryFailure, DirectoryReason, Failure};
use crate::json::directory::{DirectorySnapshot, Recovered as ToldRecovered};
use crate::target::Target;
use crate::text;
use crate::watch::Watch;

#[derive(Serialize)]
struct Labelled {
    snapshot: DirectorySnapshot,
    recovered: Vec<ToldRecovered>,
}

#[derive(Serialize)]
struct Pinned {
    snapshot: DirectorySnapshot,
    pin: u64,
    recovered: Vec<ToldRecovered>,
}

#[derive(Serialize)]
struct Unpinned {
    snapshot: DirectorySnapshot,
    removed: Vec<u64>,
    recovered: Vec<ToldRecovered>,
}

pub(super) fn tag(session: &mut Session, arguments: TagArguments) -> Result<(), Failure> {
    let (add, remove) = (convert::tags(&arguments.add)?, convert::tags(&arguments.remove)?);
    if add.is_empty() && remove.is_empty() {
        return Err(missing("a tag, or --remove with one"));
    }
    let (opened, id) = named(session, arguments.of.target, arguments.of.reference)?;
    let details = BTreeMap::from([
        ("added".to_owned(), arguments.add.join(" ")),
        ("removed".to_owned(), arguments.remove.join(" ")),
    ]);
    let (labels, recovered) = change(
        &opened,
        id,
        arguments.of.wait,
        (AuditEvent::Label, details),
        |labels| {
            remove.iter().for_each(|tag| {
                labels.tags.remove(tag);
            });
            labels.tags.extend(add);
        },
    )?;
    let snapshot = opened.snapshot(id)?;
    let told = Labelled {
        snapshot,
        recovered: recovered_json(&recovered),
    };
    session.output.put(&told, || {
        let tags: Vec<&str> = labels.tags.iter().map(|tag| tag.as_str()).collect();
        let now = match tags.is_empty() {
            true => format!("snapshot {} has no tags\n", text::short_id(id)),
            false => format!(
                "snapshot {} has these tags: {}\n",
                text::short_id(id),
                tags.join(" ")
            ),
        };
        recovered_text(&recovered) + &now
    })?;
    Ok(())
}

pub(super) fn note(session: &mut Session, arguments: NoteArguments) -> Result<(), Failure> {
    let note = arguments.note.ok_or_else(|| missing("the words"))?;
    let (opened, id) = named(session, arguments.of.target, arguments.of.reference)?;
    let details = BTreeMap::from([("note".to_owned(), note.clone())]);
    let (_, recovered) = change(
        &opened,
        id,
        arguments.of.wait,
        (AuditEvent::Label, details),
        |labels| {
            labels.note = note;
        },
    )?;
    let snapshot = opened.snapshot(id)?;
    let told = Labelled {
        snapshot,
        recovered: recovered_json(&recovered),
    };
    session.output.put(&told, || {
        let now = format!("snapshot {} has another note\n", text::short_id(id));
        recovered_text(&recovered) + &now
    })?;
    Ok(())
}

pub(super) fn pin(session: &mut Session, arguments: PinArguments) -> Result<(), Failure> {
    let (opened, id) = named(session, arguments.of.target, arguments.of.reference)?;
    let parts = opened.repository.parts();
    let (now, actor) = (parts.clock.now(), parts.actor.clone());
    let expires = arguments
        .duration
        .map(|duration| after(now, duration))
        .transpose()?;
    let details = BTreeMap::from([("reason".to_owned(), arguments.reason.clone())]);
    let mut number = 0;
    let (_, recovered) = change(
        &opened,
        id,
        arguments.of.wait,
        (AuditEvent::Pin, details),
        |labels| {
            number = labels.pin(&arguments.reason, &actor, now, expires);
        },
    )?;
    let snapshot = opened.snapshot(id)?;
    session.output.put(
        &Pinned {
            snapshot,
            pin: number,
            recovered: recovered_json(&recovered),
        },
        || {
            let until = expires.map_or_else(
                || "until the pin is removed".to_owned(),
                |time| format!("until {}", text::local_time(time, &jiff::tz::TimeZone::system())),
            );
            let short = text::short_id(id);
            let now = format!(
                "snapshot {short} is kept {until}\nto remove the pin: cairn unpin {} {short} {number}\n",
                opened.named
            );
            recovered_text(&recovered) + &now
        },
    )?;
    Ok(())
}

/// The time `duration` after `now`, in whole seconds.
pub(in crate::command) fn after(now: Timestamp, duration: Duration) -> Result<Timestamp, Failure> {
    let seconds = i64::try_from(duration.as_secs()).ok();
    let time = seconds.and_then(|seconds| now.seconds().checked_add(seconds));
    let time = time.map(|seconds| Timestamp::new(seconds, now.nanoseconds()));
    time.filter(|time| text::utc_time(*time).is_some())
        .ok_or_else(|| {
            let message = "a pin cannot hold beyond the year 9999".to_owned();
            DirectoryFailure::new(DirectoryReason::Invalid, message).into()
        })
}

pub(super) fn unpin(session: &mut Session, arguments: UnpinArguments) -> Result<(), Failure> {
    if arguments.all == arguments.number.is_some() {
        return Err(missing("the number of a pin, or --all"));
    }
    let (opened, id) = named(session, arguments.of.target, arguments.of.reference)?;
    let labels = opened.labels(&opened.repository.descriptor(id)?);
    let chosen = |number: u64| arguments.number.is_none_or(|wanted| wanted == number);
    let numbers: Vec<u64> = labels
        .pins
        .iter()
        .map(|pin| pin.number)
        .filter(|number| chosen(*number))
        .collect();
    let gone = |number: u64| {
        let message = format!("snapshot {} has no pin {number}", text::short_id(id));
        Failure::from(DirectoryFailure::new(DirectoryReason::NotFound, message))
    };
    if let (true, Some(number)) = (numbers.is_empty(), arguments.number) {
        return Err(gone(number));
    }
    let told: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    let details = BTreeMap::from([("pins".to_owned(), told.join(" "))]);
    let (mut removed, mut recovered) = (Vec::new(), Vec::new());
    if !numbers.is_empty() {
        (_, recovered) = change(
            &opened,
            id,
            arguments.of.wait,
            (AuditEvent::Unpin, details),
            |labels| {
                removed = numbers
                    .into_iter()
                    .filter(|number| labels.unpin(*number))
                    .collect();
            },
        )?;
    }
    let snapshot = opened.snapshot(id)?;
    let count = removed.len();
    let told = Unpinned {
        snapshot,
        removed,
        recovered: recovered_json(&recovered),
    };
    session.output.put(&told, || {
        let now = format!("removed {count} pins of snapshot {}\n", text::short_id(id));
        recovered_text(&recovered) + &now
    })?;
    Ok(())
}

pub(super) fn named(
    session: &Session,
    target: std::ffi::OsString,
    reference: Option<String>,
) -> Result<(Opened, SnapshotId), Failure> {
    let reference = reference.ok_or_else(|| missing("a snapshot"))?;
    let opened = open(session, Target::directory(Some(target))?)?;
    let id = opened.resolve(Some(&reference))?;
    Ok((opened, id))
}

/// Says that something was not given.
pub(in crate::command) fn missing(what: &str) -> Failure {
    Failure::Usage {
        message: format!("{what} must be given"),
        remedy: "the command with --help has examples".to_owned(),
    }
}

/// Changes labels under the lease. Also tells what was put right before.
fn change(
    opened: &Opened,
    id: SnapshotId,
    wait_seconds: u64,
    (event, details): (AuditEvent, BTreeMap<String, String>),
    change: impl FnOnce(&mut Labels),
) -> Result<(Labels, Vec<Recovered>), Failure> {
    let watch = Watch::start(None)?;
    let request = LabelRequest {
        snapshot: id,
        event,
        details,
        wait: Duration::from_secs(wait_seconds),
    };
    let changed = change_labels(&opened.repository, &tools(), &request, change, watch.progress())?;
    Ok(changed)
}
