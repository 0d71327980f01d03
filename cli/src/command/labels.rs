//! `cairn tag`, `note`, `pin`, `unpin` and `delete` of snapshots of workspaces, which are written WORKSPACE@SNAPSHOT. What follows the
//! target stands one place further left than with a directory, whose snapshot is an argument of its own.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use cairn_api::{ApiError, convert, proto};
use cairn_types::{Clock, SnapshotId};
use jiff::tz::TimeZone;
use serde::Serialize;

use super::Session;
use super::directory::labels::{after, missing};
use crate::arguments::DirectoryCommand;
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::progress::while_waiting;
use crate::target::{is_directory, workspace_and_snapshot};
use crate::{json, system, text};

/// What shall be done with a snapshot of a workspace.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    workspace: String,
    reference: String,
    what: What,
}

#[derive(Debug, PartialEq, Eq)]
enum What {
    Tag {
        add: Vec<String>,
        remove: Vec<String>,
    },
    Note(String),
    Pin {
        reason: String,
        duration: Option<std::time::Duration>,
    },
    /// The number; nothing: all.
    Unpin(Option<u64>),
    Delete {
        yes: bool,
    },
}

#[derive(Serialize)]
struct Labelled {
    snapshot: json::Snapshot,
    #[serde(skip_serializing_if = "Option::is_none")]
    pin: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<Vec<u64>>,
}

#[derive(Serialize)]
struct Removed {
    removed: [String; 1],
}

/// Takes a command apart if its target is a snapshot of a workspace.
pub(super) fn of_workspace(command: &DirectoryCommand) -> Result<Option<Change>, Failure> {
    let (of, what) = match command {
        DirectoryCommand::Tag(arguments) => {
            let mut add: Vec<String> = arguments.of.reference.iter().cloned().collect();
            add.extend(arguments.add.iter().cloned());
            let remove = arguments.remove.clone();
            (&arguments.of, What::Tag { add, remove })
        }
        DirectoryCommand::Note(arguments) => {
            let note = arguments.of.reference.clone().unwrap_or_default();
            (&arguments.of, What::Note(note))
        }
        DirectoryCommand::Pin(arguments) => {
            let (reason, duration) = (arguments.reason.clone(), arguments.duration);
            (&arguments.of, What::Pin { reason, duration })
        }
        DirectoryCommand::Unpin(arguments) => (&arguments.of, What::Unpin(None)),
        DirectoryCommand::Delete(arguments) => (&arguments.of, What::Delete { yes: arguments.yes }),
        _ => return Ok(None),
    };
    if is_directory(&of.target) || !of.target.as_bytes().contains(&b'@') {
        return Ok(None);
    }
    let what = match (command, what) {
        (_, What::Tag { add, remove }) if add.is_empty() && remove.is_empty() => {
            return Err(missing("a tag, or --remove with one"));
        }
        (DirectoryCommand::Note(arguments), _)
            if arguments.of.reference.is_none() || arguments.note.is_some() =>
        {
            return Err(missing("the words, as one argument,"));
        }
        (DirectoryCommand::Unpin(arguments), _) => {
            let number = arguments.of.reference.as_deref();
            let number = number.map(|text| text.parse().map_err(|_| missing("the number of a pin")));
            let number = number.transpose()?;
            if arguments.all == number.is_some() || arguments.number.is_some() {
                return Err(missing("the number of a pin, or --all"));
            }
            What::Unpin(number)
        }
        (DirectoryCommand::Pin(_) | DirectoryCommand::Delete(_), _) if of.reference.is_some() => {
            return Err(Failure::Usage {
                message: "WORKSPACE@SNAPSHOT names the snapshot already".to_owned(),
                remedy: "leave the second argument out".to_owned(),
            });
        }
        (_, what) => what,
    };
    let target = of.target.to_str().ok_or_else(|| not_text(&of.target))?;
    let (workspace, reference) = workspace_and_snapshot(target)?;
    Ok(Some(Change {
        workspace,
        reference,
        what,
    }))
}

fn not_text(target: &OsStr) -> Failure {
    Failure::Usage {
        message: format!("{} is no name of a workspace", text::path(target.as_bytes())),
        remedy: "write a directory with a slash: ./NAME".to_owned(),
    }
}

fn received(snapshot: Option<proto::Snapshot>) -> Result<proto::Snapshot, ApiError> {
    snapshot.ok_or_else(|| ApiError::missing_field("the snapshot"))
}

fn short(id: &str) -> &str {
    id.get(..SnapshotId::SHORT_DIGITS).unwrap_or(id)
}

pub(super) async fn run(session: &mut Session, change: Change) -> Result<(), Failure> {
    let mut request = proto::SetLabelsRequest {
        workspace: change.workspace.clone(),
        reference: change.reference.clone(),
        ..proto::SetLabelsRequest::default()
    };
    match change.what {
        What::Delete { yes } => return delete(session, change.workspace, change.reference, yes).await,
        What::Tag { add, remove } => {
            convert::tags(&add)?;
            convert::tags(&remove)?;
            (request.add_tags, request.remove_tags) = (add, remove);
        }
        What::Note(note) => request.note = Some(note),
        What::Pin { reason, duration } => {
            let until = duration.map(|duration| after(system::SystemClock.now(), duration));
            let expires = until.transpose()?.map(convert::timestamp_message);
            request.pin = Some(proto::NewPin { reason, expires });
        }
        What::Unpin(number) => {
            request.unpin_all = number.is_none();
            request.unpin = number.into_iter().collect();
        }
    }
    let unpins = request.unpin_all || !request.unpin.is_empty();
    let is_note = request.note.is_some();
    let mut client = session.connect().await?;
    let asking = client.snapshots.set_labels(request);
    let answer = while_waiting("changing what is said of the snapshot", asking)
        .await?
        .into_inner();
    let snapshot = received(answer.snapshot)?;
    let of = format!("{} of workspace {}", short(&snapshot.id), change.workspace);
    let told = if let Some(number) = answer.pin {
        let set = snapshot.pins.iter().find(|pin| pin.number == number);
        let until = match set.and_then(|pin| pin.expires.as_ref()) {
            None => "until the pin is removed".to_owned(),
            Some(time) => {
                let time = convert::timestamp(Some(time))?;
                format!("until {}", text::local_time(time, &TimeZone::system()))
            }
        };
        let (workspace, id) = (&change.workspace, short(&snapshot.id));
        format!("snapshot {of} is kept {until}\nto remove the pin: cairn unpin {workspace}@{id} {number}\n")
    } else if unpins {
        format!("removed {} pins of snapshot {of}\n", answer.unpinned.len())
    } else if is_note {
        format!("snapshot {of} has another note\n")
    } else if snapshot.tags.is_empty() {
        format!("snapshot {of} has no tags\n")
    } else {
        format!("snapshot {of} has these tags: {}\n", snapshot.tags.join(" "))
    };
    let labelled = Labelled {
        snapshot: snapshot.try_into()?,
        pin: answer.pin,
        removed: unpins.then_some(answer.unpinned),
    };
    session.output.put(&labelled, || told)?;
    Ok(())
}

async fn delete(
    session: &mut Session,
    workspace: String,
    reference: String,
    yes: bool,
) -> Result<(), Failure> {
    let mut client = session.connect().await?;
    // By its identity: a tag may mean another one when the question is answered.
    let asking = client.snapshots.get(proto::GetSnapshotRequest {
        workspace: workspace.clone(),
        reference,
    });
    let found = received(
        while_waiting("looking for the snapshot", asking)
            .await?
            .into_inner()
            .snapshot,
    )?;
    let id = found.id;
    if !yes {
        let short = short(&id);
        confirm(
            &format!("deleting snapshot {short} of workspace {workspace}"),
            &format!(
                "Delete snapshot {short} of workspace {workspace}? It cannot be undone. Type its first digits, {short}:"
            ),
            short,
        )?;
    }
    let request = proto::DeleteSnapshotRequest {
        workspace: workspace.clone(),
        reference: id.clone(),
    };
    while_waiting("deleting the snapshot", client.snapshots.delete(request)).await?;
    let told = format!("deleted snapshot {} of workspace {workspace}\n", short(&id));
    session.output.put(&Removed { removed: [id] }, || told)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{Change, What, of_workspace};
    use crate::arguments::{Arguments, Command};

    fn change(line: &[&str]) -> Result<Option<Change>, crate::failure::Failure> {
        let line = [&["cairn"], line].concat();
        match Arguments::parse_from(line).command {
            Command::Directory(command) => of_workspace(&command),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_follows_the_target_is_taken_from_the_left() {
        let strings = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let cases: Vec<(&[&str], What)> = vec![
            (
                &["tag", "w@v1", "a", "b", "--remove", "c"],
                What::Tag {
                    add: strings(&["a", "b"]),
                    remove: strings(&["c"]),
                },
            ),
            (
                &["tag", "w@v1", "--remove", "c"],
                What::Tag {
                    add: Vec::new(),
                    remove: strings(&["c"]),
                },
            ),
            (&["note", "w@v1", "two words"], What::Note("two words".to_owned())),
            (
                &["pin", "w@v1", "--for", "1h", "--reason", "r"],
                What::Pin {
                    reason: "r".to_owned(),
                    duration: Some(std::time::Duration::from_secs(3600)),
                },
            ),
            (&["unpin", "w@v1", "7"], What::Unpin(Some(7))),
            (&["unpin", "w@v1", "--all"], What::Unpin(None)),
            (&["delete", "w@v1", "--yes"], What::Delete { yes: true }),
        ];
        for (line, what) in cases {
            let expected = Change {
                workspace: "w".to_owned(),
                reference: "v1".to_owned(),
                what,
            };
            assert_eq!(change(line).ok().flatten(), Some(expected), "{line:?}");
        }
    }

    #[test]
    fn directories_are_left_alone_and_what_is_missing_is_asked_for() {
        for line in [
            &["tag", ".", "v1", "a"][..],
            &["delete", "./w@v1", "v1"],
            &["unpin", "/d", "v1", "1"],
        ] {
            assert_eq!(change(line).ok(), Some(None), "{line:?}");
        }
        for line in [
            &["tag", "w@v1"][..],
            &["note", "w@v1"],
            &["note", "w@v1", "a", "b"],
            &["pin", "w@v1", "x"],
            &["unpin", "w@v1"],
            &["unpin", "w@v1", "x"],
            &["unpin", "w@v1", "1", "--all"],
            &["delete", "w@v1", "v2"],
            &["delete", "w@"],
        ] {
            assert!(change(line).is_err(), "{line:?}");
        }
    }
}
