//! How a directory is, and what differs in it, as messages.

use cairn_api::proto;
use cairn_snapshot::engine::Choice;
use cairn_snapshot::operations::differences::{DifferenceKind, EntryDifference};
use cairn_snapshot::operations::status::{Changes, Unfinished};

use super::{holder, snapshot};
use crate::assembly::with_causes;
use crate::directories::Inspected;

pub(in crate::rpc) fn difference(difference: &EntryDifference) -> proto::Difference {
    let kind = match difference.kind {
        DifferenceKind::Added => proto::DifferenceKind::Added,
        DifferenceKind::Removed => proto::DifferenceKind::Removed,
        DifferenceKind::Modified => proto::DifferenceKind::Modified,
        DifferenceKind::Retyped => proto::DifferenceKind::Retyped,
        DifferenceKind::Attributes => proto::DifferenceKind::Attributes,
    };
    let path = match difference.path.is_root() {
        true => b".",
        false => difference.path.as_bytes(),
    };
    proto::Difference {
        kind: kind.into(),
        path: path.to_vec(),
        directory: difference.directory,
        bytes_before: difference.bytes_before,
        bytes_after: difference.bytes_after,
    }
}

fn changes(changes: &Changes) -> proto::DirectoryChanges {
    proto::DirectoryChanges {
        added: changes.added,
        removed: changes.removed,
        modified: changes.modified,
        retyped: changes.retyped,
        attributes: changes.attributes,
        directory_times: changes.directory_times,
        first: changes.first.iter().map(difference).collect(),
    }
}

fn engine(choice: &Choice) -> proto::DirectoryEngine {
    let degraded = choice
        .degraded
        .iter()
        .map(|degraded| proto::DirectoryDegradation {
            from: degraded.from.text().to_owned(),
            reason: degraded.reason.clone(),
        });
    proto::DirectoryEngine {
        requested: choice.requested.map(|kind| kind.text().to_owned()),
        used: choice.used.text().to_owned(),
        degraded: degraded.collect(),
    }
}

fn unfinished(unfinished: &Unfinished) -> proto::DirectoryUnfinished {
    use proto::DirectoryUnfinishedKind as Kind;
    let of = |what: Kind| proto::DirectoryUnfinished {
        what: what.into(),
        snapshot: None,
        error: None,
        captures: None,
    };
    match unfinished {
        Unfinished::Save => of(Kind::Save),
        Unfinished::Restore(id) => proto::DirectoryUnfinished {
            snapshot: Some(id.to_string()),
            ..of(Kind::Restore)
        },
        Unfinished::Fork => of(Kind::Fork),
        Unfinished::Collect => of(Kind::Collect),
        Unfinished::Unreadable(error) => proto::DirectoryUnfinished {
            error: Some(error.clone()),
            ..of(Kind::Unreadable)
        },
        Unfinished::Captures(captures) => proto::DirectoryUnfinished {
            captures: Some(*captures),
            ..of(Kind::Captures)
        },
    }
}

/// All but the directory itself.
pub(in crate::rpc) fn message(found: &Inspected) -> proto::InspectDirectoryResponse {
    let status = &found.status;
    let damaged = status
        .damaged
        .iter()
        .map(|(id, error)| proto::DamagedDirectorySnapshot {
            snapshot: id.to_string(),
            error: with_causes(error),
        });
    let parts = status.state.parts.iter().map(|part| proto::DirectoryPart {
        path: part.path.as_bytes().to_vec(),
        snapshot: part.snapshot.to_string(),
    });
    proto::InspectDirectoryResponse {
        directory: None,
        snapshots: status.snapshots as u64,
        damaged: damaged.collect(),
        newest: found.newest.as_ref().map(snapshot),
        head: found.head.as_ref().map(snapshot),
        parts: parts.collect(),
        changes: status.changes.as_ref().map(changes),
        engine: status.engine.as_ref().ok().map(engine),
        engine_error: status.engine.as_ref().err().cloned().unwrap_or_default(),
        unfinished: status.unfinished.iter().map(unfinished).collect(),
        holder: status.in_use.as_ref().map(holder),
    }
}
