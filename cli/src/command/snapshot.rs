//! `cairn snapshot`, `history`, `restore` and `fork`.

use cairn_api::{ApiError, convert, proto};
use cairn_types::{SnapshotId, WorkspaceName};
use jiff::tz::TimeZone;
use serde::Serialize;

use super::{Session, workspace};
use crate::arguments::SnapshotArguments;
use crate::failure::Failure;
use crate::progress::while_waiting;
use crate::{json, text};

/// Longest note in a table, in characters.
const NOTE_SHOWN_MAX: usize = 60;

#[derive(Serialize)]
struct Taken {
    #[serde(flatten)]
    snapshot: json::Snapshot,
    /// An earlier request with the same key has taken it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    existing: bool,
}

#[derive(Serialize)]
struct History {
    snapshots: Vec<json::Snapshot>,
}

#[derive(Serialize)]
struct Restored {
    snapshot: json::Snapshot,
    safety: json::Snapshot,
}

fn received(snapshot: Option<proto::Snapshot>) -> Result<proto::Snapshot, ApiError> {
    snapshot.ok_or_else(|| ApiError::missing_field("the snapshot"))
}

pub(super) async fn take(
    session: &mut Session,
    name: &WorkspaceName,
    arguments: SnapshotArguments,
    key: Option<String>,
) -> Result<(), Failure> {
    let workspace = name.to_string();
    convert::tags(&arguments.tags)?;
    let mut client = session.connect().await?;
    let request = proto::CreateSnapshotRequest {
        workspace: workspace.clone(),
        note: arguments.note,
        tags: arguments.tags,
        key: key.unwrap_or_default(),
        requires: Vec::new(),
    };
    let answer = while_waiting("taking the snapshot", client.snapshots.create(request))
        .await?
        .into_inner();
    let existing = answer.existing;
    let snapshot = json::Snapshot::try_from(received(answer.snapshot)?)?;
    let told = match existing {
        false => format!("took snapshot {} of workspace {workspace}\n", snapshot.id),
        true => format!(
            "snapshot {} of workspace {workspace} was taken before for this key\n",
            snapshot.id
        ),
    };
    session.output.put(&Taken { snapshot, existing }, || told)?;
    Ok(())
}

pub(super) async fn history(session: &mut Session, name: &WorkspaceName) -> Result<(), Failure> {
    let workspace = name.to_string();
    let mut client = session.connect().await?;
    let asking = client.snapshots.history(proto::HistoryRequest {
        workspace: workspace.clone(),
    });
    let snapshots = while_waiting("listing snapshots", asking)
        .await?
        .into_inner()
        .snapshots;
    let text = history_text(&workspace, &snapshots, &TimeZone::system())?;
    let snapshots = snapshots
        .into_iter()
        .map(json::Snapshot::try_from)
        .collect::<Result<_, _>>()?;
    session.output.put(&History { snapshots }, || text)?;
    Ok(())
}

fn history_text(workspace: &str, snapshots: &[proto::Snapshot], zone: &TimeZone) -> Result<String, ApiError> {
    if snapshots.is_empty() {
        return Ok(format!("no snapshots; to take one: cairn snapshot {workspace}\n"));
    }
    let row = |snapshot: &proto::Snapshot| {
        Ok(vec![
            short(&snapshot.id).to_owned(),
            text::local_time(convert::timestamp(snapshot.created.as_ref())?, zone),
            json::origin(snapshot).to_owned(),
            snapshot.inodes.to_string(),
            text::size(snapshot.bytes),
            snapshot.tags.join(","),
            shortened(&text::line(&snapshot.note)),
        ])
    };
    let rows = snapshots.iter().map(row).collect::<Result<Vec<_>, ApiError>>()?;
    Ok(text::table(
        &["ID", "TAKEN", "ORIGIN", ">INODES", ">SIZE", "TAGS", "NOTE"],
        &rows,
    ))
}

/// The first digits of an id, as tables show it.
pub(super) fn short(id: &str) -> &str {
    id.get(..SnapshotId::SHORT_DIGITS).unwrap_or(id)
}

/// The beginning of a note, as tables show it.
pub(super) fn shortened(note: &str) -> String {
    match note.char_indices().nth(NOTE_SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &note[..end]),
        None => note.to_owned(),
    }
}

pub(super) async fn restore(
    session: &mut Session,
    name: &WorkspaceName,
    reference: String,
) -> Result<(), Failure> {
    let workspace = name.to_string();
    convert::reference(&reference)?;
    let mut client = session.connect().await?;
    let request = proto::RestoreRequest {
        workspace: workspace.clone(),
        reference,
    };
    let answer = while_waiting("restoring the workspace", client.snapshots.restore(request))
        .await?
        .into_inner();
    let (snapshot, safety) = (received(answer.snapshot)?, received(answer.safety)?);
    let text = restored_text(&workspace, &snapshot, &safety, &TimeZone::system())?;
    let restored = Restored {
        snapshot: snapshot.try_into()?,
        safety: safety.try_into()?,
    };
    session.output.put(&restored, || text)?;
    Ok(())
}

fn restored_text(
    workspace: &str,
    snapshot: &proto::Snapshot,
    safety: &proto::Snapshot,
    zone: &TimeZone,
) -> Result<String, ApiError> {
    let taken = text::local_time(convert::timestamp(snapshot.created.as_ref())?, zone);
    Ok(format!(
        "workspace {workspace} is now as in snapshot {} of {taken}\n\
         what it was before is snapshot {}; to undo: cairn restore {workspace} {}\n",
        short(&snapshot.id),
        short(&safety.id),
        safety.id,
    ))
}

pub(super) async fn fork(
    session: &mut Session,
    name: &WorkspaceName,
    reference: String,
    new: String,
) -> Result<(), Failure> {
    let workspace = name.to_string();
    convert::reference(&reference)?;
    convert::workspace_name(&new)?;
    let mut client = session.connect().await?;
    let request = proto::ForkRequest {
        workspace: workspace.clone(),
        reference,
        new_workspace: new,
    };
    let answer = while_waiting("forking the workspace", client.snapshots.fork(request))
        .await?
        .into_inner();
    let made = workspace::received(answer.workspace)?;
    let name = made.name.clone();
    session.output.put(&json::Workspace::try_from(made)?, || {
        format!("made workspace {name} from {workspace}\nto mount it here: cairn mount-command {name}\n")
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use cairn_api::{ProtoTimestamp, proto};
    use jiff::tz::TimeZone;

    use super::{history_text, restored_text};

    fn snapshot(digit: &str, origin: proto::SnapshotOrigin, tags: &[&str], note: &str) -> proto::Snapshot {
        proto::Snapshot {
            id: digit.repeat(32),
            origin: origin.into(),
            created: Some(ProtoTimestamp {
                seconds: 1_700_000_000,
                nanos: 0,
            }),
            note: note.to_owned(),
            tags: tags.iter().map(ToString::to_string).collect(),
            inodes: 4,
            bytes: 1 << 20,
            parent: None,
            pins: Vec::new(),
        }
    }

    #[test]
    fn a_history_is_a_table() {
        let snapshots = [
            snapshot("b", proto::SnapshotOrigin::Safety, &[], ""),
            snapshot(
                "a",
                proto::SnapshotOrigin::Requested,
                &["v1", "good"],
                "two\nlines",
            ),
        ];
        assert_eq!(
            history_text("w", &snapshots, &TimeZone::UTC).unwrap(),
            "ID            TAKEN                ORIGIN     INODES     SIZE  TAGS     NOTE\n\
             bbbbbbbbbbbb  2023-11-14 22:13:20  safety          4  1.0 MiB\n\
             aaaaaaaaaaaa  2023-11-14 22:13:20  requested       4  1.0 MiB  v1,good  two lines\n"
        );
        assert!(
            history_text("w", &[], &TimeZone::UTC)
                .unwrap()
                .contains("cairn snapshot w")
        );
    }

    #[test]
    fn long_notes_are_cut_between_characters() {
        let snapshots = [snapshot(
            "a",
            proto::SnapshotOrigin::Requested,
            &[],
            &"é".repeat(100),
        )];
        let text = history_text("w", &snapshots, &TimeZone::UTC).unwrap();
        assert!(text.contains(&format!("{}…\n", "é".repeat(60))), "{text}");
    }

    #[test]
    fn a_restore_says_how_to_undo_it() {
        let snapshot_of = |digit| snapshot(digit, proto::SnapshotOrigin::Requested, &[], "");
        let text = restored_text("w", &snapshot_of("a"), &snapshot_of("b"), &TimeZone::UTC).unwrap();
        assert_eq!(
            text,
            format!(
                "workspace w is now as in snapshot aaaaaaaaaaaa of 2023-11-14 22:13:20\n\
                 what it was before is snapshot bbbbbbbbbbbb; to undo: cairn restore w {}\n",
                "b".repeat(32)
            )
        );
    }
}
