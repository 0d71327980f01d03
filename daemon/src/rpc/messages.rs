//! The nouns of the stores as messages. Nothing here can fail.

use cairn_api::convert::{policy_message, timestamp_message};
use cairn_api::proto;
use cairn_vfs::control::{
    Difference, DifferenceKind, Snapshot, SnapshotOrigin, SnapshotPin, Usage, Workspace,
};

use crate::node::Condition;

pub(super) fn workspace(workspace: &Workspace) -> proto::Workspace {
    proto::Workspace {
        name: workspace.name.to_string(),
        volume: workspace.volume.0,
        created: Some(timestamp_message(workspace.created)),
        policy: Some(policy_message(&workspace.policy)),
        forked_from: workspace.forked_from.map(|id| id.to_string()),
        snapshots: workspace.snapshots,
        inodes: workspace.inodes,
        bytes: workspace.bytes,
        limits: Some(proto::CapacityLimits {
            bytes: workspace.limits.bytes,
            inodes: workspace.limits.inodes,
        }),
    }
}

pub(super) fn snapshot(snapshot: &Snapshot) -> proto::Snapshot {
    let origin = match snapshot.origin {
        SnapshotOrigin::Requested => proto::SnapshotOrigin::Requested,
        SnapshotOrigin::Safety => proto::SnapshotOrigin::Safety,
    };
    proto::Snapshot {
        id: snapshot.id.to_string(),
        origin: origin.into(),
        created: Some(timestamp_message(snapshot.created)),
        note: snapshot.note.clone(),
        tags: snapshot.tags.iter().map(ToString::to_string).collect(),
        inodes: snapshot.inodes,
        bytes: snapshot.bytes,
        parent: snapshot.parent.map(|id| id.to_string()),
        pins: snapshot.pins.iter().map(pin).collect(),
    }
}

fn pin(pin: &SnapshotPin) -> proto::Pin {
    proto::Pin {
        number: pin.number,
        created: Some(timestamp_message(pin.created)),
        expires: pin.expires.map(timestamp_message),
        reason: pin.reason.clone(),
    }
}

pub(super) fn difference(difference: Difference) -> proto::Difference {
    let kind = match difference.kind {
        DifferenceKind::Added => proto::DifferenceKind::Added,
        DifferenceKind::Removed => proto::DifferenceKind::Removed,
        DifferenceKind::Modified => proto::DifferenceKind::Modified,
        DifferenceKind::Retyped => proto::DifferenceKind::Retyped,
        DifferenceKind::Attributes => proto::DifferenceKind::Attributes,
    };
    proto::Difference {
        kind: kind.into(),
        path: difference.path,
        directory: difference.directory,
        bytes_before: difference.bytes_before,
        bytes_after: difference.bytes_after,
    }
}

pub(super) fn usage(usage: &Usage) -> proto::Usage {
    proto::Usage {
        workspaces: usage.workspaces,
        snapshots: usage.snapshots,
        metadata_bytes: usage.metadata_bytes,
        log_bytes: usage.log_bytes,
        unstable_bytes: usage.unstable_bytes,
        disk_free_bytes: usage.disk_free_bytes,
        disk_reserve_bytes: usage.disk_reserve_bytes,
        swept: Some(proto::Swept {
            branches_left: usage.swept.branches_left,
            versions_scanned: usage.swept.versions_scanned,
            versions_removed: usage.swept.versions_removed,
            metadata_bytes: usage.swept.metadata_bytes,
            segments: usage.swept.segments,
            log_bytes: usage.swept.log_bytes,
        }),
    }
}

pub(super) fn condition(condition: Condition) -> proto::Condition {
    proto::Condition {
        name: condition.name.to_owned(),
        holds: condition.holds,
        message: condition.message,
    }
}
