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
use crate::command::snapshot::short;
use crate::failure::{DirectoryFailure, DirectoryReason, Failure};
use crate::json::directory::{DirectorySnapshot, Recovered as ToldRecovered};
use crate::target::Target;
use crate::text;
use crate::watch::Watch;

pub(super) mod by_daemon;

#[derive(Serialize)]
struct Labelled<'a> {
    snapshot: &'a DirectorySnapshot,
    #[serde(skip_serializing_if = "Option::is_none")]
    pin: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<&'a [u64]>,
    recovered: Vec<ToldRecovered>,
}

/// What was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Tags,
    Note,
    Pin,
    Unpin,
}

/// What came of it, whoever has done it.
struct Told {
    snapshot: DirectorySnapshot,
    /// The number of the new pin.
    pin: Option<u64>,
    /// When it ends, if it does.
    pinned_until: Option<Timestamp>,
    /// Numbers of pins that are gone.
    removed: Vec<u64>,
    recovered: Vec<Recovered>,
}

fn tell(session: &mut Session, named: &str, change: Change, told: Told) -> Result<(), Failure> {
    let labelled = Labelled {
        snapshot: &told.snapshot,
        pin: told.pin,
        removed: (change == Change::Unpin).then_some(&told.removed),
        recovered: recovered_json(&told.recovered),
    };
    session
        .output
        .put(&labelled, || told_text(named, change, &told))?;
    Ok(())
}

fn told_text(named: &str, change: Change, told: &Told) -> String {
    let short = short(&told.snapshot.id);
    let now = match change {
        Change::Tags if told.snapshot.tags.is_empty() => format!("snapshot {short} has no tags\n"),
        Change::Tags => {
            let tags = told.snapshot.tags.join(" ");
            format!("snapshot {short} has these tags: {tags}\n")
        }
        Change::Note => format!("snapshot {short} has another note\n"),
        Change::Pin => {
            let until = told.pinned_until.map_or_else(
                || "until the pin is removed".to_owned(),
                |time| format!("until {}", text::local_time(time, &jiff::tz::TimeZone::system())),
            );
            let number = told.pin.unwrap_or_default();
            format!(
                "snapshot {short} is kept {until}\nto remove the pin: cairn unpin {named} {short} {number}\n"
            )
        }
        Change::Unpin => format!("removed {} pins of snapshot {short}\n", told.removed.len()),
    };
    recovered_text(&told.recovered) + &now
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
    let asked = (arguments.of.wait, AuditEvent::Label, details);
    let told = done(&opened, id, asked, |labels| {
        remove.iter().for_each(|tag| {
            labels.tags.remove(tag);
        });
        labels.tags.extend(add);
    })?;
    tell(session, &opened.named, Change::Tags, told)
}

pub(super) fn note(session: &mut Session, arguments: NoteArguments) -> Result<(), Failure> {
    let note = arguments.note.ok_or_else(|| missing("the words"))?;
    let (opened, id) = named(session, arguments.of.target, arguments.of.reference)?;
    let details = BTreeMap::from([("note".to_owned(), note.clone())]);
    let asked = (arguments.of.wait, AuditEvent::Label, details);
    let told = done(&opened, id, asked, |labels| labels.note = note)?;
    tell(session, &opened.named, Change::Note, told)
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
    let asked = (arguments.of.wait, AuditEvent::Pin, details);
    let told = done(&opened, id, asked, |labels| {
        number = labels.pin(&arguments.reason, &actor, now, expires);
    })?;
    let told = Told {
        pin: Some(number),
        pinned_until: expires,
        ..told
    };
    tell(session, &opened.named, Change::Pin, told)
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

fn no_such_pin(id: SnapshotId, number: u64) -> Failure {
    let message = format!("snapshot {} has no pin {number}", text::short_id(id));
    DirectoryFailure::new(DirectoryReason::NotFound, message).into()
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
    if let (true, Some(number)) = (numbers.is_empty(), arguments.number) {
        return Err(no_such_pin(id, number));
    }
    let told: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    let details = BTreeMap::from([("pins".to_owned(), told.join(" "))]);
    let mut removed = Vec::new();
    let told = match numbers.is_empty() {
        true => Told::nothing(opened.snapshot(id)?),
        false => {
            let asked = (arguments.of.wait, AuditEvent::Unpin, details);
            done(&opened, id, asked, |labels| {
                removed = numbers
                    .into_iter()
                    .filter(|number| labels.unpin(*number))
                    .collect();
            })?
        }
    };
    tell(session, &opened.named, Change::Unpin, Told { removed, ..told })
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

impl Told {
    /// Of a snapshot of which nothing was changed.
    fn nothing(snapshot: DirectorySnapshot) -> Self {
        Told {
            snapshot,
            pin: None,
            pinned_until: None,
            removed: Vec::new(),
            recovered: Vec::new(),
        }
    }
}

/// Changes labels under the lease.
fn done(
    opened: &Opened,
    id: SnapshotId,
    (wait_seconds, event, details): (u64, AuditEvent, BTreeMap<String, String>),
    change: impl FnOnce(&mut Labels),
) -> Result<Told, Failure> {
    let watch = Watch::start(None)?;
    let request = LabelRequest {
        snapshot: id,
        event,
        details,
        wait: Duration::from_secs(wait_seconds),
    };
    let changed = change_labels(&opened.repository, &tools(), &request, change, watch.progress())?;
    Ok(Told {
        recovered: changed.1,
        ..Told::nothing(opened.snapshot(id)?)
    })
}
